//! A model in a policy.

use alloc::string::String;
use alloc::vec::Vec;

use gloaming_signal::{cbor_enum, cbor_record};

/// How far a model has come through the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// Scores are computed and counted; no page ever sees one.
    Shadow,
    /// Pages receive scores within an experiment.
    Experiment,
    /// Pages receive scores.
    Live,
    /// Not computed: quarantined, and its metrics stay declared.
    Off,
}

cbor_enum!(ModelState { Shadow = 0, Experiment = 1, Live = 2, Off = 3 });

impl ModelState {
    /// Whether pages receive scores.
    #[must_use]
    pub fn acts(self) -> bool {
        matches!(self, Self::Experiment | Self::Live)
    }

    /// Whether a model in this state may speak to pages in the place of one in that state: it must have come as far.
    #[must_use]
    pub fn may_stand_in_for(self, other: Self) -> bool {
        self == other || self == Self::Live || !other.acts()
    }
}

/// The model input that is the first page-given feature.
pub const PAGE_INPUT: u32 = 1 << 16;

/// A model in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name, and the folder it is served from.
    pub id: String,
    /// State in the gate.
    pub state: ModelState,
    /// Index of the purpose.
    pub purpose: u32,
    /// SHA-256 of the manifest file.
    pub manifest_sha256: [u8; 32],
    /// SHA-256 of the ONNX file.
    pub onnx_sha256: [u8; 32],
    /// Features it takes, in order: indices into the definitions; from [`PAGE_INPUT`] on, into the page-given ones.
    pub inputs: Vec<u32>,
    /// Interior edges of its score bins, millionths, increasing.
    pub score_edges: Vec<u32>,
    /// Mean score in each of its score bins, millionths; empty where nobody said.
    pub score_means: Vec<u32>,
    /// What its bins are called, when it sorts visits into kinds instead of telling a probability.
    pub kinds: Vec<String>,
    /// What a score may take, ms; a model that needs longer waits until nothing happens on the page.
    pub budget_ms: u32,
    /// The model that speaks to pages in its place when it has no score: index into [`Policy::models`].
    pub fallback: Option<u32>,
}

cbor_record!(Model {
    id,
    state,
    purpose,
    manifest_sha256,
    onnx_sha256,
    inputs,
    score_edges,
    score_means,
    kinds,
    budget_ms,
    fallback
});
