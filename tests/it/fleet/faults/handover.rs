//! Jobs that go from a worker that is no more, or that nobody hears, to one that was there all along.

use maitred_testkit::{Mode, Proxy};

use super::{ACK_WAIT, Fleet, settled, until_ready};
use crate::common::fleet::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_dead_worker_go_to_one_that_was_there_all_along() {
    let Some(fleet) = Fleet::new() else { return };
    // The other one is slow, so that it cannot work all of them before the dying one has got one.
    let mut other = fleet.maitred.clone().set("worker.slots", 4).set("sim.step", "100ms").worker("other");
    until_ready(&mut other, true);
    let mut dying =
        fleet.maitred.clone().set("sim.crash_at", "started").set("worker.slots", 4).worker("dying");
    until_ready(&mut dying, true);
    // Both are idle and pull; who gets which is the server's choice, so there are more than one can hold.
    fleet.submit(&Workload::new(6, 12));
    dying.wait_code();
    let died = std::time::Instant::now();
    let report = fleet.all_end().await;
    eprintln!("all done {:.1} s after the death, ack wait {ACK_WAIT:?}", died.elapsed().as_secs_f64());
    assert_eq!((report.results.len(), report.dead.len()), (12, 0), "{}", report.told());
    assert_eq!(settled(&other), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_hears_loses_its_jobs_to_another_and_none_is_done_twice() {
    let Some(fleet) = Fleet::new() else { return };
    let network = Proxy::to(fleet.nats.port());
    let url = format!("nats://127.0.0.1:{}", network.port());
    // Slow: it must still be at work when it is cut off, however late that is.
    let mut cut_off = fleet.maitred.clone().set("nats.url", url).set("sim.step", "150ms").worker("cut-off");
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
