//! The gate: what a model has to show before it acts on anybody.
//!
//! ```text
//! draft ──▶ shadow ──▶ experiment ──▶ live          each step up needs evidence and approvals
//!             ▲ ▲          │ │          │            each step down is free, at any time
//!             │ └──────────┘─┼──────────┘
//!             └─ quarantined ◀┘ ◀── (any that runs)  back only with new evidence
//! retired ◀── any                                    for good
//! ```
//! Moves, evidence and approvals are entries of a [`Record`]: append-only, signed by the site's key, each
//! holding the hash of the one before. A record is never edited; it is *replayed*, and replaying is the only
//! way to learn a model's stage. The same function that reads an entry back appends it, so an entry that would
//! be refused cannot be written. A signed policy carries its record; whoever verifies the one replays the other
//! ([`crate::author::Signed::verify`]), so a policy that lets a model act without evidence is believed by no edge.
//!
//! What it is not: proof against a site's owner who builds other software. It binds those who use this one,
//! and lets everybody else check what they did.

mod act;
mod envelope;
mod judge;
pub mod oms;
mod record;
mod rules;
mod signed;
mod statement;
mod value;

use serde::{Deserialize, Serialize};

pub use envelope::{ENVELOPE_BYTES, Envelope};
pub use judge::Finding;
pub use record::{Action, Entry, Facts, Held, RECORD_BYTES, Record, Standing};
pub use rules::{RUNTIMES, Rules, Step, least, usual_runtimes};
pub use signed::{STATEMENT_TYPE, Statement};
pub use statement::{
    Approval, Attribute, Calibration, Ethics, Experiment, Fairness, Group, Guardrail, HeldOut, Interval, Kind, Parity,
    Point, REASON, Rows, Runtime, Said, SplitBy, TURNS, Turn,
};
pub use value::{Estimator, Value};

/// How far a model has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Known, computed nowhere.
    Draft,
    /// Computed and counted on devices; no page sees a score.
    Shadow,
    /// Pages see scores, to find out what that does.
    Experiment,
    /// Pages see scores.
    Live,
    /// Stopped, for a reason that is to be found.
    Quarantined,
    /// Stopped for good.
    Retired,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Draft, Self::Shadow, Self::Experiment, Self::Live, Self::Quarantined, Self::Retired];

    /// As in policies, records and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Shadow => "shadow",
            Self::Experiment => "experiment",
            Self::Live => "live",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }

    /// Whether pages see scores.
    #[must_use]
    pub fn acts(self) -> bool {
        matches!(self, Self::Experiment | Self::Live)
    }

    /// Whether a model may go from here to there at all, whatever it shows. To stay in an acting stage is a move
    /// too: it is judged again, as after a change of rules.
    #[must_use]
    pub fn leads_to(self, to: Self) -> bool {
        use Stage::{Draft, Experiment, Live, Quarantined, Retired, Shadow};
        match (self, to) {
            (Draft | Quarantined, Shadow)
            | (Shadow | Experiment | Live, Experiment)
            | (Experiment | Live, Shadow | Live)
            | (Shadow | Experiment | Live, Quarantined) => true,
            (from, Retired) => from != Retired,
            _ => false,
        }
    }

    /// Whether that move is towards pages, and so has to be earned.
    #[must_use]
    pub fn must_earn(self, to: Self) -> bool {
        match to {
            Self::Shadow => matches!(self, Self::Draft | Self::Quarantined),
            Self::Experiment => self != Self::Live,
            Self::Live => true,
            _ => false,
        }
    }
}

impl std::str::FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|stage| stage.name() == text).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|stage| stage.name()).collect();
            format!("`{text}` is no stage; there are {}", all.join(", "))
        })
    }
}

/// Why something is not believed, not recorded or not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Not a thing of that form.
    #[error("not a signed statement or record: {0}")]
    Form(String),
    /// A signature is missing.
    #[error("not signed by the key {0}")]
    Unsigned(String),
    /// A signature does not hold.
    #[error("the signature by the key {0} does not hold: the bytes were changed after signing")]
    Changed(String),
    /// An entry of a record.
    #[error("entry {at} of the record: {why}")]
    Entry {
        /// Which, from 0.
        at: usize,
        /// What is wrong with it.
        why: Box<GateError>,
    },
    /// The chain.
    #[error("it does not follow the entry before it: one was changed, left out or put in")]
    Chain,
    /// Full.
    #[error(
        "the record is full ({RECORD_BYTES} bytes); put one version of the policy without models in force, keep this record aside, and begin a new one"
    )]
    Full,
    /// The record of another site, or under another key.
    #[error("the record {0}")]
    Other(String),
    /// Something that cannot be recorded, with what to do about it.
    #[error("{cause}; {remedy}")]
    Refused {
        /// What is wrong.
        cause: String,
        /// What to do.
        remedy: String,
    },
    /// A model that has not shown enough.
    #[error("{} may not become {}: {}", model, to.name(), judge::sentence(missing))]
    Missing {
        /// Which model.
        model: String,
        /// The stage that was asked for.
        to: Stage,
        /// What is there and what is not.
        missing: Vec<Finding>,
    },
}

impl GateError {
    pub(crate) fn refused(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused { cause: cause.into(), remedy: remedy.into() }
    }
}
