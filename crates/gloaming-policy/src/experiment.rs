//! Experiments in a policy, and which arm of one a device is in.
//!
//! ```text
//! place in a layer = first 4 bytes of SHA-256("gloaming layer" 0 layer 0 lot), as a share of 2^32
//! arm              = first 4 bytes of SHA-256("gloaming arm"   0 id    0 lot), likewise, times the number of arms;
//!                    where arms have shares of their own, the one whose part of them holds it
//! ```
//! `lot` is drawn on the device, stays there, and goes with consent. Nobody else can tell which arm a device is in, nor that
//! two experiments meet the same device; a device that forgets is a new one.

use alloc::string::String;
use alloc::vec::Vec;

use gloaming_signal::cbor::{Cbor, Error, Reader, Writer};
use gloaming_signal::{cbor_record, hash};

/// A share's whole.
pub const WHOLE: u32 = 1_000_000;

/// Something that must not get worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Id of the metric that counts it by arm.
    pub metric: u32,
    /// How much more of it would still be accepted, in millionths of the visits.
    pub permitted: u32,
}

cbor_record!(Guarded { metric, permitted });

/// A number that is counted together with the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Whether it was known before and takes out what would have differed anyway (CUPED); otherwise the goal is the sum of
    /// one over the sum of the other.
    pub before: bool,
    /// What each bin stands for, hundredths.
    pub worth: Vec<i64>,
}

cbor_record!(Beside { before, worth });

/// An experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// Its name. Who is in which arm follows from it, so that one that is run again has another.
    pub id: String,
    /// Names of its arms; the first is the control.
    pub arms: Vec<String>,
    /// Index of the purpose that a person must have agreed to.
    pub purpose: u32,
    /// Experiments of one layer have slices that do not overlap, and no device is in two of them.
    pub layer: String,
    /// The slice of the layer that takes part, in millionths: from here.
    pub from: u32,
    /// To here, excluded.
    pub to: u32,
    /// The model that devices in the control do not hear: index into `Policy::models`.
    pub model: Option<u32>,
    /// Id of the metric that counts, by arm, what is to change.
    pub goal: u32,
    /// Whether less of it is better.
    pub lower: bool,
    /// Smallest change that would matter, in millionths of the visits.
    pub least: u32,
    /// What must not get worse.
    pub guardrails: Vec<Guarded>,
    /// Shares of the arms, in millionths; none where they are alike.
    pub shares: Vec<u32>,
    /// What each of the goal's bins stands for, hundredths; none where the goal is true of a visit or not.
    pub worth: Vec<i64>,
    /// What the goal is counted together with.
    pub beside: Option<Beside>,
    /// Whether it ends by itself when a guardrail breaks: every arm is then given what the control is given, and none is counted.
    pub stops: bool,
}

impl Cbor for Experiment {
    /// Eleven fields where arms are alike and the goal is true of a visit or not, which is all that there was at first: such
    /// policies keep their bytes. Fourteen otherwise, and fifteen where it stops by itself.
    fn encode(&self, writer: &mut Writer) {
        let more = !(self.shares.is_empty() && self.worth.is_empty() && self.beside.is_none());
        writer.list(if self.stops {
            15
        } else if more {
            14
        } else {
            11
        });
        self.id.encode(writer);
        self.arms.encode(writer);
        self.purpose.encode(writer);
        self.layer.encode(writer);
        self.from.encode(writer);
        self.to.encode(writer);
        self.model.encode(writer);
        self.goal.encode(writer);
        self.lower.encode(writer);
        self.least.encode(writer);
        self.guardrails.encode(writer);
        if more || self.stops {
            self.shares.encode(writer);
            self.worth.encode(writer);
            self.beside.encode(writer);
        }
        if self.stops {
            self.stops.encode(writer);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let fields = reader.record_of()?;
        let mut read = Self {
            id: Cbor::decode(reader)?,
            arms: Cbor::decode(reader)?,
            purpose: Cbor::decode(reader)?,
            layer: Cbor::decode(reader)?,
            from: Cbor::decode(reader)?,
            to: Cbor::decode(reader)?,
            model: Cbor::decode(reader)?,
            goal: Cbor::decode(reader)?,
            lower: Cbor::decode(reader)?,
            least: Cbor::decode(reader)?,
            guardrails: Cbor::decode(reader)?,
            shares: Vec::new(),
            worth: Vec::new(),
            beside: None,
            stops: false,
        };
        if fields > 11 {
            (read.shares, read.worth) = (Cbor::decode(reader)?, Cbor::decode(reader)?);
            read.beside = Cbor::decode(reader)?;
        }
        if fields > 14 {
            read.stops = Cbor::decode(reader)?;
        }
        reader.leave();
        Ok(read)
    }
}

/// A place from 0 to `parts`, excluded, that follows from what it is for, from a name, and from the device's lot.
fn place(what: &str, name: &str, lot: &[u8; 32], parts: u32) -> u32 {
    let text: Vec<u8> = [what.as_bytes(), &[0], name.as_bytes(), &[0], lot].concat();
    let first = hash::sha256(&text).first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    // Below `parts` because `first` is below 2^32.
    ((u64::from(first) * u64::from(parts)) >> 32) as u32
}

impl Experiment {
    /// The arm of the device with this lot; `None` when it takes no part.
    #[must_use]
    pub fn arm(&self, lot: &[u8; 32]) -> Option<u32> {
        let here = place("gloaming layer", &self.layer, lot, WHOLE);
        let arms = u32::try_from(self.arms.len()).ok()?;
        if !(self.from..self.to).contains(&here) {
            return None;
        }
        if self.shares.is_empty() {
            return Some(place("gloaming arm", &self.id, lot, arms));
        }
        let (mut at, mut arm) = (place("gloaming arm", &self.id, lot, WHOLE), 0);
        for share in self.shares.iter().take(self.arms.len().saturating_sub(1)) {
            let Some(rest) = at.checked_sub(*share) else { break };
            (at, arm) = (rest, arm + 1);
        }
        Some(arm)
    }

    /// Relative sizes of the arms.
    #[must_use]
    pub fn portions(&self) -> Vec<f64> {
        if self.shares.is_empty() {
            return alloc::vec![1.0; self.arms.len()];
        }
        self.shares.iter().map(|share| f64::from(*share) / f64::from(WHOLE)).collect()
    }

    /// What each cell of one arm stands for: the goal, and the number that it is counted together with (0 without one).
    #[must_use]
    pub fn points(&self) -> Vec<(f64, f64)> {
        let hundredths = |worth: &[i64]| worth.iter().map(|worth| *worth as f64 / 100.0).collect::<Vec<_>>();
        let goal = if self.worth.is_empty() { alloc::vec![0.0, 1.0] } else { hundredths(&self.worth) };
        let beside = self.beside.as_ref().map_or_else(|| alloc::vec![0.0], |beside| hundredths(&beside.worth));
        beside.iter().flat_map(|x| goal.iter().map(move |y| (*y, *x))).collect()
    }

    /// Whether the goal is true of a visit or not, and its figures are shares of visits.
    #[must_use]
    pub fn is_share(&self) -> bool {
        self.worth.is_empty() && self.beside.as_ref().is_none_or(|beside| beside.before)
    }

    /// Whether they take the same part of one layer, and a device could be in both although it must not.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        self.layer == other.layer && self.from < other.to && other.from < self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(id: &str, layer: &str, slice: (u32, u32), arms: usize) -> Experiment {
        Experiment {
            id: id.into(),
            arms: (0..arms).map(|arm| alloc::format!("arm {arm}")).collect(),
            purpose: 0,
            layer: layer.into(),
            from: slice.0,
            to: slice.1,
            model: None,
            goal: 1,
            lower: false,
            least: 10_000,
            guardrails: Vec::new(),
            shares: Vec::new(),
            worth: Vec::new(),
            beside: None,
            stops: false,
        }
    }

    fn lots(count: u32) -> impl Iterator<Item = [u8; 32]> {
        (0..count).map(|seed| hash::sha256(&seed.to_be_bytes()))
    }

    #[test]
    fn devices_fall_into_arms_evenly_and_stay_there() {
        let three = experiment("three", "page", (0, 500_000), 3);
        let mut count = [0u32; 3];
        let mut none = 0;
        for lot in lots(30_000) {
            match three.arm(&lot) {
                Some(arm) => count[arm as usize] += 1,
                None => none += 1,
            }
            assert_eq!(three.arm(&lot), three.arm(&lot));
        }
        // Four standard deviations of a share of 15,000 and of 5,000.
        assert!((14_650..15_350).contains(&none), "{none}");
        assert!(count.iter().all(|arm| (4_730..5_270).contains(arm)), "{count:?}");
    }

    #[test]
    fn arms_with_shares_of_their_own_get_them() {
        let shares = alloc::vec![900_000, 70_000, 30_000];
        let held = Experiment { shares, ..experiment("held", "page", (0, WHOLE), 3) };
        let mut count = [0u32; 3];
        lots(20_000).for_each(|lot| count[held.arm(&lot).unwrap() as usize] += 1);
        // Four standard deviations of each.
        for (arm, (most, spread)) in count.iter().zip([(18_000, 170), (1_400, 145), (600, 97)]) {
            assert!(arm.abs_diff(most) < spread, "{count:?}");
        }
        // Whole arms and shares that say the same put a device in the same arm.
        let (even, said) = (experiment("two", "page", (0, WHOLE), 2), alloc::vec![WHOLE / 2; 2]);
        let same = Experiment { shares: said, ..even.clone() };
        assert!(lots(2_000).all(|lot| even.arm(&lot) == same.arm(&lot)));
    }

    #[test]
    fn cells_stand_for_what_was_said() {
        let plain = experiment("plain", "page", (0, WHOLE), 2);
        assert_eq!((plain.points(), plain.is_share()), (alloc::vec![(0.0, 0.0), (1.0, 0.0)], true));
        let beside = Some(Beside { before: true, worth: alloc::vec![0, 150] });
        let adjusted = Experiment { beside, ..plain };
        assert_eq!(adjusted.points(), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.5), (1.0, 1.5)]);
        let ratio = Experiment { beside: Some(Beside { before: false, worth: alloc::vec![100] }), ..adjusted };
        assert!(!ratio.is_share());
    }

    #[test]
    fn of_one_layer_no_device_is_in_two_and_layers_know_nothing_of_each_other() {
        let (one, two) = (experiment("a", "page", (0, 400_000), 2), experiment("b", "page", (400_000, WHOLE), 2));
        let apart = experiment("c", "mail", (0, WHOLE), 2);
        assert!(!one.clashes(&two) && !one.clashes(&apart) && one.clashes(&one));
        let mut both = [[0u32; 2]; 2];
        for lot in lots(20_000) {
            assert!(one.arm(&lot).is_none() || two.arm(&lot).is_none());
            if let (Some(one), Some(other)) = (one.arm(&lot), apart.arm(&lot)) {
                both[one as usize][other as usize] += 1;
            }
        }
        // 8,000 devices over four pairs: 2,000 each, and 4 deviations are 155.
        assert!(both.iter().flatten().all(|pair| (1_845..2_155).contains(pair)), "{both:?}");
    }

    /// Computed by Python's hashlib: a second implementation, which keeps arms where they are.
    #[test]
    fn arms_are_where_another_implementation_puts_them() {
        let lot = [7; 32];
        assert_eq!(place("gloaming layer", "page", &lot, WHOLE), 707_385);
        assert_eq!(place("gloaming arm", "hint", &lot, 1_000), 968);
    }
}
