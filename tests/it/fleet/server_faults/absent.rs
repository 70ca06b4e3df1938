//! Rows "NATS absent at start", "Redis down", "Postgres down": the order in which things start does not matter.

use maitred_testkit::{Nats, Postgres, Redis, wait_until};

use super::super::faults::{ACK_WAIT, Fleet, health, until_ready};
use super::{said, until_it_complains};
use crate::common::fleet::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_started_first_waits_for_its_server_and_for_its_streams() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    let mut fleet = Fleet::on(nats, ACK_WAIT);
    let mut worker = fleet.worker("early");
    until_it_complains(&mut worker, &["no connection to nats"]);
    assert_eq!(health(&mut worker, "/livez").0, 200);
    fleet.nats.restart();
    until_it_complains(&mut worker, &["REVIEW_JOBS", "is missing", "run `maitred init`"]);
    assert_eq!(health(&mut worker, "/livez").0, 200);
    fleet.maitred.run(&["init"]).ended(0);
    until_ready(&mut worker, true);
    fleet.submit(&Workload::new(41, 2));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (2, 0), "{}", report.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_started_before_its_stores_works_and_uses_them_when_they_come() {
    let (Some(mut redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.maitred = fleet.maitred.set("redis.url", redis.url()).set("postgres.url", postgres.url());
    fleet.maitred = fleet.maitred.set("redis.rest", "1s");
    fleet.maitred.run(&["init"]).ended(0);
    redis.kill();
    postgres.kill();
    let mut worker = fleet.worker("early");
    until_ready(&mut worker, true);
    fleet.submit(&Workload::new(42, 6));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (6, 0), "{}", report.told());
    redis.restart();
    postgres.restart();
    // While Redis is still left alone, and rows of the outage are still tried, jobs go on without.
    let mut round = 430;
    wait_until("facts and rows are kept", || {
        fleet.submit(&Workload::new(round, 1));
        round += 1;
        redis.command("KEYS maitred:last:r4*") != "*0\r\n"
            && postgres.sql("SELECT count(*) > 0 FROM analysis_metrics WHERE restaurant_id LIKE 'r43%'")
                == "t"
    });
    let report = fleet.all_end().await;
    assert!(report.dead.is_empty(), "{}", report.told());
    assert!(worker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_stores_says_where_it_keeps_what_it_finds() {
    let Some(fleet) = Fleet::new() else { return };
    let mut worker = fleet.worker("w-1");
    worker.wait_line("no redis.url: facts are kept in the memory of this worker alone");
    worker.wait_line("no postgres.url and no file as store.cache: metrics are not kept");
    let file = fleet.maitred.clone().set("store.cache", "kept.db");
    let mut other = file.worker("w-2");
    other.wait_line("no redis.url: facts are kept in store.cache, on this machine alone path=kept.db");
    other.wait_line("no postgres.url: metrics are kept in store.cache, on this machine alone path=kept.db");
    until_ready(&mut worker, true);
    until_ready(&mut other, true);
    fleet.submit(&Workload::new(40, 8));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (8, 0), "{}", report.told());
    assert_eq!(said(&worker, "facts are kept") + said(&other, "facts are kept"), 2);
}
