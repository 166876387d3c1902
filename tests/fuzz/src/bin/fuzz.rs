//! The target named by `GLOAMING_FUZZ_TARGET` under libFuzzer; `cargo xtask fuzz` runs it.
#![no_main]

use std::sync::LazyLock;

use gloaming_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("GLOAMING_FUZZ_TARGET").unwrap_or_default();
    static ALL: [Target; TARGETS.len()] = TARGETS;
    match ALL.iter().find(|target| target.name == name) {
        Some(target) => target,
        None => panic!("GLOAMING_FUZZ_TARGET is one of {:?}", ALL.each_ref().map(|t| t.name)),
    }
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
