//! Postgres down, slow, locked, read-only: results are not held up, rows wait in bounds, and arrive when it is back.
//! (`reference/jetstream.md`: "Postgres down, read-only, locked, full".)

use std::sync::Arc;
use std::time::Duration;

use maitred::config::SecretUrl;
use maitred::job::Analysis;
use maitred::result::{Outcome, Usage};
use maitred::scheduler::Lane;
use maitred::store::metric_writer::{MetricWriter, WriterReport, WriterSettings};
use maitred::store::metrics::{
    AnalysisMetric, GoodputWindow, MetricRow, MetricStore, RequestKind, RequestMetric, RequestTimes,
    WorkerStart,
};
use maitred::store::postgres::{PostgresStore, migrate, pending};
use maitred::telemetry::{TtftQuantiles, Window};
use maitred_testkit::{LIMIT, Postgres};
use sqlx::{Connection, PgConnection};
use time::macros::datetime;

const ROLES: &str = include_str!("../../../deploy/postgres/roles.sql");

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn request(id: &str) -> MetricRow {
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
        times: RequestTimes { admitted: Some(ms(100)), first: Some(ms(350)), finished: ms(1350) },
        prompt_tokens: 60,
        cached_tokens: 200,
        forced_tokens: 4,
        generated_tokens: 11,
        outcome: "ok".into(),
        created_at: datetime!(2026-01-31 09:30:00.25 UTC),
    })
}

fn analysis(result: &str, lane: Option<Lane>, outcome: Outcome) -> MetricRow {
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
        warning_count: 1,
        // In the evening in Seoul, in the morning in UTC.
        created_at: datetime!(2026-01-31 18:30:00 +9),
    })
}

fn goodput() -> MetricRow {
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
    })
}

fn worker() -> MetricRow {
    MetricRow::Worker(WorkerStart {
        worker: "w-1".into(),
        version: "0.1.0".into(),
        model: "m".into(),
        started_at: datetime!(2026-01-31 09:00 UTC),
    })
}

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
    let rows = [request("q"), analysis("j", None, failed), goodput(), worker()];
    store.record(&rows).await.unwrap();
    store.record(&rows).await.unwrap();
    store.record(&[]).await.unwrap();
    postgres.sql("ALTER DATABASE postgres SET timezone = 'UTC'");
    assert_eq!(
        postgres.sql(
            "SELECT request_id, result_id, worker, lane, trace_id, kind, queue_ms, prefill_ms, decode_ms, total_ms,
                    ttft_ms, tpot_ms, tps, prompt_tokens, cached_tokens, forced_tokens, generated_tokens, created_at
             FROM llm_metrics"
        ),
        "q|j|w-1|hi|0af7651916cd43dd8448eb211c80319c|generation|100|250|1000|1350|350|100|60|60|200|4|11|2026-01-31 09:30:00.25+00"
    );
    assert_eq!(
        postgres.sql(
            "SELECT lane IS NULL, outcome, error_code, processing_ms, queue_ms, ttft_ms, cached_tokens, reviews,
                    reviews_read, cache_hits, baseline_tokens, warning_count, created_at FROM analysis_metrics"
        ),
        "t|failed|engine_stopped|800|200|450|700|20|5|15|1000|1|2026-01-31 09:30:00+00"
    );
    assert_eq!(
        postgres.sql(
            "SELECT worker, started_at, ended_at, wall_seconds, throughput_tps, goodput_tps, compliance, ttft_p50_ms,
                    ttft_p95_ms FROM goodput_windows"
        ),
        "w-1|2026-01-31 09:30:50+00|2026-01-31 09:31:00+00|10|90|60|0.75|300|1500"
    );
    assert_eq!(
        postgres.sql("SELECT worker, version, model, started_at FROM workers"),
        "w-1|0.1.0|m|2026-01-31 09:00:00+00"
    );
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
        let rows = [request("q"), analysis("j", None, Outcome::Ok), goodput(), worker()];
        store.record(&rows).await.unwrap();
        store.record(&rows).await.unwrap();
        assert_eq!(postgres.sql("SELECT count(*) FROM llm_metrics"), "1");
        let forbidden = [
            "DELETE FROM llm_metrics",
            "UPDATE analysis_metrics SET outcome = 'ok'",
            "TRUNCATE goodput_windows",
            "DROP TABLE workers",
            "ALTER TABLE workers ADD COLUMN x text",
            "CREATE TABLE mine (x text)",
            "SELECT * FROM _sqlx_migrations",
        ];
        refused(&postgres, "maitred_writer", &forbidden).await;
        let forbidden = [
            "SELECT * FROM llm_metrics",
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

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_comes_later_than_the_worker_gets_its_rows() {
    let Some((mut postgres, _)) = prepared().await else { return };
    postgres.kill();
    let store = Arc::new(PostgresStore::new(&url(&postgres)).unwrap());
    let message = store.record(&[request("q")]).await.unwrap_err().to_string();
    assert!(message.contains("check postgres.url"), "{message}");
    let writer = MetricWriter::spawn(Arc::clone(&store), patient());
    (0..20).for_each(|id| writer.offer(request(&id.to_string())));
    postgres.restart();
    writer.flush().await;
    assert_eq!(postgres.sql("SELECT count(*) FROM llm_metrics"), "20");
    assert_eq!(writer.close().await, WriterReport { written: 20, dropped: 0, failed: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_holds_up_nothing_and_gets_the_rows_that_fit_when_it_is_back() {
    let Some((mut postgres, store)) = prepared().await else { return };
    let writer = MetricWriter::spawn(store, patient());
    (0..10).for_each(|id| writer.offer(request(&id.to_string())));
    writer.flush().await;
    postgres.kill();
    // `offer` is not async: that this loop ends while the server is down is the point.
    (10..200).for_each(|id| writer.offer(request(&id.to_string())));
    postgres.restart();
    writer.flush().await;
    let report = writer.close().await;
    assert_eq!((report.failed, report.written + report.dropped), (0, 200));
    assert!(report.dropped >= 200 - 10 - 64 - 16 - 16, "{report:?}: a buffer of 64 and what was in hand");
    assert!(report.written >= 10 + 64, "{report:?}");
    assert_eq!(postgres.sql("SELECT count(*) FROM llm_metrics"), report.written.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_costs_a_bounded_wait_and_then_gets_its_rows() {
    let Some((postgres, store)) = prepared().await else { return };
    let mut locker = PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE llm_metrics IN ACCESS EXCLUSIVE MODE")
        .execute(&mut locker)
        .await
        .unwrap();
    let refused =
        tokio::time::timeout(LIMIT, store.record(&[request("q")])).await.expect("it waits for ever");
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("locked for too long"), "{message}");
    let writer = MetricWriter::spawn(store, patient());
    writer.offer(request("q"));
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    assert_eq!(writer.close().await, WriterReport { written: 1, dropped: 0, failed: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_read_only_is_named_as_such_and_written_again_later() {
    let Some((postgres, _)) = prepared().await else { return };
    postgres.sql("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let store = PostgresStore::new(&url(&postgres)).unwrap();
    let message = store.record(&[request("q")]).await.unwrap_err().to_string();
    assert!(message.contains("it is read-only"), "{message}");
    store.close().await;
    postgres.sql("BEGIN READ WRITE; ALTER DATABASE postgres RESET default_transaction_read_only; COMMIT");
    let store = PostgresStore::new(&url(&postgres)).unwrap();
    store.record(&[request("q")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_hangs_is_given_up_in_time_and_used_when_it_goes_on() {
    let Some((mut postgres, store)) = prepared().await else { return };
    store.record(&[request("before")]).await.unwrap();
    postgres.stop();
    let message =
        tokio::time::timeout(LIMIT, store.record(&[request("q")])).await.expect("it waits for ever");
    assert!(message.is_err());
    let settings = WriterSettings { attempts: 2, attempt_limit: ms(100), ..patient() };
    let writer = MetricWriter::spawn(Arc::clone(&store), settings);
    (0..30).for_each(|id| writer.offer(request(&id.to_string())));
    let report = tokio::time::timeout(LIMIT, writer.close()).await.expect("closing waits for it");
    assert_eq!(report, WriterReport { written: 0, dropped: 0, failed: 30 });
    postgres.cont();
    let writer = MetricWriter::spawn(store, patient());
    writer.offer(request("after"));
    assert_eq!(writer.close().await, WriterReport { written: 1, dropped: 0, failed: 0 });
}

#[test]
fn a_url_that_is_none_is_refused_without_repeating_its_password() {
    let message = PostgresStore::new(&SecretUrl::new("hunter2@host")).unwrap_err().to_string();
    assert!(message.contains("postgres.url") && !message.contains("hunter2"), "{message}");
}
