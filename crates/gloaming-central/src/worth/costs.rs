//! What a model costs people: where it is wrong, whom it treats otherwise, who takes back and who complains, and what it takes of
//! their devices.

use gloaming_policy::{Bins, Metric, PageFeatureKind, Policy, Source};
use gloaming_stats::{Cells, share};

use super::brings::{Counts, counts, rails};
use super::{Known, Line, add};
use crate::fair::Fair;
use crate::trials::{by_groups, outcome_of};
use crate::watch::Figure;

/// The page's feature, and the site's own event, that say that somebody complained.
pub(super) const COMPLAINT: &str = "complaint";

/// Whether a metric is of a feature that the page gives under this name.
pub(super) fn is_of_page(metric: &Metric, name: &str) -> bool {
    let given = outcome_of(metric).strip_prefix("page:").and_then(|of| of.split(':').next());
    given == Some(name)
}

/// Whether a metric counts purposes that were taken back.
pub(super) fn is_opt_out(metric: &Metric) -> bool {
    outcome_of(metric).starts_with("feature:purposes-withdrawn@")
}

/// Whether a metric counts that somebody complained: a feature of that name that the page gives, or a funnel whose last step is
/// the site's own event of that name.
pub(super) fn is_complaint(metric: &Metric) -> bool {
    let funnel = outcome_of(metric).strip_prefix("funnel:").and_then(|steps| steps.rsplit('>').next());
    is_of_page(metric, COMPLAINT) || funnel == Some(COMPLAINT)
}

/// Calibration error, as the model's card has it.
fn calibration(known: &Known<'_>) -> Line {
    let line = Line::new("calibration", "how far scores are off what comes true", "error");
    if let Some(performed) = &known.view.performed {
        return line.found(Ok(performed.calibration_error));
    }
    if !known.model.kinds.is_empty() {
        return line.found(Err("it sorts visits into kinds, and says nothing that could come true".to_owned()));
    }
    let joined = |metric: &&Metric| {
        let of_it = metric.axes.first().is_some_and(|axis| axis.source == Source::Score(known.place));
        of_it && metric.axes.len() == 2 && metric.outcome().is_some()
    };
    match known.policy.metrics.iter().find(joined) {
        Some(metric) => {
            let why = known.view.unknown.iter().find(|why| why.starts_with(&metric.of));
            line.found(Err(why.cloned().unwrap_or_else(|| "no window was released yet".to_owned())))
        }
        None => line.not_counted("no metric joins score and outcome", add::outcome(known)),
    }
}

/// Gaps between groups, as the model's card has them.
fn gaps(known: &Known<'_>) -> Vec<Line> {
    if known.view.fair.is_empty() {
        let line = Line::new("gap", "whether groups of people are treated alike", "gap");
        return vec![line.not_counted("no groups are compared", add::fairness(known))];
    }
    let of = |fair: &Fair| {
        let by = &fair.by;
        let gap = |what: String, gap: Option<Figure>| {
            let why = || fair.unknown.first().cloned().unwrap_or_else(|| format!("by {by}: too little was released"));
            Line::new("gap", what, "gap").found(gap.ok_or_else(why))
        };
        [
            gap(format!("who is selected, by {by}"), fair.selection_gap),
            gap(format!("who is selected with the same outcome, by {by}"), fair.odds_gap),
            gap(format!("those who say nothing of {by} are selected more often by"), fair.undeclared_gap),
        ]
    };
    known.view.fair.iter().flat_map(of).collect()
}

/// Cells in which something was so, and those in which it was not; a sentence where the metric does not part the two.
fn parts(policy: &Policy, metric: &Metric) -> Result<(Vec<usize>, Vec<usize>), String> {
    let unparted = || Err(format!("`{}` does not tell apart visits in which it was so", metric.name));
    let Some(axis) = metric.axes.first() else { return unparted() };
    let cells = axis.labels.len();
    match (axis.source, &axis.bins) {
        // The last step of a funnel is what it is about.
        (Source::Funnel(_), _) if cells > 1 => Ok((vec![cells - 1], (0..cells - 1).collect())),
        (Source::Feature(_), Bins::Edges(edges)) if edges.starts_with(&[0, 1]) && cells > 1 => {
            Ok(((1..cells).collect(), vec![0]))
        }
        (Source::Page(_), Bins::Map(_)) if axis.labels.iter().any(|word| word == "no") && cells > 1 => {
            let is_no = |cell: &usize| axis.labels[*cell] == "no";
            let (no, so) = (0..cells).partition(is_no);
            Ok((so, no))
        }
        (Source::Page(at), Bins::Edges(edges)) if edges.starts_with(&[0, 100]) && cells > 1 => {
            let from_nothing = policy
                .page_features
                .get(at as usize)
                .is_some_and(|given| matches!(given.kind, PageFeatureKind::Number { min: 0, .. }));
            if from_nothing { Ok(((1..cells).collect(), vec![0])) } else { unparted() }
        }
        _ => unparted(),
    }
}

/// The share of all visits, from metrics of their own.
fn of_the_site(known: &Known<'_>, kind: &'static str, what: &str, wanted: Counts) -> Vec<Line> {
    let of_it = |metric: &&Metric| metric.axes.len() == 1 && counts(metric) == wanted;
    let line = |metric: &Metric| {
        let found = parts(known.policy, metric).and_then(|(so, not)| {
            let cells = known.windows(metric.id)?.all().ok_or_else(|| "no window was released yet".to_owned())?;
            share(&cells, &so, &not).map(Figure::from)
        });
        Line::new(kind, format!("{what}, {}", metric.name), "share")
            .found(found)
            .saying("of all visits that were counted, whether or not the model was heard in them")
    };
    known.policy.metrics.iter().filter(of_it).map(line).collect()
}

/// What guardrails, and metrics of the site, count of one thing; where nothing does, what would.
fn counted(
    known: &Known<'_>,
    of: Counts,
    (kind, what): (&'static str, &str),
    (why, add): (&str, fn(&Known<'_>) -> String),
) -> Vec<Line> {
    let mut lines = rails(known, of, kind);
    lines.extend(of_the_site(known, kind, what, of));
    if lines.is_empty() {
        lines.push(Line::new(kind, what, "share").not_counted(why, add(known)));
    }
    lines
}

/// Guardrails that compare what an arm does to groups: a verdict in words.
fn by_group(known: &Known<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (experiment, view) in &known.tried {
        let grouped = experiment.guardrails.iter().filter_map(|rail| known.policy.metric(rail.metric));
        let names: Vec<String> = grouped.filter(|metric| metric.axes.len() == 3).map(by_groups).collect();
        for rail in view.guardrails.iter().filter(|rail| names.contains(&rail.of)) {
            let line = Line::new("guardrail", format!("{}, {}", rail.of, view.id), "points").of_arm(&rail.arm);
            let told = format!("guardrail {}", rail.verdict);
            lines.push(Line { told, ..line.at_every_look().saying(rail.reason.clone()) });
        }
    }
    lines
}

/// What it takes of a device: bytes, and time.
fn device(known: &Known<'_>) -> Vec<Line> {
    let bytes = Line::new("bytes", "the model's file", "bytes");
    let bytes = match known.standing {
        Some(standing) => bytes.exactly(standing.facts.bytes as f64).saying("before compression; a browser keeps it"),
        None => {
            bytes.found(Err("no record of the gate came with the policy; `gloaming policy sign` puts it in".to_owned()))
        }
    };
    let ms = known.model.budget_ms;
    let budget = Line::new("budget", "time a score may take", "ms").exactly(f64::from(ms));
    let fared = known
        .policy
        .metrics
        .iter()
        .find(|metric| matches!(metric.axes.as_slice(), [only] if only.source == Source::Fared(known.place)));
    let late = Line::new("late", format!("visits in which it took more than {ms} ms three times running"), "share");
    let failed = Line::new("failed", "visits in which it was given up", "share");
    let Some(metric) = fared else {
        let add = || add::monitor(known);
        let why = "nothing counts how it fares";
        return vec![bytes, budget, late.not_counted(why, add()), failed.not_counted(why, add())];
    };
    // By its words, and not by its places: an author may have listed them otherwise.
    let places = |words: &[&str]| -> Vec<usize> {
        let labels = metric.axes.first().map_or(&[][..], |axis| axis.labels.as_slice());
        (0..labels.len()).filter(|at| words.contains(&labels[*at].as_str())).collect()
    };
    let of = |some: &[&str], others: &[&str]| {
        let cells: Cells = known.windows(metric.id)?.all().ok_or_else(|| "no window was released yet".to_owned())?;
        share(&cells, &places(some), &places(others)).map(Figure::from)
    };
    const LATE: [&str; 2] = ["late", "late-last-good"];
    const SCORED: [&str; 2] = ["scored", "scored-last-good"];
    const FAILED: [&str; 2] = ["failed", "failed-fallback"];
    let late = late.found(of(&LATE, &SCORED)).saying(
        "of visits in which it scored and was not given up; how long it takes is not counted, only whether it keeps to its time",
    );
    let failed =
        failed.found(of(&FAILED, &[SCORED, LATE].concat())).saying("of visits in which it had something to score");
    vec![bytes, budget, late, failed]
}

pub(super) fn lines(known: &Known<'_>) -> Vec<Line> {
    let mut lines = vec![calibration(known)];
    lines.extend(gaps(known));
    lines.extend(counted(
        known,
        Counts::OptOuts,
        ("opt-outs", "visits in which a purpose was taken back and another kept"),
        ("nothing counts purposes that are taken back", add::opt_outs),
    ));
    lines.extend(counted(
        known,
        Counts::Complaints,
        ("complaints", "visits in which somebody complained"),
        ("nothing counts complaints", add::complaints),
    ));
    lines.extend(rails(known, Counts::Other, "guardrail"));
    lines.extend(by_group(known));
    lines.extend(device(known));
    lines
}
