//! What leaving out means to a policy's text, and to those who read what is released.

use gloaming_privacy::Rho;

use super::part::{Part, Parts};
use super::{Change, LeftOut};
use crate::document::Source;
use crate::metric::Metric;

impl<'p> Parts<'p> {
    /// What goes, table by table.
    pub(super) fn told(&self, out: &[Part]) -> Vec<LeftOut> {
        let mut tables: Vec<(Part, Vec<Part>)> = Vec::new();
        for part in out {
            let table = self.table(*part);
            match tables.iter_mut().find(|(of, _)| *of == table) {
                Some((_, parts)) => parts.push(*part),
                None => tables.push((table, vec![*part])),
            }
        }
        let told = |(table, gone): &(Part, Vec<Part>)| {
            let (changes, unseen) = self.change(*table, gone, out);
            LeftOut {
                changes,
                metrics: gone.iter().flat_map(|part| self.among(|of| of == part)).map(|metric| metric.id).collect(),
                frees: gone.iter().fold(Rho::default(), |sum, part| sum.plus(self.cost(*part))),
                unseen,
            }
        };
        tables.iter().map(told).collect()
    }

    /// The part that stands for the whole table.
    fn table(&self, part: Part) -> Part {
        match part {
            Part::Input { model, .. } => Part::Watch(model),
            Part::Counts { model, .. } | Part::Votes(model) => Part::Pairs(model),
            Part::Groups { .. } => self.compared(part).into_iter().next().unwrap_or(part),
            _ => part,
        }
    }

    /// The groups that are compared by one `[[fairness]]` with these, or could be.
    fn compared(&self, part: Part) -> Vec<Part> {
        let whose = |part: Part| match part {
            Part::Groups { model, .. } => {
                let metric = self.metrics.get(&part)?.first()?;
                Some((model, metric.span_ms, metric.k, metric.rho, metric.axes.get(1..)?))
            }
            _ => None,
        };
        let of = whose(part);
        self.metrics.keys().copied().filter(|other| of.is_some() && whose(*other) == of).collect()
    }

    fn among(&self, which: impl Fn(&Part) -> bool) -> Vec<&'p Metric> {
        self.metrics.iter().filter(|(part, _)| which(part)).flat_map(|(_, metrics)| metrics.iter().copied()).collect()
    }

    fn model(&self, model: usize) -> &'p str {
        self.policy.models.get(model).map_or("", |model| &model.id)
    }

    /// What is to be changed in a table without these parts of it, and what is then no longer seen.
    fn change(&self, table: Part, gone: &[Part], out: &[Part]) -> (Vec<Change>, String) {
        match table {
            Part::Watch(model) => self.monitor(model, gone, out),
            Part::Groups { model, .. } => self.fairness(model, table, gone, out),
            Part::Arms(place) => {
                let experiment = self.policy.experiments.get(place);
                let id = experiment.map_or("", |experiment| &experiment.id);
                let asked: Vec<u32> = experiment.into_iter().flat_map(|experiment| self.compares(experiment)).collect();
                let changes = [vec![Change::out("experiment", id)], self.unasked(&asked, out)].concat();
                (changes, format!("`{id}` ends, and its guardrails with it"))
            }
            Part::Own(id) => {
                let name = self.policy.metric(id).map_or("", |metric| &metric.name);
                (vec![Change::out("metric", name)], format!("`{name}` is not counted"))
            }
            Part::Pairs(model) | Part::Votes(model) | Part::Input { model, .. } | Part::Counts { model, .. } => {
                self.retrain(model, gone, out)
            }
        }
    }

    /// The key that lists the inputs which a monitor still counts.
    fn watched(&self, model: usize, out: &[Part]) -> (&'static str, String) {
        let kept = |part: &Part| matches!(part, Part::Input { model: of, .. } if *of == model) && !out.contains(part);
        ("inputs", list(&self.among(kept)))
    }

    fn monitor(&self, model: usize, gone: &[Part], out: &[Part]) -> (Vec<Change>, String) {
        let id = self.model(model);
        if gone.contains(&Part::Watch(model)) {
            let unseen =
                format!("neither drift of `{id}` is seen, nor how often it is late or given up, nor how right it is");
            return (vec![Change::out("monitor", id)], unseen);
        }
        let own = |part: &Part| match part {
            Part::Watch(of) | Part::Input { model: of, .. } => *of == model && !out.contains(part),
            _ => false,
        };
        let keys = vec![self.watched(model, out), ("rho", price(&self.among(own)))];
        let change = Change { table: "monitor", of: id.to_owned(), keys };
        let lost = self.among(|part| gone.contains(part));
        (vec![change], format!("no drift of {} is seen for `{id}`", said(&lost)))
    }

    fn retrain(&self, model: usize, gone: &[Part], out: &[Part]) -> (Vec<Change>, String) {
        let id = self.model(model);
        if gone.contains(&Part::Votes(model)) {
            let unseen = format!("`{id}` is not learnt further: nobody votes on it");
            return (vec![Change::out("retrain", id)], unseen);
        }
        let counts = |part: &Part| matches!(part, Part::Counts { model: of, .. } if *of == model);
        let lost = self.among(|part| counts(part) && gone.contains(part));
        let kept = self.among(|part| counts(part) && !out.contains(part));
        if lost.is_empty() {
            let keys = vec![("pairs", "[]".to_owned()), ("rho", price(&kept))];
            let unseen = format!("what two inputs of `{id}` both say counts twice in its next version");
            return (vec![Change { table: "retrain", of: id.to_owned(), keys }], unseen);
        }
        let (change, mut unseen) = if kept.is_empty() {
            (Change::out("retrain", id), format!("no next version of `{id}` is learnt from counts"))
        } else {
            let keys = vec![("inputs", list(&kept)), ("pairs", "[]".to_owned()), ("rho", price(&kept))];
            let unseen = format!("the next version of `{id}` learns nothing of {}", said(&lost));
            (Change { table: "retrain", of: id.to_owned(), keys }, unseen)
        };
        let mut changes = vec![change];
        // Monitors count what is not learnt from, for the same price; so that theirs stays what it is, they say what they count.
        for watching in (0..self.policy.models.len()).filter(|model| !out.contains(&Part::Watch(*model))) {
            let left: Vec<&Metric> = lost.iter().copied().filter(|metric| self.leans(watching, metric)).collect();
            if !left.is_empty() {
                let of = self.model(watching);
                changes.push(Change { table: "monitor", of: of.to_owned(), keys: vec![self.watched(watching, out)] });
                unseen += &format!(", and no drift of {} is seen for `{of}`", said(&left));
            }
        }
        (changes, unseen)
    }

    /// Whether a model's monitor does not count an input because it is counted here, with its outcome.
    fn leans(&self, model: usize, metric: &Metric) -> bool {
        let watch = self.metrics.get(&Part::Watch(model)).and_then(|metrics| metrics.first());
        let Some((Source::Feature(input), watch)) = metric.axes.first().map(|axis| axis.source).zip(watch) else {
            return false;
        };
        watch.span_ms == metric.span_ms
            && watch.purpose == metric.purpose
            && self.policy.models.get(model).is_some_and(|model| model.inputs.contains(&input))
    }

    fn fairness(&self, model: usize, table: Part, gone: &[Part], out: &[Part]) -> (Vec<Change>, String) {
        let id = self.model(model);
        let attributes = |parts: &[Part]| -> Vec<u32> {
            let of = |part: &Part| if let Part::Groups { attribute, .. } = part { Some(*attribute) } else { None };
            parts.iter().filter_map(of).collect()
        };
        let named = |parts: &[Part]| -> Vec<&'p str> {
            let id = |at: u32| self.policy.page_features.get(at as usize).map(|feature| feature.id.as_str());
            attributes(parts).into_iter().filter_map(id).collect()
        };
        let kept: Vec<Part> = self.compared(table).into_iter().filter(|part| !out.contains(part)).collect();
        let change = if kept.is_empty() {
            Change::out("fairness", id)
        } else {
            let keys =
                vec![("by", format!("{:?}", named(&kept))), ("rho", price(&self.among(|part| kept.contains(part))))];
            Change { table: "fairness", of: id.to_owned(), keys }
        };
        let groups: Vec<String> = named(gone).iter().map(|name| format!("`{name}`")).collect();
        let unseen = format!("fairness of `{id}` by {} is not known, nor shown to the gate", groups.join(", "));
        ([vec![change], self.unasked(&attributes(gone), out)].concat(), unseen)
    }

    /// Attributes that nothing would be done with any more: visitors are not asked for those.
    fn unasked(&self, attributes: &[u32], out: &[Part]) -> Vec<Change> {
        let kept = self.among(|part| !out.contains(part));
        let used = |at: u32| kept.iter().any(|m| m.axes.iter().any(|axis| axis.source == Source::Page(at)));
        let unused = attributes.iter().filter(|at| !used(**at));
        unused
            .filter_map(|at| Some(Change::out("attribute", &self.policy.page_features.get(*at as usize)?.id)))
            .collect()
    }
}

/// The first thing that a metric is of, as lists of inputs name it.
fn input_name(metric: &Metric) -> &str {
    let first = metric.of.split(", ").next().unwrap_or_default();
    first.strip_prefix("feature:").unwrap_or(first)
}

/// Inputs as a list in TOML.
fn list(metrics: &[&Metric]) -> String {
    let names: Vec<&str> = metrics.iter().map(|metric| input_name(metric)).collect();
    format!("{names:?}")
}

/// Inputs in a sentence.
fn said(metrics: &[&Metric]) -> String {
    let names: Vec<String> = metrics.iter().map(|metric| format!("`{}`", input_name(metric))).collect();
    names.join(", ")
}

/// What metrics that share one price cost together, in TOML.
fn price(metrics: &[&Metric]) -> String {
    metrics.iter().fold(Rho::default(), |sum, metric| sum.plus(metric.rho)).as_f64().to_string()
}
