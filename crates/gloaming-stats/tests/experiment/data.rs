//! Real experiments, where the folder that `GLOAMING_DATA` names has them. Nothing of them is in the repository but
//! the aggregates in the golden file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gloaming_stats::experiment::{Logged, Noised, Shares, check_shares};

use super::{golden, near, same_as_gbstats};

fn data(set: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("GLOAMING_DATA").map(|folder| Path::new(&folder).join(set));
    if folder.is_none() {
        println!("skipped: set GLOAMING_DATA");
    }
    folder
}

/// Rows of a comma-separated file, quoted fields (one may hold a comma) as one.
fn rows(text: &str) -> Vec<Vec<String>> {
    let field = |line: &str| {
        let mut quoted = false;
        let split = line.split(|letter| {
            quoted ^= letter == '"';
            letter == ',' && !quoted
        });
        split.map(|field| field.trim_matches('"').to_string()).collect()
    };
    text.lines().skip(1).map(field).collect()
}

/// People, Σy, Σy² by arm.
fn sums<'a>(rows: impl Iterator<Item = (&'a str, f64)>) -> BTreeMap<&'a str, [f64; 6]> {
    let mut arms = BTreeMap::new();
    for (arm, y) in rows {
        let sums: &mut [f64; 6] = arms.entry(arm).or_default();
        for (sum, term) in sums.iter_mut().zip([1.0, y, y * y]) {
            *sum += term;
        }
    }
    arms
}

#[test]
fn cookie_cats_warns_of_its_shares_and_has_the_known_lift() {
    let Some(folder) = data("cookie_cats") else { return };
    let rows = rows(&std::fs::read_to_string(folder.join("cookie_cats.csv")).unwrap());
    let mut case = golden().real.cookie_cats;
    let arms = sums(rows.iter().map(|row| (row[1].as_str(), f64::from(row[4] == "True"))));
    case.arms = [arms["gate_30"], arms["gate_40"]];
    let found = check_shares(&case.arms.map(|arm| Noised::exact(arm[0])), &[0.5, 0.5]).unwrap();
    println!("p of the shares {:.6}, at any look {:.6}", found.p, found.always_valid_p);
    near("p of the shares", found.p, 0.008_607_987_810_836_262);
    assert_eq!(Shares::of(found.p), Shares::Warn);
    same_as_gbstats("Cookie Cats", &case);
}

#[test]
fn hillstrom_has_fine_shares_and_the_lifts_of_gbstats() {
    let Some(folder) = data("hillstrom") else { return };
    let rows = rows(&std::fs::read_to_string(folder.join("hillstrom.csv")).unwrap());
    let golden = golden().real;
    for (name, mut case) in golden.hillstrom {
        let (column, arm) = name.split_once('/').unwrap();
        let place = ["visit", "conversion", "spend"].iter().position(|known| *known == column).unwrap() + 9;
        let arms = sums(rows.iter().map(|row| (row[8].as_str(), row[place].parse().unwrap())));
        let people: Vec<Noised> = arms.values().map(|arm| Noised::exact(arm[0])).collect();
        let found = check_shares(&people, &[1.0; 3]).unwrap();
        near("p of the shares", found.p, golden.hillstrom_p);
        assert!((found.p - 0.904).abs() < 5e-4 && Shares::of(found.p) == Shares::Fine);
        case.arms = [arms["No E-Mail"], arms[arm]];
        same_as_gbstats(&name, &case);
    }
}

#[test]
fn open_bandit_is_worth_what_obp_says() {
    let Some(folder) = data("open_bandit") else { return };
    for (name, wanted) in golden().real.open_bandit {
        let campaign = name.rsplit_once('/').unwrap().1;
        let inside = format!("obd/{name}/{campaign}.csv");
        let read = Command::new("tar").arg("-xzOf").arg(folder.join("obd_small.tar.gz")).arg(inside).output().unwrap();
        assert!(read.status.success(), "tar reads the archive");
        let rows = rows(std::str::from_utf8(&read.stdout).unwrap());
        let number = |row: &Vec<String>, place: usize| row[place].parse::<f64>().unwrap();
        let done: Vec<usize> = rows.iter().map(|row| row[2].parse().unwrap()).collect();
        let rewards: Vec<f64> = rows.iter().map(|row| number(row, 4)).collect();
        let propensities: Vec<f64> = rows.iter().map(|row| number(row, 5)).collect();
        let actions = done.iter().max().unwrap() + 1;
        let liking: Vec<f64> = (0..actions).map(|action| if action % 2 == 0 { 2.0 } else { 1.0 }).collect();
        let whole: f64 = liking.iter().sum();
        let policy: Vec<f64> = liking.iter().map(|liking| liking / whole).collect();
        let (mut clicks, mut shown) = (vec![0.0; actions], vec![0.0_f64; actions]);
        for (action, reward) in done.iter().zip(&rewards) {
            clicks[*action] += reward;
            shown[*action] += 1.0;
        }
        let model: Vec<f64> = clicks.iter().zip(&shown).map(|(clicks, shown)| clicks / shown.max(1.0)).collect();
        let (policy, model) = (policy.repeat(rows.len()), model.repeat(rows.len()));
        let logged = Logged::new(actions, &done, &rewards, &propensities, &policy).unwrap();
        near(&format!("{name} IPW"), logged.weighted(0.05).unwrap().value, wanted.ipw);
        near(&format!("{name} SNIPW"), logged.self_normalised(0.05).unwrap().value, wanted.snipw);
        near(&format!("{name} direct"), logged.direct(&model).unwrap(), wanted.direct);
        near(&format!("{name} doubly robust"), logged.doubly_robust(&model, 0.05).unwrap().value, wanted.robust);
    }
}
