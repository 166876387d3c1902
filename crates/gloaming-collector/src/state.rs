//! What the device keeps, and the ledger's words.

use gloaming_behavior::NONE;
use gloaming_policy::{Policy, Score};
use gloaming_privacy::DeviceAccountant;
use gloaming_signal::cbor::{self, Bytes, Cbor, Error, Reader, Writer};
use gloaming_signal::cbor_record;

/// Lines of the ledger kept on the device; the oldest goes first.
const LEDGER: usize = 200;

/// What a line of the ledger says in words, as it was when it was sent: the policy that it was said under may be gone when a
/// person reads it, and another may call the same number something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) purpose: String,
    /// Price, millionths.
    pub(crate) micro: u64,
    /// Whether it tells something of a special category (GDPR, Article 9), which goes with the yes to its purpose.
    pub(crate) special: bool,
}

impl Cbor for Words {
    /// Four fields, and a fifth where it is special: what was kept before there was such a word is read as it was.
    fn encode(&self, writer: &mut Writer) {
        writer.list(if self.special { 5 } else { 4 });
        self.name.encode(writer);
        self.label.encode(writer);
        self.purpose.encode(writer);
        self.micro.encode(writer);
        if self.special {
            self.special.encode(writer);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let more = reader.record_or(5)?;
        let mut read = Self {
            name: Cbor::decode(reader)?,
            label: Cbor::decode(reader)?,
            purpose: Cbor::decode(reader)?,
            micro: Cbor::decode(reader)?,
            special: false,
        };
        if more {
            read.special = Cbor::decode(reader)?;
        }
        reader.leave();
        Ok(read)
    }
}

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
            special: policy.is_special(found.purpose),
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
    // Some dozens differ, so that looking through them takes less than sorting would in bytes and time.
    let mut all: Vec<&Words> = Vec::new();
    let mut stored = Vec::with_capacity(lines.len());
    for line in lines {
        let Line { at_ms, metric, window, cell, value, .. } = *line;
        let known = all.iter().position(|words| *words == &line.words);
        let words = known.unwrap_or_else(|| {
            all.push(&line.words);
            all.len() - 1
        });
        stored.push(Stored { at_ms, metric, window, cell, value, words: words as u32 });
    }
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

/// What was known of this device when it first met an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The experiment's name.
    pub(crate) experiment: String,
    /// The bin of it.
    pub(crate) bin: u32,
    /// Among which bins: a hash of the axis.
    pub(crate) of: u64,
}

cbor_record!(Known { experiment, bin, of });

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
    /// What was agreed to.
    pub(crate) purposes: Vec<String>,
    pub(crate) tracker: Bytes,
    pub(crate) account: DeviceAccountant,
    /// Session (its start) whose contributions were sent, and the metrics sent for it.
    pub(crate) sent_session: u64,
    pub(crate) sent_metrics: Vec<u32>,
    pub(crate) ledger: Vec<Line>,
    /// The running session's last.
    pub(crate) made: Vec<Made>,
    /// What was known when experiments were first met.
    pub(crate) known: Vec<Known>,
    /// What arms follow from, where there are any.
    pub(crate) lot: Option<[u8; 32]>,
}

impl Cbor for State {
    fn encode(&self, writer: &mut Writer) {
        writer.list(12);
        5u8.encode(writer);
        self.policy_hash.encode(writer);
        self.purposes.encode(writer);
        self.tracker.encode(writer);
        self.account.encode(writer);
        self.sent_session.encode(writer);
        self.sent_metrics.encode(writer);
        encode_ledger(&self.ledger, writer);
        self.made.encode(writer);
        self.known.encode(writer);
        self.lot.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(12, |reader| {
            if u8::decode(reader)? != 5 {
                return Err(reader.limit());
            }
            Ok(Self {
                policy_hash: Cbor::decode(reader)?,
                purposes: Cbor::decode(reader)?,
                tracker: Cbor::decode(reader)?,
                account: Cbor::decode(reader)?,
                sent_session: Cbor::decode(reader)?,
                sent_metrics: Cbor::decode(reader)?,
                ledger: decode_ledger(reader)?,
                made: Cbor::decode(reader)?,
                known: Cbor::decode(reader)?,
                lot: Cbor::decode(reader)?,
            })
        })
    }
}

impl State {
    /// Reads what was kept, by this release or the one before.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        cbor::from_slice(bytes).or_else(|error| cbor::start(bytes, Self::before).map_err(|_| error))
    }

    /// Form 4: lines without words, and nothing known of when experiments were first met.
    fn before(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if !reader.record_or(9)? || u8::decode(reader)? != 4 {
            return Err(reader.limit());
        }
        let line = |Wordless { at_ms, metric, window, cell, value }| Line {
            at_ms,
            metric,
            window,
            cell,
            value,
            words: Words::default(),
        };
        let state = Self {
            policy_hash: Cbor::decode(reader)?,
            purposes: Vec::new(),
            tracker: Cbor::decode(reader)?,
            account: Cbor::decode(reader)?,
            sent_session: Cbor::decode(reader)?,
            sent_metrics: Cbor::decode(reader)?,
            ledger: Vec::<Wordless>::decode(reader)?.into_iter().map(line).collect(),
            made: Cbor::decode(reader)?,
            known: Vec::new(),
            lot: Cbor::decode(reader)?,
        };
        reader.leave();
        Ok(state)
    }
}

/// A stored ledger as this policy and these purposes leave it. Lines from before words were kept are read by the policy that is
/// there. Of what somebody said of themselves that is of a special category only that it was said stays, once they took the
/// yes to it back or the policy asks for it no longer: [`NONE`] is then the cell.
pub(crate) fn left(mut lines: Vec<Line>, policy: &Policy, agreed: &[String]) -> Vec<Line> {
    for line in &mut lines {
        if line.words == Words::default() {
            line.words = Words::of(policy, line.metric, line.cell);
        }
        if line.words.special && !agreed.contains(&line.words.purpose) {
            line.cell = NONE;
            line.words.label.clear();
        }
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(label: &str) -> Words {
        Words {
            name: "visits".into(),
            label: label.into(),
            purpose: "measurement".into(),
            micro: 10_000,
            special: false,
        }
    }

    fn line(cell: u32, words: Words) -> Line {
        Line { at_ms: 5, metric: 1, window: 9, cell, value: 1, words }
    }

    #[test]
    fn words_that_lines_share_are_stored_once_and_come_back() {
        let state = State {
            policy_hash: [3; 32],
            purposes: vec!["measurement".into()],
            tracker: Bytes(vec![1, 2]),
            account: DeviceAccountant::default(),
            sent_session: 7,
            sent_metrics: vec![1],
            ledger: (0..100).map(|at| line(at, words(if at % 2 == 0 { "even" } else { "odd" }))).collect(),
            made: Vec::new(),
            known: vec![Known { experiment: "hint".into(), bin: 1, of: 3 }],
            lot: Some([4; 32]),
        };
        let bytes = cbor::to_vec(&state);
        assert!(bytes.len() < 100 * 12, "{} bytes", bytes.len());
        let read = State::read(&bytes).unwrap();
        assert!(State::read(&bytes[..bytes.len() - 1]).is_err() && State::read(&[]).is_err());
        assert_eq!((&read.ledger, &read.known), (&state.ledger, &state.known));
        assert_eq!(cbor::to_vec(&read), bytes);
    }

    /// What devices kept before lines had words.
    #[test]
    fn form_four_is_read() {
        struct Four;
        impl Cbor for Four {
            fn encode(&self, writer: &mut Writer) {
                writer.list(9);
                4u8.encode(writer);
                [3u8; 32].encode(writer);
                Bytes(vec![1, 2]).encode(writer);
                DeviceAccountant::default().encode(writer);
                7u64.encode(writer);
                vec![1u32].encode(writer);
                vec![Wordless { at_ms: 5, metric: 1, window: 9, cell: 2, value: 1 }].encode(writer);
                Vec::<Made>::new().encode(writer);
                Some([4u8; 32]).encode(writer);
            }
            fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
                Err(reader.limit())
            }
        }
        let read = State::read(&cbor::to_vec(&Four)).unwrap();
        assert_eq!((read.ledger, read.sent_session), (vec![line(2, Words::default())], 7));
        assert!(read.known.is_empty());
    }

    #[test]
    fn long_words_are_cut_between_letters() {
        let text = "ä".repeat(40);
        assert_eq!(shortened(&text), "ä".repeat(32));
        assert_eq!(shortened("visits"), "visits");
    }
}
