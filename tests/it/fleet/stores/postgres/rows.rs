//! Rows of each kind, as made by hand.

use std::time::Duration;

use maitred::job::Analysis;
use maitred::result::{Outcome, Usage};
use maitred::scheduler::Lane;
use maitred::store::metrics::{
    AnalysisMetric, DeadLetterRow, GoodputWindow, GpuSampleRow, JobMetric, JobStamps, MetricRow, RequestKind,
    RequestMetric, RequestTimes, WorkerEnd, WorkerStart,
};
use maitred::telemetry::{TtftQuantiles, Window};
use time::OffsetDateTime;
use time::macros::datetime;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn request(id: &str) -> MetricRow {
    MetricRow::Request(RequestMetric {
        request_id: id.into(),
        job_id: "j".into(),
        result_id: "j".into(),
        restaurant_id: "r".into(),
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
    })
}

pub(super) fn analysis(result: &str, lane: Option<Lane>, outcome: Outcome) -> MetricRow {
    MetricRow::Analysis(AnalysisMetric {
        job_id: "j".into(),
        result_id: result.into(),
        restaurant_id: "r".into(),
        worker: "w-1".into(),
        lane,
        trace_id: None,
        analysis: Analysis::Summary,
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
        // In the evening in Seoul, in the morning in UTC.
        created_at: datetime!(2026-01-31 18:30:00 +9),
    })
}

pub(super) fn goodput() -> MetricRow {
    let ttft = Some(TtftQuantiles { p50: ms(300), p95: ms(1500), max: ms(2500) });
    MetricRow::Goodput(GoodputWindow {
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
    })
}

pub(super) fn job(result: &str, restaurant: &str, created_at: OffsetDateTime) -> MetricRow {
    MetricRow::Job(JobMetric {
        job_id: "j".into(),
        result_id: result.into(),
        restaurant_id: restaurant.into(),
        worker: "w-1".into(),
        lane: Some(Lane::Live),
        trace_id: None,
        outcome: Outcome::Ok,
        model: "m".into(),
        prompt_version: "p".into(),
        device: "cpu".into(),
        config: "c".into(),
        deliveries: Some(2),
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
            prompt_tokens: 90,
            forced_tokens: 4,
            generated_tokens: 6,
            baseline_tokens: 1000,
            ..Usage::default()
        },
        created_at,
    })
}

pub(super) fn gpu(sampled_at: OffsetDateTime) -> MetricRow {
    MetricRow::Gpu(GpuSampleRow {
        worker: "w-1".into(),
        device: 1,
        name: "A GPU".into(),
        utilization: Some(0.5),
        memory_used_bytes: Some(1 << 30),
        memory_total_bytes: Some(4 << 30),
        power_watts: None,
        temperature_celsius: Some(61.0),
        sampled_at,
    })
}

pub(super) fn letter() -> MetricRow {
    MetricRow::DeadLetter(DeadLetterRow {
        job_id: Some("a\0b".into()),
        restaurant_id: None,
        worker: "w-1".into(),
        lane: Lane::Hi,
        reason: "poison".into(),
        sequence: 7,
        deliveries: 3,
        created_at: datetime!(2026-01-31 09:30:00 UTC),
    })
}

pub(super) fn end() -> MetricRow {
    MetricRow::WorkerEnd(WorkerEnd {
        worker: "w-1".into(),
        started_at: datetime!(2026-01-31 09:00 UTC),
        ended_at: datetime!(2026-01-31 10:00 UTC),
        ending: "drained",
    })
}

/// A row of each table, in January 2026.
pub(super) fn one_of_each() -> Vec<MetricRow> {
    let at = datetime!(2026-01-31 09:30:00.25 UTC);
    let summary = analysis("j", None, Outcome::Ok);
    vec![request("q"), summary, goodput(), worker(), end(), job("j", "r", at), gpu(at), letter()]
}

/// How many rows all tables have.
pub(super) const ROWS: &str = "
    SELECT (SELECT count(*) FROM llm_metrics) + (SELECT count(*) FROM analysis_metrics)
         + (SELECT count(*) FROM goodput_windows) + (SELECT count(*) FROM workers) + (SELECT count(*) FROM worker_ends)
         + (SELECT count(*) FROM job_metrics) + (SELECT count(*) FROM gpu_samples) + (SELECT count(*) FROM dead_letters)";

pub(super) fn worker() -> MetricRow {
    MetricRow::Worker(WorkerStart {
        worker: "w-1".into(),
        version: "0.1.0".into(),
        model: "m".into(),
        device: "cpu".into(),
        slots: 8,
        sequences: 16,
        config: "c".into(),
        sla: ms(2000),
        started_at: datetime!(2026-01-31 09:00 UTC),
    })
}
