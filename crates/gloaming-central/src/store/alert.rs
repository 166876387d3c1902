//! Alerts as they are written down: each thing once, with when it was found and when it was told.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::{Store, StoreError, signed};
use crate::alerts::Alert;

/// Alerts kept of a site; those that were found longest ago go first.
const KEPT: i64 = 1_000;
/// Longest words, bytes: what a person reads.
const WORDS: usize = 1_000;

/// Kinds of what lasts since a window, whose start their key ends in.
const LASTING: [&str; 2] = ["drift", "performance"];

/// Cut at a character.
fn short(words: &str) -> &str {
    let mut end = words.len().min(WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

impl Store {
    /// Writes down that something was found; whether it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_alert(
        &self,
        site: &str,
        about: &str,
        kind: &str,
        words: &str,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let new = sqlx::query(
            "INSERT INTO alert (site, about, kind, words, since_ms, last_ms, told_ms)
             VALUES ($1, $2, $3, $4, $5, $5, 0) ON CONFLICT (site, about) DO NOTHING",
        )
        .bind(site)
        .bind(about)
        .bind(kind)
        .bind(short(words))
        .bind(signed(now_ms))
        .execute(&self.pool)
        .await?;
        if new.rows_affected() == 0 {
            sqlx::query("UPDATE alert SET last_ms = $3, words = $4 WHERE site = $1 AND about = $2")
                .bind(site)
                .bind(about)
                .bind(signed(now_ms))
                .bind(short(words))
                .execute(&self.pool)
                .await?;
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM alert WHERE site = $1 AND about IN (
                 SELECT about FROM alert WHERE site = $1 ORDER BY last_ms DESC, about LIMIT $3 OFFSET $2)",
        )
        .bind(site)
        .bind(KEPT)
        .bind(KEPT)
        .execute(&self.pool)
        .await?;
        let gone = "DELETE FROM told WHERE site = $1 AND about NOT IN (SELECT about FROM alert WHERE site = $1)";
        sqlx::query(gone).bind(site).execute(&self.pool).await?;
        Ok(true)
    }

    /// The key of something that lasts: `about` and the window since which it does. Where it is known under an earlier or a later one it is
    /// that one's: it was still found when this one began, or this one is dated from before an end that is not sure.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lasting_alert(
        &self,
        site: &str,
        kind: &str,
        about: &str,
        since_ms: u64,
    ) -> Result<String, StoreError> {
        let rows = sqlx::query(
            "SELECT about FROM alert WHERE site = $1 AND kind = $2 AND last_ms >= $3 ORDER BY last_ms DESC, about",
        )
        .bind(site)
        .bind(kind)
        .bind(signed(since_ms))
        .fetch_all(&self.pool)
        .await?;
        for row in rows {
            let key: String = row.try_get(0)?;
            if key.rsplit_once('/').is_some_and(|(of, since)| of == about && since.parse::<u64>().is_ok()) {
                return Ok(key);
            }
        }
        Ok(format!("{about}/{since_ms}"))
    }

    /// Alerts that were not told in one of several ways yet, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn untold_alerts(&self, way: &str, most: u32) -> Result<Vec<Alert>, StoreError> {
        let rows = sqlx::query(
            "SELECT site, about, kind, words, since_ms, last_ms, told_ms FROM alert WHERE told_ms = 0
             AND NOT EXISTS (SELECT 1 FROM told WHERE told.site = alert.site AND told.about = alert.about AND told.way = $1)
             ORDER BY since_ms, site, about LIMIT $2",
        )
        .bind(way)
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(alert).collect()
    }

    /// A site's alerts, those found last first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alerts(&self, site: &str, most: u32) -> Result<Vec<Alert>, StoreError> {
        let rows = sqlx::query(
            "SELECT site, about, kind, words, since_ms, last_ms, told_ms FROM alert WHERE site = $1
             ORDER BY last_ms DESC, since_ms DESC, about LIMIT $2",
        )
        .bind(site)
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(alert).collect()
    }

    /// How many alerts were found since then, by kind, and how many of all were not told yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alert_counts(&self, from_ms: u64) -> Result<(BTreeMap<String, u64>, u64), StoreError> {
        let rows = sqlx::query("SELECT kind, COUNT(*) FROM alert WHERE last_ms >= $1 GROUP BY kind")
            .bind(signed(from_ms))
            .fetch_all(&self.pool)
            .await?;
        let by =
            |row: &sqlx::any::AnyRow| Ok::<_, StoreError>((row.try_get(0)?, row.try_get::<i64, _>(1)?.cast_unsigned()));
        let untold = sqlx::query("SELECT COUNT(*) FROM alert WHERE told_ms = 0").fetch_one(&self.pool).await?;
        let counts = rows.iter().map(by).collect::<Result<_, _>>()?;
        Ok((counts, untold.try_get::<i64, _>(0)?.cast_unsigned()))
    }

    /// Writes down that an alert was told in one way.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn told_alert(&self, alert: &Alert, way: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO told (site, about, way) VALUES ($1, $2, $3) ON CONFLICT (site, about, way) DO NOTHING",
        )
        .bind(&alert.site)
        .bind(&alert.key)
        .bind(way)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What was told in each of these ways is told.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_alerts(&self, ways: &[&str], now_ms: u64) -> Result<(), StoreError> {
        // For each way one condition; where there is no way, nothing was told.
        let in_each = |at: usize| {
            format!(
                " AND EXISTS (SELECT 1 FROM told WHERE told.site = alert.site AND told.about = alert.about AND told.way = ${})",
                at + 2
            )
        };
        if ways.is_empty() {
            return Ok(());
        }
        let all: String = (0..ways.len()).map(in_each).collect();
        let text = sqlx::AssertSqlSafe(format!("UPDATE alert SET told_ms = $1 WHERE told_ms = 0{all}"));
        let mut query = sqlx::query(text).bind(signed(now_ms));
        for way in ways {
            query = query.bind((*way).to_owned());
        }
        query.execute(&self.pool).await?;
        let done = "DELETE FROM told WHERE EXISTS (
                        SELECT 1 FROM alert WHERE alert.site = told.site AND alert.about = told.about AND alert.told_ms > 0)";
        sqlx::query(done).execute(&self.pool).await?;
        Ok(())
    }
}

fn alert(row: &sqlx::any::AnyRow) -> Result<Alert, StoreError> {
    let number = |at: usize| Ok::<_, StoreError>(row.try_get::<i64, _>(at)?.cast_unsigned());
    let (key, kind): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let since = key.rsplit_once('/').filter(|_| LASTING.contains(&&*kind));
    Ok(Alert {
        site: row.try_get(0)?,
        lasts_since_ms: since.and_then(|(_, since)| since.parse().ok()),
        key,
        kind,
        words: row.try_get(3)?,
        since_ms: number(4)?,
        last_ms: number(5)?,
        told_ms: Some(number(6)?).filter(|ms| *ms > 0),
    })
}
