//! What the device keeps, and the ledger's words.

use gloaming_policy::{Policy, Score};
use gloaming_privacy::DeviceAccountant;
use gloaming_signal::cbor::{Bytes, Cbor, Error, Reader, Writer};
use gloaming_signal::cbor_record;

/// Lines of the ledger kept on the device; the oldest goes first.
const LEDGER: usize = 200;

/// What a line of the ledger says in words, as it was when it was sent: the policy that it was said under may be gone when a
/// person reads it, and another may call the same number something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Words {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) purpose: String,
    /// Price, millionths.
    pub(crate) micro: u64,
}

cbor_record!(Words { name, label, purpose, micro });

/// Longest word that is kept, bytes: two hundred lines of them fit what may be kept of a site.
const WORD: usize = 64;

impl Words {
    /// Of a cell of a policy's metric; empty where it has none.
    pub(crate) fn of(policy: &Policy, metric: u32, cell: u32) -> Self {
        let Some(found) = policy.metric(metric) else { return Self::default() };
        let purpose = policy.purposes.get(found.purpose as usize).map_or("", |purpose| &purpose.id);
        let label = if found.sum_max().is_some() { None } else { found.label(cell) };
        Self {
            name: shortened(&found.name),
            label: shortened(&label.unwrap_or_default()),
            purpose: shortened(purpose),
            micro: found.rho.micro(),
        }
    }
}

fn shortened(text: &str) -> String {
    let end = (0..=WORD.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

/// A line of the ledger: something that left this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at_ms: u64,
    pub(crate) metric: u32,
    pub(crate) window: u64,
    pub(crate) cell: u32,
    pub(crate) value: u32,
    pub(crate) words: Words,
}

/// A line as it is stored: words that many lines share are stored once.
struct Stored {
    at_ms: u64,
    metric: u32,
    window: u64,
    cell: u32,
    value: u32,
    words: u32,
}

cbor_record!(Stored { at_ms, metric, window, cell, value, words });

/// A line of form 4, which had no words.
struct Wordless {
    at_ms: u64,
    metric: u32,
    window: u64,
    cell: u32,
    value: u32,
}

cbor_record!(Wordless { at_ms, metric, window, cell, value });

fn encode_ledger(lines: &[Line], writer: &mut Writer) {
    let mut all: Vec<&Words> = lines.iter().map(|line| &line.words).collect();
    all.sort_unstable();
    all.dedup();
    let stored = lines.iter().map(|line| {
        let Line { at_ms, metric, window, cell, value, .. } = *line;
        // Among all of them it is.
        let words = all.binary_search(&&line.words).unwrap_or(0) as u32;
        Stored { at_ms, metric, window, cell, value, words }
    });
    let stored: Vec<Stored> = stored.collect();
    all.into_iter().cloned().collect::<Vec<_>>().encode(writer);
    stored.encode(writer);
}

fn decode_ledger(reader: &mut Reader<'_>) -> Result<Vec<Line>, Error> {
    let (all, stored): (Vec<Words>, Vec<Stored>) = (Cbor::decode(reader)?, Cbor::decode(reader)?);
    let line = |Stored { at_ms, metric, window, cell, value, words }| {
        let words = all.get(words as usize).cloned()?;
        Some(Line { at_ms, metric, window, cell, value, words })
    };
    stored.into_iter().map(line).collect::<Option<_>>().ok_or_else(|| reader.limit())
}

/// What models made of one session, and which arms it met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// The session's start, ms.
    pub(crate) session: u64,
    /// By model.
    pub(crate) scores: Vec<Score>,
    /// By experiment; `NONE` where it met none.
    pub(crate) arms: Vec<u32>,
}

cbor_record!(Made { session, scores, arms });

/// What is kept between pages.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) policy_hash: [u8; 32],
    pub(crate) tracker: Bytes,
    pub(crate) account: DeviceAccountant,
    /// Session (its start) whose contributions were sent, and the metrics sent for it.
    pub(crate) sent_session: u64,
    pub(crate) sent_metrics: Vec<u32>,
    pub(crate) ledger: Vec<Line>,
    /// The running session's last.
    pub(crate) made: Vec<Made>,
    /// What arms follow from, where there are any.
    pub(crate) lot: Option<[u8; 32]>,
}

impl Cbor for State {
    fn encode(&self, writer: &mut Writer) {
        writer.list(10);
        5u8.encode(writer);
        self.policy_hash.encode(writer);
        self.tracker.encode(writer);
        self.account.encode(writer);
        self.sent_session.encode(writer);
        self.sent_metrics.encode(writer);
        encode_ledger(&self.ledger, writer);
        self.made.encode(writer);
        self.lot.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        // Form 4 had no words.
        let words = reader.record_or(10)?;
        if u8::decode(reader)? != if words { 5 } else { 4 } {
            return Err(reader.limit());
        }
        let state = Self {
            policy_hash: Cbor::decode(reader)?,
            tracker: Cbor::decode(reader)?,
            account: Cbor::decode(reader)?,
            sent_session: Cbor::decode(reader)?,
            sent_metrics: Cbor::decode(reader)?,
            ledger: if words {
                decode_ledger(reader)?
            } else {
                let before: Vec<Wordless> = Cbor::decode(reader)?;
                let line = |Wordless { at_ms, metric, window, cell, value }| Line {
                    at_ms,
                    metric,
                    window,
                    cell,
                    value,
                    words: Words::default(),
                };
                before.into_iter().map(line).collect()
            },
            made: Cbor::decode(reader)?,
            lot: Cbor::decode(reader)?,
        };
        reader.leave();
        Ok(state)
    }
}

pub(crate) fn joined(old: &[Line], new: &[Line]) -> Vec<Line> {
    let all = old.iter().chain(new);
    let surplus = (old.len() + new.len()).saturating_sub(LEDGER);
    all.skip(surplus).cloned().collect()
}

/// A JSON string; labels are the policy author's and may hold anything.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            control if (control as u32) < 0x20 => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
