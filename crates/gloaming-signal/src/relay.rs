//! What a relay edge reads of a submission, and how it hands many of them on to the site's home edge.
//!
//! ```text
//! parcel  = [ 1, site: text, [ * relayed ] ]
//! relayed = [ network: uint / null, body: bytes ]
//!
//! load    = 1*( length: 4 bytes, big-endian ; parcel, sealed )
//! ```
//! The network is a number that stands for one among those of this relay for some days, so that the home edge can hold
//! each to its share; the address it stands for stays at the relay.

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{Cbor, Error, Reader, Writer, start};
use crate::contribution::FORMAT;
use crate::limits;

/// What a submission is about; what it says lies behind it and is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The site the policy is for.
    pub site: String,
    /// The version of the policy the contributions were made under.
    pub policy_version: u32,
    /// SHA-256 of that policy's compiled bytes.
    pub policy_hash: [u8; 32],
    /// The check lane.
    pub check: bool,
}

impl Head {
    /// Reads the head of a submission's bytes.
    ///
    /// # Errors
    /// When they do not begin as a submission does.
    pub fn of(submission: &[u8]) -> Result<Self, Error> {
        start(submission, |reader| reader.record(6, Self::read))
    }

    /// The first five fields of a submission.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if u8::decode(reader)? != FORMAT {
            return Err(reader.limit());
        }
        let head = Self {
            site: Cbor::decode(reader)?,
            policy_version: Cbor::decode(reader)?,
            policy_hash: Cbor::decode(reader)?,
            check: Cbor::decode(reader)?,
        };
        if head.site.len() > limits::SITE_BYTES { Err(reader.limit()) } else { Ok(head) }
    }
}

/// The site that a submission names, where it stands in it; `None` when it does not begin as a submission does. Costs no
/// allocation: an edge asks this of every body before it knows whether there is room for it.
#[must_use]
pub fn site(submission: &[u8]) -> Option<&str> {
    let named = start(submission, |reader| {
        reader.record(6, |reader| match u8::decode(reader)? {
            FORMAT => reader.text(limits::SITE_BYTES),
            _ => Err(reader.limit()),
        })
    });
    named.ok()
}

/// A submission that came to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The network it came from, when that is known.
    pub network: Option<u64>,
    /// Its bytes, as they were posted.
    pub body: Vec<u8>,
}

impl Cbor for Relayed {
    fn encode(&self, writer: &mut Writer) {
        writer.list(2);
        self.network.encode(writer);
        writer.bytes(&self.body);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(2, |reader| {
            Ok(Self { network: Cbor::decode(reader)?, body: reader.bytes(limits::SUBMISSION_BYTES)?.to_vec() })
        })
    }
}

/// Submissions of one site that came to a relay together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The site.
    pub site: String,
    /// The submissions.
    pub relayed: Vec<Relayed>,
}

impl Cbor for Parcel {
    fn encode(&self, writer: &mut Writer) {
        writer.list(3);
        FORMAT.encode(writer);
        self.site.encode(writer);
        self.relayed.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(3, |reader| {
            if u8::decode(reader)? != FORMAT {
                return Err(reader.limit());
            }
            let parcel = Self { site: Cbor::decode(reader)?, relayed: Cbor::decode(reader)? };
            if parcel.site.len() > limits::SITE_BYTES || parcel.relayed.len() > limits::PARCEL {
                return Err(reader.limit());
            }
            Ok(parcel)
        })
    }
}

/// Puts one sealed parcel behind others.
pub fn load(parcel: &[u8], onto: &mut Vec<u8>) {
    // A parcel is far below 4 GB by its limit.
    let length = u32::try_from(parcel.len()).unwrap_or(u32::MAX);
    onto.extend_from_slice(&length.to_be_bytes());
    onto.extend_from_slice(parcel);
}

/// The sealed parcels of a load; `None` when it is none.
#[must_use]
pub fn unload(mut load: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parcels = Vec::new();
    while !load.is_empty() {
        let (length, rest) = load.split_first_chunk::<4>()?;
        let (parcel, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        parcels.push(parcel);
        load = rest;
    }
    Some(parcels)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::cbor::{from_slice, to_vec};
    use crate::{Contribution, Submission};

    #[test]
    fn a_head_says_what_its_submission_says_and_looks_no_further() {
        let submission = Submission {
            site: "blog.example".into(),
            policy_version: 7,
            policy_hash: [3; 32],
            check: false,
            contributions: vec![Contribution { id: [1; 16], metric: 1, window: 2, cell: 3, value: 1 }],
        };
        let mut bytes = to_vec(&submission);
        let head = Head::of(&bytes);
        let want = Head { site: "blog.example".into(), policy_version: 7, policy_hash: [3; 32], check: false };
        assert_eq!(head, Ok(want.clone()));
        assert_eq!(site(&bytes), Some("blog.example"));
        // The contributions may be anything: they are the home edge's to refuse.
        let begin = bytes.len() - to_vec(&submission.contributions).len();
        bytes[begin..].fill(0xff);
        assert_eq!(Head::of(&bytes), Ok(want));
        assert!(Head::of(&bytes[..begin - 1]).is_err());
        assert_eq!((site(&bytes[..14]), site(&bytes[..15])), (None, Some("blog.example")), "its head is 3 bytes");
        for (place, byte) in [(0, 0x85), (1, 9), (2, 0x4c), (3, 0xff)] {
            let mut wrong = bytes.clone();
            wrong[place] = byte;
            assert!(Head::of(&wrong).is_err() && site(&wrong).is_none(), "byte {place}");
        }
        let long = to_vec(&Submission { site: "x".repeat(limits::SITE_BYTES + 1), ..submission });
        assert!(Head::of(&long).is_err() && site(&long).is_none());
    }

    #[test]
    fn what_is_loaded_is_unloaded() {
        let parcel = Parcel {
            site: "blog.example".into(),
            relayed: vec![Relayed { network: None, body: vec![1; 300] }, Relayed { network: Some(9), body: vec![] }],
        };
        let bytes = to_vec(&parcel);
        assert_eq!(from_slice(&bytes), Ok(parcel));
        let mut all = Vec::new();
        load(&bytes, &mut all);
        load(&[], &mut all);
        assert_eq!(unload(&all), Some(vec![&bytes[..], &[]]));
        assert_eq!(unload(&all[..all.len() - 1]), None);
        assert_eq!(unload(&[0, 0, 0, 9, 1]), None);
        assert_eq!(unload(&[]), Some(vec![]));
    }
}
