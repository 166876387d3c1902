//! What of a site's policy changes how its events are read.

use alloc::vec::Vec;

use gloaming_signal::cbor::{Cbor, Error, Reader, Writer};
use gloaming_signal::{EventKind, cbor_enum, cbor_record};

/// Page groups a policy may declare. Journey pairs have one cell for each ordered pair.
pub const MAX_GROUPS: usize = 32;
/// The group of a page that matches none: the index after the last declared one.
pub const OTHER_GROUP: u32 = u32::MAX;
/// Funnels a policy may declare.
pub const MAX_FUNNELS: usize = 4;
/// Steps of one funnel.
pub const MAX_STEPS: usize = 8;
/// Features a page may give.
pub const MAX_PAGE_FEATURES: usize = 16;

/// What kind of pages a group holds; the features that models share across sites count by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Anything else.
    Other,
    /// Account, orders, log-in, checkout: what the shopping data sets call administrative.
    Account,
    /// Help, about, contact, delivery: informational.
    Info,
    /// Products and listings of them.
    Product,
}

cbor_enum!(GroupKind { Other = 0, Account = 1, Info = 2, Product = 3 });

/// What has to happen for a funnel's step to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event of this kind.
    Event(EventKind),
    /// The policy's own event with this index.
    Custom(u32),
    /// A view of a page of this group.
    Group(u32),
}

impl Cbor for Step {
    fn encode(&self, writer: &mut Writer) {
        let pair: (u8, u32) = match *self {
            Self::Event(kind) => (0, u32::from(kind.number())),
            Self::Custom(index) => (1, index),
            Self::Group(index) => (2, index),
        };
        pair.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (tag, argument) = <(u8, u32)>::decode(reader)?;
        match tag {
            0 => u8::try_from(argument)
                .ok()
                .and_then(EventKind::from_number)
                .map(Self::Event)
                .ok_or_else(|| reader.limit()),
            1 => Ok(Self::Custom(argument)),
            2 => Ok(Self::Group(argument)),
            _ => Err(reader.limit()),
        }
    }
}

/// The part of a policy that the tracker needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The kind of each declared page group; at most [`MAX_GROUPS`].
    pub groups: Vec<GroupKind>,
    /// Each funnel's steps; at most [`MAX_FUNNELS`] of [`MAX_STEPS`].
    pub funnels: Vec<Vec<Step>>,
}

cbor_record!(Config { groups, funnels });

impl Config {
    /// The kind of a group by its index; [`GroupKind::Other`] beyond the declared ones.
    #[must_use]
    pub fn kind(&self, group: u32) -> GroupKind {
        usize::try_from(group).ok().and_then(|g| self.groups.get(g)).copied().unwrap_or(GroupKind::Other)
    }

    /// A group index within `0..=groups`, the last standing for all undeclared pages.
    #[must_use]
    pub fn clamp(&self, group: u32) -> u32 {
        group.min(self.other())
    }

    /// The index that stands for undeclared pages.
    #[must_use]
    pub fn other(&self) -> u32 {
        u32::try_from(self.groups.len().min(MAX_GROUPS)).unwrap_or(OTHER_GROUP)
    }
}
