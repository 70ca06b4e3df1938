//! Rows into their tables: one statement per table and batch, a column as an array each. Columns and units as in
//! `migrations/postgres/`.

use sqlx::postgres::PgConnection;

use crate::scheduler::Lane;
use crate::store::metrics::{
    AnalysisMetric, DeadLetterRow, GoodputWindow, GpuSampleRow, JobMetric, MetricRow, RequestMetric,
    WorkerEnd, WorkerStart, millis,
};

/// Inserts every row; those that are there already are left as they are. The statements name no constraint: naming one
/// would need the right to read.
pub(super) async fn all(connection: &mut PgConnection, rows: &[MetricRow]) -> Result<(), sqlx::Error> {
    let (mut requests, mut analyses, mut jobs) = (vec![], vec![], vec![]);
    let (mut windows, mut gpus, mut letters) = (vec![], vec![], vec![]);
    let (mut starts, mut ends) = (vec![], vec![]);
    for row in rows {
        match row {
            MetricRow::Request(row) => requests.push(row),
            MetricRow::Analysis(row) => analyses.push(row),
            MetricRow::Job(row) => jobs.push(row),
            MetricRow::Goodput(row) => windows.push(row),
            MetricRow::Gpu(row) => gpus.push(row),
            MetricRow::DeadLetter(row) => letters.push(row),
            MetricRow::Worker(row) => starts.push(row),
            MetricRow::WorkerEnd(row) => ends.push(row),
        }
    }
    insert_requests(connection, &requests).await?;
    insert_analyses(connection, &analyses).await?;
    insert_jobs(connection, &jobs).await?;
    insert_windows(connection, &windows).await?;
    insert_gpus(connection, &gpus).await?;
    insert_letters(connection, &letters).await?;
    insert_starts(connection, &starts).await?;
    insert_ends(connection, &ends).await
}

/// A column of the rows.
fn column<'a, R, T>(rows: &[&'a R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// Of texts that are not ours, without NUL, which Postgres' text cannot hold: it would refuse the whole batch.
fn foreign_column<'a, R>(rows: &[&'a R], value: impl Fn(&'a R) -> &'a str) -> Vec<String> {
    rows.iter().map(|row| without_nul(value(row))).collect()
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "")
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
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens, outcome, created_at, at_received_ms)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::float8[], $12::float8[], $13::float8[], $14::float8[], $15::float8[],
              $16::float8[], $17::float8[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::text[],
              $23::timestamptz[], $24::float8[])
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
    .bind(column(rows, |row| millis(row.received)))
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
              reviews, reviews_read, cache_hits, baseline_tokens, warning_count, created_at, error_count)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::float8[], $13::float8[], $14::float8[], $15::bigint[],
              $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
              $22::bigint[], $23::bigint[], $24::timestamptz[], $25::bigint[])
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
    .bind(column(rows, |row| i64::from(row.error_count)))
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
              throughput_tps, goodput_tps, compliance, ttft_p50_ms, ttft_p95_ms, busy_seconds)
         SELECT * FROM unnest
             ($1::text[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::bigint[], $6::bigint[],
              $7::bigint[], $8::bigint[], $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::float8[],
              $14::float8[])
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
    .bind(column(rows, |row| row.busy.map(|busy| busy.as_secs_f64())))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_jobs(connection: &mut PgConnection, rows: &[&JobMetric]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO job_metrics
             (job_id, result_id, restaurant_id, worker, lane, trace_id, outcome, error_code, model, prompt_version,
              device, config, deliveries, at_received_ms, at_admitted_ms, at_first_token_ms, at_prefilled_ms,
              at_published_ms, queue_ms, ttft_ms, total_ms, within_sla,
              reviews, reviews_read, cache_hits, embedded_texts, requests,
              prompt_tokens, cached_tokens, forced_tokens, generated_tokens, baseline_tokens,
              claims_written, claims_kept, created_at)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::float8[], $15::float8[],
              $16::float8[], $17::float8[], $18::float8[], $19::float8[], $20::float8[], $21::float8[], $22::bool[],
              $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[],
              $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[], $33::bigint[], $34::bigint[],
              $35::timestamptz[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.job_id.as_str()))
    .bind(column(rows, |row| row.result_id.as_str()))
    .bind(column(rows, |row| row.restaurant_id.as_str()))
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.lane.map(Lane::name)))
    .bind(column(rows, |row| row.trace_id.as_deref()))
    .bind(column(rows, |row| row.outcome.status()))
    .bind(column(rows, JobMetric::error_code))
    .bind(foreign_column(rows, |row| row.model.as_str()))
    .bind(column(rows, |row| row.prompt_version.as_str()))
    .bind(column(rows, |row| &*row.device))
    .bind(column(rows, |row| row.config.as_str()))
    .bind(column(rows, |row| row.deliveries.map(integer)))
    .bind(column(rows, |row| millis(row.stamps.received)))
    .bind(column(rows, |row| row.stamps.admitted.map(millis)))
    .bind(column(rows, |row| row.stamps.first_token.map(millis)))
    .bind(column(rows, |row| row.stamps.prefilled.map(millis)))
    .bind(column(rows, |row| millis(row.stamps.published)))
    .bind(column(rows, |row| row.stamps.queue().map(millis)))
    .bind(column(rows, |row| row.stamps.ttft().map(millis)))
    .bind(column(rows, |row| millis(row.stamps.total())))
    .bind(column(rows, |row| row.within_sla))
    .bind(column(rows, |row| i64::from(row.usage.reviews)))
    .bind(column(rows, |row| i64::from(row.usage.reviews_read)))
    .bind(column(rows, |row| i64::from(row.usage.reviews_cached)))
    .bind(column(rows, |row| i64::from(row.usage.embedded_texts)))
    .bind(column(rows, |row| i64::from(row.usage.requests)))
    .bind(column(rows, |row| integer(row.usage.prompt_tokens)))
    .bind(column(rows, |row| integer(row.usage.reused_tokens)))
    .bind(column(rows, |row| integer(row.usage.forced_tokens)))
    .bind(column(rows, |row| integer(row.usage.generated_tokens)))
    .bind(column(rows, |row| integer(row.usage.baseline_tokens)))
    .bind(column(rows, |row| i64::from(row.usage.claims_written)))
    .bind(column(rows, |row| i64::from(row.usage.claims_kept)))
    .bind(column(rows, |row| row.created_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_gpus(connection: &mut PgConnection, rows: &[&GpuSampleRow]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO gpu_samples
             (worker, device, name, utilization, memory_used_bytes, memory_total_bytes, power_watts,
              temperature_celsius, sampled_at)
         SELECT * FROM unnest
             ($1::text[], $2::integer[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[], $7::float8[],
              $8::float8[], $9::timestamptz[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| i32::try_from(row.device).unwrap_or(i32::MAX)))
    .bind(foreign_column(rows, |row| row.name.as_str()))
    .bind(column(rows, |row| row.utilization))
    .bind(column(rows, |row| row.memory_used_bytes.map(integer)))
    .bind(column(rows, |row| row.memory_total_bytes.map(integer)))
    .bind(column(rows, |row| row.power_watts))
    .bind(column(rows, |row| row.temperature_celsius))
    .bind(column(rows, |row| row.sampled_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_letters(connection: &mut PgConnection, rows: &[&DeadLetterRow]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO dead_letters
             (job_id, restaurant_id, worker, lane, reason, sequence, deliveries, created_at)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
              $8::timestamptz[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.job_id.as_deref().map(without_nul)))
    .bind(column(rows, |row| row.restaurant_id.as_deref().map(without_nul)))
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.lane.name()))
    .bind(foreign_column(rows, |row| row.reason.as_str()))
    .bind(column(rows, |row| integer(row.sequence)))
    .bind(column(rows, |row| integer(row.deliveries)))
    .bind(column(rows, |row| row.created_at))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_starts(connection: &mut PgConnection, rows: &[&WorkerStart]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO workers (worker, version, model, started_at, device, slots, sequences, config, sla_ms)
         SELECT * FROM unnest
             ($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::bigint[], $7::bigint[],
              $8::text[], $9::float8[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.version.as_str()))
    .bind(foreign_column(rows, |row| row.model.as_str()))
    .bind(column(rows, |row| row.started_at))
    .bind(column(rows, |row| &*row.device))
    .bind(column(rows, |row| integer(row.slots)))
    .bind(column(rows, |row| integer(row.sequences)))
    .bind(column(rows, |row| row.config.as_str()))
    .bind(column(rows, |row| millis(row.sla)))
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_ends(connection: &mut PgConnection, rows: &[&WorkerEnd]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO worker_ends (worker, started_at, ended_at, ending)
         SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[])
         ON CONFLICT DO NOTHING",
    )
    .bind(column(rows, |row| row.worker.as_str()))
    .bind(column(rows, |row| row.started_at))
    .bind(column(rows, |row| row.ended_at))
    .bind(column(rows, |row| row.ending))
    .execute(connection)
    .await
    .map(drop)
}
