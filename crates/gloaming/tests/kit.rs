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

/// The example of the kit's page, of real visits: what it prints there is what it prints.
#[test]
fn the_example_tells_how_a_model_fares_as_visits_go_on() {
    let (Some(data), Some(python)) = (std::env::var_os("GLOAMING_DATA"), std::env::var_os("GLOAMING_KIT_PYTHON"))
    else {
        println!("skipped: GLOAMING_DATA and GLOAMING_KIT_PYTHON are not both set");
        return;
    };
    let kit = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../models/kit");
    let mut command = Command::new(python);
    command.arg("-B").arg(kit.join("examples/comes_to_sports.py")).arg(Path::new(&data).join("msnbc/MSNBC.seq"));
    let output = command.arg(env!("CARGO_BIN_EXE_gloaming")).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
    let page = std::fs::read_to_string(kit.join("README.md")).unwrap();
    let told: Vec<&str> = page.lines().filter(|line| line.starts_with("  at ")).collect();
    let found: Vec<&str> = said.lines().filter(|line| line.starts_with("  at ")).collect();
    assert_eq!(told, found);
    assert_eq!(told.len(), 5);
}
