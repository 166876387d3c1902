//! Lines of policy by which that would be counted which is not. Each compiles where the budget has room for it.

use gloaming_policy::{Experiment, Policy};

use super::Known;
use super::brings::SATISFACTION;
use super::costs::COMPLAINT;

/// Where a line goes that is not a table of its own: a policy's text is read by people first.
fn among_rails(experiment: &Experiment, line: &str) -> String {
    format!("# among the guardrails of [[experiment]] {}\n{line}\n", experiment.id)
}

/// The purpose that the model serves, under which alone it can be counted.
fn purpose<'k>(known: &Known<'k>) -> &'k str {
    known.policy.purposes.get(known.model.purpose as usize).map_or("prediction", |purpose| &purpose.id)
}

/// A number that no metric of an author's has.
fn free(policy: &Policy) -> u32 {
    let own = policy.metrics.iter().filter(|metric| !metric.is_written_out()).map(|metric| metric.id);
    own.max().unwrap_or(0).saturating_add(1)
}

fn metric(known: &Known<'_>, name: &str, what: &str) -> String {
    format!(
        "[[metric]]\nid = {}\nname = \"{name}\"\n{what}\npurpose = \"{}\"\ntier = \"edge\"\nwindow = \"week\"\nper_day = 1\nrho = 0.005\nk = 50\n",
        free(known.policy),
        purpose(known)
    )
}

/// A feature that the page gives, unless it is declared already.
fn given(known: &Known<'_>, id: &str, values: &str) -> String {
    if known.policy.page_features.iter().any(|given| given.id == id) {
        return String::new();
    }
    format!(
        "[[feature]]\nid = \"{id}\"\nkind = \"category\"\nvalues = [{values}]\npurpose = \"{}\"\n\n",
        purpose(known)
    )
}

fn tries(known: &Known<'_>, goal: &str, rails: &str) -> String {
    let id = &known.model.id;
    format!(
        "[[experiment]]\nid = \"hears-{id}\"\narms = [\"as-is\", \"heard\"]\npurpose = \"{}\"\nmodel = \"{id}\"\n{goal}\nguardrails = [{rails}]\nwindow = \"day\"\nrho = 0.02\nk = 50\n",
        purpose(known)
    )
}

const AMOUNT: &str =
    "goal = { of = \"feature:purchase-value@1\", edges = [0.01, 50], worth = [0, 25, 90] }\nminimum_effect = 1.0";
const WITHDRAWN: &str = "{ of = \"feature:purposes-withdrawn@1\", permitted = 0.005 }";
const UNHAPPY: &str = "{ of = \"page:satisfaction\", is = [\"unhappy\"], permitted = 0.05 }";
const COMPLAINED: &str = "{ of = \"page:complaint\", permitted = 0.005 }";

/// An experiment that decides who hears the model.
pub(super) fn experiment(known: &Known<'_>) -> String {
    tries(known, "goal = \"outcome:purchase@1\"\nminimum_effect = 0.02", WITHDRAWN)
}

/// A goal that is an amount: how many spend something at all then stands in the same cells.
pub(super) fn value(known: &Known<'_>, tried: Option<&Experiment>) -> String {
    match tried {
        Some(experiment) => {
            format!(
                "# in place of the goal of [[experiment]] {}, under another id: it begins anew\n{AMOUNT}\n",
                experiment.id
            )
        }
        None => tries(known, AMOUNT, WITHDRAWN),
    }
}

pub(super) fn satisfaction(known: &Known<'_>, tried: Option<&Experiment>) -> String {
    let feature = given(known, SATISFACTION, "\"unhappy\", \"neutral\", \"happy\"");
    match tried {
        Some(experiment) => feature + &among_rails(experiment, UNHAPPY),
        None => feature + &tries(known, "goal = \"outcome:purchase@1\"\nminimum_effect = 0.02", UNHAPPY),
    }
}

pub(super) fn opt_outs(known: &Known<'_>) -> String {
    match known.tried.first() {
        Some((experiment, _)) => among_rails(experiment, WITHDRAWN),
        None => metric(known, "opt-outs", "of = \"feature:purposes-withdrawn@1\"\nhistogram = { edges = [0, 1, 9] }"),
    }
}

pub(super) fn complaints(known: &Known<'_>) -> String {
    match known.tried.first() {
        Some((experiment, _)) => given(known, COMPLAINT, "\"no\", \"yes\"") + &among_rails(experiment, COMPLAINED),
        None => {
            let declared = known.policy.events.iter().any(|event| event == COMPLAINT);
            let events: Vec<&str> = known.policy.events.iter().map(String::as_str).chain([COMPLAINT]).collect();
            let event = if declared {
                String::new()
            } else {
                format!("# at the top of the file\nevents = [\"{}\"]\n\n", events.join("\", \""))
            };
            event + &metric(known, "complaints", "funnel = [\"page_view\", \"complaint\"]")
        }
    }
}

/// Score by outcome.
pub(super) fn outcome(known: &Known<'_>) -> String {
    let id = &known.model.id;
    metric(known, &format!("{id}-outcomes"), &format!("of = [\"score:{id}\", \"outcome:purchase@1\"]\njoint = [20, 2]"))
}

pub(super) fn monitor(known: &Known<'_>) -> String {
    format!("[[monitor]]\nmodel = \"{}\"\nwindow = \"week\"\nrho = 0.02\nk = 100\n", known.model.id)
}

/// An attribute of an example, and what compares the model by it.
pub(super) fn fairness(known: &Known<'_>) -> String {
    let purpose = if known.policy.purposes.iter().any(|purpose| purpose.id == "fairness") {
        ""
    } else {
        "[[purpose]]\nid = \"fairness\"\ntext.en = \"Compare how groups of visitors fare, by what you say of yourself here.\"\n\n"
    };
    format!(
        "{purpose}[[attribute]]\nid = \"age-band\"\nvalues = [\"under-30\", \"30-59\", \"60-plus\"]\npurpose = \"fairness\"\n\n[[fairness]]\nmodel = \"{}\"\nby = [\"age-band\"]\noutcome = \"outcome:purchase@1\"\nwindow = \"week\"\nrho = 0.02\nk = 100\n",
        known.model.id
    )
}
