//! A folder with a configuration, and services that run from it.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gloaming_http::Client;
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed};
use gloaming_signal::{Contribution, Submission, cbor};
use serde_json::Value;

pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gloaming"));
        command.current_dir(self.0.path()).args(arguments).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that works prints.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that cannot work says.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} worked");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "no {from:?} in {name}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// Both files of a new certificate for this machine.
pub(crate) fn certify(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.join("fullchain.pem"), pem("CERTIFICATE", certificate.der())).unwrap();
    fs::write(folder.join("privkey.pem"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    fs::set_permissions(folder.join("privkey.pem"), private).unwrap();
}

/// A service that is ended with the test.
pub(crate) struct Service(pub(crate) Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// Asks it to stop as a service manager does, and waits.
    pub(crate) fn terminate(mut self) -> bool {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.0.wait().unwrap().success()
    }
}

/// Ports that were free a moment ago and that nobody is given by chance: a service that is stopped and started again must find
/// its own still free, and what connects or asks for any port is given one of 32768 and above.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    // Tests that run at the same time begin far apart.
    let first = std::process::id().wrapping_mul(2_654_435_761) % 20_000;
    let mut all = std::iter::repeat_with(|| {
        let at = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        11_000 + u16::try_from(at).unwrap()
    });
    std::array::from_fn(|_| all.by_ref().take(20_000).find(free).unwrap())
}

pub(crate) async fn until_ready(address: &str) {
    let (client, start) = (Client::new(Duration::from_secs(2)), Instant::now());
    while start.elapsed() < Duration::from_secs(60) {
        if client.get(&format!("{address}/readyz")).await.is_ok_and(|(status, _, _)| status.is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{address} did not become ready");
}

pub(crate) fn body(policy: &Policy, window: u64, ids: std::ops::Range<u64>) -> Bytes {
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
pub(crate) fn public(said: &str) -> String {
    said.split_whitespace().find(|word| word.len() == 44 && word.ends_with('=')).unwrap().to_owned()
}

fn signed_policy(folder: &Folder) -> Policy {
    let pin = Key::from_text(&fs::read_to_string(folder.path("owner.key")).unwrap()).unwrap().public();
    Signed::verify(&fs::read(folder.path("policy.signed")).unwrap(), &pin, 20_000).unwrap().1
}

/// A blog's edge and centre, configured and not yet started.
pub(crate) struct Site {
    pub(crate) folder: Folder,
    pub(crate) policy: Policy,
    pub(crate) listen: String,
    pub(crate) admin: String,
    pub(crate) central: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        // The edge needs the served files: `cargo xtask test` says where they are.
        assert!(std::env::var_os("GLOAMING_ASSETS").is_some(), "run this by `cargo xtask test`");
        let folder = Folder::new();
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
        let policy = signed_policy(&folder);
        let address = |at| format!("http://{at}");
        Self { folder, policy, listen: address(listen), admin: address(admin), central: address(central) }
    }

    /// Edits the policy and signs it again.
    pub(crate) fn sign(&mut self, from: &str, to: &str) {
        self.folder.edit("policy.toml", from, to);
        self.folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key"]);
        self.policy = signed_policy(&self.folder);
    }

    pub(crate) fn start(&self, what: &str) -> Service {
        Service(self.folder.command(&[what]).spawn().unwrap())
    }

    /// The window that is open now.
    pub(crate) async fn window(&self) -> u64 {
        let client = Client::new(Duration::from_secs(5));
        let (_, _, open) = client.get(&format!("{}/g/v1/windows/blog.example", self.listen)).await.unwrap();
        serde_json::from_slice::<Value>(&open).unwrap()["windows"][0]["window"].as_u64().unwrap()
    }

    /// Posts contributions: the status, and a word for each or for all.
    pub(crate) async fn post(&self, window: u64, ids: std::ops::Range<u64>) -> (u16, Vec<String>) {
        let address = format!("{}/g/v1/contributions", self.listen);
        let client = Client::new(Duration::from_secs(20));
        let (status, _, answer) = client.post(&address, body(&self.policy, window, ids)).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let words = answer["each"]
            .as_array()
            .map_or_else(|| vec![word(&answer["reason"])], |each| each.iter().map(word).collect());
        (status.as_u16(), words)
    }
}
