//! `learning.json`: how far a model has been learnt on devices, as it lies beside the manifest between two rounds.

use serde::{Deserialize, Serialize};

use gloaming_behavior::Definition;
use gloaming_signal::hash;

use super::model::input_of;
use super::monitor::axis_of;
use crate::document::{Axis, Bins, PageFeatureKind, Policy, Source};
use crate::learner::{Learner, TERM_BINS, TERMS, Term};
use crate::model::PAGE_INPUT;

/// The form that is written and read.
const FORMAT: u32 = 1;

/// One input, or one word of it, as a number that is weighed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningTerm {
    /// The input as manifests name it.
    pub input: String,
    /// Of a number: where its bins begin and the last ends, in steps of its definition. None for words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<u32>,
    /// Of a number that a page gives: what it is at step 0. Edges mean something else when the policy lets it begin elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero: Option<f64>,
    /// Of words: all of them, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Of words: the one that is told from all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// What each bin, or each word, stands for.
    pub values: Vec<f64>,
    /// The share of visits in each, as it was released.
    pub shares: Vec<f64>,
    /// What it adds to the log-odds for one of a value.
    pub weight: f64,
    /// How the weight moved last.
    #[serde(default)]
    pub speed: f64,
}

impl LearningTerm {
    /// How a value becomes one of its bins: by its edges, or each word by itself.
    #[must_use]
    pub fn bins(&self) -> Bins {
        match self.edges.as_slice() {
            [] => Bins::Map((0..self.values.len()).map(|word| word as u32).collect()),
            edges => Bins::Edges(edges.to_vec()),
        }
    }
}

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRound {
    /// The votes, by the name that they were counted under.
    pub of: String,
    /// When the last window of them ended, ms since 1970.
    pub until_ms: u64,
    /// Visits that voted.
    pub visits: f64,
    /// Length of the gradient that was voted for.
    pub length: f64,
    /// Length that noise and chance alone have in the mean.
    pub noise: f64,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learning {
    /// Form of the file; 1.
    pub format: u32,
    /// The model's name.
    pub model: String,
    /// The model's version when learning began; each round makes one more.
    pub version: u32,
    /// `outcome:NAME@VERSION`, of no and yes.
    pub outcome: String,
    /// Share of visits with it, as it was released when learning began.
    pub rate: f64,
    /// The round that votes are asked for; the first is 1.
    pub round: u32,
    /// Log-odds before any term.
    pub level: f64,
    /// Largest sum of one visit's gradient.
    pub clip: f64,
    /// What is weighed.
    pub terms: Vec<LearningTerm>,
    /// What earlier rounds came to, oldest first.
    pub rounds: Vec<LearningRound>,
}

/// Where an input that manifests call by this name comes from.
#[must_use]
pub fn input_source(name: &str, policy: &Policy) -> Option<Source> {
    let input = input_of(name, &policy.page_features)?;
    Some(input.checked_sub(PAGE_INPUT).map_or(Source::Feature(input), Source::Page))
}

/// All words of an input, in the order of their numbers; `None` for numbers, and for words of which there may be many.
#[must_use]
pub fn input_words(source: Source, policy: &Policy) -> Option<Vec<String>> {
    match source {
        Source::Feature(at) => {
            axis_of(at as usize, policy).filter(|axis| matches!(axis.bins, Bins::Map(_))).map(|a| a.labels)
        }
        Source::Page(at) => match &policy.page_features.get(at as usize)?.kind {
            PageFeatureKind::Category(words) => Some(words.clone()),
            PageFeatureKind::Number { .. } => None,
        },
        _ => None,
    }
}

/// What a number that a page gives is at step 0; `None` for all else.
#[must_use]
pub fn page_zero(source: Source, policy: &Policy) -> Option<f64> {
    let Source::Page(at) = source else { return None };
    match policy.page_features.get(at as usize)?.kind {
        PageFeatureKind::Number { min, .. } => Some(min as f64 / 100.0),
        PageFeatureKind::Category(_) => None,
    }
}

fn micro(number: f64) -> Result<i64, String> {
    let steps = (number * 1e6).round();
    if steps.abs() <= 1e8 { Ok(steps as i64) } else { Err(format!("{number} is no number from -100 to 100")) }
}

impl Learning {
    /// The form that [`Learning::read`] reads.
    pub const FORMAT: u32 = FORMAT;

    /// Reads the file's text.
    ///
    /// # Errors
    /// One sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.format != FORMAT {
            return Err(format!("form {} is not known here, which is {FORMAT}", read.format));
        }
        if read.terms.is_empty() || read.terms.len() > TERMS {
            return Err(format!("it has {} terms; 1 to {TERMS} can be learnt", read.terms.len()));
        }
        for term in &read.terms {
            let bins = term.values.len();
            let other = read.terms.iter().find(|other| other.input == term.input);
            let sound = (1..=TERM_BINS).contains(&bins)
                && term.shares.len() == bins
                && (if term.edges.is_empty() { term.words.len() == bins } else { term.edges.len() == bins + 1 })
                && other.is_none_or(|other| other.edges == term.edges && other.words == term.words)
                && term.edges.is_sorted_by(|a, b| a < b)
                && term.shares.iter().all(|share| (0.0..=1.0).contains(share));
            if !sound {
                return Err(format!("`{}` has not a value and a share for each of 1 to {TERM_BINS} bins", term.input));
            }
        }
        Ok(read)
    }

    /// What its votes are counted under, by all that they are on: what was voted on other weights is of another metric.
    #[must_use]
    pub fn name(&self) -> String {
        // What came of earlier rounds, and how weights got where they are, does not matter to a vote.
        let terms = self.terms.iter().map(|term| LearningTerm { speed: 0.0, shares: Vec::new(), ..term.clone() });
        let bare = Self { terms: terms.collect(), rounds: Vec::new(), rate: 0.0, version: 0, ..self.clone() };
        let hash = hash::sha256(serde_json::to_string(&bare).unwrap_or_default().as_bytes());
        format!("votes:{}@{} {}", self.model, self.round, hash::hex(&hash[..4]))
    }

    /// What devices vote on, in a policy whose model with this index it is of.
    ///
    /// # Errors
    /// One sentence.
    pub fn learner(&self, policy: &Policy, model: u32) -> Result<Learner, String> {
        let outcome = self.outcome.strip_prefix("outcome:").and_then(Definition::find);
        let outcome: Axis = outcome
            .and_then(|feature| axis_of(feature, policy))
            .filter(Axis::is_yes_or_no)
            .ok_or_else(|| format!("`{}` is no outcome of yes or no", self.outcome))?;
        let told = outcome.source;
        let term = |term: &LearningTerm| {
            let source =
                input_source(&term.input, policy).ok_or_else(|| format!("no device computes `{}`", term.input))?;
            if source == told {
                return Err(format!("`{}` is the outcome, and cannot be told by itself", term.input));
            }
            if term.zero != page_zero(source, policy) {
                return Err(format!("`{}` begins elsewhere than when learning began", term.input));
            }
            if term.edges.is_empty() && input_words(source, policy).as_deref() != Some(&term.words) {
                return Err(format!("the words of `{}` are others than when learning began", term.input));
            }
            let values = term.values.iter().map(|value| micro(*value)).collect::<Result<_, _>>()?;
            Ok(Term { source, bins: term.bins(), values, weight: micro(term.weight)? })
        };
        let clip = u32::try_from(micro(self.clip)?).ok().filter(|clip| *clip > 0);
        Ok(Learner {
            model,
            round: self.round.max(1),
            outcome,
            level: micro(self.level)?,
            clip: clip.ok_or_else(|| format!("clip = {} is nothing", self.clip))?,
            terms: self.terms.iter().map(term).collect::<Result<_, String>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learning() -> Learning {
        let term = |input: &str, edges: &[u32], values: &[f64]| LearningTerm {
            input: input.into(),
            edges: edges.to_vec(),
            zero: None,
            words: if edges.is_empty() { values.iter().map(f64::to_string).collect() } else { Vec::new() },
            word: None,
            values: values.to_vec(),
            shares: vec![1.0 / values.len() as f64; values.len()],
            weight: 0.25,
            speed: 0.0,
        };
        Learning {
            format: 1,
            model: "intent".into(),
            version: 1,
            outcome: "outcome:purchase@1".into(),
            rate: 0.1,
            round: 3,
            level: -2.0,
            clip: 2.0,
            terms: vec![term("pages@1", &[0, 2, 9], &[-1.0, 1.0]), term("device-class@1", &[], &[0.0, 0.0, 1.0, 0.0])],
            rounds: vec![],
        }
    }

    #[test]
    fn what_is_no_learning_is_refused_with_the_cause() {
        let text = |change: fn(&mut Learning)| {
            let mut other = learning();
            change(&mut other);
            serde_json::to_string(&other).unwrap()
        };
        assert_eq!(Learning::read(&text(|_| ())).unwrap(), learning());
        type Change = fn(&mut Learning);
        let cases: [(Change, &str); 5] = [
            (|l| l.format = 2, "form 2 is not known"),
            (|l| l.terms.clear(), "it has 0 terms"),
            (|l| l.terms[0].values.push(1.0), "`pages@1` has not a value"),
            (|l| l.terms[0].edges = vec![0, 9, 9], "`pages@1` has not a value"),
            (|l| l.terms[1].shares[0] = 2.0, "`device-class@1` has not a value"),
        ];
        for (change, cause) in cases {
            let error = Learning::read(&text(change)).unwrap_err();
            assert!(error.contains(cause), "{error}");
        }
        assert!(Learning::read("{}").is_err());
    }

    #[test]
    fn other_weights_have_another_name() {
        let named = |change: fn(&mut Learning)| {
            let mut other = learning();
            change(&mut other);
            other.name()
        };
        let name = named(|_| ());
        assert!(name.starts_with("votes:intent@3 "), "{name}");
        let same: [fn(&mut Learning); 3] = [|l| l.rate = 0.3, |l| l.terms[0].speed = 1.0, |l| l.version = 9];
        assert!(same.iter().all(|change| named(*change) == name));
        let others: [fn(&mut Learning); 4] =
            [|l| l.round = 4, |l| l.terms[0].weight = 0.1, |l| l.level = 0.0, |l| l.terms[1].words[0] = "x".into()];
        assert!(others.iter().all(|change| named(*change) != name));
    }
}
