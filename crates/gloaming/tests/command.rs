//! What an owner types, from an empty folder to a running edge and centre, and what is said when it is wrong.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

mod support;
use support::{Folder, public};

fn checkout() -> String {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).ancestors().nth(2).unwrap().display().to_string()
}

#[test]
fn a_policy_is_written_checked_planned_signed_and_compared() {
    let folder = Folder::new();
    let new = ["policy", "new", "--template", "shop", "--site", "shop.example"];
    folder.says(&new);
    assert!(folder.refuses(&new).contains("exists"));
    let unknown = ["policy", "new", "--template", "store", "--site", "a", "--out", "b"];
    assert!(folder.refuses(&unknown).contains("shop, blog, docs, saas"));
    let models = checkout();
    let checked = folder.says(&["policy", "check", "policy.toml", "--models", &models]);
    assert!(checked.contains("20 metrics, 1 models, 2 purposes") && checked.contains("epsilon"), "{checked}");
    assert!(folder.says(&["policy", "features"]).contains("engaged-time@1"));
    let planned = folder.says(&["plan", "policy.toml", "--visits-per-day", "4000", "--models", &models]);
    for word in ["scroll-depth", "sigma", "smallest", "30 days", "year"] {
        assert!(planned.contains(word), "no {word} in {planned}");
    }

    folder.says(&["policy", "key", "--out", "owner.key"]);
    assert!(folder.refuses(&["policy", "key", "--out", "owner.key"]).contains("never overwritten"));
    let signed = folder.says(&["policy", "sign", "policy.toml", "--key", "owner.key", "--models", &models]);
    assert!(signed.contains("data-key=") && signed.contains("data-site=\"shop.example\""), "{signed}");

    // A wrong policy: the line, the reason, the remedy.
    fs::copy(folder.path("policy.toml"), folder.path("next.toml")).unwrap();
    folder.edit("next.toml", "rho = 0.05", "rho = 0.5");
    let refused = folder.refuses(&["policy", "check", "next.toml", "--models", &models]);
    assert!(refused.contains("budget"), "{refused}");
    // What to leave out is said wherever the policy is read.
    let sign: [&str; 7] = ["policy", "sign", "next.toml", "--key", "owner.key", "--models", &models];
    let plan: [&str; 6] = ["plan", "next.toml", "--visits-per-day", "4000", "--models", &models];
    for refused in [refused, folder.refuses(&sign), folder.refuses(&plan)] {
        assert!(refused.contains("frees 0.5: take out [[metric]] `purchase-calibration`"), "{refused}");
    }
    folder.edit("next.toml", "rho = 0.5", "rho = 0.04");
    folder.edit("next.toml", "version = 1 ", "version = 2 ");
    let changed = folder.says(&["policy", "diff", "policy.toml", "next.toml", "--models", &models]);
    assert!(changed.contains("purchase-calibration"), "{changed}");
    folder.edit("next.toml", "tier = \"edge\"", "tier = \"split\"");
    let refused = folder.refuses(&["policy", "sign", "next.toml", "--key", "owner.key", "--models", &models]);
    assert!(refused.contains("split"), "{refused}");

    let manifest = format!("{models}/models/purchase-intent/manifest.json");
    assert!(folder.says(&["model", "check", &manifest]).contains("reference rows agree"));
    fs::create_dir(folder.path("changed")).unwrap();
    fs::copy(&manifest, folder.path("changed/manifest.json")).unwrap();
    let mut onnx = fs::read(format!("{models}/models/purchase-intent/model.onnx")).unwrap();
    onnx[700] ^= 1;
    fs::write(folder.path("changed/model.onnx"), onnx).unwrap();
    assert!(folder.refuses(&["model", "check", "changed/manifest.json"]).contains("SHA-256"));
}

#[test]
fn help_teaches_and_errors_suggest() {
    let folder = Folder::new();
    let help = folder.says(&["--help"]);
    for command in ["demo", "edge", "central", "policy", "plan", "model", "doctor"] {
        assert!(help.contains(command), "{command}");
        let own = folder.says(&[command, "--help"]);
        assert!(own.contains("Usage:") && own.len() > 150, "{command}: {own}");
    }
    assert!(folder.refuses(&["polcy"]).contains("policy"), "clap suggests the nearest");
    assert!(folder.refuses(&["edge"]).contains("gloaming.toml"));
    let wrong = "[edge]\nname = \"edge-1\"\nlisten = \"127.0.0.1:0\"\nadmins = \"127.0.0.1:0\"\n";
    fs::write(folder.path("gloaming.toml"), wrong).unwrap();
    assert!(folder.refuses(&["edge"]).contains("did you mean `admin`"));
    assert!(folder.says(&["edge", "--example"]).contains("[central]"));
}

/// Windows of seconds are for demonstrations, where nobody's day is worth protecting; an edge that others can
/// reach does not serve them, whoever signed the policy.
#[test]
fn windows_of_seconds_are_refused_off_this_machine() {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    folder.edit("policy.toml", "window = \"day\"", "window = \"20s\"");
    let owner = public(&folder.says(&["policy", "key", "--out", "owner.key"]));
    folder.says(&["policy", "key", "--out", "edge.key"]);
    let sign = ["policy", "sign", "policy.toml", "--key", "owner.key"];
    assert!(folder.refuses(&sign).contains("demonstrations on this machine only"));
    // A policy for pages on this machine may have them; then it is the edge that looks where it listens.
    folder.edit("policy.toml", "https://blog.example", "http://127.0.0.1:8080");
    folder.says(&sign);
    let config = folder
        .says(&["edge", "--example"])
        .replace("listen = \"127.0.0.1:8787\"", "listen = \"0.0.0.0:0\"")
        .replace("admin = \"127.0.0.1:8789\"", "admin = \"127.0.0.1:0\"")
        .replace("# \"shop.example\" = \"<public key, base64>\"", &format!("\"blog.example\" = \"{owner}\""));
    fs::write(folder.path("gloaming.toml"), config).unwrap();
    let refused = folder.refuses(&["edge"]);
    assert!(refused.contains("windows of seconds") && refused.contains("127.0.0.1"), "{refused}");
}

/// An edge of several sites once took a policy for one of them that another's key had signed.
#[test]
fn a_key_vouches_for_its_own_site_only() {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    let other = public(&folder.says(&["policy", "key", "--out", "other.key"]));
    let own = public(&folder.says(&["policy", "key", "--out", "owner.key"]));
    folder.says(&["policy", "key", "--out", "edge.key"]);
    folder.says(&["policy", "sign", "policy.toml", "--key", "other.key"]);
    let pins = format!("\"blog.example\" = \"{own}\"\n\"other.example\" = \"{other}\"");
    let config = folder
        .says(&["edge", "--example"])
        .replace("127.0.0.1:8787", "127.0.0.1:0")
        .replace("127.0.0.1:8789", "127.0.0.1:0")
        .replace("# \"shop.example\" = \"<public key, base64>\"", &pins);
    fs::write(folder.path("gloaming.toml"), config).unwrap();
    let refused = folder.refuses(&["edge"]);
    assert!(refused.contains("pinned for another site"), "{refused}");
}

/// Devices keep a yes by a purpose's id: one to something else is none to what Article 9 of the GDPR protects.
#[test]
fn an_older_yes_is_not_taken_for_a_special_category() {
    let folder = Folder::new();
    folder.says(&["policy", "new", "--template", "blog", "--site", "blog.example"]);
    folder.says(&["policy", "key", "--out", "owner.key"]);
    let asks = "
[[purpose]]
id = \"groups\"
text.en = \"Compare what changes do to readers, by what they say of themselves.\"

[[attribute]]
id = \"region\"
values = [\"yes\", \"no\"]
purpose = \"groups\"

[[experiment]]
id = \"hint\"
arms = [\"as-is\", \"hint\"]
purpose = \"measurement\"
goal = \"outcome:bounce@1\"
guardrails = [{ of = \"outcome:bounce@1\", by = \"region\", permitted = 0.05 }]
window = \"day\"
rho = 0.02
k = 50
";
    let text = fs::read_to_string(folder.path("policy.toml")).unwrap();
    fs::write(folder.path("policy.toml"), text + asks).unwrap();
    let sign = ["policy", "sign", "policy.toml", "--key", "owner.key"];
    folder.says(&sign);
    folder.edit("policy.toml", "version = 1 ", "version = 2 ");
    folder.edit("policy.toml", "\"region\"", "\"disability\"");
    assert!(folder.refuses(&sign).contains("names a special category of personal data (GDPR, Article 9)"));
    folder.edit("policy.toml", "values = [\"yes\"", "special = true\nvalues = [\"yes\"");
    let refused = folder.refuses(&sign);
    assert!(refused.contains("purpose `groups`") && refused.contains("in version 1"), "{refused}");
    folder.edit("policy.toml", "\"groups\"", "\"groups-by-disability\"");
    folder.says(&sign);
}
