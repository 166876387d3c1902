//! What passes between host and edge component when contributions are judged and added up: rows of fixed width,
//! little-endian, so that neither side has anything to parse.
//!
//! ```text
//! fold    = 0*65536 row             row = window: u64, metric: u32, cell: u32, value: u32, check: u32 (0 or 1)
//! verdict = reason: u8 for each row, then sums
//!                                   sum = window: u64, metric: u32, cell: u32, value: u64
//! ```
//! Sums are in strictly increasing order of metric, window, cell. Ids stay with the host: the component learns what is
//! counted, and nothing by which two contributions could be told to be of one device.

use alloc::vec::Vec;

use crate::{CellKey, Reason, limits};

/// Bytes of a row, and of a sum.
pub const ROW: usize = 24;

/// A contribution as the component sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which window.
    pub window: u64,
    /// Which metric.
    pub metric: u32,
    /// Which cell of it.
    pub cell: u32,
    /// Its value.
    pub value: u32,
    /// The check lane: judged, and not added.
    pub check: bool,
}

/// Bytes `at..` of a row as a number's.
fn part<const N: usize>(row: &[u8; ROW], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&row[at..at + N]);
    bytes
}

impl Row {
    /// Appends it to a fold.
    pub fn write(&self, fold: &mut Vec<u8>) {
        let mut row = [0; ROW];
        row[..8].copy_from_slice(&self.window.to_le_bytes());
        row[8..12].copy_from_slice(&self.metric.to_le_bytes());
        row[12..16].copy_from_slice(&self.cell.to_le_bytes());
        row[16..20].copy_from_slice(&self.value.to_le_bytes());
        row[20] = self.check.into();
        fold.extend_from_slice(&row);
    }

    /// From its bytes. A check lane that is neither 0 nor 1 is one.
    #[inline]
    #[must_use]
    pub fn read(row: &[u8; ROW]) -> Self {
        Self {
            window: u64::from_le_bytes(part(row, 0)),
            metric: u32::from_le_bytes(part(row, 8)),
            cell: u32::from_le_bytes(part(row, 12)),
            value: u32::from_le_bytes(part(row, 16)),
            check: part::<4>(row, 20) != [0; 4],
        }
    }

    /// Rows of a fold, to be [read](Self::read); `None` when the bytes are none, or more than [`limits::FOLD_ROWS`].
    #[must_use]
    pub fn split(fold: &[u8]) -> Option<&[[u8; ROW]]> {
        let (rows, rest) = fold.as_chunks::<ROW>();
        (rest.is_empty() && rows.len() <= limits::FOLD_ROWS).then_some(rows)
    }
}

/// What became of a fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// A reason for each row.
    pub each: Vec<Reason>,
    /// What to add to which cell; keys strictly increasing.
    pub sums: Vec<(CellKey, u64)>,
}

/// Appends a sum to a verdict that has all its reasons.
#[inline]
pub fn write_sum(verdict: &mut Vec<u8>, key: CellKey, value: u64) {
    let mut row = [0; ROW];
    row[..8].copy_from_slice(&key.window.to_le_bytes());
    row[8..12].copy_from_slice(&key.metric.to_le_bytes());
    row[12..16].copy_from_slice(&key.cell.to_le_bytes());
    row[16..].copy_from_slice(&value.to_le_bytes());
    verdict.extend_from_slice(&row);
}

impl Verdict {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.each.iter().map(|reason| reason.number()).collect();
        self.sums.iter().for_each(|(key, value)| write_sum(&mut bytes, *key, *value));
        bytes
    }

    /// A verdict on this many rows, if the bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], rows: usize) -> Option<Self> {
        let (reasons, sums) = bytes.split_at_checked(rows)?;
        let (sums, rest) = sums.as_chunks::<ROW>();
        if !rest.is_empty() {
            return None;
        }
        let each = reasons.iter().map(|number| Reason::from_number(*number)).collect::<Option<_>>()?;
        let sums: Vec<(CellKey, u64)> = sums
            .iter()
            .map(|row| {
                let key = CellKey {
                    window: u64::from_le_bytes(part(row, 0)),
                    metric: u32::from_le_bytes(part(row, 8)),
                    cell: u32::from_le_bytes(part(row, 12)),
                };
                (key, u64::from_le_bytes(part(row, 16)))
            })
            .collect();
        sums.is_sorted_by(|(one, _), (next, _)| one < next).then_some(Self { each, sums })
    }
}

/// Adds up what goes into the same cell; keys come out strictly increasing.
pub fn add_up(parts: &mut Vec<(CellKey, u64)>) {
    let number = |key: &CellKey| (u128::from(key.metric) << 96) | (u128::from(key.window) << 32) | u128::from(key.cell);
    parts.sort_unstable_by_key(|(key, _)| number(key));
    parts.dedup_by(|next, sum| {
        let same = next.0 == sum.0;
        if same {
            sum.1 = sum.1.saturating_add(next.1);
        }
        same
    });
}
