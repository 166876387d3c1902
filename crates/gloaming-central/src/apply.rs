//! Batches that wait share a transaction: a database that syncs a thousand times a second takes
//! more batches than that.

use std::sync::Arc;

use gloaming_signal::SealedBatch;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::config::Clock;
use crate::store::{Arrived, Store, StoreError, Stored};

/// Batches in one transaction.
const GROUP: usize = 64;

struct Waiting {
    batch: SealedBatch,
    digest: [u8; 32],
    answer: oneshot::Sender<Result<Stored, StoreError>>,
}

/// Takes batches and answers when they are on disk.
pub(crate) struct Applier {
    waiting: mpsc::Sender<Waiting>,
}

impl Applier {
    /// Starts as many writers as the store takes; they end when this is dropped.
    pub(crate) fn start(store: &Store, places: usize, clock: &Clock) -> Self {
        let (waiting, arriving) = mpsc::channel(places);
        let arriving = Arc::new(Mutex::new(arriving));
        for _ in 0..store.writers() {
            tokio::spawn(work(store.clone(), Arc::clone(&arriving), Arc::clone(clock)));
        }
        Self { waiting }
    }

    /// Waits until the batch is stored, or cannot be.
    pub(crate) async fn put(&self, batch: SealedBatch, digest: [u8; 32]) -> Result<Stored, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Database(sqlx::Error::PoolClosed);
        self.waiting.send(Waiting { batch, digest, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn work(store: Store, arriving: Arc<Mutex<mpsc::Receiver<Waiting>>>, clock: Clock) {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        if arriving.lock().await.recv_many(&mut group, GROUP).await == 0 {
            return;
        }
        let arrived: Vec<Arrived<'_>> =
            group.iter().map(|waiting| Arrived { batch: &waiting.batch, digest: waiting.digest }).collect();
        let mut outcomes: Vec<Result<Stored, StoreError>> = match store.put(&arrived, clock()).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if arrived.len() == 1 => vec![Err(error)],
            Err(error) => {
                // One of them may be the cause: it must not keep the others out for ever.
                tracing::warn!(%error, batches = arrived.len(), "a group of batches failed; each is tried by itself");
                let mut outcomes = Vec::with_capacity(arrived.len());
                for one in &arrived {
                    outcomes.push(store.put(&[*one], clock()).await.map(|mut outcome| outcome.swap_remove(0)));
                }
                outcomes
            }
        };
        for (waiting, outcome) in group.drain(..).zip(outcomes.drain(..)) {
            // Who asked may have gone; the batch is stored all the same, and a retry is told so.
            let _ = waiting.answer.send(outcome);
        }
    }
}
