//! Requests of HTTP/1.1 that leave nothing to interpret, which nearly all are, and answers to them.
//!
//! A request is plain when it is a GET without a body or a POST with one length, asks for nothing but its answer
//! (no upgrade, no `Expect`, no transfer coding, no end of the connection) and is well formed to the letter. Reading one
//! takes a pass of httparse over its head. Whatever else comes is not judged here: it is handed, byte for byte, to hyper,
//! so that there is one place where odd requests are understood or refused.

use std::cell::RefCell;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, response};

/// Headers of a plain request at most.
const HEADERS: usize = 64;
/// Bytes of a plain request's head at most, and of its body: the largest submission as base64 fits.
pub(crate) const HEAD: usize = 16 << 10;
const BODY: usize = 32 << 10;

/// What stands at the beginning of what has arrived.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// Less than a head.
    Part,
    /// A plain request: what was made of it, its head in bytes, and its body in bytes, which need not be there yet.
    Plain(T, usize, usize),
    /// Something else.
    Other,
}

/// The head of a plain request, as it lies on its connection.
pub struct Head<'b> {
    method: Method,
    path: &'b str,
    headers: &'b [httparse::Header<'b>],
}

impl<'b> Head<'b> {
    /// `GET` or `POST`.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query, as they were sent.
    #[must_use]
    pub fn path(&self) -> &'b str {
        self.path
    }

    /// What the headers of a name say, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// As whoever answers requests in general knows them.
    pub(crate) fn request(&self) -> Option<Request<()>> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for header in self.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            headers.try_append(name, HeaderValue::from_bytes(header.value).ok()?).ok()?;
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::try_from(self.path).ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// Reads what has arrived on a connection. `most`: headers that a request may have; `take` makes of a plain one's head
/// what is kept of it, or finds that it is not so plain.
pub(crate) fn read<T>(arrived: &[u8], most: usize, take: impl FnOnce(&Head<'_>) -> Option<T>) -> Found<T> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let head = match parsed.parse_with_uninit_headers(arrived, &mut room) {
        Ok(httparse::Status::Complete(head)) if parsed.headers.len() <= most => head,
        Ok(httparse::Status::Partial) if arrived.len() < HEAD => return Found::Part,
        _ => return Found::Other,
    };
    match plain(&parsed).and_then(|(plain, body)| Some((take(&plain)?, body))) {
        Some((taken, body)) => Found::Plain(taken, head, body),
        None => Found::Other,
    }
}

/// Headers that leave something to interpret.
const ODD: [HeaderName; 5] = [TRANSFER_ENCODING, EXPECT, UPGRADE, TE, TRAILER];

fn plain<'b>(parsed: &'b httparse::Request<'_, 'b>) -> Option<(Head<'b>, usize)> {
    let method = match parsed.method? {
        "GET" => Method::GET,
        "POST" => Method::POST,
        _ => return None,
    };
    let path = parsed.path.filter(|path| path.starts_with('/'))?;
    let (mut length, mut hosts) = (None, 0);
    for header in &*parsed.headers {
        let is = |name: &HeaderName| header.name.eq_ignore_ascii_case(name.as_str());
        if ODD.iter().any(is) || (is(&CONNECTION) && !header.value.eq_ignore_ascii_case(b"keep-alive")) {
            return None;
        }
        hosts += u32::from(is(&HOST));
        // Said twice, it would have to be decided which one is meant.
        if is(&CONTENT_LENGTH) && length.replace(length_of(header.value)?).is_some() {
            return None;
        }
    }
    let body = match length {
        None if method == Method::GET => 0,
        Some(length) if method == Method::POST => length,
        _ => return None,
    };
    if parsed.version != Some(1) || body > BODY || hosts != 1 {
        return None;
    }
    Some((Head { method, path, headers: &*parsed.headers }, body))
}

/// Digits and nothing else.
fn length_of(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

/// Whether answers of a status have a body, and so a length.
pub(crate) fn has_body(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// An answer that is written by whoever gives it, as it is sent.
pub struct Brief {
    /// Its status line and its headers, each with its line's end, but for length, date and what becomes of the connection.
    pub head: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

fn put(answer: &mut Vec<u8>, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| answer.extend_from_slice(piece));
}

/// Ends the head of an answer; `last` says that the connection ends with it, and an answer without a length has no body.
fn finish(answer: &mut Vec<u8>, length: Option<usize>, last: bool) {
    if last {
        put(answer, &[b"connection: close\r\n"]);
    }
    if let Some(length) = length {
        // Into memory it cannot fail.
        let _ = write!(answer, "content-length: {length}\r\n");
    }
    dated(SystemTime::now(), |date| put(answer, &[b"date: ", date.as_bytes(), b"\r\n\r\n"]));
}

/// Writes an answer that is written but for its end.
pub(crate) fn write_brief(answer: &mut Vec<u8>, brief: &Brief, last: bool) {
    answer.extend_from_slice(&brief.head);
    finish(answer, Some(brief.body.len()), last);
    answer.extend_from_slice(&brief.body);
}

/// Writes the head of an answer; `last` says that the connection ends with it.
pub(crate) fn write(answer: &mut Vec<u8>, parts: &response::Parts, length: usize, last: bool) {
    let reason = parts.status.canonical_reason().unwrap_or("");
    put(answer, &[b"HTTP/1.1 ", parts.status.as_str().as_bytes(), b" ", reason.as_bytes(), b"\r\n"]);
    for (name, value) in &parts.headers {
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, DATE].contains(name) {
            put(answer, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    finish(answer, has_body(parts.status).then_some(length), last);
}

/// Gives the time as HTTP writes it: written once a second on each thread.
fn dated(now: SystemTime, give: impl FnOnce(&str)) {
    thread_local! {
        static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    WRITTEN.with_borrow_mut(|(written, date)| {
        if *written != second || date.is_empty() {
            (*written, *date) = (second, httpdate::fmt_http_date(now));
        }
        give(date);
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use http::Response;

    use super::*;

    fn found(text: &str) -> Found<Request<()>> {
        read(text.as_bytes(), 64, |head| head.request())
    }

    const POST: &str = "POST /a?b HTTP/1.1\r\nHost: x\r\nOrigin: https://y\r\nContent-Length: 5\r\n";

    #[test]
    fn a_plain_request_is_what_its_bytes_say() {
        let text = format!("{POST}Connection: Keep-Alive\r\n\r\nhello, and the next");
        let Found::Plain(request, head, body) = found(&text) else { panic!("not plain") };
        assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, "/a?b".to_owned()));
        assert_eq!((request.headers()["origin"].as_bytes(), request.headers().len()), (&b"https://y"[..], 4));
        assert_eq!((&text[head..head + body], request.version()), ("hello", http::Version::HTTP_11));
        let Found::Plain(_, head, body) = found("GET / HTTP/1.1\r\nhost: x\r\n\r\n") else { panic!("not plain") };
        assert_eq!((head, body), (27, 0));
    }

    #[test]
    fn whatever_arrived_so_far_is_a_part_until_the_head_is_whole() {
        let text = format!("{POST}\r\n");
        for end in 0..text.len() {
            assert!(matches!(found(&text[..end]), Found::Part), "{end}");
        }
        assert!(matches!(found(&text), Found::Plain(..)));
        let long = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}", "b".repeat(HEAD));
        assert!(matches!(found(&long), Found::Other), "a head without end is nothing to wait for");
    }

    /// Two servers that read one of these differently are how requests are smuggled.
    #[test]
    fn what_could_be_read_in_two_ways_is_not_read_here() {
        let with = |line: &str| format!("{POST}{line}\r\n\r\nhello");
        let odd = [
            with("Transfer-Encoding: chunked"),
            with("Transfer-Encoding:\x0bchunked"),
            with("transfer-encoding: identity"),
            with("Content-Length: 5"),
            with("Content-Length: 6"),
            with("Host: z"),
            with("Content-Length : 5"),
            with("Expect: 100-continue"),
            with("Upgrade: h2c"),
            with("Connection: close"),
            with("Connection: keep-alive, content-length"),
            with("TE: trailers"),
            with("Trailer: a"),
            with("a: b\r\n c"),
            with("a b: c"),
            with("a: b\rc"),
            POST.replace('5', "+5") + "\r\n",
            POST.replace('5', "5, 5") + "\r\n",
            POST.replace('5', "0x5") + "\r\n",
            POST.replace('5', "") + "\r\n",
            POST.replace('5', "32769") + "\r\n",
            POST.replace('5', "99999999999999999999") + "\r\n",
            POST.replace("POST", "PUT") + "\r\n",
            POST.replace("POST", "GET") + "\r\n",
            POST.replace("1.1", "1.0") + "\r\n",
            POST.replace("Host: x\r\n", "") + "\r\n",
            POST.replace("/a?b", "http://x/a") + "\r\n",
            POST.replace("/a?b", "*") + "\r\n",
            POST.replace("/a?b", "/a b") + "\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            "\x16\x03\x01\x02".into(),
        ];
        for text in odd {
            assert!(matches!(found(&text), Found::Other), "{text:?}");
        }
        let many = |count: usize| format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(count));
        let eight = |text: &str| read(text.as_bytes(), 8, |head| head.request());
        assert!(matches!(eight(&many(7)), Found::Plain(..)));
        assert!(matches!(eight(&many(8)), Found::Other));
        assert!(matches!(found(&many(64)), Found::Other));
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_when_it_was_given() {
        let (mut parts, ()) = Response::builder()
            .status(429)
            .header("retry-after", "1")
            .header("connection", "upgrade")
            .header("content-length", "7")
            .body(())
            .unwrap()
            .into_parts();
        let mut answer = Vec::new();
        write(&mut answer, &parts, 5, true);
        let text = String::from_utf8(answer).unwrap();
        let (before, rest) = text.split_once("date: ").unwrap();
        assert_eq!(
            before,
            "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 5\r\n"
        );
        let date = rest.strip_suffix("\r\n\r\n").unwrap();
        assert!(httpdate::parse_http_date(date).unwrap() <= SystemTime::now(), "{text}");

        for (status, length) in [(204, false), (304, false), (200, true)] {
            parts.status = StatusCode::from_u16(status).unwrap();
            let mut answer = Vec::new();
            write(&mut answer, &parts, 0, false);
            let text = String::from_utf8(answer).unwrap();
            assert_eq!(text.contains("content-length: 0\r\n"), length, "{text}");
            assert!(!text.contains("connection"), "{text}");
        }
    }

    #[test]
    fn a_date_is_written_anew_each_second() {
        let at = |seconds| {
            let mut date = String::new();
            dated(UNIX_EPOCH + Duration::from_secs(seconds), |text| date = text.into());
            date
        };
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
