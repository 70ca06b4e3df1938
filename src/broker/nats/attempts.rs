//! What is known of earlier tries of a job, kept where every worker that can take the job can read it.
//!
//! A mark is set before a job runs and taken away when the run ends, however it ends. A mark that is still set when
//! the job comes again tells that the process died with the job running: the job may have killed it. Failures of
//! passing reasons are counted here too, by ourselves: the server's count of deliveries also counts drains, outages
//! and the crashes that other jobs caused.
//!
//! The bucket lies on the server's disk. In its memory it would be cheaper, but a single server forgets such a stream
//! altogether when it is killed, and workers would find it missing and take no more jobs.

use async_nats::jetstream::kv::Store;
use serde::{Deserialize, Serialize};

use super::{Broker, BrokerError};
use crate::broker::names;

/// What is known of the earlier tries of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempts {
    /// A run has begun and not ended.
    pub running: bool,
    /// That run is, or was, alone on its worker.
    pub alone: bool,
    /// Which worker runs it.
    pub worker: String,
    /// Runs that never ended.
    pub crashes: u32,
    /// Of those, runs alone.
    pub crashes_alone: u32,
    /// Runs that failed for a passing reason.
    pub failures: u32,
}

impl Attempts {
    /// As a worker that was given the job must see them: a run that has not ended counts as a crash.
    #[must_use]
    pub fn seen_at_delivery(mut self) -> Self {
        if self.running {
            self.crashes += 1;
            self.crashes_alone += u32::from(self.alone);
            self.running = false;
        }
        self
    }
}

/// The bucket.
#[derive(Clone)]
pub struct AttemptLog {
    bucket: Store,
}

/// A mark that is set; needed to take it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Broker {
    /// Opens the bucket.
    pub async fn attempts(&self) -> Result<AttemptLog, BrokerError> {
        let found = self.jetstream.get_key_value(names::ATTEMPTS_BUCKET).await;
        let missing = |_| BrokerError::Missing { what: format!("bucket {}", names::ATTEMPTS_BUCKET) };
        found.map(|bucket| AttemptLog { bucket }).map_err(missing)
    }
}

impl AttemptLog {
    /// What is known of a job, by the identity of its result.
    pub async fn of(&self, result_id: &str) -> Result<Attempts, BrokerError> {
        let entry = self.bucket.get(names::job_token(result_id)).await;
        let entry = entry.map_err(|cause| failed("reading attempts", cause))?;
        // An entry that cannot be read is from another version: nothing is known then.
        Ok(entry.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Sets the mark. When this returns, a crash will be known.
    pub async fn begin(
        &self,
        result_id: &str,
        worker: &str,
        alone: bool,
        earlier: &Attempts,
    ) -> Result<Mark, BrokerError> {
        let mark = Attempts { running: true, alone, worker: worker.to_owned(), ..earlier.clone() };
        self.put(result_id, &mark).await
    }

    /// Takes the mark away: the run has ended and nothing needs to be remembered. The message is deleted, not the
    /// key, because a deleted key leaves a tombstone for each job.
    pub async fn end(&self, Mark(revision): Mark) -> Result<(), BrokerError> {
        let deleted = self.bucket.stream.delete_message(revision).await;
        deleted.map(drop).map_err(|cause| failed("clearing attempts", cause))
    }

    /// Replaces the mark by what must be remembered of earlier tries.
    pub async fn remember(&self, result_id: &str, attempts: &Attempts) -> Result<(), BrokerError> {
        let kept = Attempts { running: false, alone: false, ..attempts.clone() };
        self.put(result_id, &kept).await.map(drop)
    }

    async fn put(&self, result_id: &str, attempts: &Attempts) -> Result<Mark, BrokerError> {
        let body = serde_json::to_vec(attempts).map_err(|cause| failed("encoding attempts", cause))?;
        let put = self.bucket.put(names::job_token(result_id), body.into()).await;
        put.map(Mark).map_err(|cause| failed("writing attempts", cause))
    }
}

fn failed(what: &'static str, cause: impl std::error::Error + Send + Sync + 'static) -> BrokerError {
    BrokerError::Request { what, cause: Box::new(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_never_ended_counts_as_a_crash_and_only_once() {
        let marked = Attempts { running: true, alone: true, crashes: 1, ..Attempts::default() };
        let seen = marked.seen_at_delivery();
        assert_eq!((seen.crashes, seen.crashes_alone), (2, 1));
        assert_eq!(seen.clone().seen_at_delivery(), seen);
    }
}
