//! An edge that cannot keep up, with the released component: one site floods it, and the others are served.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gloaming_edge::{Config, Engine, EngineError, system_entropy};
use gloaming_http::Roots;
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, compile, template};
use gloaming_signal::{Contribution, Reason, Submission, cbor};
use gloaming_window::{Answer, WrappingKey};

const DAY: u64 = 86_400_000;
const TODAY: u64 = 20_781;

fn policy(site: &str) -> Policy {
    let text = template("blog", site, &format!("https://{site}"), "2027-03-01").unwrap();
    compile(&text, TODAY, &|_| Err("none".into())).unwrap()
}

/// A body of one contribution.
fn body(policy: &Policy, id: u64) -> Bytes {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    let contribution = Contribution { id: bytes, metric: policy.metrics[0].id, window: TODAY, cell: 0, value: 1 };
    Bytes::from(cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions: vec![contribution],
    }))
}

/// A clock that stands, and whoever reads it with it.
#[derive(Default)]
struct Stall {
    stands: AtomicBool,
    reached: AtomicBool,
}

impl Stall {
    fn read(&self) -> u64 {
        while self.stands.load(Ordering::SeqCst) {
            self.reached.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        TODAY * DAY + DAY / 2
    }
}

fn config(folder: &Path, policies: &[&Policy], stall: &Arc<Stall>) -> Config {
    let assets = std::env::var("GLOAMING_ASSETS").expect("run this by `cargo xtask test`");
    let owner = Key::from_seed(&[1; 32]);
    let stall = Arc::clone(stall);
    Config {
        name: "edge-1".into(),
        store: folder.join("edge.redb"),
        models: None,
        key: Key::from_seed(&[2; 32]),
        wrapping: WrappingKey::new([3; 32]),
        anchor: folder.join("anchor"),
        accept_clock: false,
        restored: false,
        pins: policies.iter().map(|policy| (policy.site.clone(), owner.public())).collect(),
        policies: policies.iter().map(|policy| Signed::sign(policy, &[&owner]).to_bytes()).collect(),
        component: std::fs::read(Path::new(&assets).join("edge/worker.component.wasm")).unwrap(),
        central: Vec::new(),
        roots: Roots::Nobody,
        homes: BTreeMap::new(),
        relays: BTreeMap::new(),
        former_keys: Vec::new(),
        quotas: BTreeMap::new(),
        more: axum::Router::new(),
        share_of_one_network: 100,
        loopback: true,
        clock: Arc::new(move || stall.read()),
        entropy: system_entropy(),
    }
}

type Asked<'e> = Pin<Box<dyn Future<Output = Result<Answer, EngineError>> + 'e>>;

/// Posts bodies; those that wait now, and how many were told to come again.
async fn post(engine: &Engine, bodies: impl Iterator<Item = Bytes>) -> (Vec<Asked<'_>>, usize) {
    let (mut waiting, mut refused): (Vec<Asked<'_>>, _) = (Vec::new(), 0);
    for body in bodies {
        let mut asked: Asked<'_> = Box::pin(engine.ingest(body, None));
        let polled = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
        match polled {
            Poll::Pending => waiting.push(asked),
            Poll::Ready(Err(EngineError::Busy)) => refused += 1,
            Poll::Ready(answer) => waiting.push(Box::pin(std::future::ready(answer))),
        }
    }
    (waiting, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_for_one_site_is_told_to_come_again_and_the_others_are_taken() {
    let (folder, stall) = (tempfile::tempdir().unwrap(), Arc::<Stall>::default());
    let [loud, quiet, silent, unknown] =
        ["loud", "quiet", "silent", "unknown"].map(|name| policy(&format!("{name}.example")));
    let config = config(folder.path(), &[&loud, &quiet, &silent], &stall);
    let start = move || Engine::start(config).unwrap();
    let engine = tokio::task::spawn_blocking(start).await.unwrap();
    stall.stands.store(true, Ordering::SeqCst);
    while !stall.reached.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let (flood, refused) = post(&engine, (0..10_000).map(|id| body(&loud, id))).await;
    assert_eq!((flood.len(), refused), (2_048, 10_000 - 2_048), "half of the places");
    let (first, refused) = post(&engine, (0..300).map(|id| body(&quiet, id))).await;
    assert_eq!((first.len(), refused), (300, 0));
    // Names that nobody knows and bytes that name nobody are one more flood together, however many they are.
    let made_up = (0..10_000).map(|id| body(&Policy { site: format!("x{id}.example"), ..unknown.clone() }, id));
    let (strangers, _) = post(&engine, made_up).await;
    let (nonsense, _) = post(&engine, std::iter::repeat_n(Bytes::from_static(b"nonsense"), 10_000)).await;
    assert_eq!((strangers.len(), nonsense.len()), ((4_096 - 2_048 - 300) / 2, 0));
    let (second, refused) = post(&engine, (0..300).map(|id| body(&silent, id))).await;
    assert_eq!((second.len(), refused), (300, 0));

    stall.stands.store(false, Ordering::SeqCst);
    for (who, waiting, answer) in [
        ("quiet", first, Answer { whole: Reason::Accepted, each: vec![Reason::Accepted] }),
        ("silent", second, Answer { whole: Reason::Accepted, each: vec![Reason::Accepted] }),
        ("loud", flood, Answer { whole: Reason::Accepted, each: vec![Reason::Accepted] }),
        ("strangers", strangers, Answer { whole: Reason::UnknownSite, each: Vec::new() }),
    ] {
        for asked in waiting {
            assert_eq!(asked.await.unwrap(), answer, "{who}");
        }
    }
    // With nobody before it, the site that flooded is taken again.
    assert_eq!(engine.ingest(body(&loud, 20_000), None).await.unwrap().each, [Reason::Accepted]);
    // What waits when it stops is answered, not dropped.
    let (last, refused) = post(&engine, (30_000..30_500).map(|id| body(&quiet, id))).await;
    assert!(refused == 0);
    tokio::task::block_in_place(|| engine.stop());
    for asked in last {
        assert_eq!(asked.await.unwrap().each, [Reason::Accepted]);
    }
    assert!(matches!(engine.ingest(body(&quiet, 40_000), None).await, Err(EngineError::Busy)));
}
