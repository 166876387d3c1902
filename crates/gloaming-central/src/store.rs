//! The database: SQLite with a write-ahead log and full sync. The statements are plain SQL that
//! PostgreSQL takes as well.

use std::path::Path;

use gloaming_signal::{ReleaseState, SealedBatch, hash};
use sqlx::Row as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

/// Statements that make an empty database ours, and leave a made one alone.
const SCHEMA: [&str; 7] = [
    "CREATE TABLE IF NOT EXISTS batches (
        site TEXT NOT NULL, edge TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL,
        sha256 TEXT NOT NULL, policy_version BIGINT NOT NULL, span_ms BIGINT NOT NULL,
        window_index BIGINT NOT NULL, received_ms BIGINT NOT NULL,
        PRIMARY KEY (site, edge, epoch, seq),
        UNIQUE (site, edge, policy_version, span_ms, window_index))",
    "CREATE TABLE IF NOT EXISTS policies (
        site TEXT NOT NULL, version BIGINT NOT NULL, signed BLOB NOT NULL, PRIMARY KEY (site, version))",
    "CREATE TABLE IF NOT EXISTS watermarks (
        site TEXT NOT NULL, edge TEXT NOT NULL, epoch BIGINT NOT NULL, below BIGINT NOT NULL,
        PRIMARY KEY (site, edge, epoch))",
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

/// Batches of an edge, site and epoch whose hashes are kept behind the watermark. An edge tries again within
/// minutes; who comes with an older number than this is answered by whether its window is here.
pub(crate) const HASHES: i64 = 1_000;

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
        let below = self.below(&mut tx, batch).await?;
        if signed(batch.seq) < below {
            // Its hash is forgotten; its window is not.
            if self.released(&mut tx, batch).await? {
                return Ok(Stored::Before);
            }
            tx.rollback().await?;
            self.alarm(batch, "an old number bears a new window", now_ms).await?;
            return Ok(Stored::Conflict);
        }
        if self.released(&mut tx, batch).await? {
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
        self.advance(&mut tx, batch, below).await?;
        tx.commit().await?;
        Ok(Stored::Now)
    }

    /// The number below which every batch of this edge, site and epoch is stored.
    async fn below(&self, tx: &mut SqliteConnection, batch: &SealedBatch) -> Result<i64, sqlx::Error> {
        let row = sqlx::query("SELECT below FROM watermarks WHERE site = $1 AND edge = $2 AND epoch = $3")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .fetch_optional(tx)
            .await?;
        row.map_or(Ok(0), |row| row.try_get(0))
    }

    /// Whether this window is here already, under whichever number: releases outlive their batch's hash.
    async fn released(&self, tx: &mut SqliteConnection, batch: &SealedBatch) -> Result<bool, sqlx::Error> {
        let Some(release) = batch.releases.first() else { return Ok(false) };
        let row = sqlx::query(
            "SELECT 1 FROM releases WHERE site = $1 AND metric = $2 AND span_ms = $3 AND window_index = $4
             AND edge = $5 AND policy_version = $6",
        )
        .bind(&batch.site)
        .bind(i64::from(release.metric))
        .bind(signed(batch.span_ms))
        .bind(signed(batch.window))
        .bind(&batch.edge)
        .bind(i64::from(batch.policy_version))
        .fetch_optional(tx)
        .await?;
        Ok(row.is_some())
    }

    /// Moves the watermark over what is stored without a gap, and forgets hashes far behind it: the ledger grows
    /// with edges and sites, not with time.
    async fn advance(&self, tx: &mut SqliteConnection, batch: &SealedBatch, below: i64) -> Result<(), sqlx::Error> {
        let mut to = below;
        loop {
            let stored = sqlx::query("SELECT 1 FROM batches WHERE site = $1 AND edge = $2 AND epoch = $3 AND seq = $4")
                .bind(&batch.site)
                .bind(&batch.edge)
                .bind(signed(batch.epoch))
                .bind(to)
                .fetch_optional(&mut *tx)
                .await?;
            if stored.is_none() {
                break;
            }
            to += 1;
        }
        if to == below {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO watermarks VALUES ($1, $2, $3, $4)
             ON CONFLICT (site, edge, epoch) DO UPDATE SET below = excluded.below",
        )
        .bind(&batch.site)
        .bind(&batch.edge)
        .bind(signed(batch.epoch))
        .bind(to)
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM batches WHERE site = $1 AND edge = $2 AND epoch = $3 AND seq < $4")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(to - HASHES)
            .execute(&mut *tx)
            .await?;
        Ok(())
    }

    /// Keeps a signed policy: batches of it may come long after the file is gone. One that is here stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_policy(&self, site: &str, version: u32, bytes: &[u8]) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO policies VALUES ($1, $2, $3) ON CONFLICT (site, version) DO NOTHING")
            .bind(site)
            .bind(i64::from(version))
            .bind(bytes)
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// All policies that were ever kept, as they were given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn policies(&self) -> Result<Vec<Vec<u8>>, sqlx::Error> {
        let rows = sqlx::query("SELECT signed FROM policies ORDER BY site, version").fetch_all(&self.pool).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// How many batches' hashes are kept for a site.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hashes(&self, site: &str) -> Result<u64, sqlx::Error> {
        let row = sqlx::query("SELECT COUNT(*) FROM batches WHERE site = $1").bind(site).fetch_one(&self.pool).await?;
        row.try_get::<i64, _>(0).map(i64::cast_unsigned)
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
        let rows = sqlx::query("SELECT DISTINCT edge FROM watermarks WHERE site = $1 UNION SELECT DISTINCT edge FROM batches WHERE site = $1 ORDER BY 1")
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gloaming_signal::Release;

    use super::*;

    fn batch(seq: u64, window: u64) -> SealedBatch {
        let release = Release { metric: 1, state: ReleaseState::Released, values: vec![7] };
        SealedBatch {
            site: "s".into(),
            edge: "e".into(),
            epoch: 5,
            seq,
            policy_version: 1,
            policy_hash: [0; 32],
            span_ms: 1_000,
            window,
            releases: vec![release],
        }
    }

    #[tokio::test]
    async fn the_ledger_forgets_hashes_and_no_batch() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("central.sqlite")).await.unwrap();
        let end = HASHES.cast_unsigned() + 30;
        // In any order: an edge puts aside what is not taken, and comes back with it.
        for seq in (0..end).filter(|seq| *seq != 3) {
            assert_eq!(store.put(&batch(seq, seq), &seq.to_le_bytes(), 0).await.unwrap(), Stored::Now);
        }
        assert_eq!(store.hashes("s").await.unwrap(), end - 1, "what is behind a gap is kept");
        assert_eq!(store.put(&batch(3, 3), &3u64.to_le_bytes(), 0).await.unwrap(), Stored::Now);
        assert_eq!(store.hashes("s").await.unwrap(), HASHES.cast_unsigned());
        // A retry of what is forgotten, of what is kept, and two that lie.
        assert_eq!(store.put(&batch(0, 0), &0u64.to_le_bytes(), 0).await.unwrap(), Stored::Before);
        assert_eq!(store.put(&batch(end - 1, end - 1), &(end - 1).to_le_bytes(), 0).await.unwrap(), Stored::Before);
        assert_eq!(store.put(&batch(end - 1, end - 1), b"other", 0).await.unwrap(), Stored::Conflict);
        let mut anew = batch(0, 2);
        let reused = batch(0, 9_000);
        assert_eq!(store.put(&reused, b"reused", 0).await.unwrap(), Stored::Conflict, "an old number, a new window");
        anew.epoch = 6;
        assert_eq!(store.put(&anew, b"anew", 0).await.unwrap(), Stored::Conflict, "a window whose hash is forgotten");
        assert_eq!(store.edges("s").await.unwrap(), ["e"]);
        assert_eq!(store.releases("s", 1, 1_000, 10).await.unwrap().len(), 10);
        store.close().await;
    }
}
