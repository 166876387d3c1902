//! The shipped model, and what happens to a changed one.
#![allow(clippy::unwrap_used)]

use gloaming_model::{Model, ModelError, ORDERS};

const MANIFEST: &[u8] = include_bytes!("../../../models/purchase-intent/manifest.json");
const ONNX: &[u8] = include_bytes!("../../../models/purchase-intent/model.onnx");

fn refused(manifest: &str, onnx: &[u8]) -> String {
    Model::load(manifest.as_bytes(), onnx).err().expect("refused").to_string()
}

fn text() -> String {
    String::from_utf8(MANIFEST.to_vec()).unwrap()
}

#[test]
fn the_shipped_model_computes_what_its_trainer_did() {
    let model = Model::load(MANIFEST, ONNX).unwrap();
    let features = &model.manifest().input.features;
    for feature in features {
        assert!(gloaming_behavior::Definition::find(feature).is_some(), "{feature}");
    }
    let none = model.score(&[0.0; 8]).unwrap();
    assert!((0.0..=1.0).contains(&none));
}

#[test]
fn one_changed_byte_is_refused_wherever_it_is() {
    for at in (0..ONNX.len()).step_by(41) {
        let mut changed = ONNX.to_vec();
        changed[at] ^= 1;
        assert!(matches!(Model::load(MANIFEST, &changed), Err(ModelError::Hash { .. })));
    }
}

#[test]
fn what_differs_from_the_manifest_is_named() {
    assert!(
        refused(&text().replacen("\"name\": \"features\"", "\"name\": \"feature\"", 1), ONNX)
            .contains("the model's input is features")
    );
    assert!(refused(&text().replacen("\"ai.onnx\": 17", "\"ai.onnx\": 16", 1), ONNX).contains("op set"));
    assert!(refused(&text().replacen("\"Gemm\"", "\"Conv\"", 1), ONNX).contains("list of ops"));
    assert!(refused(&text().replacen("\"format\": 1", "\"format\": 2", 1), ONNX).contains("format"));
    assert!(refused("{", ONNX).contains("cannot be read"));
    let mut manifest: serde_json::Value = serde_json::from_slice(MANIFEST).unwrap();
    manifest["reference"]["outputs"][3] = 0.9.into();
    assert!(refused(&manifest.to_string(), ONNX).contains("reference row 3"));
    manifest["score_edges"][3] = 0.0.into();
    assert!(refused(&manifest.to_string(), ONNX).contains("score_edges"));
}

#[test]
fn inputs_that_are_not_numbers_are_refused() {
    let model = Model::load(MANIFEST, ONNX).unwrap();
    assert!(matches!(model.score(&[0.0; 7]), Err(ModelError::Input { .. })));
    assert!(matches!(model.score(&[f32::NAN; 8]), Err(ModelError::Input { .. })));
}

#[test]
fn an_explanation_samples_as_many_orders_as_its_time_allows() {
    let model = Model::load(MANIFEST, ONNX).unwrap();
    let row = [2.0, 30.0, 0.0, 0.0, 12.0, 400.0, 1.0, 0.0];
    // The clock is looked at when it begins, and once after each order: so many milliseconds an order.
    let told = |budget: f64, an_order: f64| {
        let mut now = -an_order;
        let mut clock = || {
            now += an_order;
            now
        };
        model.explain_within(&row, budget, &mut clock).unwrap()
    };
    for (budget, an_order, orders) in [
        (5.0, 0.0, ORDERS),
        (5.0, 0.3, ORDERS),
        (5.0, 1.0, 5),
        (5.0, 1.01, 4),
        (5.0, 2.5, 2),
        (5.0, 4.0, 1),
        (5.0, 70.0, 1),
    ] {
        let found = told(budget, an_order);
        assert_eq!((found.orders, found.exact), (orders, false), "{an_order} ms an order, {budget} ms to go");
        let sum = found.base + found.values.iter().sum::<f64>();
        assert!((sum - f64::from(model.score(&row).unwrap())).abs() <= 1e-6, "{orders} orders add up to {sum}");
    }
    assert_eq!(told(5.0, 0.0), model.explain(&row).unwrap(), "with time enough it is what it always is");
    let slow = std::time::Instant::now();
    let found = model.explain_within(&row, 5.0, &mut || slow.elapsed().as_secs_f64() * 1e3).unwrap();
    println!("{} orders in {:.2} ms here", found.orders, slow.elapsed().as_secs_f64() * 1e3);
}
