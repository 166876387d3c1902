//! When to try again: full-jitter exponential backoff, without a clock of its own.

/// First delay's upper end, ms.
const BASE_MS: u64 = 500;
/// Longest delay, ms: an hour's outage is caught up within a minute of its end.
const CAP_MS: u64 = 60_000;

/// How a try to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The centre has it (now or from an earlier try).
    Yes,
    /// Not now; the centre may have asked to wait this long, ms.
    Later(Option<u64>),
    /// The centre says that other bytes bear this number. An alarm; the row stays and is not retried
    /// before `CAP_MS`.
    Conflict,
}

/// Delays between tries (Brooker, "Exponential backoff and jitter": full jitter).
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
    not_before_ms: u64,
}

impl Backoff {
    /// Whether it is time to try.
    #[must_use]
    pub fn ready(&self, now_ms: u64) -> bool {
        now_ms >= self.not_before_ms
    }

    /// Takes the outcome of a try; `random` decides where in the interval the next one falls.
    pub fn after(&mut self, outcome: Delivered, now_ms: u64, random: u64) {
        match outcome {
            Delivered::Yes => *self = Self::default(),
            Delivered::Conflict => self.not_before_ms = now_ms + CAP_MS,
            Delivered::Later(asked) => {
                let ceiling = BASE_MS.saturating_mul(1 << self.failures.min(20)).min(CAP_MS);
                self.failures = self.failures.saturating_add(1);
                let wait = (random % (ceiling + 1)).max(asked.unwrap_or(0).min(10 * CAP_MS));
                self.not_before_ms = now_ms + wait;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_a_success_forgets_them() {
        let mut backoff = Backoff::default();
        assert!(backoff.ready(0));
        let mut longest = 0;
        for _ in 0..40 {
            backoff.after(Delivered::Later(None), 1_000, u64::MAX - 1);
            longest = longest.max(backoff.not_before_ms - 1_000);
        }
        assert!(longest <= CAP_MS);
        backoff.after(Delivered::Later(Some(90_000)), 0, 0);
        assert!(!backoff.ready(89_999) && backoff.ready(90_000));
        backoff.after(Delivered::Yes, 5, 5);
        assert!(backoff.ready(5));
    }
}
