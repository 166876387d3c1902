//! What passes between host and edge component at a release, and from edge to centre.
//!
//! ```text
//! exact   = [ metric: uint, [ uint… ] ]
//! release = [ metric: uint, state: 0|1|2, [ int… ] ]
//! sealed  = [ 1, site, edge, epoch, seq, policy_version, policy_hash, span_ms, window, [ release… ] ]
//! ```
//! Numbers of contributions appear nowhere in a sealed batch: an exact count would undo the noise.

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{Cbor, Error, Reader, Writer};
use crate::{cbor_enum, cbor_record, limits};

/// Exact cells of one metric in one window: the input of `release`. Never leaves the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactCells {
    /// Which metric.
    pub metric: u32,
    /// One value for each declared cell.
    pub values: Vec<u64>,
}

cbor_record!(ExactCells { metric, values });

/// What may be said about one metric in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseState {
    /// The noised crowd reached `k`: every declared cell is released, zeros included.
    Released,
    /// It did not: nothing is released, and nothing is kept for later.
    BelowK,
    /// Releasing would have passed the day's budget.
    OverBudget,
}

cbor_enum!(ReleaseState { Released = 0, BelowK = 1, OverBudget = 2 });

/// One metric's released cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Which metric.
    pub metric: u32,
    /// What was decided.
    pub state: ReleaseState,
    /// Noised values of all declared cells, or none at all.
    pub values: Vec<i64>,
}

cbor_record!(Release { metric, state, values });

/// Everything one edge says about one site and one window. Sealed once; every retry sends the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// The site.
    pub site: String,
    /// The edge that released it.
    pub edge: String,
    /// Minted when the edge's store was created or restored.
    pub epoch: u64,
    /// Dense within (site, edge, epoch), from 0.
    pub seq: u64,
    /// Version of the policy that declares the metrics.
    pub policy_version: u32,
    /// Hash of that policy.
    pub policy_hash: [u8; 32],
    /// Window length, milliseconds.
    pub span_ms: u64,
    /// Window index: its start in edge time divided by `span_ms`.
    pub window: u64,
    /// One for each metric of that window length.
    pub releases: Vec<Release>,
}

impl Cbor for SealedBatch {
    fn encode(&self, writer: &mut Writer) {
        writer.list(10);
        1u8.encode(writer);
        self.site.encode(writer);
        self.edge.encode(writer);
        self.epoch.encode(writer);
        self.seq.encode(writer);
        self.policy_version.encode(writer);
        self.policy_hash.encode(writer);
        self.span_ms.encode(writer);
        self.window.encode(writer);
        self.releases.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(10, |reader| {
            if u8::decode(reader)? != 1 {
                return Err(reader.limit());
            }
            let batch = Self {
                site: Cbor::decode(reader)?,
                edge: Cbor::decode(reader)?,
                epoch: Cbor::decode(reader)?,
                seq: Cbor::decode(reader)?,
                policy_version: Cbor::decode(reader)?,
                policy_hash: Cbor::decode(reader)?,
                span_ms: Cbor::decode(reader)?,
                window: Cbor::decode(reader)?,
                releases: Cbor::decode(reader)?,
            };
            if batch.site.len() > limits::SITE_BYTES
                || batch.edge.len() > limits::SITE_BYTES
                || batch.releases.len() > limits::METRICS
                || batch.span_ms == 0
            {
                return Err(reader.limit());
            }
            Ok(batch)
        })
    }
}
