//! What is told of a job once it has its result, wherever it came from: the metrics, and the spans of its trace.
//!
//! None of it waits, none of it can fail the job, and none of it holds a review's text.

use super::instruments::{Instruments, JobRecord, Operation};
use super::running::Telemetry;
use super::spans::{self, Anchor, JobTimeline, Traces};

/// Where it is told. Cheap to clone; one that is off does nothing.
#[derive(Clone, Default)]
pub struct Account {
    instruments: Instruments,
    traces: Traces,
}

impl Account {
    /// That of this process.
    pub fn of(telemetry: &Telemetry) -> Self {
        Self { instruments: telemetry.instruments(), traces: telemetry.traces() }
    }

    /// Whether anybody listens; if not, nothing need be made up for a job.
    pub const fn is_on(&self) -> bool {
        self.instruments.is_on() || self.traces.is_on()
    }

    /// Tells of a job. `now` is the same moment on both clocks.
    pub fn settled(&self, job: &JobTimeline<'_>, now: Anchor) {
        if let Some(queued) = job.queued {
            self.instruments.sent(queued.stream);
            self.instruments.operation(Operation::Publish, queued.stream, job.published.length());
        }
        let (result, requests) = (job.result, job.requests);
        let run = job.published.to.saturating_sub(job.begun);
        self.instruments.job_settled(&JobRecord {
            lane: job.queued.map(|queued| queued.lane),
            result,
            requests,
            run,
        });
        if self.traces.is_on() && job.place.is_sampled() {
            self.traces.offer(spans::job(job, now, &mut fastrand::Rng::new()));
        }
    }
}
