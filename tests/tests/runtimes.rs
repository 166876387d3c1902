//! The same scores everywhere: every shipped model, and every exported one that runs, natively, under wasmtime and in Chromium.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use gloaming::assets;
use gloaming::commands::evaluate;
use gloaming::runtimes::{Browser, Wasm};
use gloaming_e2e::browser::program;
use gloaming_e2e::exported::{at, fixture, lowered, manifest, names, others};
use gloaming_model::{Model, TOLERANCE};
use gloaming_policy::gate::{RUNTIMES, Said, Statement};

/// How far two runtimes may differ: they compute in single precision, and add in another order.
const SAME: f32 = 1e-6;

/// Folders of the models that come with this project, by name.
fn shipped() -> Vec<(String, PathBuf)> {
    let folders = fs::read_dir(at("models")).unwrap().map(|entry| entry.unwrap().path());
    let models = folders.filter(|folder| folder.join("manifest.json").is_file());
    let mut all: Vec<_> =
        models.map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), folder)).collect();
    all.sort();
    all
}

/// A model, its two files, and rows that it was not proved on.
struct Case {
    name: String,
    manifest: Vec<u8>,
    onnx: Vec<u8>,
    others: Vec<Vec<f32>>,
}

fn cases() -> Vec<Case> {
    let own = shipped().into_iter().map(|(name, folder)| {
        let read = |file: &str| fs::read(folder.join(file)).unwrap();
        let (manifest, onnx) = (read("manifest.json"), read("model.onnx"));
        let known = Model::load(&manifest, &onnx).unwrap().manifest().reference.inputs.clone();
        let others = known.iter().map(|row| row.iter().map(|number| number * 1.5 + 0.1).collect()).collect();
        Case { name, manifest, onnx, others }
    });
    let folder = at("tests/exporters/fixtures");
    let exported = names(&folder).into_iter().filter_map(|name| {
        let (onnx, said) = fixture(&name, &folder);
        let lowered = lowered(&onnx, &said).ok()?;
        Some(Case { name, manifest: manifest(&lowered, &said), onnx: lowered.onnx, others: others(&said) })
    });
    own.chain(exported).collect()
}

#[test]
fn what_runs_natively_runs_under_wasmtime_and_gives_the_same() {
    let wasm = Wasm::of(&assets::find(None).unwrap()).unwrap();
    let (mut worst, mut off, mut identical, mut all) = ((0_f32, String::new()), 0_f32, 0, 0);
    let cases = cases();
    for Case { name, manifest, onnx, others } in &cases {
        let model = Model::load(manifest, onnx).unwrap();
        let reference = &model.manifest().reference;
        let rows = [&reference.inputs[..], others].concat();
        let scores = wasm.scores(manifest, onnx, &rows).unwrap_or_else(|why| panic!("{name}: {why:#}"));
        assert_eq!(scores.len(), rows.len());
        for (found, trained) in scores.iter().zip(&reference.outputs) {
            off = off.max((found - trained).abs());
            assert!((found - trained).abs() <= TOLERANCE, "{name}: {found} and not {trained}");
        }
        for (row, found) in rows.iter().zip(&scores) {
            let native = model.score(row).unwrap();
            let differs = (native - found).abs() / native.abs().max(1.0);
            if differs > worst.0 {
                worst = (differs, name.clone());
            }
            assert!(differs <= SAME, "{name}: {native} natively, {found} under wasmtime");
            identical += usize::from(native.to_bits() == found.to_bits());
            all += 1;
        }
    }
    println!(
        "{} models under wasmtime: {off:e} at most off what onnxruntime computed; {identical} of {all} scores are the native ones bit for bit, the others differ by {:e} at most ({})",
        cases.len(),
        worst.0,
        worst.1
    );
    assert!(cases.len() >= 52, "7 that are shipped and 45 that exporters wrote, at least: {}", cases.len());
}

/// What the command finds now of every shipped model, in the order native, wasmtime, chromium; what is shipped says the same.
#[tokio::test(flavor = "multi_thread")]
async fn shipped_models_are_stated_to_compute_the_same_in_all_three() {
    let browser = Browser::Program(program().unwrap());
    for (name, folder) in shipped() {
        let out = tempfile::tempdir().unwrap();
        evaluate::parity(&folder.join("manifest.json"), Some(&browser), out.path()).unwrap();
        let read = |path: PathBuf| {
            let statement = Statement::read(&fs::read(path).unwrap()).unwrap();
            let Said::Parity(parity) = statement.said.clone() else { panic!("{name}") };
            (statement, parity)
        };
        let (now, found) = read(out.path().join("parity.json"));
        let (before, said) = read(folder.join("evidence/parity.json"));
        assert_eq!(before.manifest(), now.manifest(), "{name}: the statement is of another manifest");
        assert_eq!((said.rows, found.rows), (64, 64), "{name}");
        for (runtime, (said, found)) in RUNTIMES.iter().zip(said.runtimes.iter().zip(&found.runtimes)) {
            assert_eq!((said.name.as_str(), found.name.as_str()), (*runtime, *runtime), "{name}");
            let worst = said.largest.max(found.largest);
            assert!(worst <= f64::from(TOLERANCE), "{name} on {runtime}: {worst:e}");
            assert!((said.largest - found.largest).abs() <= 1e-6, "{name} on {runtime}: it was {:e}", said.largest);
        }
        assert_eq!((said.runtimes.len(), found.runtimes.len()), (3, 3), "{name}");
    }
}

/// What cannot be a browser is said; nothing is written then.
#[test]
fn a_browser_that_is_none_is_said() {
    let (_, folder) = shipped().remove(0);
    let out = tempfile::tempdir().unwrap();
    let none = Browser::Program("/nowhere/chromium".into());
    let error = evaluate::parity(&folder.join("manifest.json"), Some(&none), &out.path().join("evidence")).unwrap_err();
    assert!(
        format!("{error:#}").contains("/nowhere/chromium does not start; name another, or --browser alone"),
        "{error:#}"
    );
    assert!(!out.path().join("evidence").exists());
}
