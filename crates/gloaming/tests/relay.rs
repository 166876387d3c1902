//! A relay and a home edge as processes: what people send to one is counted at the other, whoever stops in between.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use gloaming_http::Client;
use serde_json::Value;

mod support;
use support::{Folder, Service, Site, body, ports, public, until_ready};

/// A relay's folder, in front of a site's edge.
struct Relay {
    folder: Folder,
    listen: String,
    admin: String,
}

impl Relay {
    fn before(site: &Site) -> Self {
        let folder = Folder::new();
        let key = public(&folder.says(&["policy", "key", "--out", "edge.key"]));
        fs::copy(site.folder.path("policy.signed"), folder.path("policy.signed")).unwrap();
        let [listen, admin] = ports().map(|port: u16| format!("127.0.0.1:{port}"));
        let config = fs::read_to_string(site.folder.path("gloaming.toml")).unwrap();
        let home_key = config.lines().find_map(|line| line.strip_prefix("\"edge-1\" = \"")).unwrap();
        let home = format!("\"edge-1\" = {{ key = \"{}, at = [\"{}\"] }}", home_key, site.listen);
        let (edge, _) = config.split_once("\n[central]\n").unwrap();
        let address = |at: &str| at.trim_start_matches("http://").to_owned();
        let edge = edge
            .replace("name = \"edge-1\"", "name = \"edge-2\"")
            .replace(&address(&site.listen), &listen)
            .replace(&address(&site.admin), &admin)
            .replace("[edge.homes]", &format!("[edge.homes]\n{home}"));
        fs::write(folder.path("gloaming.toml"), edge).unwrap();
        site.folder.edit("gloaming.toml", "[edge.relays]", &format!("[edge.relays]\n\"edge-2\" = \"{key}\"\n#"));
        Self { folder, listen: format!("http://{listen}"), admin: format!("http://{admin}") }
    }

    fn start(&self) -> Service {
        Service(self.folder.command(&["edge"]).spawn().unwrap())
    }

    async fn post(&self, site: &Site, window: u64, ids: std::ops::Range<u64>) -> (u16, Value) {
        let client = Client::new(Duration::from_secs(20));
        let address = format!("{}/g/v1/contributions", self.listen);
        let (status, _, answer) = client.post(&address, body(&site.policy, window, ids)).await.unwrap();
        (status.as_u16(), serde_json::from_slice(&answer).unwrap())
    }
}

async fn metric(admin: &str, name: &str) -> u64 {
    let (_, _, text) = Client::new(Duration::from_secs(5)).get(&format!("{admin}/metrics")).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

async fn until(admin: &str, name: &str, value: u64) {
    let began = Instant::now();
    while metric(admin, name).await != value {
        assert!(began.elapsed() < Duration::from_secs(60), "{name} is {}, not {value}", metric(admin, name).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const ACCEPTED: &str = "gloaming_contributions_total{reason=\"accepted\"}";
const RELAYED: &str = "gloaming_contributions_total{reason=\"relayed\"}";
const WAITING: &str = "gloaming_relay_waiting_parcels";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_takes_is_counted_at_home_whoever_stops_in_between() {
    let mut site = Site::new();
    let relay = Relay::before(&site);
    let (mut home, mut running) = (site.start("edge"), relay.start());
    until_ready(&site.admin).await;
    until_ready(&relay.admin).await;
    let window = site.window().await;

    let (status, answer) = relay.post(&site, window, 0..20).await;
    assert_eq!((status, answer["each"][0].as_str()), (202, Some("relayed")), "{answer}");
    until(&site.admin, ACCEPTED, 20).await;
    until(&relay.admin, WAITING, 0).await;
    assert_eq!(site.post(window, 0..20).await.1, vec!["duplicate"; 20], "wherever it is sent");
    // What people load is served by either.
    let client = Client::new(Duration::from_secs(5));
    for path in ["policy/blog.example", "notice/blog.example"] {
        let [here, there] = [&relay.listen, &site.listen].map(|at| format!("{at}/g/v1/{path}"));
        assert_eq!(client.get(&here).await.unwrap().2, client.get(&there).await.unwrap().2);
    }
    // Somebody who is no relay.
    let (status, _, said) = client.post(&format!("{}/g/v1/relayed", site.listen), "x".into()).await.unwrap();
    assert!(status.as_u16() == 401 && said.windows(12).any(|bytes| bytes == b"edge.relays]"), "{said:?}");

    // The home edge is away. The relay takes more, and is killed.
    assert!(home.terminate());
    for ids in [20..40, 40..60, 60..80] {
        assert_eq!(relay.post(&site, window, ids).await.0, 202);
    }
    until(&relay.admin, RELAYED, 4).await;
    drop(running);
    for file in fs::read_dir(relay.folder.0.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|bytes| bytes == [0xa7; 8]), "a contribution's id lies there in the clear");
    }
    running = relay.start();
    until_ready(&relay.admin).await;
    assert_eq!(metric(&relay.admin, WAITING).await, 3, "it remembers what it acknowledged");
    home = site.start("edge");
    until_ready(&site.admin).await;
    until(&relay.admin, WAITING, 0).await;
    until(&site.admin, ACCEPTED, 60).await;
    assert_eq!(site.post(window, 60..80).await.1, vec!["duplicate"; 20]);

    // The site moves: its next version is at home where it was relayed, and its windows end where they began.
    site.folder.edit("policy.toml", "home_edges = [\"edge-1\"]", "home_edges = [\"edge-2\"]");
    site.sign("version = 1 ", "version = 2 ");
    fs::copy(site.folder.path("policy.signed"), relay.folder.path("policy.signed")).unwrap();
    hangup(&running);
    let began = Instant::now();
    loop {
        let (status, answer) = relay.post(&site, window, 80..100).await;
        if status == 200 {
            assert_eq!(answer["accepted"], 20, "{answer}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{status} {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until(&relay.admin, ACCEPTED, 20).await;
    assert!(running.terminate() && home.terminate());
}

fn hangup(service: &Service) {
    let id = service.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_under_a_policy_that_the_home_edge_does_not_have_yet_waits_for_it() {
    let mut site = Site::new();
    let relay = Relay::before(&site);
    let (home, running) = (site.start("edge"), relay.start());
    until_ready(&site.admin).await;
    until_ready(&relay.admin).await;
    let window = site.window().await;
    let first = site.policy.clone();
    // The relay is given the next version before its home edge is.
    let held = fs::read(site.folder.path("policy.signed")).unwrap();
    site.sign("version = 1 ", "version = 2 ");
    fs::copy(site.folder.path("policy.signed"), relay.folder.path("policy.signed")).unwrap();
    let next = fs::read(site.folder.path("policy.signed")).unwrap();
    fs::write(site.folder.path("policy.signed"), held).unwrap();
    hangup(&running);
    let began = Instant::now();
    while relay.post(&site, window, 0..20).await.0 != 202 {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It was posted and not taken, and what people send under the version before passes it.
    let next_policy = std::mem::replace(&mut site.policy, first);
    assert_eq!(relay.post(&site, window, 20..40).await.0, 202);
    until(&site.admin, ACCEPTED, 20).await;
    // Acknowledged, and not thrown away.
    until(&relay.admin, WAITING, 1).await;
    fs::write(site.folder.path("policy.signed"), next).unwrap();
    site.policy = next_policy;
    hangup(&home);
    until(&site.admin, ACCEPTED, 40).await;
    until(&relay.admin, WAITING, 0).await;
    assert_eq!(metric(&relay.admin, "gloaming_relay_lost_parcels_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_moves_while_its_edge_is_stopped_is_relayed_when_it_starts() {
    let mut site = Site::new();
    let relay = Relay::before(&site);
    // At home where the relay is; then, while that edge is down, at edge-1.
    site.folder.edit("policy.toml", "home_edges = [\"edge-1\"]", "home_edges = [\"edge-2\"]");
    site.sign("version = 1 ", "version = 2 ");
    fs::copy(site.folder.path("policy.signed"), relay.folder.path("policy.signed")).unwrap();
    let mut running = relay.start();
    until_ready(&relay.admin).await;
    let client = Client::new(Duration::from_secs(5));
    let (_, _, open) = client.get(&format!("{}/g/v1/windows/blog.example", relay.listen)).await.unwrap();
    let window = serde_json::from_slice::<Value>(&open).unwrap()["windows"][0]["window"].as_u64().unwrap();
    assert_eq!(relay.post(&site, window, 0..20).await.0, 200);
    assert!(running.terminate());
    site.folder.edit("policy.toml", "home_edges = [\"edge-2\"]", "home_edges = [\"edge-1\"]");
    site.sign("version = 2 ", "version = 3 ");
    fs::copy(site.folder.path("policy.signed"), relay.folder.path("policy.signed")).unwrap();
    let home = site.start("edge");
    until_ready(&site.admin).await;
    running = relay.start();
    until_ready(&relay.admin).await;
    assert_eq!(relay.post(&site, window, 20..40).await.0, 202, "it is relayed at once, not at the next reload");
    until(&site.admin, ACCEPTED, 20).await;
    drop((home, running));
}

/// What an operator gets wrong is named when the edge starts, or by `doctor`.
#[test]
fn homes_that_are_none_are_named() {
    let folder = Folder::new();
    folder.says(&["policy", "key", "--out", "edge.key"]);
    let config = folder.says(&["edge", "--example"]);
    let (edge, _) = config.split_once("[edge.sites]").unwrap();
    let edge = edge.replace("policies = [\"policy.signed\"]", "policies = []");
    for (line, words) in [
        ("\"edge-3\" = { key = \"x\", at = [\"https://a.example\"] }", "\"edge-3\" in [edge.homes]"),
        ("\"edge-3\" = { key = \"KEY\", at = [] }", "`at` must list addresses"),
        ("\"edge-3\" = { key = \"KEY\", at = [\"a.example\"] }", "`at` must list addresses"),
        ("\"edge-1\" = { key = \"KEY\", at = [\"https://a.example\"] }", "no relay of its own"),
        ("\"edge-3\" = { key = \"KEY\" }", "missing field `at`"),
        ("\"edge-3\" = { key = \"KEY\", at = [], seal = \"x\" }", "unknown field `seal`"),
    ] {
        let key = public(&folder.says(&["policy", "key", "--out", "other.key"]));
        fs::remove_file(folder.path("other.key")).unwrap();
        fs::write(folder.path("gloaming.toml"), format!("{edge}[edge.homes]\n{}\n", line.replace("KEY", &key)))
            .unwrap();
        let said = folder.refuses(&["edge"]);
        assert!(said.contains(words), "{line}: {said}");
    }
}

/// What a policy's answer says beside it of experiments that have ended; nothing where it says nothing.
async fn ended(at: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let host = at.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let asked = format!("GET /g/v1/policy/blog.example HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("x-gloaming-stopped: "));
    line.unwrap_or_default().to_owned()
}

async fn until_ended(at: &str, wanted: &str) {
    let began = Instant::now();
    while ended(at).await != wanted {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?} is not {wanted:?}", ended(at).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An experiment that has ended at the centre has ended at its home edge and at a relay, and stays so without a centre and without a
/// home edge, until the next version of the policy.
#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_that_has_ended_has_ended_everywhere_and_stays_so() {
    let mut site = Site::new();
    let more = "\n[[experiment]]\nid = \"note\"\narms = [\"as-is\", \"note\"]\npurpose = \"measurement\"\n\
                goal = { of = \"feature:pages@1\", at_least = 2 }\nguardrails = [\"feature:errors@1\"]\n\
                stop = \"by-itself\"\nwindow = \"day\"\nrho = 0.02\nk = 50\n";
    let text = fs::read_to_string(site.folder.path("policy.toml")).unwrap();
    let other = more.replace("\"note\"\narms", "\"other\"\narms").replace("stop = \"by-itself\"\n", "");
    fs::write(site.folder.path("policy.toml"), text + more + &other).unwrap();
    site.sign("version = 1 ", "version = 2 ");
    let relay = Relay::before(&site);
    let (central, mut home, mut running) = (site.start("central"), site.start("edge"), relay.start());
    for at in [&site.central, &site.admin, &relay.admin] {
        until_ready(at).await;
    }
    assert_eq!((ended(&site.listen).await, ended(&relay.listen).await), (String::new(), String::new()));
    let store = gloaming_central::StoreAddress::Sqlite(site.folder.path("central.sqlite"));
    let store = gloaming_central::Store::open(&store).await.unwrap();
    for experiment in ["note", "other", "elsewhere"] {
        let stop = gloaming_central::Stop {
            experiment: experiment.into(),
            policy_version: 2,
            arm: "note".into(),
            guardrail: "feature:errors@1".into(),
            reason: "more frequent".into(),
            at_ms: 1,
        };
        assert!(store.note_stop("blog.example", &stop).await.unwrap());
    }
    store.close().await;
    // A centre that says more than the policy lets it say says nothing by it.
    until_ended(&site.listen, "note").await;
    until_ended(&relay.listen, "note").await;

    // Nobody left to ask.
    assert!(central.terminate() && running.terminate() && home.terminate());
    home = site.start("edge");
    until_ready(&site.admin).await;
    assert_eq!(ended(&site.listen).await, "note", "it is in a file");
    assert!(home.terminate());
    running = relay.start();
    until_ready(&relay.admin).await;
    assert_eq!(ended(&relay.listen).await, "note");

    // The next version has the next word, wherever it has come.
    home = site.start("edge");
    until_ready(&site.admin).await;
    site.sign("version = 2 ", "version = 3 ");
    hangup(&home);
    until_ended(&site.listen, "").await;
    assert_eq!(ended(&relay.listen).await, "note", "it has not come there");
    fs::copy(site.folder.path("policy.signed"), relay.folder.path("policy.signed")).unwrap();
    hangup(&running);
    until_ended(&relay.listen, "").await;
    let (status, _, said) =
        Client::new(Duration::from_secs(5)).post(&format!("{}/g/v1/stops", site.listen), "{}".into()).await.unwrap();
    assert!(status.as_u16() == 401 && said.windows(12).any(|bytes| bytes == b"edge.relays]"), "{said:?}");
    assert!(running.terminate() && home.terminate());
}
