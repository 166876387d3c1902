//! Policies: what compiles, what is refused and with which words, signatures and their failures.
#![allow(clippy::unwrap_used)]

mod signed;
mod special;

use gloaming_behavior::{NONE, Tracker};
use gloaming_policy::author::{
    Key, ManifestFacts, SignError, Signed, TEMPLATES, announced, announcement, batch_signature, compile, diff,
    newly_special, template, verify_batch,
};
use gloaming_policy::{Beside, Bins, Cell, ModelState, PAGE_INPUT, Policy, Score, group_of, score_steps};
use gloaming_signal::{Event, EventKind, Reason};

const TODAY: u64 = 20_781;

fn manifest(path: &str) -> Result<ManifestFacts, String> {
    if path != "models/purchase-intent/manifest.json" {
        return Err(format!("there is no file {path}"));
    }
    Ok(ManifestFacts::stand_in("purchase-intent", &["pages@1", "returning@1"]))
}

fn shop() -> String {
    template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap()
}

fn compiled(text: &str) -> Policy {
    compile(text, TODAY, &manifest).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// The one problem of a text, as `line: cause / remedy`.
fn problem(text: &str) -> String {
    let problems = compile(text, TODAY, &manifest).expect_err("refused");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    format!("{}: {} / {}", problems[0].line, problems[0].cause, problems[0].remedy)
}

#[test]
fn every_template_compiles_and_comes_back_from_its_bytes() {
    for name in TEMPLATES {
        let text = template(name, "shop.example", "https://shop.example", "2027-03-01").unwrap();
        let policy = compiled(&text);
        assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy, "{name}");
        assert!(policy.declared() <= policy.budget);
    }
    assert!(template("bank", "a", "b", "c").is_none());
}

#[test]
fn a_model_takes_what_the_page_gives() {
    let with = |input: &'static str| {
        move |path: &str| {
            manifest(path).map(|facts| ManifestFacts { inputs: vec!["pages@1".into(), input.into()], ..facts })
        }
    };
    let text = shop();
    assert!(text.contains("id = \"cart-value\""), "the shop's template has a page-given feature");
    let policy = compile(&text, TODAY, &with("page:cart-value")).unwrap();
    let input = policy.models[0].inputs[1];
    assert_eq!(input, PAGE_INPUT);
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
    let problems = compile(&text, TODAY, &with("page:cart-valeu")).unwrap_err();
    assert!(
        problems[0].cause.contains("`page:cart-valeu`, which no [[feature]] of this policy declares"),
        "{problems:?}"
    );
    let mut tracker = Tracker::new(policy.behavior.clone());
    tracker.push(Event::new(1, EventKind::PageView, 0));
    assert_eq!(policy.model_input(&tracker.features(false), input), None, "a page that gives nothing");
    tracker.push(Event { at_ms: 2, kind: EventKind::PageFeature, a: 0, b: 12_345, c: 0 });
    assert_eq!(policy.model_input(&tracker.features(false), input), Some(123.45));
    // Bytes that point at a feature that is not there are no policy.
    let mut broken = policy.clone();
    broken.models[0].inputs[1] += 1;
    assert!(Policy::from_bytes(&broken.to_bytes()).is_err());
}

/// The shop's policy, with a second model and these lines on the first.
fn two_models(lines: &str, purpose: &str) -> Result<Policy, String> {
    let first = "state = \"shadow\" ";
    assert_eq!(shop().matches(first).count(), 1);
    let second = "\n[[model]]\nid = \"small\"\nmanifest = \"small.json\"\nstate = \"shadow\"\npurpose = ";
    let text = shop().replace(first, &format!("{lines}\n{first}")) + second + &format!("\"{purpose}\"\n");
    let both = |path: &str| match path {
        "small.json" => {
            let facts = manifest("models/purchase-intent/manifest.json")?;
            Ok(ManifestFacts { id: "small".into(), manifest_sha256: [3; 32], ..facts })
        }
        _ => manifest(path),
    };
    let read = compile(&text, TODAY, &both);
    read.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_model_may_have_one_that_stands_in_for_it() {
    let policy = two_models("fallback = \"small\"\nbudget_ms = 7", "prediction").unwrap();
    assert_eq!((policy.models[0].fallback, policy.models[0].budget_ms), (Some(1), 7));
    assert_eq!((policy.models[1].fallback, policy.models[1].budget_ms), (None, 20));
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
    for (lines, purpose, wanted) in [
        ("fallback = \"smal\"", "prediction", "did you mean `small`?"),
        ("fallback = \"purchase-intent\"", "prediction", "cannot stand in for itself"),
        ("fallback = \"small\"", "measurement", "serves another purpose than `purchase-intent`"),
        ("fallback = \"small\"", "prediction\"\nfallback = \"purchase-intent", "names a fallback itself"),
        ("budget_ms = 0", "prediction", "must be a whole number from 1 to 1000"),
    ] {
        let said = two_models(lines, purpose).unwrap_err();
        assert!(said.contains(wanted), "{said}\n  lacks: {wanted}");
    }
}

/// Whoever signs such bytes: pages would be told scores of a model that has not come so far.
#[test]
fn a_model_that_acts_has_no_stand_in_that_may_not() {
    let policy = two_models("fallback = \"small\"", "prediction").unwrap();
    let with = |first: ModelState, second: ModelState, fallback: u32| {
        let mut policy = policy.clone();
        (policy.models[0].state, policy.models[1].state) = (first, second);
        policy.models[0].fallback = Some(fallback);
        Policy::from_bytes(&policy.to_bytes()).is_ok()
    };
    use ModelState::{Experiment, Live, Off, Shadow};
    for (first, second, stands) in [
        (Shadow, Shadow, true),
        (Experiment, Shadow, false),
        (Experiment, Off, false),
        (Experiment, Experiment, true),
        (Live, Experiment, false),
        (Live, Live, true),
        (Experiment, Live, true),
    ] {
        assert_eq!(with(first, second, 1), stands, "{first:?} {second:?}");
    }
    assert!(!with(Live, Live, 0) && !with(Live, Live, 2));
}

/// Watching is declared like all else: each cell of it stands in the policy, is paid, and keeps its number.
#[test]
fn a_monitor_is_written_out_as_metrics() {
    let policy = compiled(&shop());
    let watched = |policy: &Policy| {
        let own = policy.metrics.iter().filter(|metric| metric.id >= 1_000_000_000);
        let mut told: Vec<_> =
            own.map(|m| (m.name.replace("purchase-intent-", ""), m.of.clone(), m.cells(), m.rho.micro())).collect();
        told.sort_unstable();
        told
    };
    let line = |name: &str, of: &str, cells, rho| (name.to_owned(), of.to_owned(), cells, rho);
    let wanted = [
        line("fared", "fared:purchase-intent", 8, 6_666),
        line("in-pages", "feature:pages@1", 8, 6_666),
        line("in-returning", "feature:returning@1", 2, 6_666),
    ];
    assert_eq!(watched(&policy), wanted);
    let counts = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-in-pages").unwrap();
    assert_eq!(counts.labels(), ["0-1", "1-2", "2-3", "3-5", "5-9", "9-17", "17-33", "33+"]);
    assert_eq!((counts.purpose, counts.per_day, counts.k), (policy.models[0].purpose, 1, 100));
    let ids = |policy: &Policy| policy.metrics.iter().map(|m| m.id).collect::<Vec<_>>();
    let next = shop().replacen("version = 1 ", "version = 2 ", 1).replacen("rho = 0.05", "rho = 0.04", 1);
    assert_eq!(ids(&policy), ids(&compiled(&next)), "numbers stay over versions");

    let with = |lines: &str| {
        let text = shop();
        let (before, after) = text.split_once("window = \"week\"\nrho = 0.02 ").unwrap();
        compile(&format!("{before}window = \"week\"\n{lines}#{after}"), TODAY, &manifest)
    };
    let narrow = with("rho = 0.012\noutcome = \"outcome:purchase@1\"\ninputs = [\"pages@1\"]\n").unwrap();
    let wanted = [
        line("fared", "fared:purchase-intent", 8, 4_000),
        line("in-pages", "feature:pages@1", 8, 4_000),
        line("outcomes", "score:purchase-intent, outcome:purchase@1", 40, 4_000),
    ];
    assert_eq!(watched(&narrow), wanted);
    let twice = "rho = 0.02\nk = 100\n[[monitor]]\nmodel = \"purchase-intent\"\nwindow = \"week\"\nrho = 0.006\n";
    for (lines, wanted) in [
        ("rho = 0.02\noutcome = \"outcome:bought@1\"\n", "`outcome:bought@1` is no outcome of yes or no"),
        ("rho = 0.02\noutcome = \"outcome:pages@1\"\n", "is no outcome of yes or no"),
        ("rho = 0.02\ninputs = [\"clicks@1\"]\n", "`clicks@1` is no input of `purchase-intent`"),
        ("rho = 0.005\n", "name the inputs that matter in `inputs`, 1 at most, or raise rho to 0.006"),
        (twice, "`purchase-intent` is monitored twice"),
        ("rho = 0.2\n", "all metrics together cost"),
    ] {
        let problems = with(lines).unwrap_err();
        assert!(problems.iter().any(|p| p.to_string().contains(wanted)), "{problems:?}\n  lack {wanted}");
    }
}

/// Whoever counts by hand how a model fares, and lists no word of whose score it was, counts how the model itself did.
#[test]
fn how_a_model_fares_is_counted_by_hand_with_or_without_whose_score_it_was() {
    let with = |kind: &str| {
        let of = "[[metric]]\nid = 41\nname = \"fares\"\npurpose = \"prediction\"\ntier = \"edge\"\nwindow = \"week\"\nper_day = 1\nrho = 0.004\nk = 100\n";
        let policy = compile(&format!("{}\n{of}{kind}", shop()), TODAY, &manifest);
        policy.map(|policy| policy.metric(41).unwrap().axes[0].bins.clone())
    };
    let one = "of = \"fared:purchase-intent\"\ncategory = ";
    let words = |list: &str| with(&format!("{one}[{list}]\n"));
    assert_eq!(words("\"lacking\", \"scored\", \"late\", \"failed\"").unwrap(), Bins::Map(vec![0, 1, 2, 3]));
    assert_eq!(words("\"failed\", \"other\"").unwrap(), Bins::Map(vec![1, 1, 1, 0]));
    let whose = words("\"failed\", \"failed-fallback\", \"other\"").unwrap();
    assert_eq!(whose, Bins::Map(vec![2, 2, 2, 0, 2, 2, 2, 1]));
    let problems = words("\"scored\", \"failed-fallback\"").unwrap_err();
    assert!(problems.iter().any(|p| p.to_string().contains("`lacking` has no cell")), "{problems:?}");
    for cells in [4, 8] {
        let joint = "of = [\"fared:purchase-intent\", \"outcome:purchase@1\"]\njoint = ";
        let bins = with(&format!("{joint}[{cells}, 2]\n")).unwrap();
        assert_eq!(bins, Bins::Map((0..cells).collect()));
    }
}

/// What a model is learnt from again is declared like all else; inputs that are counted with their outcome are not counted
/// once more by themselves.
#[test]
fn a_retraining_is_written_out_as_two_way_tables() {
    let with = |lines: &str| {
        let text = shop().replacen("rho_per_device_day = 0.25", "rho_per_device_day = 1.0", 1);
        let head = "[[retrain]]\nmodel = \"purchase-intent\"\nwindow = \"week\"\nk = 100\n";
        compile(&format!("{text}\n{head}{lines}"), TODAY, &manifest)
    };
    let policy = with("outcome = \"outcome:purchase@1\"\nrho = 0.03\n").unwrap();
    let told = |start: &str| {
        let own = policy.metrics.iter().filter(|metric| metric.name.starts_with(start));
        let mut told: Vec<_> = own.map(|m| (m.name.clone(), m.of.clone(), m.cells(), m.rho.micro())).collect();
        told.sort_unstable();
        told
    };
    let line = |name: &str, of: &str, cells, rho| (name.to_owned(), of.to_owned(), cells, rho);
    assert_eq!(
        told("purchase-intent-"),
        [
            line("purchase-intent-by-pages", "feature:pages@1, outcome:purchase@1", 16, 10_500),
            line("purchase-intent-by-returning", "feature:returning@1, outcome:purchase@1", 4, 10_500),
            line("purchase-intent-fared", "fared:purchase-intent", 8, 20_000),
            line("purchase-intent-pair-pages-returning", "feature:pages@1, feature:returning@1", 16, 9_000),
        ]
    );
    let by = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-by-pages").unwrap();
    assert_eq!(by.labels()[..3], ["0-1 | no", "0-1 | yes", "1-2 | no"]);
    let pair = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-pair-pages-returning").unwrap();
    assert!(by.outcome().is_some() && pair.outcome().is_none(), "who came back is no outcome");

    // What the page gives can be learnt from, whether the model took it or not; without pairs all is paid for outcomes.
    let page = "outcome = \"outcome:purchase@1\"\nrho = 0.03\npairs = []\ninputs = [\"page:basket\", \"pages@1\"]\n\n[[feature]]\nid = \"basket\"\nkind = \"number\"\nmin = 0\nmax = 500\npurpose = \"prediction\"\n";
    let page = with(page).unwrap();
    let value = page.metrics.iter().find(|metric| metric.name == "purchase-intent-by-basket").unwrap();
    assert_eq!((value.of.as_str(), value.rho.micro()), ("page:basket, outcome:purchase@1", 15_000));
    assert_eq!(value.axes[0].labels[7], "437.5-500");
    assert!(page.metrics.iter().any(|metric| metric.name == "purchase-intent-in-returning"), "still counted by itself");

    let twice = "outcome = \"outcome:purchase@1\"\nrho = 0.03\n[[retrain]]\nmodel = \"purchase-intent\"\nwindow = \"day\"\nk = 100\noutcome = \"outcome:purchase@1\"\nrho = 0.03\n";
    let bought = "outcome = \"outcome:purchase@1\"\n";
    for (lines, wanted) in [
        ("outcome = \"outcome:pages@1\"\nrho = 0.03\n".to_owned(), "`outcome:pages@1` is no outcome of yes or no"),
        (format!("{bought}rho = 0.0005\n"), "or raise rho to 0.001429"),
        (format!("{bought}rho = 0.03\ninputs = [\"page@1\"]\n"), "did you mean `pages@1`?"),
        (format!("{bought}rho = 0.03\ninputs = [\"purchase@1\"]\n"), "`purchase@1` is the outcome"),
        (format!("{bought}rho = 0.03\ninputs = [\"journey-pair@1\"]\n"), "has words of which there may be many"),
        (format!("{bought}rho = 0.03\npairs = [[\"pages@1\", \"pages@1\"]]\n"), "is no pair of two inputs"),
        (
            format!("{bought}rho = 0.03\npairs = [[\"pages@1\", \"returning@1\"], [\"returning@1\", \"pages@1\"]]\n"),
            "are a pair twice",
        ),
        (format!("{bought}rho = 0.03\ninputs = [\"page:cart-value\"]\n"), "which serves another purpose"),
        (twice.to_owned(), "`purchase-intent` is retrained twice"),
        (format!("{bought}rho = 0.9\n"), "all metrics together cost"),
    ] {
        let problems = with(&lines).unwrap_err();
        assert!(problems.iter().any(|p| p.to_string().contains(wanted)), "{problems:?}\n  lack {wanted}");
    }
}

const FAIR: &str = "
[[purpose]]
id = \"fairness\"
text.en = \"Compare how groups of visitors fare, by what you say of yourself here.\"

[[attribute]]
id = \"age-band\"
values = [\"under-30\", \"30-59\", \"60-plus\"]
purpose = \"fairness\"
";

/// What visitors say of themselves is for fairness and nothing else, by a purpose that can be declined by itself.
#[test]
fn groups_are_compared_by_what_visitors_say_and_by_nothing_else() {
    let with = |lines: &str| {
        let text = shop().replacen("rho_per_device_day = 0.25", "rho_per_device_day = 1.0", 1);
        compile(&format!("{text}\n{lines}"), TODAY, &manifest)
    };
    let fairness = "[[fairness]]\nmodel = \"purchase-intent\"\nby = [\"age-band\"]\noutcome = \"outcome:purchase@1\"\nwindow = \"week\"\nrho = 0.02\nk = 100\n";
    let policy = with(&format!("{FAIR}{fairness}")).unwrap();
    let metric = policy.metrics.iter().find(|metric| metric.name == "purchase-intent-fair-age-band").unwrap();
    assert_eq!((metric.of.as_str(), metric.cells()), ("page:age-band, score:purchase-intent, outcome:purchase@1", 12));
    assert_eq!(policy.purposes[metric.purpose as usize].id, "fairness");
    assert_eq!(
        metric.labels()[..5],
        [
            "under-30 | 0.000-0.700 | no",
            "under-30 | 0.000-0.700 | yes",
            "under-30 | 0.700-1.000 | no",
            "under-30 | 0.700-1.000 | yes",
            "30-59 | 0.000-0.700 | no"
        ]
    );
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).as_ref(), Ok(&policy));
    let own = with(&format!("{FAIR}{}", fairness.replace("rho", "threshold = 0.25\nrho"))).unwrap();
    let metric = own.metrics.iter().find(|metric| metric.name == "purchase-intent-fair-age-band").unwrap();
    assert_eq!(metric.axes[1].bins, Bins::Edges(vec![0, 250_000, 1_000_000]));

    let counted = "[[metric]]\nid = 900\nname = \"ages\"\nof = \"page:age-band\"\ncategory = [\"under-30\", \"30-59\", \"60-plus\"]\npurpose = \"fairness\"\ntier = \"edge\"\nwindow = \"day\"\nper_day = 1\nrho = 0.02\nk = 50\n";
    let taken: &dyn Fn(&str) -> Result<ManifestFacts, String> = &|name| {
        manifest(name).map(|facts| ManifestFacts { inputs: vec!["pages@1".into(), "page:age-band".into()], ..facts })
    };
    let shop = shop().replacen("rho_per_device_day = 0.25", "rho_per_device_day = 1.0", 1);
    let all = [
        (with(&format!("{FAIR}{fairness}{counted}")), "`ages` counts `age-band`, which is for fairness alone"),
        (with(FAIR), "visitors are asked for `age-band`, and nothing is done with it"),
        (
            compile(&format!("{shop}{FAIR}{fairness}"), TODAY, taken),
            "takes `age-band`, which visitors say of themselves",
        ),
        (
            with(&format!("{}{fairness}", FAIR.replace("purpose = \"fairness\"", "purpose = \"measurement\""))),
            "`age-band` and `visits` serve the same purpose",
        ),
        (
            with(&format!("{}{fairness}", FAIR.replace("\"under-30\", ", "").replace("\"30-59\", ", ""))),
            "`age-band` has 1 values",
        ),
        (with(&format!("{FAIR}{}", fairness.replace("\"age-band\"", "\"age-bond\""))), "did you mean `age-band`?"),
        (
            with(&format!("{FAIR}{}", fairness.replace("rho", "threshold = 1.5\nrho"))),
            "a threshold lies between 0 and 1",
        ),
        (with(&format!("{FAIR}{}", fairness.replace("0.02", "0.001"))), "raise rho to 0.002"),
    ];
    for (found, wanted) in all {
        let problems = found.unwrap_err();
        assert!(problems.iter().any(|p| p.to_string().contains(wanted)), "{problems:?}\n  lack {wanted}");
    }
}

#[test]
fn a_session_finds_its_cells() {
    let policy = compiled(&shop());
    let mut tracker = Tracker::new(policy.behavior.clone());
    for (at, path) in [(1, "/"), (2_000, "/c/lamps"), (5_000, "/p/dusk")] {
        tracker.push(Event::new(at, EventKind::PageView, group_of(&policy, path)));
    }
    tracker.push(Event::new(6_000, EventKind::ViewItem, 0));
    tracker.push(Event::new(7_000, EventKind::Scroll, 90));
    tracker.push(Event {
        at_ms: 7_001,
        kind: EventKind::PageFeature,
        a: 0,
        b: policy.page_features[0].steps(59.9).unwrap(),
        c: 0,
    });
    let features = tracker.features(true);
    let cell = |name: &str, scores: &[u32]| {
        let scores: Vec<Score> = scores.iter().map(|steps| Score { steps: *steps, fared: 1 }).collect();
        let scores = scores.as_slice();
        let metric = policy.metrics.iter().find(|m| m.name == name).unwrap();
        metric
            .cell_of(&features, Beside { scores, ..Beside::default() })
            .map(|c| (metric.labels()[c.cell as usize].clone(), c.value))
    };
    assert_eq!(cell("landing-page", &[]), Some(("home".into(), 1)));
    assert_eq!(cell("scroll-depth", &[]), Some(("90-100".into(), 1)));
    assert_eq!(cell("shopping-funnel", &[]), Some(("view_item".into(), 1)));
    assert_eq!(cell("first-step", &[]), Some(("home > listing".into(), 1)));
    assert_eq!(cell("cart-value", &[]), Some(("sum".into(), 59)));
    assert_eq!(cell("purchase-calibration", &[NONE]), None, "no score, no contribution");
    assert_eq!(cell("purchase-calibration", &[50_000]), Some(("0.050-0.100 | no".into(), 1)));
    assert_eq!(cell("purchase-calibration", &[1_000_000]), Some(("0.950-1.000 | no".into(), 1)));
}

#[test]
fn the_cells_of_an_honest_device_are_admitted_and_no_others() {
    let policy = compiled(&shop());
    for metric in &policy.metrics {
        let max = metric.sum_max();
        for cell in 0..metric.cells() + 2 {
            let ok = if max.is_some() { cell == 1 } else { cell < metric.cells() };
            assert_eq!(metric.admits(cell, 1).is_ok(), ok, "{} {cell}", metric.name);
        }
        let cell = u32::from(max.is_some());
        assert_eq!(metric.admits(cell, max.unwrap_or(1) + 1), Err(Reason::CapExceeded));
        assert_eq!(metric.scales().len(), metric.cells() as usize);
    }
}

#[test]
fn histogram_bins_are_half_open_and_clip() {
    let policy = compiled(&shop());
    let metric = policy.metrics.iter().find(|m| m.name == "engaged-time").unwrap();
    assert_eq!(metric.axes[0].bins, Bins::Edges(vec![0, 5_000, 15_000, 30_000, 60_000, 180_000, 600_000]));
    let bin = |ms: u32| {
        let mut tracker = Tracker::new(policy.behavior.clone());
        (0..ms / 50_000).for_each(|i| tracker.push(Event::new(u64::from(i), EventKind::EngagedTime, 50_000)));
        tracker.push(Event::new(99, EventKind::EngagedTime, ms % 50_000));
        metric.cell_of(&tracker.features(false), Beside::default()).unwrap()
    };
    for (ms, cell) in [(0, 0), (4_999, 0), (5_000, 1), (599_999, 5), (600_000, 5), (5_000_000, 5)] {
        assert_eq!(bin(ms), Cell { cell, value: 1 }, "{ms}");
    }
    assert_eq!((score_steps(f32::NAN), score_steps(-1.0), score_steps(2.0)), (None, Some(0), Some(1_000_000)));
}

#[test]
fn page_given_numbers_are_bounded_and_nan_is_none() {
    let policy = compiled(&shop());
    let feature = &policy.page_features[0];
    assert_eq!(feature.steps(f64::NAN), None);
    assert_eq!(feature.steps(f64::INFINITY), Some(50_000));
    assert_eq!(feature.steps(-3.0), Some(0));
    assert_eq!(feature.steps(12.345), Some(1_235));
    assert_eq!(feature.word("x"), None);
}

#[test]
fn every_fault_is_named_with_its_line_and_remedy() {
    let swap = |from: &str, to: &str| {
        let text = shop();
        assert!(text.contains(from), "{from}");
        problem(&text.replacen(from, to, 1))
    };
    let cases = [
        (swap("version = 1 ", "verison = 1\nversion = 1 "), "did you mean `version`"),
        (swap("rho = 0.02", "rho = 0.2"), "all metrics together cost rho"),
        (swap("tier = \"edge\"", "tier = \"local\""), "not built yet"),
        (swap("expires = \"2027-03-01\"", "expires = \"2026-11-24\""), "expired on 2026-11-24"),
        (swap("expires = \"2027-03-01\"", "expires = \"soon\""), "is not a date"),
        (swap("feature:max-scroll@1", "feature:max-scrol@1"), "did you mean feature:max-scroll@1?"),
        (swap("k = 50", "k = 5"), "must be a whole number from 20"),
        (swap("window = \"day\"", "window = \"5s\""), "demonstrations on this machine only"),
        (swap("default = \"deny\"", "default = \"allow\""), "no purpose is on before"),
        (
            swap(
                "\"home\", \"listing\", \"product\", \"search\", \"help\", \"other\"",
                "\"home\", \"other\", \"produkt\"",
            ),
            "did you mean `product`",
        ),
        (swap("state = \"shadow\"", "state = \"live\""), "there is no record of evidence"),
        (swap("state = \"shadow\"", "state = \"draft\""), "a draft is computed nowhere"),
        (swap("state = \"shadow\"", "state = \"shadwo\""), "did you mean `shadow`?"),
        (swap("models/purchase-intent/manifest.json", "nowhere.json"), "there is no file nowhere.json"),
        (swap("joint = [20, 2]", "joint = [10, 2]"), "this has 20 bins, not 10"),
        (swap("edges = [0, 25, 50, 75, 90, 100]", "edges = [0, 50, 25]"), "growing"),
        (swap("\"add_to_cart\", \"begin", "\"add_to_kart\", \"begin"), "did you mean `add_to_cart`"),
        (swap("id = 2\n", "id = 1\n"), "share an id"),
        (swap("origins = [\"https://shop.example\"]", "origins = [\"http://shop.example\"]"), "is not an origin"),
        (swap("of = [\"score:purchase-intent\"", "of = [\"score:purchase\""), "did you mean score:purchase-intent?"),
    ];
    for (got, want) in &cases {
        assert!(got.contains(want), "{got}\n  lacks: {want}");
    }
}

#[test]
fn syntax_errors_have_their_line_too() {
    assert!(problem("site = \"a\"\nversion = \n").starts_with("2: not TOML"));
}

#[test]
fn many_problems_come_together() {
    let text = shop().replacen("version = 1 ", "version = 0 ", 1).replacen("k = 50", "k = 1", 1);
    assert_eq!(compile(&text, TODAY, &manifest).expect_err("two").len(), 2);
}

#[test]
fn differences_are_told_in_sentences() {
    let old = compiled(&shop());
    let text = shop().replace("version = 1 ", "version = 2 ").replacen("k = 50", "k = 60", 1);
    assert_eq!(diff(&old, &compiled(&text)), ["metric 1 `visits`: k 50 -> 60"]);
    assert!(diff(&old, &old).iter().any(|l| l.contains("does not grow")));
}

#[test]
fn bytes_that_overspend_or_point_nowhere_are_refused_whoever_signed_them() {
    let policy = compiled(&shop());
    let mut over = policy.clone();
    over.metrics[0].per_day = 200;
    assert!(Policy::from_bytes(&over.to_bytes()).is_err());
    let mut nowhere = policy.clone();
    nowhere.metrics[0].purpose = 9;
    assert!(Policy::from_bytes(&nowhere.to_bytes()).is_err());
    let mut twice = policy.clone();
    twice.metrics[1].id = twice.metrics[0].id;
    assert!(Policy::from_bytes(&twice.to_bytes()).is_err());
}
