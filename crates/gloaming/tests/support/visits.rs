//! Visits that models are learnt from: of people who are drawn by a rule, and of a shop.

use std::fs;
use std::path::Path;

use gloaming_model::Model;
use gloaming_stats::draws::Draws;

pub(crate) const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/purchase-intent/manifest.json");

/// A visit: what a device gives the model, and whether it bought.
pub(crate) type Visit = (Vec<f32>, bool);

/// Visits of people who buy the likelier the more products they look at, unless they read the help pages.
pub(crate) fn visits(count: usize, seed: u64) -> Vec<Visit> {
    let mut draws = Draws::new(seed);
    let mut visit = || {
        let products = (-draws.uniform().ln() * 6.0).floor();
        let (help, account) = ((draws.uniform() * 4.0).floor(), (draws.uniform() * 3.0).floor());
        let seconds = products * 30.0 * (0.5 + draws.uniform());
        let (returning, weekend) = (draws.uniform() < 0.6, draws.uniform() < 0.3);
        let odds = -2.2 + 0.35 * products.min(8.0) - 0.5 * help + 0.4 * f64::from(u8::from(returning));
        let row = [account, account * 20.0, help, help * 15.0, products, seconds];
        let flags = [returning, weekend].map(|flag| f32::from(u8::from(flag)));
        let row = row.iter().map(|value| *value as f32).chain(flags).collect();
        (row, draws.uniform() < 1.0 / (1.0 + (-odds).exp()))
    };
    (0..count).map(|_| visit()).collect()
}

pub(crate) fn load(manifest: &Path) -> Model {
    let bytes = fs::read(manifest).unwrap();
    Model::load(&bytes, &fs::read(manifest.with_file_name("model.onnx")).unwrap()).unwrap()
}

/// Pairs ranked right, ties half.
pub(crate) fn auc(scored: &[(f64, bool)]) -> f64 {
    let edges: Vec<f64> = (1..20).map(|at| f64::from(at) / 20.0).collect();
    let (scores, outcomes): (Vec<f64>, Vec<bool>) = scored.iter().copied().unzip();
    gloaming_model::evaluate::performance(&scores, &outcomes, &edges, 1).unwrap().auc.value
}

pub(crate) fn scored(model: &Model, visits: &[Visit]) -> Vec<(f64, bool)> {
    visits.iter().map(|(row, bought)| (f64::from(model.score(row).unwrap()), *bought)).collect()
}
