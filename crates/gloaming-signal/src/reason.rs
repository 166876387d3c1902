//! Why a contribution was not counted. Each reason is a counter and a word in the answer.

use crate::cbor_enum;

/// The verdict on one contribution, or on a whole submission when that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Counted.
    Accepted,
    /// The same id was counted before in this window.
    Duplicate,
    /// Not one of ours: truncated, too deep, not canonical, of another format.
    Malformed,
    /// Larger than [`crate::limits::SUBMISSION_BYTES`].
    TooLarge,
    /// No policy for this site here.
    UnknownSite,
    /// A policy version or hash that is not served here any more, or not yet.
    UnknownPolicy,
    /// No such metric in that policy.
    UnknownMetric,
    /// The metric has no such cell.
    UnknownCell,
    /// The window is closed: its grace has ended.
    ClosedWindow,
    /// The window has not begun.
    FutureWindow,
    /// The value is beyond what the metric declares.
    CapExceeded,
    /// The edge component failed on this submission and on no other.
    Fault,
    /// Judged in the check lane: would have been counted, and was not stored.
    Checked,
    /// The edge is full for now; the same bytes may come again.
    Busy,
    /// The policy's last day is over.
    Expired,
    /// Too much of this count came from one network.
    Crowded,
    /// Taken by a relay, sealed for the site's home edge, which finds out whether it counts.
    Relayed,
}

cbor_enum!(Reason {
    Accepted = 0,
    Duplicate = 1,
    Malformed = 2,
    TooLarge = 3,
    UnknownSite = 4,
    UnknownPolicy = 5,
    UnknownMetric = 6,
    UnknownCell = 7,
    ClosedWindow = 8,
    FutureWindow = 9,
    CapExceeded = 10,
    Fault = 11,
    Checked = 12,
    Busy = 13,
    Expired = 14,
    Crowded = 15,
    Relayed = 16,
});

impl Reason {
    /// The word for metrics, answers and the check overlay.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::TooLarge => "too-large",
            Self::UnknownSite => "unknown-site",
            Self::UnknownPolicy => "unknown-policy",
            Self::UnknownMetric => "unknown-metric",
            Self::UnknownCell => "unknown-cell",
            Self::ClosedWindow => "closed-window",
            Self::FutureWindow => "future-window",
            Self::CapExceeded => "cap-exceeded",
            Self::Fault => "fault",
            Self::Checked => "checked",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Crowded => "crowded",
            Self::Relayed => "relayed",
        }
    }

    /// What to do about it, for whoever set up the site.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Accepted | Self::Checked => "nothing to do",
            Self::Relayed => "nothing to do: the site's home edge counts it, if it counts",
            Self::Duplicate => "nothing to do: a retry arrived twice and counted once",
            Self::Malformed => "send what the collector of this release makes, unchanged, as the whole body",
            Self::TooLarge => "send fewer contributions at a time",
            Self::UnknownSite => "sign a policy for this site and give it to this edge",
            Self::UnknownPolicy => "reload the page: the policy was replaced by a newer version",
            Self::UnknownMetric | Self::UnknownCell | Self::CapExceeded => {
                "only honest collectors are counted: serve the collector that belongs to this policy"
            }
            Self::ClosedWindow => "nothing to do: it came after the window's grace had ended",
            Self::FutureWindow => "check the clock of the edge",
            Self::Busy => "send the same bytes again later; if it lasts, this edge has too many devices: add one",
            Self::Expired => "sign a policy with a later `expires` and a higher version, and give it to the edge",
            Self::Crowded => "where most visitors share one network, raise `share_of_one_network` at the edge",
            Self::Fault => "report the input's hash from the edge's log; other devices are not affected",
        }
    }
}
