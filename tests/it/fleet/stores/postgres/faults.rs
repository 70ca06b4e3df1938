//! Postgres away, killed, locked, read-only, hanging: rows wait in bounds, and arrive when it is back.

use std::sync::Arc;

use maitred::store::metric_writer::{MetricWriter, WriterReport, WriterSettings};
use maitred::store::metrics::MetricStore;
use maitred::store::postgres::PostgresStore;
use maitred_testkit::LIMIT;
use sqlx::{Connection, PgConnection};

use super::rows::{ms, request};
use super::{patient, prepared, url};

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
