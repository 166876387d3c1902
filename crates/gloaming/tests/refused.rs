//! Two models that the gate must refuse, trained on real data by the kit and judged by this command. The data are no part
//! of this project: without `GLOAMING_DATA`, the folder that holds them, nothing is tried, and that is said.
#![allow(clippy::unwrap_used)]

use std::env;
use std::path::Path;
use std::process::Command;

/// What a script of `models/refused` prints, in a folder that is gone afterwards; `None` without data or Python.
fn told(script: &str) -> Option<String> {
    let (data, python) = (env::var_os("GLOAMING_DATA"), env::var_os("GLOAMING_KIT_PYTHON"));
    let (Some(data), Some(python)) = (data, python) else {
        println!("skipped {script}: GLOAMING_DATA and GLOAMING_KIT_PYTHON are not both set");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../models/refused").join(script);
    let mut command = Command::new(python);
    command.arg("-B").arg(script).arg("--data").arg(data);
    command.args(["--gloaming", env!("CARGO_BIN_EXE_gloaming"), "--work"]).arg(folder.path().join("work"));
    let output = command.output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
    Some(said.into_owned())
}

#[test]
fn a_model_that_flags_disabled_learners_is_refused_for_the_gap() {
    let Some(said) = told("oulad.py") else { return };
    for words in [
        "error: leaves stays shadow: 1 of 6 conditions are not met",
        "leaves is shadow in the record, not experiment",
        "refused, as it must be: leaves, selection gap by disability 0.3",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn a_model_whose_evidence_is_a_random_split_is_refused_and_so_is_one_that_fails_on_a_new_source() {
    let Some(said) = told("delbot.py") else { return };
    for words in [
        "a random split: it tells how well the model remembers",
        "error: trees-by-lot stays shadow: 3 of 6 conditions are not met",
        "error: logistic-by-lot stays shadow: 3 of 6 conditions are not met",
        "error: trees-easiest stays shadow",
        "one source was held out (source pyhm, ",
        "error: trees-in-turn stays shadow",
        "error: logistic-in-turn stays shadow",
        "AUC with source pynput, pc1 held out, the worst of 6, 0.5695 [0.5223, 0.6158] is below 0.8",
        "refused, as they must be: rows set aside by lot, the easiest pair alone, and every pair in its turn, whose worst is below 0.8",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}
