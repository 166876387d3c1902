//! The target named by `GLOAMING_FUZZ_TARGET` under libFuzzer; `cargo xtask fuzz` runs it.
#![no_main]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
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

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// libFuzzer's own hook ends the process at every panic, at those too that a target catches because another's code may end so
/// (`gloaming-model` and tract). What a target lets through is still the end.
fn listen() {
    set_hook(Box::new(|panic| LAST.with_borrow_mut(|last| *last = panic.to_string())));
}

libfuzzer_sys::fuzz_target!(init: listen(), |bytes: &[u8]| {
    if catch_unwind(AssertUnwindSafe(|| (TARGET.run)(bytes))).is_err() {
        LAST.with_borrow(|last| eprintln!("{last}"));
        std::process::abort();
    }
});
