//! Batches in: many in one transaction, each of them whole or not at all.

use gloaming_signal::{Release, SealedBatch, hash};
use sqlx::{Any, Row as _, Transaction};

use super::schema::{self, Engine};
use super::{Arrived, Store, StoreError, Stored, number_of, signed};

/// Alarms kept for a site; beyond, the count is what matters.
const ALARMS: i64 = 1_000;

/// Batches of an edge, site and epoch whose hashes are kept behind the watermark. An edge tries again within
/// minutes; who comes with an older number than this is answered by whether its window is here.
pub(crate) const HASHES: i64 = 1_000;

/// Sequence numbers that a watermark moves over at once. A longer row waits for the next batch.
const STRIDE: i64 = 2_000;

/// Releases written by one statement: nine values each, and PostgreSQL takes 65,535.
const ROWS: usize = 256;

/// Beyond this, programs that read numbers as floating point see others.
const VAST: u64 = 1 << 53;

const NUMBER: &str = "another batch bears this number";
const OLD: &str = "an old number bears a new window";
const TWICE: &str = "a window was released twice";
const CELL: &str = "a cell is beyond 2^53, and no crowd is so large; sums stop at 2^63";

type Tx = Transaction<'static, Any>;

/// When the windows of a batch began, ms since 1970; a name so far off that it overflows is the end of time.
fn start_of(batch: &SealedBatch) -> i64 {
    batch.window.checked_mul(batch.span_ms).and_then(|start| i64::try_from(start).ok()).unwrap_or(i64::MAX)
}

/// `[1,-2]`.
fn list(values: &[i64]) -> String {
    let mut text = String::with_capacity(2 + values.len() * 4);
    text.push('[');
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        text.push_str(&value.to_string());
    }
    text.push(']');
    text
}

impl Store {
    /// Stores batches in one transaction. Each has its own outcome, in the order given; what conflicts
    /// changes nothing, and the others go in all the same.
    ///
    /// # Errors
    /// When the database fails; then none of them is stored.
    pub async fn put(&self, arrived: &[Arrived<'_>], now_ms: u64) -> Result<Vec<Stored>, StoreError> {
        self.make_room(arrived, now_ms).await?;
        // All writers take their locks in the same order, so that none waits for one that waits for it.
        let mut order: Vec<usize> = (0..arrived.len()).collect();
        order.sort_by_key(|index| name_of(arrived[*index].batch));
        let mut outcomes = vec![Stored::Conflict; arrived.len()];
        let mut tx = self.pool.begin_with(self.engine.begin()).await?;
        let from_ms = self.kept_from(&mut tx).await?;
        for (place, index) in order.iter().enumerate() {
            let Arrived { batch, digest } = &arrived[*index];
            let below = self.lock(&mut tx, batch).await?;
            let (outcome, why) = self.one(&mut tx, batch, digest, below, from_ms, now_ms).await?;
            if let Some(why) = why {
                self.alarm(&mut tx, batch, why, now_ms).await?;
            }
            outcomes[*index] = outcome;
            let next = order.get(place + 1).map(|index| name_of(arrived[*index].batch));
            let same =
                |next: (&str, &str, u64, u64)| next.0 == batch.site && next.1 == batch.edge && next.2 == batch.epoch;
            if !next.is_some_and(same) {
                self.advance(&mut tx, batch, below).await?;
            }
        }
        self.burn()?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// Makes the partitions that these windows lie in.
    async fn make_room(&self, arrived: &[Arrived<'_>], now_ms: u64) -> Result<(), StoreError> {
        if self.engine == Engine::Sqlite {
            return Ok(());
        }
        for Arrived { batch, .. } in arrived {
            let partition = schema::partition_of(start_of(batch));
            let seen = |set: &std::collections::BTreeSet<i64>| set.contains(&partition);
            if !schema::has_its_own(partition, signed(now_ms)) || self.partitions.lock().is_ok_and(|set| seen(&set)) {
                continue;
            }
            match schema::partition(&self.pool, partition).await {
                // Windows of it lie in the default partition since a time when now was far off: they stay there.
                Err(sqlx::Error::Database(error)) if error.is_check_violation() => {}
                other => other?,
            }
            if let Ok(mut set) = self.partitions.lock() {
                set.insert(partition);
            }
        }
        Ok(())
    }

    /// The watermark of this edge, site and epoch: every batch with a lower number is stored. Whoever writes
    /// for the same three waits here.
    async fn lock(&self, tx: &mut Tx, batch: &SealedBatch) -> Result<i64, StoreError> {
        self.burn()?;
        let row = sqlx::query(
            "INSERT INTO watermark VALUES ($1, $2, $3, 0)
             ON CONFLICT (site, edge, epoch) DO UPDATE SET below = watermark.below RETURNING below",
        )
        .bind(&batch.site)
        .bind(&batch.edge)
        .bind(signed(batch.epoch))
        .fetch_one(&mut **tx)
        .await?;
        Ok(row.try_get(0)?)
    }

    async fn one(
        &self,
        tx: &mut Tx,
        batch: &SealedBatch,
        digest: &[u8; 32],
        below: i64,
        from_ms: i64,
        now_ms: u64,
    ) -> Result<(Stored, Option<&'static str>), StoreError> {
        let digest = hash::hex(digest);
        self.burn()?;
        let known = sqlx::query("SELECT sha256 FROM ledger WHERE site = $1 AND edge = $2 AND epoch = $3 AND seq = $4")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(signed(batch.seq))
            .fetch_optional(&mut **tx)
            .await?;
        if let Some(row) = known {
            let same = row.try_get::<String, _>(0)? == digest;
            return Ok(if same { (Stored::Before, None) } else { (Stored::Conflict, Some(NUMBER)) });
        }
        if signed(batch.seq) < below {
            // Its hash is forgotten; its window is not, unless it is older than what is kept.
            let before = start_of(batch) < from_ms || self.released(tx, batch).await?;
            return Ok(if before { (Stored::Before, None) } else { (Stored::Conflict, Some(OLD)) });
        }
        let outcome = if start_of(batch) < from_ms {
            Stored::TooOld
        } else if self.write(tx, batch, now_ms).await? {
            Stored::Now
        } else {
            return Ok((Stored::Conflict, Some(TWICE)));
        };
        self.burn()?;
        sqlx::query("INSERT INTO ledger VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(signed(batch.seq))
            .bind(digest)
            .bind(signed(now_ms))
            .execute(&mut **tx)
            .await?;
        let vast = batch.releases.iter().flat_map(|release| &release.values).any(|value| value.unsigned_abs() > VAST);
        Ok((outcome, (vast && outcome == Stored::Now).then_some(CELL)))
    }

    /// Whether this window is here already, under whichever number: releases outlive their batch's hash.
    async fn released(&self, tx: &mut Tx, batch: &SealedBatch) -> Result<bool, StoreError> {
        let Some(release) = batch.releases.first() else { return Ok(false) };
        self.burn()?;
        let row = sqlx::query(
            "SELECT state FROM release WHERE site = $1 AND metric = $2 AND span_ms = $3 AND start_ms = $4
             AND edge = $5 AND policy_version = $6",
        )
        .bind(&batch.site)
        .bind(i64::from(release.metric))
        .bind(signed(batch.span_ms))
        .bind(start_of(batch))
        .bind(&batch.edge)
        .bind(i64::from(batch.policy_version))
        .fetch_optional(&mut **tx)
        .await?;
        Ok(row.is_some())
    }

    /// Writes all releases of a batch, or finds that they are there: false, and nothing is written.
    async fn write(&self, tx: &mut Tx, batch: &SealedBatch, now_ms: u64) -> Result<bool, StoreError> {
        if self.released(tx, batch).await? {
            return Ok(false);
        }
        for (place, releases) in batch.releases.chunks(ROWS).enumerate() {
            let written = self.write_some(tx, batch, releases, now_ms).await?;
            // The first metric was looked for above; only a writer of another epoch can have been faster,
            // and then it wrote them all, for a policy's metrics go together.
            if written == 0 && place == 0 {
                return Ok(false);
            }
            if written != releases.len() as u64 {
                return Err(StoreError::Database(sqlx::Error::Protocol("a window is here in part".to_owned())));
            }
        }
        Ok(true)
    }

    async fn write_some(
        &self,
        tx: &mut Tx,
        batch: &SealedBatch,
        releases: &[Release],
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        let mut statement = "INSERT INTO release VALUES ".to_owned();
        for place in 0..releases.len() {
            if place > 0 {
                statement.push(',');
            }
            // The six that all rows share are bound once and come first.
            let own = 7 + 3 * place;
            statement.push_str(&format!("($1,${own},$2,$3,$4,$5,${},$6,${})", own + 1, own + 2));
        }
        statement.push_str(" ON CONFLICT DO NOTHING");
        self.burn()?;
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(&batch.site)
            .bind(signed(batch.span_ms))
            .bind(start_of(batch))
            .bind(&batch.edge)
            .bind(i64::from(batch.policy_version))
            .bind(signed(now_ms));
        for release in releases {
            query = query.bind(i64::from(release.metric)).bind(number_of(release.state)).bind(list(&release.values));
        }
        Ok(query.execute(&mut **tx).await?.rows_affected())
    }

    /// Moves the watermark over what is stored without a gap, and forgets hashes far behind it.
    async fn advance(&self, tx: &mut Tx, batch: &SealedBatch, below: i64) -> Result<(), StoreError> {
        self.burn()?;
        let rows = sqlx::query(
            "SELECT seq FROM ledger WHERE site = $1 AND edge = $2 AND epoch = $3 AND seq >= $4 ORDER BY seq LIMIT $5",
        )
        .bind(&batch.site)
        .bind(&batch.edge)
        .bind(signed(batch.epoch))
        .bind(below)
        .bind(STRIDE)
        .fetch_all(&mut **tx)
        .await?;
        let mut to = below;
        for row in rows {
            if row.try_get::<i64, _>(0)? != to {
                break;
            }
            to += 1;
        }
        if to == below {
            return Ok(());
        }
        self.burn()?;
        sqlx::query("UPDATE watermark SET below = $4 WHERE site = $1 AND edge = $2 AND epoch = $3")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(to)
            .execute(&mut **tx)
            .await?;
        self.burn()?;
        sqlx::query("DELETE FROM ledger WHERE site = $1 AND edge = $2 AND epoch = $3 AND seq < $4")
            .bind(&batch.site)
            .bind(&batch.edge)
            .bind(signed(batch.epoch))
            .bind(to - HASHES)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn alarm(&self, tx: &mut Tx, batch: &SealedBatch, what: &str, now_ms: u64) -> Result<(), StoreError> {
        self.burn()?;
        sqlx::query(
            "INSERT INTO alarm SELECT $1, $2, $3, $4
             WHERE (SELECT COUNT(*) FROM alarm WHERE site = $1) < $5",
        )
        .bind(&batch.site)
        .bind(&batch.edge)
        .bind(signed(now_ms))
        .bind(what)
        .bind(ALARMS)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

fn name_of(batch: &SealedBatch) -> (&str, &str, u64, u64) {
    (&batch.site, &batch.edge, batch.epoch, batch.seq)
}
