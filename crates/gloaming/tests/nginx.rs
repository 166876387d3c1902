//! The recipe in `docs/recipes/nginx.conf`, run: what a visitor's browser gets through it, and whom the edge sees.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use gloaming_http::serve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

#[path = "../../gloaming-http/tests/pairs/mod.rs"]
mod pairs;
#[path = "support/nginx.rs"]
mod proxy;
mod support;
use pairs::{answers, pairs};
use proxy::nginx;
use support::{Site, body, ports, until_ready};

/// Asks from an address of this machine; head and body of the answer.
async fn ask(source: &str, listen: &str, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(listen.parse().unwrap()).await.unwrap();
    let head = format!("{head}\r\nhost: blog.example\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // Who is told that it is too much may be hung up on before all of it went.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase(), answer[end + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nginx_recipe_serves_first_party_and_names_the_visitor() {
    let site = Site::new();
    site.folder.edit("gloaming.toml", "# requests_per_second = 50", "requests_per_second = 1");
    let _edge = site.start("edge");
    until_ready(&site.admin).await;
    let [port] = ports();
    let listen = format!("127.0.0.1:{port}");
    let folder = tempfile::tempdir().unwrap();
    let _nginx = nginx(folder.path(), &listen, site.listen.trim_start_matches("http://"), "", |recipe| recipe);

    // Files as the edge serves them: compressed, with an ETag that saves the second load.
    let (head, _) = ask("127.0.0.2", &listen, "GET /g/gloaming.js HTTP/1.1\r\naccept-encoding: br", b"").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-encoding: br"), "{head}");
    assert!(head.contains("cache-control:") && head.contains("referrer-policy: no-referrer"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let again = format!("GET /g/gloaming.js HTTP/1.1\r\naccept-encoding: br\r\nif-none-match: {tag}");
    assert!(ask("127.0.0.2", &listen, &again, b"").await.0.starts_with("http/1.1 304"));

    // A page's submission, with the cookies that browsers add.
    let window = site.window().await;
    let post = "POST /g/v1/contributions HTTP/1.1\r\norigin: https://blog.example\r\ncookie: session=secret\r\ncontent-type: application/cbor";
    let (head, answer) = ask("127.0.0.2", &listen, post, &body(&site.policy, window, 0..3)).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(String::from_utf8_lossy(&answer).contains("\"accepted\":3"), "{}", String::from_utf8_lossy(&answer));
    assert!(ask("127.0.0.2", &listen, post, &[0; 30_000]).await.0.starts_with("http/1.1 413"));

    // The edge tells nginx's visitors apart, whatever they claim, and holds one of them to a rate.
    let (claim, mut claimed) = ("GET /g/gloaming.js HTTP/1.1\r\nx-forwarded-for: 198.51.100.7", Vec::new());
    for _ in 0..20 {
        claimed.push(ask("127.0.0.3", &listen, claim, b"").await.0[9..12].to_owned());
    }
    assert!(claimed.iter().filter(|status| *status == "429").count() >= 5, "{claimed:?}");
    assert!(ask("127.0.0.4", &listen, "GET /g/gloaming.js HTTP/1.1", b"").await.0.starts_with("http/1.1 200"));

    // One network has its share of a count, and another one its own.
    let count = async |source: &str, ids: std::ops::Range<u64>| {
        let (_, answer) = ask(source, &listen, post, &body(&site.policy, window, ids)).await;
        String::from_utf8_lossy(&answer).matches("\"accepted\"").count() - 1
    };
    assert_eq!(count("127.0.5.1", 1_000..1_040).await, 20);
    assert_eq!(count("127.0.5.9", 2_000..2_040).await, 0, "the same network");
    assert_eq!(count("127.0.6.1", 3_000..3_040).await, 20);
}

/// What nginx forwarded, by its own log, and what the listener behind it got.
struct Pair {
    log: std::path::PathBuf,
    seen: usize,
    reached: Arc<Mutex<Vec<String>>>,
}

impl Pair {
    /// Lines of the log since the last call: what was asked, and whether it was forwarded. A marker shows that all of
    /// them are there.
    async fn fronted(&mut self, listen: &str, marker: &str) -> Vec<(String, bool)> {
        let (head, _) = ask("127.0.0.2", listen, &format!("GET {marker} HTTP/1.1"), b"").await;
        assert!(head.starts_with("http/1.1 200"), "an honest visitor after it: {head}");
        let began = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log).unwrap();
            let lines: Vec<_> = text.lines().skip(self.seen).map(str::to_owned).collect();
            if let Some(end) = lines.iter().position(|line| line.contains(marker)) {
                self.seen += lines.len();
                assert_eq!(end + 1, lines.len(), "the marker is the last");
                let lines = lines[..end].iter().map(|line| {
                    let (asked, upstream) = line.rsplit_once(" from ").unwrap();
                    (asked.to_owned(), upstream != "-")
                });
                return lines.collect();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "nginx does not log {marker}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Pairs of requests in one, through nginx: what it forwards is what arrives, one for one, nobody gets more answers than
/// that, and the next visitor on the same connections behind it gets his own.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_through_nginx() {
    let reached = Arc::<Mutex<Vec<String>>>::default();
    let record = Arc::clone(&reached);
    let router = Router::new().fallback(move |request: Request| async move {
        let (head, body) = request.into_parts();
        record.lock().unwrap().push(format!("{} {}", head.method, head.uri.path()));
        match axum::body::to_bytes(body, 1 << 20).await {
            Ok(_) => (StatusCode::OK, head.uri.path().to_owned()),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        }
    });
    let back = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = back.local_addr().unwrap().to_string();
    tokio::spawn(serve(back, router, std::future::pending()));
    let [port] = ports();
    let (listen, folder) = (format!("127.0.0.1:{port}"), tempfile::tempdir().unwrap());
    let log = folder.path().join("pairs.log");
    let more = format!(
        "log_format pairs '$request_method $uri from $upstream_addr';\naccess_log {} pairs;\nclient_header_timeout 500ms;\nclient_body_timeout 500ms;\nkeepalive_timeout 200ms;\n",
        log.display()
    );
    let _nginx = nginx(folder.path(), &listen, &edge, &more, |recipe| recipe.replace("access_log off;", ""));
    let mut pair = Pair { log, seen: 0, reached };
    pair.fronted(&listen, "/g/begin").await;

    let (mut wrong, mut forwarded, mut refused) = (Vec::new(), 0, 0);
    for (number, (name, bytes)) in pairs().into_iter().enumerate() {
        pair.reached.lock().unwrap().clear();
        let mut stream = tokio::net::TcpStream::connect(&listen).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        // nginx writes its line when the connection is gone.
        drop(stream);
        let marker = format!("/g/honest-{number}");
        let fronted = pair.fronted(&listen, &marker).await;
        let mut behind = pair.reached.lock().unwrap().clone();
        let last = behind.pop();
        let sent: Vec<_> = fronted.iter().filter(|(_, forwarded)| *forwarded).map(|(asked, _)| asked.clone()).collect();
        let said = String::from_utf8_lossy(&answer).into_owned();
        println!("{name:?}: {}, forwarded {sent:?}", said.get(..12).unwrap_or("hung up"));
        // nginx takes a bare line feed for the end of a line in chunks as well, and what comes after them for another
        // request of the same visitor, as whoever is behind it then does.
        let most = if name.contains("bare line feed") { 2 } else { 1 };
        let smuggled = behind.iter().any(|asked| asked.contains("smuggled"));
        let good = end.is_ok()
            && last == Some(format!("GET {marker}"))
            && behind == sent
            && sent.len() <= most
            && answers(&answer) <= fronted.len()
            && (!smuggled || sent.len() == 2);
        if !good {
            wrong.push(format!("{name:?}: nginx saw {fronted:?}, behind it {behind:?} then {last:?}: {said}"));
        }
        if sent.is_empty() { refused += 1 } else { forwarded += 1 }
    }
    println!("{forwarded} forwarded once, {refused} refused");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(forwarded >= 5 && refused >= 10, "both kinds are among them");
}
