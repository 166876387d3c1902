//! What a device remembers of earlier visits: six numbers, no list.

use gloaming_signal::cbor::{Cbor, Error, Reader};
use gloaming_signal::cbor_record;

use crate::definitions::{Category, Number};
use crate::features::Features;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Days are UTC's, counted from 1970: a device that travels buys on no day twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    visits: u32,
    /// When the last one began, ms since 1970.
    last_ms: u64,
    purchase_days: u32,
    first_purchase: u64,
    last_purchase: u64,
    /// In hundredths.
    spent: u32,
}

cbor_record!(History { visits, last_ms, purchase_days, first_purchase, last_purchase, spent });

/// Days since 1970 of a month's number, by Hinnant's `civil_from_days`
/// (howardhinnant.github.io/date_algorithms.html).
fn month(at_ms: u64) -> u64 {
    let z = at_ms / DAY_MS + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    // March is month 0 of this calendar's year; one number that grows by one a month is all we need.
    (era * 400 + yoe) * 12 + mp
}

/// Weeks since the Monday before 1970-01-01, which was a Thursday.
fn week(at_ms: u64) -> u64 {
    (at_ms / DAY_MS + 3) / 7
}

/// Days between two; none when the clock went back.
fn days(from: u64, to: u64) -> u32 {
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}

impl History {
    /// As it was stored before it told what was spent: five numbers.
    pub(crate) fn before(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(5, |reader| {
            Ok(Self {
                visits: Cbor::decode(reader)?,
                last_ms: Cbor::decode(reader)?,
                purchase_days: Cbor::decode(reader)?,
                first_purchase: Cbor::decode(reader)?,
                last_purchase: Cbor::decode(reader)?,
                spent: 0,
            })
        })
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// A visit that began then has ended, and came to this.
    pub(crate) fn add(&mut self, started_ms: u64, features: &Features) {
        if features.number(Number::Purchases) == 0 {
            return;
        }
        self.spent = self.spent.saturating_add(features.number(Number::PurchaseValue));
        let day = started_ms / DAY_MS;
        if self.purchase_days == 0 {
            self.first_purchase = day;
        } else if day <= self.last_purchase {
            return;
        }
        self.purchase_days = self.purchase_days.saturating_add(1);
        self.last_purchase = day;
    }

    /// A visit begins: tells its features what was before it.
    pub(crate) fn begin(&mut self, now_ms: u64, features: &mut Features) {
        let (seen, last_ms) = (self.visits > 0, self.last_ms);
        let again = |same: bool| u32::from(seen && same);
        let (today, categories) = (now_ms / DAY_MS, &mut features.categories);
        categories[Category::VisitDay as usize] = again(last_ms / DAY_MS == today);
        categories[Category::VisitWeek as usize] = again(week(last_ms) == week(now_ms));
        categories[Category::VisitMonth as usize] = again(month(last_ms) == month(now_ms));
        features.numbers[Number::Returning as usize] = u32::from(seen);
        // These six stand together and in this order.
        features.numbers[Number::VisitsBefore as usize..=Number::PurchaseSpent as usize].copy_from_slice(&[
            self.visits,
            if seen { days(last_ms / DAY_MS, today) } else { 0 },
            self.purchase_days,
            days(self.first_purchase, self.last_purchase),
            if self.purchase_days > 0 { days(self.first_purchase, today) } else { 0 },
            self.spent,
        ]);
        self.visits = self.visits.saturating_add(1);
        self.last_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_leaves_what_was_remembered() {
        let five = gloaming_signal::cbor::to_vec(&alloc::vec![4u64, 1_000, 2, 100, 107]);
        let history = gloaming_signal::cbor::start(&five, History::before).unwrap();
        assert_eq!((history.visits, history.last_ms(), history.purchase_days, history.spent), (4, 1_000, 2, 0));
        assert_eq!((history.first_purchase, history.last_purchase), (100, 107));
        assert!(
            gloaming_signal::cbor::start(&gloaming_signal::cbor::to_vec(&alloc::vec![4u64, 1_000]), History::before)
                .is_err()
        );
    }

    #[test]
    fn months_and_weeks_turn_where_the_calendar_does() {
        // 2024-02-29 23:59:59.999 UTC and a millisecond later.
        let end = 1_709_251_199_999;
        assert_eq!(month(end) + 1, month(end + 1));
        // 2026-01-01 00:00 UTC.
        let year = 1_767_225_600_000;
        assert_eq!(month(year - 1) + 1, month(year));
        // 2026-11-23 is a Monday.
        let monday = 1_795_392_000_000;
        assert_eq!(week(monday - 1) + 1, week(monday));
        assert_eq!(week(monday), week(monday + 7 * DAY_MS - 1));
    }

    #[test]
    fn purchases_are_counted_by_the_day_they_began_on() {
        let mut bought = Features::EMPTY;
        bought.numbers[Number::Purchases as usize] = 3;
        bought.numbers[Number::PurchaseValue as usize] = 1_250;
        let (mut history, mut seen) = (History::default(), Features::EMPTY);
        let at = |day: u64| day * DAY_MS + 5;
        history.begin(at(100), &mut seen);
        assert_eq!(seen.number(Number::VisitsBefore), 0);
        history.add(at(100), &bought);
        history.begin(at(100), &mut seen);
        history.add(at(100), &bought);
        history.begin(at(107), &mut seen);
        history.add(at(107), &Features::EMPTY);
        history.begin(at(110), &mut seen);
        history.add(at(110), &bought);
        history.begin(at(131), &mut seen);
        let number = |number: Number| seen.number(number);
        assert_eq!((number(Number::VisitsBefore), number(Number::DaysSinceVisit)), (4, 21));
        assert_eq!(
            (number(Number::PurchaseDays), number(Number::PurchaseSpan), number(Number::PurchaseAge)),
            (2, 10, 31)
        );
        // What is bought twice a day is paid twice.
        assert_eq!(number(Number::PurchaseSpent), 3_750);
        // A clock that was ahead and is set right counts no day twice, and gives no age below none.
        history.begin(at(90), &mut seen);
        assert_eq!((seen.number(Number::DaysSinceVisit), seen.number(Number::PurchaseAge)), (0, 0));
        history.add(at(90), &bought);
        history.begin(at(140), &mut seen);
        assert_eq!(seen.number(Number::PurchaseDays), 2);
    }
}
