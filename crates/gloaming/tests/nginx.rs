//! The recipe in `docs/recipes/nginx.conf`, run: what a visitor's browser gets through it, and whom the edge sees.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

mod support;
use support::{Site, body, ports, until_ready};

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers when it is asked, not when it is killed.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Starts nginx with the recipe as it is, but for the two ports.
fn nginx(folder: &Path, listen: &str, edge: &str) -> Nginx {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let recipe = fs::read_to_string(Path::new(&root).join("../../docs/recipes/nginx.conf")).unwrap();
    assert!(recipe.contains("127.0.0.1:8787") && recipe.contains("127.0.0.1:8080"));
    let recipe = recipe.replace("127.0.0.1:8787", edge).replace("127.0.0.1:8080", listen);
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {at}/{what};\n"))
        .concat();
    // Root's nginx would give its workers to a user who may not write here.
    let user = if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        "user root;\n"
    } else {
        ""
    };
    let config = format!(
        "daemon off;\n{user}worker_processes 1;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n{temporary}{recipe}}}\n"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let child = Command::new(program).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null()).spawn().unwrap();
    let (nginx, began) = (Nginx(child), Instant::now());
    while TcpStream::connect(listen).is_err() {
        let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_secs(20), "nginx did not start: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    nginx
}

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
    let _nginx = nginx(folder.path(), &listen, site.listen.trim_start_matches("http://"));

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
