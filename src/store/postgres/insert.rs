//! Rows into their tables: one statement per table and batch, a column as an array each. Columns and units as in
//! `migrations/postgres/`.

use sqlx::postgres::PgConnection;

use crate::scheduler::Lane;
use crate::store::metrics::{AnalysisMetric, GoodputWindow, MetricRow, RequestMetric, WorkerStart, millis};

/// Inserts every row; those that are there already are left as they are. The statements name no constraint: naming one
/// would need the right to read.
pub(super) async fn all(connection: &mut PgConnection, rows: &[MetricRow]) -> Result<(), sqlx::Error> {
    let (mut requests, mut analyses, mut windows, mut workers) = (vec![], vec![], vec![], vec![]);
    for row in rows {
        match row {
            MetricRow::Request(row) => requests.push(row),
            MetricRow::Analysis(row) => analyses.push(row),
            MetricRow::Goodput(row) => windows.push(row),
            MetricRow::Worker(row) => workers.push(row),
        }
    }
    insert_requests(connection, &requests).await?;
    insert_analyses(connection, &analyses).await?;
    insert_windows(connection, &windows).await?;
    insert_workers(connection, &workers).await
}

/// A column of the rows.
fn column<'a, R, T>(rows: &[&'a R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// Of texts that are not ours, without NUL, which Postgres' text cannot hold: it would refuse the whole batch.
fn foreign_column<'a, R>(rows: &[&'a R], value: impl Fn(&'a R) -> &'a str) -> Vec<String> {
    rows.iter().map(|row| value(row).replace('\0', "")).collect()
}

/// Postgres' integers are signed; no count here comes near the difference.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn insert_requests(connection: &mut PgConnection, rows: &[&RequestMetric]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO llm_metrics
             (request_id, job_id, result_id, restaurant_id, worker, lane, trace_id, analysis, kind, model,
              queue_ms, prefill_ms, decode_ms, total_ms, ttft_ms, tpot_ms, tps,
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens, outcome, created_at)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::float8[], $12::float8[], $13::float8[], $14::float8[], $15::float8[],
              $16::float8[], $17::float8[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::text[],
              $23::timestamptz[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.request_id.as_str()))
    .bind(column(rows, |row| row.job_id.as_str()))
    .bind(column(rows, |row| row.result_id.as_str()))
    .bind(column(rows, |row| row.restaurant_id.as_str()))
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.lane.map(Lane::name)))
    .bind(column(rows, |row| row.trace_id.as_deref()))
    .bind(column(rows, |row| &*row.analysis))
    .bind(column(rows, |row| row.kind.name()))
    .bind(foreign_column(rows, |row| row.model.as_str()))
    .bind(column(rows, |row| millis(row.times.queue())))
    .bind(column(rows, |row| row.times.prefill().map(millis)))
    .bind(column(rows, |row| row.times.decode().map(millis)))
    .bind(column(rows, |row| millis(row.times.finished)))
    .bind(column(rows, |row| row.times.ttft().map(millis)))
    .bind(column(rows, |row| row.tpot().map(millis)))
    .bind(column(rows, RequestMetric::tps))
    .bind(column(rows, |row| integer(row.prompt_tokens)))
    .bind(column(rows, |row| integer(row.cached_tokens)))
    .bind(column(rows, |row| integer(row.forced_tokens)))
    .bind(column(rows, |row| integer(row.generated_tokens)))
    .bind(foreign_column(rows, |row| &*row.outcome))
    .bind(column(rows, |row| row.created_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_analyses(connection: &mut PgConnection, rows: &[&AnalysisMetric]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO analysis_metrics
             (job_id, result_id, restaurant_id, worker, lane, trace_id, analysis, outcome, error_code, model,
              prompt_version, processing_ms, queue_ms, ttft_ms,
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens,
              reviews, reviews_read, cache_hits, baseline_tokens, warning_count, created_at)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::float8[], $13::float8[], $14::float8[], $15::bigint[],
              $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
              $22::bigint[], $23::bigint[], $24::timestamptz[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.job_id.as_str()))
    .bind(column(rows, |row| row.result_id.as_str()))
    .bind(column(rows, |row| row.restaurant_id.as_str()))
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.lane.map(Lane::name)))
    .bind(column(rows, |row| row.trace_id.as_deref()))
    .bind(column(rows, |row| row.analysis.name()))
    .bind(column(rows, |row| row.outcome.status()))
    .bind(column(rows, AnalysisMetric::error_code))
    .bind(foreign_column(rows, |row| row.model.as_str()))
    .bind(column(rows, |row| row.prompt_version.as_str()))
    .bind(column(rows, |row| millis(row.processing)))
    .bind(column(rows, |row| millis(row.queue)))
    .bind(column(rows, |row| row.ttft.map(millis)))
    .bind(column(rows, |row| integer(row.usage.prompt_tokens)))
    .bind(column(rows, |row| integer(row.usage.reused_tokens)))
    .bind(column(rows, |row| integer(row.usage.forced_tokens)))
    .bind(column(rows, |row| integer(row.usage.generated_tokens)))
    .bind(column(rows, |row| i64::from(row.usage.reviews)))
    .bind(column(rows, |row| i64::from(row.usage.reviews_read)))
    .bind(column(rows, |row| i64::from(row.usage.reviews_cached)))
    .bind(column(rows, |row| integer(row.usage.baseline_tokens)))
    .bind(column(rows, |row| i64::from(row.warning_count)))
    .bind(column(rows, |row| row.created_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_windows(connection: &mut PgConnection, rows: &[&GoodputWindow]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO goodput_windows
             (worker, started_at, ended_at, wall_seconds, jobs, jobs_met, tokens, tokens_met,
              throughput_tps, goodput_tps, compliance, ttft_p50_ms, ttft_p95_ms)
         SELECT * FROM unnest
             ($1::text[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::bigint[], $6::bigint[],
              $7::bigint[], $8::bigint[], $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::float8[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, GoodputWindow::started_at))
    .bind(column(rows, |row| row.ended_at))
    .bind(column(rows, |row| row.window.wall().as_secs_f64()))
    .bind(column(rows, |row| integer(row.window.jobs)))
    .bind(column(rows, |row| integer(row.window.jobs_met)))
    .bind(column(rows, |row| integer(row.window.tokens)))
    .bind(column(rows, |row| integer(row.window.tokens_met)))
    .bind(column(rows, |row| row.window.throughput_tps()))
    .bind(column(rows, |row| row.window.goodput_tps()))
    .bind(column(rows, |row| row.window.compliance()))
    .bind(column(rows, |row| row.window.ttft.map(|ttft| millis(ttft.p50))))
    .bind(column(rows, |row| row.window.ttft.map(|ttft| millis(ttft.p95))))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_workers(connection: &mut PgConnection, rows: &[&WorkerStart]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO workers (worker, version, model, started_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.version.as_str()))
    .bind(foreign_column(rows, |row| row.model.as_str()))
    .bind(column(rows, |row| row.started_at))
    .execute(connection)
    .await
    .map(drop)
}
