//! The database: SQLite or PostgreSQL, by the same statements.
//!
//! A batch becomes a row in `ledger` and a row in `release` for each metric, in one transaction. The ledger
//! forgets what lies far behind the watermark, so that it grows with edges and sites and not with time.

mod address;
mod alert;
mod apply;
mod read;
mod retention;
mod schema;
mod stop;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gloaming_signal::{ReleaseState, SealedBatch};
use sqlx::AnyPool;
use sqlx::Row as _;
use sqlx::any::AnyPoolOptions;

pub use address::{NoStore, StoreAddress};
use schema::Engine;
pub use stop::Stop;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the ledger now.
    Now,
    /// It was already, byte for byte.
    Before,
    /// Its window is older than what is kept; the ledger knows it and the cells are not here.
    TooOld,
    /// Another batch bears its name, or the same window came under another one. Nothing was changed,
    /// and an alarm was written.
    Conflict,
}

/// A batch as it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'b> {
    /// What it says.
    pub batch: &'b SealedBatch,
    /// SHA-256 of the delivery's bytes, by which a retry is told from another batch.
    pub digest: [u8; 32],
}

/// One release as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Metric.
    pub metric: u32,
    /// Window index.
    pub window: u64,
    /// Edge.
    pub edge: String,
    /// Policy version.
    pub policy_version: u32,
    /// What was decided.
    pub state: ReleaseState,
    /// When it came, ms since 1970.
    pub received_ms: u64,
    /// Noised cells; none unless released.
    pub values: Vec<i64>,
}

/// Why the database did not do it. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// As the engine says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// Whoever runs the server traded durability for speed.
    #[error("PostgreSQL's `{0}` is off: a batch would be acknowledged and could still be lost; set it to on")]
    NotDurable(&'static str),
    /// A database that another version made.
    #[error(
        "the tables are of form {0} and this version knows form 1; use the version that made them, or an empty database"
    )]
    OtherVersion(i64),
    /// A row that this program did not write.
    #[error("the row of metric {0} holds `{1}`, which is no list of numbers; bring the database back from a backup")]
    Damaged(i64, String),
    /// A fault of this program.
    #[error("what was read could not be worked out; report this with the log")]
    Unworkable,
    /// A test asked for it.
    #[error("the test's fuse blew")]
    Fuse,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    engine: Engine,
    /// Partitions that were seen to be there.
    partitions: Arc<Mutex<BTreeSet<i64>>>,
    /// Statements until the next one fails; below zero is never.
    fuse: Arc<AtomicI64>,
}

/// Numbers beyond 2^63 would need a day's budget for longer than the sun has; the epoch is random and
/// kept bit for bit.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

impl Store {
    /// Opens the database, making its tables when it has none.
    ///
    /// # Errors
    /// When it cannot be reached or is something else.
    pub async fn open(address: &StoreAddress) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let engine = match address {
            StoreAddress::Sqlite(_) => Engine::Sqlite,
            StoreAddress::Postgres(_) => Engine::Postgres,
        };
        let pool = AnyPoolOptions::new()
            .max_connections(if engine == Engine::Sqlite { 4 } else { 8 })
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for setting in engine.settings() {
                        sqlx::query(*setting).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(&address.url())
            .await?;
        schema::make(&pool, engine).await?;
        Ok(Self { pool, engine, partitions: Arc::default(), fuse: Arc::new(AtomicI64::new(-1)) })
    }

    /// How many groups of batches may be applied at once: one file has one writer.
    #[must_use]
    pub fn writers(&self) -> usize {
        if self.engine == Engine::Sqlite { 1 } else { 4 }
    }

    /// Makes the statement after `statements` more of them fail, as when the process dies there.
    #[doc(hidden)]
    pub fn blow_after(&self, statements: i64) {
        self.fuse.store(statements, Ordering::Relaxed);
    }

    /// Stands before every statement of a transaction that writes.
    fn burn(&self) -> Result<(), StoreError> {
        match self.fuse.load(Ordering::Relaxed) {
            0 => Err(StoreError::Fuse),
            left if left > 0 => {
                self.fuse.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Keeps a signed policy: batches of it may come long after the file is gone. One that is here stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_policy(&self, site: &str, version: u32, bytes: &[u8]) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO policy VALUES ($1, $2, $3) ON CONFLICT (site, version) DO NOTHING")
            .bind(site)
            .bind(i64::from(version))
            .bind(bytes.to_vec())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// All policies that were ever kept, as they were given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn policies(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query("SELECT signed FROM policy ORDER BY site, version").fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Finishes what is open and closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn number_of(state: ReleaseState) -> i64 {
    match state {
        ReleaseState::Released => 0,
        ReleaseState::BelowK => 1,
        ReleaseState::OverBudget => 2,
    }
}

fn state_of(number: i64) -> ReleaseState {
    match number {
        0 => ReleaseState::Released,
        1 => ReleaseState::BelowK,
        _ => ReleaseState::OverBudget,
    }
}
