//! Experiments that ended by themselves. A row is written once and neither changed nor taken back: who signs the next version of the
//! policy has the next word.

use sqlx::Row as _;

use super::{Store, StoreError, signed};

/// An experiment that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its name.
    pub experiment: String,
    /// The version of the policy under which it did.
    pub policy_version: u32,
    /// The arm in which a guardrail broke.
    pub arm: String,
    /// What had become more frequent there.
    pub guardrail: String,
    /// By how much, in words.
    pub reason: String,
    /// When that was found, ms since 1970.
    pub at_ms: u64,
}

impl Store {
    /// Writes down that an experiment ended; whether that is new. What was written first stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_stop(&self, site: &str, stop: &Stop) -> Result<bool, StoreError> {
        let new = sqlx::query(
            "INSERT INTO stop (site, experiment, policy_version, arm, guardrail, reason, at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (site, experiment, policy_version) DO NOTHING",
        )
        .bind(site)
        .bind(&stop.experiment)
        .bind(i64::from(stop.policy_version))
        .bind(&stop.arm)
        .bind(&stop.guardrail)
        .bind(&stop.reason)
        .bind(signed(stop.at_ms))
        .execute(&self.pool)
        .await?;
        Ok(new.rows_affected() > 0)
    }

    /// A site's experiments that ended under this version of its policy or a later one, by name. An edge that is a version behind
    /// is not to go on with what has ended meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stops(&self, site: &str, version: u32) -> Result<Vec<Stop>, StoreError> {
        let rows = sqlx::query(
            "SELECT experiment, policy_version, arm, guardrail, reason, at_ms FROM stop
             WHERE site = $1 AND policy_version >= $2 ORDER BY experiment, policy_version",
        )
        .bind(site)
        .bind(i64::from(version))
        .fetch_all(&self.pool)
        .await?;
        let stop = |row: &sqlx::any::AnyRow| {
            Ok::<_, StoreError>(Stop {
                experiment: row.try_get(0)?,
                policy_version: u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX),
                arm: row.try_get(2)?,
                guardrail: row.try_get(3)?,
                reason: row.try_get(4)?,
                at_ms: row.try_get::<i64, _>(5)?.cast_unsigned(),
            })
        };
        rows.iter().map(stop).collect()
    }
}
