//! Requests that two readers might take for a different number of requests: each is one request, or none, to whoever reads
//! it rightly (RFC 9112, sections 2.2, 6 and 7.1), and has another one, for `/g/smuggled`, where its body may lie.
#![allow(dead_code)]

/// What is smuggled.
pub(crate) const SMUGGLED: &str = "GET /g/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

/// A request with these header lines, whose body is a last chunk and then what is smuggled. `LENGTH` stands for the length
/// of both, `LAST` for that of the chunk alone.
fn hidden(lines: &str) -> Vec<u8> {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let lines = lines.replace("LENGTH", &body.len().to_string()).replace("LAST", "5");
    format!("POST /g/pair HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n{body}").into_bytes()
}

/// Chunks as they stand here, under a head that announces chunks.
fn chunks(body: &str) -> Vec<u8> {
    format!("POST /g/pair HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes()
}

/// Each with its name.
pub(crate) fn pairs() -> Vec<(String, Vec<u8>)> {
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    // CL.TE and TE.CL: one of the two reads the length, and the other one the chunks.
    for lines in [
        "content-length: LENGTH\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: LENGTH",
        "transfer-encoding: chunked\r\ncontent-length: LAST",
        "content-length: LAST\r\ntransfer-encoding: chunked",
    ] {
        pairs.push((lines.to_owned(), hidden(lines)));
    }
    // TE.TE: chunks, in a way that only one of the two takes for chunks.
    for obfuscated in [
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked-false",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        "transfer-encoding\x0b: chunked",
        " transfer-encoding: chunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: cow, chunked",
        "transfer-encoding:\x0bchunked",
        "transfer-encoding: chunked\0",
        "transfer-encoding:\r\n chunked",
        "x: y\r\n\ttransfer-encoding: chunked",
        "transfer-encoding: chunKed",
        "transfer_encoding: chunked",
        "x: y\ntransfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "transfer-encoding: chunked\nx: y",
    ] {
        let lines = format!("{obfuscated}\r\ncontent-length: LENGTH");
        pairs.push((obfuscated.to_owned(), hidden(&lines)));
        let lines = format!("content-length: LENGTH\r\n{obfuscated}");
        pairs.push((format!("a length, then {obfuscated}"), hidden(&lines)));
    }
    // Lengths: two, or one that is read in two ways.
    for lengths in [
        "content-length: LENGTH\r\ncontent-length: LAST",
        "content-length: LAST\r\ncontent-length: LENGTH",
        "content-length: LENGTH\r\ncontent-length: LENGTH",
        "content-length: LENGTH, LENGTH",
        "content-length: LENGTH, LAST",
        "content-length: +LENGTH",
        "content-length: -LENGTH",
        "content-length: 0xLENGTH",
        "content-length: LENGTH LAST",
        "content-length: \"LENGTH\"",
        "content-length : LENGTH",
        "content-length: 184467440737095516LENGTH",
        "x: y\ncontent-length: LENGTH",
        "content-length: LENGTH\ncontent-length: LAST",
        "x: y\n content-length: LAST\r\ncontent-length: LENGTH",
    ] {
        pairs.push((lengths.to_owned(), hidden(lengths)));
    }
    // Chunks whose ends are read in two ways.
    for (name, body) in [
        ("chunks ended by a bare line feed", format!("5\nabcde\n0\n\n{SMUGGLED}")),
        ("a size ended by a bare line feed", format!("5\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("data ended by a bare line feed", format!("5\r\nabcde\n0\r\n\r\n{SMUGGLED}")),
        ("a size with a sign", format!("+5\r\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("a size with a prefix", format!("0x5\r\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("a size too large", format!("10000000000000005\r\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("data longer than it says", format!("3\r\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("an extension with a bare line feed", format!("5;x\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("an extension with a bare return", format!("5;x\rabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("a size that is none", format!("five\r\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
        ("no size", format!("\r\nabcde\r\n0\r\n\r\n{SMUGGLED}")),
    ] {
        pairs.push((name.to_owned(), chunks(&body)));
    }
    // A body where few look for one, under the older version, and under lines that only a line feed ends.
    let length = SMUGGLED.len();
    for (name, head) in [
        ("a GET with a body", format!("GET /g/pair HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")),
        ("a HEAD with a body", format!("HEAD /g/pair HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")),
        (
            "chunks in HTTP/1.0",
            format!(
                "POST /g/pair HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n"
            ),
        ),
        ("only line feeds", format!("POST /g/pair HTTP/1.1\nhost: x\ncontent-length: {length}\n\n")),
        ("only returns", format!("POST /g/pair HTTP/1.1\rhost: x\rcontent-length: {length}\r\r")),
        ("an empty line first", format!("\r\nPOST /g/pair HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")),
        (
            "a space before the version",
            format!("POST /g/pair HTTP/1.1 \r\nhost: x\r\ncontent-length: {length}\r\n\r\n"),
        ),
    ] {
        pairs.push((name.to_owned(), format!("{head}{SMUGGLED}").into_bytes()));
    }
    pairs
}

/// How many answers begin in what came back.
pub(crate) fn answers(back: &[u8]) -> usize {
    back.windows(7).filter(|some| some == b"HTTP/1.").count()
}
