//! The component's exports. `wit-bindgen` generates the unsafe glue of the canonical ABI; none is ours.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

use std::cell::RefCell;

use crate::core::{self, Worker};

wit_bindgen::generate!({ path: "wit", world: "edge-worker" });

use exports::gloaming::edge::worker::{Fault, Guest};

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

struct Component;

impl From<core::Fault> for Fault {
    fn from(fault: core::Fault) -> Self {
        match fault {
            core::Fault::Malformed(what) => Self::Malformed(what.into()),
            core::Fault::OverLimit => Self::OverLimit,
            core::Fault::UnknownPolicy => Self::UnknownPolicy,
        }
    }
}

impl Guest for Component {
    fn configure(policy: Vec<u8>) -> Result<Vec<u8>, Fault> {
        Ok(WORKER.with_borrow_mut(|worker| worker.configure(&policy))?.to_vec())
    }

    fn fold(policy_hash: Vec<u8>, now_ms: u64, rows: Vec<u8>) -> Result<Vec<u8>, Fault> {
        Ok(WORKER.with_borrow(|worker| worker.fold(&policy_hash, now_ms, &rows))?)
    }

    fn release(
        policy_hash: Vec<u8>,
        seed: Vec<u8>,
        span_ms: u64,
        window: u64,
        cells: Vec<u8>,
    ) -> Result<Vec<u8>, Fault> {
        Ok(WORKER.with_borrow(|worker| worker.release(&policy_hash, &seed, span_ms, window, &cells))?)
    }
}

export!(Component);
