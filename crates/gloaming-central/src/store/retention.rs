//! How long windows are kept. PostgreSQL drops whole partitions, SQLite deletes rows.

use sqlx::{Any, Executor as _, Row as _, Transaction};

use super::schema::{self, Engine, PARTITION_MS};
use super::{Store, StoreError, signed};

const DAY_MS: i64 = 86_400_000;

/// Rows deleted in one transaction: writers wait no longer than this takes.
const ROWS: i64 = 10_000;

impl Store {
    /// From when on windows are kept, ms since 1970.
    pub(super) async fn kept_from(&self, tx: &mut Transaction<'static, Any>) -> Result<i64, StoreError> {
        self.burn()?;
        let row = sqlx::query("SELECT from_ms FROM retention WHERE one = 1").fetch_optional(&mut **tx).await?;
        Ok(row.map_or(Ok(i64::MIN), |row| row.try_get(0))?)
    }

    /// Deletes windows that began more than `days` before now; returns from when on they are kept, ms since 1970.
    ///
    /// Now is the earlier one of `now_ms` and the newest window's start: neither a clock that leapt ahead nor an
    /// edge whose clock did can have everything deleted. PostgreSQL keeps up to 28 days more, until a whole
    /// partition is old.
    ///
    /// # Errors
    /// When the database fails; what was deleted until then stays deleted.
    pub async fn retain(&self, days: u32, now_ms: u64) -> Result<Option<u64>, StoreError> {
        let Some(newest) = self.newest().await? else { return Ok(None) };
        let mut from = newest.min(signed(now_ms)) - i64::from(days) * DAY_MS;
        if self.engine == Engine::Postgres {
            from = schema::partition_of(from) * PARTITION_MS;
        }
        // Said before it is done: what comes later for a window that is gone must not count as new.
        let row = sqlx::query(
            "INSERT INTO retention VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET from_ms =
             CASE WHEN excluded.from_ms > retention.from_ms THEN excluded.from_ms ELSE retention.from_ms END
             RETURNING from_ms",
        )
        .bind(from)
        .fetch_one(&self.pool)
        .await?;
        let from: i64 = row.try_get(0)?;
        match self.engine {
            Engine::Sqlite => self.delete("release", from).await?,
            Engine::Postgres => {
                for partition in schema::partitions(&self.pool).await? {
                    if (partition + 1) * PARTITION_MS <= from {
                        let statement = format!("DROP TABLE IF EXISTS release_{partition}");
                        self.pool.execute(sqlx::AssertSqlSafe(statement)).await?;
                    }
                }
                self.delete("release_other", from).await?;
            }
        }
        Ok(u64::try_from(from).ok())
    }

    async fn delete(&self, table: &str, from: i64) -> Result<(), StoreError> {
        // PostgreSQL joins an `IN` by reading the whole table; from an array it goes to the rows themselves.
        let statement = match self.engine {
            Engine::Sqlite => {
                format!(
                    "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE start_ms < $1 ORDER BY start_ms LIMIT $2)"
                )
            }
            Engine::Postgres => format!(
                "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE start_ms < $1 ORDER BY start_ms LIMIT $2))"
            ),
        };
        loop {
            let query = sqlx::query(sqlx::AssertSqlSafe(statement.clone())).bind(from).bind(ROWS);
            if query.execute(&self.pool).await?.rows_affected() == 0 {
                return Ok(());
            }
        }
    }

    /// When the newest window began; PostgreSQL looks in its newest partition.
    async fn newest(&self) -> Result<Option<i64>, StoreError> {
        if self.engine == Engine::Sqlite {
            let row = sqlx::query("SELECT MAX(start_ms) FROM release").fetch_one(&self.pool).await?;
            return Ok(row.try_get(0)?);
        }
        for partition in schema::partitions(&self.pool).await?.into_iter().rev() {
            let statement = format!("SELECT start_ms FROM release_{partition} ORDER BY start_ms DESC LIMIT 1");
            let row = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_optional(&self.pool).await?;
            if let Some(row) = row {
                return Ok(Some(row.try_get(0)?));
            }
        }
        Ok(None)
    }
}
