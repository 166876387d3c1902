//! Tables, made in an empty database and left alone in a made one.
//!
//! Every key begins with the site. Released windows are keyed by when they began, which a window's name
//! decides, so that PostgreSQL can partition them by time and keep each window's one answer unique. The
//! cells of a release stand in its row as a JSON list, a twentieth of the bytes and statements that a row
//! each would be; the view `cell` shows them one by one.

use sqlx::AnyPool;
use sqlx::{Executor as _, Row as _, Transaction};

use super::StoreError;

/// The form of these tables. A database of another one is refused.
const VERSION: i64 = 1;

/// Which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// Time that one partition holds, ms: 28 days.
pub(super) const PARTITION_MS: i64 = 28 * 86_400_000;

/// Partitions made ahead of the newest and behind it; windows further from now than this lie in the
/// default partition, so that a clock far off makes no tables.
const PARTITIONS: i64 = 40;

const COMMON: [&str; 12] = [
    "CREATE TABLE IF NOT EXISTS policy (
        site TEXT NOT NULL, version BIGINT NOT NULL, signed BYTES NOT NULL, PRIMARY KEY (site, version))",
    "CREATE TABLE IF NOT EXISTS ledger (
        site TEXT NOT NULL, edge TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL,
        sha256 TEXT NOT NULL, received_ms BIGINT NOT NULL, PRIMARY KEY (site, edge, epoch, seq))",
    "CREATE TABLE IF NOT EXISTS watermark (
        site TEXT NOT NULL, edge TEXT NOT NULL, epoch BIGINT NOT NULL, below BIGINT NOT NULL,
        PRIMARY KEY (site, edge, epoch))",
    "CREATE TABLE IF NOT EXISTS release (
        site TEXT NOT NULL, metric BIGINT NOT NULL, span_ms BIGINT NOT NULL, start_ms BIGINT NOT NULL,
        edge TEXT NOT NULL, policy_version BIGINT NOT NULL, state BIGINT NOT NULL, received_ms BIGINT NOT NULL,
        cells TEXT NOT NULL,
        PRIMARY KEY (site, metric, span_ms, start_ms, edge, policy_version)) PARTITIONED",
    "CREATE TABLE IF NOT EXISTS alarm (
        site TEXT NOT NULL, edge TEXT NOT NULL, at_ms BIGINT NOT NULL, what TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS alarm_by_site ON alarm (site, at_ms)",
    "CREATE TABLE IF NOT EXISTS alert (
        site TEXT NOT NULL, about TEXT NOT NULL, kind TEXT NOT NULL, words TEXT NOT NULL,
        since_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL, told_ms BIGINT NOT NULL, PRIMARY KEY (site, about))",
    "CREATE INDEX IF NOT EXISTS alert_by_time ON alert (site, last_ms)",
    // What is asked over all sites: what was found lately, and what is on its way to be told.
    "CREATE INDEX IF NOT EXISTS alert_lately ON alert (last_ms, kind)",
    "CREATE INDEX IF NOT EXISTS alert_untold ON alert (since_ms) WHERE told_ms = 0",
    // In which ways an alert was told that was not told in all of them yet.
    "CREATE TABLE IF NOT EXISTS told (
        site TEXT NOT NULL, about TEXT NOT NULL, way TEXT NOT NULL, PRIMARY KEY (site, about, way))",
    // Experiments that ended by themselves, under which version of the policy and why.
    "CREATE TABLE IF NOT EXISTS stop (
        site TEXT NOT NULL, experiment TEXT NOT NULL, policy_version BIGINT NOT NULL, arm TEXT NOT NULL,
        guardrail TEXT NOT NULL, reason TEXT NOT NULL, at_ms BIGINT NOT NULL,
        PRIMARY KEY (site, experiment, policy_version))",
];

/// The row `retention` says from when on windows are kept; there is one at most.
const RETENTION: &str = "CREATE TABLE IF NOT EXISTS retention (one BIGINT PRIMARY KEY, from_ms BIGINT NOT NULL)";

const SQLITE: [&str; 2] = [
    "CREATE INDEX IF NOT EXISTS release_by_start ON release (start_ms)",
    "CREATE VIEW IF NOT EXISTS cell AS
        SELECT site, metric, span_ms, start_ms, edge, policy_version, j.key AS cell, j.value AS value
        FROM release, json_each(release.cells) AS j",
];

const POSTGRES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS release_other PARTITION OF release DEFAULT",
    "CREATE INDEX IF NOT EXISTS release_other_by_start ON release_other (start_ms)",
    "CREATE OR REPLACE VIEW cell AS
        SELECT site, metric, span_ms, start_ms, edge, policy_version, j.position - 1 AS cell, j.value::bigint AS value
        FROM release CROSS JOIN LATERAL json_array_elements_text(cells::json) WITH ORDINALITY AS j (value, position)",
];

/// Two centres that start at once make the tables one after the other. The number is this project's own.
const ALONE: &str = "SELECT CAST(pg_advisory_xact_lock(7207186523) AS TEXT)";

impl Engine {
    /// How a transaction that writes begins.
    pub(super) fn begin(self) -> &'static str {
        match self {
            // A transaction that reads first and writes later could find the file locked in between.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What a new connection is told.
    pub(super) fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"],
            Self::Postgres => &["SET statement_timeout = '30s'", "SET lock_timeout = '10s'"],
        }
    }

    fn spoken(self, statement: &str) -> String {
        let (bytes, partitioned) = match self {
            Self::Sqlite => ("BLOB", ""),
            Self::Postgres => ("BYTEA", "PARTITION BY RANGE (start_ms)"),
        };
        statement.replace("BYTES", bytes).replace("PARTITIONED", partitioned)
    }
}

async fn alone(pool: &AnyPool, engine: Engine) -> Result<Transaction<'static, sqlx::Any>, sqlx::Error> {
    let mut tx = pool.begin_with(engine.begin()).await?;
    if engine == Engine::Postgres {
        tx.execute(ALONE).await?;
    }
    Ok(tx)
}

/// Makes the tables, or sees that they are ours.
pub(super) async fn make(pool: &AnyPool, engine: Engine) -> Result<(), StoreError> {
    if engine == Engine::Postgres {
        // What is acknowledged must be on disk: a server told otherwise is no store for this.
        for setting in ["fsync", "synchronous_commit"] {
            let row = sqlx::query("SELECT current_setting($1)").bind(setting).fetch_one(pool).await?;
            if row.try_get::<String, _>(0)? == "off" {
                return Err(StoreError::NotDurable(setting));
            }
        }
    }
    let mut tx = alone(pool, engine).await?;
    if engine == Engine::Sqlite {
        // Before forms had numbers, cells had rows.
        let first = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'cells'";
        if sqlx::query(first).fetch_one(&mut *tx).await?.try_get::<i64, _>(0)? > 0 {
            return Err(StoreError::OtherVersion(0));
        }
    }
    tx.execute("CREATE TABLE IF NOT EXISTS gloaming_schema (version BIGINT PRIMARY KEY)").await?;
    let version = sqlx::query("SELECT MAX(version) FROM gloaming_schema").fetch_one(&mut *tx).await?;
    if let Some(other) = version.try_get::<Option<i64>, _>(0)?.filter(|version| *version != VERSION) {
        return Err(StoreError::OtherVersion(other));
    }
    let own: &[&str] = if engine == Engine::Sqlite { &SQLITE } else { &POSTGRES };
    for statement in COMMON.iter().chain([&RETENTION]).chain(own) {
        let spoken = sqlx::AssertSqlSafe(engine.spoken(statement));
        tx.execute(spoken).await?;
    }
    sqlx::query("INSERT INTO gloaming_schema VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(VERSION)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Which partition a window lies in.
pub(super) fn partition_of(start_ms: i64) -> i64 {
    start_ms.div_euclid(PARTITION_MS)
}

/// Whether windows of this partition have one of their own.
pub(super) fn has_its_own(partition: i64, now_ms: i64) -> bool {
    (partition - partition_of(now_ms)).abs() <= PARTITIONS
}

/// Makes a partition that is not there yet.
pub(super) async fn partition(pool: &AnyPool, partition: i64) -> Result<(), sqlx::Error> {
    let mut tx = alone(pool, Engine::Postgres).await?;
    let statement = format!(
        "CREATE TABLE IF NOT EXISTS release_{partition} PARTITION OF release FOR VALUES FROM ({}) TO ({})",
        partition * PARTITION_MS,
        (partition + 1) * PARTITION_MS
    );
    tx.execute(sqlx::AssertSqlSafe(statement)).await?;
    tx.commit().await
}

/// The partitions that are there, oldest first.
pub(super) async fn partitions(pool: &AnyPool) -> Result<Vec<i64>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT CAST(c.relname AS TEXT) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'release'::regclass",
    )
    .fetch_all(pool)
    .await?;
    let mut partitions = Vec::with_capacity(rows.len());
    for row in rows {
        let name: String = row.try_get(0)?;
        partitions.extend(name.strip_prefix("release_").and_then(|number| number.parse::<i64>().ok()));
    }
    partitions.sort_unstable();
    Ok(partitions)
}
