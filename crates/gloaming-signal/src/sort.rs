//! Sorting short lists in few bytes.

/// Sorts a short list in place, keeping the order of equals. Quadratic, for the few dozen items that a
/// device holds: std's sorts are faster beyond that, and 4 kB of every visitor's download for each type.
pub fn insertion_sort<T>(items: &mut [T], before: impl Fn(&T, &T) -> bool) {
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && before(&items[at], &items[at - 1]) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_std_does_and_keeps_equals_in_order(items in prop::collection::vec((0u8..8, any::<u8>()), 0..80)) {
            let (mut ours, mut theirs) = (items.clone(), items);
            insertion_sort(&mut ours, |a, b| a.0 < b.0);
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(ours, theirs);
        }
    }
}
