//! Who posts is known to nobody: an address that a trusted proxy names, in requests that are taken, refused, turned away or
//! no HTTP at all, stands in no log and in no file of an edge.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

mod support;
use support::{Service, Site, body, until_ready};

const ADDRESS: &str = "2001:db8:7a5f:91c3:4be2:60d9:ae17:f08c";

/// Asks in plain text and returns the answer's first line.
fn ask(listen: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(listen.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
}

fn post(origin: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /g/v1/contributions HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\nx-forwarded-for: {ADDRESS}\r\n\
         x-real-ip: {ADDRESS}\r\nforwarded: for=\"[{ADDRESS}]\"\r\ncontent-length: {}\r\n{more}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_in_no_log_and_in_no_file() {
    let site = Site::new();
    let folder = site.folder.0.path().to_owned();
    site.folder.edit("gloaming.toml", "# trusted_proxies =", "trusted_proxies =");
    site.folder.edit("gloaming.toml", "[edge]\n", "[edge]\nrequests_per_second = 1\n");
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = site.folder.command(&["edge"]);
    let output = [Stdio::from(log.try_clone().unwrap()), Stdio::from(log)];
    let [out, err] = output;
    let edge = Service(command.stdout(out).stderr(err).spawn().unwrap());
    until_ready(&site.admin).await;

    let good = body(&site.policy, site.window().await, 0..10);
    let origin = "https://blog.example";
    let mut said = Vec::new();
    for request in [
        post(origin, "", &good),
        // By hyper.
        post(origin, "te: trailers\r\n", &good),
        post("https://elsewhere.example", "", &good),
        post(origin, "", b"no submission"),
        post(origin, "content-length: 5\r\n", &good),
        post(origin, "", b"")[1..].to_vec(),
        b"\x16\x03\x01 no HTTP at all\r\n\r\n".to_vec(),
    ] {
        said.push(ask(&site.listen, &request));
    }
    // Until its time of asking is over for now.
    let turned_away = (0..2_000).any(|_| ask(&site.listen, &post(origin, "", &good)).contains(" 429 "));
    assert!(turned_away, "not known by its address at all: {said:?}");
    for status in [" 200 ", " 403 ", " 400 "] {
        assert!(said.iter().any(|line| line.contains(status)), "{said:?}");
    }
    assert!(edge.terminate());

    let address: Ipv6Addr = ADDRESS.parse().unwrap();
    let needles: [&[u8]; 3] = [ADDRESS.as_bytes(), &address.octets(), b"7a5f:91c3"];
    let mut looked_at = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let bytes = fs::read(file.as_ref().unwrap().path()).unwrap();
        looked_at += bytes.len();
        for needle in needles {
            let found = bytes.windows(needle.len()).any(|some| some == needle);
            assert!(!found, "{:?} holds the address", file.as_ref().unwrap().file_name());
        }
    }
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log.is_empty() && looked_at > 1 << 20, "{looked_at} bytes: neither a log nor a store was looked at");
}
