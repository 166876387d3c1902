//! Listeners as strangers meet them: TLS with a renewed certificate, both versions of HTTP, floods, trickles, nonsense.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gloaming_http::{AddressLimits, Client, ClientError, Limits, Listener, Network, Roots, Tls, TurnedAway, serve};
use http::{StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// Writes a certificate for 127.0.0.1 and its key; returns the certificate's bytes.
fn certify(folder: &Path) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.join("chain.pem"), pem("CERTIFICATE", certificate.der())).unwrap();
    fs::write(folder.join("key.pem"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    certificate.der().to_vec()
}

fn tls(folder: &Path) -> Tls {
    Tls::load(&folder.join("chain.pem"), &folder.join("key.pem")).unwrap()
}

fn routes() -> Router {
    let version = |request: Request| async move { if request.version() == Version::HTTP_2 { "2" } else { "1" } };
    Router::new().route("/", get(version).merge(post(|body: Bytes| async move { body.len().to_string() })))
}

/// Starts a listener on this machine; it ends with the test.
async fn open(door: impl FnOnce(Listener) -> Listener) -> (SocketAddr, Arc<TurnedAway>) {
    let listener = door(TcpListener::bind("127.0.0.1:0").await.unwrap().into());
    let (address, turned_away) = (listener.local_addr().unwrap(), listener.turned_away());
    tokio::spawn(serve(listener, routes(), std::future::pending()));
    (address, turned_away)
}

fn counted(turned_away: &TurnedAway, reason: &str) -> u64 {
    turned_away.counts().iter().find(|(word, _)| *word == reason).unwrap().1
}

type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// A client's TLS that believes only `certificate`.
fn believing(certificate: &[u8], versions: &[&'static rustls::SupportedProtocolVersion]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

async fn second(address: SocketAddr, certificate: &[u8]) -> TlsStream {
    let mut config = believing(certificate, rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await.unwrap()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let tls = tls(folder.path());
    let (address, turned_away) = open(|listener| listener.tls(Some(tls.clone()))).await;
    let url = format!("https://{address}/");
    let [chain, key, before] = ["chain.pem", "key.pem", "before.pem"].map(|name| folder.path().join(name));
    fs::copy(&chain, &before).unwrap();
    let get = async |roots: Roots| Client::trusting(Duration::from_secs(5), &roots).unwrap().get(&url).await;
    let (status, _, body) = get(Roots::File(before.clone())).await.unwrap();
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"1"[..]));
    // Who believes nobody speaks to nobody, and is told which certificate was not believed.
    let error = get(Roots::Nobody).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)) && error.to_string().contains("certificate"), "{error}");

    // Half of a renewal: what was in force stays.
    let old_key = fs::read(&key).unwrap();
    certify(folder.path());
    let fresh_key = fs::read(&key).unwrap();
    fs::write(&key, old_key).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("is not the key of the certificate") && error.contains("same renewal"), "{error}");
    assert!(get(Roots::File(before.clone())).await.is_ok());
    fs::write(&key, fresh_key).unwrap();
    tls.reload().unwrap();
    assert!(get(Roots::File(before)).await.is_err(), "the old certificate is shown no more");
    assert!(get(Roots::File(chain)).await.is_ok());
    assert!(counted(&turned_away, "handshake") >= 2);
}

#[test]
fn files_that_are_no_certificate_are_named_with_what_they_should_be() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let [chain, key, missing] = ["chain.pem", "key.pem", "missing.pem"].map(|name| folder.path().join(name));
    for (certificate, private, words) in [
        (&missing, &key, ["missing.pem", "it must be PEM"]),
        (&key, &key, ["key.pem holds no certificate", "BEGIN CERTIFICATE"]),
        (&chain, &missing, ["missing.pem", "without a passphrase"]),
        (&chain, &chain, ["chain.pem", "a private key in PEM"]),
    ] {
        let error = Tls::load(certificate, private).err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// A ticket that is taken up again would tell one device's visits from another's.
#[tokio::test]
async fn a_session_is_never_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let (address, _) = open(|listener| listener.tls(Some(tls(folder.path())))).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(believing(&certificate, &[version])));
        for _ in 0..3 {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut stream = connector.connect(address.ip().into(), stream).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with('1'), "{answer}");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_and_its_resets_are_not_endless() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let (address, _) = open(|listener| listener.tls(Some(tls(folder.path())))).await;
    let ask = async || {
        let io = hyper_util::rt::TokioIo::new(second(address, &certificate).await);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let request = || http::Request::get("https://x/").body(String::new()).unwrap();
        // Whoever sends more than may be open, before it has heard how many that is, is refused and tries again.
        sender.send_request(request()).await.unwrap();
        let mut asked = Vec::new();
        // More than may be open at once: the rest wait their turn.
        for _ in 0..100 {
            let (mut sender, request) = (sender.clone(), request());
            asked.push(tokio::spawn(async move { sender.send_request(request).await.unwrap().version() }));
        }
        for version in asked {
            assert_eq!(version.await.unwrap(), Version::HTTP_2);
        }
    };
    ask().await;
    // Rapid reset (CVE-2023-44487): open and reset, over and over, in raw frames.
    let mut stream = second(address, &certificate).await;
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // GET, https, /, and the authority x (RFC 7541).
    let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'x'];
    for id in (1..40_001u32).step_by(2) {
        frames.extend([0, 0, 6, 1, 5]);
        frames.extend(id.to_be_bytes());
        frames.extend(head);
        frames.extend([0, 0, 4, 3, 0]);
        frames.extend(id.to_be_bytes());
        frames.extend(8u32.to_be_bytes());
    }
    let sent = frames.len();
    let mut taken = 0;
    while let Some(some) = frames.get(taken..(taken + 4_096).min(sent)).filter(|some| !some.is_empty()) {
        match tokio::time::timeout(Duration::from_secs(5), stream.write(some)).await {
            Ok(Ok(bytes)) if bytes > 0 => taken += bytes,
            _ => break,
        }
    }
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "20,000 resets, and still connected");
    // GOAWAY with ENHANCE_YOUR_CALM, where the other side still reads it.
    let calm = rest.windows(17).any(|frame| frame[3] == 7 && frame[13..17] == 11u32.to_be_bytes());
    println!("{taken} of {sent} bytes were taken; told to calm down: {calm}");
    ask().await;
}

/// A place is not held by who shakes hands and then says nothing, or half of something.
#[tokio::test]
async fn a_silent_http2_connection_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certify(folder.path());
    let limits = Limits { header: Duration::from_millis(400), ..Limits::default() };
    let (address, _) = open(|listener| listener.tls(Some(tls(folder.path()))).limits(limits)).await;
    // Nothing; a preface; and a head whose end never comes.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let half = [&preface[..], b"\0\0\x03\x01\0\0\0\0\x01\x82\x87\x84"].concat();
    for said in [&b""[..], preface, &half] {
        let mut stream = second(address, &certificate).await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{} bytes hold a place", said.len());
    }
}

#[tokio::test]
async fn a_flood_from_one_address_is_turned_away_and_another_is_served() {
    let limits = AddressLimits { per_second: 1, burst: 20, connections: 3 };
    let trusted = vec!["127.0.0.9/32".parse().unwrap()];
    let (address, turned_away) = open(|listener| listener.guarded(limits, trusted, || [5; 32])).await;
    let connect = async |source: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap()
    };
    let from = async |source: &str, headers: &str| {
        let mut stream = connect(source).await;
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let later = if answer.contains("retry-after: 1") { " later" } else { "" };
        answer.get(9..12).unwrap_or_default().to_owned() + later
    };
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(from("127.0.0.2", "").await);
    }
    assert!(answers[..20].iter().all(|answer| answer == "200"), "{answers:?}");
    assert!(answers[20..].iter().filter(|answer| *answer == "429 later").count() >= 10, "{answers:?}");
    assert_eq!(from("127.0.0.3", "").await, "200");
    // A trusted proxy's visitors are told apart, and it itself is held to nothing.
    answers.clear();
    for _ in 0..40 {
        answers.push(from("127.0.0.9", "x-forwarded-for: 198.51.100.7\r\n").await);
    }
    assert!(answers.iter().filter(|answer| *answer == "429 later").count() >= 10, "{answers:?}");
    for _ in 0..40 {
        assert_eq!(from("127.0.0.9", "").await, "200");
    }
    assert_eq!(from("127.0.0.9", "x-forwarded-for: 198.51.100.8\r\n").await, "200");
    assert!(counted(&turned_away, "address-rate") >= 20);

    // Connections that are open and say nothing.
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(connect("127.0.0.4").await);
    }
    assert_eq!(from("127.0.0.5", "").await, "200");
    assert_eq!(counted(&turned_away, "address-connections"), 7);
}

/// The address itself goes no further than the accept loop: not by name, not in a header, not in an extension's words.
#[tokio::test]
async fn a_handler_gets_no_address() {
    let told = |request: Request| async move {
        let network = request.extensions().get::<Network>().is_some();
        format!("network {network}, headers {:?}", request.headers())
    };
    let trusted = vec!["127.0.0.1/32".parse().unwrap()];
    let listener = Listener::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let listener = listener.guarded(AddressLimits::default(), trusted, || [5; 32]);
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Router::new().route("/", get(told)), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let names = "x-forwarded-for: 198.51.100.7\r\nforwarded: for=198.51.100.7\r\nx-real-ip: 198.51.100.7\r\n";
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{names}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("network true") && answer.contains("\"host\""), "{answer}");
    assert!(!answer.contains("198.51.100.7") && !answer.contains("forwarded"), "{answer}");
}

/// A megabyte that nobody wants is under way when its answer is: the answer arrives, and the connection goes on.
#[tokio::test]
async fn what_is_refused_before_it_was_read_gets_its_answer() {
    let refuse = || async { StatusCode::PAYLOAD_TOO_LARGE };
    let listener = Listener::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Router::new().route("/", post(refuse)), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        // Time to answer and to hang up, for a listener that does.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..10 {
            stream.write_all(&[b'a'; 100_000]).await.unwrap();
        }
        let mut answer = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer[..read]));
    }
}

/// What real attackers send: each is answered or hung up on, and the next honest request is served.
#[tokio::test]
async fn nonsense_costs_nobody_else_anything() {
    let limits =
        Limits { header: Duration::from_millis(300), request: Duration::from_millis(600), ..Limits::default() };
    let (address, turned_away) = open(|listener| listener.limits(limits)).await;
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nhost: x\r\n{rest}");
    let many = "a: b\r\n".repeat(100_000);
    let cases: [(&str, String, &[&str]); 10] = [
        ("no HTTP", "\x16\x03\x01\0\0\r\n\r\n".to_owned(), &["400", ""]),
        ("100,000 headers", format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), &["431", ""]),
        (
            "a megabyte of target",
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)),
            &["414", "431", ""],
        ),
        ("a head that never ends", "GET / HTTP/1.1\r\nhost: x\r\na: ".to_owned(), &["408", ""]),
        ("a body that never comes", post("content-length: 10\r\n\r\nab"), &["408"]),
        ("two lengths", post("content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), &["400"]),
        (
            "a length and chunks",
            post(
                "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n",
            ),
            &["200", "400"],
        ),
        (
            "chunks under another name",
            post("transfer-encoding: xchunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"),
            &["400", "501"],
        ),
        (
            "a chunk longer than the world",
            post("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
            &["400", ""],
        ),
        ("a line feed in a name", "GET / HTTP/1.1\r\nho\nst: x\r\n\r\n".to_owned(), &["400"]),
    ];
    for (name, bytes, allowed) in cases {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(bytes.as_bytes()).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await.expect(name);
        let text = String::from_utf8_lossy(&answer);
        let status = text.get(9..12).unwrap_or_default();
        assert!(allowed.contains(&status), "{name}: {text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), usize::from(!status.is_empty()), "{name} is one request: {text}");
        let client = Client::new(Duration::from_secs(5));
        assert_eq!(client.get(&format!("http://{address}/")).await.unwrap().0, StatusCode::OK, "after {name}");
    }
    assert_eq!(counted(&turned_away, "slow"), 1);
}

#[tokio::test]
async fn more_at_once_than_it_takes_is_told_to_come_again() {
    let (address, turned_away) = open(|listener| listener.limits(Limits { requests: 2, ..Limits::default() })).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n").await.unwrap();
        waiting.push(stream);
    }
    let client = Client::new(Duration::from_secs(5));
    let url = format!("http://{address}/");
    loop {
        // The two may still be on their way in.
        let (status, retry, _) = client.get(&url).await.unwrap();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(retry, Some(1));
            break;
        }
    }
    for mut stream in waiting {
        stream.write_all(b"abc").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    assert_eq!(client.get(&url).await.unwrap().0, StatusCode::OK);
    assert!(counted(&turned_away, "busy") >= 1);
}
