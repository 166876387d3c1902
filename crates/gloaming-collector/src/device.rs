//! One device on one site: what a worker does with events, as a state machine without a browser.

use gloaming_behavior::definitions::DEFINITIONS;
use gloaming_behavior::{Features, NONE, Tracker};
use gloaming_policy::{
    Axis, Beside, Model, ModelState, PageFeature, Policy, Score, Source, WAYS, campaign_of, group_of, referrer_class,
    score_steps,
};
use gloaming_privacy::{DAY_MS, DeviceAccountant};
use gloaming_signal::cbor::{self, Bytes};
use gloaming_signal::{Contribution, Event, EventKind, Submission, hash, insertion_sort, limits};

use crate::state::{Known, Line, Made, State, Words, joined, left};

mod arms;
mod told;

/// Sessions whose scores are kept: the running one and those that wait to be told.
const SCORES: usize = 5;

/// What the page tells about itself and the person's decision.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Purposes the person agreed to.
    pub purposes: Vec<String>,
    /// The page's host name.
    pub host: String,
    /// 0 phone, 1 tablet, 2 desktop, 3 other.
    pub device_class: u32,
    /// Width of the window, CSS pixels.
    pub width: u32,
    /// Local weekday, 0 Monday.
    pub weekday: u32,
    /// Local hour.
    pub hour: u32,
    /// The check lane: judged and answered by the edge, counted by nobody.
    pub check: bool,
    /// The device's time now, ms since 1970.
    pub now_ms: f64,
    /// Experiments that have ended by themselves, as the edge says; only those count whose policy says that they may.
    pub stopped: Vec<String>,
}

/// See [`crate::Prepared`].
#[derive(Clone, Debug)]
pub struct Prepared {
    /// State when the visit goes on.
    pub kept: Vec<u8>,
    /// State when `submission` is sent.
    pub sent: Vec<u8>,
    /// A submission, or nothing.
    pub submission: Option<Vec<u8>>,
    /// Edge time at which the first of its windows ends, ms: sent later, it would come too late.
    pub until_ms: u64,
}

/// What sending changes.
#[derive(Clone, Debug, Default)]
struct Sending {
    account: DeviceAccountant,
    session: u64,
    metrics: Vec<u32>,
    lines: Vec<Line>,
}

/// See the module's page.
pub struct Device {
    policy: Policy,
    policy_hash: [u8; 32],
    setup: Setup,
    /// Purpose by index, whether agreed to.
    granted: Vec<bool>,
    tracker: Tracker,
    account: DeviceAccountant,
    sent_session: u64,
    sent_metrics: Vec<u32>,
    ledger: Vec<Line>,
    /// By session, the running one's last.
    made: Vec<Made>,
    /// What was known of this device when it first met experiments.
    known: Vec<Known>,
    /// What arms of experiments follow from: drawn here where there are any, and sent to nobody.
    lot: Option<[u8; 32]>,
    seed: [u8; 32],
    drawn: u64,
    pending: Option<Sending>,
    unknown_events: u32,
}

impl Device {
    /// See [`crate::Collector::new`].
    ///
    /// # Errors
    /// When the policy cannot be read or the seed is not 32 bytes.
    pub fn new(policy: &[u8], setup: Setup, state: &[u8], seed: &[u8]) -> Result<Self, String> {
        let policy_hash = hash::sha256(policy);
        let policy = Policy::from_bytes(policy).map_err(|error| format!("the policy: {error}"))?;
        let seed: [u8; 32] = seed.try_into().map_err(|_| "a seed has 32 bytes".to_owned())?;
        let granted = policy.purposes.iter().map(|p| setup.purposes.contains(&p.id)).collect();
        let mut device = Self {
            tracker: Tracker::new(policy.behavior.clone()),
            account: DeviceAccountant::default(),
            sent_session: 0,
            sent_metrics: Vec::new(),
            ledger: Vec::new(),
            made: Vec::new(),
            known: Vec::new(),
            lot: None,
            policy,
            policy_hash,
            setup,
            granted,
            seed,
            drawn: 0,
            pending: None,
            unknown_events: 0,
        };
        if let Ok(state) = State::read(state) {
            device.restore(state);
        }
        if !device.policy.experiments.iter().any(|e| device.agrees_to(e.purpose)) {
            device.lot = None;
        } else if device.lot.is_none() {
            device.lot = Some(hash::sha256(&device.seed));
        }
        Ok(device)
    }

    /// Takes up kept state. Account, ledger and what is remembered of earlier visits outlive a change of policy; a
    /// session in the middle of it does not, because its groups and funnels may mean something else now.
    fn restore(&mut self, state: State) {
        let same = state.policy_hash == self.policy_hash;
        if let Ok(tracker) = Tracker::restore(self.policy.behavior.clone(), &state.tracker.0) {
            self.tracker = tracker;
            if !same {
                self.tracker.remember();
            }
            self.tracker.rewind(self.setup.now_ms as u64);
        }
        if same {
            let (models, experiments) = (self.policy.models.len(), self.policy.experiments.len());
            let fits = |made: &Made| made.scores.len() == models && made.arms.len() == experiments;
            if state.made.len() <= SCORES && state.made.iter().all(fits) {
                self.made = state.made;
            }
            self.forget_ungranted();
        }
        self.taken_back(&state.purposes);
        self.lot = state.lot;
        // Of experiments that have ended, and of those that are not agreed to any more, nothing is kept.
        let runs = |known: &Known| {
            self.policy.experiments.iter().any(|e| e.id == known.experiment && self.agrees_to(e.purpose))
        };
        self.known = state.known.into_iter().filter(runs).collect();
        self.account = state.account;
        self.sent_session = state.sent_session;
        self.sent_metrics = state.sent_metrics;
        self.ledger = left(state.ledger, &self.policy, &self.agreed());
    }

    /// Whether the person agreed to a purpose, by its index.
    fn agrees_to(&self, purpose: u32) -> bool {
        self.granted.get(purpose as usize) == Some(&true)
    }

    /// Purposes of this policy that the person agrees to.
    fn agreed(&self) -> Vec<String> {
        let all = self.policy.purposes.iter().zip(&self.granted);
        all.filter(|(_, granted)| **granted).map(|(purpose, _)| purpose.id.clone()).collect()
    }

    /// Tells the running session of purposes that were agreed to when the state was kept, and are not now. A policy that no longer
    /// has them took them back itself.
    fn taken_back(&mut self, before: &[String]) {
        let gone =
            self.policy.purposes.iter().zip(&self.granted).filter(|(p, granted)| !**granted && before.contains(&p.id));
        // Where no visit runs there is none to tell of it.
        let runs = self.tracker.session_started_ms().is_some();
        if let Some(gone) = u32::try_from(gone.count()).ok().filter(|gone| *gone > 0 && runs) {
            // At the time of what happened last: it belongs to the visit in which it was said.
            self.tracker.push(Event { at_ms: 0, kind: EventKind::PurposeWithdrawn, a: gone, b: 0, c: 0 });
        }
    }

    /// A purpose taken back takes along what was made for it.
    fn forget_ungranted(&mut self) {
        for (index, model) in self.policy.models.iter().enumerate() {
            if !self.agrees_to(model.purpose) {
                self.made.iter_mut().for_each(|made| made.scores[index] = Score::NONE);
            }
        }
        for (index, experiment) in self.policy.experiments.iter().enumerate() {
            if !self.agrees_to(experiment.purpose) {
                self.made.iter_mut().for_each(|made| made.arms[index] = NONE);
            }
        }
        for (index, feature) in self.policy.page_features.iter().enumerate() {
            if !self.agrees_to(feature.purpose) {
                self.tracker.forget_page_feature(index);
            }
        }
    }

    /// See [`crate::Collector::page`].
    pub fn page(&mut self, at_ms: u64, nav: u32, path: &str, referrer_host: &str, campaign: &str) {
        let setup = &self.setup;
        let viewport = [576, 768, 992, 1200].iter().filter(|edge| setup.width >= **edge).count();
        let visit = Event {
            at_ms,
            kind: EventKind::Visit,
            a: referrer_class(referrer_host, &setup.host),
            b: setup.device_class.min(3) + 16 * u32::try_from(viewport).unwrap_or(0),
            c: campaign_of(&self.policy, campaign) << 8 | setup.weekday.min(6) << 5 | setup.hour.min(23),
        };
        self.tracker.push(visit);
        let group = group_of(&self.policy, path);
        self.tracker.push(Event { at_ms, kind: EventKind::PageView, a: group, b: nav, c: 0 });
    }

    /// An event as numbers; an unknown kind is counted.
    pub fn push(&mut self, at_ms: u64, kind: u32, a: u32, b: u32, c: u32) {
        // Custom events and page features come by name, so that only declared ones get in.
        match u8::try_from(kind).ok().and_then(EventKind::from_number) {
            None | Some(EventKind::Custom | EventKind::PageFeature) => self.unknown_events += 1,
            Some(kind) => self.tracker.push(Event { at_ms, kind, a, b, c }),
        }
    }

    /// See [`crate::Collector::moves`].
    #[must_use]
    pub fn moves(&self) -> bool {
        let pointer = |at: &u32| DEFINITIONS.get(*at as usize).is_some_and(|known| known.name.starts_with("pointer-"));
        let axis = |axis: &Axis| matches!(&axis.source, Source::Feature(at) if pointer(at));
        let Policy { models, metrics, .. } = &self.policy;
        let runs = |model: &&Model| model.state != ModelState::Off && self.agrees_to(model.purpose);
        models.iter().filter(runs).any(|model| model.inputs.iter().any(pointer))
            || metrics.iter().any(|metric| self.agrees_to(metric.purpose) && metric.axes.iter().any(axis))
    }

    /// See [`crate::Collector::custom`].
    pub fn custom(&mut self, at_ms: u64, name: &str) -> bool {
        if let Some(id) = name.strip_prefix("exposure:") {
            let found = self.policy.experiments.iter().position(|e| e.id == id);
            self.unknown_events += u32::from(found.is_none());
            // What was seen now belongs to the visit of now: this ends one that is over, and counts nothing.
            self.tracker.push(Event::new(at_ms, EventKind::EngagedTime, 0));
            return self.exposed(found).is_some();
        }
        let found = self.policy.events.iter().position(|e| e == name).and_then(|i| u32::try_from(i).ok());
        if let Some(index) = found {
            self.tracker.push(Event::new(at_ms, EventKind::Custom, index));
        } else {
            self.unknown_events += 1;
        }
        found.is_some()
    }

    /// See [`crate::Collector::feature_number`].
    pub fn feature(&mut self, at_ms: u64, id: &str, steps: impl Fn(&PageFeature) -> Option<u32>) -> bool {
        let found = self.policy.page_features.iter().position(|f| f.id == id);
        let value = found.and_then(|i| {
            let feature = &self.policy.page_features[i];
            let agreed = self.agrees_to(feature.purpose);
            Some((u32::try_from(i).ok()?, agreed.then(|| steps(feature)).flatten()?))
        });
        if let Some((index, steps)) = value {
            self.tracker.push(Event { at_ms, kind: EventKind::PageFeature, a: index, b: steps, c: 0 });
        } else {
            self.unknown_events += 1;
        }
        value.is_some()
    }

    /// See [`crate::Collector::model_inputs`]. Empty when the person did not agree to the model's purpose.
    #[must_use]
    pub fn model_inputs(&self, model: usize) -> Vec<f32> {
        let Some(model) = self.policy.models.get(model) else { return Vec::new() };
        if !self.agrees_to(model.purpose) {
            return Vec::new();
        }
        let features = self.tracker.features(false);
        model
            .inputs
            .iter()
            .map(|input| self.policy.model_input(&features, *input))
            .collect::<Option<_>>()
            .unwrap_or_default()
    }

    /// See [`crate::Collector::set_score`].
    pub fn set_score(&mut self, model: usize, score: f32) -> bool {
        let (steps, acts) = (score_steps(score), self.policy.models.get(model).is_some_and(|model| model.state.acts()));
        let Some(slot) = self.slot(model) else { return false };
        slot.steps = steps.unwrap_or(NONE);
        if steps.is_none() || !acts {
            return false;
        }
        // Whether the page would hear it is when people become comparable, in the control too; who takes no part hears nothing
        // either, or what pages do with scores would be there without being tried.
        let tried = self.tried(model);
        tried.is_none() || self.exposed(tried).is_some_and(|arm| arm > 0)
    }

    /// See [`crate::Collector::fared`].
    pub fn fared(&mut self, model: usize, how: u32) {
        if let Some(slot) = self.slot(model).filter(|_| how < WAYS) {
            slot.take(how);
        }
    }

    /// Where the running session keeps what a model made of it; `None` without consent to its purpose.
    fn slot(&mut self, model: usize) -> Option<&mut Score> {
        let declared = self.policy.models.get(model)?;
        let granted = self.agrees_to(declared.purpose);
        self.running()?.scores.get_mut(model).filter(|_| granted)
    }

    /// What is kept of the running session.
    fn running(&mut self) -> Option<&mut Made> {
        let session = self.tracker.session_started_ms()?;
        if self.made.last().is_none_or(|made| made.session != session) {
            self.made.push(self.none(session));
            if self.made.len() > SCORES {
                self.made.remove(0);
            }
        }
        self.made.last_mut()
    }

    fn none(&self, session: u64) -> Made {
        let (models, experiments) = (self.policy.models.len(), self.policy.experiments.len());
        Made { session, scores: vec![Score::NONE; models], arms: vec![NONE; experiments] }
    }

    /// What was made of a session and met by it, and by no other.
    fn made_of(&self, session: u64) -> Made {
        let of = self.made.iter().find(|made| made.session == session);
        of.cloned().unwrap_or_else(|| self.none(session))
    }

    /// 32 bytes of the seed's stream: SHA-256 of seed and counter.
    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        hash::sha256(&[&self.seed[..], &self.drawn.to_le_bytes()].concat())
    }

    /// See [`crate::Collector::prepare`].
    pub fn prepare(&mut self, edge_ms: u64) -> Prepared {
        let kept = self.state(&self.tracker, &self.account, (self.sent_session, &self.sent_metrics), &[]);
        let running = self.tracker.session_started_ms().map(|start| (start, self.tracker.features(true)));
        // One session at a time, the older first: two in one submission would tell that they are one device's.
        let mut sessions = self.untold();
        sessions.extend(running);
        let told = sessions.into_iter().find_map(|(session, features)| {
            let (sending, contributions) = self.contribute(session, &features, edge_ms);
            (!contributions.is_empty()).then_some((sending, contributions))
        });
        let Some((sending, contributions)) = told else {
            self.pending = None;
            return Prepared { sent: kept.clone(), kept, submission: None, until_ms: u64::MAX };
        };
        let ends = contributions.iter().filter_map(|c| {
            let metric = self.policy.metric(c.metric)?;
            Some((c.window + 1).saturating_mul(metric.span_ms))
        });
        // Nor may it leave on another day than the one that was charged.
        let until_ms = ends.fold((edge_ms / DAY_MS + 1) * DAY_MS, u64::min);
        let submission = Submission {
            site: self.policy.site.clone(),
            policy_version: self.policy.version,
            policy_hash: self.policy_hash,
            check: self.setup.check,
            contributions,
        };
        let sent = if self.setup.check {
            // A check is charged to nobody: nothing of it is kept.
            kept.clone()
        } else {
            let mut tracker = self.tracker.clone();
            tracker.forget_finished(sending.session);
            let sent = self.state(&tracker, &sending.account, (sending.session, &sending.metrics), &sending.lines);
            self.pending = Some(sending);
            sent
        };
        Prepared { kept, sent, submission: Some(cbor::to_vec(&submission)), until_ms }
    }

    /// Sessions that ended while nobody left, oldest first: the tab stayed open, or the page went before it
    /// could tell. What is older than a day is let go: it would count in a window it has nothing to do with.
    fn untold(&self) -> Vec<(u64, Features)> {
        let Some(now_ms) = self.tracker.session_started_ms().filter(|_| !self.setup.check) else { return Vec::new() };
        let untold = self.tracker.finished().into_iter().filter(|finished| {
            let age_ms = now_ms.checked_sub(finished.last_ms);
            finished.started_ms != self.sent_session && age_ms.is_some_and(|ms| ms <= DAY_MS)
        });
        untold.map(|finished| (finished.started_ms, finished.features)).collect()
    }

    /// Makes the contributions that the person agreed to and the account pays for. When not all fit the
    /// day (a policy changed within it), which ones go is drawn anew, so that none is always the loser.
    fn contribute(&mut self, session: u64, features: &Features, edge_ms: u64) -> (Sending, Vec<Contribution>) {
        // A check shows all that this visit would say, whether or not it was said already.
        let again = session == self.sent_session && !self.setup.check;
        let metrics = if again { self.sent_metrics.clone() } else { Vec::new() };
        let mut sending = Sending { account: self.account.clone(), session, metrics, lines: Vec::new() };
        let (mut contributions, made) = (Vec::new(), self.made_of(session));
        let draws: Vec<[u8; 32]> = (0..self.policy.learners.len()).map(|_| self.draw()).collect();
        let votes = self.policy.learners.iter().zip(&draws).map(|(learner, drawn)| {
            let draw = drawn.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            learner.vote(features, draw).unwrap_or(NONE)
        });
        let votes: Vec<u32> = votes.collect();
        let before = self.before();
        let beside = Beside { scores: &made.scores, arms: &made.arms, before: &before, votes: &votes };
        // Arms stay with a device: a submission that bore those of many experiments could be told from all others.
        let mut only = None;
        let mut order: Vec<([u8; 32], usize)> = (0..self.policy.metrics.len()).map(|i| (self.draw(), i)).collect();
        insertion_sort(&mut order, |one, other| one < other);
        for (random, index) in order {
            let metric = &self.policy.metrics[index];
            if contributions.len() == limits::CONTRIBUTIONS
                || !self.agrees_to(metric.purpose)
                || sending.metrics.contains(&metric.id)
            {
                continue;
            }
            let Some(cell) = metric.cell_of(features, beside) else { continue };
            if let Some(Source::Arm(experiment)) = metric.axes.first().map(|axis| axis.source)
                && *only.get_or_insert(experiment) != experiment
            {
                continue;
            }
            // A demo's day is as short as a test: the price is real, the day is the edge's.
            if !self.setup.check
                && sending.account.charge(edge_ms / DAY_MS, self.policy.budget, metric.charge()).is_err()
            {
                continue;
            }
            let mut id = [0; 16];
            id.copy_from_slice(&random[16..]);
            let window = edge_ms / metric.span_ms;
            contributions.push(Contribution { id, metric: metric.id, window, cell: cell.cell, value: cell.value });
            sending.metrics.push(metric.id);
            sending.lines.push(Line {
                at_ms: edge_ms,
                metric: metric.id,
                window,
                cell: cell.cell,
                value: cell.value,
                words: Words::of(&self.policy, metric.id, cell.cell),
            });
        }
        insertion_sort(&mut contributions, |one, other| one.metric < other.metric);
        (sending, contributions)
    }

    /// Goes on after the prepared submission was sent.
    pub fn commit_sent(&mut self) {
        if let Some(sending) = self.pending.take() {
            self.account = sending.account;
            self.sent_session = sending.session;
            self.sent_metrics = sending.metrics;
            self.ledger = joined(&self.ledger, &sending.lines);
            self.tracker.forget_finished(sending.session);
        }
    }

    fn state(
        &self,
        tracker: &Tracker,
        account: &DeviceAccountant,
        (session, metrics): (u64, &[u32]),
        lines: &[Line],
    ) -> Vec<u8> {
        cbor::to_vec(&State {
            policy_hash: self.policy_hash,
            purposes: self.agreed(),
            tracker: Bytes(tracker.store()),
            account: account.clone(),
            sent_session: session,
            sent_metrics: metrics.to_vec(),
            ledger: joined(&self.ledger, lines),
            made: self.made.clone(),
            known: self.known.clone(),
            lot: self.lot,
        })
    }

    /// See [`crate::Collector::feature_bytes`].
    #[must_use]
    pub fn feature_bytes(&self) -> Vec<u8> {
        self.tracker.features(true).to_bytes()
    }
}
