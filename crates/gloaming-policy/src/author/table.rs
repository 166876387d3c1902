//! A TOML table that remembers where things stand and what was asked for.
//!
//! Reading through it yields typed values or notes a [`Problem`] with line and remedy and goes on, so
//! that an author sees everything wrong at once.

use std::cell::RefCell;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Something wrong with a policy's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the TOML, from 1.
    pub line: usize,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}\n    remedy: {}", self.line, self.cause, self.remedy)
    }
}

/// The text and the problems found in it so far.
pub(super) struct Source<'a> {
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, problems: RefCell::default() }
    }

    pub(super) fn problem(&self, at: usize, cause: impl Into<String>, remedy: impl Into<String>) {
        let line = self.text[..at.min(self.text.len())].matches('\n').count() + 1;
        let problem = Problem { line, cause: cause.into(), remedy: remedy.into() };
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }
}

/// The declared word nearest to `word`, when it is near enough to be what was meant.
pub(super) fn nearest<'w>(word: &str, among: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    among
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The remedy for a word that is not declared: the one that was meant, or `otherwise`.
pub(super) fn meant<'w>(word: &str, among: impl IntoIterator<Item = &'w str>, otherwise: &str) -> String {
    nearest(word, among).map_or_else(|| otherwise.to_owned(), |meant| format!("did you mean `{meant}`?"))
}

/// One value with its place.
#[derive(Clone)]
pub(super) struct Value<'a> {
    source: &'a Source<'a>,
    value: &'a DeValue<'a>,
    pub(super) at: usize,
    pub(super) name: String,
}

impl<'a> Value<'a> {
    pub(super) fn wrong(&self, wanted: &str) {
        let found = self.value.type_str();
        self.source.problem(self.at, format!("`{}` is {found}, not {wanted}", self.name), format!("write {wanted}"));
    }

    pub(super) fn problem(&self, cause: impl Into<String>, remedy: impl Into<String>) {
        self.source.problem(self.at, cause, remedy);
    }

    pub(super) fn text(&self) -> Option<String> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong("a text in quotes");
        }
        text.map(str::to_owned)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong("true or false");
        }
        flag
    }

    pub(super) fn number(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Integer(i) if i.radix() == 10 => i.as_str().parse().ok(),
            DeValue::Float(f) => f.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|n: &f64| n.is_finite());
        if number.is_none() {
            self.wrong("a number");
        }
        number
    }

    /// A whole number within a range.
    pub(super) fn whole(&self, range: Range<u64>) -> Option<u64> {
        let number = match self.value {
            DeValue::Integer(i) if i.radix() == 10 => i.as_str().parse::<u64>().ok(),
            _ => None,
        };
        match number {
            Some(n) if range.contains(&n) => Some(n),
            _ => {
                self.problem(
                    format!("`{}` must be a whole number from {} to {}", self.name, range.start, range.end - 1),
                    "choose one within that range",
                );
                None
            }
        }
    }

    /// A number in millionths that it is a whole multiple of.
    pub(super) fn micro(&self) -> Option<u64> {
        let number = self.number()?;
        let micro = number * 1e6;
        if (1.0..1e15).contains(&micro) && (micro - micro.round()).abs() < 1e-3 {
            return Some(micro.round() as u64);
        }
        self.problem(
            format!("`{}` = {number} is not a positive multiple of 0.000001", self.name),
            "prices are kept in whole millionths; round it",
        );
        None
    }

    pub(super) fn list(&self) -> Vec<Self> {
        let Some(array) = self.value.as_array() else {
            self.wrong("a list in [ ]");
            return Vec::new();
        };
        array
            .iter()
            .enumerate()
            .map(|(i, item)| Self {
                source: self.source,
                value: item.get_ref(),
                at: item.span().start,
                name: format!("{}[{i}]", self.name),
            })
            .collect()
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(Self::text).collect()
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let Some(table) = self.value.as_table() else {
            self.wrong("a table");
            return None;
        };
        Some(Table::new(self.source, table, self.at, self.name.clone()))
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }
}

/// One table; on [`Table::finish`] what nobody asked for is a problem.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    pub(super) at: usize,
    pub(super) name: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(source: &'a Source<'a>, table: &'a DeTable<'a>, at: usize, name: String) -> Self {
        Self { source, table, at, name, asked: RefCell::default() }
    }

    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        let (_, value) = self.table.iter().find(|(k, _)| k.get_ref() == key)?;
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Some(Value { source: self.source, value: value.get_ref(), at: value.span().start, name })
    }

    /// A value that must be there; `example` shows how to write it.
    pub(super) fn need(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let place = if self.name.is_empty() { "the policy" } else { &self.name };
            self.source.problem(self.at, format!("{place} has no `{key}`"), format!("add {key} = {example}"));
        }
        value
    }

    pub(super) fn need_text(&self, key: &'static str, example: &str) -> String {
        self.need(key, example).and_then(|v| v.text()).unwrap_or_default()
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        self.get(key).map_or_else(Vec::new, |value| value.list().iter().filter_map(Value::table).collect())
    }

    fn all(&self) -> impl Iterator<Item = (String, Value<'a>)> + '_ {
        self.table.iter().map(|(key, value)| {
            let name = format!("{}.{}", self.name, key.get_ref());
            let at = value.span().start;
            (key.get_ref().to_string(), Value { source: self.source, value: value.get_ref(), at, name })
        })
    }

    /// All keys as texts: for `text.en = "…"`.
    pub(super) fn all_texts(&self) -> Vec<(String, String)> {
        self.all().filter_map(|(key, value)| Some((key, value.text()?))).collect()
    }

    /// All keys as lists of texts: for `roles = { data = ["…"] }`.
    pub(super) fn all_lists(&self) -> Vec<(String, Vec<String>)> {
        self.all().map(|(key, value)| (key, value.texts())).collect()
    }

    pub(super) fn problem(&self, cause: impl Into<String>, remedy: impl Into<String>) {
        self.source.problem(self.at, cause, remedy);
    }

    /// Notes every key that was never asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table {
            let word = key.get_ref().as_ref();
            if !asked.contains(&word) {
                let place = if self.name.is_empty() { "a policy" } else { &self.name };
                let known = format!("remove it; known here: {}", asked.join(", "));
                let remedy = meant(word, asked.iter().copied(), &known);
                self.source.problem(key.span().start, format!("{place} has no key `{word}`"), remedy);
            }
        }
    }
}
