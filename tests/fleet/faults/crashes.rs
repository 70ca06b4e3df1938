//! Rows "kill -9 worker", "SIGSTOP" and "engine hangs".

use nix::sys::signal::Signal;
use rstest::rstest;

use super::{ACK_WAIT, Fleet, health, settled, until_ready};
use crate::common::fleet::Workload;
use crate::common::servers::wait_until;

#[rstest]
#[case::held_and_not_read("received")]
#[case::running("started")]
#[case::published_and_not_recorded("published")]
#[case::recorded_and_not_acknowledged("recorded")]
#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_worker_that_dies_are_done_once_by_another(#[case] point: &str) {
    let Some(fleet) = Fleet::new() else { return };
    fleet.submit(&Workload::new(1, 8));
    let mut dying = fleet.maitred.clone().set("sim.crash_at", point).worker("dying");
    assert_eq!(dying.wait_code(), -(Signal::SIGABRT as i32));
    let other = fleet.worker("other");
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (8, 0), "{}", report.told());
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_worker_that_dies_while_it_drains_are_done_once_by_another() {
    let Some(fleet) = Fleet::new() else { return };
    fleet.submit(&Workload::with(2, 8, |_| 20));
    let mut dying = fleet.maitred.clone().set("sim.crash_at", "draining").worker("dying");
    wait_until("a job runs", || health(&mut dying, "/status").1.contains("\"running\":2"));
    dying.signal(Signal::SIGTERM);
    assert_eq!(dying.wait_code(), -(Signal::SIGABRT as i32));
    let other = fleet.worker("other");
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (8, 0), "{}", report.told());
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_stopped_until_its_leases_had_ended_does_no_harm_when_it_goes_on() {
    let Some(fleet) = Fleet::new() else { return };
    fleet.submit(&Workload::with(3, 12, |_| 20));
    let mut late = fleet.worker("late");
    fleet.until_held().await;
    late.stop();
    assert!(fleet.held().await > 0, "it was done before it was stopped");
    let mut other = fleet.worker("other");
    // Its leases end one after another, and the other worker gets what it held.
    fleet.all_end().await;
    late.cont();
    fleet.submit(&Workload::new(4, 4));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (16, 0), "{}", report.told());
    assert!(late.is_running() && other.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_engine_hangs_lets_its_jobs_go_and_ends_with_an_error() {
    let Some(fleet) = Fleet::new() else { return };
    let mut workload = Workload::new(5, 3);
    workload.restaurants[1]["reviews"][0]["text"] = "This one hangs the engine ~ for ever.".into();
    let hangs = fleet.maitred.clone().set("sim.hang_byte", b'~').set("worker.stall_timeout", "1s");
    let mut hanging = hangs.set("engine.step_limit", "4s").worker("hanging");
    until_ready(&mut hanging, true);
    fleet.submit(&workload);
    until_ready(&mut hanging, false);
    let code = hanging.wait_code();
    assert!(code > 0, "ended with {code}");
    hanging.wait_line("the engine is stuck");
    let other = fleet.worker("other");
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (3, 0), "{}", report.told());
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_dead_worker_go_to_one_that_was_there_all_along() {
    let Some(fleet) = Fleet::new() else { return };
    let mut other = fleet.maitred.clone().set("worker.slots", 4).worker("other");
    until_ready(&mut other, true);
    let mut dying =
        fleet.maitred.clone().set("sim.crash_at", "started").set("worker.slots", 4).worker("dying");
    until_ready(&mut dying, true);
    // Both are idle and pull; who gets which is the server's choice, so there are enough for both.
    fleet.submit(&Workload::new(6, 12));
    dying.wait_code();
    let died = std::time::Instant::now();
    let report = fleet.all_end().await;
    eprintln!("all done {:.1} s after the death, ack wait {ACK_WAIT:?}", died.elapsed().as_secs_f64());
    assert_eq!((report.results.len(), report.dead.len()), (12, 0), "{}", report.told());
    assert_eq!(settled(&other), 12);
}
