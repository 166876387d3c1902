//! What Article 9 of the GDPR protects: called so, asked for by itself, and said in the notice.

use gloaming_policy::{Learner, Source, Term};

use super::*;

const ASKED: &str = r#"
[[purpose]]
id = "fairness-disability"
text.en = "Compare how people with and without a disability fare."
text.de = "Vergleichen, wie es Menschen mit und ohne Behinderung ergeht."
text.fr = "Comparer ce que vivent les personnes avec et sans handicap."
text.es = "Comparar cómo les va a las personas con y sin discapacidad."

[[attribute]]
id = "disability"
values = ["yes", "no", "other"]
special = true
purpose = "fairness-disability"

[[fairness]]
model = "purchase-intent"
by = ["disability"]
outcome = "outcome:purchase@1"
window = "week"
rho = 0.02
k = 100
"#;

fn with(lines: &str) -> Result<Policy, String> {
    let text = shop().replacen("rho_per_device_day = 0.25", "rho_per_device_day = 1.0", 1);
    let compiled = compile(&format!("{text}\n{lines}"), TODAY, &manifest);
    compiled.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The policy, its attribute's place, and its purpose's.
fn asked() -> (Policy, usize, u32) {
    let policy = with(ASKED).unwrap();
    let place = policy.page_features.iter().position(|feature| feature.special).unwrap();
    let purpose = policy.page_features[place].purpose;
    (policy, place, purpose)
}

#[test]
fn it_is_marked_in_policy_and_notice_and_said_in_plain_words() {
    let (policy, place, purpose) = asked();
    assert_eq!((policy.page_features[place].id.as_str(), policy.is_special(purpose)), ("disability", true));
    assert!(!policy.is_special(0) && !policy.is_special(9));
    let texts = &policy.purposes[purpose as usize].texts;
    for (language, own, said) in [
        ("en", "Compare how people", "GDPR, Article 9"),
        ("de", "Vergleichen", "DSGVO, Artikel 9"),
        ("fr", "Comparer", "RGPD, article 9"),
        ("es", "Comparar", "RGPD, artículo 9"),
    ] {
        let (_, text) = texts.iter().find(|(known, _)| known == language).unwrap();
        assert!(text.starts_with(own) && text.contains(said), "{language}: {text}");
    }
    let notice = |policy: &Policy| String::from_utf8_lossy(&Signed::sign(policy, &[]).to_bytes()).into_owned();
    assert_eq!(notice(&policy).matches("\"special\":true").count(), 1);
    assert!(!notice(&compiled(&shop())).contains("\"special\""), "notices from before keep their bytes");
    // What nobody said is not `other`.
    let disability = &policy.page_features[place];
    assert_eq!((disability.word("no"), disability.word("other")), (Some(1), Some(2)));
    assert_eq!(disability.word("undefined"), None);
}

/// Whatever was signed before there was such a word keeps its bytes.
#[test]
fn only_what_is_special_has_a_field_more() {
    let (policy, place, _) = asked();
    let mut plain = policy.clone();
    plain.page_features[place].special = false;
    let (before, bytes) = (plain.to_bytes(), policy.to_bytes());
    assert_eq!(Policy::from_bytes(&before).as_ref(), Ok(&plain));
    assert_eq!(Policy::from_bytes(&bytes).as_ref(), Ok(&policy));
    assert_eq!(bytes.len(), before.len() + 1);
    // The number of fields differs, and what was added.
    let differ: Vec<usize> = (0..before.len()).filter(|at| before[*at] != bytes[*at]).take(2).collect();
    assert_eq!((before[differ[0]], bytes[differ[0]], bytes[differ[1]]), (0x84, 0x85, 0xf5));
    let mut untrue = bytes.clone();
    untrue[differ[1]] = 0xf4;
    assert!(Policy::from_bytes(&untrue).is_err(), "a field that says nothing is another form of the same");
}

/// Whoever signs such bytes.
#[test]
fn bytes_by_which_it_serves_anything_else_are_refused() {
    let (policy, place, purpose) = asked();
    let other = policy.metrics.iter().position(|metric| metric.name == "visits").unwrap();
    let fair = policy.metrics.iter().position(|metric| metric.axes.len() == 3).unwrap();
    let refused = |change: &dyn Fn(&mut Policy)| {
        let mut changed = policy.clone();
        change(&mut changed);
        assert!(Policy::from_bytes(&changed.to_bytes()).is_err());
        // The same is no fault where nothing is special.
        changed.page_features[place].special = false;
        assert!(Policy::from_bytes(&changed.to_bytes()).is_ok());
    };
    refused(&|policy| policy.page_features[0].purpose = purpose);
    refused(&|policy| policy.models[0].purpose = purpose);
    refused(&|policy| policy.models[0].inputs.push(PAGE_INPUT + u32::try_from(place).unwrap()));
    refused(&|policy| policy.metrics[other].purpose = purpose);
    refused(&|policy| policy.metrics[fair].purpose = 0);
    refused(&|policy| policy.metrics[fair].axes.truncate(1));
    refused(&|policy| {
        let outcome = policy.metrics[fair].axes[2].clone();
        let source = Source::Page(u32::try_from(place).unwrap());
        let term = Term { source, bins: Bins::Map(vec![0, 1, 2]), values: vec![1, 0, 0], weight: 0 };
        policy.learners.push(Learner { model: 0, round: 1, outcome, level: 0, clip: 1, terms: vec![term] });
    });
}

#[test]
fn what_names_it_and_is_not_marked_is_refused() {
    let unmarked = ASKED.replace("special = true\n", "");
    let refused = with(&unmarked).unwrap_err();
    assert!(
        refused.contains("`disability` of `disability` names a special category of personal data (GDPR, Article 9)")
    );
    assert!(refused.contains("write special = true"), "{refused}");
    // By its own name, or its purpose's.
    for name in [
        "health",
        "gesundheit",
        "sante",
        "salud",
        "schwerbehinderung",
        "handicap",
        "discapacidad",
        "ethnicity",
        "etnia",
        "race",
        "religion",
        "konfession",
        "political-opinion",
        "politik",
        "trade-union",
        "gewerkschaft",
        "syndicat",
        "afiliacion-sindical",
        "sexual-orientation",
        "orientation",
        "biometrics",
        "genetik",
    ] {
        let named = unmarked.replace("fairness-disability", "groups").replace("\"disability\"", &format!("\"{name}\""));
        assert!(with(&named).unwrap_err().contains("Article 9"), "{name}");
        let served = unmarked.replace("fairness-disability", name).replace("\"disability\"", "\"of-it\"");
        assert!(with(&served).unwrap_err().contains("Article 9"), "{name}");
    }
    // By an answer, where that means nothing else.
    let plain = unmarked.replace("fairness-disability", "groups").replace("\"disability\"", "\"trade\"");
    assert!(with(&plain).is_ok());
    for (answer, is_special) in
        [("religious", true), ("handicapé·e", false), ("génétique", true), ("health", false), ("civil union", false)]
    {
        let answered = with(&plain.replace("\"yes\"", &format!("\"{answer}\"")));
        assert_eq!(answered.is_err_and(|problems| problems.contains("Article 9")), is_special, "{answer}");
    }
}

#[test]
fn it_takes_a_purpose_of_its_own() {
    let band = r#"
[[attribute]]
id = "age-band"
values = ["under-30", "30-59", "60-plus"]
purpose = "fairness-disability"
"#;
    let both = ASKED.replace("by = [\"disability\"]", "by = [\"disability\", \"age-band\"]") + band;
    let refused = with(&both).unwrap_err();
    assert!(refused.contains("`disability` and `age-band` serve the same purpose"), "{refused}");
    assert!(refused.contains("it takes a yes of its own"), "{refused}");
    // Two that are not special may: somebody who says the one may say the other.
    let plain = both.replace("special = true\n", "").replace("fairness-disability", "groups");
    assert!(with(&plain.replace("\"disability\"", "\"region\"")).is_ok());
    let shared = ASKED.replace("purpose = \"fairness-disability\"", "purpose = \"measurement\"");
    assert!(with(&shared).unwrap_err().contains("`disability` and `visits` serve the same purpose"));
    assert!(with(&ASKED.replace("special = true", "special = \"yes\"")).unwrap_err().contains("write true or false"));
    let on = ASKED.replace("text.en", "default = \"allow\"\ntext.en");
    assert!(with(&on).unwrap_err().contains("no purpose is on before a person says so"));
    // Of a language that is not known here, the author says it.
    let italian = |text: &str| with(&ASKED.replace("text.de", &format!("text.it = \"{text}\"\ntext.de")));
    assert!(italian("Confrontare i gruppi.").unwrap_err().contains("text.it of `fairness-disability` does not say"));
    assert!(italian("Confrontare i gruppi (GDPR, articolo 9).").is_ok());
}

/// Devices keep a yes by the purpose's id.
#[test]
fn an_older_yes_to_something_else_is_none_to_it() {
    let (policy, place, _) = asked();
    let mut plain = policy.clone();
    plain.page_features[place].special = false;
    assert_eq!(newly_special(&plain, &policy), Some("fairness-disability"));
    for (old, new) in [(&policy, &policy), (&policy, &plain), (&compiled(&shop()), &policy)] {
        assert_eq!(newly_special(old, new), None);
    }
    let lines = |old: &Policy, new: &Policy| diff(old, new).join("\n");
    let told = lines(&plain, &policy);
    assert!(told.contains("`disability` is of a special category (GDPR, Article 9)\n"), "{told}");
    assert!(told.contains("purpose `fairness-disability` asked for something else before"), "{told}");
    assert!(lines(&policy, &plain).contains("is of a special category (GDPR, Article 9) no longer"));
}
