//! One edge, its disk, its senders and its centre, from one seed.
//!
//! Every contribution has a cell of its own, and the budget is so large that the noise is always zero: what
//! the centre holds of a cell is how often that contribution was counted.
#![allow(clippy::unwrap_used, clippy::panic)]

mod centre;
mod disk;
mod parts;
mod sabotage;

pub(crate) use centre::Centre;
use disk::{Disk, Drive};
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed};
use gloaming_signal::{Contribution, Reason, Submission, cbor};
use gloaming_window::{
    Anchor, Bounds, Delivered, EdgeError, Keeper, LoadPolicyError, Opening, Posted, Timekeeper, WrappingKey,
};
use gloaming_worker::core::Worker;
use parts::{Known, Machine, Native, policy};
pub(crate) use parts::{Random, Report};
pub(crate) use sabotage::Sabotage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;
const YEAR: u64 = 365 * 24 * HOUR;
/// 2026-11-24, 00:00.
const START: u64 = 20_781 * 24 * HOUR;
/// Contributions of one run at most.
const CELLS: u32 = 64;
const SITE: &str = "app.example";

/// A submission on its way.
#[derive(Clone)]
struct Message {
    body: Vec<u8>,
    cells: Vec<u32>,
}

/// An image of the disk, and of keys and journal; and the anchor of then, which nobody should copy.
type Backup = (Vec<u8>, [Vec<u8>; 2], Option<Anchor>);

/// See the module's page.
pub(crate) struct World {
    random: Random,
    key: Key,
    edge_key: Key,
    policies: Vec<(Policy, Vec<u8>)>,
    guest: Native,
    machine: (Disk, Arc<Mutex<Option<Anchor>>>),
    /// Keys and journal.
    files: [Arc<Mutex<Drive>>; 2],
    keeper: Option<Keeper<Machine>>,
    /// What a good clock shows.
    true_ms: u64,
    /// How wrong the edge's is, ms.
    wrong_ms: i64,
    /// What the running edge makes of it.
    time: Timekeeper,
    backup: Option<Backup>,
    messages: Vec<Message>,
    known: Vec<Known>,
    centre: Centre,
    report: Report,
    /// Whether the store may say that the site left, whatever became of saying so.
    may_have_left: bool,
    /// Times that the edge started.
    starts: u32,
    sabotage: Option<Sabotage>,
    /// Of batches that are sabotaged: how often each was tried.
    tries: BTreeMap<(u64, u64), i64>,
}

impl World {
    fn new(seed: u64, sabotage: Option<Sabotage>, centre: Centre) -> Self {
        let (key, edge_key) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
        let first = policy(1);
        let signed = Signed::sign(&first, &[&key]).to_bytes();
        let mut random = Random(seed);
        let guest = Native { worker: Worker::default(), random: Random(random.next()) };
        let mut world = Self {
            random,
            key,
            edge_key,
            policies: vec![(first, signed)],
            guest,
            machine: (Disk::default(), Arc::default()),
            files: Default::default(),
            keeper: None,
            true_ms: START,
            wrong_ms: 0,
            time: Timekeeper::new(START, START),
            backup: None,
            messages: Vec::new(),
            known: Vec::new(),
            centre,
            report: Report::default(),
            may_have_left: false,
            starts: 0,
            sabotage,
            tries: BTreeMap::new(),
        };
        world.boot();
        world
    }

    /// `GLOAMING_LOUD=1` tells the story of a run.
    fn say(&self, what: &dyn std::fmt::Display) {
        if std::env::var_os("GLOAMING_LOUD").is_some() {
            eprintln!("{:>9} s{:+} {what}", (self.true_ms - START) / 1_000, self.wrong_ms / 1_000);
        }
    }

    fn wall(&self) -> u64 {
        self.true_ms.saturating_add_signed(self.wrong_ms)
    }

    /// Edge time, as a running edge tells it.
    fn now(&mut self) -> u64 {
        let now = self.time.now(self.wall(), self.true_ms);
        self.report.clock_unbelieved += u64::from(self.time.doubt_ms().is_some());
        now
    }

    /// Somebody sets the clock while the edge runs, wrongly or right again.
    fn set_clock(&mut self) {
        self.wrong_ms = match self.random.below(7) {
            0 => HOUR as i64,
            1 => -(HOUR as i64),
            2 => YEAR as i64,
            3 => -(YEAR as i64),
            // As it is kept by the network.
            4 => self.random.below(2 * 20_000) as i64 - 20_000,
            _ => 0,
        };
        self.report.clock_steps[usize::from(self.wrong_ms == 0)] += 1;
        self.say(&"the clock is set");
    }

    fn opening(&self) -> Opening {
        Opening {
            name: "edge-1".to_owned(),
            key: self.edge_key.clone(),
            wrapping: WrappingKey::new([3; 32]),
            pins: BTreeMap::from([(SITE.to_owned(), self.key.public())]),
            anchor: None,
            epoch: None,
            accept_clock: false,
            restored: false,
            bounds: Bounds::default(),
            quotas: BTreeMap::new(),
        }
    }

    /// Starts the edge as an operator would: whatever it says is wrong is put right.
    fn boot(&mut self) {
        let mut opening = self.opening();
        // When the only site has left, no open window contradicts a clock that is a year off.
        if self.may_have_left && self.wrong_ms.unsigned_abs() > HOUR {
            self.wrong_ms = 0;
        }
        for _ in 0..200 {
            // Whoever accepted a clock that was right looks at it again when the machine was started once more.
            opening.accept_clock &= self.wrong_ms == 0;
            // A process that starts has nothing to hold its clock against but the store.
            self.time = Timekeeper::new(self.wall(), self.true_ms);
            let place = Machine {
                disk: self.machine.0.clone(),
                files: self.files.clone(),
                anchor: Arc::clone(&self.machine.1),
                sabotage: self.sabotage,
            };
            let (now, random) = (self.now(), &mut self.random);
            match Keeper::open(place, opening.clone(), now, &mut self.guest, &mut |b| random.fill(b)) {
                Ok(keeper) => {
                    self.say(&format_args!("open, {} old copies", keeper.restored));
                    self.report.restored += keeper.restored;
                    self.starts += 1;
                    self.keeper = Some(keeper);
                    if self.load_policies() {
                        return;
                    }
                }
                Err(EdgeError::Clock(_)) => {
                    self.report.clock_doubts += 1;
                    opening.accept_clock = self.wrong_ms == 0;
                    self.wrong_ms = 0;
                }
                Err(EdgeError::NoAnchor | EdgeError::NoStore | EdgeError::OtherStore) => {
                    panic!("a store and its anchor were parted")
                }
                Err(error) => self.say(&error),
            }
            // Whatever is in the way is moved out of it.
            self.machine.0.full(false);
            // The power, the disk, or the component: once more.
            self.restart_if_dead();
        }
        panic!("the edge never starts");
    }

    fn load_policies(&mut self) -> bool {
        let (now, key) = (self.now(), self.key.public());
        let Some(keeper) = &mut self.keeper else { return false };
        let Some((_, newest)) = self.policies.last() else { return false };
        match keeper.load_policy(newest, &key, now, &mut self.guest) {
            Ok(()) => true,
            Err(LoadPolicyError::Edge(error)) => {
                self.say(&error);
                false
            }
            Err(LoadPolicyError::RolledBack { .. }) => panic!("the newest is never older"),
            Err(other) => panic!("{other}"),
        }
    }

    /// The power was cut: whatever the disk still has is what there is.
    fn cut_power(&mut self) {
        self.report.power_cuts += 1;
        self.say(&"power cut");
        let image = self.machine.0.after_power_cut(&mut self.random);
        for file in self.files.clone() {
            let mut drive = file.lock().unwrap();
            *drive = Drive::holding(drive.after_power_cut(&mut self.random));
        }
        self.replace_disk(image);
    }

    fn replace_disk(&mut self, image: Vec<u8>) {
        self.report.store_failures += self.keeper.take().map_or(0, |keeper| keeper.failures);
        self.machine.0 = Disk::holding(image);
        // A clock is set, wrongly now and then, when a machine starts.
        self.wrong_ms = match self.random.below(20) {
            0 => HOUR as i64,
            1 => -(HOUR as i64),
            2 => YEAR as i64,
            3 => -(YEAR as i64),
            _ => 0,
        };
    }

    fn restart_if_dead(&mut self) -> bool {
        let dead = self.machine.0.is_dead();
        if dead {
            self.cut_power();
        }
        dead
    }

    fn settle(&mut self) {
        if self.restart_if_dead() || self.keeper.is_none() {
            self.boot();
        }
    }

    /// Somebody makes contributions; a device names the window by the edge's time.
    fn make(&mut self) {
        let (policy, _) = self.policies[self.random.below(self.policies.len() as u64) as usize].clone();
        let now = self.now();
        let edge_ms = self.keeper.as_ref().and_then(|k| k.edge()).map_or(now, |e| e.floor_ms().max(now));
        let mut cells = Vec::new();
        for _ in 0..=self.random.below(4) {
            if self.known.len() < CELLS as usize {
                cells.push(self.known.len() as u32);
                self.known.push(Known::default());
            }
        }
        let contributions = cells.iter().map(|cell| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&cell.to_le_bytes());
            Contribution { id, metric: policy.metrics[0].id, window: edge_ms / HOUR, cell: *cell, value: 1 }
        });
        let submission = Submission {
            site: SITE.to_owned(),
            policy_version: policy.version,
            policy_hash: policy.hash(),
            check: false,
            contributions: contributions.collect(),
        };
        let message = Message { body: cbor::to_vec(&submission), cells };
        // The network may deliver it twice, and does not say so.
        for _ in 0..if self.random.one_in(4) { 2 } else { 1 } {
            let at = self.random.below(self.messages.len() as u64 + 1) as usize;
            self.messages.insert(at, message.clone());
        }
    }

    /// Some of what is on its way arrives together.
    fn arrive(&mut self) {
        let count = (self.random.below(5) as usize + 1).min(self.messages.len());
        let mut arrived: Vec<Message> = self.messages.drain(..count).collect();
        self.forget_ids(&mut arrived);
        let posted: Vec<Posted<'_>> = arrived.iter().map(|m| m.body[..].into()).collect();
        let (now, random) = (self.now(), &mut self.random);
        let Some(keeper) = &mut self.keeper else { return };
        let answers = keeper.ingest(now, &posted, &mut self.guest, &mut |b| random.fill(b));
        for (i, message) in arrived.into_iter().enumerate() {
            let answer = answers.as_ref().ok().map(|answers| &answers[i]);
            let taken = answer.filter(|answer| answer.whole == Reason::Accepted);
            // No answer, or one that says to come again, or one that is lost on its way: it is sent again.
            let lost = self.random.one_in(5);
            if lost || answer.is_none_or(|a| matches!(a.whole, Reason::Busy | Reason::Fault)) {
                self.messages.push(message);
                continue;
            }
            for (cell, reason) in message.cells.iter().zip(taken.map_or(&[][..], |answer| &answer.each[..])) {
                self.say(&format_args!("{cell} {}", reason.word()));
                if matches!(reason, Reason::Accepted | Reason::Duplicate) {
                    self.known[*cell as usize].acknowledged = true;
                }
            }
        }
    }

    fn release(&mut self) {
        let (now, random) = (self.now(), &mut self.random);
        let busy = random.below(2) == 0;
        if let Some(keeper) = &mut self.keeper {
            for error in keeper.release(now, busy, &mut self.guest, &mut |b| random.fill(b)) {
                self.say(&error);
            }
        }
    }

    fn deliver(&mut self, bad: bool) {
        let now = self.now();
        let Some(keeper) = &mut self.keeper else { return };
        let Ok(Some(row)) = keeper.next_delivery(now) else { return };
        let outcome = match if bad { self.random.below(8) } else { 7 } {
            0 if self.breaks(Sabotage::DeliveryForgotten) => Delivered::Yes,
            0 => Delivered::NotNow(None),
            2 => Delivered::Refused,
            fate => {
                let bytes = self.bytes_of(&row);
                let what = self.centre.take(&bytes, &self.edge_key, self.true_ms, bad);
                self.say(&what.as_deref().unwrap_or("the centre dies"));
                // At 1 it arrived; the answer did not.
                if fate == 1 || what.is_none() { Delivered::NotNow(None) } else { Delivered::Yes }
            }
        };
        let random = self.random.next();
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.delivered(&row, outcome, now, random);
        }
    }

    fn reopen(&mut self) {
        let (now, random) = (self.now(), &mut self.random);
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.reopen(now, &mut self.guest, &mut |b| random.fill(b));
        }
    }

    /// A copy of the disk comes back; what was only in the one it replaces is gone, and that is no loss to
    /// blame the edge for.
    fn restore(&mut self) {
        let Some((image, [keys, journal], anchor)) = self.backup.clone() else { return };
        if self.breaks(Sabotage::AnchorRestored) {
            *self.machine.1.lock().unwrap() = anchor;
        }
        *self.files[0].lock().unwrap() = Drive::holding(keys);
        match self.random.below(4) {
            // The journal of now, which knows more than the copy.
            0 => {}
            1 => *self.files[1].lock().unwrap() = Drive::default(),
            _ => *self.files[1].lock().unwrap() = Drive::holding(journal),
        }
        self.say(&"an old copy comes back");
        for (cell, known) in (0u32..).zip(&mut self.known) {
            known.forgiven |= known.acknowledged && !self.centre.counts.contains_key(&cell);
            known.forgiven |= known.acknowledged && self.centre.counts.get(&cell) == Some(&0);
        }
        self.replace_disk(image);
    }

    /// The site leaves, and most often comes back: with the next start at the latest.
    fn leave(&mut self) {
        let (now, back) = (self.now(), self.random.one_in(2));
        self.may_have_left = true;
        let Some(keeper) = &mut self.keeper else { return };
        match keeper.leave(SITE, now) {
            Ok(left) => {
                self.report.left += u64::from(left);
                self.say(&format_args!("the site leaves: {left}"));
            }
            Err(error) => self.say(&error),
        }
        if back && !self.load_policies() {
            self.keeper = None;
        }
    }

    fn another_version(&mut self) {
        if self.policies.len() < 3 {
            let next = policy(self.policies.len() as u32 + 1);
            let signed = Signed::sign(&next, &[&self.key]).to_bytes();
            self.policies.push((next, signed));
            if !self.load_policies() {
                // Whether it was stored is not known; the next start finds out.
                self.keeper = None;
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(44) {
            0..=8 => self.make(),
            9..=16 => self.arrive(),
            17..=20 => self.true_ms += self.random.below(40 * MINUTE),
            21..=25 => self.release(),
            26..=31 => self.deliver(true),
            32 => self.machine.0.cut_power_after(self.random.below(40)),
            33 => self.cut_power(),
            34 => self.machine.0.fail_after(self.random.below(20)),
            35 => self.machine.0.full(true),
            36 => self.machine.0.full(false),
            37 => {
                let image = self.machine.0.after_power_cut(&mut self.random);
                let random = &mut self.random;
                let files = self.files.each_ref().map(|file| file.lock().unwrap().after_power_cut(random));
                let anchor = *self.machine.1.lock().unwrap();
                self.backup = Some((image, files, anchor));
            }
            38 if self.random.one_in(2) => self.restore(),
            39 if self.random.one_in(4) => self.another_version(),
            40 if self.random.one_in(3) => self.leave(),
            41..=42 => self.set_clock(),
            _ => self.true_ms += 1_000 + self.random.below(MINUTE),
        }
        self.settle();
        self.reopen();
        self.settle();
    }

    /// Everything gets well: every window closes, everything is delivered.
    fn finish(&mut self) {
        self.machine.0.full(false);
        for round in 0..60 {
            self.settle();
            self.reopen();
            self.settle();
            self.true_ms += if round < 12 { 20 * MINUTE } else { MINUTE };
            if !self.messages.is_empty() {
                self.arrive();
            }
            self.release();
            for _ in 0..24 {
                self.deliver(false);
            }
        }
        let edge = self.keeper.as_ref().and_then(|keeper| keeper.edge()).expect("it works again");
        assert_eq!(edge.undelivered(), 0, "all is delivered");
    }

    fn judge(mut self) -> Report {
        if let Some(real) = &self.centre.real {
            self.report.centre_deaths = real.deaths;
            self.centre.counts = real.end(self.policies[0].0.metrics[0].id);
        }
        for (cell, known) in (0u32..).zip(&self.known) {
            let counted = self.centre.counts.get(&cell).copied().unwrap_or(0);
            assert!((0..=1).contains(&counted), "contribution {cell} was counted {counted} times");
            let lost = known.acknowledged && !known.forgiven && counted == 0;
            assert!(!lost, "contribution {cell} was acknowledged and is lost");
            self.report.acknowledged += u64::from(known.acknowledged);
            self.report.counted += counted as u64;
        }
        self.report.store_failures += self.keeper.as_ref().map_or(0, |keeper| keeper.failures);
        self.report.windows = self.centre.windows.len() as u64;
        self.report
    }
}

/// One run; it panics at whatever is wrong.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>, centre: Centre) -> Report {
    let mut world = World::new(seed, sabotage, centre);
    for _ in 0..60 + world.random.below(60) {
        world.step();
    }
    world.finish();
    world.judge()
}
