//! Metrics over real files: columns, views, and their days.

use std::sync::Arc;

use sqlx::Row;
use time::macros::datetime;

use super::{block_on, count, folder};
use crate::job::Analysis;
use crate::result::Outcome;
use crate::scheduler::Lane;
use crate::store::metric_writer::{MetricWriter, WriterReport, WriterSettings};
use crate::store::metrics::tests::{analysis, goodput, request, worker_start};
use crate::store::metrics::{AnalysisMetric, MetricRow, MetricStore};
use crate::store::sqlite::SqliteStore;

#[test]
fn metrics_are_kept_for_their_days() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let rows = [
            MetricRow::Request(request("q")),
            MetricRow::Analysis(analysis("j", Analysis::Summary, Outcome::Ok)),
            MetricRow::Goodput(goodput()),
            MetricRow::Worker(worker_start()),
        ];
        store.record(&rows).await.unwrap();
        let held = "SELECT (SELECT count(*) FROM llm_metrics) + (SELECT count(*) FROM analysis_metrics)
                         + (SELECT count(*) FROM goodput_windows) + (SELECT count(*) FROM workers)";
        store.prune(datetime!(2026-05-01 09:00 UTC)).await.unwrap();
        assert_eq!(count(&store, held).await, 4, "90 days after");
        store.prune(datetime!(2026-05-02 10:00 UTC)).await.unwrap();
        assert_eq!(count(&store, held).await, 0);
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
                    warning_count, created_at FROM analysis_metrics",
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
            1,
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
        let row: (String, String, f64, f64, f64, f64, f64, f64) = sqlx::query_as(
            "SELECT started_at, ended_at, wall_seconds, throughput_tps, goodput_tps, compliance, ttft_p50_ms, ttft_p95_ms
             FROM goodput_windows",
        )
        .fetch_one(&store.readers)
        .await
        .unwrap();
        let (start, end) = ("2026-01-31T09:30:50.000Z".to_owned(), "2026-01-31T09:31:00.000Z".to_owned());
        assert_eq!(row, (start, end, 10.0, 90.0, 60.0, 0.75, 300.0, 1500.0));
    });
}

#[test]
fn the_same_metrics_twice_are_there_once() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let rows = [
            MetricRow::Request(request("q")),
            MetricRow::Analysis(analysis("j", Analysis::Summary, Outcome::Ok)),
            MetricRow::Analysis(analysis("j", Analysis::Sentiment, Outcome::Ok)),
            MetricRow::Goodput(goodput()),
            MetricRow::Worker(worker_start()),
        ];
        store.record(&rows).await.unwrap();
        store.record(&rows).await.unwrap();
        assert_eq!(count(&store, "SELECT count(*) FROM llm_metrics").await, 1);
        assert_eq!(count(&store, "SELECT count(*) FROM analysis_metrics").await, 2);
        assert_eq!(count(&store, "SELECT count(*) FROM goodput_windows").await, 1);
        assert_eq!(count(&store, "SELECT count(*) FROM workers").await, 1);
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
