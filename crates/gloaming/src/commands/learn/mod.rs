//! `gloaming model learn`: a model learnt in rounds from votes of visits, which never leave more than a word.

mod begin;
mod version;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_policy::author::{Learning, LearningRound};
use gloaming_stats::draws::Draws;
use gloaming_stats::votes::{self, Gradient};

use super::released::{self, Overview};
use crate::files::{self, Brought, LEARNING};

/// Sessions that are drawn to set the level by.
const LEVEL: usize = 4_096;
/// Everything that is drawn follows from it.
const SEED: u64 = 20_261_128;

/// What to read and where to write.
pub struct Paths<'p> {
    /// The manifest of the version before; `model.onnx` and `learning.json` lie beside it.
    pub manifest: &'p Path,
    /// The policy that is in force.
    pub policy: &'p Path,
    /// Where its models lie.
    pub models: Option<&'p Path>,
    /// The centre's overview, when a round is due.
    pub from: Option<&'p Path>,
    /// What is to be told, when learning begins.
    pub outcome: Option<&'p str>,
    /// The folder for the next version, when it is to be written.
    pub out: Option<&'p Path>,
    /// Its number, where that does not follow from the rounds that were taken.
    pub version: Option<u32>,
}

/// Terms of one input: their places, and how many bins it has.
struct Group {
    terms: Vec<usize>,
}

/// Terms by input, in the order that inputs first come.
fn groups(learning: &Learning) -> Vec<Group> {
    let mut names: Vec<&str> = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    for (at, term) in learning.terms.iter().enumerate() {
        match names.iter().position(|name| *name == term.input) {
            Some(place) => groups[place].terms.push(at),
            None => {
                names.push(&term.input);
                groups.push(Group { terms: vec![at] });
            }
        }
    }
    groups
}

/// A bin of an input, drawn by the shares that were released.
fn bin(learning: &Learning, group: &Group, draws: &mut Draws) -> usize {
    let shares = &learning.terms[group.terms[0]].shares;
    let mut left = draws.uniform() * shares.iter().sum::<f64>();
    let found = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    found.unwrap_or(shares.len() - 1)
}

/// What a bin of an input adds to the log-odds.
fn adds(learning: &Learning, group: &Group, bin: usize) -> f64 {
    group.terms.iter().map(|&at| learning.terms[at].weight * learning.terms[at].values[bin]).sum()
}

/// The level at which scores are right in the mean, were inputs independent: solved by Newton's steps, held back.
fn level(learning: &Learning) -> f64 {
    let (groups, mut draws) = (groups(learning), Draws::new(SEED));
    let mut odds = || groups.iter().map(|group| adds(learning, group, bin(learning, group, &mut draws))).sum::<f64>();
    let odds: Vec<f64> = (0..LEVEL).map(|_| odds()).collect();
    let mut level = (learning.rate / (1.0 - learning.rate)).ln();
    for _ in 0..50 {
        let (mut mean, mut slope) = (0.0, 0.0);
        for odds in &odds {
            let score = 1.0 / (1.0 + (-(level + odds)).exp());
            mean += score / LEVEL as f64;
            slope += score * (1.0 - score) / LEVEL as f64;
        }
        level -= ((mean - learning.rate) / slope.max(1e-6)).clamp(-1.0, 1.0);
    }
    level
}

fn write(learning: &Learning, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(learning)? + "\n";
    files::replace(path, text.as_bytes()).with_context(|| path.display().to_string())
}

/// The strongest weights first.
fn tell(learning: &Learning) {
    let mut lines: Vec<(f64, String)> = groups(learning)
        .iter()
        .map(|group| {
            let bins = learning.terms[group.terms[0]].values.len();
            let all: Vec<f64> = (0..bins).map(|bin| adds(learning, group, bin)).collect();
            let (low, high) = all.iter().fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(*one), high.max(*one)));
            let way = if all.last() >= all.first() { "more" } else { "less" };
            let name = &learning.terms[group.terms[0]].input;
            let what = if group.terms.len() > 1 { "by its words" } else { way };
            (high - low, format!("  {name:<24} {what:<12} {low:+.2} to {high:+.2}"))
        })
        .collect();
    lines.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!("what each input adds to the log-odds so far:");
    lines.iter().for_each(|(_, line)| println!("{line}"));
}

/// Takes a round of votes: weights move, and the next round is asked for.
fn round(learning: &mut Learning, votes: &str, overview: &Overview) -> Result<()> {
    let name = format!("{}-votes", learning.model);
    let counted = overview.metrics.iter().find(|metric| metric.name == name && metric.of == votes).ok_or_else(|| {
        let other = overview.metrics.iter().find(|metric| metric.name == name);
        let counts = other.map_or_else(String::new, |other| format!(", which counts `{}`", other.of));
        anyhow!(
            "no votes of round {} (`{votes}`) are known at {}{counts}; sign the policy with [[retrain]] by = \"votes\", put it, and wait for a window",
            learning.round,
            overview.site
        )
    })?;
    let cells = counted.cells()?;
    let (_, until_ms) = counted.span_ms().context("the overview does not say when its windows were")?;
    let gradient = Gradient::new(&cells, learning.clip)?;
    let speeds: Vec<f64> = learning.terms.iter().map(|term| term.speed).collect();
    let moved = votes::step(&gradient, &speeds, learning.rate)?;
    for (term, speed) in learning.terms.iter_mut().zip(moved) {
        (term.speed, term.weight) = (speed, term.weight + speed);
    }
    learning.level = level(learning);
    let (length, noise) = (gradient.length(), gradient.noise);
    println!(
        "round {} of {}: about {:.0} visits voted in {}; the gradient is {length:.3} long, of which noise and chance alone make {noise:.3}",
        learning.round,
        learning.model,
        gradient.visits,
        released::windows(counted.windows()),
    );
    if length < 1.5 * noise {
        println!("that is hardly more than noise and chance: another round of as many visits would tell little");
    }
    learning.rounds.push(LearningRound { of: votes.to_owned(), until_ms, visits: gradient.visits, length, noise });
    learning.round += 1;
    Ok(())
}

/// Begins to learn a model, takes the round of votes that is due, and writes the next version when a folder is given for it.
///
/// # Errors
/// When nothing was released that it could go by; nothing is written then.
pub fn run(paths: &Paths<'_>) -> Result<()> {
    let before = Brought::load(paths.manifest)?;
    let described = before.model.manifest();
    if !described.output.kinds.is_empty() {
        bail!("{} sorts visits into kinds, and no outcome shows which", described.id);
    }
    let file: PathBuf = paths.manifest.with_file_name(LEARNING);
    let mut learning = match file.exists() {
        true => Some(
            Learning::read(&files::read_text(&file)?)
                .map_err(|why| anyhow!("{}: {why}; take it away to begin anew", file.display()))?,
        ),
        false => None,
    };
    // Before learning has begun there is nothing to vote on, and the policy may ask for votes already.
    let stands_in = |id: &str| begin::nothing(id).and_then(|nothing| Ok(serde_json::to_string(&nothing)?)).ok();
    let (policy, _) = files::compile_policy_with(paths.policy, paths.models, &stands_in)?;
    let overview = paths.from.map(|from| Overview::of_site(from, &policy.site)).transpose()?;
    let Some(learning) = &mut learning else {
        let (Some(overview), Some(outcome)) = (&overview, paths.outcome) else {
            bail!(
                "learning of {} has not begun: say with --from what was released of its inputs, and with --outcome what it is to tell",
                described.id
            );
        };
        if paths.out.is_some() {
            bail!("there is nothing to write yet: leave --out out, and give it when visits have voted");
        }
        let learning = begin::begin(described, &policy, overview, outcome)?;
        write(&learning, &file)?;
        println!(
            "learning of {} begins with {} terms, and {:.4} of the visits with the outcome: {}",
            described.id,
            learning.terms.len(),
            learning.rate,
            file.display()
        );
        println!(
            "next: sign the policy with [[retrain]] model = \"{}\" and by = \"votes\", put it, wait for a window, and run this again",
            described.id
        );
        return Ok(());
    };
    if paths.outcome.is_some() {
        bail!("{} says what is learnt already; take it away to begin anew, or leave --outcome out", file.display());
    }
    if let Some(overview) = &overview {
        let place = policy.models.iter().position(|model| model.id == described.id);
        let place = u32::try_from(place.with_context(|| format!("the policy has no model `{}`", described.id))?)?;
        let learner = learning.learner(&policy, place).map_err(|why| anyhow!("{}: {why}", file.display()))?;
        if policy.learners.iter().any(|other| other.model == place && *other != learner) {
            bail!(
                "the policy asks for votes by another learning.json than {}: name the manifest that it names",
                file.display()
            );
        }
        let name = learning.name();
        round(learning, &name, overview)?;
    } else if paths.out.is_none() {
        bail!("say with --from what was released, with --out where the next version goes, or both");
    }
    tell(learning);
    // A version that cannot be written leaves the round to be taken again.
    if let Some(out) = paths.out {
        let site = &policy.site;
        version::write(learning, &policy, &before, site, (out, paths.version))?;
        // Where the policy names this version next, it goes on.
        write(learning, &out.join(LEARNING))?;
    }
    if overview.is_some() {
        write(learning, &file)?;
        println!("round {} is asked for when the policy is signed again: {}", learning.round, file.display());
    }
    if let Some(out) = paths.out {
        super::next::tell(out);
    }
    Ok(())
}
