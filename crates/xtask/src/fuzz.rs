//! Fuzzing with libFuzzer on the ordinary toolchain: coverage is an LLVM pass that stable compilers take;
//! address sanitizing, which needs a nightly one, is left out because the targets hold no unsafe code.

use anyhow::Result;

use crate::run::{Context, output, run, step};

const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on";

/// Longest input, bytes.
const LONGEST: &str = "-max_len=16384";

/// Fuzzes one target for a while, beginning with its seeds and corpus; `keep` adds to the corpus what that found.
pub(crate) fn run_target(context: &Context, target: &str, seconds: u32, keep: bool) -> Result<()> {
    let host = output(std::process::Command::new("rustc").arg("-vV").current_dir(&context.root))?;
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("x86_64-unknown-linux-gnu").to_owned();
    let folder = context.target.join("fuzz");
    // A fuzzer that begins with nothing learns little more than that a first byte is wrong.
    let seeds = folder.join("seeds");
    run(context
        .cargo()
        .args(["run", "--quiet", "--package", "gloaming-fuzz", "--bin", "gloaming-fuzz-seeds", "--locked", "--"])
        .arg(&seeds))?;
    step("compile the targets with coverage (first time 20 min)", || {
        run(context
            .cargo()
            .args([
                "build",
                "--release",
                "--package",
                "gloaming-fuzz",
                "--bin",
                "gloaming-fuzz",
                "--features",
                "libfuzzer",
                "--locked",
            ])
            .args(["--target", &host])
            // Linked as it was compiled: what is optimised across crates afterwards takes counters with it.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", COVERAGE))
    })?;
    // What is new goes beside the committed inputs: of thousands few are worth a commit.
    let found = folder.join("found").join(target);
    let corpus = context.root.join("tests/fuzz/corpus").join(target);
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&corpus)?;
    println!("==> {target} for {seconds} s; new inputs go to {}", found.display());
    let fuzzer = || {
        let mut command = std::process::Command::new(folder.join(&host).join("release/gloaming-fuzz"));
        command.env("GLOAMING_FUZZ_TARGET", target);
        command
    };
    let seeds = seeds.join(target);
    run(fuzzer().args([&found, &corpus, &seeds]).args([
        &format!("-max_total_time={seconds}"),
        LONGEST,
        "-timeout=20",
        "-print_final_stats=1",
    ]))?;
    if keep {
        // The fewest inputs that together reach all of what is new.
        run(fuzzer().args(["-set_cover_merge=1", LONGEST]).args([&corpus, &found, &seeds]))?;
        println!("==> look at {}, and commit it", corpus.display());
    }
    Ok(())
}
