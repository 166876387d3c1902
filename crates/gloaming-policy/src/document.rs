//! The compiled policy and its bytes.
//!
//! ```text
//! policy = [ 2, site, version, expires_day, budget_rho, delta_nano, [origin…], [home_edge…],
//!            [purpose…], [page-group…], [campaign…], [event-name…], [page-feature…],
//!            behavior-config, [metric…], [model…], [experiment…], [learner…]? ]
//! ```
//! Every list is an ordinary CBOR array, every record an array of its fields in the order of the
//! structs below. The hash of these bytes is the policy's name in submissions and batches.

use alloc::string::String;
use alloc::vec::Vec;

use gloaming_behavior::definitions::{DEFINITIONS, Kind};
use gloaming_behavior::{Config, Features, NONE};
use gloaming_privacy::Rho;
use gloaming_signal::cbor::{self, Cbor, Error, Reader, Writer};
use gloaming_signal::{cbor_record, hash, limits};

use crate::experiment::Experiment;
use crate::learner::Learner;
use crate::metric::Metric;
use crate::model::{Model, PAGE_INPUT};

/// A purpose a person may agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Its name in metrics, features and models.
    pub id: String,
    /// Language and text, as shown.
    pub texts: Vec<(String, String)>,
}

cbor_record!(Purpose { id, texts });

/// Pages counted under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageGroup {
    /// Its name.
    pub id: String,
    /// Paths: exact, or a prefix when ending in `*`. The first group that matches wins.
    pub paths: Vec<String>,
}

cbor_record!(PageGroup { id, paths });

/// What values a page-given feature may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageFeatureKind {
    /// `min + steps / 100`, with this many steps at most; `min` in hundredths.
    Number {
        /// Smallest value, hundredths.
        min: i64,
        /// Largest value, in steps above the smallest.
        max_steps: u32,
    },
    /// One of these words.
    Category(Vec<String>),
}

impl Cbor for PageFeatureKind {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Number { min, max_steps } => {
                writer.list(2);
                min.encode(writer);
                max_steps.encode(writer);
            }
            Self::Category(words) => {
                writer.list(1);
                words.encode(writer);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.record_or(2)? {
            let kind = Self::Number { min: Cbor::decode(reader)?, max_steps: Cbor::decode(reader)? };
            reader.leave();
            Ok(kind)
        } else {
            let kind = Self::Category(Cbor::decode(reader)?);
            reader.leave();
            Ok(kind)
        }
    }
}

/// A feature the page gives, typed and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFeature {
    /// Its name.
    pub id: String,
    /// Its values.
    pub kind: PageFeatureKind,
    /// Unit, for people.
    pub unit: String,
    /// Index of the purpose it serves.
    pub purpose: u32,
    /// Whether visitors say it of themselves and it is of a special category of personal data (GDPR, Article 9).
    pub special: bool,
}

impl Cbor for PageFeature {
    /// Four fields, and a fifth where it is special: policies from before there was such a word keep their bytes.
    fn encode(&self, writer: &mut Writer) {
        writer.list(if self.special { 5 } else { 4 });
        self.id.encode(writer);
        self.kind.encode(writer);
        self.unit.encode(writer);
        self.purpose.encode(writer);
        if self.special {
            self.special.encode(writer);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let more = reader.record_or(5)?;
        let mut read = Self {
            id: Cbor::decode(reader)?,
            kind: Cbor::decode(reader)?,
            unit: Cbor::decode(reader)?,
            purpose: Cbor::decode(reader)?,
            special: false,
        };
        if more {
            read.special = Cbor::decode(reader)?;
        }
        reader.leave();
        Ok(read)
    }
}

/// Where an axis of a metric takes its value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A feature or outcome: index into `gloaming_behavior::definitions::DEFINITIONS`.
    Feature(u32),
    /// A model's score: index into [`Policy::models`].
    Score(u32),
    /// A page-given feature: index into [`Policy::page_features`].
    Page(u32),
    /// Steps reached of a funnel: index into the behaviour config's funnels.
    Funnel(u32),
    /// How a model fared in the visit, and whose score it was: index into [`Policy::models`].
    Fared(u32),
    /// The arm that the visit was exposed to: index into [`Policy::experiments`].
    Arm(u32),
    /// The visit's vote on what is being learnt: index into [`Policy::learners`].
    Vote(u32),
}

impl Cbor for Source {
    fn encode(&self, writer: &mut Writer) {
        let pair: (u8, u32) = match *self {
            Self::Feature(i) => (0, i),
            Self::Score(i) => (1, i),
            Self::Page(i) => (2, i),
            Self::Funnel(i) => (3, i),
            Self::Fared(i) => (4, i),
            Self::Arm(i) => (5, i),
            Self::Vote(i) => (6, i),
        };
        pair.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (tag, index) = <(u8, u32)>::decode(reader)?;
        match tag {
            0 => Ok(Self::Feature(index)),
            1 => Ok(Self::Score(index)),
            2 => Ok(Self::Page(index)),
            3 => Ok(Self::Funnel(index)),
            4 => Ok(Self::Fared(index)),
            5 => Ok(Self::Arm(index)),
            6 => Ok(Self::Vote(index)),
            _ => Err(reader.limit()),
        }
    }
}

/// How a value becomes a bin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bins {
    /// `edges` in steps, increasing: bin `i` holds `edges[i] <= value < edges[i + 1]`; values outside
    /// count in the first and last bin.
    Edges(Vec<u32>),
    /// The value is an index into this map of bins; values beyond it have none.
    Map(Vec<u32>),
    /// A clipped sum: at most `max` whole units, of `scale` steps each.
    Sum {
        /// Largest value of one contribution, in units.
        max: u32,
        /// Steps in one unit.
        scale: u32,
    },
}

impl Cbor for Bins {
    fn encode(&self, writer: &mut Writer) {
        let pair: (u8, Vec<u32>) = match self {
            Self::Edges(edges) => (0, edges.clone()),
            Self::Map(map) => (1, map.clone()),
            Self::Sum { max, scale } => (2, alloc::vec![*max, *scale]),
        };
        pair.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (tag, numbers) = <(u8, Vec<u32>)>::decode(reader)?;
        match (tag, numbers.as_slice()) {
            (0, edges) if edges.len() >= 2 && edges.is_sorted_by(|a, b| a < b) => Ok(Self::Edges(numbers)),
            (1, [_, ..]) => Ok(Self::Map(numbers)),
            (2, &[max, scale]) if max <= limits::VALUE && max > 0 && scale > 0 => Ok(Self::Sum { max, scale }),
            _ => Err(reader.limit()),
        }
    }
}

/// One dimension of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Where the value comes from.
    pub source: Source,
    /// How it becomes a bin.
    pub bins: Bins,
    /// A word for each bin.
    pub labels: Vec<String>,
}

cbor_record!(Axis { source, bins, labels });

impl Axis {
    /// Whether it is of a feature that says no or yes.
    #[must_use]
    pub fn is_yes_or_no(&self) -> bool {
        matches!(self.source, Source::Feature(_)) && self.labels == ["no", "yes"]
    }
}

impl Policy {
    /// The unit of a number, and nothing for words.
    #[must_use]
    pub fn unit(&self, source: Source) -> &str {
        match source {
            Source::Feature(at) => match DEFINITIONS.get(at as usize).map(|known| known.kind) {
                Some(Kind::Number { unit, .. }) => unit,
                _ => "",
            },
            Source::Page(at) => self.page_features.get(at as usize).map_or("", |given| &given.unit),
            _ => "",
        }
    }
}

/// The whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The site it is for.
    pub site: String,
    /// Grows with every change.
    pub version: u32,
    /// First day (days since 1970, UTC) on which it no longer holds.
    pub expires_day: u64,
    /// What a device may spend a day on everything together.
    pub budget: Rho,
    /// The delta that epsilon is printed at, in 1e-12.
    pub delta_pico: u64,
    /// Origins whose pages may post.
    pub origins: Vec<String>,
    /// Names of the edges that fold this site.
    pub home_edges: Vec<String>,
    /// Purposes.
    pub purposes: Vec<Purpose>,
    /// Page groups, first match wins.
    pub groups: Vec<PageGroup>,
    /// Declared campaigns.
    pub campaigns: Vec<String>,
    /// The site's own events.
    pub events: Vec<String>,
    /// Features the page gives.
    pub page_features: Vec<PageFeature>,
    /// What the tracker needs.
    pub behavior: Config,
    /// Metrics, by growing id.
    pub metrics: Vec<Metric>,
    /// Models.
    pub models: Vec<Model>,
    /// Experiments.
    pub experiments: Vec<Experiment>,
    /// What is being learnt on devices.
    pub learners: Vec<Learner>,
}

impl Cbor for Policy {
    /// Seventeen fields where nothing is learnt on devices, which is all that there was at first: such policies keep their bytes.
    fn encode(&self, writer: &mut Writer) {
        writer.list(if self.learners.is_empty() { 17 } else { 18 });
        2u8.encode(writer);
        self.site.encode(writer);
        self.version.encode(writer);
        self.expires_day.encode(writer);
        self.budget.encode(writer);
        self.delta_pico.encode(writer);
        self.origins.encode(writer);
        self.home_edges.encode(writer);
        self.purposes.encode(writer);
        self.groups.encode(writer);
        self.campaigns.encode(writer);
        self.events.encode(writer);
        self.page_features.encode(writer);
        self.behavior.encode(writer);
        self.metrics.encode(writer);
        self.models.encode(writer);
        self.experiments.encode(writer);
        if !self.learners.is_empty() {
            self.learners.encode(writer);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let learns = reader.record_or(18)?;
        if u8::decode(reader)? != 2 {
            return Err(reader.limit());
        }
        let mut policy = Self {
            site: Cbor::decode(reader)?,
            version: Cbor::decode(reader)?,
            expires_day: Cbor::decode(reader)?,
            budget: Cbor::decode(reader)?,
            delta_pico: Cbor::decode(reader)?,
            origins: Cbor::decode(reader)?,
            home_edges: Cbor::decode(reader)?,
            purposes: Cbor::decode(reader)?,
            groups: Cbor::decode(reader)?,
            campaigns: Cbor::decode(reader)?,
            events: Cbor::decode(reader)?,
            page_features: Cbor::decode(reader)?,
            behavior: Cbor::decode(reader)?,
            metrics: Cbor::decode(reader)?,
            models: Cbor::decode(reader)?,
            experiments: Cbor::decode(reader)?,
            learners: Vec::new(),
        };
        if learns {
            policy.learners = Cbor::decode(reader)?;
        }
        reader.leave();
        if policy.sound() { Ok(policy) } else { Err(reader.limit()) }
    }
}

impl Policy {
    /// Reads a compiled policy.
    ///
    /// # Errors
    /// When the bytes are too large, not canonical, or break a rule that [`Policy::sound`] checks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > limits::POLICY_BYTES {
            return Err(Error::Limit(limits::POLICY_BYTES));
        }
        cbor::from_slice(bytes)
    }

    /// The bytes that are hashed, signed and served.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// The policy's name: SHA-256 of its bytes.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash::sha256(&self.to_bytes())
    }

    /// What all metrics together may cost a device on a day.
    #[must_use]
    pub fn declared(&self) -> Rho {
        self.metrics.iter().fold(Rho::default(), |sum, m| sum.plus(m.rho.times(u64::from(m.per_day))))
    }

    /// What a model is given for one of its inputs: a number in its unit, a category as its index. `None` for a
    /// page-given feature that the page did not give; a model is not run on what nobody said.
    #[must_use]
    pub fn model_input(&self, features: &Features, input: u32) -> Option<f32> {
        let Some(page) = input.checked_sub(PAGE_INPUT) else { return Some(features.model_input(input as usize)) };
        let steps = features.page_feature(page as usize);
        if steps == NONE {
            return None;
        }
        Some(match self.page_features.get(page as usize)?.kind {
            PageFeatureKind::Number { min, .. } => ((min as f64 + f64::from(steps)) / 100.0) as f32,
            PageFeatureKind::Category(_) => steps as f32,
        })
    }

    /// Whether a purpose, by its index, is for something of a special category (GDPR, Article 9).
    #[must_use]
    pub fn is_special(&self, purpose: u32) -> bool {
        self.page_features.iter().any(|feature| feature.special && feature.purpose == purpose)
    }

    /// The delta that epsilon is printed at.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.delta_pico as f64 / 1e12
    }

    /// The metric with this id.
    #[must_use]
    pub fn metric(&self, id: u32) -> Option<&Metric> {
        self.metrics.binary_search_by_key(&id, |m| m.id).ok().map(|i| &self.metrics[i])
    }

    /// Different window lengths, shortest first.
    #[must_use]
    pub fn spans(&self) -> Vec<u64> {
        let mut spans: Vec<u64> = self.metrics.iter().map(|m| m.span_ms).collect();
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    /// Whether a window is shorter than an hour: a demonstration, for loopback only.
    #[must_use]
    pub fn is_demo(&self) -> bool {
        self.metrics.iter().any(|m| m.span_ms < 60 * 60 * 1000)
    }
}
