//! Released cells are what was done plus the noise of the injected seed: to the last count, on the path
//! that ships, with real browsers at one end and the centre's answer at the other.
#![allow(clippy::unwrap_used)]

use gloaming_e2e::browser::Browser;
use gloaming_e2e::crowd::all_visits;
use gloaming_e2e::stage::{Setting, Stage, WINDOW_S};
use gloaming_e2e::truth::{done, sent};
use gloaming_privacy::sample;

/// Visits with a fresh profile each; ten more come from one profile.
const VISITS: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn released_cells_minus_the_noise_are_what_was_done() {
    let stage = Stage::start(Setting::default()).await.unwrap();
    let browser = Browser::launch().await.unwrap();
    let visits = all_visits(&browser, &stage.demo.shop, VISITS, 3).await.unwrap();
    assert_eq!(stage.wire.refused(), 0, "every post was accepted");
    let before = stage.draws.all().len();
    stage.close_window();
    let overview = stage.released().await.unwrap();
    // Nothing was collected any more, so the one draw since is the seed of the one release.
    let seeds = stage.draws.all().split_off(before);
    assert_eq!(seeds.len(), 1);

    let policy = &stage.demo.policy;
    let (truly, submitted) = (done(policy, &visits).unwrap(), sent(policy, &stage.wire.submissions()));
    let (mut released, mut compared, mut differing) = (0, 0, Vec::new());
    for (metric, view) in policy.metrics.iter().zip(overview["metrics"].as_array().unwrap()) {
        // What people did is what was sent, whether or not enough of them did it to be released.
        if let Some(facts) = truly.get(&metric.id).filter(|facts| *facts != &submitted[&metric.id]) {
            differing.push(format!("{}: sent {:?}, done {facts:?}", metric.name, submitted[&metric.id]));
        }
        let window = &view["windows"][0];
        let number = window["start_ms"].as_u64().unwrap() / u64::from(WINDOW_S) / 1_000;
        let noise = sample(&seeds[0], metric.span_ms, number, metric.id, metric.mechanism, &metric.scales());
        let noisy: Vec<i64> = submitted[&metric.id].iter().zip(&noise).map(|(v, n)| *v as i64 + n).collect();
        if window["state"] != "released" {
            // The noised threshold as well is decided by these very numbers.
            assert_eq!(window["state"], "below-k", "{}", metric.name);
            assert!(metric.crowd(&noisy) < i64::from(metric.k), "{}: {noisy:?}", metric.name);
            continue;
        }
        released += 1;
        let values: Vec<i64> = window["values"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
        assert_eq!(values, noisy, "{}", metric.name);
        if let Some(facts) = truly.get(&metric.id) {
            let exact: Vec<i64> = values.iter().zip(&noise).map(|(v, n)| v - n).collect();
            let facts: Vec<i64> = facts.iter().map(|v| *v as i64).collect();
            if exact != facts {
                differing.push(format!("{}: learnt {exact:?}, done {facts:?}", metric.name));
            }
            compared += 1;
        }
    }
    assert_eq!(differing, Vec::<String>::new(), "what people did");
    println!("{released} metrics released, {compared} of them held against what people did");
    assert!(released >= 6 && compared >= 4, "{released} released, {compared} compared with what people did");
    stage.demo.stop().await;
}
