//! What is asked of the database. Every question names its site, so that a sharded PostgreSQL asks one shard.

use sqlx::Row as _;

use super::{ReleaseRow, Store, StoreError, signed, state_of};

/// Rows read for one metric at most: 50 edges over 1,000 windows.
const ROWS: i64 = 50_000;

/// A list as this program writes it: `[1,-2]`.
fn cells(metric: i64, text: &str) -> Result<Vec<i64>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Damaged(metric, text.chars().take(40).collect()))
}

impl Store {
    /// The releases of a metric in the newest `windows` windows of `span_ms` that have any, oldest first.
    ///
    /// # Errors
    /// When the database fails, or a row is not ours.
    pub async fn releases(
        &self,
        site: &str,
        metric: u32,
        span_ms: u64,
        windows: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT start_ms, edge, policy_version, state, received_ms, cells FROM release
             WHERE site = $1 AND metric = $2 AND span_ms = $3 AND start_ms >= (
                 SELECT COALESCE(MIN(start_ms), 0) FROM (
                     SELECT DISTINCT start_ms FROM release WHERE site = $1 AND metric = $2 AND span_ms = $3
                     ORDER BY start_ms DESC LIMIT $4) AS newest)
             ORDER BY start_ms DESC, edge DESC, policy_version DESC LIMIT $5",
        )
        .bind(site)
        .bind(i64::from(metric))
        .bind(signed(span_ms))
        .bind(i64::from(windows))
        .bind(ROWS)
        .fetch_all(&self.pool)
        .await?;
        let mut releases = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            releases.push(ReleaseRow {
                metric,
                window: row.try_get::<i64, _>(0)?.cast_unsigned() / span_ms.max(1),
                edge: row.try_get(1)?,
                policy_version: u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0),
                state: state_of(row.try_get(3)?),
                received_ms: row.try_get::<i64, _>(4)?.cast_unsigned(),
                values: cells(i64::from(metric), &row.try_get::<String, _>(5)?)?,
            });
        }
        Ok(releases)
    }

    /// Edges that ever delivered for a site.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn edges(&self, site: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT edge FROM watermark WHERE site = $1 ORDER BY edge")
            .bind(site)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Alarms of a site: how many, and the latest one's words.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alarms(&self, site: &str) -> Result<(u64, Option<String>), StoreError> {
        let count: i64 = sqlx::query("SELECT COUNT(*) FROM alarm WHERE site = $1")
            .bind(site)
            .fetch_one(&self.pool)
            .await?
            .try_get(0)?;
        let last = sqlx::query("SELECT what FROM alarm WHERE site = $1 ORDER BY at_ms DESC LIMIT 1")
            .bind(site)
            .fetch_optional(&self.pool)
            .await?;
        Ok((count.cast_unsigned(), last.map(|row| row.try_get(0)).transpose()?))
    }

    /// When the latest alarm of a site was, ms since 1970; 0 without one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alarmed_ms(&self, site: &str) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT COALESCE(MAX(at_ms), 0) FROM alarm WHERE site = $1").bind(site).fetch_one(&self.pool);
        Ok(row.await?.try_get::<i64, _>(0)?.cast_unsigned())
    }

    /// How many batches' hashes are kept for a site.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hashes(&self, site: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM ledger WHERE site = $1").bind(site).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }
}
