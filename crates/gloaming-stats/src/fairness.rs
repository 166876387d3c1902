//! Do groups fare differently, from four cells a group: true and false positives, false and true negatives.
//!
//! A visitor may declare a group on the device; only cells leave it. So there is no list to look a person up in, and
//! there are people who decline: their share, and how differently they fare from those who declared, stand beside
//! every result ([`Undeclared`]).
//!
//! Definitions are those of Fairlearn 0.15 (`demographic_parity_difference`, `demographic_parity_ratio`,
//! `equalized_odds_difference` with the worst case over both rates). Intervals hold for chance *and* noise at 95 %:
//! chance reaches as far as the interval of Clopper and Pearson, noise as far as a normal one, and both are joined as
//! Newcombe (1998, method 10) does.
//! The largest of several differences is an upward-biased figure, so intervals are drawn round every pair of
//! groups together (Bonferroni) and the largest is taken afterwards: they hold in 95 of 100 windows or more.
//!
//! **When it abstains.** With n people in a group and noise of epsilon (taken as √(2 / variance), which is what
//! Laplace noise of that variance has), a difference of selection rates errs by 0.01 at the 95th percentile where
//! n · epsilon is [`ENOUGH`]. Below it nothing is said, and why ([`Judged::Abstained`]). One group too small silences
//! the comparison of all: leaving it out would hide it.

use crate::performance::{REACH, Table, performance};
use crate::share::Rate;
use crate::{Cells, CellsError, Estimate, distribution};

/// People times epsilon a group needs. At half of it the error of a difference is 0.02, at double 0.005.
pub const ENOUGH: f64 = 500.0;
/// People times epsilon needed on either side of the outcome for rates of right and wrong alarms.
pub const ENOUGH_OUTCOMES: f64 = 50.0;
/// Fewest people a group needs even where counts are exact.
pub const PEOPLE: f64 = 30.0;
/// Fewest people with, and without, the outcome that rates of alarms need even where counts are exact.
pub const OUTCOMES: f64 = 5.0;
/// Most groups.
pub const GROUPS: usize = 64;

/// Why groups cannot be compared at all.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FairnessError {
    /// Not four cells.
    #[error("the group `{0}` has {1} cells; give it four: true positives, false positives, false and true negatives")]
    Cells(String, usize),
    /// Cells that are none.
    #[error(transparent)]
    Shape(#[from] CellsError),
    /// Nothing to compare.
    #[error("{0} groups; compare 2 to {GROUPS}")]
    Groups(usize),
    /// Twice the same.
    #[error("the group `{0}` is given twice; add up its cells with `Cells::plus`")]
    Twice(String),
}

/// A declared group and its cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    name: String,
    cells: Cells,
}

impl Group {
    /// `cells` are [true positives, false positives, false negatives, true negatives]: selected with and without the
    /// outcome, then not selected with and without it.
    ///
    /// # Errors
    /// When there are not four cells.
    pub fn new(name: impl Into<String>, cells: Cells) -> Result<Self, FairnessError> {
        let name = name.into();
        match cells.values().len() {
            4 => Ok(Self { name, cells }),
            other => Err(FairnessError::Cells(name, other)),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// [true positives, false positives, false and true negatives].
    #[must_use]
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Epsilon that Laplace noise of this variance has; infinite for exact counts.
    fn epsilon(&self) -> f64 {
        (2.0 / self.cells.variance()).sqrt()
    }
}

/// A figure, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// With its 95 % interval.
    Known(Estimate),
    /// Nothing can be said, and why, in words for a report.
    Abstained(String),
}

impl Judged {
    /// The figure if there is one.
    #[must_use]
    pub fn known(&self) -> Option<Estimate> {
        match self {
            Self::Known(estimate) => Some(*estimate),
            Self::Abstained(_) => None,
        }
    }
}

/// How one group fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Its name.
    pub name: String,
    /// About how many people; below zero where noise is greater than they are.
    pub people: f64,
    /// Share selected.
    pub selection: Judged,
    /// Share selected of those with the outcome.
    pub true_positive: Judged,
    /// Share selected of those without the outcome.
    pub false_positive: Judged,
}

/// Those who did not say which group they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct Undeclared {
    /// Their share of all people.
    pub share: Judged,
    /// Selection rate of them minus that of all who declared, from -1 to 1. Far from zero, the other figures speak of
    /// unusual people.
    pub selection_gap: Judged,
}

/// How differently groups fare.
#[derive(Clone, Debug, PartialEq)]
pub struct Fairness {
    /// In the order given.
    pub groups: Vec<Rates>,
    /// Largest selection rate minus the smallest: demographic parity difference.
    pub selection_difference: Judged,
    /// Smallest selection rate over the largest: demographic parity ratio. Under 0.8 is the "four-fifths rule".
    pub selection_ratio: Judged,
    /// The larger of the gaps in true and in false positive rates: equalized odds difference.
    pub odds_difference: Judged,
    /// If they were counted.
    pub undeclared: Option<Undeclared>,
}

/// A group's rates, each unless there is too little.
struct Known {
    selection: Result<Rate, String>,
    alarms: Result<[Rate; 2], String>,
}

fn known(group: &Group) -> Known {
    let [hits, wrong, missed, rest] = *group.cells.values() else {
        // `Group::new` lets nothing else through.
        return Known { selection: Err(String::new()), alarms: Err(String::new()) };
    };
    let (noise, epsilon) = (group.cells.variance(), group.epsilon());
    let enough = |what: &str, count: f64, needed: f64, least: f64| {
        if count >= least && count * epsilon >= needed {
            return Ok(());
        }
        let needed = least.max((needed / epsilon).ceil());
        let name = &group.name;
        Err(format!("not enough people: about {count:.0} {what} in the group `{name}`, and {needed:.0} are needed"))
    };
    let all = hits + wrong + missed + rest;
    let selection = enough("people", all, ENOUGH, PEOPLE).map(|()| Rate::new((hits + wrong, 2.0), (all, 4.0), noise));
    let alarms = selection.clone().and_then(|_| {
        enough("people with the outcome", hits + missed, ENOUGH_OUTCOMES, OUTCOMES)?;
        enough("people without the outcome", wrong + rest, ENOUGH_OUTCOMES, OUTCOMES)?;
        Ok([Rate::new((hits, 1.0), (hits + missed, 2.0), noise), Rate::new((wrong, 1.0), (wrong + rest, 2.0), noise)])
    });
    Known { selection, alarms }
}

fn judged(result: Result<Estimate, String>) -> Judged {
    match result {
        Ok(estimate) => Judged::Known(estimate),
        Err(why) => Judged::Abstained(why),
    }
}

/// Standard deviations that hold `comparisons` intervals together at 95 %.
fn reach(comparisons: usize) -> f64 {
    distribution::normal_upper(0.025 / comparisons.max(1) as f64)
}

/// Largest difference between two of a kind of rate; `kinds` holds one list a kind, one rate a group.
fn difference(kinds: &[Vec<Rate>]) -> Estimate {
    let pairs = |rates: &Vec<Rate>| rates.len() * rates.len().saturating_sub(1) / 2;
    let reach = reach(kinds.iter().map(pairs).sum());
    let all = kinds
        .iter()
        .flat_map(|rates| rates.iter().enumerate().flat_map(move |(at, a)| rates[..at].iter().map(move |b| (a, b))));
    let larger_first =
        |(a, b): (&Rate, &Rate)| if a.value >= b.value { a.minus(*b, reach) } else { b.minus(*a, reach) };
    let differences: Vec<Estimate> = all.map(larger_first).collect();
    let most = |of: &dyn Fn(&Estimate) -> f64| differences.iter().map(of).fold(0.0, f64::max).min(1.0);
    Estimate { value: most(&|pair| pair.value), low: most(&|pair| pair.low), high: most(&|pair| pair.high) }
}

fn ratio(rates: &[Rate]) -> Result<Estimate, String> {
    let reach = reach(rates.len());
    let least = |of: &dyn Fn(&Rate) -> f64| rates.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: &dyn Fn(&Rate) -> f64| rates.iter().map(of).fold(0.0, f64::max);
    let (low, high) = (
        |rate: &Rate| (rate.value - rate.ends(reach).0).max(0.0),
        |rate: &Rate| (rate.value + rate.ends(reach).1).min(1.0),
    );
    let top = most(&|rate| rate.value);
    if top == 0.0 {
        return Err("nobody was selected in any group, so there is no ratio of rates".into());
    }
    let value = least(&|rate| rate.value) / top;
    let upper = match most(&low) {
        0.0 => 1.0,
        sure => (least(&high) / sure).min(1.0),
    };
    Ok(Estimate { value, low: (least(&low) / most(&high)).min(value), high: upper.max(value) })
}

/// Compares the groups; `undeclared` are the four cells of those who did not say theirs.
///
/// # Errors
/// When there are fewer than two groups or too many, one twice, or `undeclared` has not four cells.
pub fn fairness(groups: &[Group], undeclared: Option<&Cells>) -> Result<Fairness, FairnessError> {
    if !(2..=GROUPS).contains(&groups.len()) {
        return Err(FairnessError::Groups(groups.len()));
    }
    let twice =
        groups.iter().enumerate().find(|(at, group)| groups[..*at].iter().any(|other| other.name == group.name));
    if let Some((_, group)) = twice {
        return Err(FairnessError::Twice(group.name.clone()));
    }
    let all: Vec<Known> = groups.iter().map(known).collect();
    let selections: Result<Vec<Rate>, String> = all.iter().map(|known| known.selection.clone()).collect();
    let alarms: Result<Vec<[Rate; 2]>, String> = all.iter().map(|known| known.alarms.clone()).collect();
    let odds = alarms.map(|rates| [0, 1].map(|kind| rates.iter().map(|pair| pair[kind]).collect::<Vec<Rate>>()));
    let rates = groups.iter().zip(&all).map(|(group, known)| Rates {
        name: group.name.clone(),
        people: group.cells.total(),
        selection: judged(known.selection.clone().map(Rate::estimate)),
        true_positive: judged(known.alarms.clone().map(|rates| rates[0].estimate())),
        false_positive: judged(known.alarms.clone().map(|rates| rates[1].estimate())),
    });
    Ok(Fairness {
        groups: rates.collect(),
        selection_difference: judged(selections.clone().map(|rates| difference(&[rates]))),
        selection_ratio: judged(selections.and_then(|rates| ratio(&rates))),
        odds_difference: judged(odds.map(|kinds| difference(&kinds))),
        undeclared: undeclared.map(|cells| decliners(groups, cells)).transpose()?,
    })
}

/// Those who are among `everybody` and in none of the groups: who said nothing, where everybody was counted and nobody said
/// that they keep silent. `everybody` are the four cells of all, the groups' among them; the groups' noise then is in the
/// silent as well, and is reckoned with.
///
/// # Errors
/// When there are not two to [`GROUPS`] groups, or `everybody` has not four cells.
pub fn silent(groups: &[Group], everybody: &Cells) -> Result<Undeclared, FairnessError> {
    if !(2..=GROUPS).contains(&groups.len()) {
        return Err(FairnessError::Groups(groups.len()));
    }
    let (all, said) = (Group::new("everybody", everybody.clone())?, declared(groups)?);
    let values = all.cells.values().iter().zip(said.cells.values()).map(|(all, said)| all - said).collect();
    let silent =
        Group { name: "undeclared".into(), cells: Cells::new(values, all.cells.variance() + said.cells.variance())? };
    let (of_all, of_said) = (all.cells.variance(), said.cells.variance());
    let (whole, spoke) = (all.cells.total(), said.cells.total());
    let share = if whole >= PEOPLE {
        // 1 - said / all, each of four cells' noise.
        let share = ((whole - spoke) / whole).clamp(0.0, 1.0);
        let noise = 4.0 * (of_said + (1.0 - share).powi(2) * of_all) / (whole * whole);
        Ok(Rate { value: share, people: whole, noise }.estimate())
    } else {
        Err(format!("not enough people: about {whole:.0} in all, and {PEOPLE} are needed"))
    };
    let gap = known(&silent).selection.and_then(|one| Ok((one, known(&said).selection?))).map(|(one, other)| {
        // What is on everybody's cells moves the silent alone; what is on a group's moves both, and apart.
        let own = Rate { noise: one.noise * of_all / (of_all + of_said).max(f64::MIN_POSITIVE), ..one };
        let selected = (1.0 - one.value) / one.people + (1.0 - other.value) / other.people;
        let rest = one.value / one.people + other.value / other.people;
        let both = Rate { noise: of_said * 2.0 * (selected * selected + rest * rest), ..other };
        own.minus(both, REACH)
    });
    Ok(Undeclared { share: judged(share), selection_gap: judged(gap) })
}

/// Those of all groups together.
fn declared(groups: &[Group]) -> Result<Group, FairnessError> {
    let mut cells = groups[0].cells.clone();
    for group in &groups[1..] {
        cells = cells.plus(&group.cells)?;
    }
    Ok(Group { name: "declared".into(), cells })
}

fn decliners(groups: &[Group], cells: &Cells) -> Result<Undeclared, FairnessError> {
    let (silent, declared) = (Group::new("undeclared", cells.clone())?, declared(groups)?);
    let (a, b) = (cells.total(), declared.cells.total());
    let all = a + b;
    // Noise of the share a / (a + b), whose two totals have four cells' noise each.
    let share = if all >= PEOPLE {
        let share = a / all;
        let noise = 4.0 * ((1.0 - share).powi(2) * cells.variance() + share.powi(2) * declared.cells.variance());
        Ok(Rate { value: share.clamp(0.0, 1.0), people: all, noise: noise / (all * all) }.estimate())
    } else {
        Err(format!("not enough people: about {all:.0} in all, and {PEOPLE} are needed"))
    };
    let both = known(&silent).selection.and_then(|silent| Ok((silent, known(&declared).selection?)));
    let gap = both.map(|(silent, declared)| silent.minus(declared, REACH));
    Ok(Undeclared { share: judged(share), selection_gap: judged(gap) })
}

/// Expected calibration error of each group's own (score bin × outcome) table, in the order given: the same score
/// should mean the same in each. Abstains for a group with fewer than [`ENOUGH`] people times epsilon, or where
/// [`performance`] has nothing to say.
#[must_use]
pub fn calibration_by_group(groups: &[(&str, Table)]) -> Vec<(String, Judged)> {
    let of = |(name, table): &(&str, Table)| {
        let (people, epsilon) = (table.cells().total(), (2.0 / table.cells().variance()).sqrt());
        let judged = if people < PEOPLE || people * epsilon < ENOUGH {
            let needed = PEOPLE.max((ENOUGH / epsilon).ceil());
            Judged::Abstained(format!(
                "not enough people: about {people:.0} people in the group `{name}`, and {needed:.0} are needed"
            ))
        } else {
            judged(performance(table).map(|found| found.calibration_error).map_err(|error| error.to_string()))
        };
        ((*name).to_owned(), judged)
    };
    groups.iter().map(of).collect()
}
