//! Request smuggling, at the door: whoever is in front may read a request differently, and here it is one, or none.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use gloaming_http::{Limits, Listener, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

mod pairs;
use pairs::{answers, pairs};

#[tokio::test]
async fn a_request_that_can_be_read_as_two_is_answered_once_at_most() {
    let reached = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&reached);
    // The body is read, as a handler does that wants it; what cannot be read is refused.
    let router = Router::new().fallback(move |request: Request| async move {
        let (head, body) = request.into_parts();
        record.lock().unwrap().push(head.uri.path().to_owned());
        match axum::body::to_bytes(body, 1 << 20).await {
            Ok(body) => (StatusCode::OK, body.len().to_string()),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        }
    });
    // A connection that is kept is ended by its time: what was sent after the answer would have been answered by then.
    let limits = Limits { header: Duration::from_millis(200), request: Duration::from_secs(2), ..Limits::default() };
    let listener = Listener::from(TcpListener::bind("127.0.0.1:0").await.unwrap()).limits(limits);
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, std::future::pending()));

    let (mut wrong, mut refused, mut answered) = (Vec::new(), 0, 0);
    for (name, bytes) in pairs() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut back = Vec::new();
        // A reset takes the place of an end where bytes were left unread.
        let end = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut back)).await;
        let paths = std::mem::take(&mut *reached.lock().unwrap());
        // What holds the connection until its time is over may be told so, and nothing else may come second.
        let late = String::from_utf8_lossy(&back).matches("HTTP/1.1 408").count();
        let (count, first) = (answers(&back) - late, String::from_utf8_lossy(&back[..back.len().min(12)]).into_owned());
        println!("{name:?}: {first}");
        if end.is_err() || count > 1 || paths.len() > 1 || paths.iter().any(|path| path != "/g/pair") {
            wrong.push(format!("{name:?} reached {paths:?}: {}", String::from_utf8_lossy(&back)));
        }
        match first.get(9..) {
            Some("200") => answered += 1,
            _ => refused += 1,
        }
    }
    println!("{answered} answered once, {refused} refused");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(answered >= 10 && refused >= 10, "both kinds are among them");
}
