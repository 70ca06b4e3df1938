//! Metrics over real files: columns, views, and their days.

use std::sync::Arc;

use sqlx::Row;
use time::macros::datetime;

use super::{block_on, count, folder};
use crate::job::Analysis;
use crate::report::Period;
use crate::result::Outcome;
use crate::scheduler::Lane;
use crate::store::metric_writer::{MetricWriter, WriterReport, WriterSettings};
use crate::store::metrics::tests::{
    analysis, dead_letter, goodput, gpu, job, one_of_each, request, worker_end,
};
use crate::store::metrics::{AnalysisMetric, GoodputWindow, MetricRow, MetricStore};
use crate::store::sqlite::SqliteStore;

/// Rows of all tables.
const ROWS: &str = "
    SELECT (SELECT count(*) FROM llm_metrics) + (SELECT count(*) FROM analysis_metrics)
         + (SELECT count(*) FROM goodput_windows) + (SELECT count(*) FROM workers) + (SELECT count(*) FROM worker_ends)
         + (SELECT count(*) FROM job_metrics) + (SELECT count(*) FROM gpu_samples)
         + (SELECT count(*) FROM dead_letters)";

#[test]
fn metrics_are_kept_for_their_days() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.record(&one_of_each()).await.unwrap();
        store.prune(datetime!(2026-05-01 09:00 UTC)).await.unwrap();
        assert_eq!(count(&store, ROWS).await, 8, "90 days after");
        store.prune(datetime!(2026-05-02 10:00 UTC)).await.unwrap();
        assert_eq!(count(&store, ROWS).await, 0);
    });
}

#[test]
fn a_worker_that_is_still_at_work_keeps_the_row_of_its_start() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let late = GoodputWindow { ended_at: datetime!(2026-05-02 09:00 UTC), ..goodput() };
        store.record(&one_of_each()).await.unwrap();
        store.record(&[MetricRow::Goodput(late)]).await.unwrap();
        store.prune(datetime!(2026-05-02 10:00 UTC)).await.unwrap();
        assert_eq!(count(&store, ROWS).await, 2, "its start and its window");
    });
}

#[test]
fn a_job_is_written_with_its_stamps_and_the_spans_between_them() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.record(&[MetricRow::Job(job("j", Outcome::Ok))]).await.unwrap();
        let row = sqlx::query("SELECT * FROM job_metrics").fetch_one(&store.readers).await.unwrap();
        let stamps = [
            "at_received_ms",
            "at_admitted_ms",
            "at_first_token_ms",
            "at_prefilled_ms",
            "at_published_ms",
            "queue_ms",
            "ttft_ms",
            "total_ms",
        ]
        .map(|column| row.get::<f64, _>(column).to_string());
        assert_eq!(stamps, ["70000", "70100", "70350", "71000", "71400", "100", "350", "1400"]);
        let counts = [
            "reviews",
            "reviews_read",
            "cache_hits",
            "embedded_texts",
            "requests",
            "prompt_tokens",
            "cached_tokens",
            "forced_tokens",
            "generated_tokens",
            "baseline_tokens",
            "claims_written",
            "claims_kept",
            "deliveries",
            "within_sla",
        ]
        .map(|column| row.get::<i64, _>(column));
        assert_eq!(counts, [20, 5, 15, 12, 9, 90, 700, 4, 6, 1000, 3, 2, 1, 1]);
        let texts = ["outcome", "device", "config", "lane"].map(|column| row.get::<String, _>(column));
        assert_eq!(texts, ["ok", "cpu", "c", "live"]);
    });
}

#[test]
fn what_a_gpu_does_not_tell_is_null() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.record(&[MetricRow::Gpu(gpu()), MetricRow::DeadLetter(dead_letter())]).await.unwrap();
        let row: (i64, f64, i64, Option<f64>, f64, String) = sqlx::query_as(
            "SELECT device, utilization, memory_total_bytes, power_watts, temperature_celsius, sampled_at FROM gpu_samples",
        )
        .fetch_one(&store.readers)
        .await
        .unwrap();
        assert_eq!(row, (1, 0.5, 4 << 30, None, 61.0, "2026-01-31T09:30:00.250Z".into()));
        let letter: (String, Option<String>, String, i64) =
            sqlx::query_as("SELECT job_id, restaurant_id, reason, sequence FROM dead_letters")
                .fetch_one(&store.readers)
                .await
                .unwrap();
        assert_eq!(letter, ("j-9".into(), None, "poison".into(), 7));
    });
}

#[test]
fn a_worker_that_ended_has_its_end_beside_its_start_and_others_were_last_seen() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.record(&one_of_each()).await.unwrap();
        let life =
            "SELECT device, slots, sequences, sla_ms, ended_at, ending, last_window_at FROM worker_lives";
        let row: (String, i64, i64, f64, Option<String>, Option<String>, String) =
            sqlx::query_as(life).fetch_one(&store.readers).await.unwrap();
        let (ended, ending) = (Some("2026-01-31T10:00:00.000Z".to_owned()), Some("drained".to_owned()));
        assert_eq!(row, ("cpu".into(), 8, 16, 2000.0, ended, ending, "2026-01-31T09:31:00.000Z".into()));
        assert_eq!(worker_end().ending, "drained");
    });
}

#[test]
fn a_restaurant_costs_its_share_of_its_workers_busy_time() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut other = job("k", Outcome::Ok);
        other.restaurant_id = "r-2".into();
        other.usage.prompt_tokens = 290;
        let rows =
            [MetricRow::Job(job("j", Outcome::Ok)), MetricRow::Job(other), MetricRow::Goodput(goodput())];
        store.record(&rows).await.unwrap();
        let shares: Vec<(String, f64)> = sqlx::query_as(
            "SELECT restaurant_id, engine_seconds FROM restaurant_cost ORDER BY restaurant_id",
        )
        .fetch_all(&store.readers)
        .await
        .unwrap();
        assert_eq!(
            shares,
            [("r-1".into(), 1.0), ("r-2".into(), 3.0)],
            "100 and 300 tokens in 4 busy seconds"
        );
        let sla: (String, String, i64, i64, f64) =
            sqlx::query_as("SELECT lane, size, judged, met, compliance FROM sla_by_lane_and_size")
                .fetch_one(&store.readers)
                .await
                .unwrap();
        assert_eq!(sla, ("live".into(), "medium".into(), 2, 2, 1.0));
        let hour: (i64, i64, i64) =
            sqlx::query_as("SELECT hour, jobs, days FROM job_hours").fetch_one(&store.readers).await.unwrap();
        assert_eq!(hour, (9, 2, 1));
    });
}

#[test]
fn a_report_over_a_file_has_its_figures() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let period = Period { from: datetime!(2026-01-31 00:00 UTC), to: datetime!(2026-02-01 00:00 UTC) };
        let empty = store.report(period).await.unwrap().finish(period, Some(1.0));
        assert_eq!((empty.jobs, empty.flow, empty.dead_letters), (None, None, None));
        store.record(&one_of_each()).await.unwrap();
        let report = store.report(period).await.unwrap().finish(period, Some(1.0));
        assert_eq!(report.jobs.unwrap().lanes["live"]["ok"], 1);
        assert_eq!(report.service[0].ttft_ms.unwrap().p95.to_string(), "350");
        assert!((report.flow.unwrap().throughput_tps - 90.0).abs() < 0.1, "900 tokens in 10 s");
        assert_eq!(report.requests[0].tpot_ms.unwrap().p50.to_string(), "100");
        assert_eq!((report.gpus[0].utilization, report.gpus[0].power_watts), (Some(0.5), None));
        assert_eq!(report.workers[0].model.as_deref(), Some("m"));
        assert!((report.workers[0].busy_share.unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(report.cost.unwrap().restaurants, 1);
        assert_eq!(report.dead_letters.unwrap()[0].name, "poison");
        let later = Period { from: datetime!(2026-02-01 00:00 UTC), to: datetime!(2026-02-02 00:00 UTC) };
        let after = store.report(later).await.unwrap().finish(later, None);
        assert_eq!((after.jobs, after.workers), (None, vec![]), "another day");
    });
}

#[test]
fn a_request_is_written_with_its_derived_columns() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.record(&[MetricRow::Request(request("q"))]).await.unwrap();
        let row = sqlx::query("SELECT * FROM llm_metrics").fetch_one(&store.readers).await.unwrap();
        let times = ["queue_ms", "prefill_ms", "decode_ms", "total_ms", "ttft_ms", "tpot_ms", "tps"]
            .map(|column| row.get::<f64, _>(column).to_string());
        assert_eq!(times, ["100", "250", "1000", "1350", "350", "100", "60"]);
        let tokens = ["prompt_tokens", "cached_tokens", "forced_tokens", "generated_tokens"]
            .map(|column| row.get::<i64, _>(column));
        assert_eq!(tokens, [60, 200, 4, 11]);
        let texts =
            ["request_id", "job_id", "restaurant_id", "analysis", "kind", "model", "outcome", "created_at"]
                .map(|column| row.get::<String, _>(column));
        assert_eq!(
            texts,
            ["q", "j-1", "r-1", "summary", "generation", "m", "ok", "2026-01-31T09:30:00.250Z"]
        );
        let origin = ["result_id", "worker", "lane", "trace_id"].map(|column| row.get::<String, _>(column));
        assert_eq!(origin, ["j-1", "w-1", "hi", "0af7651916cd43dd8448eb211c80319c"]);
    });
}

#[test]
fn a_failed_analysis_keeps_its_code_and_has_no_first_token() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let outcome = Outcome::Failed { code: "engine_stopped".into(), message: "start it again".into() };
        let mut failed = analysis("j", Analysis::Summary, outcome);
        failed.ttft = None;
        store.record(&[MetricRow::Analysis(failed)]).await.unwrap();
        let row: (String, String, Option<f64>, f64, f64, i64, i64, i64, i64, String) = sqlx::query_as(
            "SELECT outcome, error_code, ttft_ms, processing_ms, queue_ms, cached_tokens, cache_hits, baseline_tokens,
                    warning_count + 10 * error_count, created_at FROM analysis_metrics",
        )
        .fetch_one(&store.readers)
        .await
        .unwrap();
        let created_at = "2026-01-31T09:30:00.000Z".to_owned();
        let expected = (
            "failed".to_owned(),
            "engine_stopped".to_owned(),
            None,
            800.0,
            200.0,
            700,
            15,
            1000,
            21,
            created_at,
        );
        assert_eq!(row, expected);
    });
}

#[test]
fn a_goodput_window_is_written_in_wall_time() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.record(&[MetricRow::Goodput(goodput())]).await.unwrap();
        let row: (String, String, f64, f64, f64, f64, f64, f64, f64) = sqlx::query_as(
            "SELECT started_at, ended_at, wall_seconds, throughput_tps, goodput_tps, compliance, ttft_p50_ms, ttft_p95_ms,
                    busy_seconds
             FROM goodput_windows",
        )
        .fetch_one(&store.readers)
        .await
        .unwrap();
        let (start, end) = ("2026-01-31T09:30:50.000Z".to_owned(), "2026-01-31T09:31:00.000Z".to_owned());
        assert_eq!(row, (start, end, 10.0, 90.0, 60.0, 0.75, 300.0, 1500.0, 4.0));
    });
}

#[test]
fn the_same_metrics_twice_are_there_once() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut rows = one_of_each();
        rows.push(MetricRow::Analysis(analysis("j", Analysis::Sentiment, Outcome::Ok)));
        store.record(&rows).await.unwrap();
        store.record(&rows).await.unwrap();
        assert_eq!(count(&store, ROWS).await, 9);
        assert_eq!(count(&store, "SELECT count(*) FROM analysis_metrics").await, 2);
    });
}

#[test]
fn a_job_that_is_worked_again_by_a_backfill_has_rows_of_its_own() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let live = analysis("j", Analysis::Summary, Outcome::Ok);
        let again = AnalysisMetric { result_id: "j@b1".into(), lane: Some(Lane::Backfill), ..live.clone() };
        store.record(&[MetricRow::Analysis(live), MetricRow::Analysis(again)]).await.unwrap();
        let lanes: Vec<(String, Option<String>)> =
            sqlx::query_as("SELECT job_id, lane FROM analysis_metrics ORDER BY id")
                .fetch_all(&store.readers)
                .await
                .unwrap();
        assert_eq!(lanes, [("j".into(), None), ("j".into(), Some("backfill".into()))]);
    });
}

#[test]
fn failures_save_no_tokens_and_show_up_at_their_hour() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let failed = || Outcome::Failed { code: "c".into(), message: "m".into() };
        let outcomes = [Outcome::Ok, Outcome::Unchanged, failed(), Outcome::NoData, Outcome::Stale];
        let rows = outcomes.into_iter().enumerate().map(|(job, outcome)| {
            MetricRow::Analysis(analysis(&job.to_string(), Analysis::Summary, outcome))
        });
        store.record(&rows.collect::<Vec<_>>()).await.unwrap();
        let saving: (String, i64, i64, i64, f64) = sqlx::query_as(
            "SELECT day, analyses, baseline_tokens, computed_tokens, saved_share FROM token_saving",
        )
        .fetch_one(&store.readers)
        .await
        .unwrap();
        assert_eq!(saving, ("2026-01-31".to_owned(), 2, 2000, 200, 0.9));
        let hour: (i64, i64, i64, i64, i64) =
            sqlx::query_as("SELECT hour, analyses, worked, unchanged, failed FROM hour_of_day")
                .fetch_one(&store.readers)
                .await
                .unwrap();
        assert_eq!(hour, (9, 5, 1, 1, 1));
    });
}

#[test]
fn the_writer_brings_every_row_into_the_file() {
    let (_folder, path) = folder();
    block_on(async {
        let store = Arc::new(SqliteStore::open(&path).await.unwrap());
        let settings = WriterSettings { batch: 32, ..WriterSettings::default() };
        let writer = MetricWriter::spawn(Arc::clone(&store), settings);
        (0..300).for_each(|id| writer.offer(MetricRow::Request(request(&id.to_string()))));
        assert_eq!(writer.close().await, WriterReport { written: 300, dropped: 0, failed: 0 });
        assert_eq!(count(&store, "SELECT count(*) FROM llm_metrics").await, 300);
    });
}
