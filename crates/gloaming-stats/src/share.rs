//! How far a true share may lie from the one that was seen, by chance.

/// Below and above, `z` standard deviations: the ends of Wilson's interval (1927), from `share`. The usual interval,
/// as wide on both sides, holds far too seldom where few are counted; this one does not.
///
/// `share` lies from 0 to 1, of `people` more than none.
pub(crate) fn reach(share: f64, people: f64, z: f64) -> (f64, f64) {
    let middle = (share + z * z / (2.0 * people)) / (1.0 + z * z / people);
    let half = z / (1.0 + z * z / people) * (share * (1.0 - share) / people + z * z / (4.0 * people * people)).sqrt();
    ((share - middle + half).max(0.0), (middle + half - share).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe (1998), table I: 81 of 263, and 0 of 20.
    #[test]
    fn ends_are_those_that_were_published() {
        for (found, people, low, high) in [(81.0, 263.0, 0.2553, 0.3662), (0.0, 20.0, 0.0, 0.1611)] {
            let share = found / people;
            let (down, up) = reach(share, people, 1.959_963_985);
            assert!((share - down - low).abs() < 5e-5 && (share + up - high).abs() < 5e-5, "{down} {up}");
        }
    }
}
