//! Every target over its seeds, its corpus, and mutations of both.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use gloaming_fuzz::TARGETS;

/// Mutations of each input.
const MUTATIONS: u64 = 200;

/// SplitMix64.
fn number(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A byte changed, bytes cut out, doubled, or the end cut off; up to three times.
fn mutated(input: &[u8], state: &mut u64) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=number(state) % 3 {
        let at = number(state) as usize % (bytes.len() + 1);
        let end = bytes.len().min(at + number(state) as usize % 16);
        match number(state) % 4 {
            0 if at < bytes.len() => bytes[at] = number(state) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// What costs a thousand times what the others do: loading a model, starting a store, two servers.
const SLOW: [&str; 5] = ["manifest", "onnx", "journal", "keys", "conversation"];

fn home() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
}

/// A target's committed inputs, by name; none when it has no folder.
fn committed(target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(home().join("corpus").join(target)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn no_input_of_the_corpus_nor_near_it_breaks_a_reader() {
    for target in TARGETS {
        let mut inputs = (target.seeds)();
        inputs.extend(committed(target.name).iter().map(|path| fs::read(path).unwrap()));
        let mutations = if SLOW.contains(&target.name) { MUTATIONS / 10 } else { MUTATIONS };
        let mut state = 1;
        for input in &inputs {
            (target.run)(input);
            for _ in 0..mutations {
                (target.run)(&mutated(input, &mut state));
            }
        }
        println!("{}: {} inputs", target.name, inputs.len());
    }
}

#[test]
fn every_target_has_seeds_a_committed_corpus_and_a_row_in_the_docs() {
    let docs = fs::read_to_string(home().join("../../docs/fuzzing.md")).unwrap();
    let mut wrong = Vec::new();
    for target in TARGETS {
        let name = target.name;
        if (target.seeds)().is_empty() {
            wrong.push(format!("{name} has no seed"));
        }
        if committed(name).is_empty() {
            wrong.push(format!("{name} has no committed corpus: run `cargo xtask fuzz {name} --keep` and commit it"));
        }
        if !docs.contains(&format!("\n| `{name}` |")) {
            wrong.push(format!("{name} has no row in docs/fuzzing.md"));
        }
    }
    for folder in fs::read_dir(home().join("corpus")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        if !TARGETS.iter().any(|target| target.name == name) {
            wrong.push(format!("corpus/{name} is of no target"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
