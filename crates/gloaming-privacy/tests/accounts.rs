//! Random policies and histories never spend more than the budget, on device and edge.
#![allow(clippy::unwrap_used)]

use gloaming_privacy::{Charge, DeviceAccountant, EdgeLedger, Refusal, Rho};
use gloaming_signal::cbor;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn charges() -> impl Strategy<Value = Vec<Charge>> {
    prop::collection::vec((1u32..12, 1u32..6, 1u64..120_000), 1..80).prop_map(|v| {
        v.into_iter().map(|(metric, per_day, rho)| Charge { metric, per_day, rho: Rho::from_micro(rho) }).collect()
    })
}

proptest! {
    /// Whatever is asked, in whatever order, with clocks that step back, states stored and read
    /// back: an independent sum over what was granted never passes the budget of any day.
    #[test]
    fn a_device_never_overspends(charges in charges(), days in prop::collection::vec(0u64..6, 80), budget in 1u64..400_000) {
        let mut account = DeviceAccountant::default();
        let mut granted: BTreeMap<u64, u64> = BTreeMap::new();
        let mut made: BTreeMap<(u64, u32), u32> = BTreeMap::new();
        for (charge, day) in charges.iter().zip(days) {
            account = cbor::from_slice(&cbor::to_vec(&account)).unwrap();
            let before = account.clone();
            match account.charge(day, Rho::from_micro(budget), *charge) {
                Ok(()) => {
                    *granted.entry(day).or_default() += charge.rho.micro();
                    *made.entry((day, charge.metric)).or_default() += 1;
                    prop_assert!(made[&(day, charge.metric)] <= charge.per_day);
                    prop_assert_eq!(account.spent(day).micro(), granted[&day]);
                }
                Err(_) => prop_assert_eq!(&account, &before),
            }
        }
        for spent in granted.values() {
            prop_assert!(*spent <= budget);
        }
    }

    /// The edge's ledger: the true worst case of what was released on a day stays within the budget.
    #[test]
    fn an_edge_never_overspends(charges in charges(), starts in prop::collection::vec((0u64..10, 0u64..7), 80), budget in 1u64..400_000) {
        let mut ledger = EdgeLedger::default();
        let mut released: BTreeMap<(u64, u32), Vec<Charge>> = BTreeMap::new();
        for (charge, (first, length)) in charges.iter().zip(starts) {
            ledger = cbor::from_slice(&cbor::to_vec(&ledger)).unwrap();
            let before = ledger.clone();
            match ledger.debit(first, first + length, Rho::from_micro(budget), *charge) {
                Ok(()) => (first..=first + length).for_each(|d| released.entry((d, charge.metric)).or_default().push(*charge)),
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::Budget);
                    prop_assert_eq!(&ledger, &before);
                }
            }
        }
        for day in 0..20 {
            let worst: u64 = released.iter().filter(|((d, _), _)| *d == day).map(|(_, all)| {
                all.iter().map(|c| u64::from(c.per_day)).max().unwrap() * all.iter().map(|c| c.rho.micro()).max().unwrap()
            }).sum();
            prop_assert!(worst <= budget);
            prop_assert_eq!(ledger.spent(day).micro(), worst);
        }
    }
}

#[test]
fn refusals_say_why() {
    let charge = Charge { metric: 1, per_day: 2, rho: Rho::from_micro(40) };
    let mut account = DeviceAccountant::default();
    let budget = Rho::from_micro(100);
    assert_eq!(account.charge(5, budget, charge), Ok(()));
    assert_eq!(account.charge(5, budget, charge), Ok(()));
    assert_eq!(account.charge(5, budget, charge), Err(Refusal::PerDay(2)));
    assert_eq!(account.charge(5, budget, Charge { metric: 2, ..charge }), Err(Refusal::Budget));
    assert_eq!(account.charge(4, budget, charge), Err(Refusal::PastDay));
    assert_eq!(account.charge(6, budget, charge), Ok(()));
}

#[test]
fn old_days_are_forgotten() {
    let mut ledger = EdgeLedger::default();
    let charge = Charge { metric: 1, per_day: 1, rho: Rho::from_micro(40) };
    ledger.debit(1, 9, Rho::from_micro(40), charge).unwrap();
    ledger.forget_before(5);
    assert_eq!((ledger.spent(4).micro(), ledger.spent(5).micro()), (0, 40));
}
