//! What is left out, in what words, and that the text that comes of it compiles to what was said.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::part::Part;
use super::*;
use crate::author::{ManifestFacts, compile, template};
use crate::model::ModelState;

const MORE: &str = r#"
[[model]]
id = "other"
manifest = "other.json"
state = "quarantined"
purpose = "prediction"

[[monitor]]
model = "other"
outcome = "outcome:purchase@1"
window = "week"
rho = 0.02
k = 100

[[feature]]
id = "basket"
kind = "number"
min = 0
max = 500
purpose = "prediction"

[[retrain]]
model = "purchase-intent"
outcome = "outcome:purchase@1"
inputs = ["pages@1", "returning@1", "page:basket"]
window = "week"
rho = 0.05
k = 100

[[purpose]]
id = "fairness"
text.en = "Compare how groups of visitors fare, by what you say of yourself here."

[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness"

[[attribute]]
id = "region"
values = ["north", "south"]
purpose = "fairness"

[[fairness]]
model = "purchase-intent"
by = ["age-band", "region"]
outcome = "outcome:purchase@1"
window = "week"
rho = 0.02
k = 100

[[experiment]]
id = "hint"
arms = ["as-is", "hint"]
purpose = "measurement"
goal = { of = "feature:pages@1", at_least = 3 }
guardrails = [{ of = "outcome:purchase@1", by = "region", permitted = 0.05 }]
window = "day"
rho = 0.02
k = 50
"#;

/// The shop's policy with a quarantined model beside the one in shadow, and all else that is written out.
fn text(budget: Rho) -> String {
    let shop = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap() + MORE;
    shop.replacen("rho_per_device_day = 0.25", &format!("rho_per_device_day = {}", budget.as_f64()), 1)
}

fn compiled(text: &str) -> Result<Policy, String> {
    let manifests = |path: &str| {
        Ok::<_, String>(match path {
            "other.json" => ManifestFacts::stand_in("other", &["pages@1", "referrer-class@1"]),
            _ => ManifestFacts::stand_in("purchase-intent", &["pages@1", "returning@1", "max-scroll@1", "clicks@1"]),
        })
    };
    compile(text, 20_781, &manifests)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// All of it, with as much budget as it takes.
static ALL: LazyLock<Policy> = LazyLock::new(|| compiled(&text(Rho::from_micro(4_000_000))).unwrap());

fn with_budget(budget: Rho) -> Policy {
    Policy { budget, ..ALL.clone() }
}

/// The text with all changes made.
fn changed(text: &str, fit: &Fit) -> String {
    let mut root: toml::Table = text.parse().unwrap();
    for change in fit.left_out.iter().flat_map(|left| &left.changes) {
        let key = match change.table {
            "monitor" | "retrain" | "fairness" => "model",
            "metric" => "name",
            _ => "id",
        };
        let Some(tables) = root.get_mut(change.table).and_then(toml::Value::as_array_mut) else { continue };
        let is = |table: &toml::Value| table.get(key).and_then(toml::Value::as_str) == Some(change.of.as_str());
        if change.keys.is_empty() {
            tables.retain(|table| !is(table));
        }
        for table in tables.iter_mut().filter(|table| is(table)).filter_map(toml::Value::as_table_mut) {
            for (key, value) in &change.keys {
                let read: toml::Table = format!("{key} = {value}").parse().unwrap();
                table.insert((*key).to_owned(), read.get(*key).unwrap().clone());
            }
        }
        if tables.is_empty() {
            root.remove(change.table);
        }
    }
    toml::to_string(&root).unwrap()
}

/// A part and all that would have to come back with it.
fn with_needs(parts: &Parts<'_>, part: Part, out: &[Part]) -> Vec<Part> {
    let mut back = vec![part];
    let mut at = 0;
    while let Some(part) = back.get(at).copied() {
        let needs: Vec<Part> =
            parts.needs(part).into_iter().filter(|need| out.contains(need) && !back.contains(need)).collect();
        back.extend(needs);
        at += 1;
    }
    back
}

#[test]
fn what_is_missed_least_goes_first_and_the_words_say_what_to_write() {
    let said = compiled(&text(Rho::from_micro(340_000))).unwrap_err();
    for wanted in [
        "all metrics together cost rho 0.354994 a day, the budget is 0.34",
        "leave out what is missed least, and the rest costs rho 0.338328:\n",
        "frees 0.01: in [[fairness]] of `purchase-intent` write `by = [\"region\"]` and `rho = 0.01`, and take out [[attribute]] `age-band`; then fairness of `purchase-intent` by `age-band` is not known",
        "frees 0.006666: in [[monitor]] of `other` write `inputs = []` and `rho = 0.013332`; then no drift of `referrer-class@1` is seen for `other`",
        "or keep all with noise 2 % wider: multiply every `rho` but the budget's by 0.957",
        "or raise `rho_per_device_day` to 0.354994 (epsilon ",
    ] {
        assert!(said.contains(wanted), "{said}\n  lacks: {wanted}");
    }
    assert!(!said.contains("region` is not known"), "a guardrail compares it");
    // What is learnt from goes next, and the monitor that leant on it says what it counts.
    let said = compiled(&text(Rho::from_micro(290_000))).unwrap_err();
    for wanted in [
        "in [[retrain]] of `purchase-intent` write `inputs = [\"pages@1\"]` and `pairs = []` and `rho = 0.011666`",
        "in [[monitor]] of `purchase-intent` write `inputs = []`",
        "the next version of `purchase-intent` learns nothing of `returning@1`, `page:basket`, and no drift of `returning@1` is seen for `purchase-intent`",
    ] {
        assert!(said.contains(wanted), "{said}\n  lacks: {wanted}");
    }
    // What the owner wrote goes last, and one metric never does.
    let said = compiled(&text(Rho::from_micro(4_000))).unwrap_err();
    assert!(
        said.contains("leaving out is not enough: what has to stay costs rho 0.01 by itself (`dead-clicks`)"),
        "{said}"
    );
    assert!(said.contains("take out [[experiment]] `hint`, and take out [[attribute]] `region`; then `hint` ends, and its guardrails with it"), "{said}");
    // Where something else is wrong, part of it was not read.
    let said = compiled(&text(Rho::from_micro(340_000)).replacen("k = 50", "k = 1", 1)).unwrap_err();
    assert!(said.contains("mend what else is wrong") && !said.contains("frees"), "{said}");
}

#[test]
fn what_fits_is_left_alone() {
    assert_eq!(leave_out(&ALL), Fit { left_out: vec![], rest: ALL.declared() });
    let just = with_budget(ALL.declared());
    assert!(leave_out(&just).left_out.is_empty());
}

/// A model that acts is watched, its score by the owner's metric here, and an experiment decides who hears it.
#[test]
fn what_must_stay_stays_whatever_it_costs() {
    let mut policy = with_budget(Rho::from_micro(1));
    policy.models[0].state = ModelState::Live;
    policy.experiments[0].model = Some(0);
    let gone: Vec<u32> = leave_out(&policy).left_out.iter().flat_map(|left| left.metrics.clone()).collect();
    let stays = policy.metrics.iter().filter(|metric| !gone.contains(&metric.id));
    let mut names: Vec<&str> = stays.map(|metric| metric.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["hint-by-pages", "hint-by-purchase-by-region", "purchase-calibration", "purchase-intent-fared"]);
}

/// Every price multiplied as was said, all of it fits.
#[test]
fn more_noise_makes_all_of_it_fit() {
    for micro in [354_993, 340_000, 300_000, 200_000] {
        let policy = with_budget(Rho::from_micro(micro));
        let share = Parts::of(&policy).share().unwrap();
        let mut root: toml::Table = text(policy.budget).parse().unwrap();
        for table in ["metric", "monitor", "retrain", "fairness", "experiment"] {
            for table in root.get_mut(table).and_then(toml::Value::as_array_mut).unwrap() {
                let table = table.as_table_mut().unwrap();
                let price = (table.get("rho").and_then(toml::Value::as_float).unwrap() * 1e6).round() as u64;
                let less = Rho::from_micro(price * share / 1_000);
                table.insert("rho".to_owned(), toml::Value::Float(less.as_f64()));
            }
        }
        let all = compiled(&toml::to_string(&root).unwrap()).unwrap();
        assert_eq!(all.metrics.len(), policy.metrics.len());
    }
    assert_eq!(Parts::of(&with_budget(Rho::from_micro(80_000))).share(), None, "nothing would be seen");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Nothing that goes could be put back, with what it needs, while the rest fits; and the same policy gets the same answer.
    #[test]
    fn nothing_is_left_out_in_vain(
        share in 0u64..1_050,
        states in prop::collection::vec(0usize..4, 2),
        prices in prop::collection::vec(1u64..60_000, 1..8),
        tried: bool,
    ) {
        const STATES: [ModelState; 4] =
            [ModelState::Shadow, ModelState::Experiment, ModelState::Live, ModelState::Off];
        let mut policy = ALL.clone();
        for (model, state) in policy.models.iter_mut().zip(&states) {
            model.state = STATES[*state];
        }
        policy.experiments[0].model = tried.then_some(0);
        for (at, metric) in policy.metrics.iter_mut().enumerate().filter(|(_, metric)| !metric.is_written_out()) {
            metric.rho = Rho::from_micro(1 + prices[at % prices.len()]);
        }
        policy.budget = Rho::from_micro(policy.declared().micro() * share / 1_000);
        let (fit, parts) = (leave_out(&policy), Parts::of(&policy));
        prop_assert_eq!(&fit, &leave_out(&policy));
        let freed = fit.left_out.iter().fold(fit.rest, |sum, left| sum.plus(left.frees));
        prop_assert_eq!(freed, policy.declared());
        let out = parts.chosen();
        if fit.rest <= policy.budget {
            for part in &out {
                let back = with_needs(&parts, *part, &out);
                let without: Vec<Part> = out.iter().copied().filter(|part| !back.contains(part)).collect();
                prop_assert!(parts.rest(&without) > policy.budget, "{:?} could be put back: {:?}", part, out);
            }
        } else {
            let acts = |model: usize| policy.models[model].state.acts();
            let stays = parts.metrics.keys().filter(|part| !out.contains(part));
            let must = |part: &Part| match *part {
                Part::Watch(model) => acts(model),
                Part::Arms(_) => tried,
                Part::Own(_) => true,
                _ => false,
            };
            let stays: Vec<Part> = stays.copied().collect();
            prop_assert!(stays.iter().all(must), "{:?}", stays);
            prop_assert_eq!(stays.iter().filter(|part| matches!(part, Part::Own(_))).count(), 1);
        }
    }

    /// The changes made to the text, it compiles, and costs and counts what was said.
    #[test]
    fn the_changes_make_the_text_compile(micro in 1u64..360_000) {
        let policy = with_budget(Rho::from_micro(micro));
        let fit = leave_out(&policy);
        let text = text(policy.budget);
        if fit.rest > policy.budget {
            prop_assert!(compiled(&text).unwrap_err().contains("leaving out is not enough"));
        } else {
            let left = compiled(&changed(&text, &fit)).map_err(TestCaseError::fail)?;
            prop_assert_eq!(left.declared(), fit.rest);
            let gone: Vec<u32> = fit.left_out.iter().flat_map(|left| left.metrics.clone()).collect();
            let expected: Vec<u32> = policy.metrics.iter().map(|m| m.id).filter(|id| !gone.contains(id)).collect();
            prop_assert_eq!(left.metrics.iter().map(|m| m.id).collect::<Vec<_>>(), expected);
        }
    }
}
