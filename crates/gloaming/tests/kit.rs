//! The training kit, from a log that is made up to evidence, with this command.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn a_model_is_trained_brought_and_evaluated_by_the_kit() {
    let python = std::env::var_os("GLOAMING_KIT_PYTHON").expect("run this by `cargo xtask test`");
    let script = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../models/kit/tests/test_kit.py");
    let output = Command::new(python).arg(script).arg(env!("CARGO_BIN_EXE_gloaming")).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success() && said.contains("the kit works, from a log to evidence"), "{said}\n{wrong}");
}
