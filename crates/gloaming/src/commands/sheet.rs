//! Pages for people, made of headings, texts and tables: as Markdown, or as HTML that needs nothing else.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::files;

/// A part of a page.
pub(super) enum Block<'a> {
    Heading(String),
    Text(String),
    Table(Vec<&'a str>, Vec<Vec<String>>),
}

/// Writes a page, by the ending of `out`.
pub(super) fn write(title: &str, blocks: &[Block<'_>], out: &Path) -> Result<()> {
    let text = match out.extension().and_then(|ending| ending.to_str()) {
        Some("html") => html(title, blocks),
        Some("md") => markdown(title, blocks),
        _ => bail!("{}: it is written as .md or as .html", out.display()),
    };
    files::replace(out, text.as_bytes()).with_context(|| out.display().to_string())
}

fn markdown(title: &str, blocks: &[Block<'_>]) -> String {
    let safe = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = format!("# {title}\n");
    for block in blocks {
        match block {
            Block::Heading(text) => drop(write!(out, "\n## {text}\n")),
            Block::Text(text) => drop(write!(out, "\n{text}\n")),
            Block::Table(heads, rows) => {
                out.push('\n');
                out.push_str(&line(heads.iter().map(|head| safe(head)).collect()));
                let _ = writeln!(out, "|{}", "---|".repeat(heads.len()));
                rows.iter().for_each(|row| out.push_str(&line(row.iter().map(|cell| safe(cell)).collect())));
            }
        }
    }
    out
}

const STYLE: &str = "body{font:16px/1.6 system-ui,sans-serif;color:#22272b;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1.2rem}h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #d5dade}.short,th{white-space:nowrap}.long{overflow-wrap:anywhere}th{font-size:.88rem;color:#51595f}";

/// Dates and numbers stay on one line; hashes may be broken, or they would make a table wider than a phone.
fn class(cell: &str) -> &'static str {
    if cell.len() <= 12 {
        " class=\"short\""
    } else if cell.split_whitespace().any(|word| word.len() > 24) {
        " class=\"long\""
    } else {
        ""
    }
}

fn html(title: &str, blocks: &[Block<'_>]) -> String {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = safe(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for block in blocks {
        match block {
            Block::Heading(text) => drop(writeln!(out, "<h2>{}</h2>", safe(text))),
            Block::Text(text) => drop(writeln!(out, "<p>{}</p>", safe(text))),
            Block::Table(heads, rows) => {
                let head: String = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", safe(head))).collect();
                let _ = writeln!(out, "<table>\n<thead><tr>{head}</tr></thead>\n<tbody>");
                for row in rows {
                    let cells: String =
                        row.iter().map(|cell| format!("<td{}>{}</td>", class(cell), safe(cell))).collect();
                    let _ = writeln!(out, "<tr>{cells}</tr>");
                }
                out.push_str("</tbody>\n</table>\n");
            }
        }
    }
    out + "</body>\n</html>\n"
}
