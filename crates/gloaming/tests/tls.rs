//! Edge and centre as processes that speak TLS: a certificate of one's own, its renewal, and who is not believed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use gloaming_http::{Client, Roots};
use serde_json::Value;

mod support;
use support::{Site, body, certify, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_in_tls_delivers_and_renews_its_certificate() {
    let mut site = Site::new();
    let folder = site.folder.0.path().to_owned();
    certify(&folder);
    // Windows of seconds are for pages of this machine.
    site.folder.edit("policy.toml", "https://blog.example", "https://127.0.0.1");
    fs::remove_file(folder.join("policy.signed")).unwrap();
    site.sign("window = \"day\"", "window = \"2s\"");
    for (from, to) in [
        ("# tls_certificate =", "tls_certificate ="),
        ("# tls_key =", "tls_key ="),
        ("# central_ca = \"ca.pem\"", "central_ca = \"fullchain.pem\""),
        ("central = [\"http://", "central = [\"https://"),
        ("[central]\n", "[central]\ntls_certificate = \"fullchain.pem\"\ntls_key = \"privkey.pem\"\n"),
    ] {
        site.folder.edit("gloaming.toml", from, to);
    }
    let (centre, edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.admin).await;
    let [listen, central] = [&site.listen, &site.central].map(|address| address.replace("http://", "https://"));
    let trusting = || {
        let roots = Roots::File(folder.join("fullchain.pem"));
        Client::trusting(Duration::from_secs(5), &roots).unwrap()
    };
    let client = trusting();

    // A visitor's contribution goes in, and what was released comes out at the centre, all of it in TLS.
    let (_, _, open) = client.get(&format!("{listen}/g/v1/windows/blog.example")).await.unwrap();
    let open: Value = serde_json::from_slice(&open).unwrap();
    let window = open["windows"].as_array().unwrap().iter().find(|window| window["span_ms"] == 2_000).unwrap();
    let contributions = body(&site.policy, window["window"].as_u64().unwrap(), 0..10);
    let (status, ..) = client.post(&format!("{listen}/g/v1/contributions"), contributions).await.unwrap();
    assert_eq!(status, 200);
    let began = Instant::now();
    let delivered = async || {
        let (_, _, page) = client.get(&format!("{central}/api/v1/sites/blog.example/overview")).await.unwrap();
        serde_json::from_slice::<Value>(&page).unwrap()["metrics"][1]["windows"].as_array().map_or(0, Vec::len)
    };
    while delivered().await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing was delivered");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Whoever believes others is told nothing, and in plain text nobody answers.
    let stranger = Client::new(Duration::from_secs(5));
    assert!(stranger.get(&format!("{central}/readyz")).await.unwrap_err().to_string().contains("certificate"));
    assert!(stranger.get(&format!("{}/readyz", site.central)).await.is_err());

    let said = site.folder.says(&["doctor"]);
    assert!(said.contains("whom to believe about the centre") && said.contains("centre answers at https://"), "{said}");
    site.folder.edit("gloaming.toml", "central = [\"https://127.0.0.1", "central = [\"http://192.0.2.1");
    let output = site.folder.run(&["doctor"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("beyond this machine and not in TLS"), "{said}");

    certify(&folder);
    for service in [&centre, &edge] {
        assert!(Command::new("kill").args(["-HUP", &service.0.id().to_string()]).status().unwrap().success());
    }
    let fresh = trusting();
    for address in [format!("{central}/readyz"), format!("{listen}/g/v1/notice/blog.example")] {
        let began = Instant::now();
        while fresh.get(&address).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "{address} shows the old certificate");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(edge.terminate() && centre.terminate());
}
