//! Cancelling a job: at the worker that holds it, else in the queue.
//!
//! A job that is taken out of the queue still ends as exactly one result, `failed` with the code `cancelled`. That
//! result is published *before* the job is deleted: if this process dies between the two, or a worker takes the job
//! in this very moment, the worker's own result has the same message id and the server drops it. The other order
//! could lose a job. What remains: outside of the stream's duplicate window (an hour at least) the server does not
//! remember ids, so a job that ended longer ago is looked for among the latest results instead; a restaurant that
//! has a newer result by then hides it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::DeliverPolicy;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::payload::{PayloadError, SendError, failed};
use super::results::not_info;
use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::wire::{self, Decoded, Message};
use crate::job::{Job, Language, Limits};
use crate::result::{AnalysisResult, ModelInfo, Outcome};
use crate::scheduler::Lane;
use crate::telemetry::TraceContext;

/// The code of a result whose job was cancelled.
pub const CANCELLED: &str = "cancelled";

/// What a worker is asked, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The job.
    pub job_id: String,
}

/// What the worker that holds the job answers, as JSON; the others are silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelReply {
    /// How far the job had come.
    pub state: Held,
}

/// How far a job has come at its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// It waits there.
    Queued,
    /// It runs.
    Running,
}

/// What became of the wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// A worker holds the job, and ends it with a result of its own.
    AtWorker(Held),
    /// It was in the queue and is no more; its result says so.
    InQueue {
        /// Its lane.
        lane: Lane,
        /// Its sequence in the stream.
        sequence: u64,
    },
    /// It has its result already.
    HasResult,
    /// No worker holds it, and it is not among the jobs that wait.
    NotFound {
        /// How many were looked at.
        looked_at: u64,
    },
}

/// Why it is not known what became of the wish.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The servers could not be asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The result could not be published; the job was left as it is.
    #[error("{0}; the job was left as it is")]
    Send(#[from] SendError),
    /// The restaurant's latest result cannot be read.
    #[error(transparent)]
    Result(#[from] PayloadError),
}

/// A job that waits in the stream.
struct Waiting {
    sequence: u64,
    lane: Lane,
    decoded: Decoded,
    traceparent: Option<String>,
}

impl Broker {
    /// Cancels the job, wherever it is. Workers have `patience` to answer. Looking through the queue reads every job
    /// that waits, or those of `restaurant` if it is given: that is what it costs.
    pub async fn cancel(
        &self,
        job_id: &str,
        restaurant: Option<&str>,
        limits: &Limits,
        patience: Duration,
    ) -> Result<Cancelled, CancelError> {
        if let Some(held) = self.ask_workers(job_id, patience).await? {
            return Ok(Cancelled::AtWorker(held));
        }
        let (waiting, looked_at) = self.find_waiting(job_id, restaurant, limits).await?;
        let Some(first) = waiting.first() else { return Ok(Cancelled::NotFound { looked_at }) };
        if self.has_result(&first.decoded.job).await? {
            return Ok(Cancelled::HasResult);
        }
        let (sequence, lane) = (first.sequence, first.lane);
        let job = self.whole(&first.decoded.job, limits).await;
        let trace = TraceContext::following(first.traceparent.as_deref(), &mut fastrand::Rng::new());
        let published = self.publish_result(&cancelled(&job), first.decoded.encoding, trace, None).await?;
        if published.duplicate {
            return Ok(Cancelled::HasResult);
        }
        let stream = self.existing_stream(names::JOBS_STREAM).await?;
        for Waiting { sequence, .. } in &waiting {
            stream.delete_message(*sequence).await.map_err(failed("cannot take the job out of the queue"))?;
        }
        Ok(Cancelled::InQueue { lane, sequence })
    }

    /// Asks whoever holds the job to end it; `None` if nobody says that he does.
    async fn ask_workers(&self, job_id: &str, patience: Duration) -> Result<Option<Held>, BrokerError> {
        let question = CancelRequest { job_id: job_id.to_owned() };
        let question = serde_json::to_vec(&question).map_err(failed("cannot ask the workers"))?;
        let request = async_nats::Request::new().payload(question.into()).timeout(Some(patience));
        match self.client.send_request(names::cancel_subject(job_id), request).await {
            Ok(reply) => {
                let reply: CancelReply = serde_json::from_slice(&reply.payload)
                    .map_err(failed("a worker's answer cannot be read"))?;
                Ok(Some(reply.state))
            }
            Err(error)
                if matches!(error.kind(), RequestErrorKind::NoResponders | RequestErrorKind::TimedOut) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed("cannot ask the workers")(error)),
        }
    }

    /// The messages of the job behind the point up to which all jobs are settled; and how many were looked at. Some
    /// of them may be settled too: the stream does not tell.
    async fn find_waiting(
        &self,
        job_id: &str,
        restaurant: Option<&str>,
        limits: &Limits,
    ) -> Result<(Vec<Waiting>, u64), BrokerError> {
        let floors = self.settled_up_to().await?;
        let Some(lowest) = floors.values().min() else { return Ok((Vec::new(), 0)) };
        let filter = restaurant.map_or(names::JOBS_SUBJECTS.to_owned(), |id| format!("jobs.analysis.*.{id}"));
        let from = DeliverPolicy::ByStartSequence { start_sequence: lowest + 1 };
        let (mut messages, there) = self.read(names::JOBS_STREAM, filter, from).await?;
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while looked_at < there {
            let Some(message) = messages.next().await else { break };
            let message = message.map_err(failed("cannot read the queue"))?;
            let info = message.info().map_err(not_info)?;
            let (sequence, behind) = (info.stream_sequence, info.pending);
            looked_at += 1;
            let lane = names::lane_of(&message.subject);
            let waits = lane.filter(|lane| floors.get(lane.name()).is_some_and(|floor| sequence > *floor));
            if let Some(lane) = waits {
                let header = |name| message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str);
                let content_type = header(names::CONTENT_TYPE);
                let read = Message { subject: &message.subject, content_type, body: &message.payload };
                // What is no job has no id to be cancelled by.
                if let Some(decoded) =
                    wire::decode_job(read, limits).ok().filter(|it| it.job.job_id == job_id)
                {
                    let traceparent = header(names::TRACEPARENT).map(str::to_owned);
                    found.push(Waiting { sequence, lane, decoded, traceparent });
                }
            }
            if behind == 0 {
                break;
            }
        }
        Ok((found, looked_at))
    }

    /// For each lane the sequence up to which all its jobs are settled.
    async fn settled_up_to(&self) -> Result<BTreeMap<&'static str, u64>, BrokerError> {
        let stream = self.existing_stream(names::JOBS_STREAM).await?;
        let mut floors = BTreeMap::new();
        for lane in Lane::ALL {
            let consumer = names::lane_consumer(lane);
            let about = stream
                .consumer_info(&consumer)
                .await
                .map_err(|_| BrokerError::Missing { what: format!("the consumer {consumer}") })?;
            floors.insert(lane.name(), about.ack_floor.stream_sequence);
        }
        Ok(floors)
    }

    async fn has_result(&self, job: &Job) -> Result<bool, PayloadError> {
        let latest = self.latest_result(&job.restaurant_id).await?;
        Ok(latest.is_some_and(|found| found.backfill.is_none() && found.result.job_id == job.job_id))
    }

    /// The job with its reviews, for their digest; without them if they are not to be had, because a job can be
    /// cancelled all the same.
    async fn whole(&self, job: &Job, limits: &Limits) -> Job {
        match self.with_reviews(job.clone(), limits).await {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(job = job.job_id, %error, "the reviews of a cancelled job are not known");
                job.clone()
            }
        }
    }
}

/// The result of a job that no model has seen.
pub fn cancelled(job: &Job) -> AnalysisResult {
    let outcome = Outcome::Failed {
        code: CANCELLED.to_owned(),
        message:
            "taken out of the queue before it was worked; submit it with a newer epoch to have it after all"
                .to_owned(),
    };
    let nothing = "0".repeat(64);
    let model = ModelInfo {
        name: "none".to_owned(),
        digest: nothing.clone(),
        embedding_name: "none".to_owned(),
        embedding_digest: nothing,
        prompt_version: "none".to_owned(),
    };
    let language = job.language.unwrap_or(Language::En);
    AnalysisResult::without_findings(job, "none", model, language).unworked(job, &outcome)
}
