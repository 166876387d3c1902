//! Amounts in experiments: bins of a number, and what each stands for.

use super::metric;
use super::table::Value;
use crate::document::{Axis, Bins, Policy, Source};

/// Most bins: each is a cell in every arm, and has noise of its own.
const BINS: usize = 12;
/// Largest worth.
const WORTH: f64 = 1e9;

/// A number on bins.
pub(super) struct Amount {
    /// What it is of.
    pub(super) of: String,
    pub(super) axis: Axis,
    /// What each bin stands for, hundredths.
    pub(super) worth: Vec<i64>,
}

/// `{ of = "feature:purchase-value@1", edges = [20, 50], worth = [0, 35, 80] }`: bins below 20, below 50 and from there on.
/// Without `worth`, which an amount that is added up must have, bins stand for their place.
pub(super) fn amount(value: &Value<'_>, policy: &Policy, added_up: bool) -> Option<Amount> {
    if !value.is_table() {
        value.wrong("a table as in { of = \"feature:purchase-days@1\", edges = [1, 3] }");
        return None;
    }
    let table = value.table()?;
    let of = table.need_text("of", "\"feature:purchase-value@1\"");
    let edges = table.need("edges", "[20, 50]")?;
    let worth = if added_up { table.need("worth", "[0, 35, 80]") } else { table.get("worth") };
    table.finish();
    let source = metric::source_of(value, &of, policy)?;
    if matches!(source, Source::Score(_)) {
        value.problem(
            "a score is no amount that visits differ in by what is tried",
            "use a feature, or what the page gives",
        );
        return None;
    }
    let (zero, scale) = metric::steps(value, source, policy)?;
    let numbers: Vec<f64> = edges.list().iter().filter_map(Value::number).collect();
    let steps: Vec<u32> = numbers.iter().map(|number| ((number - zero) * scale).round() as u32).collect();
    let grow = steps.first().is_some_and(|first| *first > 0) && steps.is_sorted_by(|one, next| one < next);
    if !grow || steps.len() >= BINS {
        edges.problem(
            format!("edges are 1 to {} growing numbers above the smallest value", BINS - 1),
            "as in edges = [20, 50]: below 20, from 20 to 50, and from 50 on",
        );
        return None;
    }
    let worth = match worth {
        None => (0..=numbers.len()).map(|bin| 100 * bin as i64).collect(),
        Some(value) => {
            let worth: Vec<f64> = value.list().iter().filter_map(Value::number).collect();
            if worth.len() != numbers.len() + 1 || !worth.iter().all(|worth| (0.0..=WORTH).contains(worth)) {
                value.problem(
                    format!(
                        "{} edges make {} bins, and each needs what it stands for",
                        numbers.len(),
                        numbers.len() + 1
                    ),
                    "write a number for every bin, none below 0, as in worth = [0, 35, 80]: the mean of what falls into it",
                );
                return None;
            }
            worth.iter().map(|worth| (100.0 * worth).round() as i64).collect()
        }
    };
    let last = *steps.last()?;
    let labels = std::iter::once(format!("below {}", numbers[0]))
        .chain(numbers.windows(2).map(|pair| format!("{}-{}", pair[0], pair[1])))
        .chain([format!("{} and more", numbers[numbers.len() - 1])])
        .collect();
    let bins = Bins::Edges([&[0], &steps[..], &[last.saturating_add(1)]].concat());
    Some(Amount { of, axis: Axis { source, bins, labels }, worth })
}
