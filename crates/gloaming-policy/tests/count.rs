//! Counting in place against the rules as they are written down: one metric, one map.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use gloaming_policy::author::{compile, template};
use gloaming_policy::count::{Counter, Layout};
use gloaming_policy::{Bins, Policy};
use gloaming_signal::{CellKey, Reason, Row};
use proptest::prelude::*;

const DAY: u64 = 86_400_000;
const HOUR: u64 = 3_600_000;

/// Windows of an hour and a day, ids with holes, and a sum.
fn policy() -> Policy {
    let text = template("saas", "app.example", "https://app.example", "2027-03-01").unwrap();
    let mut policy = compile(&text, 20_781, &|_| Err("none".into())).unwrap();
    for (place, metric) in (0u32..).zip(&mut policy.metrics) {
        metric.id = 3 * metric.id + 1;
        metric.span_ms = if place % 2 == 0 { DAY } else { HOUR };
    }
    policy.metrics[1].axes.truncate(1);
    policy.metrics[1].axes[0].bins = Bins::Sum { max: 90, scale: 1 };
    policy
}

fn judged(policy: &Policy, now_ms: u64, row: &Row) -> Reason {
    let Some(metric) = policy.metric(row.metric) else { return Reason::UnknownMetric };
    let (begins, span) = (u128::from(row.window) * u128::from(metric.span_ms), u128::from(metric.span_ms));
    if begins > u128::from(now_ms) {
        return Reason::FutureWindow;
    }
    if u128::from(now_ms) >= begins + span + u128::from(metric.grace_ms()) {
        return Reason::ClosedWindow;
    }
    match metric.admits(row.cell, row.value) {
        Err(reason) => reason,
        Ok(()) if row.check => Reason::Checked,
        Ok(()) => Reason::Accepted,
    }
}

proptest! {
    #[test]
    fn rows_are_judged_and_added_up_as_the_rules_say(
        now_ms in prop_oneof![0..3 * DAY, 20_781 * DAY..20_783 * DAY],
        rows in prop::collection::vec((0u32..40, 0u64..4, 0u32..8, prop_oneof![Just(1u32), 0..100u32], any::<bool>()), 0..80),
        far: u64,
    ) {
        let policy = policy();
        let (layout, mut counter) = (Layout::new(&policy), Counter::default());
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|(metric, back, cell, value, check)| {
                let span = policy.metric(metric).map_or(DAY, |metric| metric.span_ms);
                let window = if back == 3 { far } else { (now_ms / span + 1).saturating_sub(back) };
                Row { window, metric, cell, value, check }
            })
            .collect();
        let mut want = BTreeMap::<CellKey, u64>::new();
        // Twice: nothing stays behind of a count, finished or not.
        for _ in 0..2 {
            want.clear();
            counter.begin(&layout, now_ms);
            counter.judge(&layout, &Row { window: 0, metric: 1, cell: 0, value: 1, check: false }, &mut 0);
            counter.begin(&layout, now_ms);
            let mut last = 0;
            for row in &rows {
                let reason = counter.judge(&layout, row, &mut last);
                prop_assert_eq!(reason, judged(&policy, now_ms, row), "{:?}", row);
                if reason == Reason::Accepted {
                    let key = |cell| CellKey { metric: row.metric, window: row.window, cell };
                    if policy.metric(row.metric).unwrap().sum_max().is_some() {
                        *want.entry(key(0)).or_default() += 1;
                    }
                    *want.entry(key(row.cell)).or_default() += u64::from(row.value);
                }
            }
            want.retain(|_, value| *value > 0);
            let mut sums = Vec::new();
            counter.finish(&layout, |key, value| sums.push((key, value)));
            prop_assert_eq!(sums, want.clone().into_iter().collect::<Vec<_>>());
        }
    }
}
