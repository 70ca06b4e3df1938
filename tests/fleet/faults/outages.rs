//! Rows "nats kill -9", "NATS absent at start", "stream deleted", "blackhole", "Redis down", "Postgres down".

use async_nats::jetstream;
use maitred::broker::names;

use super::{Fleet, health, settled, until_ready};
use crate::common::fleet::Workload;
use crate::common::servers::{Mode, Postgres, Proxy, Redis, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_has_lost_nothing() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.submit(&Workload::with(21, 12, |_| 20));
    let mut worker = fleet.worker("w-1");
    fleet.until_held().await;
    fleet.nats.kill();
    until_ready(&mut worker, false);
    assert_eq!(health(&mut worker, "/livez").0, 200);
    fleet.nats.restart();
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (12, 0), "{}", report.told());
    until_ready(&mut worker, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_server_is_live_and_not_ready_and_begins_when_there_is_one() {
    let Some(fleet) = Fleet::new() else { return };
    let network = Proxy::to(fleet.nats.port());
    network.set(Mode::Cut);
    let url = format!("nats://127.0.0.1:{}", network.port());
    let mut worker = fleet.maitred.clone().set("nats.url", url).worker("early");
    assert_eq!(health(&mut worker, "/livez").0, 200);
    assert_eq!(health(&mut worker, "/readyz").0, 503);
    network.set(Mode::Pass);
    until_ready(&mut worker, true);
    fleet.submit(&Workload::new(22, 2));
    fleet.all_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_is_named_and_not_made_again() {
    let Some(fleet) = Fleet::new() else { return };
    let mut worker = fleet.worker("w-1");
    until_ready(&mut worker, true);
    let context = jetstream::new(fleet.nats.connect().await);
    context.delete_stream(names::JOBS_STREAM).await.unwrap();
    until_ready(&mut worker, false);
    wait_until("it is named", || health(&mut worker, "/readyz").1.contains(names::JOBS_STREAM));
    assert!(context.get_stream(names::JOBS_STREAM).await.is_err(), "the worker made it");
    fleet.maitred.run(&["init"]).ended(0);
    until_ready(&mut worker, true);
    fleet.submit(&Workload::new(23, 2));
    fleet.all_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_hears_loses_its_jobs_to_another_and_none_is_done_twice() {
    let Some(fleet) = Fleet::new() else { return };
    let network = Proxy::to(fleet.nats.port());
    let url = format!("nats://127.0.0.1:{}", network.port());
    let mut cut_off = fleet.maitred.clone().set("nats.url", url).worker("cut-off");
    until_ready(&mut cut_off, true);
    fleet.submit(&Workload::with(24, 12, |_| 20));
    fleet.until_held().await;
    network.set(Mode::Blackhole);
    assert!(fleet.held().await > 0, "it was done before it was cut off");
    let other = fleet.worker("other");
    until_ready(&mut cut_off, false);
    fleet.all_end().await;
    // What it said meanwhile arrives now: acks and results of jobs that others have done.
    network.set(Mode::Pass);
    until_ready(&mut cut_off, true);
    fleet.submit(&Workload::new(25, 4));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (16, 0), "{}", report.told());
    assert!(settled(&other) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_and_without_postgres_results_still_flow() {
    let (Some(mut redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.maitred = fleet.maitred.set("redis.url", redis.url()).set("postgres.url", postgres.url());
    fleet.maitred.run(&["init"]).ended(0);
    let mut worker = fleet.worker("w-1");
    until_ready(&mut worker, true);
    fleet.submit(&Workload::new(26, 4));
    fleet.all_end().await;
    redis.stop();
    postgres.stop();
    fleet.submit(&Workload::new(27, 4));
    fleet.all_end().await;
    redis.cont();
    postgres.cont();
    redis.kill();
    postgres.kill();
    fleet.submit(&Workload::new(28, 4));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (12, 0), "{}", report.told());
    postgres.restart();
    fleet.submit(&Workload::new(29, 1));
    fleet.all_end().await;
    let rows = || {
        postgres.sql(
            "SELECT count(DISTINCT restaurant_id) FROM analysis_metrics WHERE restaurant_id LIKE 'r29-%'",
        )
    };
    wait_until("rows are written again", || rows() == "1");
}
