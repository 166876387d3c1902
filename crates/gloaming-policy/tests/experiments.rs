//! `[[experiment]]`: what it compiles to, and what is wrong with it in words.
#![allow(clippy::unwrap_used)]

use gloaming_policy::author::{ManifestFacts, compile, diff, template};
use gloaming_policy::{Bins, Policy, Source, WHOLE};

const TODAY: u64 = 20_781;

fn text(more: &str) -> String {
    let shop = template("shop", "shop.example", "https://shop.example", "2027-03-01").unwrap();
    shop.replace("rho_per_device_day = 0.25", "rho_per_device_day = 1.0") + more
}

fn facts(_: &str) -> Result<ManifestFacts, String> {
    Ok(ManifestFacts::stand_in("purchase-intent", &["pages@1"]))
}

fn compiled(more: &str) -> Policy {
    compile(&text(more), TODAY, &facts).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(more: &str) -> String {
    match compile(&text(more), TODAY, &facts) {
        Ok(_) => panic!("{more} compiles"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

const HINT: &str = r#"
[[experiment]]
id = "hint"
arms = ["as-is", "hint"]
purpose = "measurement"
goal = "outcome:purchase@1"
guardrails = [
    { of = "feature:lcp-band@1", is = ["poor", "needs-improvement"], permitted = 0.02 },
    { of = "feature:engaged-time@1", at_least = 600 },
    "feature:errors@1",
]
window = "day"
rho = 0.02
k = 50
"#;

#[test]
fn an_experiment_is_written_out_as_counts_by_arm() {
    let policy = compiled(HINT);
    let [hint] = policy.experiments.as_slice() else { panic!() };
    assert_eq!((hint.from, hint.to, &*hint.layer, hint.model, hint.lower), (0, WHOLE, "hint", None, false));
    let metric = |id| policy.metric(id).unwrap();
    let goal = metric(hint.goal);
    assert_eq!((&*goal.name, &*goal.of), ("hint-by-purchase", "arm:hint, outcome:purchase@1"));
    assert_eq!(goal.axes[0].source, Source::Arm(0));
    assert_eq!(goal.labels(), ["as-is | no", "as-is | yes", "hint | no", "hint | yes"]);
    assert_eq!(goal.rho.micro(), 5_000, "a quarter of the price each");
    let rails = &hint.guardrails;
    let of = |at: usize| metric(rails[at].metric);
    assert_eq!(of(0).name, "hint-by-lcp-band-poor-needs-improvement");
    assert_eq!(of(0).axes[1].bins, Bins::Map(vec![0, 1, 1, 0]));
    assert_eq!(of(1).axes[1].bins, Bins::Edges(vec![0, 600_000, 600_001]));
    assert_eq!(of(2).axes[1].bins, Bins::Edges(vec![0, 1, 2]));
    let permitted: Vec<u32> = rails.iter().map(|rail| rail.permitted).collect();
    assert_eq!(permitted, [20_000, 10_000, 10_000]);
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
    // Its numbers stay when others come before it.
    let other = HINT.replace("id = \"hint\"", "id = \"other\"");
    let two = compiled(&(other + HINT));
    assert_eq!(two.experiments[1].goal, hint.goal);
    let lines = diff(&compiled(""), &policy).join("\n");
    let dearer = compiled(&HINT.replace("permitted = 0.02", "permitted = 0.03"));
    let changed = diff(&policy, &dearer).join("\n");
    assert!(changed.contains("experiment `hint`: goal, minimum_effect or guardrails are other ones"), "{changed}");
    assert!(diff(&policy, &compiled("")).join("\n").contains("experiment `hint` ended"));
    assert!(lines.contains("experiment `hint` begins anew, with as-is, hint"), "{lines}");
}

#[test]
fn experiments_of_one_layer_share_it() {
    let one = HINT.replace("window", "layer = \"page\"\ntraffic = 0.4\nwindow");
    let two =
        HINT.replace("\"hint\"\n", "\"other\"\n").replace("window", "layer = \"page\"\ntraffic = [0.4, 1.0]\nwindow");
    let policy = compiled(&(one.clone() + &two));
    let slices: Vec<(u32, u32)> = policy.experiments.iter().map(|e| (e.from, e.to)).collect();
    assert_eq!(slices, [(0, 400_000), (400_000, 1_000_000)]);
    let said = problems(&(one + &two.replace("[0.4, 1.0]", "[0.3, 1.0]")));
    assert!(said.contains("`other` and `hint` take the same part of the layer `page`"), "{said}");
}

#[test]
fn what_is_wrong_is_said_with_a_remedy() {
    let with = |from: &str, to: &str| problems(&HINT.replace(from, to));
    for (from, to, words) in [
        ("[\"as-is\", \"hint\"]", "[\"as-is\"]", "an experiment has 2 to 8 arms with different short names"),
        ("[\"as-is\", \"hint\"]", "[\"a\", \"a\"]", "an experiment has 2 to 8 arms"),
        ("outcome:purchase@1", "outcome:purchase@2", "there is no outcome `purchase@2`"),
        ("\"outcome:purchase@1\"", "\"feature:referrer-class@1\"", "has 6 words, and which of them count is not said"),
        ("\"poor\", ", "\"pour\", ", "`pour` is never a value of feature:lcp-band@1"),
        ("at_least = 600", "at_least = 0", "every visit has that much, or none can"),
        ("permitted = 0.02", "permitted = 2", "2 is no share"),
        ("rho = 0.02", "rho = 0.007", "rho = 0.007 is shared by 4 counts"),
        ("window = ", "traffic = [0.5, 0.5]\nwindow = ", "nobody takes part"),
        ("window = ", "traffic = 1.5\nwindow = ", "1.5 is no share"),
        ("window = ", "better = \"more\"\nwindow = ", "better = \"more\" is unknown"),
        ("window = ", "model = \"purchase-intents\"\nwindow = ", "did you mean `purchase-intent`?"),
        ("window = ", "model = \"purchase-intent\"\nwindow = ", "no page hears `purchase-intent`, so no arm differs"),
        ("window = \"day\"", "window = \"hour\"", "an experiment is not counted by the hour"),
        ("window = ", "modell = \"purchase-intent\"\nwindow = ", "modell"),
        ("\"feature:errors@1\",", "\"outcome:purchase@1\",", "shares its id or its name with `hint-by-purchase`"),
        ("window = ", "shares = [0.5, 0.6]\nwindow = ", "2 arms need 2 shares above 0 that are 1 together"),
        ("window = ", "shares = [1.0]\nwindow = ", "2 arms need 2 shares above 0"),
        (
            "window = ",
            "before = { of = \"feature:pages@1\", edges = [2] }\nwindow = ",
            "feature:pages@1 is not settled as the visit begins",
        ),
        (
            "window = ",
            "before = { of = \"feature:purchase-days@1\", edges = [3, 1] }\nwindow = ",
            "edges are 1 to 11 growing numbers above the smallest value",
        ),
        (
            "window = ",
            "per = { of = \"feature:pages@1\", edges = [2], worth = [1, 4] }\nwindow = ",
            "`per` makes a ratio of sums, and the goal is no amount",
        ),
        (
            "\"outcome:purchase@1\"",
            "{ of = \"feature:purchase-value@1\", edges = [20, 50], worth = [0, 35] }",
            "2 edges make 3 bins, and each needs what it stands for",
        ),
        ("\"outcome:purchase@1\"", "{ of = \"feature:purchase-value@1\", edges = [20] }", "worth"),
        (
            "\"outcome:purchase@1\"",
            "{ of = \"feature:purchase-value@1\", edges = [20], worth = [0, 35] }",
            "minimum_effect",
        ),
        (
            "purpose = \"measurement\"\ngoal",
            "purpose = \"prediction\"\ngoal = \"page:cart-value\"\nmore",
            "serves another purpose",
        ),
    ] {
        let said = with(from, to);
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    let many: String = (0..17)
        .map(|at| {
            let id = format!("hint-{at}");
            let little = HINT.split("guardrails").next().unwrap().replace("\"hint\"\n", &format!("\"{id}\"\n"));
            little + "window = \"day\"\nrho = 0.002\nk = 50\n"
        })
        .collect();
    assert!(problems(&many).contains("more than 16 experiments"));
    assert!(problems(&(HINT.to_owned() + HINT)).contains("experiment `hint` is declared twice"));
}

#[test]
fn amounts_ratios_and_what_was_known_before_are_written_out() {
    let compiled = |from: &str, to: &str| {
        let policy = compiled(&HINT.replace(from, to));
        assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
        let goal = policy.metric(policy.experiments[0].goal).unwrap().clone();
        (policy.experiments[0].clone(), goal)
    };
    let (held, goal) = compiled(
        "window = ",
        "shares = [0.9, 0.1]\nbefore = { of = \"feature:purchase-days@1\", edges = [1, 3] }\nwindow = ",
    );
    assert_eq!((held.portions(), held.is_share()), (vec![0.9, 0.1], true));
    assert_eq!(goal.of, "arm:hint, feature:purchase-days@1, outcome:purchase@1");
    assert_eq!(goal.labels()[2], "as-is | 1-3 | no");
    assert_eq!((goal.labels()[5].as_str(), held.points()[5]), ("as-is | 3 and more | yes", (1.0, 2.0)));
    let (spent, goal) = compiled(
        "goal = \"outcome:purchase@1\"",
        "minimum_effect = 0.5\ngoal = { of = \"feature:purchase-value@1\", edges = [20, 50], worth = [0, 35, 80.5] }\nper = { of = \"feature:pages@1\", edges = [3], worth = [1, 5] }",
    );
    assert_eq!((goal.cells(), spent.least, spent.is_share()), (12, 500_000, false));
    assert_eq!((spent.points()[0], spent.points()[5]), ((0.0, 1.0), (80.5, 5.0)));
    assert_eq!(goal.of, "arm:hint, feature:pages@1, feature:purchase-value@1");
}

/// Whoever signed them: bytes that contradict themselves are no policy.
#[test]
fn bytes_that_contradict_themselves_are_refused() {
    let refused = |change: fn(&mut Policy)| {
        let mut policy = compiled(HINT);
        change(&mut policy);
        assert!(Policy::from_bytes(&policy.to_bytes()).is_err());
    };
    refused(|policy| policy.experiments[0].goal = 1);
    refused(|policy| policy.experiments[0].to = WHOLE + 1);
    refused(|policy| policy.experiments[0].from = WHOLE);
    refused(|policy| policy.experiments[0].arms.truncate(1));
    refused(|policy| policy.experiments[0].model = Some(1));
    refused(|policy| policy.experiments[0].purpose = 9);
    refused(|policy| policy.experiments[0].shares = vec![WHOLE]);
    refused(|policy| policy.experiments[0].shares = vec![WHOLE / 2, WHOLE / 3]);
    refused(|policy| policy.experiments[0].worth = vec![0, 100, 200]);
    refused(|policy| policy.experiments.push(policy.experiments[0].clone()));
    refused(|policy| policy.experiments.clear());
}

/// One question, answered or not, is a guardrail like any other.
#[test]
fn what_people_say_of_their_visit_can_be_a_guardrail() {
    let asked = r#"
[[feature]]
id = "satisfaction"
kind = "category"
values = ["unhappy", "neutral", "happy"]
purpose = "measurement"
"#;
    let policy = compiled(
        &(asked.to_owned()
            + &HINT.replace(
                "\"feature:errors@1\"",
                "{ of = \"page:satisfaction\", is = [\"unhappy\"], permitted = 0.05 }",
            )),
    );
    let rail = policy.experiments[0].guardrails.last().unwrap();
    let metric = policy.metric(rail.metric).unwrap();
    assert_eq!(metric.name, "hint-by-satisfaction-unhappy");
    let asked = policy.page_features.iter().position(|feature| feature.id == "satisfaction").unwrap();
    assert_eq!(metric.axes[1].source, Source::Page(u32::try_from(asked).unwrap()));
    assert_eq!(metric.axes[1].bins, Bins::Map(vec![1, 0, 0]));
    assert_eq!(metric.labels(), ["as-is | no", "as-is | yes", "hint | no", "hint | yes"]);
}

/// What an arm does must be the same for all who say of themselves which group they are of, and agreed to be compared.
#[test]
fn a_guardrail_may_compare_groups() {
    let asked = r#"
[[purpose]]
id = "fairness"
text.en = "Compare how groups fare."

[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness"
"#;
    let by = HINT.replace(
        "    \"feature:errors@1\",",
        "    { of = \"outcome:purchase@1\", by = \"age-band\", permitted = 0.05 },",
    );
    let policy = compiled(&(asked.to_owned() + &by));
    let rail = policy.experiments[0].guardrails.last().unwrap();
    let metric = policy.metric(rail.metric).unwrap();
    assert_eq!(metric.name, "hint-by-purchase-by-age-band");
    assert_eq!(metric.of, "arm:hint, page:age-band, outcome:purchase@1");
    assert_eq!((metric.axes.len(), metric.cells(), rail.permitted), (3, 12, 50_000));
    assert_eq!(policy.purposes[metric.purpose as usize].id, "fairness");
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
    // Whoever is in an arm without having said a group is in none of its cells, and so is who said one and is in none.
    assert_eq!(metric.labels()[1], "as-is | under-30 | yes");
    let all = problems(&(asked.to_owned() + &by.replace("\"age-band\"", "\"age-bend\"")));
    assert!(all.contains("there is no attribute `age-bend`") && all.contains("age-band"), "{all}");
    let all = problems(&(asked.to_owned() + HINT));
    assert!(
        all.contains("visitors are asked for `age-band`, and nothing is done with it")
            && all.contains("a guardrail with by"),
        "{all}"
    );
    // What is no attribute is no group to compare by.
    let all = problems(&by.replace("\"age-band\"", "\"cart-value\""));
    assert!(all.contains("there is no attribute `cart-value`"), "{all}");
    // Whether people of a group say that they are of it tells nothing, and a goal is not by group.
    let all = problems(
        &(asked.to_owned()
            + &by.replace("of = \"outcome:purchase@1\", by", "of = \"page:age-band\", is = [\"60-plus\"], by")),
    );
    assert!(all.contains("counts `age-band`, which is for fairness alone"), "{all}");
    let goal =
        HINT.replace("goal = \"outcome:purchase@1\"", "goal = { of = \"outcome:purchase@1\", by = \"age-band\" }");
    assert_ne!(goal, HINT);
    let all = problems(&(asked.to_owned() + &goal));
    assert!(all.contains("`by`"), "{all}");
    // Nor is anything permitted of a goal; and two groups are never surely the same.
    let all = problems(&goal.replace("by = \"age-band\"", "permitted = 0.05"));
    assert!(all.contains("`permitted`"), "{all}");
    let all = problems(&(asked.to_owned() + &by.replace("permitted = 0.05", "permitted = 0.0")));
    assert!(all.contains("groups that may not be apart at all"), "{all}");
}

/// Whoever signs the policy says whether a guardrail that breaks ends the experiment by itself.
#[test]
fn an_experiment_ends_by_itself_where_the_policy_says_so() {
    let said = |stop: &str| compiled(&HINT.replace("window = ", &format!("stop = \"{stop}\"\nwindow = ")));
    let (people, by_itself) = (compiled(HINT), said("by-itself"));
    assert!(!people.experiments[0].stops && by_itself.experiments[0].stops);
    // What was signed before there was such a word keeps its bytes, and so its hash.
    assert_eq!(said("by-people").to_bytes(), people.to_bytes());
    assert_eq!(Policy::from_bytes(&by_itself.to_bytes()).unwrap(), by_itself);
    // With shares, it was of fourteen fields; now it is of fifteen, and still of fourteen without the word.
    let shares = HINT.replace("window = ", "shares = [0.9, 0.1]\nwindow = ");
    let mut held = compiled(&shares);
    assert_eq!(Policy::from_bytes(&held.to_bytes()).unwrap(), held);
    let before = held.to_bytes().len();
    held.experiments[0].stops = true;
    assert_eq!((Policy::from_bytes(&held.to_bytes()).unwrap(), held.to_bytes().len()), (held, before + 1));
    // A field more that says nothing is another form of the same, and refused.
    let bytes = by_itself.to_bytes();
    let end = bytes.iter().rposition(|byte| *byte == 0xf5).unwrap();
    let mut untrue = bytes.clone();
    untrue[end] = 0xf4;
    assert!(Policy::from_bytes(&untrue).is_err());

    let refused = |more: &str| problems(&HINT.replace("window = ", &format!("{more}\nwindow = ")));
    assert!(refused("stop = \"always\"").contains("stop = \"always\" is unknown"));
    assert!(refused("stop = true").contains("stop"));
    let bare: String = HINT
        .lines()
        .filter(|line| !line.starts_with("    ") && *line != "]")
        .fold(String::new(), |text, line| text + &line.replace("guardrails = [", "stop = \"by-itself\"") + "\n");
    assert!(problems(&bare).contains("nothing would ever stop it"), "{bare}");
    let mut unsound = by_itself.clone();
    unsound.experiments[0].guardrails.clear();
    assert!(Policy::from_bytes(&unsound.to_bytes()).is_err());

    let lines = |old: &Policy, new: &Policy| diff(old, new).join("\n");
    assert_eq!(
        lines(&people, &people),
        format!("version {} does not grow from {}: edges will refuse it", people.version, people.version)
    );
    assert!(
        lines(&people, &by_itself)
            .contains("experiment `hint`: a guardrail that breaks ends it by itself, in all arms")
    );
    assert!(
        lines(&by_itself, &people).contains("experiment `hint`: a guardrail that breaks is told, and people end it")
    );
    assert!(lines(&compiled(""), &by_itself).contains("ends it by itself"));
}
