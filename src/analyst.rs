//! One job to one result: everything between intake and publishing, the same for a file and for a fleet.
//!
//! ```text
//! earlier result ── unchanged? ──► repeat it
//!      │ no
//! select (scope = selected) ─► facts: known ones from the store, the others read ─► findings ─► claims ─► result
//! ```
//!
//! A store that fails costs time, not the job: what it would have known is computed.

mod assemble;
mod carry;
pub mod facts;
mod gather;
pub mod metrics;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::analysis::evidence;
use crate::analysis::reader::{Cost, LanguageReader, Reader, ReaderError, Ticket};
use crate::config::AnalysisSettings;
use crate::digest::text_digest;
use crate::engine::RequestError;
use crate::job::{Analysis, Job, Language, Review, Scope};
use crate::result::{AnalysisResult, ModelInfo, Outcome, Timings};
use crate::scheduler::{Arrival, Lane, Seconds};
use crate::store::{FactKey, FactStore, LastResult};
use crate::telemetry::JobSample;
use crate::text::language;

/// Works jobs with one reader and one store.
pub struct Analyst<S> {
    reader: Arc<Reader>,
    store: Arc<S>,
    settings: AnalysisSettings,
    worker: String,
}

/// A job's place among the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// How urgent it is.
    pub lane: Lane,
    /// When it arrived, on the engine's clock: its place in the heap goes by that.
    pub arrived: Duration,
    /// How long it had waited elsewhere before, in the queue of the fleet. It may be longer than the engine lives.
    pub waited: Duration,
}

impl Place {
    /// From where the job began to wait to `at`, on the engine's clock: what its reader waits for.
    pub fn since(&self, at: Duration) -> Duration {
        self.waited + at.saturating_sub(self.arrived)
    }
}

/// What working a job gave.
#[derive(Debug)]
pub struct Worked {
    /// To be published.
    pub result: AnalysisResult,
    /// What it cost, request by request.
    pub cost: Cost,
    /// Where the job came in.
    pub place: Place,
    /// When the result was complete, on the engine's clock.
    pub finished: Duration,
}

impl Worked {
    /// How the job fared against a service level, once its result is known.
    pub fn sample(&self) -> JobSample {
        JobSample {
            finished_at: self.finished,
            ttft: self.cost.first_output().map(|at| self.place.since(at)),
            tokens: self.result.usage.worked_tokens(),
            ok: !matches!(self.result.outcome, Outcome::Failed { .. }),
        }
    }
}

/// A job's settings: its own options over the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    scope: Scope,
    top_k: usize,
    words: bool,
}

impl<S: FactStore> Analyst<S> {
    /// An analyst that signs its results as `worker`.
    pub fn new(reader: Arc<Reader>, store: Arc<S>, settings: AnalysisSettings, worker: String) -> Self {
        Self { reader, store, settings, worker }
    }

    /// The reader it works with.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The place of a live job that arrives now.
    pub fn place(&self) -> Place {
        Place { lane: Lane::Live, arrived: self.reader.engine().now(), waited: Duration::ZERO }
    }

    /// Works the job. Dropping the future cancels what the engine still has of it.
    pub async fn work(&self, job: &Job, place: Place) -> Worked {
        let mut cost = Cost::default();
        let spoken = self.language_of(job);
        let mut result = match self.reader.language(spoken).await {
            Ok(reader) => self.work_in(job, spoken, reader, place, &mut cost).await,
            Err(error) => self.failed(job, &error),
        };
        let finished = self.reader.engine().now();
        let since = |at: Duration| place.since(at).as_secs_f64() * 1e3;
        result.usage.add(&cost.usage);
        result.timings = Timings {
            queue_ms: cost.first_admission().map_or(0.0, since),
            ttft_ms: cost.first_output().map(since),
            total_ms: since(finished),
        };
        Worked { result, cost, place, finished }
    }

    /// Seconds that reading those of the job's reviews will take which are not known yet: what its place in a queue
    /// goes by.
    pub async fn price(&self, job: &Job) -> Seconds {
        let Ok(reader) = self.reader.language(self.language_of(job)).await else { return Seconds::ZERO };
        let key = |review: &Review| facts::key(reader, &review.text);
        let keys: Vec<FactKey> = job.reviews.iter().map(key).collect();
        // A store that does not answer knows nothing; the job then only seems dearer than it is.
        let known = self.store.known_many(&keys).await.unwrap_or_else(|_| vec![false; keys.len()]);
        let unknown = job.reviews.iter().zip(known).filter(|(_, known)| !known);
        let tokens = self.reader.cost_of(reader, unknown.map(|(review, _)| review.text.as_str()));
        Seconds::new(self.reader.engine().estimate(tokens))
    }

    fn language_of(&self, job: &Job) -> Language {
        job.language
            .or(self.settings.language)
            .unwrap_or_else(|| language::detect(job.reviews.iter().map(|review| review.text.as_str())))
    }

    async fn work_in(
        &self,
        job: &Job,
        spoken: Language,
        reader: &LanguageReader,
        place: Place,
        cost: &mut Cost,
    ) -> AnalysisResult {
        let asked = Asked {
            scope: job.options.scope.unwrap_or(self.settings.scope),
            top_k: job.options.top_k.unwrap_or(self.settings.top_k),
            words: job.options.words.unwrap_or(self.settings.words),
        };
        let identity = self.identity(reader, asked);
        let mut result = self.blank(job, spoken, Some(reader));
        let last = self.last_result(&job.restaurant_id, &identity).await;
        if let Some(last) = &last
            && carry::is_same(last, job, &result.review_set_digest)
        {
            return carry::unchanged(last, job, result);
        }
        let ticket = ticket(job, place);
        let gathered = self.gather(job, reader, asked, ticket, cost).await;
        self.assemble(job, reader, asked, &gathered, last.as_ref(), ticket, cost, &mut result).await;
        refuse_violations(job, &mut result);
        result.outcome = worst(&result.outcomes);
        self.remember(identity, &result).await;
        result
    }

    /// Everything that a result depends on besides the reviews.
    fn identity(&self, reader: &LanguageReader, asked: Asked) -> String {
        let settings = &self.settings;
        text_digest(&format!(
            "result-2 {} {} {:?} {:?} {:?} {:?} {} {}",
            reader.reader,
            reader.pack.digest,
            asked,
            settings.label_from,
            settings.review,
            settings.clause_margin,
            settings.min_support,
            settings.max_strengths
        ))
    }

    async fn last_result(&self, restaurant: &str, identity: &str) -> Option<AnalysisResult> {
        match self.store.last_result(restaurant).await {
            Ok(last) => last.filter(|last| last.reader == identity).map(|last| last.result),
            Err(error) => {
                error.tell("earlier result unknown");
                None
            }
        }
    }

    /// Keeps a result that stands; one with failures or gaps must not be repeated as if it were whole.
    async fn remember(&self, identity: String, result: &AnalysisResult) {
        if result.outcomes.values().all(|outcome| matches!(outcome, Outcome::Ok | Outcome::NoData)) {
            let last = LastResult { reader: identity, result: result.clone() };
            if let Err(error) = self.store.put_last_result(last).await {
                error.tell("result not kept for the next time");
            }
        }
    }

    /// A result without findings.
    fn blank(&self, job: &Job, spoken: Language, reader: Option<&LanguageReader>) -> AnalysisResult {
        let model = self.reader.model();
        let model = ModelInfo {
            name: model.name.clone(),
            digest: model.digest.clone(),
            embedding_name: reader.map(|reader| reader.embedder.name.clone()).unwrap_or_default(),
            embedding_digest: reader.map(|reader| reader.embedder.digest.clone()).unwrap_or_default(),
            prompt_version: reader.map(|reader| reader.pack.digest.clone()).unwrap_or_default(),
        };
        AnalysisResult::without_findings(job, &self.worker, model, spoken)
    }

    /// The result of a job that was not worked: the same outcome for all that was asked.
    pub fn unworked(&self, job: &Job, outcome: &Outcome) -> AnalysisResult {
        self.blank(job, self.language_of(job), None).unworked(job, outcome)
    }

    fn failed(&self, job: &Job, error: &ReaderError) -> AnalysisResult {
        let code = match error {
            ReaderError::NoEmbedder(_) => "language_not_available",
            _ => "language_not_ready",
        };
        self.unworked(job, &Outcome::Failed { code: code.into(), message: error.to_string() })
    }
}

/// The job's place. Each stage adds its own cost, once it is known what of it is cached.
fn ticket(job: &Job, Place { lane, arrived, .. }: Place) -> Ticket {
    let left = job.deadline.map(|at| Duration::try_from(at - OffsetDateTime::now_utc()).unwrap_or_default());
    Ticket {
        arrival: Arrival { at: Seconds::from(arrived), cost: Seconds::ZERO, lane },
        deadline: left.map(|left| arrived + left),
    }
}

/// The last line of defence: findings with a quote that is not in its review are not published.
fn refuse_violations(job: &Job, result: &mut AnalysisResult) {
    let texts: HashMap<&str, &str> =
        job.reviews.iter().map(|review| (review.id.as_str(), review.text.as_str())).collect();
    let Some(violation) = evidence::verify(result, &texts).into_iter().next() else { return };
    tracing::error!(job = job.job_id, %violation, "findings withheld");
    let outcome = Outcome::Failed { code: "evidence".into(), message: violation.to_string() };
    result.summary = None;
    result.strengths = None;
    for analysis in [Analysis::Summary, Analysis::Strengths] {
        result.outcomes.entry(analysis).and_modify(|current| current.clone_from(&outcome));
    }
}

/// The outcome of a job: that of its least fortunate analysis.
fn worst(outcomes: &BTreeMap<Analysis, Outcome>) -> Outcome {
    let rank = |outcome: &&Outcome| match outcome {
        Outcome::Failed { .. } => 5,
        Outcome::Stale => 4,
        Outcome::Partial { .. } => 3,
        Outcome::Ok => 2,
        Outcome::Unchanged => 1,
        Outcome::NoData => 0,
    };
    outcomes.values().max_by_key(rank).cloned().unwrap_or(Outcome::NoData)
}

/// The stable code of an engine error.
fn code(error: &RequestError) -> &'static str {
    match error {
        RequestError::TooLarge { .. } => "too_large",
        RequestError::Malformed(_) => "malformed_request",
        RequestError::DeadlineExceeded => "deadline_exceeded",
        RequestError::Cancelled => "cancelled",
        RequestError::Backend(_) => "model_failure",
        RequestError::Stalled => "engine_stalled",
        RequestError::Stopped => "engine_stopped",
    }
}
