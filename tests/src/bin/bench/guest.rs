//! The edge component against the same functions compiled natively.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use gloaming::assets;
use gloaming_edge::{HostLimits, WasmGuest};
use gloaming_policy::author::{compile, template};
use gloaming_signal::{Row, cbor};
use gloaming_window::Guest as _;
use gloaming_worker::core::Worker;

/// 2026-11-24, in days.
const DAY: u64 = 20_781;
/// Pairs of measurements; the middle ratio counts.
const PAIRS: usize = 31;

/// For folds of one, sixteen and 256 submissions: how many times the native time the component takes.
pub(crate) fn ratios() -> Result<Vec<(usize, f64)>> {
    let text = template("saas", "app.example", "https://app.example", "2027-06-01").context("no template")?;
    let policy =
        compile(&text, DAY, &|_| Err("no models here".to_owned())).map_err(|problems| anyhow!("{problems:?}"))?;
    let bytes = cbor::to_vec(&policy);
    let found = assets::find(None)?;
    let component = found.bytes("edge/worker.component.wasm").context("the assets lack the edge component")?;
    let mut guest = WasmGuest::new(component, HostLimits::default())?;
    let mut native = Worker::default();
    let hash = guest.configure(&bytes)?;
    native.configure(&bytes).map_err(|fault| anyhow!("{fault:?}"))?;
    let now_ms = DAY * 86_400_000 + 40_000_000;
    let mut ratios = Vec::new();
    for items in [1, 16, 256] {
        let mut batch = Vec::new();
        (0..items as u64).for_each(|number| submission(&policy, number, now_ms, &mut batch));
        let rounds = 512 / items + 1;
        let mut pairs = Vec::new();
        for _ in 0..PAIRS {
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(guest.fold(&hash, now_ms, black_box(&batch))?);
            }
            let wasm = began.elapsed().as_secs_f64();
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(native.fold(&hash, now_ms, black_box(&batch)).map_err(|fault| anyhow!("{fault:?}"))?);
            }
            pairs.push(wasm / began.elapsed().as_secs_f64());
        }
        ratios.push((items, super::middle(pairs)));
    }
    Ok(ratios)
}

/// Rows of a submission to every metric.
fn submission(policy: &gloaming_policy::Policy, number: u64, now_ms: u64, fold: &mut Vec<u8>) {
    for metric in &policy.metrics {
        let cell = u32::try_from(number % u64::from(metric.cells())).unwrap_or(0);
        Row { window: now_ms / metric.span_ms, metric: metric.id, cell, value: 1, check: false }.write(fold);
    }
}
