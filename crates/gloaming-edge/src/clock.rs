//! The machine's clocks as edge time.

use std::sync::{Arc, Mutex, PoisonError};
#[cfg(not(target_os = "linux"))]
use std::time::Instant;
use std::time::{SystemTime, UNIX_EPOCH};

use gloaming_window::Timekeeper;

/// How often is said again that the wall clock is not believed, ms.
const SAY_AGAIN_MS: u64 = 60 * 60 * 1000;

/// Tells edge time. A function that returns milliseconds since 1970 does.
pub trait TellsTime: Send + Sync {
    /// Edge time, ms since 1970.
    fn now_ms(&self) -> u64;

    /// How far ahead of edge time the wall clock is, ms, while it is not believed; below zero when it is behind.
    fn doubt_ms(&self) -> Option<i64> {
        None
    }
}

impl<F: Fn() -> u64 + Send + Sync> TellsTime for F {
    fn now_ms(&self) -> u64 {
        self()
    }
}

/// Edge time, shared.
pub type Clock = Arc<dyn TellsTime>;

/// The system's clock as it was at start, carried on by one that nobody sets: small corrections are followed, steps of more
/// than a minute are not, and the log says so.
#[must_use]
pub fn system_clock() -> Clock {
    let steady = Steady::new();
    let time = Timekeeper::new(wall_ms(), steady.ms());
    Arc::new(SystemClock { steady, judged: Mutex::new(Judged { time, say_at_ms: None }) })
}

struct SystemClock {
    steady: Steady,
    judged: Mutex<Judged>,
}

struct Judged {
    time: Timekeeper,
    /// When a doubt is to be said again; nothing while there is none.
    say_at_ms: Option<u64>,
}

/// What only goes on: on Linux while the machine sleeps, too. Elsewhere it may stand meanwhile, and whoever wakes the machine
/// finds its wall clock doubted.
struct Steady {
    #[cfg(not(target_os = "linux"))]
    since: Instant,
}

impl Steady {
    #[cfg(target_os = "linux")]
    fn new() -> Self {
        Self {}
    }

    #[cfg(target_os = "linux")]
    fn ms(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Since the machine was started: neither is below zero.
        time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> Self {
        Self { since: Instant::now() }
    }

    #[cfg(not(target_os = "linux"))]
    fn ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn wall_ms() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

impl Judged {
    fn say(&mut self, steady_ms: u64) {
        match (self.time.doubt_ms(), self.say_at_ms) {
            (Some(doubt_ms), at) if at.is_none_or(|at| at <= steady_ms) => {
                self.say_at_ms = Some(steady_ms + SAY_AGAIN_MS);
                tracing::error!(
                    ahead_s = doubt_ms / 1_000,
                    "ALARM: the wall clock was set by more than a minute; it is not followed, and time goes on as it did: set it right, or restart if what it shows now is right"
                );
            }
            (None, Some(_)) => {
                self.say_at_ms = None;
                tracing::warn!("the wall clock is right again and is followed");
            }
            _ => {}
        }
    }
}

impl TellsTime for SystemClock {
    fn now_ms(&self) -> u64 {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let steady_ms = self.steady.ms();
        let now_ms = judged.time.now(wall_ms(), steady_ms);
        judged.say(steady_ms);
        now_ms
    }

    fn doubt_ms(&self) -> Option<i64> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).time.doubt_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_clocks_are_told_as_they_are() {
        let clock = system_clock();
        let (before, told, after) = (wall_ms(), clock.now_ms(), wall_ms());
        assert!(before <= told && told <= after + 1, "{before} {told} {after}");
        assert_eq!(clock.doubt_ms(), None);
        let steady = Steady::new();
        let from = steady.ms();
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!((30..2_000).contains(&(steady.ms() - from)));
    }

    #[test]
    fn a_function_is_a_clock() {
        let clock: Clock = Arc::new(|| 7);
        assert_eq!((clock.now_ms(), clock.doubt_ms()), (7, None));
    }
}
