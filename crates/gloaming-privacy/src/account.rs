//! Two accounts of the same budget: the device's, before it contributes, and the edge's, before it
//! releases. Each refuses by itself; neither believes the other.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use gloaming_signal::cbor::{Cbor, Error, Reader, Writer};
use gloaming_signal::{cbor_record, limits};

use crate::Rho;

/// What one contribution is charged as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which metric.
    pub metric: u32,
    /// Contributions a device may make to it a day.
    pub per_day: u32,
    /// Price of one.
    pub rho: Rho,
}

/// Why an account did not pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The metric had its contributions for the day.
    #[error("the metric already had its {0} contributions of this day")]
    PerDay(u32),
    /// The day's budget does not hold the price.
    #[error("the day's budget would be passed")]
    Budget,
    /// A day earlier than the last one charged: a clock stepped back. The day was accounted for.
    #[error("the day lies before the last one charged")]
    PastDay,
}

/// The device's account of one day. Charged before a contribution is made; a contribution that is
/// then lost on the way stays paid, because the device cannot know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceAccountant {
    day: u64,
    spent: Rho,
    made: Vec<(u32, u32)>,
}

cbor_record!(DeviceAccountant { day, spent, made });

impl DeviceAccountant {
    /// Pays for one contribution on `day` (edge time, days since 1970) out of `budget`.
    ///
    /// # Errors
    /// A [`Refusal`]; the account is then unchanged.
    pub fn charge(&mut self, day: u64, budget: Rho, charge: Charge) -> Result<(), Refusal> {
        if day < self.day {
            return Err(Refusal::PastDay);
        }
        let new_day = day > self.day;
        let spent = if new_day { Rho::default() } else { self.spent };
        let made = if new_day { 0 } else { self.made_of(charge.metric) };
        if made >= charge.per_day {
            return Err(Refusal::PerDay(charge.per_day));
        }
        let after = spent.plus(charge.rho);
        if after > budget {
            return Err(Refusal::Budget);
        }
        if new_day {
            self.day = day;
            self.made.clear();
        }
        self.spent = after;
        match self.made.iter_mut().find(|(metric, _)| *metric == charge.metric) {
            Some((_, n)) => *n += 1,
            None => self.made.push((charge.metric, 1)),
        }
        debug_assert!(self.spent <= budget && self.made.len() <= limits::METRICS);
        Ok(())
    }

    fn made_of(&self, metric: u32) -> u32 {
        self.made.iter().find(|(m, _)| *m == metric).map_or(0, |(_, n)| *n)
    }

    /// What was spent on `day`.
    #[must_use]
    pub fn spent(&self, day: u64) -> Rho {
        if day == self.day { self.spent } else { Rho::default() }
    }
}

/// The edge's account of one site: for each day, which metrics were released at what price.
///
/// A metric is paid once a day, however many windows the day has, because a device's contributions
/// to it are bounded by the day. A week's window is paid on each of its days. Should a metric's price
/// change within a day, the day pays the larger `per_day` times the larger `rho`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeLedger {
    days: BTreeMap<u64, BTreeMap<u32, (u32, Rho)>>,
}

impl EdgeLedger {
    /// Pays for releasing `charge.metric` over the days `first..=last` out of `budget` a day.
    ///
    /// # Errors
    /// [`Refusal::Budget`] when a single one of the days does not hold it; nothing is then paid.
    pub fn debit(&mut self, first: u64, last: u64, budget: Rho, charge: Charge) -> Result<(), Refusal> {
        let price = |(per_day, rho): (u32, Rho)| rho.times(u64::from(per_day));
        let joined = |old: Option<&(u32, Rho)>| {
            old.map_or((charge.per_day, charge.rho), |(p, r)| ((*p).max(charge.per_day), (*r).max(charge.rho)))
        };
        for day in first..=last {
            let others = self.days.get(&day).map_or(Rho::default(), |metrics| {
                metrics
                    .iter()
                    .filter(|(metric, _)| **metric != charge.metric)
                    .fold(Rho::default(), |sum, (_, paid)| sum.plus(price(*paid)))
            });
            let own = joined(self.days.get(&day).and_then(|metrics| metrics.get(&charge.metric)));
            if others.plus(price(own)) > budget {
                return Err(Refusal::Budget);
            }
        }
        for day in first..=last {
            let metrics = self.days.entry(day).or_default();
            let own = joined(metrics.get(&charge.metric));
            metrics.insert(charge.metric, own);
        }
        Ok(())
    }

    /// What a day has cost so far.
    #[must_use]
    pub fn spent(&self, day: u64) -> Rho {
        self.days.get(&day).map_or(Rho::default(), |metrics| {
            metrics.values().fold(Rho::default(), |sum, (p, r)| sum.plus(r.times(u64::from(*p))))
        })
    }

    /// Forgets days before `day`, whose windows are all closed.
    pub fn forget_before(&mut self, day: u64) {
        self.days = self.days.split_off(&day);
    }
}

impl Cbor for EdgeLedger {
    fn encode(&self, writer: &mut Writer) {
        let rows: Vec<((u64, u32), (u32, Rho))> = self
            .days
            .iter()
            .flat_map(|(day, metrics)| metrics.iter().map(|(metric, paid)| ((*day, *metric), *paid)))
            .collect();
        rows.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let rows: Vec<((u64, u32), (u32, Rho))> = Cbor::decode(reader)?;
        let mut ledger = Self::default();
        for ((day, metric), paid) in rows {
            ledger.days.entry(day).or_default().insert(metric, paid);
        }
        Ok(ledger)
    }
}
