//! What is let go at close, so that the file does not grow for ever.

use sqlx::Executor;
use time::OffsetDateTime;

use super::{SqliteStore, integer};
use crate::store::StoreError;
use crate::store::metrics::utc_text;

/// How long and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Facts not used, last results not replaced, and running rates of a reader not added to for this many days go.
    /// A reader's rates go as a whole or not at all, so that totals stay exact.
    pub unused_days: u32,
    /// Facts may take this many bytes (their values, without the file's own overhead); of the rest the least
    /// recently used go first.
    pub fact_bytes: u64,
    /// Metrics older than this many days go.
    pub metric_days: u32,
}

impl Default for Retention {
    /// Half a year, 2 GiB (about half a million reviews), and 90 days of metrics.
    fn default() -> Self {
        Self { unused_days: 180, fact_bytes: 2 << 30, metric_days: 90 }
    }
}

impl SqliteStore {
    /// Lets go what the retention rule does not keep, as of `now`, and gives the freed pages back to the disk.
    pub async fn prune(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        let unused_before = now.unix_timestamp() - i64::from(self.retention.unused_days) * 24 * 3600;
        let mut transaction = self.write().await?;
        for rule in [
            "DELETE FROM facts WHERE last_used < ?1",
            "DELETE FROM last_results WHERE updated_at < ?1",
            "DELETE FROM representatives WHERE updated_at < ?1",
            "DELETE FROM aspect_counts WHERE reader IN
                 (SELECT reader FROM aspect_counts GROUP BY reader HAVING max(updated_at) < ?1)",
        ] {
            let query = sqlx::query(rule).bind(unused_before);
            transaction.execute(query).await.map_err(|error| self.explain(error))?;
        }
        // Newest first, with the sum so far: what lies beyond the bound goes. Read from the index alone.
        let over = sqlx::query(
            "DELETE FROM facts WHERE rowid IN
                 (SELECT rowid FROM
                     (SELECT rowid, sum(bytes) OVER (ORDER BY last_used DESC, rowid DESC) AS so_far FROM facts)
                  WHERE so_far > ?)",
        )
        .bind(integer(self.retention.fact_bytes));
        transaction.execute(over).await.map_err(|error| self.explain(error))?;

        let metrics_before = utc_text(now - time::Duration::days(i64::from(self.retention.metric_days)));
        for rule in [
            "DELETE FROM llm_metrics WHERE created_at < ?",
            "DELETE FROM analysis_metrics WHERE created_at < ?",
            "DELETE FROM job_metrics WHERE created_at < ?",
            "DELETE FROM gpu_samples WHERE sampled_at < ?",
            "DELETE FROM dead_letters WHERE created_at < ?",
            "DELETE FROM goodput_windows WHERE ended_at < ?",
            "DELETE FROM worker_ends WHERE ended_at < ?",
            // A worker that is still at work keeps the row of its start.
            "DELETE FROM workers WHERE started_at < ?1 AND NOT EXISTS
                 (SELECT 1 FROM goodput_windows g WHERE g.worker = workers.worker AND g.ended_at >= ?1)",
        ] {
            let query = sqlx::query(rule).bind(&metrics_before);
            transaction.execute(query).await.map_err(|error| self.explain(error))?;
        }
        self.commit(transaction).await?;
        // Each row of this pragma is a page given back, so it must be read to its end.
        sqlx::raw_sql("PRAGMA incremental_vacuum")
            .fetch_all(&self.writer)
            .await
            .map_err(|error| self.explain(error))?;
        Ok(())
    }
}
