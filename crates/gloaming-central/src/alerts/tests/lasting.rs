//! What lasts is told once until it has ended, week after week, from what was stored to what a webhook gets.

use gloaming_stats::draws::Draws;

use super::*;
use crate::watch::tests::{FIRST, USUAL, WEEK_MS, Week, policy_of, text, values};

/// A site whose model is watched, week after week.
struct Weeks {
    scene: Scene,
    policy: Policy,
    draws: Draws,
    past: u64,
}

impl Weeks {
    async fn new(seed: u64) -> Self {
        let mut policy = policy_of(&text(), &[]);
        policy.expires_day += 1_000;
        let scene = scene(policy.clone()).await;
        scene.hook.answers.store(1_000, Ordering::SeqCst);
        Self { scene, policy, draws: Draws::new(seed), past: 0 }
    }

    /// Such a week passes and is released; what is told then, thrice looked at, of the kinds that last.
    async fn pass(&mut self, week: Week) -> Vec<Value> {
        let releases = values(&self.policy, week, &mut self.draws)
            .into_iter()
            .map(|(metric, values)| Release { metric, state: ReleaseState::Released, values })
            .collect();
        let batch = SealedBatch {
            site: self.policy.site.clone(),
            edge: "edge-1".into(),
            epoch: 7,
            seq: self.past,
            policy_version: self.policy.version,
            policy_hash: self.policy.hash(),
            span_ms: WEEK_MS,
            window: FIRST + self.past,
            releases,
        };
        self.past += 1;
        let now_ms = (FIRST + self.past) * WEEK_MS + 60_000;
        let digest = [u8::try_from(self.past).unwrap(); 32];
        self.scene.looking.store.put(&[Arrived { batch: &batch, digest }], now_ms).await.unwrap();
        // The last look is a minute before the next week is released.
        for at_ms in [now_ms, now_ms + 60_000, now_ms + WEEK_MS - 60_000] {
            self.scene.now.store(at_ms, Ordering::SeqCst);
            self.scene.looking.look().await.unwrap();
        }
        assert!(self.scene.tell().await.unwrap());
        let mut told = self.scene.told();
        told.retain(|alert| ["drift", "performance"].contains(&alert["kind"].as_str().unwrap()));
        told
    }

    async fn usual(&mut self, weeks: usize) {
        for _ in 0..weeks {
            let told = self.pass(USUAL).await;
            assert_eq!(told, Vec::<Value>::new(), "week {}", self.past);
        }
    }

    fn start_ms(&self, week: u64) -> u64 {
        (FIRST + week) * WEEK_MS
    }
}

#[tokio::test]
async fn a_drift_that_lasts_is_told_once() {
    let mut weeks = Weeks::new(11).await;
    let more = Week { pages: 6.0, ..USUAL };
    weeks.usual(10).await;
    let told = weeks.pass(more).await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["lasts_since_ms"].as_u64(), Some(weeks.start_ms(10)), "{told:#?}");
    let key = format!("drift/feature:pages-product@1/{}", weeks.start_ms(10));
    assert_eq!(told[0]["key"], key.as_str());
    for _ in 0..3 {
        assert_eq!(weeks.pass(more).await, Vec::<Value>::new(), "it lasts, and was told");
    }
    let alerts = weeks.scene.looking.store.alerts("shop.example", 9).await.unwrap();
    let drift = alerts.iter().find(|alert| alert.key == key).unwrap();
    assert_eq!(drift.lasts_since_ms, Some(weeks.start_ms(10)));
    assert!(drift.last_ms > weeks.start_ms(14), "it was found until the newest week: {drift:#?}");
    let date = gloaming_policy::author::date_of(weeks.start_ms(10) / DAY);
    assert!(drift.words.contains(&format!("; since the window of {date}; it is what purchase-intent")), "{drift:#?}");
    // Over; and what comes again while the windows of before are still looked at is not told anew.
    weeks.usual(4).await;
    assert_eq!(weeks.pass(more).await, Vec::<Value>::new());
    let found = weeks.scene.looking.store.alerts("shop.example", 999).await.unwrap();
    assert_eq!(found.iter().filter(|alert| alert.kind == "drift").count(), 1);
    let again = found.iter().find(|alert| alert.kind == "drift").unwrap();
    assert!(again.last_ms > weeks.start_ms(19), "it is found, and told no more: {again:#?}");
    let _ = weeks.scene.stop.send(());
}

#[tokio::test]
async fn a_fall_of_auc_is_told_once_with_what_it_was_and_is() {
    let mut weeks = Weeks::new(12).await;
    weeks.usual(8).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.extend(weeks.pass(Week { slope: 0.4, ..USUAL }).await);
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    println!("{}", told[0]["words"]);
    assert_eq!(
        (told[0]["kind"].as_str(), told[0]["lasts_since_ms"].as_u64()),
        (Some("performance"), Some(weeks.start_ms(8)))
    );
    assert!(
        told[0]["words"]
            .as_str()
            .unwrap()
            .starts_with("purchase-intent: its scores tell outcomes less well. AUC is 0.")
    );
    let now_ms = weeks.scene.now.load(Ordering::SeqCst);
    let text = metrics(&weeks.scene.looking.store, now_ms).await.unwrap();
    assert!(text.lines().any(|line| line == "gloaming_alerts{kind=\"performance\"} 1"), "{text}");
    let _ = weeks.scene.stop.send(());
}
