//! Who knocks at an edge and is nobody's visitor: other sites' pages, senders without an origin, packed bodies.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

mod support;
use support::{Service, Site, body, until_ready};

/// Sixty-four megabytes of zeros as brotli packs them.
const BOMB: &str = "cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfb3ffeffffc13f0110870500baf77ffcffff837f02200e0b0074effff8ffff07ff04401c1600e8defff1ffff0ffe0980382c00d0bdffcbffff3ffc1300715800a07bff07";

/// Posts with these header lines; the answer. What the sender has not sent is never sent.
async fn post(site: &Site, lines: &str, body: &[u8]) -> String {
    send(site, &format!("connection: close\r\n{lines}"), body).await
}

/// As [`post`], without a word on what becomes of the connection.
async fn send(site: &Site, lines: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.listen.trim_start_matches("http://")).await.unwrap();
    let head = format!("POST /g/v1/contributions HTTP/1.1\r\nhost: blog.example\r\n{lines}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.write_all(body).await;
    let (mut answer, mut some) = (Vec::new(), [0; 4_096]);
    // Until the answer is whole: the edge may still wait for what was announced.
    while !answer.ends_with(b"}") {
        match stream.read(&mut some).await {
            Ok(read) if read > 0 => answer.extend_from_slice(&some[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn peak_memory(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-9").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let packed = gzip.wait_with_output().unwrap().stdout;
    writer.join().unwrap().unwrap();
    packed
}

/// A page of a site that is unknown here costs its head; whoever names no origin costs a body's size at most, and no longer
/// than a request may take.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_unknown_is_refused_on_the_head_or_costs_one_body() {
    let site = Site::new();
    let _edge = site.start("edge");
    until_ready(&site.admin).await;
    let (window, began) = (site.window().await, Instant::now());
    for body in [&b""[..], b"half"] {
        let answer = post(&site, "origin: https://other.example\r\ncontent-length: 5000", body).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("\"origin\""), "{answer}");
    }
    let answer = post(&site, "origin: null\r\ncontent-length: 5000", b"").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    // Without an origin: nothing of what is larger than any submission is waited for.
    let answer = post(&site, "content-length: 1000000", &[0xa7; 25_000]).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too-large"), "{answer}");
    let chunk = format!("{:x}\r\n{}\r\n", 25_000, "a".repeat(25_000));
    let answer = post(&site, "transfer-encoding: chunked", chunk.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too-large"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(10), "answered at once, not when their time was over");
    // What is of a size is read, and its site looked for.
    let mut policy = site.policy.clone();
    policy.site = "other.example".to_owned();
    let unknown = body(&policy, window, 0..10);
    let answer = post(&site, &format!("content-length: {}", unknown.len()), &unknown).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("unknown-site"), "{answer}");
    // A device that is no browser has no origin.
    let own = body(&site.policy, window, 0..10);
    let answer = post(&site, &format!("content-length: {}", own.len()), &own).await;
    assert!(answer.contains("\"accepted\":10"), "{answer}");
}

/// Bodies are never unpacked: a bomb is its own few bytes, whatever it would become, and they are no submission.
#[tokio::test(flavor = "multi_thread")]
async fn a_packed_body_is_taken_for_its_own_bytes() {
    let site = Site::new();
    let edge = site.start("edge");
    until_ready(&site.admin).await;
    let window = site.window().await;
    let bytes: Vec<u8> =
        (0..BOMB.len()).step_by(2).map(|at| u8::from_str_radix(&BOMB[at..at + 2], 16).unwrap()).collect();
    let own = body(&site.policy, window, 0..10);
    let zeros = gzip(&vec![0; 14 << 20]);
    assert!(zeros.len() < 16 * 1024, "{} bytes", zeros.len());
    assert_eq!(post(&site, &format!("content-length: {}", own.len()), &own).await.matches("\"accepted\"").count(), 11);
    let before = peak_memory(&edge);
    for (coding, packed) in [("br", bytes), ("gzip", zeros.clone()), ("gzip", gzip(&own)), ("gzip, gzip", gzip(&zeros))]
    {
        for _ in 0..20 {
            let lines = format!("content-encoding: {coding}\r\ncontent-length: {}", packed.len());
            let answer = post(&site, &lines, &packed).await;
            assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("malformed"), "{coding}: {answer}");
        }
    }
    // A bomb of bombs that is larger than a submission, and a body whose coding is a lie: its bytes count.
    let large = gzip(&vec![0; 64 << 20]);
    let answer = post(&site, &format!("content-encoding: gzip\r\ncontent-length: {}", large.len()), &large).await;
    assert!(large.len() > 22_000 && answer.starts_with("HTTP/1.1 413"), "{} bytes: {answer}", large.len());
    let fresh = body(&site.policy, window, 20..25);
    let answer = post(&site, &format!("content-encoding: gzip\r\ncontent-length: {}", fresh.len()), &fresh).await;
    assert!(answer.contains("\"accepted\":5"), "{answer}");
    let grown = peak_memory(&edge).saturating_sub(before);
    println!("80 bombs: {} kB more memory", grown / 1_024);
    assert!(grown < 8 << 20, "{grown} bytes");
}

/// An answer's status, its headers in order, and its body, without what may differ: the time.
fn parts(answer: &str) -> (String, Vec<String>, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, lines) = head.split_once("\r\n").unwrap();
    let differs = |line: &str| ["date:", "x-gloaming-time:", "connection:"].iter().any(|name| line.starts_with(name));
    let mut lines: Vec<String> = lines.split("\r\n").filter(|line| !differs(line)).map(str::to_owned).collect();
    lines.sort();
    assert!(head.contains("\r\ndate: "), "{head}");
    (status.to_owned(), lines, body.to_owned())
}

/// Nearly all submissions are known by the head as it lies on the connection and answered past all that requests in general
/// need. Whoever sends one in another shape, here by ending the connection with it, is answered the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_by_its_head_is_answered_as_anything_else_is() {
    let site = Site::new();
    let _edge = site.start("edge");
    until_ready(&site.admin).await;
    let window = site.window().await;
    let (good, many) = (body(&site.policy, window, 0..10), body(&site.policy, window, 10..20));
    let mut other = site.policy.clone();
    other.site = "other.example".to_owned();
    let (other, text) = (body(&other, window, 0..10), STANDARD.encode(&good));
    // So that each is taken twice before it is compared.
    for first in [&good, &many] {
        assert!(send(&site, &format!("content-length: {}", first.len()), first).await.contains("\"accepted\":10"));
    }
    let own = "origin: https://blog.example\r\n";
    let mut statuses = Vec::new();
    for (lines, body) in [
        (own, &good[..]),
        ("", &many),
        ("origin: https://blog.example\r\ncontent-type: text/plain;charset=UTF-8\r\n", text.as_bytes()),
        ("origin: https://blog.example\r\ncontent-type: text/plain\r\n", &good),
        ("Origin:https://blog.example\r\nContent-Type: application/cbor\r\n", text.as_bytes()),
        ("origin: https://blog.example\r\norigin: https://other.example\r\n", &good),
        ("origin: https://other.example\r\n", &good),
        ("origin: null\r\n", &good),
        (own, &other),
        (own, b"no submission"),
        (own, b""),
        (own, &[0xa7; 20_000]),
        (own, &[0xa7; 32_000]),
    ] {
        let lines = format!("{lines}content-length: {}", body.len());
        let (known, anything) = (send(&site, &lines, body).await, post(&site, &lines, body).await);
        assert!(!known.contains("connection: close") && anything.contains("connection: close"), "{lines}: {known}");
        assert_eq!(parts(&known), parts(&anything), "{lines}");
        statuses.push(parts(&known).0);
    }
    for status in [" 200 ", " 400 ", " 403 ", " 404 ", " 413 "] {
        assert!(statuses.iter().any(|line| line.contains(status)), "{statuses:?}");
    }
}
