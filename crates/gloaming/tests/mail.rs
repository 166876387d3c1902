//! A centre that writes to people: over TLS, to a mail server that somebody else wrote.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use gloaming_http::Client;
use gloaming_policy::author::date_of;
use serde_json::Value;

mod support;
use support::{Service, Site, certify, ports, until_ready};

/// A server that does not know one of the people, as after somebody left.
const HANDLER: &str = r#"
from aiosmtpd.handlers import Debugging

class Somebody(Debugging):
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"
"#;

/// Lines that a server prints of what it was sent, as they come.
fn lines(server: &mut Service) -> Receiver<String> {
    let (sender, receiver) = channel();
    let printed = BufReader::new(server.0.stdout.take().unwrap());
    thread::spawn(move || printed.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

/// A whole message, or what came of one.
fn message(printed: &Receiver<String>, within: Duration) -> String {
    let (mut text, until) = (String::new(), Instant::now() + within);
    while let Ok(line) = printed.recv_timeout(until.saturating_duration_since(Instant::now())) {
        text.push_str(&line);
        text.push('\n');
        if line.contains("END MESSAGE") {
            break;
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_for_somebody_is_written_to_them_once() {
    let Some(python) = env::var_os("GLOAMING_KIT_PYTHON") else {
        println!("skipped: GLOAMING_KIT_PYTHON names no Python with aiosmtpd; `cargo xtask test` makes one");
        return;
    };
    let mut site = Site::new();
    let folder = site.folder.0.path().to_owned();
    certify(&folder);
    let [port] = ports();
    let at = format!("127.0.0.1:{port}");
    let mut serve = Command::new(python);
    serve.args(["-u", "-m", "aiosmtpd", "-n", "-l", &at, "-c", "handler.Somebody", "stdout"]);
    fs::write(folder.join("handler.py"), HANDLER).unwrap();
    serve.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
    serve.args(["--smtpscert", "fullchain.pem", "--smtpskey", "privkey.pem"]).current_dir(&folder);
    let mut server = Service(serve.stdout(Stdio::piped()).spawn().unwrap());
    let printed = lines(&mut server);
    while std::net::TcpStream::connect(&at).is_err() {
        assert!(server.0.try_wait().unwrap().is_none(), "the mail server ended");
        thread::sleep(Duration::from_millis(50));
    }

    // The policy ends in a week, which is what calls for somebody.
    let text = fs::read_to_string(folder.join("policy.toml")).unwrap();
    let expires = text.lines().find(|line| line.starts_with("expires")).unwrap().to_owned();
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    fs::remove_file(folder.join("policy.signed")).unwrap();
    site.sign(&expires, &format!("expires = \"{}\"", date_of(today + 7)));
    let mail = format!(
        "[central]\nsmtp = \"smtps://{at}\"\nsmtp_ca = \"fullchain.pem\"\nmail_from = \"Gloaming <gloaming@shop.example>\"\n\
         mail_to = [\"gone@shop.example\", \"ops@shop.example\", \"owner@shop.example\"]\nlink = \"https://centre.example\"\n"
    );
    site.folder.edit("gloaming.toml", "[central]\n", &mail);
    let centre = site.start("central");
    until_ready(&site.central).await;
    let told = message(&printed, Duration::from_secs(60));
    let second = message(&printed, Duration::from_secs(10));
    assert!(second.contains("To: owner@shop.example") && second.contains("in 7 days"), "{second}");
    for words in [
        "From: Gloaming <gloaming@shop.example>",
        "To: ops@shop.example",
        "Message-ID: <",
        "Subject: blog.example: expiry",
        "Auto-Submitted: auto-generated",
        "the policy expires in 7 days",
        "https://centre.example",
    ] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    // A centre that ends before it has written down that it told somebody would tell them again.
    let (client, alerts) =
        (Client::new(Duration::from_secs(5)), format!("{}/api/v1/sites/blog.example/alerts", site.central));
    let told = async || {
        let (_, _, body) = client.get(&alerts).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()[0]["told_ms"].is_u64()
    };
    for _ in 0..100 {
        if told().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told().await);
    assert!(centre.terminate());
    // Whoever starts it again is not told again.
    let centre = site.start("central");
    until_ready(&site.central).await;
    let again = message(&printed, Duration::from_secs(3));
    assert!(!again.contains("Subject"), "{again}");
    assert!(centre.terminate());
}
