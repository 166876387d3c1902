//! Whether what is there is enough: pure, and says what is missing and how to come by it.

use super::statement::{Fairness, HeldOut, Interval, Parity};
use super::value::Value;
use super::{Kind, Record, Rules, Said, SplitBy, Stage, Standing, Step};
use crate::author::day_of;

/// One thing that was asked for, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was asked for.
    pub need: String,
    /// Whether it is there and good enough.
    pub met: bool,
    /// What was found.
    pub found: String,
    /// What to do, when it is not.
    pub remedy: String,
}

impl Finding {
    fn met(need: impl Into<String>, found: impl Into<String>) -> Self {
        Self { need: need.into(), met: true, found: found.into(), remedy: String::new() }
    }

    fn unmet(need: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { need: need.into(), met: false, found: found.into(), remedy: remedy.into() }
    }
}

/// All that is not met, as one sentence.
pub(super) fn sentence(findings: &[Finding]) -> String {
    let unmet = findings.iter().filter(|finding| !finding.met);
    let parts: Vec<String> = unmet.map(|f| format!("{}: {} ({})", f.need, f.found, f.remedy)).collect();
    parts.join("; ")
}

/// How far a reference row may be off; the manifest's own tolerance.
const TOLERANCE: f64 = 1e-5;
/// Fewest rewards that tell of a model's choices: its interval supposes that their sum is nearly normal.
const TELLING: u64 = 10;
/// Chance below which arms are too uneven for a fair assignment.
const SAMPLE_RATIO: f64 = 0.001;

/// Judges a move that has to be earned.
pub(super) fn judge(record: &Record, rules: &Rules, standing: &Standing, to: Stage, today: u64) -> Vec<Finding> {
    let step = rules.step(to).unwrap_or_default();
    let mut findings = vec![review(standing, today)];
    for kind in step.asked(standing.facts.kinds) {
        findings.push(evidence(rules, standing, &step, kind, today));
    }
    for role in &step.approved_by {
        findings.push(approval(record, rules, standing, &step, role, to, today));
    }
    findings
}

fn review(standing: &Standing, today: u64) -> Finding {
    let date = &standing.facts.next_review;
    match day_of(date) {
        Some(day) if day > today => Finding::met("review", format!("due on {date}")),
        _ => Finding::unmet(
            "review",
            format!("was due on {date}"),
            "review the model, and bring a version of its manifest with a later next_review",
        ),
    }
}

fn age(rules: &Rules, said: &Said, today: u64) -> Result<(), String> {
    match day_of(said.day()) {
        Some(day) if day > today => Err(format!("is dated {}, which has not come", said.day())),
        Some(day) if today - day > rules.max_age_days => {
            Err(format!("is of {}, more than {} days ago", said.day(), rules.max_age_days))
        }
        Some(_) => Ok(()),
        None => Err("has no date".to_owned()),
    }
}

/// The newest statement of a kind decides: an older and better one does not hide it.
fn evidence(rules: &Rules, standing: &Standing, step: &Step, kind: Kind, today: u64) -> Finding {
    let need = kind.name();
    let make = match kind {
        Kind::HeldOut | Kind::Calibration | Kind::Fairness => "`gloaming model evaluate` makes it from labelled rows",
        Kind::Value => "`gloaming model evaluate --logged` makes it from a log of what was done and what it earned",
        Kind::Parity => "`gloaming model evaluate` makes it from the reference rows",
        Kind::Experiment => "run an experiment with this model and another arm",
        Kind::Ethics => "ask somebody who may say no, and write down the answer",
    };
    let newest = standing.counting().rfind(|held| held.statement.said.kind() == Some(kind));
    let Some(held) = newest else {
        let gone = standing.held.iter().any(|held| held.statement.said.kind() == Some(kind));
        let found = if gone { "none since it was quarantined" } else { "none" };
        return Finding::unmet(need, found, format!("{make}; `gloaming model evidence` adds it"));
    };
    let Some(role) = rules.role_of(&held.key_id) else {
        return Finding::unmet(need, format!("signed by {}, a key of no role", held.key_id), "let a role sign it");
    };
    let said = &held.statement.said;
    if let Err(why) = age(rules, said, today) {
        return Finding::unmet(need, why, format!("{make} anew"));
    }
    if said.rows().is_some_and(|on| on.split == SplitBy::Random) {
        return Finding::unmet(
            need,
            "a random split: it tells how well the model remembers, not how well it will do",
            "evaluate on rows of a later time, another source or other people",
        );
    }
    match good(rules, step, said) {
        Ok(found) => Finding::met(need, format!("{found} ({role}, {})", said.day())),
        Err((found, remedy)) => Finding::unmet(need, found, remedy),
    }
}

fn at_least(what: &str, interval: &Interval, least: f64, remedy: &str) -> Result<String, (String, String)> {
    if interval.low >= least {
        return Ok(format!("{what} {interval}, at least {least} was asked"));
    }
    let is = if interval.high < least { "is" } else { "may be" };
    Err((format!("{what} {interval} {is} below {least}"), remedy.to_owned()))
}

fn at_most(what: &str, interval: &Interval, most: f64, remedy: &str) -> Result<String, (String, String)> {
    if interval.high <= most {
        return Ok(format!("{what} {interval}, at most {most} was asked"));
    }
    let is = if interval.low > most { "is" } else { "may be" };
    Err((format!("{what} {interval} {is} above {most}"), remedy.to_owned()))
}

fn good(rules: &Rules, step: &Step, said: &Said) -> Result<String, (String, String)> {
    match said {
        Said::HeldOut(s) => held_out(s, step.auc.unwrap_or(1.0)),
        Said::Calibration(s) => at_most(
            "calibration error",
            &s.error,
            step.calibration_error.unwrap_or(0.0),
            "recalibrate it on recent rows",
        ),
        Said::Value(s) => value(s, step.gain.unwrap_or(0.0)),
        Said::Fairness(s) => fairness(s, step.group_gap.unwrap_or(0.0)),
        Said::Parity(s) => parity(s, rules),
        Said::Experiment(s) => {
            if s.sample_ratio_p < SAMPLE_RATIO {
                return Err((
                    format!(
                        "arms of {} and {} are no fair assignment (p = {:e})",
                        s.exposed[0], s.exposed[1], s.sample_ratio_p
                    ),
                    "find out who is missing, and run it again".into(),
                ));
            }
            if let Some(broken) = s.guardrails.iter().find(|guardrail| !guardrail.held) {
                return Err((format!("the guardrail {} did not hold", broken.name), "mend that first".into()));
            }
            at_least(
                &format!("lift of {}", s.metric),
                &s.lift,
                step.lift.unwrap_or(f64::INFINITY),
                "let it run on, or accept that it does not help",
            )
        }
        Said::Ethics(s) if s.accepted => Ok(format!("accepted by {}", s.by)),
        Said::Ethics(s) => {
            Err((format!("{} said no: {}", s.by, s.conclusion), "do not do it, or do it otherwise".into()))
        }
        Said::Approval(_) => Err(("an approval is no evidence".into(), "add evidence".into())),
    }
}

/// Of sources that were held out the worst decides: the site that a model comes to is one more, and not the easiest.
fn held_out(said: &HeldOut, least: f64) -> Result<String, (String, String)> {
    if said.on.split == SplitBy::Source && said.turns.is_empty() {
        return Err((
            format!("one source was held out ({}), and nothing says that no other is harder", said.on.tested),
            "hold out each source in its turn: `in_turn` of the kit, or `gloaming model evaluate --turn`".into(),
        ));
    }
    let (hardest, auc) = said.worst();
    let what = if said.turns.is_empty() {
        "AUC".to_owned()
    } else {
        format!("AUC with {hardest} held out, the worst of {},", said.turns.len() + 1)
    };
    let remedy = "a better model, or more rows for a narrower interval; the threshold is the policy's";
    at_least(&what, auc, least, remedy)
}

/// Every runtime that the rules name, and no difference on any: one that was compared and not asked for counts as well.
fn parity(said: &Parity, rules: &Rules) -> Result<String, (String, String)> {
    let names: Vec<&str> = said.runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
    let missing: Vec<&str> = rules.runtimes.iter().map(String::as_str).filter(|name| !names.contains(name)).collect();
    let worst = said.runtimes.iter().map(|runtime| runtime.largest).fold(0.0, f64::max);
    if !missing.is_empty() {
        let browsers = missing.iter().any(|name| !matches!(*name, "native" | "wasmtime"));
        let remedy = if browsers {
            "`gloaming model evaluate --browser=PROGRAM` compares that program's engine, and --browser alone the one that opens its address"
        } else {
            "`gloaming model evaluate`, of a build with its assets, compares native and wasmtime"
        };
        return Err((format!("rows were not compared on {}, as [gate] asks", missing.join(", ")), remedy.into()));
    }
    if worst > TOLERANCE {
        return Err((
            format!("rows differ by {worst:e}, more than {TOLERANCE:e}"),
            "bring the model again with `gloaming model add`".into(),
        ));
    }
    Ok(format!("{} rows differ by {worst:.1e} at most on {}", said.rows, names.join(", ")))
}

/// A normal interval of a handful of rewards is none.
fn value(said: &Value, least: f64) -> Result<String, (String, String)> {
    if said.telling < TELLING {
        return Err((
            format!(
                "{} of {} rows that earned something are of actions that it would have chosen, fewer than {TELLING}",
                said.telling, said.on.positives
            ),
            "log on, with every action tried now and then, until there are as many".into(),
        ));
    }
    if !(said.weight.low..=said.weight.high).contains(&1.0) {
        return Err((
            format!(
                "what it would have chosen was not tried as often as the log says: weights of {} on average, not 1",
                said.weight
            ),
            "log how likely each choice truly was, and let none of them be impossible for anybody".into(),
        ));
    }
    at_least(
        &format!("gain in {} ({} rows of its own)", said.reward, said.effective_rows.round()),
        &said.gain,
        least,
        "a model that chooses better, or a longer log for a narrower interval",
    )
}

fn fairness(said: &Fairness, most: f64) -> Result<String, (String, String)> {
    if let Some(why) = &said.none {
        return Ok(format!("no attribute: {why}"));
    }
    let gaps = said.by.iter().flat_map(|attribute| {
        let of = |gap: &str| format!("{gap} by {}", attribute.name);
        [(of("selection gap"), &attribute.selection_gap), (of("odds gap"), &attribute.odds_gap)]
    });
    let wide: Vec<(String, &Interval)> =
        gaps.filter_map(|(what, gap)| Some((at_most(&what, gap, most, "").err()?.0, gap))).collect();
    if !wide.is_empty() {
        let remedy = if wide.iter().any(|(_, gap)| gap.value > most) {
            "find out why the groups differ, and change the model or how it is used"
        } else {
            "more rows of the smaller groups: the gaps themselves are within it, their intervals are not"
        };
        return Err((wide.into_iter().map(|(what, _)| what).collect::<Vec<_>>().join("; "), remedy.to_owned()));
    }
    let names: Vec<&str> = said.by.iter().map(|attribute| attribute.name.as_str()).collect();
    Ok(format!("gaps by {} of {most} at most", names.join(", ")))
}

fn approval(
    record: &Record,
    rules: &Rules,
    standing: &Standing,
    step: &Step,
    role: &str,
    to: Stage,
    today: u64,
) -> Finding {
    let need = format!("approval by {role}");
    let newest = standing.counting().rev().find_map(|held| match &held.statement.said {
        Said::Approval(approval) if approval.role == role && approval.to == to => Some((held, approval)),
        _ => None,
    });
    let ask = format!("let {role} run `gloaming model approve` with their key");
    let Some((held, approval)) = newest else { return Finding::unmet(need, "none", ask) };
    if rules.role_of(&held.key_id) != Some(role) {
        return Finding::unmet(need, format!("signed by {}, which is no key of {role}", held.key_id), ask);
    }
    if let Err(why) = age(rules, &held.statement.said, today) {
        return Finding::unmet(need, why, ask);
    }
    // What was agreed to is the record as it was: new evidence or new rules have to be looked at again.
    let Some(seen) = record.position(&approval.seen) else {
        return Finding::unmet(need, "given for another record", ask);
    };
    let asked = step.asked(standing.facts.kinds);
    let asked = |kind: Option<Kind>| kind.is_some_and(|kind| asked.contains(&kind));
    let later = standing.counting().any(|held| held.at > seen && asked(held.statement.said.kind()));
    if seen < standing.moved_at {
        return Finding::unmet(need, "given for an earlier move", ask);
    }
    if later || record.rules_at() > seen {
        return Finding::unmet(need, "given before the newest evidence or rules", ask);
    }
    Finding::met(need, format!("given on {}", approval.day))
}
