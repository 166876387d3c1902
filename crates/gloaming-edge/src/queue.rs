//! What waits for a thread that owns a state: bodies, fairly by site, and commands, which go before them.
//!
//! Both ends close it by ending. Whoever then still waits is dropped with what they would be answered by, so that nobody
//! waits for an answer that cannot come.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gloaming_signal::relay;
use gloaming_window::Answer;
use tokio::sync::oneshot;

use crate::error::EngineError;
use crate::lanes::Lanes;

/// Bodies that may wait, of all sites: as many as a listener has requests in hand. One site that floods has half of them, and
/// meets its bound here, where sites are known; several at once, with the group that is committed, may fill the door as
/// well, where nobody is told apart. Fifty milliseconds of work for a processor, and 64 MB when all are of the largest size.
pub(crate) const ROOM: usize = 4_096;
/// Commands that may wait. They come from the few tasks that deliver and from operators, who each wait for the answer.
const COMMANDS: usize = 1_024;

/// What became of a body, or why nothing was decided.
pub(crate) type Judged = Result<Answer, EngineError>;

/// A body that waits to be judged, and a number for the network it came from.
pub(crate) struct Body {
    pub(crate) body: Bytes,
    pub(crate) network: Option<u64>,
    pub(crate) answer: oneshot::Sender<Judged>,
}

struct State<B, C> {
    bodies: Lanes<B>,
    commands: VecDeque<C>,
    closed: bool,
    /// Whether the thread sleeps: waking it costs a call of the system, which is saved while it works.
    asleep: bool,
}

struct Shared<B, C> {
    state: Mutex<State<B, C>>,
    wake: Condvar,
    refused: AtomicU64,
}

impl<B, C> Shared<B, C> {
    /// Whoever panicked while holding it held nothing half done: each change is one call.
    fn state(&self) -> MutexGuard<'_, State<B, C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State<B, C>) -> T) -> T {
        let mut state = self.state();
        let outcome = change(&mut state);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        outcome
    }
}

/// The end of those who ask.
pub(crate) struct Queue<B, C>(Arc<Shared<B, C>>);

/// The thread's end.
pub(crate) struct Turns<B, C>(Arc<Shared<B, C>>);

/// Both ends of a queue in which `room` bodies wait at most.
pub(crate) fn queue<B, C>(room: usize) -> (Queue<B, C>, Turns<B, C>) {
    let state = State { bodies: Lanes::new(room), commands: VecDeque::new(), closed: false, asleep: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), refused: AtomicU64::new(0) });
    (Queue(Arc::clone(&shared)), Turns(shared))
}

impl<C> Queue<Body, C> {
    /// Where the answer will be; nowhere when no more may wait for its site.
    pub(crate) fn post(&self, body: Bytes, network: Option<u64>) -> Option<oneshot::Receiver<Judged>> {
        let (answer, answered) = oneshot::channel();
        self.body(Body { body, network, answer }, |waiting| relay::site(&waiting.body)).then_some(answered)
    }

    /// Judges a body; the answer comes after what counted is durable.
    pub(crate) async fn judge(&self, body: Bytes, network: Option<u64>) -> Judged {
        let Some(answered) = self.post(body, network) else { return Err(EngineError::Busy) };
        answered.await.unwrap_or(Err(EngineError::Busy))
    }
}

impl<B, C> Queue<B, C> {
    /// Asks the thread; nothing when there was no place, or it has ended.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> C) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        if self.command(command(sender)) { answer.await.ok() } else { None }
    }

    /// Lets a body wait among those of the site that it names; whether there was a place for it.
    fn body(&self, body: B, site: impl FnOnce(&B) -> Option<&str>) -> bool {
        let refused = self.0.change(|state| {
            let lane = state.bodies.of(site(&body));
            if state.closed { Some(body) } else { state.bodies.push(lane, body).err() }
        });
        if refused.is_some() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        refused.is_none()
    }

    /// Lets a command wait; whether there was a place for it.
    fn command(&self, command: C) -> bool {
        self.0.change(|state| {
            let room = !state.closed && state.commands.len() < COMMANDS;
            if room {
                state.commands.push_back(command);
            }
            room
        })
    }

    /// Bodies that there was no place for.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Takes nothing any more; what waits is still the thread's to do.
    pub(crate) fn close(&self) {
        self.0.change(|state| state.closed = true);
    }
}

impl<B, C> Drop for Queue<B, C> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<B, C> Turns<B, C> {
    /// Waits until there is something to do, or a time is over; whether bodies wait.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let mut state = self.0.state();
        if state.bodies.waiting() == 0 && state.commands.is_empty() && !state.closed {
            state.asleep = true;
            // Woken for nothing, the thread has a look round and comes back.
            state = self.0.wake.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0;
            state.asleep = false;
        }
        state.bodies.waiting() > 0
    }

    /// Whether nothing waits and nothing will.
    pub(crate) fn over(&self) -> bool {
        let state = self.0.state();
        state.closed && state.commands.is_empty() && state.bodies.waiting() == 0
    }

    /// The next command.
    pub(crate) fn command(&self) -> Option<C> {
        self.0.state().commands.pop_front()
    }

    /// Bodies, of each site its share.
    pub(crate) fn bodies(&self, most: usize) -> Vec<B> {
        self.0.state().bodies.take(most)
    }

    /// The sites that have a share of their own from now on.
    pub(crate) fn know<'s>(&self, sites: impl IntoIterator<Item = &'s str>) {
        self.0.state().bodies.know(sites);
    }
}

impl<B, C> Drop for Turns<B, C> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        let waiting = (state.bodies.take(usize::MAX), std::mem::take(&mut state.commands));
        // What they do when they are dropped is done without the lock.
        drop(state);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_sleeps_is_woken_by_whatever_comes() {
        let (queue, turns) = queue::<u32, u32>(8);
        let (told, hear) = channel();
        let thread = std::thread::spawn(move || {
            while !turns.over() {
                turns.wait(LONG);
                while let Some(command) = turns.command() {
                    told.send(command).unwrap();
                }
                turns.bodies(10).into_iter().for_each(|body| told.send(body).unwrap());
            }
        });
        let began = Instant::now();
        for round in 0..500 {
            assert!(if round % 2 == 0 { queue.body(round, |_| None) } else { queue.command(round) });
            assert_eq!(hear.recv_timeout(LONG), Ok(round));
        }
        queue.close();
        thread.join().unwrap();
        assert!(began.elapsed() < LONG, "a wake was missed");
    }

    #[test]
    fn what_was_taken_before_it_closed_is_done_and_nothing_after() {
        fn known(_: &u32) -> Option<&str> {
            Some("a.example")
        }
        let (queue, turns) = queue::<u32, u32>(8);
        turns.know(["a.example"]);
        assert!(queue.body(1, known) && queue.command(2) && queue.body(3, |_| None));
        queue.close();
        assert!(!queue.body(4, known) && !queue.command(5));
        assert!(!turns.over() && turns.wait(LONG));
        assert_eq!((turns.command(), turns.command()), (Some(2), None));
        assert_eq!(turns.bodies(9), [1, 3]);
        assert!(turns.over() && !turns.wait(LONG));
        assert_eq!(queue.refused(), 1);
    }

    /// The thread has failed: whoever waits for an answer hears that there will be none.
    #[test]
    fn nobody_waits_for_a_thread_that_has_ended() {
        let (queue, turns) = queue::<std::sync::mpsc::Sender<()>, ()>(8);
        let (answer, answered) = channel();
        assert!(queue.body(answer, |_| None));
        drop(turns);
        assert!(answered.recv_timeout(LONG).is_err());
        let (answer, answered) = channel();
        assert!(!queue.body(answer, |_| None) && !queue.command(()));
        assert!(answered.recv_timeout(LONG).is_err());
    }

    #[test]
    fn commands_are_bounded_too() {
        let (queue, turns) = queue::<(), usize>(8);
        assert_eq!((0..COMMANDS * 2).take_while(|number| queue.command(*number)).count(), COMMANDS);
        assert_eq!(turns.command(), Some(0));
        drop(queue);
        assert!(!turns.over(), "what waits is done first");
    }
}
