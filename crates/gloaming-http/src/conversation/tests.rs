//! Whatever is sent, in whatever pieces: what is answered here is what hyper would have answered.

use axum::response::Response;
use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use tokio::io::duplex;
use tokio::net::TcpListener;

use super::*;
use crate::guard::Network;
use crate::outside::converse;
use crate::plain::Brief;
use crate::server::Listener;

/// Answers with what it was asked, so that nothing that was understood otherwise stays unseen.
#[derive(Clone)]
struct Echo;

impl Answers for Echo {
    type Known = Request<()>;

    /// By its path: what is said to it is written by hand, and is the same.
    fn know(&self, head: &Head<'_>) -> Option<Request<()>> {
        let mut request = head.request().filter(|_| head.path().starts_with("/known"))?;
        request.headers_mut().remove("x-forwarded-for");
        Some(request)
    }

    async fn answer_known(&self, known: Request<()>, body: Bytes, network: Option<Network>) -> Said {
        assert_eq!(network, None, "nobody is held to a limit here");
        let (parts, body) = self.answer(known.map(|()| Body::from(body))).await.into_parts();
        let head = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
        assert!(parts.headers.is_empty());
        Said::Brief(Brief { head, body: to_bytes(body, 1 << 17).await.unwrap().to_vec() })
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, 1 << 16).await else {
            return Response::builder().status(400).body(Body::empty()).unwrap();
        };
        let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
        for (name, value) in &parts.headers {
            text += &format!("{name}: {value:?}\n");
        }
        text += &String::from_utf8_lossy(&body);
        // A handler that says the connection ends, one without a body, one with much of it.
        let mut response = Response::new(Body::from(text));
        match parts.uri.path() {
            // Without a body, too, since its length would be that of another answer.
            _ if parts.method == http::Method::HEAD => *response.status_mut() = StatusCode::NO_CONTENT,
            "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/end" => drop(response.headers_mut().insert(CONNECTION, "close".parse().unwrap())),
            "/much" => *response.body_mut() = Body::from(vec![b'm'; 3 * TOGETHER]),
            _ => {}
        }
        response
    }

    fn awaits(&self, head: &Request<()>) -> bool {
        head.uri().path() != "/refused"
    }
}

/// An answer without what may differ, its date: status, headers, body.
type Answer = (u16, Vec<(String, String)>, Text);

/// Bytes that failures show as text.
#[derive(Clone, PartialEq)]
struct Text(Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        write!(formatter, "{} bytes {:?}", self.0.len(), text.chars().take(400).collect::<String>())
    }
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let head = parsed.parse(bytes).unwrap().unwrap();
        let mut named = HeaderMap::new();
        for header in &*parsed.headers {
            let name: http::HeaderName = header.name.parse().unwrap();
            named.append(name, HeaderValue::from_bytes(header.value).unwrap());
        }
        assert!(named.contains_key("date") || parsed.code.unwrap() == 100, "{named:?}");
        named.remove("date");
        let length = named.get("content-length").map_or(0, |text| text.to_str().unwrap().parse().unwrap());
        let mut list: Vec<_> = named.iter().map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
        list.sort();
        all.push((parsed.code.unwrap(), list, Text(bytes[head..head + length].to_vec())));
        bytes = &bytes[head + length..];
    }
    all
}

/// Lets everything else go on until it waits: nothing here waits for a clock or a network.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What is answered to pieces of bytes, by both ways or by hyper alone, before the sender says that no more will come.
async fn said(pieces: &[Text], both: bool) -> Vec<Answer> {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut near, far) = duplex(1 << 20);
    let server = tokio::spawn(converse(Echo, Listener::from(socket), far, [192, 0, 2, 1].into(), !both));
    let mut said = BytesMut::new();
    for piece in pieces {
        if near.write_all(&piece.0).await.is_err() {
            break;
        }
        settle().await;
    }
    while let Some(Ok(1..)) = near.read_buf(&mut said).now_or_never() {
        settle().await;
    }
    server.abort();
    answers(&said)
}

fn run(pieces: &[Text]) -> (Vec<Answer>, Vec<Answer>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { (said(pieces, true).await, said(pieces, false).await) })
}

/// The connection's end is said by whoever ends it; a client sees it as the end of the bytes as well.
fn without_ends(answers: Vec<Answer>) -> Vec<Answer> {
    let without = |(status, headers, body): Answer| {
        (status, headers.into_iter().filter(|(name, _)| name != "connection").collect(), body)
    };
    answers.into_iter().map(without).collect()
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop_oneof![8 => Just("POST"), 4 => Just("GET"), 1 => Just("HEAD"), 1 => Just("PUT"), 1 => Just("pOST")];
    let path = prop_oneof![
        6 => Just("/a?b=c"), 3 => Just("/known?b=c"), 2 => Just("/none"), 1 => Just("/end"), 2 => Just("/much"), 2 => Just("/refused"),
        1 => Just("*"), 1 => Just("http://x/a"), 1 => Just("/\u{e9}"), 1 => Just("/a b")
    ];
    let version =
        prop_oneof![12 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0"), 1 => Just("http/1.1")];
    let header = prop_oneof![
        Just("Origin: https://y"),
        Just("content-type:text/plain"),
        Just("Accept: */*"),
        Just("accept: a"),
        Just("Connection: keep-alive"),
        Just("Connection: Keep-Alive"),
        Just("Connection: close"),
        Just("connection: x"),
        Just("Expect: 100-continue"),
        Just("TE: trailers"),
        Just("X-Forwarded-For: 198.51.100.1"),
        Just("host: z"),
        Just("Upgrade: websocket"),
        Just("Transfer-Encoding: chunked"),
        Just("Content-Length: 3"),
        Just("a: \u{e9}"),
        Just("a b: c"),
        Just(" folded: x"),
        Just("a : b"),
        Just(": b"),
        Just("a: b\rc"),
        Just("a:"),
        Just("\u{0}: b"),
    ];
    let length = prop_oneof![12 => Just(None), 1 => Just(Some("+5")), 1 => Just(Some("0")), 1 => Just(Some("5, 5")),
        1 => Just(Some("99999999999999999999999")), 1 => Just(Some(""))];
    let body = prop_oneof![4 => 0..40usize, 1 => 3_000..9_000usize, 1 => 32_000..34_000usize];
    (method, path, version, prop::collection::vec(header, 0..4), length, body, any::<bool>()).prop_map(
        |(method, path, version, headers, length, body, host)| {
            let mut text = format!("{method} {path} {version}\r\n");
            if host {
                text += "Host: x\r\n";
            }
            let without_body = method == "GET" && body % 8 != 0;
            if !without_body {
                text += &format!("Content-Length: {}\r\n", length.map_or(body.to_string(), str::to_owned));
            }
            headers.iter().for_each(|header| text += &format!("{header}\r\n"));
            text += "\r\n";
            if !without_body {
                text += &"b".repeat(body);
            }
            text.into_bytes()
        },
    )
}

/// Requests on one connection, the last of which ends it, in pieces.
fn conversation() -> impl Strategy<Value = Vec<Text>> {
    let last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    (prop::collection::vec(request(), 1..4), prop::collection::vec(any::<prop::sample::Index>(), 0..4)).prop_map(
        move |(requests, cuts)| {
            let mut all: Vec<u8> = requests.concat();
            all.extend_from_slice(&last);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len())).collect();
            cuts.extend([0, all.len()]);
            cuts.sort_unstable();
            cuts.windows(2).filter(|cut| cut[0] < cut[1]).map(|cut| Text(all[cut[0]..cut[1]].to_vec())).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_answer_alike(pieces in conversation()) {
        let (both, hyper) = run(&pieces);
        prop_assert_eq!(without_ends(both), without_ends(hyper));
    }
}
