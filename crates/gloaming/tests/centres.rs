//! Several addresses of the centre: one is gone and the next is used, all are gone and what waited arrives afterwards, each
//! window once.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gloaming_http::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[path = "support/own_cells.rs"]
mod own_cells;
mod support;
use own_cells::{Cells, Counts, add, body, compare, counted, now_ms, own_cells, sum};
use support::{Service, Site, ports, until_ready};

const SPAN_MS: u64 = 1_000;

/// Passes on what comes to an address, and counts the deliveries that begin in it.
async fn counting(from: String, to: String) -> Arc<AtomicU64> {
    let listener = TcpListener::bind(&from).await.unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut asks, _) = listener.accept().await.unwrap();
            let (counts, to) = (Arc::clone(&counts), to.clone());
            tokio::spawn(async move {
                // Nobody is there: the connection ends, as one to nobody does.
                let Ok(mut answers) = TcpStream::connect(to).await else { return };
                let ((mut ask, mut back), (mut answer, mut on)) = (asks.split(), answers.split());
                let forward = async {
                    let mut some = [0; 16 * 1024];
                    while let Ok(read @ 1..) = ask.read(&mut some).await {
                        // Its head comes in one write.
                        let begins = some[..read].starts_with(b"POST /api/v1/batches");
                        counts.fetch_add(u64::from(begins), Ordering::Relaxed);
                        if on.write_all(&some[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = forward => {}
                    _ = tokio::io::copy(&mut answer, &mut back) => {}
                }
            });
        }
    });
    count
}

struct Story {
    site: Site,
    cells: Cells,
    acknowledged: Counts,
    ids: u64,
}

impl Story {
    /// Brings something new every tenth of a second, and some more for each window: all of it is taken.
    async fn bring(&mut self, time: Duration) {
        let (client, began) = (Client::new(Duration::from_secs(5)), Instant::now());
        let address = format!("{}/g/v1/contributions", self.site.listen);
        while began.elapsed() < time {
            let ids: Vec<[u8; 16]> = (0..5)
                .map(|_| {
                    self.ids += 1;
                    u128::from(self.ids).to_le_bytes()
                })
                .collect();
            let window = now_ms() / SPAN_MS;
            let contributions = self.cells.give(&self.site.policy, (SPAN_MS, window), ids.into_iter()).unwrap();
            let (status, _, answer) = client.post(&address, body(&self.site.policy, &contributions)).await.unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(status == 200 && answer.starts_with("{\"accepted\":5,"), "{status}: {answer}");
            add(&mut self.acknowledged, &contributions);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the centre at an address has every window that something was brought to: what it has, and how many
    /// deliveries had begun by then. To read all of it takes longer than a window.
    async fn arrived(&self, central: &str, deliveries: &AtomicU64) -> (Counts, u64) {
        let began = Instant::now();
        loop {
            let begun = deliveries.load(Ordering::Relaxed);
            let (counts, alarms) = counted(central).await;
            assert_eq!(alarms, 0);
            if self.acknowledged.keys().all(|window| counts.contains_key(window)) {
                assert_eq!(compare(&self.acknowledged, &Counts::new(), &counts), (0, 0));
                return (counts, begun);
            }
            // Tries after an outage of seconds are at most half a minute apart.
            assert!(began.elapsed() < Duration::from_secs(90), "what waited did not arrive");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_centre_is_used_and_an_outage_is_caught_up() {
    let mut site = Site::new();
    own_cells(&mut site, &[SPAN_MS], 1);
    // Two centres over one store, at addresses of their own; the edge knows the first, and the second by who counts.
    let [second, counted_at] = ports().map(|port: u16| format!("127.0.0.1:{port}"));
    let first = site.central.trim_start_matches("http://").to_owned();
    let config = fs::read_to_string(site.folder.path("gloaming.toml")).unwrap();
    let (before, central) = config.split_once("\n[central]\n").unwrap();
    fs::write(site.folder.path("second.toml"), format!("[central]\n{}", central.replace(&first, &second))).unwrap();
    let both = format!("central = [\"http://{first}\", \"http://{counted_at}\"]");
    let edges = before.replace(&format!("central = [\"http://{first}\"]"), &both);
    assert!(edges.contains(&both));
    fs::write(site.folder.path("gloaming.toml"), format!("{edges}\n[central]\n{central}")).unwrap();
    let deliveries = counting(counted_at, second.clone()).await;
    let second = format!("http://{second}");
    let start_second =
        |site: &Site| Service(site.folder.command(&["central", "--config", "second.toml"]).spawn().unwrap());

    let (centre, edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.central).await;
    until_ready(&site.admin).await;
    let mut story = Story { site, cells: Cells::default(), acknowledged: Counts::new(), ids: 0 };
    story.bring(Duration::from_secs(3)).await;
    let (at_first, _) = story.arrived(&story.site.central, &deliveries).await;
    assert_eq!(deliveries.load(Ordering::Relaxed), 0, "the first answers, and nobody asks the second");

    // The first is killed while windows are released; the second has its store.
    story.bring(Duration::from_millis(500)).await;
    drop(centre);
    let centre = start_second(&story.site);
    until_ready(&second).await;
    story.bring(Duration::from_secs(3)).await;
    let (at_second, _) = story.arrived(&second, &deliveries).await;
    assert!(at_first.keys().all(|window| at_second.contains_key(window)), "one store");
    assert!(deliveries.load(Ordering::Relaxed) >= 3);

    // Nobody is there for many windows; they wait, and everything else goes on.
    drop(centre);
    story.bring(Duration::from_secs(20)).await;
    let waited = Instant::now();
    let centre = start_second(&story.site);
    until_ready(&second).await;
    let before = deliveries.load(Ordering::Relaxed);
    let (counts, begun) = story.arrived(&second, &deliveries).await;
    let asked = begun - before;
    let new = counts.len() - at_second.len();
    println!(
        "{} windows, {} contributions, each once; {new} windows of after the second came arrived with {asked} deliveries, {:.0} s after it was back",
        counts.len(),
        sum(&counts),
        waited.elapsed().as_secs_f64()
    );
    assert!(new >= 20, "{new}");
    // One for each window, and those that came while nobody was there to answer once more.
    assert!(asked as usize <= new + 5, "{asked} deliveries of {new} windows");
    assert!(edge.terminate() && centre.terminate());
}
