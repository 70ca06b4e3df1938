//! Row "poison abort".

use super::{Fleet, PATIENCE};
use crate::common::fleet::{Checker, Workload};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_is_a_dead_letter_and_its_neighbours_are_not() {
    let Some(fleet) = Fleet::new() else { return };
    let mut workload = Workload::new(11, 17);
    let poison = workload.ids()[8].clone();
    workload.restaurants[8]["reviews"][0]["text"] = "This one kills the worker ~ at once.".into();
    fleet.submit(&workload);
    let kills = fleet.maitred.clone().set("sim.abort_byte", b'~').set("worker.slots", 8);
    let mut worker = kills.set("worker.look_ahead", 8).worker("victim");
    let checker = Checker::of_all_jobs(&fleet.nats.url()).await;
    let start = std::time::Instant::now();
    let mut deaths = 0;
    let report = loop {
        if !worker.is_running() {
            deaths += 1;
            worker.restart();
        }
        let report = checker.look().await;
        if report.problems.is_empty() {
            break report;
        }
        assert!(start.elapsed() < PATIENCE, "{deaths} deaths\n{}", report.told());
    };
    assert_eq!((report.results.len(), report.dead.len()), (16, 1), "{}", report.told());
    // The first time it is one of many, then it is tried alone, worker.max_crashes times.
    assert!((1..=4).contains(&deaths), "{deaths} deaths");
    let told = fleet.maitred.run(&["dlq", "ls"]).ended(0).stdout;
    assert!(told.contains(&poison), "{told}");
}
