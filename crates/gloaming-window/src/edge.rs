//! The edge's state and the policies in force.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gloaming_policy::Policy;
use gloaming_policy::author::{Key, PublicKey, Signed};
use gloaming_policy::count::{Counter, Layout};
use gloaming_privacy::{DAY_MS, EdgeLedger};
use gloaming_signal::Reason;

use crate::delivery::{Backoff, Outbox};
use crate::error::{EdgeError, LoadPolicyError};
use crate::guest::Guest;
use crate::ids::{Ids, Spare};
use crate::ingest::Quarantine;
use crate::open::Bounds;
use crate::share::Shares;
use crate::storage::{Cursor, PolicyRow, Storage, WindowName};
use crate::vault::{WindowKey, WrappingKey};

/// Counts by reason since start, for metrics. No site, no metric: those are the owner's business.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Contributions (or whole bodies that could not be read) by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Windows released.
    pub windows: u64,
    /// Windows skipped because the edge had been away too long.
    pub skipped_windows: u64,
    /// Guest calls that failed.
    pub guest_failures: u64,
    /// Guest answers that were not believed.
    pub guest_untrue: u64,
}

/// As late as it gets: the year 10889. Sums of times below do not overflow.
pub(crate) const END_MS: u64 = 1 << 48;
/// Versions of one site that are kept until their windows are released.
const VERSIONS: usize = 16;

/// An open window in memory.
pub(crate) struct Open {
    pub(crate) key: WindowKey,
    pub(crate) next_chunk: u64,
    pub(crate) ids: Ids,
    pub(crate) cells: HashMap<(u32, u32), u64>,
}

pub(crate) struct InForce {
    pub(crate) policy: Policy,
    pub(crate) layout: Layout,
    pub(crate) hash: [u8; 32],
    pub(crate) signed: Signed,
    pub(crate) since_ms: u64,
}

/// See the crate's page.
pub struct Edge<S> {
    pub(crate) storage: S,
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) wrapping: WrappingKey,
    pub(crate) bounds: Bounds,
    pub(crate) epoch: u64,
    pub(crate) restored: bool,
    pub(crate) policies: BTreeMap<(String, u32), InForce>,
    /// Sites whose stored policies could not be read.
    pub(crate) aside: BTreeSet<String>,
    /// When sites left whose windows are not all released: they take nothing, and end.
    pub(crate) left: BTreeMap<String, u64>,
    pub(crate) open: HashMap<WindowName, Open>,
    /// Ids of all open windows together.
    pub(crate) ids: usize,
    pub(crate) cursors: BTreeMap<Cursor, u64>,
    /// Cursors whose release failed, and when the next try may be.
    pub(crate) failing: BTreeMap<Cursor, Backoff>,
    pub(crate) ledgers: BTreeMap<String, EdgeLedger>,
    pub(crate) outbox: Outbox,
    pub(crate) next_seq: BTreeMap<String, u64>,
    pub(crate) quarantine: Quarantine,
    pub(crate) counter: Counter,
    pub(crate) shares: Shares,
    pub(crate) spare: Spare,
    pub(crate) quotas: BTreeMap<String, usize>,
    pub(crate) tally: Tally,
    pub(crate) floor_ms: u64,
    /// The longest time that nobody told this edge what time it was: when it began, and when it ended.
    pub(crate) away: (u64, u64),
}

impl<S: Storage> Edge<S> {
    /// Edge time never goes back, not even over a restart. All entry points pass their time through here.
    pub(crate) fn time(&mut self, now_ms: u64) -> u64 {
        let now_ms = now_ms.min(END_MS);
        self.away = self.away_at(now_ms);
        self.floor_ms = self.floor_ms.max(now_ms);
        self.floor_ms
    }

    /// [`Edge::away`], if this is the next time that it is told. Before the first it was nowhere.
    pub(crate) fn away_at(&self, now_ms: u64) -> (u64, u64) {
        let ((from, to), floor_ms) = (self.away, self.floor_ms);
        if floor_ms > 0 && now_ms.saturating_sub(floor_ms) > to - from { (floor_ms, now_ms) } else { self.away }
    }

    /// The latest edge time that counted: what devices are told is never earlier.
    #[must_use]
    pub fn floor_ms(&self) -> u64 {
        self.floor_ms
    }

    /// Puts a signed policy in force. The version before keeps taking contributions until its windows close;
    /// an earlier one takes none, and stays until its last window is released. Giving the policy in force
    /// again changes nothing.
    ///
    /// # Errors
    /// When it is not signed by `pin`, expired, rolled back, for other edges, or does not fit.
    pub fn load_policy(
        &mut self,
        bytes: &[u8],
        pin: &PublicKey,
        now_ms: u64,
        guest: &mut dyn Guest,
    ) -> Result<(), LoadPolicyError> {
        let now_ms = self.time(now_ms);
        let (signed, policy) = Signed::verify(bytes, pin, now_ms / DAY_MS)?;
        if !policy.home_edges.contains(&self.name) {
            return Err(LoadPolicyError::NotHome(policy.home_edges.join(", ")));
        }
        let (site, version, hash) = (policy.site.clone(), policy.version, policy.hash());
        let in_force = self.newest(&site).map(|p| (p.policy.version, p.hash, p.since_ms));
        let comes = in_force.is_none() || self.left.contains_key(&site);
        let full = comes && self.sites().count() >= self.bounds.sites;
        match in_force {
            Some((newest, same, _)) if newest == version && same != hash => {
                return Err(LoadPolicyError::SameVersion(version));
            }
            Some((newest, ..)) if newest > version => {
                return Err(LoadPolicyError::RolledBack { given: version, in_force: newest });
            }
            _ if full => return Err(EdgeError::Full("sites").into()),
            Some((newest, _, since_ms)) if newest == version => {
                if comes {
                    // As it is signed now: the key may be another than when it left.
                    let row = PolicyRow { signed: bytes.to_vec(), since_ms };
                    self.storage.put_policy(&site, version, &row, &[], 0).map_err(EdgeError::from)?;
                    self.left.remove(&site);
                    let layout = Layout::new(&policy);
                    self.policies.insert((site, version), InForce { policy, layout, hash, signed, since_ms });
                }
                return Ok(());
            }
            _ => {}
        }
        if self.newest(&site).is_some_and(|held| !policy.models.is_empty() && !signed.follows(&held.signed)) {
            return Err(LoadPolicyError::RecordCut(version));
        }
        if self.aside.contains(&site) {
            return Err(EdgeError::Unreadable(format!("policies of {site}")).into());
        }
        let below = self.oldest_needed(&site).unwrap_or(version);
        if self.versions(&site).filter(|old| *old >= below).count() >= VERSIONS {
            return Err(LoadPolicyError::TooMany(below));
        }
        if self.policies.len() >= self.bounds.policies {
            return Err(EdgeError::Full("policies").into());
        }
        if guest.configure(signed.policy_bytes()).map_err(EdgeError::from)? != hash {
            return Err(EdgeError::Untrue("another hash than the policy's").into());
        }
        let cursors: Vec<(Cursor, u64)> = policy
            .spans()
            .into_iter()
            .map(|span_ms| (Cursor { site: site.clone(), version, span_ms }, now_ms / span_ms))
            .collect();
        let row = PolicyRow { signed: bytes.to_vec(), since_ms: now_ms };
        self.storage.put_policy(&site, version, &row, &cursors, below).map_err(EdgeError::from)?;
        self.policies.retain(|(s, v), _| *s != site || *v >= below);
        self.cursors.retain(|cursor, _| cursor.site != site || cursor.version >= below);
        self.failing.retain(|cursor, _| cursor.site != site || cursor.version >= below);
        self.close(|name| name.site == site && name.version < below);
        self.cursors.extend(cursors);
        self.left.remove(&site);
        let layout = Layout::new(&policy);
        self.policies.insert((site, version), InForce { policy, layout, hash, signed, since_ms: now_ms });
        self.retain(guest);
        Ok(())
    }

    /// The guest needs no other policies than these any more.
    fn retain(&self, guest: &mut dyn Guest) {
        let hashes: Vec<[u8; 32]> = self.policies.values().map(|p| p.hash).collect();
        guest.retain(&hashes);
    }

    fn versions(&self, site: &str) -> impl DoubleEndedIterator<Item = u32> {
        self.policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX)).map(|((_, version), _)| *version)
    }

    /// The oldest version of a site with a window yet to be released; its newest at the latest.
    fn oldest_needed(&self, site: &str) -> Option<u32> {
        let newest = self.versions(site).next_back()?;
        let waiting = self.cursors.iter().filter(|(cursor, next)| {
            cursor.site == site && (cursor.version == newest || **next <= self.last_window(cursor))
        });
        waiting.map(|(cursor, _)| cursor.version).min()
    }

    /// A site leaves: it takes nothing any more, and is forgotten once the windows that are open are released. Whether
    /// it was here. Its newest policy brings it back.
    ///
    /// # Errors
    /// When the store failed.
    pub fn leave(&mut self, site: &str, now_ms: u64) -> Result<bool, EdgeError> {
        let now_ms = self.time(now_ms);
        if self.newest(site).is_none() || self.left.contains_key(site) {
            return Ok(false);
        }
        self.storage.leave(site, now_ms)?;
        self.left.insert(site.to_owned(), now_ms);
        Ok(true)
    }

    /// Forgets a site that left and has no window to be released any more. Whether there was one.
    pub(crate) fn forget_one(&mut self, guest: &mut dyn Guest) -> Result<bool, EdgeError> {
        let over = |site: &&String| {
            let mut own = self.cursors.iter().filter(|(cursor, _)| cursor.site == **site);
            own.all(|(cursor, next)| *next > self.last_window(cursor))
        };
        let Some(site) = self.left.keys().find(over).cloned() else { return Ok(false) };
        self.storage.forget(&site)?;
        self.left.remove(&site);
        self.policies.retain(|(own, _), _| *own != site);
        self.cursors.retain(|cursor, _| cursor.site != site);
        self.failing.retain(|cursor, _| cursor.site != site);
        self.close(|name| name.site == site);
        self.retain(guest);
        Ok(true)
    }

    /// Whether a version takes contributions: the newest two do.
    pub(crate) fn takes(&self, site: &str, version: u32) -> bool {
        self.versions(site).rev().take(2).any(|taken| taken == version)
    }

    /// Forgets open windows in memory.
    pub(crate) fn close(&mut self, gone: impl Fn(&WindowName) -> bool) {
        let closed: Vec<_> = self.open.extract_if(|name, _| gone(name)).collect();
        if !closed.is_empty() {
            // Room for half of all ids that may be open is kept ready, with what open windows were given and do not need.
            let unused: usize = self.open.values().map(|open| open.ids.excess()).sum();
            let most = (self.bounds.ids / 2).saturating_sub(unused);
            closed.into_iter().for_each(|(name, open)| self.spare.give_window(name, open.ids, most));
        }
        self.shares.close(&gone);
        self.ids = self.open.values().map(|open| open.ids.len()).sum();
    }

    /// The newest policy of a site.
    pub(crate) fn newest(&self, site: &str) -> Option<&InForce> {
        self.policies.range((site.to_owned(), 0)..=(site.to_owned(), u32::MAX)).next_back().map(|(_, p)| p)
    }

    /// Sites with a policy in force.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        let all = self.policies.keys().map(|(site, _)| site.as_str());
        all.filter(move |site| last.replace(*site) != Some(*site) && !self.left.contains_key(*site))
    }

    /// The newest policy of a site, its hash, and the bundle it came in.
    #[must_use]
    pub fn policy(&self, site: &str) -> Option<(&Policy, &[u8; 32], &Signed)> {
        self.newest(site).map(|p| (&p.policy, &p.hash, &p.signed))
    }

    /// The storage, for what watches it.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Stops, leaving the storage.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Counts since start.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Batches not yet acknowledged by the centre.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.outbox.len()
    }
}
