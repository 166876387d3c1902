//! Sessions one after the other, and events of one millisecond put in order.

use alloc::vec::Vec;

use gloaming_signal::cbor::{self, Cbor, Error, Reader, Writer};
use gloaming_signal::{Event, EventKind, cbor_record, insertion_sort, limits};

use crate::config::Config;
use crate::definitions::{SESSION_IDLE_MS, SESSION_MAX_MS};
use crate::features::{Features, NONE};
use crate::history::History;
use crate::session::Session;

/// Events of one millisecond that are put in order before they count. A page makes one or two; a
/// 65th begins a second round, after which the order of that millisecond is the order of arrival.
const SAME_TIME: usize = 64;

/// Ended sessions that wait to be told.
const FINISHED: usize = 4;

/// A session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// When it began, ms since 1970: its name on this device.
    pub started_ms: u64,
    /// Its last event, ms since 1970.
    pub last_ms: u64,
    /// What it came to.
    pub features: Features,
}

cbor_record!(Finished { started_ms, last_ms, features });

/// Follows one device on one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    config: Config,
    history: History,
    session: Option<Session>,
    finished: Vec<Finished>,
    now_ms: u64,
    same_time: [Event; SAME_TIME],
    same_time_len: usize,
}

impl Tracker {
    /// A tracker that has seen nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let none = Event::new(0, EventKind::Visit, 0);
        Self {
            config,
            history: History::default(),
            session: None,
            finished: Vec::with_capacity(FINISHED + 1),
            now_ms: 0,
            same_time: [none; SAME_TIME],
            same_time_len: 0,
        }
    }

    /// Tells what time it is now, ms since 1970, before the first event after a restore. When the stored time
    /// is far ahead of it the clock was wrong then, and a session begins anew instead of waiting for that time.
    pub fn rewind(&mut self, now_ms: u64) {
        if now_ms.saturating_add(SESSION_IDLE_MS) < self.now_ms {
            self.apply_same_time();
            self.now_ms = now_ms;
        }
    }

    /// Takes an event. A time before the last one's counts as the last one's: device clocks step back, and
    /// what a tab in the background saw arrives late.
    pub fn push(&mut self, mut event: Event) {
        event.at_ms = event.at_ms.max(self.now_ms);
        if event.at_ms > self.now_ms || self.same_time_len == SAME_TIME {
            self.apply_same_time();
            self.now_ms = event.at_ms;
        }
        self.same_time[self.same_time_len] = event;
        self.same_time_len += 1;
    }

    fn apply_same_time(&mut self) {
        let mut events = self.same_time;
        let events = &mut events[..core::mem::take(&mut self.same_time_len)];
        insertion_sort(events, |one, other| one < other);
        for event in events {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: &Event) {
        let longer = |from_ms, limit| event.at_ms.checked_sub(from_ms).is_none_or(|ms| ms > limit);
        let ended = |s: &Session| longer(s.last_ms, SESSION_IDLE_MS) || longer(s.started_ms, SESSION_MAX_MS);
        if event.kind == EventKind::PointerMove {
            // A session neither begins with a move nor lives longer for it: what it was before moves were told stays so.
            let running = self.session.as_mut().filter(|session| !ended(session));
            running.into_iter().for_each(|session| session.moved(event));
            return;
        }
        if self.session.as_ref().is_none_or(ended) {
            if let Some(session) = self.session.as_ref() {
                let finished = session.finished();
                self.history.add(finished.started_ms, &finished.features);
                self.finished.push(finished);
                if self.finished.len() > FINISHED {
                    self.finished.remove(0);
                }
            }
            let mut next = Session::begin(event.at_ms, self.session.as_ref());
            self.history.begin(event.at_ms, next.features_mut());
            self.session = Some(next);
        }
        if let Some(session) = &mut self.session {
            session.apply(&self.config, event);
        }
    }

    /// The running session's features; with `leaving`, as they stand when the page is left now.
    #[must_use]
    pub fn features(&self, leaving: bool) -> Features {
        if self.same_time_len == 0 {
            return self.session.as_ref().map_or(Features::EMPTY, |s| s.features(leaving));
        }
        let mut ahead = self.clone();
        ahead.apply_same_time();
        ahead.session.as_ref().map_or(Features::EMPTY, |s| s.features(leaving))
    }

    /// When the running session began, ms; the session's name on this device.
    #[must_use]
    pub fn session_started_ms(&self) -> Option<u64> {
        let mut ahead = self.clone();
        ahead.apply_same_time();
        ahead.session.map(|s| s.started_ms)
    }

    /// Sessions that have ended and were not forgotten, oldest first; four at most.
    #[must_use]
    pub fn finished(&self) -> Vec<Finished> {
        let mut ahead = self.clone();
        ahead.apply_same_time();
        ahead.finished
    }

    /// Forgets ended sessions up to the one that began at `started_ms`.
    pub fn forget_finished(&mut self, started_ms: u64) {
        self.apply_same_time();
        self.finished.retain(|f| f.started_ms > started_ms);
    }

    /// Forgets what pages said about themselves in one of their declared features.
    pub fn forget_page_feature(&mut self, index: usize) {
        self.apply_same_time();
        let sessions = self.session.iter_mut().map(Session::features_mut);
        for features in sessions.chain(self.finished.iter_mut().map(|f| &mut f.features)) {
            if let Some(slot) = features.page.get_mut(index) {
                *slot = NONE;
            }
        }
    }

    /// Keeps what stays under another policy, whose groups and funnels may mean something else: that there were visits, the
    /// one that was running among them, and what was bought.
    pub fn remember(&mut self) {
        self.apply_same_time();
        if let Some(session) = self.session.take() {
            let finished = session.finished();
            self.history.add(finished.started_ms, &finished.features);
        }
        self.finished.clear();
    }

    /// State as bytes; [`Tracker::restore`] goes on as if there had been no break, but for a movement of the pointer: where it
    /// was is stored nowhere.
    #[must_use]
    pub fn store(&self) -> Vec<u8> {
        let waiting = self.same_time[..self.same_time_len].iter();
        cbor::to_vec(&State {
            history: self.history,
            session: self.session.as_ref().map(Session::without_place),
            finished: self.finished.clone(),
            now_ms: self.now_ms,
            same_time: waiting.filter(|event| event.kind != EventKind::PointerMove).copied().collect(),
        })
    }

    /// Takes up stored state under a (possibly newer) policy's config.
    ///
    /// # Errors
    /// When the bytes are not a tracker's state of this version; begin anew then.
    pub fn restore(config: Config, bytes: &[u8]) -> Result<Self, Error> {
        let state = State::read(bytes)?;
        let mut tracker = Self::new(config);
        tracker.history = state.history;
        tracker.session = state.session;
        tracker.finished = state.finished;
        tracker.now_ms = state.now_ms;
        tracker.same_time[..state.same_time.len()].copy_from_slice(&state.same_time);
        tracker.same_time_len = state.same_time.len();
        Ok(tracker)
    }
}

impl State {
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > limits::STATE_BYTES {
            return Err(Error::Limit(limits::STATE_BYTES));
        }
        cbor::from_slice(bytes).or_else(|error| cbor::start(bytes, Self::before).map_err(|_| error))
    }

    /// What a device remembers from before an update: earlier visits, and not the one that was running, whose features were others.
    fn before(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if !reader.record_or(6)? {
            return Err(reader.limit());
        }
        let history = match u8::decode(reader)? {
            3 => History::before(reader)?,
            4 => History::decode(reader)?,
            _ => return Err(reader.limit()),
        };
        Ok(Self { now_ms: history.last_ms(), history, session: None, finished: Vec::new(), same_time: Vec::new() })
    }
}

/// What is stored: everything but the config, which comes from the policy.
struct State {
    history: History,
    session: Option<Session>,
    finished: Vec<Finished>,
    now_ms: u64,
    same_time: Vec<Event>,
}

impl Cbor for State {
    fn encode(&self, writer: &mut Writer) {
        writer.list(6);
        5u8.encode(writer);
        self.history.encode(writer);
        self.session.encode(writer);
        self.finished.encode(writer);
        self.now_ms.encode(writer);
        self.same_time.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(6, |reader| {
            if u8::decode(reader)? != 5 {
                return Err(reader.limit());
            }
            let state = Self {
                history: Cbor::decode(reader)?,
                session: Cbor::decode(reader)?,
                finished: Cbor::decode(reader)?,
                now_ms: Cbor::decode(reader)?,
                same_time: Cbor::decode(reader)?,
            };
            // Times that contradict each other would underflow later; such bytes are not ours.
            let sound = state.session.is_none_or(|s| s.started_ms <= s.last_ms)
                && state.finished.len() <= FINISHED
                && state.finished.iter().all(|f| f.started_ms <= f.last_ms)
                && state.same_time.len() <= SAME_TIME
                && state.same_time.iter().all(|e| e.at_ms == state.now_ms);
            if sound { Ok(state) } else { Err(reader.limit()) }
        })
    }
}
