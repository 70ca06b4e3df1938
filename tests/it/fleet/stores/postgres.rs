//! Metrics in a real Postgres: its schema, its rows, its views, who may do what.

mod faults;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use maitred::config::SecretUrl;
use maitred::report::Period;
use maitred::result::Outcome;
use maitred::scheduler::Lane;
use maitred::store::metric_writer::WriterSettings;
use maitred::store::metrics::{MetricRow, MetricStore};
use maitred::store::postgres::{PostgresStore, migrate, pending, report};
use maitred::store::sqlite::SqliteStore;
use maitred_testkit::{LIMIT, Postgres};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use time::macros::datetime;

use self::rows::{ROWS, analysis, goodput, gpu, job, ms, one_of_each, request, worker};

const ROLES: &str = include_str!("../../../../deploy/postgres/roles.sql");

fn url(postgres: &Postgres) -> SecretUrl {
    SecretUrl::new(postgres.url())
}

/// A server with its schema, and a store on it.
async fn prepared() -> Option<(Postgres, Arc<PostgresStore>)> {
    let postgres = Postgres::start()?;
    migrate(&url(&postgres)).await.unwrap();
    let store = Arc::new(PostgresStore::new(&url(&postgres)).unwrap());
    Some((postgres, store))
}

/// Tries as long as a test may take, and hardly pauses.
fn patient() -> WriterSettings {
    WriterSettings {
        buffer: 64,
        batch: 16,
        linger: ms(1),
        attempts: 1000,
        retry_pause: ms(1),
        attempt_limit: LIMIT,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_told_before_it_is_made_and_made_once() {
    let Some(postgres) = Postgres::start() else { return };
    let url = url(&postgres);
    let missing = pending(&url).await.unwrap();
    assert_eq!(missing.first().map(|step| step.version), Some(1));
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0", "only told");
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.is_empty() != other.is_empty(), "{one:?}, {other:?}");
    assert_eq!([one, other].concat(), missing);
    assert_eq!(pending(&url).await.unwrap(), []);
    assert_eq!(migrate(&url).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_a_newer_version_is_refused() {
    let Some((postgres, _)) = prepared().await else { return };
    postgres.sql(
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum, 0 FROM _sqlx_migrations LIMIT 1",
    );
    for message in [pending(&url(&postgres)).await.unwrap_err(), migrate(&url(&postgres)).await.unwrap_err()]
    {
        assert!(message.to_string().contains("newer version (migration 9999)"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_written_with_its_derived_columns_once() {
    let Some((postgres, store)) = prepared().await else { return };
    let failed = Outcome::Failed { code: "engine_stopped".into(), message: "start it again".into() };
    let mut rows = one_of_each();
    rows[1] = analysis("j", None, failed);
    store.record(&rows).await.unwrap();
    store.record(&rows).await.unwrap();
    store.record(&[]).await.unwrap();
    assert_eq!(postgres.sql(ROWS), "8");
    postgres.sql("ALTER DATABASE postgres SET timezone = 'UTC'");
    assert_eq!(
        postgres.sql(
            "SELECT request_id, result_id, worker, lane, trace_id, kind, queue_ms, prefill_ms, decode_ms, total_ms,
                    ttft_ms, tpot_ms, tps, prompt_tokens, cached_tokens, forced_tokens, generated_tokens, created_at,
                    at_received_ms
             FROM llm_metrics"
        ),
        "q|j|w-1|hi|0af7651916cd43dd8448eb211c80319c|generation|100|250|1000|1350|350|100|60|60|200|4|11|2026-01-31 09:30:00.25+00|70000"
    );
    assert_eq!(
        postgres.sql(
            "SELECT lane IS NULL, outcome, error_code, processing_ms, queue_ms, ttft_ms, cached_tokens, reviews,
                    reviews_read, cache_hits, baseline_tokens, warning_count, error_count, created_at
             FROM analysis_metrics"
        ),
        "t|failed|engine_stopped|800|200|450|700|20|5|15|1000|1|2|2026-01-31 09:30:00+00"
    );
    assert_eq!(
        postgres.sql(
            "SELECT worker, started_at, ended_at, wall_seconds, throughput_tps, goodput_tps, compliance, ttft_p50_ms,
                    ttft_p95_ms, busy_seconds FROM goodput_windows"
        ),
        "w-1|2026-01-31 09:30:50+00|2026-01-31 09:31:00+00|10|90|60|0.75|300|1500|4"
    );
    assert_eq!(
        postgres.sql(
            "SELECT worker, version, model, device, slots, sequences, config, sla_ms, started_at FROM workers"
        ),
        "w-1|0.1.0|m|cpu|8|16|c|2000|2026-01-31 09:00:00+00"
    );
    assert_eq!(
        postgres.sql("SELECT worker, started_at, ended_at, ending, last_window_at FROM worker_lives"),
        "w-1|2026-01-31 09:00:00+00|2026-01-31 10:00:00+00|drained|2026-01-31 09:31:00+00"
    );
    assert_eq!(
        postgres.sql(
            "SELECT result_id, deliveries, device, config, at_received_ms, at_admitted_ms, at_first_token_ms,
                    at_prefilled_ms, at_published_ms, queue_ms, ttft_ms, total_ms, within_sla, reviews, prompt_tokens
             FROM job_metrics"
        ),
        "j|2|cpu|c|70000|70100|70350|71000|71400|100|350|1400|t|20|90"
    );
    assert_eq!(
        postgres.sql("SELECT device, utilization, memory_total_bytes, power_watts IS NULL FROM gpu_samples"),
        "1|0.5|4294967296|t"
    );
    assert_eq!(
        postgres.sql(
            "SELECT job_id, restaurant_id IS NULL, lane, reason, sequence, deliveries FROM dead_letters"
        ),
        "ab|t|hi|poison|7|3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_the_first_version_keeps_its_rows_and_gets_the_new_columns() {
    let Some(postgres) = Postgres::start() else { return };
    // What the version before had made, and how it tells so.
    let first = include_str!("../../../../migrations/postgres/0001_metrics.sql");
    migrate(&url(&postgres)).await.unwrap();
    let known = postgres.sql("SELECT encode(checksum, 'hex') FROM _sqlx_migrations WHERE version = 1");
    postgres.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    postgres.sql(first);
    postgres.sql(&format!(
        "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL,
             installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL,
             execution_time bigint NOT NULL);
         INSERT INTO _sqlx_migrations VALUES (1, 'metrics', now(), true, decode('{known}', 'hex'), 1);
         INSERT INTO workers (worker, version, model, started_at) VALUES ('old', '0', 'm', '2026-01-01');
         INSERT INTO goodput_windows (worker, started_at, ended_at, wall_seconds, jobs, jobs_met, tokens, tokens_met)
         VALUES ('old', '2026-01-01', '2026-01-02', 86400, 1, 1, 5, 5)"
    ));
    let steps: Vec<i64> = migrate(&url(&postgres)).await.unwrap().iter().map(|step| step.version).collect();
    assert_eq!(steps, [2]);
    let row = "SELECT worker, device IS NULL, slots IS NULL, last_window_at IS NOT NULL, ended_at IS NULL FROM worker_lives";
    assert_eq!(postgres.sql(row), "old|t|t|t|t");
    assert_eq!(
        postgres.sql("SELECT busy_seconds IS NULL FROM goodput_windows"),
        "t",
        "not measured, not zero"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_once_a_day_whoever_asks_and_a_worker_at_work_stays_known() {
    let Some((postgres, store)) = prepared().await else { return };
    let now = OffsetDateTime::now_utc();
    let mut rows = one_of_each();
    rows.extend((0..12_000).map(|n| job(&format!("old-{n}"), "r", datetime!(2026-01-31 09:30 UTC))));
    rows.extend([job("today", "r", now), gpu(now)]);
    for rows in rows.chunks(1000) {
        store.record(rows).await.unwrap();
    }
    let month = Duration::from_hours(24 * 30);
    // Three workers at once, more than once a stretch: together they let everything old go, and nothing twice.
    let others = [0; 2].map(|_| PostgresStore::new(&url(&postgres)).unwrap());
    let (a, b, c) = tokio::join!(store.let_go(month), others[0].let_go(month), others[1].let_go(month));
    assert_eq!(a.unwrap() + b.unwrap() + c.unwrap(), 12_008);
    assert_eq!(postgres.sql(ROWS), "2");
    store.record(&one_of_each()).await.unwrap();
    assert_eq!(store.let_go(month).await.unwrap(), 0, "done today");
    postgres.sql("UPDATE retention SET finished_at = finished_at - interval '21 hours'");
    postgres.sql("UPDATE goodput_windows SET started_at = now(), ended_at = now()");
    assert_eq!(store.let_go(month).await.unwrap(), 6);
    assert_eq!(postgres.sql("SELECT worker FROM workers"), "w-1", "it left a window a moment ago");
    let message = store.let_go(Duration::from_hours(1)).await.unwrap_err().to_string();
    assert!(message.contains("kept for a day at least"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_tell_service_by_size_hours_and_what_each_restaurant_took() {
    let Some((postgres, store)) = prepared().await else { return };
    let at = datetime!(2026-01-31 09:30 UTC);
    let MetricRow::Job(mut other) = job("k", "r-2", at) else { unreachable!() };
    (other.usage.prompt_tokens, other.usage.reviews, other.within_sla) = (290, 31, None);
    store.record(&[job("j", "r-1", at), MetricRow::Job(other), goodput()]).await.unwrap();
    assert_eq!(
        postgres.sql("SELECT lane, size, jobs, judged, met, compliance, ttft_p95_ms FROM sla_by_lane_and_size ORDER BY size"),
        "live|large|1|0|0||350\nlive|medium|1|1|1|1|350"
    );
    assert_eq!(
        postgres.sql("SELECT hour, jobs, days, failed, reviews, computed_tokens FROM job_hours"),
        "9|2|1|0|51|400"
    );
    assert_eq!(
        postgres.sql(
            "SELECT restaurant_id, results, computed_tokens, engine_seconds FROM restaurant_cost ORDER BY 1"
        ),
        "r-1|1|100|1\nr-2|1|300|3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_the_same_of_postgres_and_of_a_file() {
    let Some((postgres, store)) = prepared().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteStore::open(&folder.path().join("maitred.db")).await.unwrap();
    let at = |minute: i64| datetime!(2026-01-31 09:30 UTC) + time::Duration::minutes(minute);
    let mut rows = one_of_each();
    rows.extend((0..40).map(|n| job(&format!("k-{n}"), "r", at(n))));
    rows.extend((0..40).map(|n| gpu(at(n))));
    store.record(&rows).await.unwrap();
    file.record(&rows).await.unwrap();
    postgres.sql(ROLES);
    let period = Period { from: datetime!(2026-01-31 00:00 UTC), to: datetime!(2026-02-01 00:00 UTC) };
    // As the role that sees views alone.
    let reader = SecretUrl::new(postgres.url_as("maitred_reader", "postgres"));
    let ours = report(&reader, period).await.unwrap().finish(period, Some(2.0));
    let theirs = file.report(period).await.unwrap().finish(period, Some(2.0));
    assert_eq!(ours.jobs.as_ref().unwrap().total, 41);
    assert!(ours.flow.as_ref().unwrap().points.iter().any(|point| point.throughput_tps.is_some()));
    assert_eq!(ours, theirs);
    let empty = Period { from: period.to, to: datetime!(2026-02-02 00:00 UTC) };
    let empty = report(&reader, empty).await.unwrap().finish(empty, None);
    assert_eq!((empty.jobs, empty.flow, empty.tokens, empty.dead_letters), (None, None, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_there_as_a_whole_or_not_at_all() {
    let Some((postgres, store)) = prepared().await else { return };
    postgres.sql("ALTER TABLE workers RENAME TO elsewhere");
    let message = store.record(&[request("q"), worker()]).await.unwrap_err().to_string();
    assert!(message.contains("run `maitred init`"), "{message}");
    assert_eq!(postgres.sql("SELECT count(*) FROM llm_metrics"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_postgres_cannot_hold_does_not_cost_its_batch() {
    let Some((postgres, store)) = prepared().await else { return };
    let MetricRow::Request(mut odd) = request("odd") else { unreachable!() };
    odd.outcome = "a\0b".into();
    store.record(&[MetricRow::Request(odd), request("plain")]).await.unwrap();
    assert_eq!(postgres.sql("SELECT string_agg(outcome, ',' ORDER BY request_id) FROM llm_metrics"), "ab,ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_tell_savings_hours_and_how_lanes_were_served() {
    let Some((postgres, store)) = prepared().await else { return };
    let failed = || Outcome::Failed { code: "c".into(), message: "m".into() };
    let rows = [
        analysis("a", Some(Lane::Live), Outcome::Ok),
        analysis("b", Some(Lane::Live), failed()),
        analysis("c", Some(Lane::Hi), Outcome::Unchanged),
        // A backfill works the job of "a" again: a result of its own.
        analysis("a@b1", Some(Lane::Backfill), Outcome::Ok),
        analysis("f", None, Outcome::Ok),
        goodput(),
    ];
    store.record(&rows).await.unwrap();
    assert_eq!(
        postgres.sql("SELECT day, analyses, baseline_tokens, computed_tokens, saved_share FROM token_saving"),
        "2026-01-31|4|4000|400|0.9"
    );
    assert_eq!(
        postgres.sql("SELECT hour, analyses, worked, unchanged, failed FROM hour_of_day"),
        "9|5|3|1|1"
    );
    assert_eq!(
        postgres.sql(
            "SELECT lane, results, failed_results, ttft_p95_ms, total_p95_ms FROM lane_service ORDER BY lane"
        ),
        "backfill|1|0|450|1000\nlive|2|1|450|1000"
    );
    assert_eq!(
        postgres.sql("SELECT day, worker, jobs, jobs_met, throughput_tps, goodput_tps FROM worker_goodput"),
        "2026-01-31|w-1|4|3|90|60"
    );
}

/// The first is how it is meant, the second how it happens.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_part_and_no_more_whichever_came_first() {
    for roles_first in [true, false] {
        let Some(postgres) = Postgres::start() else { return };
        let owner = SecretUrl::new(postgres.url_as("maitred_owner", "postgres"));
        if roles_first {
            postgres.sql(ROLES);
            migrate(&owner).await.unwrap();
        } else {
            migrate(&url(&postgres)).await.unwrap();
            postgres.sql(ROLES);
        }
        // Harmless, and so safe to run after an update.
        postgres.sql(ROLES);

        let writer = SecretUrl::new(postgres.url_as("maitred_writer", "postgres"));
        let store = PostgresStore::new(&writer).unwrap();
        let rows = one_of_each();
        store.record(&rows).await.unwrap();
        store.record(&rows).await.unwrap();
        assert_eq!(postgres.sql("SELECT count(*) FROM llm_metrics"), "1");
        let forbidden = [
            "DELETE FROM llm_metrics",
            "DELETE FROM retention",
            "UPDATE worker_ends SET ending = 'x'",
            "UPDATE analysis_metrics SET outcome = 'ok'",
            "TRUNCATE goodput_windows",
            "DROP TABLE workers",
            "ALTER TABLE workers ADD COLUMN x text",
            "CREATE TABLE mine (x text)",
            "SELECT * FROM _sqlx_migrations",
        ];
        refused(&postgres, "maitred_writer", &forbidden).await;
        assert_eq!(store.let_go(Duration::from_hours(48)).await.unwrap(), 8, "what is past retention it may");
        let forbidden = [
            "SELECT * FROM llm_metrics",
            "SELECT * FROM job_metrics",
            "SELECT let_go_of_metrics('2 days', 1)",
            "INSERT INTO workers (worker) VALUES ('x')",
            "CREATE TABLE mine (x text)",
        ];
        refused(&postgres, "maitred_reader", &forbidden).await;
        let mut reader = PgConnection::connect(&postgres.url_as("maitred_reader", "postgres")).await.unwrap();
        for view in [
            "SELECT count(*) FROM token_saving",
            "SELECT count(*) FROM hour_of_day",
            "SELECT count(*) FROM lane_service",
            "SELECT count(*) FROM worker_goodput",
            "SELECT count(*) FROM worker_lives",
            "SELECT count(*) FROM sla_by_lane_and_size",
            "SELECT count(*) FROM job_hours",
            "SELECT count(*) FROM restaurant_cost",
        ] {
            let _: i64 = sqlx::query_scalar(view).fetch_one(&mut reader).await.unwrap();
        }
    }
}

async fn refused(postgres: &Postgres, role: &str, statements: &[&'static str]) {
    let mut connection = PgConnection::connect(&postgres.url_as(role, "postgres")).await.unwrap();
    for &statement in statements {
        let error = sqlx::raw_sql(statement).execute(&mut connection).await.unwrap_err();
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .unwrap_or_default()
            .into_owned();
        assert_eq!(code, "42501", "{role}: {statement}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told_what_to_grant() {
    let Some((postgres, _)) = prepared().await else { return };
    postgres.sql("CREATE ROLE nobody LOGIN");
    let store = PostgresStore::new(&SecretUrl::new(postgres.url_as("nobody", "postgres"))).unwrap();
    let message = store.record(&[request("q")]).await.unwrap_err().to_string();
    assert!(message.contains("deploy/postgres/roles.sql"), "{message}");
}

#[test]
fn a_url_that_is_none_is_refused_without_repeating_its_password() {
    let message = PostgresStore::new(&SecretUrl::new("hunter2@host")).unwrap_err().to_string();
    assert!(message.contains("postgres.url") && !message.contains("hunter2"), "{message}");
}
