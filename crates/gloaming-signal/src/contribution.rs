//! Contributions and the submission that carries them.
//!
//! ```text
//! submission   = [ 1, site: text, policy_version: uint, policy_hash: bytes .size 32,
//!                  check: bool, [ 0*64 contribution ] ]
//! contribution = [ id: bytes .size 16, metric: uint, window: uint, cell: uint, value: uint ]
//!
//! 86                                  # six fields
//!    01                               # format
//!    6c 73686f702e6578616d706c65      # "shop.example"
//!    07                               # policy version 7
//!    58 20 …                          # SHA-256 of the compiled policy the person agreed to
//!    f4                               # false: a live submission, true: the check lane
//!    81                               # one contribution
//!       85 50 … 0c 19 512e 03 01      # id, metric 12, window 20782, cell 3, value 1
//! ```
//! A contribution names exactly one cell. That is what makes the sensitivity of every metric plain:
//! adding or removing one contribution changes one cell by `value` (a clipped sum changes its report
//! count by one as well), whatever the metric.

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{Cbor, Error, Reader, Writer};
use crate::relay::Head;
use crate::{cbor_record, limits};

/// The only submission format there is so far.
pub const FORMAT: u8 = 1;

/// One device's cell for one metric and one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// Random, chosen once; a retry keeps it, so the edge counts it once. Names no device.
    pub id: [u8; 16],
    /// Which metric of the policy.
    pub metric: u32,
    /// Which window: edge time in milliseconds divided by the metric's window length, rounded down.
    pub window: u64,
    /// Which cell of the metric. For a clipped sum always 1, the cell of the sum.
    pub cell: u32,
    /// 1, or for a clipped sum its value in the metric's unit, `0..=max`.
    pub value: u32,
}

cbor_record!(Contribution { id, metric, window, cell, value });

/// What a device posts: contributions made under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The site the policy is for.
    pub site: String,
    /// The version of the policy the contributions were made under.
    pub policy_version: u32,
    /// SHA-256 of that policy's compiled bytes.
    pub policy_hash: [u8; 32],
    /// The check lane: judged and answered like any other, never stored.
    pub check: bool,
    /// At most [`limits::CONTRIBUTIONS`].
    pub contributions: Vec<Contribution>,
}

impl Cbor for Submission {
    fn encode(&self, writer: &mut Writer) {
        writer.list(6);
        FORMAT.encode(writer);
        self.site.encode(writer);
        self.policy_version.encode(writer);
        self.policy_hash.encode(writer);
        self.check.encode(writer);
        self.contributions.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(6, |reader| {
            let Head { site, policy_version, policy_hash, check } = Head::read(reader)?;
            let contributions: Vec<Contribution> = Cbor::decode(reader)?;
            if contributions.len() > limits::CONTRIBUTIONS {
                return Err(reader.limit());
            }
            Ok(Self { site, policy_version, policy_hash, check, contributions })
        })
    }
}

/// Where a value adds up. Values under one key are merged by SUM and by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// Which metric.
    pub metric: u32,
    /// Which window.
    pub window: u64,
    /// Which cell.
    pub cell: u32,
}

cbor_record!(CellKey { metric, window, cell });
