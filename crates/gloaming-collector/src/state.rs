//! What the device keeps, and the ledger's words.

use gloaming_policy::Score;
use gloaming_privacy::DeviceAccountant;
use gloaming_signal::cbor::{Bytes, Cbor, Error, Reader, Writer};
use gloaming_signal::cbor_record;

/// Lines of the ledger kept on the device; the oldest goes first.
const LEDGER: usize = 200;

/// A line of the ledger: something that left this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at_ms: u64,
    pub(crate) metric: u32,
    pub(crate) window: u64,
    pub(crate) cell: u32,
    pub(crate) value: u32,
}

cbor_record!(Line { at_ms, metric, window, cell, value });

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
        writer.list(9);
        4u8.encode(writer);
        self.policy_hash.encode(writer);
        self.tracker.encode(writer);
        self.account.encode(writer);
        self.sent_session.encode(writer);
        self.sent_metrics.encode(writer);
        self.ledger.encode(writer);
        self.made.encode(writer);
        self.lot.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(9, |reader| {
            if u8::decode(reader)? != 4 {
                return Err(reader.limit());
            }
            Ok(Self {
                policy_hash: Cbor::decode(reader)?,
                tracker: Cbor::decode(reader)?,
                account: Cbor::decode(reader)?,
                sent_session: Cbor::decode(reader)?,
                sent_metrics: Cbor::decode(reader)?,
                ledger: Cbor::decode(reader)?,
                made: Cbor::decode(reader)?,
                lot: Cbor::decode(reader)?,
            })
        })
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
