//! What a worker tells of a job once its result is in its stream: one line of the log, and what everybody tells.
//!
//! None of it waits, none of it can fail the job, and none of it holds a review's text.

use std::time::Duration;

use time::OffsetDateTime;

use super::intake::Taken;
use crate::analysis::reader::Cost;
use crate::broker::names;
use crate::result::AnalysisResult;
use crate::telemetry::Account;
use crate::telemetry::spans::{Anchor, Interval, JobTimeline, Queued};

/// A job that has its result. Times are on the engine's clock.
pub(super) struct Settled<'a> {
    pub taken: &'a Taken,
    pub result: &'a AnalysisResult,
    /// What working it cost; nothing if it was ended without work.
    pub cost: Option<&'a Cost>,
    /// When its run began.
    pub begun: Duration,
    /// When its result was published.
    pub published: Interval,
}

impl Settled<'_> {
    /// Tells of the job. `now` is the same moment on both clocks.
    pub(super) fn tell(&self, account: &Account, now: Anchor) {
        log(self);
        let (taken, letter) = (self.taken, &self.taken.letter);
        account.settled(
            &JobTimeline {
                place: taken.trace,
                parent: taken.parent(),
                queued: Some(Queued {
                    lane: letter.origin.lane,
                    delivered: letter.delivered,
                    stream: names::RESULTS_STREAM,
                }),
                arrived: taken.place.arrived,
                begun: self.begun,
                selected: self.cost.and_then(|cost| cost.selected).map(Interval::from),
                requests: self.cost.map_or(&[][..], |cost| &cost.requests),
                published: self.published,
                result: self.result,
            },
            now,
        );
    }
}

/// The one line of a job that is done: all times, in milliseconds from its arrival, and all counts.
fn log(job: &Settled<'_>) {
    let (taken, result) = (job.taken, job.result);
    let (usage, timings) = (&result.usage, &result.timings);
    let since_publishing = OffsetDateTime::now_utc() - taken.letter.published_at;
    tracing::info!(
        job = taken.job.job_id,
        restaurant = taken.job.restaurant_id,
        epoch = taken.job.epoch,
        lane = %taken.letter.origin.lane,
        backfill = taken.letter.origin.backfill_id(),
        outcome = result.outcome.status(),
        model = result.model.name,
        reviews = taken.job.reviews.len(),
        read = usage.reviews_read,
        cached = usage.reviews_cached,
        requests = usage.requests,
        prompt_tokens = usage.prompt_tokens,
        reused_tokens = usage.reused_tokens,
        forced_tokens = usage.forced_tokens,
        generated_tokens = usage.generated_tokens,
        baseline_tokens = usage.baseline_tokens,
        embedded_texts = usage.embedded_texts,
        claims_written = usage.claims_written,
        claims_kept = usage.claims_kept,
        delivered = taken.letter.delivered,
        held_ms = ms(job.begun.saturating_sub(taken.place.arrived)),
        queue_ms = timings.queue_ms,
        ttft_ms = timings.ttft_ms,
        total_ms = timings.total_ms,
        publish_ms = ms(job.published.length()),
        // By two machines' clocks: from the server's receipt of the job.
        end_to_end_ms = since_publishing.as_seconds_f64() * 1e3,
        trace = %taken.trace,
        "settled"
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
