//! The database: SQLite with a write-ahead log and full sync. The statements are plain SQL that
//! PostgreSQL takes as well.

use std::path::Path;

use gloaming_signal::{ReleaseState, SealedBatch, hash};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

/// Statements that make an empty database ours, and leave a made one alone.
const SCHEMA: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS batches (
        site TEXT NOT NULL, edge TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL,
        sha256 TEXT NOT NULL, policy_version BIGINT NOT NULL, span_ms BIGINT NOT NULL,
        window_index BIGINT NOT NULL, received_ms BIGINT NOT NULL,
        PRIMARY KEY (site, edge, epoch, seq),
        UNIQUE (site, edge, policy_version, span_ms, window_index))",
    "CREATE TABLE IF NOT EXISTS releases (
        site TEXT NOT NULL, metric BIGINT NOT NULL, span_ms BIGINT NOT NULL, window_index BIGINT NOT NULL,
        edge TEXT NOT NULL, policy_version BIGINT NOT NULL, state BIGINT NOT NULL, received_ms BIGINT NOT NULL,
        PRIMARY KEY (site, metric, span_ms, window_index, edge, policy_version))",
    "CREATE TABLE IF NOT EXISTS cells (
        site TEXT NOT NULL, metric BIGINT NOT NULL, span_ms BIGINT NOT NULL, window_index BIGINT NOT NULL,
        edge TEXT NOT NULL, policy_version BIGINT NOT NULL, cell BIGINT NOT NULL, value BIGINT NOT NULL,
        PRIMARY KEY (site, metric, span_ms, window_index, edge, policy_version, cell))",
    "CREATE TABLE IF NOT EXISTS alarms (
        site TEXT NOT NULL, edge TEXT NOT NULL, at_ms BIGINT NOT NULL, what TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS alarms_by_site ON alarms (site, at_ms)",
];

/// Alarms kept for a site; beyond, the count is what matters.
const ALARMS: i64 = 1_000;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the ledger now.
    Now,
    /// It was already, byte for byte.
    Before,
    /// Another batch bears its name, or the same window came under another one. Nothing was changed,
    /// and an alarm was written.
    Conflict,
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

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

/// Numbers beyond 2^63 would need a day's budget for longer than the sun has; the epoch is random and
/// kept bit for bit.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

impl Store {
    /// Opens or makes the database.
    ///
    /// # Errors
    /// When the file cannot be opened or is something else.
    pub async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&pool).await?;
        }
        Ok(Self { pool })
    }

    /// Stores a batch whose delivery bytes are `delivery`: ledger row, releases and cells, or nothing.
    ///
    /// # Errors
    /// When the database fails; nothing has changed then.
    pub async fn put(&self, batch: &SealedBatch, delivery: &[u8], now_ms: u64) -> Result<Stored, sqlx::Error> {
        let digest = hash::hex(&hash::sha256(delivery));
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let known = sqlx::query("SELECT sha256 FROM batches WHERE site = $1 AND edge = $2 AND epoch = $3 AND seq = $4")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(signed(batch.seq))
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = known {
            if row.try_get::<String, _>(0)? == digest {
                return Ok(Stored::Before);
            }
            tx.rollback().await?;
            self.alarm(batch, "another batch bears this number", now_ms).await?;
            return Ok(Stored::Conflict);
        }
        let again = sqlx::query(
            "SELECT 1 FROM batches WHERE site = $1 AND edge = $2 AND policy_version = $3 AND span_ms = $4 AND window_index = $5",
        )
        .bind(&batch.site)
        .bind(&batch.edge)
        .bind(i64::from(batch.policy_version))
        .bind(signed(batch.span_ms))
        .bind(signed(batch.window))
        .fetch_optional(&mut *tx)
        .await?;
        if again.is_some() {
            tx.rollback().await?;
            self.alarm(batch, "a window was released twice", now_ms).await?;
            return Ok(Stored::Conflict);
        }
        sqlx::query("INSERT INTO batches VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(signed(batch.seq))
            .bind(&digest)
            .bind(i64::from(batch.policy_version))
            .bind(signed(batch.span_ms))
            .bind(signed(batch.window))
            .bind(signed(now_ms))
            .execute(&mut *tx)
            .await?;
        for release in &batch.releases {
            sqlx::query("INSERT INTO releases VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
                .bind(&batch.site)
                .bind(i64::from(release.metric))
                .bind(signed(batch.span_ms))
                .bind(signed(batch.window))
                .bind(&batch.edge)
                .bind(i64::from(batch.policy_version))
                .bind(number_of(release.state))
                .bind(signed(now_ms))
                .execute(&mut *tx)
                .await?;
            for (cell, value) in (0i64..).zip(&release.values) {
                sqlx::query("INSERT INTO cells VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
                    .bind(&batch.site)
                    .bind(i64::from(release.metric))
                    .bind(signed(batch.span_ms))
                    .bind(signed(batch.window))
                    .bind(&batch.edge)
                    .bind(i64::from(batch.policy_version))
                    .bind(cell)
                    .bind(*value)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        tx.commit().await?;
        Ok(Stored::Now)
    }

    async fn alarm(&self, batch: &SealedBatch, what: &str, now_ms: u64) -> Result<(), sqlx::Error> {
        let (count, _) = self.alarms(&batch.site).await?;
        if count < ALARMS as u64 {
            sqlx::query("INSERT INTO alarms VALUES ($1, $2, $3, $4)")
                .bind(&batch.site)
                .bind(&batch.edge)
                .bind(signed(now_ms))
                .bind(what)
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// Alarms of a site: how many, and the latest one's words.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alarms(&self, site: &str) -> Result<(u64, Option<String>), sqlx::Error> {
        let count: i64 = sqlx::query("SELECT COUNT(*) FROM alarms WHERE site = $1")
            .bind(site)
            .fetch_one(&self.pool)
            .await?
            .try_get(0)?;
        let last = sqlx::query("SELECT what FROM alarms WHERE site = $1 ORDER BY at_ms DESC LIMIT 1")
            .bind(site)
            .fetch_optional(&self.pool)
            .await?;
        Ok((count.cast_unsigned(), last.map(|row| row.try_get(0)).transpose()?))
    }

    /// The newest `windows` releases of a metric with windows of `span_ms`, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn releases(
        &self,
        site: &str,
        metric: u32,
        span_ms: u64,
        windows: u32,
    ) -> Result<Vec<ReleaseRow>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT window_index, edge, policy_version, state, received_ms FROM releases
             WHERE site = $1 AND metric = $2 AND span_ms = $3
             ORDER BY window_index DESC, edge, policy_version LIMIT $4",
        )
        .bind(site)
        .bind(i64::from(metric))
        .bind(signed(span_ms))
        .bind(i64::from(windows))
        .fetch_all(&self.pool)
        .await?;
        let mut releases = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            let (window, edge, version): (i64, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let values = sqlx::query(
                "SELECT value FROM cells WHERE site = $1 AND metric = $2 AND span_ms = $3 AND window_index = $4
                 AND edge = $5 AND policy_version = $6 ORDER BY cell",
            )
            .bind(site)
            .bind(i64::from(metric))
            .bind(signed(span_ms))
            .bind(window)
            .bind(&edge)
            .bind(version)
            .fetch_all(&self.pool)
            .await?;
            releases.push(ReleaseRow {
                metric,
                window: window.cast_unsigned(),
                edge,
                policy_version: u32::try_from(version).unwrap_or(0),
                state: state_of(row.try_get(3)?),
                received_ms: row.try_get::<i64, _>(4)?.cast_unsigned(),
                values: values.iter().map(|v| v.try_get(0)).collect::<Result<_, _>>()?,
            });
        }
        Ok(releases)
    }

    /// Edges that ever delivered for a site.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn edges(&self, site: &str) -> Result<Vec<String>, sqlx::Error> {
        let rows = sqlx::query("SELECT DISTINCT edge FROM batches WHERE site = $1 ORDER BY edge")
            .bind(site)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(|_| ())
    }

    /// Finishes what is open and closes the file.
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
