//! What is recorded of the work: rows, and the trait of their homes.
//!
//! Rows are built from what was measured (instants on a monotonic clock, exact token counts); every derived column is
//! computed here, by one formula, so that no row contradicts itself. Dates are UTC. What was not measured is absent,
//! never zero.

mod job;
mod request;
pub(super) mod tables;
mod worker;

use std::future::Future;
use std::time::Duration;

use time::OffsetDateTime;

pub use self::job::{AnalysisMetric, JobMetric, JobStamps};
pub use self::request::{RequestKind, RequestMetric, RequestTimes};
pub use self::worker::{DeadLetterRow, GoodputWindow, GpuSampleRow, WorkerEnd, WorkerStart};
use super::StoreError;

/// One row of any table.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricRow {
    /// `llm_metrics`.
    Request(RequestMetric),
    /// `analysis_metrics`.
    Analysis(AnalysisMetric),
    /// `goodput_windows`.
    Goodput(GoodputWindow),
    /// `workers`.
    Worker(WorkerStart),
    /// `worker_ends`.
    WorkerEnd(WorkerEnd),
    /// `job_metrics`.
    Job(JobMetric),
    /// `gpu_samples`.
    Gpu(GpuSampleRow),
    /// `dead_letters`.
    DeadLetter(DeadLetterRow),
}

/// Home of metrics.
pub trait MetricStore: Send + Sync + 'static {
    /// Writes all rows or none. A row that is there already is left as it is, so that a batch whose outcome is
    /// unknown can be written again.
    fn record(&self, rows: &[MetricRow]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A date as SQLite keeps it: UTC, RFC 3339, milliseconds, of one width so that text order is time order.
pub(super) fn utc_text(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond(),
    )
}

/// A duration as every store keeps it.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::job::Analysis;
    use crate::result::{Outcome, Usage};
    use crate::scheduler::Lane;
    use crate::telemetry::{TtftQuantiles, Window};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub(in crate::store) fn request(id: &str) -> RequestMetric {
        RequestMetric {
            request_id: id.into(),
            job_id: "j-1".into(),
            result_id: "j-1".into(),
            restaurant_id: "r-1".into(),
            worker: "w-1".into(),
            lane: Some(Lane::Hi),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            analysis: "summary".into(),
            kind: RequestKind::Generation,
            model: "m".into(),
            received: ms(70_000),
            times: RequestTimes { admitted: Some(ms(100)), first: Some(ms(350)), finished: ms(1350) },
            prompt_tokens: 60,
            cached_tokens: 200,
            forced_tokens: 4,
            generated_tokens: 11,
            outcome: "ok".into(),
            created_at: datetime!(2026-01-31 09:30:00.25 UTC),
        }
    }

    pub(in crate::store) fn analysis(job: &str, analysis: Analysis, outcome: Outcome) -> AnalysisMetric {
        AnalysisMetric {
            job_id: job.into(),
            result_id: job.into(),
            restaurant_id: "r-1".into(),
            worker: "w-1".into(),
            lane: None,
            trace_id: None,
            analysis,
            outcome,
            model: "m".into(),
            prompt_version: "p".into(),
            processing: ms(800),
            queue: ms(200),
            ttft: Some(ms(450)),
            usage: Usage {
                reviews: 20,
                reviews_read: 5,
                reviews_cached: 15,
                prompt_tokens: 90,
                reused_tokens: 700,
                forced_tokens: 4,
                generated_tokens: 6,
                baseline_tokens: 1000,
                ..Usage::default()
            },
            error_count: 2,
            warning_count: 1,
            created_at: datetime!(2026-01-31 18:30:00 +9),
        }
    }

    pub(in crate::store) fn job(id: &str, outcome: Outcome) -> JobMetric {
        JobMetric {
            job_id: id.into(),
            result_id: id.into(),
            restaurant_id: "r-1".into(),
            worker: "w-1".into(),
            lane: Some(Lane::Live),
            trace_id: None,
            outcome,
            model: "m".into(),
            prompt_version: "p".into(),
            device: "cpu".into(),
            config: "c".into(),
            deliveries: Some(1),
            stamps: JobStamps {
                waited: Duration::ZERO,
                received: ms(70_000),
                admitted: Some(ms(70_100)),
                first_token: Some(ms(70_350)),
                prefilled: Some(ms(71_000)),
                published: ms(71_400),
            },
            within_sla: Some(true),
            usage: Usage {
                reviews: 20,
                reviews_read: 5,
                reviews_cached: 15,
                requests: 9,
                prompt_tokens: 90,
                reused_tokens: 700,
                forced_tokens: 4,
                generated_tokens: 6,
                baseline_tokens: 1000,
                embedded_texts: 12,
                claims_written: 3,
                claims_kept: 2,
            },
            created_at: datetime!(2026-01-31 18:30:00 +9),
        }
    }

    pub(in crate::store) fn gpu() -> GpuSampleRow {
        GpuSampleRow {
            worker: "w-1".into(),
            device: 1,
            name: "A GPU".into(),
            utilization: Some(0.5),
            memory_used_bytes: Some(1 << 30),
            memory_total_bytes: Some(4 << 30),
            power_watts: None,
            temperature_celsius: Some(61.0),
            sampled_at: datetime!(2026-01-31 09:30:00.25 UTC),
        }
    }

    pub(in crate::store) fn dead_letter() -> DeadLetterRow {
        DeadLetterRow {
            job_id: Some("j-9".into()),
            restaurant_id: None,
            worker: "w-1".into(),
            lane: Lane::Hi,
            reason: "poison".into(),
            sequence: 7,
            deliveries: 3,
            created_at: datetime!(2026-01-31 09:30:00 UTC),
        }
    }

    pub(in crate::store) fn goodput() -> GoodputWindow {
        let ttft = Some(TtftQuantiles { p50: ms(300), p95: ms(1500), max: ms(2500) });
        GoodputWindow {
            worker: "w-1".into(),
            ended_at: datetime!(2026-01-31 09:31:00 UTC),
            window: Window {
                from: ms(5000),
                to: ms(15_000),
                jobs: 4,
                jobs_met: 3,
                tokens: 900,
                tokens_met: 600,
                ttft,
            },
            busy: Some(ms(4000)),
        }
    }

    pub(in crate::store) fn worker_start() -> WorkerStart {
        WorkerStart {
            worker: "w-1".into(),
            version: "0.1.0".into(),
            model: "m".into(),
            device: "cpu".into(),
            slots: 8,
            sequences: 16,
            config: "c".into(),
            sla: ms(2000),
            started_at: datetime!(2026-01-31 09:00 UTC),
        }
    }

    pub(in crate::store) fn worker_end() -> WorkerEnd {
        let start = worker_start();
        WorkerEnd {
            worker: start.worker,
            started_at: start.started_at,
            ended_at: datetime!(2026-01-31 10:00 UTC),
            ending: "drained",
        }
    }

    /// A row of each table.
    pub(in crate::store) fn one_of_each() -> Vec<MetricRow> {
        vec![
            MetricRow::Request(request("q")),
            MetricRow::Analysis(analysis("j", Analysis::Summary, Outcome::Ok)),
            MetricRow::Goodput(goodput()),
            MetricRow::Worker(worker_start()),
            MetricRow::WorkerEnd(worker_end()),
            MetricRow::Job(job("j", Outcome::Ok)),
            MetricRow::Gpu(gpu()),
            MetricRow::DeadLetter(dead_letter()),
        ]
    }

    #[test]
    fn the_parts_of_a_request_add_up_and_the_first_token_includes_the_queue() {
        let times = request("q").times;
        let parts = times.queue() + times.prefill().unwrap() + times.decode().unwrap();
        assert_eq!(parts, times.finished);
        assert_eq!(times.ttft(), Some(times.queue() + times.prefill().unwrap()));
    }

    #[test]
    fn a_request_that_was_never_admitted_only_queued() {
        let times = RequestTimes { admitted: None, first: None, finished: ms(70) };
        assert_eq!(
            (times.queue(), times.prefill(), times.decode(), times.ttft()),
            (ms(70), None, None, None)
        );
        assert_eq!(RequestMetric { times, ..request("q") }.tps(), None);
    }

    #[test]
    fn the_time_per_output_token_leaves_the_first_one_out() {
        assert_eq!(request("q").tpot(), Some(ms(100)));
        for generated_tokens in [0, 1] {
            assert_eq!(RequestMetric { generated_tokens, ..request("q") }.tpot(), None);
        }
    }

    #[test]
    fn tokens_per_second_count_what_was_computed_while_it_was_worked() {
        assert_eq!(request("q").tps(), Some(75.0 / 1.25));
    }

    #[test]
    fn a_jobs_spans_are_differences_of_its_stamps() {
        let stamps = job("j", Outcome::Ok).stamps;
        assert_eq!((stamps.queue(), stamps.ttft(), stamps.total()), (Some(ms(100)), Some(ms(350)), ms(1400)));
        let unasked = JobStamps { admitted: None, first_token: None, prefilled: None, ..stamps };
        assert_eq!((unasked.queue(), unasked.ttft(), unasked.total()), (None, None, ms(1400)));
    }

    #[test]
    fn what_a_job_waited_in_the_queue_counts_and_may_be_longer_than_its_worker_lives() {
        let stamps = JobStamps { waited: ms(90_000), ..job("j", Outcome::Ok).stamps };
        let told = (stamps.queue(), stamps.ttft(), stamps.total());
        assert_eq!(told, (Some(ms(90_100)), Some(ms(90_350)), ms(91_400)));
    }

    #[test]
    fn a_window_starts_its_length_before_its_end() {
        assert_eq!(goodput().started_at(), datetime!(2026-01-31 09:30:50 UTC));
    }

    #[test]
    fn dates_are_written_in_utc_and_one_width() {
        assert_eq!(utc_text(datetime!(2026-01-31 18:30:00 +9)), "2026-01-31T09:30:00.000Z");
        assert_eq!(utc_text(datetime!(2026-01-31 09:30:00.123_9 UTC)), "2026-01-31T09:30:00.123Z");
    }
}
