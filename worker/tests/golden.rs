//! What the component must answer under any host: kept as a file, so that hosts that are not ours can be held to it.
//! `docs/recipes/node` does that with jco. `GLOAMING_GOLDEN=1` writes the file anew.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use gloaming_policy::author::{compile, template};
use gloaming_signal::batch::ExactCells;
use gloaming_signal::{Row, cbor};
use gloaming_worker::core::Worker;

/// 2026-11-24, in days.
const DAY: u64 = 20_781;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn the_file_that_other_hosts_are_held_to_is_what_this_worker_answers() {
    let text = template("blog", "blog.example", "https://blog.example", "2027-06-01").unwrap();
    let policy = compile(&text, DAY, &|_| Err("no models here".to_owned())).unwrap();
    let (bytes, mut worker) = (cbor::to_vec(&policy), Worker::default());
    let hash = worker.configure(&bytes).unwrap();
    let now_ms = DAY * 86_400_000 + 40_000_000;
    // Good ones, one of each kind of bad one, one that is only checked, and one that adds to a cell.
    let row = |metric, window, cell, check| Row { window, metric, cell, value: 1, check };
    let mut rows: Vec<Row> = policy.metrics.iter().map(|metric| row(metric.id, DAY, 0, false)).collect();
    rows.extend([row(999, DAY, 0, false), row(2, DAY, 999, false), row(2, DAY - 9, 0, false)]);
    rows.extend([row(2, DAY + 9, 0, false), row(2, DAY, 1, false), row(2, DAY, 0, true), row(2, DAY, 0, false)]);
    let mut fold = Vec::new();
    rows.iter().for_each(|row| row.write(&mut fold));
    let verdict = worker.fold(&hash, now_ms, &fold).unwrap();
    let exact: Vec<_> = policy
        .metrics
        .iter()
        .map(|metric| ExactCells {
            metric: metric.id,
            values: (0..u64::from(metric.cells())).map(|cell| 70 * cell).collect(),
        })
        .collect();
    let (seed, span_ms, cells) = ([9; 32], policy.metrics[0].span_ms, cbor::to_vec(&exact));
    let releases = worker.release(&hash, &seed, span_ms, DAY, &cells).unwrap();

    let rows = [
        ("policy", hex(&bytes)),
        ("hash", hex(&hash)),
        ("now_ms", now_ms.to_string()),
        ("fold", hex(&fold)),
        ("verdict", hex(&verdict)),
        ("seed", hex(&seed)),
        ("span_ms", span_ms.to_string()),
        ("window", DAY.to_string()),
        ("cells", hex(&cells)),
        ("releases", hex(&releases)),
    ];
    let rows = rows.map(|(name, value)| format!("  \"{name}\": \"{value}\""));
    let golden = format!("{{\n{}\n}}\n", rows.join(",\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes/node/golden.json");
    if std::env::var_os("GLOAMING_GOLDEN").is_some() {
        std::fs::write(&path, &golden).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), golden, "GLOAMING_GOLDEN=1 writes {} anew", path.display());
}
