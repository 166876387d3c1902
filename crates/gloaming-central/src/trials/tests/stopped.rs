//! Experiments that end by themselves: which do, once, and how seldom without a reason.

use super::*;
use crate::store::Stop;
use crate::trials::{due, mark};

fn by_itself(text: String) -> String {
    text.replace("window = ", "stop = \"by-itself\"\nwindow = ")
}

fn broken(policy: &Policy) -> ExperimentView {
    let worse = Arms { errors: [0.02, 0.06], ..SAME };
    let rows = rows(policy, 20_000..20_010, worse, &mut Draws::new(5));
    seen(std::slice::from_ref(policy), &rows)
}

#[test]
fn a_guardrail_that_breaks_ends_an_experiment_that_may_end_so_and_no_other() {
    let (may, may_not) = (policy(3, by_itself), policy(3, |text| text));
    let view = broken(&may);
    assert_eq!(view.verdict, "stop", "{view:#?}");
    let stops = due(&may, std::slice::from_ref(&view), 20_011 * DAY_MS);
    let [stop] = stops.as_slice() else { panic!("{view:#?}") };
    assert_eq!((&*stop.experiment, stop.policy_version, &*stop.arm), ("hint", 3, "hint"));
    assert_eq!(due(&may_not, &[broken(&may_not)], 1), []);
    // Nothing is broken, nothing ends.
    let calm = rows(&may, 20_000..20_010, SAME, &mut Draws::new(5));
    assert_eq!(due(&may, &[seen(std::slice::from_ref(&may), &calm)], 1), []);

    let mut views = [view];
    mark(&may, &mut views, std::slice::from_ref(stop));
    assert!(
        views[0].words.starts_with(
            "Stopped by itself on 2024-10-15: in hint, visits with feature:errors@1 were more frequent by"
        ),
        "{}",
        views[0].words
    );
    assert_eq!(due(&may, &views, 20_012 * DAY_MS), [], "once");
    // What is in the database of an experiment that may not end so, or that is another, says nothing.
    let mut views = [broken(&may_not)];
    let before = views.clone();
    mark(&may_not, &mut views, std::slice::from_ref(stop));
    mark(&may, &mut views, &[Stop { experiment: "other".into(), ..stop.clone() }]);
    assert_eq!(views, before);
}

/// Counts go on for a while, and may come back within what is permitted: it has ended all the same.
#[test]
fn it_stays_ended_whatever_its_figures_say_later() {
    let may = policy(3, by_itself);
    let stop = due(&may, &[broken(&may)], 20_011 * DAY_MS);
    let calm = rows(&may, 20_000..20_010, SAME, &mut Draws::new(5));
    let mut views = [seen(std::slice::from_ref(&may), &calm)];
    assert_ne!(views[0].verdict, "stop");
    mark(&may, &mut views, &stop);
    assert_eq!((views[0].verdict, views[0].stopped.as_ref().unwrap().at_ms), ("stop", 20_011 * DAY_MS));
}

/// The error rate of an end is the guardrail's own: where an arm does exactly what is permitted, one of twenty experiments may
/// end, whoever looks however often.
#[test]
fn experiments_without_harm_hardly_ever_end() {
    let may = policy(3, by_itself);
    let mut ended = 0;
    for seed in 0..200 {
        let edge = Arms { errors: [0.02, 0.03], visits: [400; 2], ..SAME };
        let rows = rows(&may, 20_000..20_020, edge, &mut Draws::new(1_000 + seed));
        let looks = (1..=20).any(|days| {
            let so_far: Vec<_> = rows.iter().filter(|row| row.window < 20_000 + days).cloned().collect();
            !due(&may, &[seen(std::slice::from_ref(&may), &so_far)], 1).is_empty()
        });
        ended += u32::from(looks);
    }
    println!("{ended} of 200 experiments at the border of what is permitted ended in 20 looks");
    assert!(ended <= 10, "{ended} of 200, where 5 % are permitted");
}
