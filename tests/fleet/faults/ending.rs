//! Rows "SIGTERM twice" and "2 workers, 4 jobs".
//!
//! No lease ends while these tests last: a job that changes hands was handed over, and not merely let go.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Fleet, settled};
use crate::common::fleet::{Maitred, Workload};
use crate::ground::until;

/// Longer than the tests are patient.
const NEVER: Duration = Duration::from_hours(1);

/// A worker that runs one job at a time, a second or two for each, and holds some more.
fn slow(fleet: &Fleet) -> Maitred {
    fleet.maitred.clone().set("sim.step", "100ms").set("worker.slots", 1).set("worker.look_ahead", 3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_end_finishes_what_runs_and_hands_the_rest_on() {
    let Some(fleet) = Fleet::with_ack_wait(NEVER) else { return };
    fleet.submit(&Workload::with(31, 4, |_| 20));
    let mut leaving = slow(&fleet).worker("leaving");
    until("it holds several", async || (fleet.held().await > 2).then_some(())).await;
    leaving.signal(Signal::SIGTERM);
    assert_eq!(leaving.wait_code(), 0);
    assert!(settled(&leaving) >= 1, "what ran was not finished");
    let staying = fleet.worker("staying");
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (4, 0), "{}", report.told());
    assert!(settled(&staying) >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_twice_hands_all_back_and_says_so() {
    let Some(fleet) = Fleet::with_ack_wait(NEVER) else { return };
    fleet.submit(&Workload::with(32, 4, |_| 20));
    let mut leaving = slow(&fleet).worker("leaving");
    until("it holds several", async || (fleet.held().await > 2).then_some(())).await;
    leaving.signal(Signal::SIGTERM);
    leaving.wait_line("draining");
    leaving.signal(Signal::SIGTERM);
    assert_eq!(leaving.wait_code(), 130);
    let other = fleet.worker("other");
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (4, 0), "{}", report.told());
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_nothing_to_do_gets_jobs_that_wait_at_another() {
    let Some(fleet) = Fleet::with_ack_wait(NEVER) else { return };
    fleet.submit(&Workload::with(33, 6, |_| 20));
    let first = slow(&fleet).set("worker.look_ahead", 5).worker("first");
    until("it holds nearly all", async || (fleet.held().await >= 5).then_some(())).await;
    let second = fleet.worker("second");
    fleet.all_end().await;
    assert!(settled(&first) >= 1 && settled(&second) >= 1, "{} and {}", settled(&first), settled(&second));
}
