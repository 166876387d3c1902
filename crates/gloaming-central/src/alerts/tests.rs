//! Alerts from what was stored to what a webhook gets, over a real socket and a real database.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use gloaming_http::{Client, serve};
use gloaming_policy::Policy;
use gloaming_policy::author::{compile, template};
use gloaming_signal::{Release, ReleaseState, SealedBatch};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::store::{Arrived, StoreAddress};

mod lasting;

const DAY: u64 = 86_400_000;
const TODAY: u64 = 20_800;
const SECRET: &[u8] = b"what both sides know";

/// Made by Python's `hmac`.
#[test]
fn a_signature_is_what_another_implementation_makes() {
    assert_eq!(
        signature(b"Jefe", 1_795_430_000, b"{\"a\":1}"),
        "t=1795430000,v1=1d58f647cacd7b48b2e0465c10a23b76523d7e1b5e8b3db1722d471a1d8dae07"
    );
}

fn policy(days_left: u64) -> Policy {
    with(days_left, "")
}

/// Whose experiment says more.
fn with(days_left: u64, more: &str) -> Policy {
    let text = template("blog", "blog.example", "https://blog.example", "2027-03-01").unwrap()
        + r#"
[[experiment]]
id = "below"
arms = ["as-is", "below"]
purpose = "measurement"
goal = { of = "feature:pages@1", at_least = 2 }
window = "day"
rho = 0.02
k = 50
"# + more;
    let mut policy = compile(&text, TODAY, &|_| Err("no models here".to_owned())).unwrap();
    policy.expires_day = TODAY + days_left;
    policy
}

/// Fourteen days; in the last one a cell grew alone, if `grown`; the experiment's second arm brings `more` in a hundred.
async fn filled(store: &Store, policy: &Policy, grown: i64, more: i64) {
    let mut seed = 7u64;
    let mut dice = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(seed >> 60).unwrap()
    };
    for day in 0..14 {
        let releases = policy
            .metrics
            .iter()
            .map(|metric| {
                let usual = |cell: i64| match metric.name.as_str() {
                    "below-by-pages" => {
                        [1_400, 600, 1_400 - 20 * more, 600 + 20 * more][usize::try_from(cell).unwrap()]
                    }
                    // What the second arm breaks, where that is counted.
                    "below-by-errors" => [1_900, 100, 1_700, 300][usize::try_from(cell).unwrap()],
                    _ => 300 / (1 + cell),
                };
                let mut values: Vec<i64> =
                    (0..i64::from(metric.cells())).map(|cell| usual(cell) + dice() - 8).collect();
                if day == 13 && metric.name == "source" {
                    values[2] += grown;
                }
                Release { metric: metric.id, state: ReleaseState::Released, values }
            })
            .collect();
        let batch = SealedBatch {
            site: policy.site.clone(),
            edge: "edge-1".into(),
            epoch: 7,
            seq: day,
            policy_version: policy.version,
            policy_hash: policy.hash(),
            span_ms: DAY,
            window: TODAY - 15 + day,
            releases,
        };
        store.put(&[Arrived { batch: &batch, digest: [u8::try_from(day).unwrap(); 32] }], 0).await.unwrap();
    }
}

/// A webhook that answers with what it is told to, and keeps what it got.
struct Hook {
    answers: AtomicUsize,
    got: Mutex<Vec<(String, Vec<u8>)>>,
}

async fn take(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if hook.answers.load(Ordering::SeqCst) == 0 {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    if body.windows(6).any(|part| part == b"poison") {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    hook.answers.fetch_sub(1, Ordering::SeqCst);
    let signed = headers["x-gloaming-signature"].to_str().unwrap().to_owned();
    hook.got.lock().unwrap().push((signed, body.to_vec()));
    StatusCode::NO_CONTENT
}

struct Scene {
    folder: tempfile::TempDir,
    looking: Looking,
    hook: Arc<Hook>,
    now: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
}

async fn scene(policy: Policy) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreAddress::Sqlite(folder.path().join("central.sqlite"))).await.unwrap();
    let hook = Arc::new(Hook { answers: AtomicUsize::new(0), got: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/hook", post(take)).with_state(Arc::clone(&hook));
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(serve(listener, router, async move {
        let _ = stopped.await;
    }));
    let now = Arc::new(AtomicU64::new(TODAY * DAY));
    let (clock, hash) = (Arc::clone(&now), policy.hash());
    let policies = Arc::new(BTreeMap::from([((policy.site.clone(), policy.version), (policy, hash))]));
    let looking = Looking {
        store,
        clock: Arc::new(move || clock.load(Ordering::SeqCst)),
        policies: Box::new(move || Arc::clone(&policies)),
        watch: Arc::default(),
        pause: Duration::ZERO,
        telling: Telling {
            webhook: Some(Webhook { address, secret: SECRET.to_vec(), client: Client::new(Duration::from_secs(5)) }),
            mail: None,
            link: "https://centre.example".into(),
        },
    };
    Scene { folder, looking, hook, now, stop }
}

impl Scene {
    async fn tell(&self) -> Result<bool, StoreError> {
        let Looking { telling, store, clock, .. } = &self.looking;
        let mut all = true;
        for way in telling.ways() {
            all &= telling.tell(way, store, clock).await?;
        }
        Ok(all)
    }

    fn told(&self) -> Vec<Value> {
        let got = std::mem::take(&mut *self.hook.got.lock().unwrap());
        let checked = |(signed, body): (String, Vec<u8>)| {
            let at_s: u64 = signed.split(['=', ',']).nth(1).unwrap().parse().unwrap();
            assert_eq!(signed, signature(SECRET, at_s, &body));
            serde_json::from_slice(&body).unwrap()
        };
        got.into_iter().map(checked).collect()
    }
}

#[tokio::test]
async fn what_calls_for_somebody_is_told_once() {
    let policy = policy(200);
    let scene = scene(policy.clone()).await;
    filled(&scene.looking.store, &policy, 900, 6).await;
    scene.looking.look().await.unwrap();
    // Nobody takes it: nothing is lost, and it is told when somebody does.
    assert!(!scene.tell().await.unwrap());
    scene.hook.answers.store(1, Ordering::SeqCst);
    assert!(!scene.tell().await.unwrap(), "one of two was taken");
    scene.hook.answers.store(10, Ordering::SeqCst);
    assert!(scene.tell().await.unwrap());
    let told = scene.told();
    let mut kinds: Vec<&str> = told.iter().map(|alert| alert["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["experiment-settled", "sudden"], "{told:#?}");
    let words = |kind: &str| {
        let alert = told.iter().find(|alert| alert["kind"] == kind).unwrap();
        alert["words"].as_str().unwrap().to_owned()
    };
    assert!(words("experiment-settled").starts_with("below: below is better than as-is: +"), "{told:#?}");
    assert!(words("sudden").starts_with("source: social at edge-1 was"), "{told:#?}");
    assert!(told.iter().all(|alert| alert["site"] == "blog.example" && alert["link"] == "https://centre.example"));

    let text = metrics(&scene.looking.store, TODAY * DAY + 60_000).await.unwrap();
    for line in ["gloaming_alerts{kind=\"sudden\"} 1", "gloaming_alerts{kind=\"drift\"} 0", "gloaming_alerts_untold 0"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let later = metrics(&scene.looking.store, TODAY * DAY + 200_000).await.unwrap();
    assert!(later.contains("gloaming_alerts{kind=\"sudden\"} 0"), "over: {later}");

    // Found again, an hour later and by another process: known.
    scene.now.fetch_add(3_600_000, Ordering::SeqCst);
    scene.looking.look().await.unwrap();
    assert!(scene.tell().await.unwrap());
    assert_eq!(scene.told(), Vec::<Value>::new());
    let alerts = scene.looking.store.alerts("blog.example", 100).await.unwrap();
    assert_eq!(alerts.len(), 2);
    assert!(
        alerts.iter().all(|a| a.told_ms == Some(TODAY * DAY) && a.last_ms == a.since_ms + 3_600_000),
        "{alerts:#?}"
    );
    assert_eq!(scene.looking.store.alerts("other.example", 100).await.unwrap(), []);
    let _ = scene.stop.send(());
}

#[tokio::test]
async fn an_ordinary_site_calls_for_nobody_until_its_policy_expires() {
    let policy = policy(20);
    let scene = scene(policy.clone()).await;
    filled(&scene.looking.store, &policy, 0, 0).await;
    scene.hook.answers.store(10, Ordering::SeqCst);
    for (days, wanted) in
        [(0, None), (6, Some("the policy expires in 14 days")), (7, None), (20, Some("the policy has expired"))]
    {
        scene.now.store((TODAY + days) * DAY, Ordering::SeqCst);
        scene.looking.look().await.unwrap();
        assert!(scene.tell().await.unwrap());
        let told = scene.told();
        assert_eq!(told.len(), usize::from(wanted.is_some()), "day {days}: {told:#?}");
        if let Some(words) = wanted {
            assert!(told[0]["words"].as_str().unwrap().starts_with(words), "{told:#?}");
        }
    }
    let _ = scene.stop.send(());
}

/// One alert that a receiver will not have keeps it from none of the others.
#[tokio::test]
async fn an_alert_that_is_refused_does_not_stand_in_the_way() {
    let scene = scene(policy(200)).await;
    let store = &scene.looking.store;
    for (at, about) in ["poison", "drift/a", "drift/b"].into_iter().enumerate() {
        store.note_alert("blog.example", about, "drift", about, 10 + at as u64).await.unwrap();
    }
    scene.hook.answers.store(10, Ordering::SeqCst);
    assert!(!scene.tell().await.unwrap(), "one was not taken");
    assert_eq!(scene.told().len(), 2);
    assert_eq!(store.untold_alerts("webhook", 9).await.unwrap().len(), 1);
    let _ = scene.stop.send(());
}

/// A list that nobody reads does not grow for ever.
#[tokio::test]
async fn a_thousand_alerts_are_kept() {
    let scene = scene(policy(200)).await;
    let store = &scene.looking.store;
    for at in 0..1_010u64 {
        assert!(store.note_alert("blog.example", &format!("drift/{at}"), "drift", &"ä".repeat(900), at).await.unwrap());
    }
    let alerts = store.alerts("blog.example", 2_000).await.unwrap();
    assert_eq!((alerts.len(), alerts[0].since_ms, alerts[999].since_ms), (1_000, 1_009, 10));
    assert_eq!(alerts[0].words.len(), 1_000, "cut between characters");
    let _ = scene.stop.send(());
}

/// One way that fails neither holds up the other nor has it told again.
#[tokio::test]
async fn what_a_webhook_took_is_not_posted_again_for_want_of_a_mail_server() {
    let policy = policy(200);
    let mut scene = scene(policy.clone()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = MailServer {
        host: "127.0.0.1".into(),
        port: Some(nobody.port()),
        tls: MailTls::Never,
        login: None,
        authority: None,
    };
    scene.looking.telling.mail = Some(Mail::new(&server, "us@shop.example", &["ops@shop.example".into()]).unwrap());
    filled(&scene.looking.store, &policy, 900, 6).await;
    scene.looking.look().await.unwrap();
    scene.hook.answers.store(10, Ordering::SeqCst);
    assert!(!scene.tell().await.unwrap(), "the mail was not sent");
    let told = scene.told().len();
    assert!(told > 0);
    assert!(!scene.tell().await.unwrap());
    assert!(scene.told().is_empty(), "told again");
    let store = &scene.looking.store;
    assert!(store.untold_alerts("webhook", 9).await.unwrap().is_empty());
    assert_eq!(store.untold_alerts("mail", 9).await.unwrap().len(), told);
    assert!(store.alerts(&policy.site, 9).await.unwrap().iter().all(|alert| alert.told_ms.is_none()));
    // Taken out of the configuration, it holds up nothing any more.
    scene.looking.telling.mail = None;
    scene.looking.telling.settle(&scene.looking.store, &scene.looking.clock).await.unwrap();
    assert!(scene.tell().await.unwrap());
    assert!(scene.told().is_empty(), "told again");
    let store = &scene.looking.store;
    assert!(store.alerts(&policy.site, 9).await.unwrap().iter().all(|alert| alert.told_ms.is_some()));
    scene.stop.send(()).unwrap();
}

/// A mail server that takes the connection and says nothing keeps nobody from hearing by the other way, however long that goes on.
#[tokio::test]
async fn a_mail_server_that_says_nothing_holds_up_no_webhook() {
    let policy = policy(200);
    let mut scene = scene(policy.clone()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = MailServer {
        host: "127.0.0.1".into(),
        port: Some(silent.local_addr().unwrap().port()),
        tls: MailTls::Always,
        login: None,
        authority: None,
    };
    scene.looking.telling.mail = Some(Mail::new(&server, "us@shop.example", &["ops@shop.example".into()]).unwrap());
    scene.looking.pause = Duration::from_millis(20);
    filled(&scene.looking.store, &policy, 900, 6).await;
    scene.hook.answers.store(10, Ordering::SeqCst);
    let (hook, store) = (Arc::clone(&scene.hook), scene.looking.store.clone());
    let running = tokio::spawn(scene.looking.run());
    let (_held, _) = silent.accept().await.unwrap();
    for _ in 0..200 {
        if !hook.got.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(!hook.got.lock().unwrap().is_empty(), "the webhook heard nothing");
    assert!(!store.untold_alerts("mail", 9).await.unwrap().is_empty());
    running.abort();
    scene.stop.send(()).unwrap();
}

/// A guardrail breaks: the experiment ends where the policy says that it may, is told once, and has ended for every centre there will be.
#[tokio::test]
async fn an_experiment_ends_by_itself_once_and_over_restarts() {
    for stop in ["by-itself", "by-people"] {
        let more = format!("guardrails = [\"feature:errors@1\"]\nstop = \"{stop}\"\n");
        let policy = with(200, &more);
        let scene = scene(policy.clone()).await;
        filled(&scene.looking.store, &policy, 0, 0).await;
        scene.looking.look().await.unwrap();
        scene.hook.answers.store(10, Ordering::SeqCst);
        assert!(scene.tell().await.unwrap());
        let told = scene.told();
        let stops = scene.looking.store.stops(&policy.site, policy.version).await.unwrap();
        assert_eq!(told.len(), 1, "{told:#?}");
        let words = told[0]["words"].as_str().unwrap();
        if stop == "by-people" {
            assert_eq!((stops, &told[0]["kind"]), (Vec::new(), &Value::from("experiment-stop")));
            assert!(words.starts_with("below: Stop below: visits with feature:errors@1"), "{words}");
            continue;
        }
        assert_eq!(told[0]["kind"], "experiment-stopped");
        let said =
            "below: Stopped by itself on 2026-12-13: in below, visits with feature:errors@1 were more frequent by";
        assert!(words.starts_with(said) && words.contains("Every arm is given what as-is is given"), "{words}");
        let [only] = &stops[..] else { panic!("{stops:#?}") };
        assert_eq!((&*only.experiment, &*only.arm, only.at_ms), ("below", "below", TODAY * DAY));

        // A day later, and by a centre that was started anew: no other row, and nobody is told again.
        scene.now.fetch_add(DAY, Ordering::SeqCst);
        scene.looking.look().await.unwrap();
        let again = Store::open(&StoreAddress::Sqlite(scene.folder.path().join("central.sqlite"))).await.unwrap();
        assert_eq!(again.stops(&policy.site, policy.version).await.unwrap(), stops);
        let policies = (scene.looking.policies)();
        let views = experiments(&again, &policies, &policy.site).await.unwrap().unwrap();
        assert_eq!((views[0].verdict, views[0].stopped.as_ref().unwrap().at_ms), ("stop", TODAY * DAY));
        assert!(scene.tell().await.unwrap());
        assert_eq!(scene.told(), Vec::<Value>::new());

        // Whoever signs the next version has the next word: it runs under that, until what is counted says the same again.
        let next = Policy { version: policy.version + 1, ..policy.clone() };
        assert_eq!(again.stops(&next.site, next.version).await.unwrap(), []);
        let both: Arc<Policies> = Arc::new(BTreeMap::from([&policy, &next].map(|one| {
            let name = (one.site.clone(), one.version);
            (name, (one.clone(), one.hash()))
        })));
        let looking = Looking { policies: Box::new(move || Arc::clone(&both)), ..scene.looking };
        looking.look().await.unwrap();
        let under: Vec<u32> =
            again.stops(&next.site, 0).await.unwrap().iter().map(|stop| stop.policy_version).collect();
        assert_eq!(under, [policy.version, next.version]);
        assert_eq!(again.alerts(&next.site, 9).await.unwrap().len(), 2);
        let _ = scene.stop.send(());
    }
}
