//! What strangers send to a listener: requests, what is said about whose they are, and a connection full of them.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use gloaming_http::outside::{converse, is_part, visitor as visitor_of};
use gloaming_http::{Answers, IpNet, Listener, Network, Said, outside};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::TcpListener;

/// Headers that a request may have.
const HEADERS: usize = 64;
/// A plain request's longest body, bytes, and how much is waited for of a head.
const BODY: usize = 32 << 10;
const HEAD: usize = 16 << 10;

const POST: &str = "POST /g/v1/contributions?a=b HTTP/1.1\r\nHost: app.example\r\nOrigin: https://app.example\r\n\
    Content-Type: application/cbor\r\nX-Forwarded-For: 198.51.100.1\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET /g/v1/policy HTTP/1.1\r\nhost: app.example\r\naccept: */*\r\nconnection: Keep-Alive\r\n\r\n";
const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nlast: x\r\n\r\n";
const EXPECTS: &str = "POST /refused HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";

/// Two plain requests, and the first of them with more behind it.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    [POST.to_owned(), GET.to_owned(), format!("\r\n{POST}{GET}")].map(String::into_bytes).into()
}

/// A request in the one form that says what was understood of it.
fn written(request: &Request<()>) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let mut text = format!("{} {path} HTTP/1.1\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(piece);
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// A plain request says what its bytes say and no more: nothing that could be read in two ways is one, nothing behind its head
/// is looked at, no part of its head is one, and it is the same when it is written again.
pub(crate) fn plain(bytes: &[u8]) {
    let Some((request, head, body)) = outside::plain(bytes, HEADERS) else { return };
    assert!(head <= bytes.len() && body <= BODY && request.headers().len() <= HEADERS);
    let of = |name: HeaderName| request.headers().get_all(name).iter().count();
    let odd = [TRANSFER_ENCODING, EXPECT, UPGRADE, TE, TRAILER];
    assert!(odd.into_iter().all(|name| of(name) == 0) && of(HOST) == 1 && of(CONTENT_LENGTH) <= 1);
    let length = request.headers().get(CONTENT_LENGTH).map(|length| length.to_str().ok()?.parse::<usize>().ok());
    assert_eq!(length.unwrap_or(Some(0)), Some(body), "another body than it says");

    assert!(outside::plain(&bytes[..head], HEADERS).is_some_and(|(_, same, len)| (same, len) == (head, body)));
    let last = head.min(HEAD) - 1;
    for end in (0..last).step_by(1 + last / 64).chain([last]) {
        assert!(is_part(&bytes[..end], HEADERS), "{end} bytes of {head}");
    }

    let again = written(&request);
    let (same, head, len) = outside::plain(&again, HEADERS).expect("plain when it is written again");
    assert_eq!((same.method(), same.uri(), same.headers()), (request.method(), request.uri(), request.headers()));
    assert_eq!((head, len), (again.len(), body));
}

/// Proxies that are trusted.
const TRUSTED: [&str; 3] = ["127.0.0.1/32", "10.0.0.0/8", "2001:db8:9::/48"];

/// A first byte that says who the peer is, and then a value of the header on each line.
pub(crate) fn addresses() -> Vec<Vec<u8>> {
    [
        "1203.0.113.5, 198.51.100.1, 10.1.2.3",
        "1203.0.113.5\n198.51.100.1:80 , [2001:db8:9::7]:443",
        "12001:db8::1, unknown, ::ffff:10.0.0.9",
        "0198.51.100.1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Whether a name is an address's, with or without a port.
fn is_of(name: &[u8], address: IpAddr) -> bool {
    let Ok(text) = std::str::from_utf8(name).map(str::trim) else { return false };
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().is_ok_and(|own| own == address)
        || text.parse::<SocketAddr>().is_ok_and(|place| place.ip() == address)
}

/// A stranger decides nothing. A trusted proxy's word counts: whoever it names is named there, and what stands further left
/// changes nothing.
pub(crate) fn visitor(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let peer = if first % 2 == 1 { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([192, 0, 2, 7]) };
    let trusted: Vec<IpNet> = TRUSTED.iter().filter_map(|network| network.parse().ok()).collect();
    let proxies = |address: IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    let lines = rest.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let values: Vec<HeaderValue> = lines.take(HEADERS).collect();
    let of = |values: &[HeaderValue]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.clone());
        }
        visitor_of(peer, &trusted, &headers)
    };
    let found = of(&values);
    if !proxies(peer) {
        assert_eq!(found, Some(peer), "a stranger was believed");
        return;
    }
    let mut named = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    match found {
        None => assert!(named.all(|name| name.trim_ascii().is_empty()), "somebody was named"),
        Some(address) => assert!(address == peer || named.any(|name| is_of(name, address)), "{address}"),
    }
    if found.is_some_and(|address| !proxies(address)) {
        let more: Vec<_> = [HeaderValue::from_static("203.0.113.99")].into_iter().chain(values).collect();
        assert_eq!(of(&more), found, "somebody wrote further left");
    }
}

/// Answers with what it was asked.
#[derive(Clone)]
struct Echo;

impl Answers for Echo {
    type Known = Infallible;

    async fn answer_known(&self, known: Infallible, _: Bytes, _: Option<Network>) -> Said {
        match known {}
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version).into_bytes();
        for (name, value) in &parts.headers {
            text.extend(format!("{name}: {value:?}\n").into_bytes());
        }
        let whole = to_bytes(body, 2 * BODY).await;
        text.extend_from_slice(whole.as_deref().unwrap_or(b"no whole body"));
        let mut response = Response::new(Body::from(text));
        // Neither may have a body.
        if [Method::HEAD, Method::CONNECT].contains(&parts.method) {
            response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        response
    }

    fn awaits(&self, head: &Request<()>) -> bool {
        head.uri().path() != "/refused"
    }
}

/// Lets everything else go on until it waits: nothing here waits for a clock or a network.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What is answered, without what may differ: the time, and who says that the connection ends.
async fn said(pieces: &[&[u8]], by_hyper: bool) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let (mut near, far) = duplex(1 << 20);
    let server = tokio::spawn(converse(Echo, Listener::from(socket), far, [192, 0, 2, 1].into(), by_hyper));
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        if near.write_all(piece).await.is_err() {
            break;
        }
        settle().await;
    }
    let mut said = Vec::with_capacity(1 << 16);
    loop {
        tokio::select! {
            biased;
            more = near.read_buf(&mut said) => if !matches!(more, Ok(1..)) { break },
            () = std::future::ready(()) => break,
        }
        settle().await;
    }
    server.abort();
    let text = String::from_utf8_lossy(&said);
    let told = text.split('\n').filter(|line| !line.starts_with("date: ") && !line.starts_with("connection: "));
    told.collect::<Vec<_>>().join("\n")
}

/// The request that ends a connection, so that whatever came before it is judged.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Conversations in two pieces; the first byte says where they are cut.
pub(crate) fn conversations() -> Vec<Vec<u8>> {
    let all = [format!("{POST}{GET}{POST}"), format!("{GET}{CHUNKED}{GET}"), format!("{POST}{EXPECTS}")];
    all.iter().flat_map(|text| [0, 100].map(|cut| [&[cut][..], text.as_bytes()].concat())).collect()
}

/// Two servers that read one connection differently are how requests are smuggled: what is answered here is what hyper alone
/// would have answered.
pub(crate) fn conversation(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let (one, other) = bytes.split_at(usize::from(*cut) * bytes.len() / 256);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let [here, hyper] = [false, true].map(|by_hyper| runtime.block_on(said(&[one, other, LAST], by_hyper)));
    assert_eq!(here, hyper);
}
