//! Edge and centre as processes, from a configuration: killed, restored from a copy, out of disk.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use gloaming_http::Client;
use gloaming_policy::author::Key;

mod support;
use support::{Service, Site, until_ready};

/// The edge is killed in the middle, without warning: what it had acknowledged is still there.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_keeps_what_it_acknowledged() {
    let site = Site::new();
    let (centre, edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.admin).await;
    until_ready(&site.central).await;
    let window = site.window().await;
    for start in [0, 40, 80] {
        assert_eq!(site.post(window, start..start + 40).await, (200, vec!["accepted".to_owned(); 40]));
    }
    drop(edge);

    let edge = site.start("edge");
    until_ready(&site.admin).await;
    assert_eq!(site.post(window, 0..40).await.1, vec!["duplicate"; 40]);
    let again = [vec!["duplicate"; 20], vec!["accepted"; 10]].concat();
    assert_eq!(site.post(window, 100..130).await.1, again);

    let doctor = site.folder.run(&["doctor"]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.success(), "{said}");
    assert!(said.contains("answers at"), "{said}");

    // The ids' last eight bytes are nowhere in the store: what lies there is sealed.
    let store = fs::read(site.folder.path("edge.redb")).unwrap();
    assert!(!store.windows(8).any(|w| w == [0xa7; 8]), "an id in the clear");
    assert!(edge.terminate(), "a stopped edge ends well");
    assert!(centre.terminate(), "a stopped centre ends well");

    // Without its wrapping key the store says so instead of beginning anew.
    fs::remove_file(site.folder.path("wrapping.key")).unwrap();
    let refused = site.folder.refuses(&["edge"]);
    assert!(refused.contains("wrapping key"), "{refused}");
}

/// A new version is put in force by a signal: nobody is turned away meanwhile, the old one's visitors are still
/// counted, and a file that is wrong changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn policies_change_without_a_restart() {
    let mut site = Site::new();
    let (centre, edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.admin).await;
    until_ready(&site.central).await;
    let window = site.window().await;
    assert_eq!(site.post(window, 0..5).await.1, vec!["accepted"; 5]);
    let hup = |service: &Service| {
        assert!(Command::new("kill").args(["-HUP", &service.0.id().to_string()]).status().unwrap().success());
    };
    let client = Client::new(Duration::from_secs(5));
    let versions = async |site: &Site| {
        let (_, _, notice) = client.get(&format!("{}/g/v1/notice/blog.example", site.listen)).await.unwrap();
        let notice: serde_json::Value = serde_json::from_slice(&notice).unwrap();
        let payload =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, notice["payload"].as_str().unwrap());
        let notice: serde_json::Value = serde_json::from_slice(&payload.unwrap()).unwrap();
        let (_, _, sites) = client.get(&format!("{}/api/v1/sites", site.central)).await.unwrap();
        let sites: serde_json::Value = serde_json::from_slice(&sites).unwrap();
        (notice["version"].as_u64().unwrap(), sites[0]["policy_version"].as_u64().unwrap())
    };
    assert_eq!(versions(&site).await, (1, 1));
    let old = site.policy.clone();
    site.sign("version = 1 ", "version = 2 ");
    for service in [&edge, &centre] {
        hup(service);
    }
    for _ in 0..100 {
        if versions(&site).await == (2, 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(versions(&site).await, (2, 2));
    assert_eq!(site.post(window, 5..9).await.1, vec!["accepted"; 4]);
    let new = std::mem::replace(&mut site.policy, old);
    assert_eq!(site.post(window, 0..6).await.1, [vec!["duplicate"; 5], vec!["accepted"; 1]].concat());
    site.policy = new;

    fs::write(site.folder.path("policy.signed"), b"not a policy").unwrap();
    for service in [&edge, &centre] {
        hup(service);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(versions(&site).await, (2, 2));
    assert_eq!(site.post(window, 5..9).await.1, vec!["duplicate"; 4]);

    // A pin that the policy in force does not fit: it is said, and the site goes on with the one before.
    let other = support::public(&site.folder.says(&["policy", "key", "--out", "other.key"]));
    let owner = Key::from_text(&fs::read_to_string(site.folder.path("owner.key")).unwrap()).unwrap().public();
    site.folder.edit("gloaming.toml", &owner.to_text(), &other);
    hup(&edge);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(site.post(window, 5..9).await.1, vec!["duplicate"; 4]);
    assert_eq!(versions(&site).await, (2, 2));
    assert!(edge.terminate() && centre.terminate());
}

async fn metrics(site: &Site) -> String {
    let (_, _, text) = Client::new(Duration::from_secs(5)).get(&format!("{}/metrics", site.admin)).await.unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

/// Somebody brings back yesterday's store, or its anchor is gone: nothing of what was open is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_may_be_an_old_copy_begins_a_new_epoch() {
    let site = Site::new();
    let edge = site.start("edge");
    until_ready(&site.admin).await;
    let window = site.window().await;
    assert_eq!(site.post(window, 0..5).await.1, vec!["accepted"; 5]);
    assert!(metrics(&site).await.contains("gloaming_store_restored_total 0"));
    assert!(edge.terminate());
    let anchor = site.folder.path("wrapping.key.anchor");
    let before = fs::read_to_string(&anchor).unwrap();
    fs::write(&anchor, before.replace("releases 0", "releases 1")).unwrap();

    let edge = site.start("edge");
    until_ready(&site.admin).await;
    assert!(metrics(&site).await.contains("gloaming_store_restored_total 1"));
    assert_eq!(site.post(window, 0..5).await.1, vec!["closed-window"; 5]);
    assert_ne!(fs::read_to_string(&anchor).unwrap(), before);
    assert!(edge.terminate());
    let _edge = site.start("edge");
    until_ready(&site.admin).await;
    assert!(metrics(&site).await.contains("gloaming_store_restored_total 0"), "once is enough");
}

/// The disk is full: 503 to senders and to whoever asks for readiness, nothing acknowledged is lost, and with
/// room the edge goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_room_on_its_disk_says_so_and_recovers() {
    let site = Site::new();
    drop((site.start("edge"), until_ready(&site.admin).await));
    let size = fs::metadata(site.folder.path("edge.redb")).unwrap().len();
    // A limit on the size of files is what a full disk is to a database: writes that fail.
    let limited = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" edge", size / 1_024 + 64);
    let mut command = Command::new("bash");
    command.current_dir(site.folder.0.path()).args(["-c", &limited, env!("CARGO_BIN_EXE_gloaming")]);
    let edge = Service(command.env("NO_COLOR", "1").spawn().unwrap());
    until_ready(&site.admin).await;
    let window = site.window().await;
    let mut taken = 0;
    let refused = loop {
        let (status, words) = site.post(window, taken..taken + 60).await;
        if status != 200 {
            break (status, words);
        }
        taken += 60;
        assert!(taken < 600_000, "the disk is never full");
    };
    assert_eq!(refused, (503, vec!["busy".to_owned()]));
    let client = Client::new(Duration::from_secs(5));
    let address = format!("{}/g/v1/contributions", site.listen);
    let (status, retry_s, _) =
        client.post(&address, support::body(&site.policy, window, taken..taken + 60)).await.unwrap();
    assert_eq!((status.as_u16(), retry_s), (503, Some(1)), "and when to come again");
    let readyz = format!("{}/readyz", site.admin);
    let (status, _, said) = client.get(&readyz).await.unwrap();
    assert!(status == 503 && said.starts_with(b"the store fails"), "{status}");

    let id = edge.0.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status().unwrap().success());
    until_ready(&site.admin).await;
    assert!(taken >= 60, "there was room for some");
    assert_eq!(site.post(window, 0..60).await.1, vec!["duplicate"; 60]);
    assert_eq!(site.post(window, taken - 60..taken).await.1, vec!["duplicate"; 60]);
    let (status, words) = site.post(window, taken..taken + 60).await;
    assert!(status == 200 && words.iter().all(|word| word == "accepted" || word == "duplicate"), "{words:?}");
    assert!(edge.terminate());
}

/// Whoever is called at night finds every metric in the operators' page, and nothing there that is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_operators_page_explains_every_metric() {
    let site = Site::new();
    let _edge = site.start("edge");
    until_ready(&site.admin).await;
    let shown = metrics(&site).await;
    let shown: BTreeSet<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let page = fs::read_to_string(std::path::Path::new(&root).join("../../docs/operating.md")).unwrap();
    let told: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `gloaming_")?.split('`').next()).collect();
    let shown: BTreeSet<&str> = shown.iter().filter_map(|name| name.strip_prefix("gloaming_")).collect();
    assert_eq!(shown, told);
}

/// A new component runs beside the old one, serves, and is taken back, each by one command and without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_compared_then_serves_and_is_taken_back() {
    let site = Site::new();
    let edge = site.start("edge");
    until_ready(&site.admin).await;
    let window = site.window().await;
    let released = std::env::var("GLOAMING_ASSETS").unwrap() + "/edge/worker.component.wasm";
    // The same functions in other bytes: a custom section at the end.
    let mut other = fs::read(&released).unwrap();
    other.extend(b"\0\x05\x04test");
    fs::write(site.folder.path("other.wasm"), &other).unwrap();
    fs::write(site.folder.path("broken.wasm"), b"no component").unwrap();
    let reload = || {
        assert!(Command::new("kill").args(["-HUP", &edge.0.id().to_string()]).status().unwrap().success());
    };
    let count = async |name: &str| {
        let text = metrics(&site).await;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap().parse::<u64>().unwrap()
    };
    let mut ids = 0..10;
    let mut post = async || {
        ids = ids.end..ids.end + 10;
        assert_eq!(site.post(window, ids.clone()).await, (200, vec!["accepted".to_owned(); 10]));
    };

    assert!(site.folder.refuses(&["component", "switch"]).contains("stage FILE"));
    assert!(site.folder.refuses(&["component", "rollback"]).contains("nothing to go back to"));
    assert!(site.folder.refuses(&["component", "stage", "broken.wasm"]).contains("not an edge component"));
    let said = site.folder.says(&["component", "stage", "other.wasm"]);
    assert!(said.contains("of this release") && said.contains("within a minute"), "{said}");
    reload();
    let began = std::time::Instant::now();
    while count("gloaming_shadow_calls_total").await == 0 {
        post().await;
        assert!(began.elapsed() < Duration::from_secs(30), "nothing is compared");
    }
    assert_eq!(count("gloaming_shadow_differences_total").await, 0);

    let serves = |said: &str| said.lines().find(|line| line.starts_with("serves")).unwrap().to_owned();
    let switched = site.folder.says(&["component", "switch"]);
    assert!(!serves(&switched).contains("of this release"), "{switched}");
    reload();
    post().await;
    let back = site.folder.says(&["component", "rollback"]);
    assert!(serves(&back).contains("of this release"), "{back}");
    reload();
    post().await;
    assert_eq!(site.folder.says(&["component", "show"]).lines().count(), 3);
    assert_eq!(count("gloaming_guest_replaced_total").await, 0);
    assert!(edge.terminate());
}
