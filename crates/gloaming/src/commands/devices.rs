//! `gloaming model evaluate --released`: what devices counted of a model in shadow, as statements.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gloaming_policy::author::date_of;
use gloaming_policy::gate::{Attribute, Calibration, Fairness, Group, HeldOut, Interval, Rows, Said, SplitBy};
use gloaming_signal::hash;
use gloaming_stats::fairness::Judged;

use super::evaluate::line;
use super::recalibrate;
use super::released::{Overview, windows};
use crate::files::Brought;
use crate::runtimes::Browser;

const DAY_MS: u64 = 86_400_000;

/// Day of a moment, ms since 1970.
fn day(ms: u64) -> String {
    date_of(ms / DAY_MS)
}

/// What devices counted of a model in shadow, as statements: how well its scores told outcomes in released windows that
/// came after what it was learnt from. `trained` says what that was, where the manifest does not.
///
/// # Errors
/// When nothing fits was counted, too little came of it, or the model was learnt from those windows.
pub fn released(
    manifest: &Path,
    from: &Path,
    metric: Option<&str>,
    trained: &str,
    browser: Option<&Browser>,
    out: &Path,
) -> Result<()> {
    let brought = Brought::load(manifest)?;
    let described = brought.model.manifest();
    if !described.output.kinds.is_empty() {
        bail!("{} sorts visits into kinds, of which no outcome can show whether they are right", described.id);
    }
    let (overview, overview_bytes) = Overview::read(from)?;
    let own = hash::hex(&brought.hash());
    let (table, counted) = overview.scores_and_outcomes(described, &own, metric)?;
    let found = gloaming_stats::performance::performance(&table)?;
    let (start_ms, end_ms) = counted.span_ms().with_context(|| {
        format!("{} does not say when its windows were; save the centre's overview as it is", from.display())
    })?;
    let said: serde_json::Value = serde_json::from_slice(&brought.manifest)?;
    let learnt = ["retrained", "recalibrated"].map(|how| &said[how]);
    let until_ms = learnt.iter().filter_map(|how| how["until_ms"].as_u64()).max();
    if let Some(until_ms) = until_ms.filter(|until_ms| start_ms < *until_ms) {
        bail!(
            "version {} was learnt from windows to {}, and these begin on {}: it would be held to what it knows; ask for later ones, as in overview?last=2",
            described.version,
            day(until_ms),
            day(start_ms)
        );
    }
    let learnt_from = said["retrained"]["from"].as_str().map(str::to_owned);
    let put_right = recalibrate::told(&said).map(|(how, from)| format!("{from} ({how})"));
    let told = learnt_from.into_iter().chain(put_right).collect::<Vec<_>>().join(", then ");
    let trained = if trained.is_empty() { &told } else { trained };
    if trained.is_empty() {
        bail!("say with --trained what {} was learnt from: its manifest does not", described.id);
    }
    let people = table.cells().total();
    let on = Rows {
        data: from.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        sha256: hash::hex(&hash::sha256(&overview_bytes)),
        split: SplitBy::Time,
        trained: trained.to_owned(),
        tested: format!(
            "{} of {} from {} to {}, counted with noise",
            windows(counted.windows()),
            overview.site,
            day(start_ms),
            day(end_ms)
        ),
        rows: people.round() as u64,
        positives: (people * found.base_rate.value).round() as u64,
    };
    println!(
        "{} version {} on {}, about {} visits, {} of them with the outcome:",
        described.id,
        described.version,
        windows(counted.windows()),
        on.rows,
        on.positives
    );
    // Noise may carry an end of an interval beyond what can be.
    let share = |e: gloaming_stats::Estimate| Interval {
        value: e.value.clamp(0.0, 1.0),
        low: e.low.clamp(0.0, 1.0),
        high: e.high.clamp(0.0, 1.0),
    };
    // As old as what was counted, whenever it is written down.
    let day = day(end_ms);
    let held_out = HeldOut {
        day: day.clone(),
        on: on.clone(),
        auc: share(found.auc),
        average_precision: share(found.average_precision),
        brier: share(found.brier),
        turns: Vec::new(),
        curve: Vec::new(),
    };
    line("AUC", &held_out.auc);
    line("average precision", &held_out.average_precision);
    line("Brier score", &held_out.brier);
    let scored = table.cells().values().chunks(2).zip(table.scores()).map(|(bin, score)| (bin[0] + bin[1]) * score);
    let mean_score = (scored.sum::<f64>() / people).clamp(0.0, 1.0);
    let (error, base_rate) = (share(found.calibration_error), found.base_rate.value.clamp(0.0, 1.0));
    let calibration = Calibration { day, on, error, mean_score, base_rate };
    line("calibration error", &calibration.error);
    let parity = brought.parity(browser)?;
    let fairness = by_groups(&overview, (described, &own), until_ms, &held_out)?;
    let mut said = vec![Said::HeldOut(held_out), Said::Calibration(calibration), Said::Parity(parity)];
    said.extend(fairness.map(Said::Fairness));
    brought.write(said, out)
}

/// What visitors who said which group they are of add to that; `None`, and why, where that is too little or was not asked.
fn by_groups(
    overview: &Overview,
    (model, own): (&gloaming_model::Manifest, &str),
    until_ms: Option<u64>,
    HeldOut { day, on, .. }: &HeldOut,
) -> Result<Option<Fairness>> {
    let (mut by, mut threshold) = (Vec::new(), None);
    let counted = overview.by_groups(model, own)?;
    if counted.is_empty() {
        println!(
            "no statement on fairness: the policy compares no groups; add [[fairness]], or state why there are none"
        );
    }
    for found in &counted {
        let Some((start_ms, _)) = found.span_ms.filter(|_| !found.groups.is_empty()) else {
            println!("no statement on fairness: by {} nothing was released", found.attribute);
            return Ok(None);
        };
        if until_ms.is_some_and(|until_ms| start_ms < until_ms) {
            bail!("groups by {} were counted in windows that it was learnt from; ask for later ones", found.attribute);
        }
        let compared = gloaming_stats::fairness::fairness(&found.groups, None)?;
        let (selection, odds) = match (compared.selection_difference, compared.odds_difference) {
            (Judged::Known(selection), Judged::Known(odds)) => (selection, odds),
            (Judged::Abstained(why), _) | (_, Judged::Abstained(why)) => {
                println!("no statement on fairness by {}: {why}", found.attribute);
                return Ok(None);
            }
        };
        if *threshold.get_or_insert(found.threshold) != found.threshold {
            bail!("attributes are compared at different thresholds, and a statement has one; give them the same");
        }
        // Noise may have more selected than there are, and none with the outcome.
        let group = |group: &gloaming_stats::fairness::Group| {
            let cells: Vec<u64> = group.cells().values().iter().map(|cell| cell.round().max(0.0) as u64).collect();
            Group {
                name: group.name().to_owned(),
                rows: cells.iter().sum(),
                positives: cells[0] + cells[2],
                selected: cells[0] + cells[1],
            }
        };
        let gap = |e: gloaming_stats::Estimate| Interval { value: e.value, low: e.low.max(0.0), high: e.high.min(1.0) };
        let attribute = Attribute {
            name: found.attribute.clone(),
            groups: found.groups.iter().map(group).collect(),
            selection_gap: gap(selection),
            odds_gap: gap(odds),
        };
        line(&format!("selection gap by {}", found.attribute), &attribute.selection_gap);
        line(&format!("odds gap by {}", found.attribute), &attribute.odds_gap);
        by.push(attribute);
    }
    let Some(threshold) = threshold else { return Ok(None) };
    Ok(Some(Fairness { day: day.clone(), on: on.clone(), threshold, by, none: None }))
}
