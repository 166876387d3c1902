//! Experiments that have ended by themselves: what this edge has heard of them, and how it asks.
//!
//! A home edge asks the centre, a relay its home edge, both with the same question, at the start and every minute:
//!
//! ```text
//! POST /api/v1/stops at the centre, /g/v1/stops at a home edge, announced as a delivery is
//! { "sites": { "shop.example": 7 } }                    served under this version
//! { "sites": { "shop.example": ["delivery-note"] } }    ended under this version, or a later one
//! ```
//! What was heard only grows, until a newer version of the site's policy is served: a late answer, an answer from before, and none at
//! all change nothing. It lies in a file, so that a restart forgets nothing:
//!
//! ```text
//! gloaming stops 1
//! shop.example delivery-note 7
//! ```
//! Kept and told is only what the policy in force lets end so. Whoever answers can do no more than that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use gloaming_http::{Client, ClientError};
use gloaming_policy::author::{Key, announcement};
use gloaming_signal::hash;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::deliver::ANNOUNCEMENT;
use crate::engine::Served;
use crate::home::problem;
use crate::in_place::replace;
use crate::server::Context;

/// Where relays ask.
pub(crate) const ROUTE: &str = "/g/v1/stops";
/// Pause between two questions: windows are an hour at least, and what ends has harmed people for one or more.
const PAUSE: Duration = Duration::from_secs(60);
/// On this machine alone windows may be seconds.
const PAUSE_HERE: Duration = Duration::from_secs(1);
/// Sites in one question; who has more asks again.
const SITES: usize = 1_000;
/// Longest question, bytes: that many sites of the longest names.
const QUESTION: usize = 512 * 1024;
/// Longest answer, bytes: that many sites with all experiments that a policy has.
const ANSWER: usize = 4 * 1024 * 1024;
/// Longest file, bytes: an edge's sites with some stops each.
const FILE: u64 = 16 * 1024 * 1024;
const FIRST_LINE: &str = "gloaming stops 1";

/// By site and experiment, the version of the policy under which it ended.
type Known = BTreeMap<String, BTreeMap<String, u32>>;

/// What is asked.
#[derive(Deserialize, Serialize)]
struct Asked {
    sites: BTreeMap<String, u32>,
}

/// What is answered.
#[derive(Deserialize, Serialize)]
struct Told {
    sites: BTreeMap<String, Vec<String>>,
}

/// See the module's page.
pub(crate) struct Stops {
    file: PathBuf,
    known: RwLock<Known>,
    /// Whether something is known that the file does not say.
    unwritten: AtomicBool,
    /// Locked by who writes it.
    writing: Mutex<()>,
}

/// Reads the file; nothing where there is none.
fn read(path: &Path) -> io::Result<Known> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE + 1).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known::new()),
        Err(error) => return Err(error),
    };
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a list of stops of this version"))
}

/// What a file's text says, if it is a list of this version.
pub(crate) fn parse(text: &str) -> Option<Known> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) || text.len() as u64 > FILE || !text.ends_with('\n') {
        return None;
    }
    let mut known = Known::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [site, experiment, version] = words[..] else { return None };
        known.entry(site.to_owned()).or_default().insert(experiment.to_owned(), version.parse().ok()?);
    }
    Some(known)
}

/// A list as its file's text.
pub(crate) fn written(known: &Known) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (site, stops) in known {
        for (experiment, version) in stops {
            text.push_str(&format!("{site} {experiment} {version}\n"));
        }
    }
    text
}

/// Replaces the file; durable when it returns.
fn write(path: &Path, known: &Known) -> io::Result<()> {
    replace(path, written(known).as_bytes())
}

impl Stops {
    /// What was heard before, from the file beside a store.
    pub(crate) fn open(store: &Path) -> Self {
        let mut file = store.to_owned().into_os_string();
        file.push(".stops");
        let file = PathBuf::from(file);
        let known = read(&file).unwrap_or_else(|error| {
            // Asked for again at once. Not to start for that would harm more people than it could protect.
            tracing::error!(%error, file = %file.display(), "which experiments have ended cannot be read; it is asked for anew, and the file written anew");
            Known::new()
        });
        Self { file, known: RwLock::new(known), unwritten: AtomicBool::new(false), writing: Mutex::new(()) }
    }

    /// Experiments of a site that have ended under this version of its policy or a later one.
    fn ended(&self, site: &str, version: u32) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let of = known.get(site).into_iter().flatten().filter(|(_, under)| **under >= version);
        of.map(|(experiment, _)| experiment.clone()).collect()
    }

    /// What devices are told beside a policy: the experiments of it that have ended, with spaces between; `None` without any.
    pub(crate) fn beside(&self, served: &Served) -> Option<HeaderValue> {
        if served.may_stop.is_empty() {
            return None;
        }
        let mut ended = self.ended(&served.site, served.version);
        ended.retain(|experiment| served.may_stop.contains(experiment));
        if ended.is_empty() { None } else { HeaderValue::from_str(&ended.join(" ")).ok() }
    }

    /// Sites with experiments that could still end, and their versions.
    fn open_questions<'s>(&self, served: impl Iterator<Item = &'s Served>) -> Vec<(String, u32)> {
        let open = |served: &&Served| {
            let ended = self.ended(&served.site, served.version);
            served.may_stop.iter().any(|experiment| !ended.contains(experiment))
        };
        served.filter(open).map(|served| (served.site.clone(), served.version)).collect()
    }

    /// Takes an answer about sites as they are served; whether anything is new.
    fn take(&self, served: &[Served], told: &Told) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for served in served {
            for experiment in told.sites.get(&served.site).into_iter().flatten() {
                if !served.may_stop.contains(experiment) {
                    continue;
                }
                let under = known.entry(served.site.clone()).or_default().entry(experiment.clone()).or_default();
                if *under < served.version {
                    *under = served.version;
                    news = true;
                    self.unwritten.store(true, Ordering::SeqCst);
                    tracing::warn!(site = served.site, experiment, "an experiment has ended by itself");
                }
            }
        }
        news
    }

    /// Forgets what a newer version of a policy has replaced, and what is of no site here; whether there was any.
    fn prune(&self, served: &[Served]) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before: usize = known.values().map(BTreeMap::len).sum();
        known.retain(|site, stops| {
            // A site that is served twice, as it moves, is as old as the older of its versions.
            let oldest = served.iter().filter(|own| own.site == *site).map(|own| own.version).min();
            stops.retain(|_, under| oldest.is_some_and(|version| *under >= version));
            !stops.is_empty()
        });
        let fewer = before != known.values().map(BTreeMap::len).sum::<usize>();
        self.unwritten.fetch_or(fewer, Ordering::SeqCst);
        fewer
    }

    /// Writes the file where it does not say what is known. What cannot be written is tried again with the next question.
    fn keep(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // What comes while it is written is written the next time.
        if !self.unwritten.swap(false, Ordering::SeqCst) {
            return;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(error) = write(&self.file, &known) {
            self.unwritten.store(true, Ordering::SeqCst);
            tracing::error!(%error, "which experiments have ended could not be written; it is tried again");
        }
    }
}

/// Of whom is asked.
pub(crate) enum Whom {
    /// The centre, about sites that are at home here.
    Centre,
    /// A home edge, about sites that are relayed to it.
    Home(String),
}

impl Whom {
    fn served(&self, context: &Context) -> Vec<Served> {
        match self {
            Self::Centre => context.engine.served.read().map_or_else(|_| Vec::new(), |served| served.clone()),
            Self::Home(name) => context.relayed_to(name),
        }
    }

    fn route(&self) -> &'static str {
        match self {
            Self::Centre => "/api/v1/stops",
            Self::Home(_) => ROUTE,
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Centre => "the centre".to_owned(),
            Self::Home(name) => format!("home edge {name}"),
        }
    }
}

/// An answer, or what came in its place.
fn answer(came: Result<(StatusCode, Option<u64>, Bytes), ClientError>) -> Result<Told, String> {
    match came {
        Ok((status, _, body)) if status.is_success() => {
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        }
        Ok((status, _, body)) => Err(format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]))),
        Err(error) => Err(error.to_string()),
    }
}

/// Who asks whom, and how that goes.
pub(crate) struct Asking {
    pub(crate) context: Arc<Context>,
    pub(crate) client: Client,
    pub(crate) key: Key,
    pub(crate) whom: Whom,
    /// Addresses, tried in turn.
    pub(crate) at: Vec<String>,
    pub(crate) loopback: bool,
}

impl Asking {
    /// Asks about all sites once; what is heard is in force when this returns, and on disk if it can be.
    async fn round(&self, turn: &mut usize, fails: &mut bool) {
        let Self { context, client, key, whom, at, .. } = self;
        let served = whom.served(context);
        for some in context.stops.open_questions(served.iter()).chunks(SITES) {
            let asked = Asked { sites: some.iter().cloned().collect() };
            let Ok(body) = serde_json::to_vec(&asked).map(Bytes::from) else { continue };
            let (address, announced) = (format!("{}{}", at[*turn % at.len()], whom.route()), announcement(key, &body));
            match answer(client.post_with(&address, (ANNOUNCEMENT, &announced), body).await) {
                Ok(told) => {
                    *fails = false;
                    context.stops.take(&served, &told);
                }
                Err(error) => {
                    *turn += 1;
                    // Said once and not every minute: what was heard before holds meanwhile.
                    if !std::mem::replace(fails, true) {
                        tracing::warn!(
                            error,
                            "{} does not say which experiments have ended; it is asked again",
                            whom.what()
                        );
                    }
                }
            }
        }
        context.stops.prune(&context.all_served());
        self.keep().await;
    }

    async fn keep(&self) {
        let context = Arc::clone(&self.context);
        let _ = tokio::task::spawn_blocking(move || context.stops.keep()).await;
    }

    /// Asks at once and then every minute, of one address after the other as they fail, for as long as the edge runs.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        self.client = self.client.answers(ANSWER);
        let (mut turn, mut fails) = (0, false);
        let asks = async {
            while !self.at.is_empty() {
                self.round(&mut turn, &mut fails).await;
                tokio::time::sleep(if self.loopback { PAUSE_HERE } else { PAUSE }).await;
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = asks => {}
        }
        // What was heard in a round that the stop has cut short.
        self.keep().await;
    }
}

/// A home edge's door for relays that ask.
pub(crate) async fn asked(State(context): State<Arc<Context>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let line = head.headers.get(ANNOUNCEMENT).and_then(|line| line.to_str().ok()).unwrap_or_default();
    let Some((_, digest)) = context.home.announced(line) else {
        let remedy = "write the relay's public key into [edge.relays] of this edge";
        return problem(StatusCode::UNAUTHORIZED, "unannounced", remedy);
    };
    let body = to_bytes(body, QUESTION).await.ok().filter(|body| hash::sha256(body) == digest);
    let asked = body.and_then(|body| serde_json::from_slice::<Asked>(&body).ok());
    let Some(Asked { sites }) = asked.filter(|asked| asked.sites.len() <= SITES) else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "malformed", "run a relay of this version");
    };
    let ended = sites.into_iter().map(|(site, version)| {
        let ended = context.stops.ended(&site, version);
        (site, ended)
    });
    axum::Json(Told { sites: ended.filter(|(_, ended)| !ended.is_empty()).collect() }).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn served(site: &str, version: u32, may_stop: &[&str]) -> Served {
        Served {
            site: site.to_owned(),
            version,
            policy: Bytes::new(),
            notice: Bytes::new(),
            origins: Vec::new(),
            windows: Vec::new(),
            homes: Vec::new(),
            may_stop: may_stop.iter().map(ToString::to_string).collect(),
            models: Vec::new(),
        }
    }

    fn told(site: &str, experiments: &[&str]) -> Told {
        let experiments = experiments.iter().map(ToString::to_string).collect();
        Told { sites: [(site.to_owned(), experiments)].into() }
    }

    #[test]
    fn what_was_heard_is_kept_until_a_newer_version_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("edge.redb");
        let (shop, other) = (served("shop.example", 7, &["note", "hint"]), served("blog.example", 2, &[]));
        let all = [shop.clone(), other.clone()];
        let stops = Stops::open(&store);
        assert_eq!(stops.open_questions(all.iter()), [("shop.example".to_owned(), 7)], "the other has none that could");
        assert!(stops.take(&all, &told("shop.example", &["note"])));
        assert!(!stops.take(&all, &told("shop.example", &["note"])), "once");
        stops.keep();
        // Nothing, and what was said before there was anything to say, takes nothing back.
        assert!(!stops.take(&all, &told("shop.example", &[])) && !stops.prune(&all));
        assert_eq!(stops.beside(&shop).unwrap(), "note");

        // A restart without a centre.
        let stops = Stops::open(&store);
        assert_eq!(stops.beside(&shop).unwrap(), "note");
        assert_eq!(stops.open_questions(all.iter()).len(), 1, "the other experiment may end yet");
        assert!(stops.take(&all, &told("shop.example", &["hint", "note"])));
        assert_eq!(
            (stops.beside(&shop).unwrap().to_str().unwrap(), stops.open_questions(all.iter()).len()),
            ("hint note", 0)
        );
        // One that is a version behind has it too; one that is ahead has not.
        assert_eq!(stops.beside(&served("shop.example", 6, &["note"])).unwrap(), "note");
        let next = served("shop.example", 8, &["note", "hint"]);
        assert_eq!(stops.beside(&next), None);
        // As long as the one before is served too, it holds for that.
        assert!(!stops.prune(&[shop.clone(), next.clone()]));
        assert!(stops.prune(std::slice::from_ref(&next)));
        stops.keep();
        assert_eq!(fs::read_to_string(folder.path().join("edge.redb.stops")).unwrap(), "gloaming stops 1\n");
        assert_eq!(Stops::open(&store).beside(&shop), None);
    }

    #[test]
    fn whoever_answers_can_end_only_what_the_policy_lets_end() {
        let folder = tempfile::tempdir().unwrap();
        let stops = Stops::open(&folder.path().join("edge.redb"));
        let all = [served("shop.example", 7, &["note"]), served("blog.example", 2, &[])];
        let words = ["hint", "note ", "NOTE", "", "note hint", "as-is", "purchase-intent"];
        assert!(!stops.take(&all, &told("shop.example", &words)));
        assert!(
            !stops.take(&all, &told("blog.example", &["note"]))
                && !stops.take(&all, &told("elsewhere.example", &["note"]))
        );
        assert!(all.iter().all(|served| stops.beside(served).is_none()));
        assert!(stops.known.read().unwrap().is_empty(), "nor does any of it take room");
        // What a policy allowed once and does not any more is not told either.
        assert!(stops.take(&all, &told("shop.example", &["note"])));
        assert_eq!(stops.beside(&served("shop.example", 7, &[])), None);
    }

    #[test]
    fn a_file_that_is_something_else_is_an_error_and_asked_for_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = (folder.path().join("edge.redb"), folder.path().join("edge.redb.stops"));
        for wrong in [
            "",
            "gloaming stops 2\n",
            "gloaming stops 1\nshop.example note\n",
            "gloaming stops 1\na b 7\nc d",
            "gloaming stops 1\na b x\n",
        ] {
            fs::write(&file, wrong).unwrap();
            assert!(read(&file).is_err(), "{wrong:?}");
            assert!(Stops::open(&store).known.read().unwrap().is_empty());
        }
        fs::write(&file, "gloaming stops 1\nshop.example note 7\n").unwrap();
        assert_eq!(Stops::open(&store).beside(&served("shop.example", 7, &["note"])).unwrap(), "note");
    }

    #[test]
    fn answers_that_are_none_say_why() {
        assert!(answer(Ok((StatusCode::OK, None, Bytes::from_static(b"{}")))).is_err());
        assert!(answer(Ok((StatusCode::NOT_FOUND, None, Bytes::new()))).is_err_and(|why| why.starts_with("404")));
        let body = Bytes::from_static(b"{\"sites\":{\"a\":[\"b\"]}}");
        assert_eq!(answer(Ok((StatusCode::OK, None, body))).unwrap().sites["a"], ["b"]);
    }
}
