//! What an owner types, from an empty folder to a running edge and centre, and what is said when it is wrong.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gloaming_http::Client;
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed};
use gloaming_signal::{Contribution, Submission, cbor};
use serde_json::Value;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gloaming"));
        command.current_dir(self.0.path()).args(arguments).env("NO_COLOR", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that works prints.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that cannot work says.
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} worked");
        String::from_utf8(output.stderr).unwrap()
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "no {from:?} in {name}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }
}

fn checkout() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().display().to_string()
}

#[test]
fn a_policy_is_written_checked_planned_signed_and_compared() {
    let folder = Folder::new();
    let new = ["policy", "new", "--template", "shop", "--site", "shop.example"];
    folder.says(&new);
    assert!(folder.refuses(&new).contains("exists"));
    let unknown = ["policy", "new", "--template", "store", "--site", "a", "--out", "b"];
    assert!(folder.refuses(&unknown).contains("shop, blog, docs, saas"));
    let models = checkout();
    let checked = folder.says(&["policy", "check", "policy.toml", "--models", &models]);
    assert!(checked.contains("11 metrics, 1 models, 2 purposes") && checked.contains("epsilon"), "{checked}");
    assert!(folder.says(&["policy", "features"]).contains("engaged-time@1"));
    let planned = folder.says(&["plan", "policy.toml", "--visits-per-day", "4000", "--models", &models]);
    for word in ["scroll-depth", "sigma", "smallest", "30 days", "year"] {
        assert!(planned.contains(word), "no {word} in {planned}");
    }

    folder.says(&["policy", "key", "--out", "owner.key"]);
    assert!(folder.refuses(&["policy", "key", "--out", "owner.key"]).contains("never overwritten"));
    let signed = folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key", "--models", &models]);
    assert!(signed.contains("data-key=") && signed.contains("data-site=\"shop.example\""), "{signed}");

    // A wrong policy: the line, the reason, the remedy.
    fs::copy(folder.path("policy.toml"), folder.path("next.toml")).unwrap();
    folder.edit("next.toml", "rho = 0.05", "rho = 0.5");
    let refused = folder.refuses(&["policy", "check", "next.toml", "--models", &models]);
    assert!(refused.contains("budget"), "{refused}");
    folder.edit("next.toml", "rho = 0.5", "rho = 0.04");
    folder.edit("next.toml", "version = 1 ", "version = 2 ");
    let changed = folder.says(&["policy", "diff", "policy.toml", "next.toml", "--models", &models]);
    assert!(changed.contains("purchase-calibration"), "{changed}");
    folder.edit("next.toml", "tier = \"edge\"", "tier = \"split\"");
    let refused = folder.refuses(&["policy", "sign", "next.toml", "--key", "owner.key", "--models", &models]);
    assert!(refused.contains("split"), "{refused}");

    let manifest = format!("{models}/models/purchase-intent/manifest.json");
    assert!(folder.says(&["model", "check", &manifest]).contains("reference rows agree"));
    fs::create_dir(folder.path("changed")).unwrap();
    fs::copy(&manifest, folder.path("changed/manifest.json")).unwrap();
    let mut onnx = fs::read(format!("{models}/models/purchase-intent/model.onnx")).unwrap();
    onnx[700] ^= 1;
    fs::write(folder.path("changed/model.onnx"), onnx).unwrap();
    assert!(folder.refuses(&["model", "check", "changed/manifest.json"]).contains("SHA-256"));
}

#[test]
fn help_teaches_and_errors_suggest() {
    let folder = Folder::new();
    let help = folder.says(&["--help"]);
    for command in ["demo", "edge", "central", "policy", "plan", "model", "doctor"] {
        assert!(help.contains(command), "{command}");
        let own = folder.says(&[command, "--help"]);
        assert!(own.contains("Usage:") && own.len() > 150, "{command}: {own}");
    }
    assert!(folder.refuses(&["polcy"]).contains("policy"), "clap suggests the nearest");
    assert!(folder.refuses(&["edge"]).contains("gloaming.toml"));
    let wrong = "[edge]\nname = \"edge-1\"\nlisten = \"127.0.0.1:0\"\nadmins = \"127.0.0.1:0\"\n";
    fs::write(folder.path("gloaming.toml"), wrong).unwrap();
    assert!(folder.refuses(&["edge"]).contains("did you mean `admin`"));
    assert!(folder.says(&["edge", "--example"]).contains("[central]"));
}

/// A service that is ended with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// Asks it to stop as a service manager does, and waits.
    fn terminate(mut self) -> bool {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.0.wait().unwrap().success()
    }
}

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|i| held[i].local_addr().unwrap().port())
}

async fn until_ready(address: &str) {
    let (client, start) = (Client::new(Duration::from_secs(2)), Instant::now());
    while start.elapsed() < Duration::from_secs(60) {
        if client.get(&format!("{address}/readyz")).await.is_ok_and(|(status, _, _)| status.is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{address} did not become ready");
}

fn body(policy: &Policy, window: u64, ids: std::ops::Range<u64>) -> Bytes {
    let metric = policy.metrics.iter().find(|m| m.name == "landing-page").unwrap();
    let contributions = ids
        .map(|id| {
            let mut bytes = [0xa7; 16];
            bytes[..8].copy_from_slice(&id.to_le_bytes());
            Contribution { id: bytes, metric: metric.id, window, cell: 0, value: 1 }
        })
        .collect();
    Bytes::from(cbor::to_vec(&Submission {
        site: policy.site.clone(),
        policy_version: policy.version,
        policy_hash: policy.hash(),
        check: false,
        contributions,
    }))
}

/// The last word of a line that a key command printed its public half on.
fn public(said: &str) -> String {
    said.split_whitespace().find(|word| word.len() == 44 && word.ends_with('=')).unwrap().to_owned()
}

/// Edge and centre from a configuration; the edge is killed in the middle, without warning: what it had
/// acknowledged is still there.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_keeps_what_it_acknowledged() {
    let folder = Folder::new();
    // The edge needs the served files: `cargo xtask test` says where they are.
    assert!(std::env::var_os("GLOAMING_ASSETS").is_some(), "run this by `cargo xtask test`");
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    let owner = public(&folder.says(&["policy", "key", "--out", "owner.key"]));
    let edge_key = public(&folder.says(&["policy", "key", "--out", "edge.key"]));
    folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key"]);
    let [listen, admin, central] = ports().map(|port: u16| format!("127.0.0.1:{port}"));
    let mut config = folder.says(&["edge", "--example"]);
    for (from, to) in [
        ("127.0.0.1:8787", &listen),
        ("127.0.0.1:8789", &admin),
        ("127.0.0.1:8790", &central),
        ("# \"shop.example\" = \"<public key, base64>\"", &format!("\"blog.example\" = \"{owner}\"")),
        ("# \"edge-1\" = \"<public key, base64>\"", &format!("\"edge-1\" = \"{edge_key}\"")),
    ] {
        assert!(config.contains(from), "no {from} in the example");
        config = config.replace(from, to);
    }
    fs::write(folder.path("gloaming.toml"), config).unwrap();
    let start = |what: &str| Service(folder.command(&[what]).spawn().unwrap());
    let (centre, edge) = (start("central"), start("edge"));
    let (admin_at, central_at) = (format!("http://{admin}"), format!("http://{central}"));
    until_ready(&admin_at).await;
    until_ready(&central_at).await;

    let pin = Key::from_text(&fs::read_to_string(folder.path("owner.key")).unwrap()).unwrap().public();
    let (_, policy) = Signed::verify(&fs::read(folder.path("policy.signed")).unwrap(), &pin, 20_000).unwrap();
    let client = Client::new(Duration::from_secs(20));
    let (_, _, open) = client.get(&format!("http://{listen}/g/v1/windows/blog.example")).await.unwrap();
    let window = serde_json::from_slice::<Value>(&open).unwrap()["windows"][0]["window"].as_u64().unwrap();
    let post = async |ids: std::ops::Range<u64>| -> Vec<String> {
        let address = format!("http://{listen}/g/v1/contributions");
        let (status, _, answer) = client.post(&address, body(&policy, window, ids)).await.unwrap();
        assert!(status.is_success(), "{}", String::from_utf8_lossy(&answer));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["each"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect()
    };
    for start in [0, 40, 80] {
        assert_eq!(post(start..start + 40).await, vec!["accepted"; 40]);
    }
    drop(edge);

    let edge = start("edge");
    until_ready(&admin_at).await;
    assert_eq!(post(0..40).await, vec!["duplicate"; 40]);
    assert_eq!(post(100..130).await, [vec!["duplicate"; 20], vec!["accepted"; 10]].concat());

    let doctor = folder.run(&["doctor"]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.success(), "{said}");
    assert!(said.contains("answers at"), "{said}");

    // The ids' last eight bytes are nowhere in the store: what lies there is sealed.
    let store = fs::read(folder.path("edge.redb")).unwrap();
    assert!(!store.windows(8).any(|w| w == [0xa7; 8]), "an id in the clear");
    assert!(edge.terminate(), "a stopped edge ends well");
    assert!(centre.terminate(), "a stopped centre ends well");

    // Without its wrapping key the store says so instead of beginning anew.
    fs::remove_file(folder.path("wrapping.key")).unwrap();
    let refused = folder.refuses(&["edge"]);
    assert!(refused.contains("wrapping key"), "{refused}");
}

/// Windows of seconds are for demonstrations, where nobody's day is worth protecting; an edge that others can
/// reach does not serve them, whoever signed the policy.
#[test]
fn windows_of_seconds_are_refused_off_this_machine() {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    folder.edit("policy.toml", "window = \"day\"", "window = \"20s\"");
    let owner = public(&folder.says(&["policy", "key", "--out", "owner.key"]));
    folder.says(&["policy", "key", "--out", "edge.key"]);
    let sign = ["policy", "sign", "policy.toml", "--key", "owner.key"];
    assert!(folder.refuses(&sign).contains("demonstrations on this machine only"));
    // A policy for pages on this machine may have them; then it is the edge that looks where it listens.
    folder.edit("policy.toml", "https://blog.example", "http://127.0.0.1:8080");
    folder.says(&sign);
    let config = folder
        .says(&["edge", "--example"])
        .replace("listen = \"127.0.0.1:8787\"", "listen = \"0.0.0.0:0\"")
        .replace("admin = \"127.0.0.1:8789\"", "admin = \"127.0.0.1:0\"")
        .replace("# \"shop.example\" = \"<public key, base64>\"", &format!("\"blog.example\" = \"{owner}\""));
    fs::write(folder.path("gloaming.toml"), config).unwrap();
    let refused = folder.refuses(&["edge"]);
    assert!(refused.contains("windows of seconds") && refused.contains("127.0.0.1"), "{refused}");
}

/// An edge of several sites once took a policy for one of them that another's key had signed.
#[test]
fn a_key_vouches_for_its_own_site_only() {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    let other = public(&folder.says(&["policy", "key", "--out", "other.key"]));
    let own = public(&folder.says(&["policy", "key", "--out", "owner.key"]));
    folder.says(&["policy", "key", "--out", "edge.key"]);
    folder.says(&["policy", "sign", "policy.toml", "--key", "other.key"]);
    let pins = format!("\"blog.example\" = \"{own}\"\n\"other.example\" = \"{other}\"");
    let config = folder
        .says(&["edge", "--example"])
        .replace("127.0.0.1:8787", "127.0.0.1:0")
        .replace("127.0.0.1:8789", "127.0.0.1:0")
        .replace("# \"shop.example\" = \"<public key, base64>\"", &pins);
    fs::write(folder.path("gloaming.toml"), config).unwrap();
    let refused = folder.refuses(&["edge"]);
    assert!(refused.contains("pinned for another site"), "{refused}");
}
