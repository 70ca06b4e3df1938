//! Rows "nats kill -9" and "blackhole", and what becomes of leases that ended unheard.

use std::time::{Duration, Instant};

use maitred_testkit::{Maitred, Mode, Proxy, poll, wait_until};
use rstest::rstest;

use super::super::faults::{ACK_WAIT, Fleet, settled, until_ready};
use super::{NEVER, jobs, said, until_it_complains};
use crate::common::fleet::Workload;

/// Jobs take several seconds each, so that some are running and some are queued when something happens.
fn slow(fleet: &Fleet) -> Maitred {
    fleet.maitred.clone().set("sim.step", "150ms").set("worker.look_ahead", 4)
}

#[rstest]
#[case::a_second(Duration::from_secs(1))]
#[case::twice_the_ack_wait(ACK_WAIT * 2)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_hand_are_not_begun_again_when_the_server_comes_back(#[case] away: Duration) {
    let Some(mut fleet) = Fleet::new() else { return };
    let mut worker = slow(&fleet).worker("w-1");
    until_ready(&mut worker, true);
    fleet.submit(&Workload::with(51, 10, |_| 20));
    wait_until("jobs run and wait here", || jobs(&mut worker, "queued") >= 3);
    fleet.nats.kill();
    let down = Instant::now();
    until_ready(&mut worker, false);
    // The time away is the case itself.
    std::thread::park_timeout(away.saturating_sub(down.elapsed()));
    fleet.nats.restart();
    let back = Instant::now();
    until_ready(&mut worker, true);
    let ready = back.elapsed();
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (10, 0), "{}", report.told());
    assert_eq!(settled(&worker), 10, "a job was worked twice");
    eprintln!(
        "away {away:?}: ready {ready:.1?} after the restart, all done after {:.1?}, {} deliveries merged, {} leases lost",
        back.elapsed(),
        jobs(&mut worker, "merged"),
        said(&worker, "lease lost"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_noticed_and_what_ran_meanwhile_is_published_afterwards() {
    // No lease ends: what the worker holds it keeps.
    let Some(fleet) = Fleet::with_ack_wait(NEVER) else { return };
    let network = Proxy::to(fleet.nats.port());
    let url = format!("nats://127.0.0.1:{}", network.port());
    let mut worker = slow(&fleet).set("nats.url", url).worker("w-1");
    until_ready(&mut worker, true);
    fleet.submit(&Workload::with(52, 6, |_| 20));
    wait_until("jobs run and wait here", || jobs(&mut worker, "queued") >= 3);
    network.set(Mode::Blackhole);
    let noticed = until_it_complains(&mut worker, &["no connection to nats"]);
    eprintln!("noticed after {noticed:.1?}, ping interval 1 s");
    worker.wait_line("trying until it works");
    network.set(Mode::Pass);
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (6, 0), "{}", report.told());
    assert_eq!((settled(&worker), said(&worker, "lease lost")), (6, 0));
    assert_eq!(said(&worker, "delivered=1 "), 6, "a job changed hands");
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_jobs_whose_leases_ended_are_left_to_their_new_holder() {
    let Some(fleet) = Fleet::new() else { return };
    let network = Proxy::to(fleet.nats.port());
    let url = format!("nats://127.0.0.1:{}", network.port());
    let mut cut_off = slow(&fleet).set("nats.url", url).set("worker.slots", 1).worker("cut-off");
    until_ready(&mut cut_off, true);
    fleet.submit(&Workload::with(53, 10, |_| 20));
    wait_until("jobs wait here", || jobs(&mut cut_off, "queued") >= 4);
    network.set(Mode::Blackhole);
    let mut other = fleet.worker("other");
    let lent_again = poll(Duration::from_mins(1), || (said(&other, "delivered=2 ") >= 3).then_some(()));
    assert!(lent_again.is_some(), "the other one did not get what the first held");
    // Before the silence was known for what it is, or after. One of the four may have begun since they were counted.
    wait_until("they are forgotten", || said(&cut_off, "lease lost while out of touch") >= 3);
    network.set(Mode::Pass);
    until_ready(&mut cut_off, true);
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (10, 0), "{}", report.told());
    // A hand-back of the old holder would have taken a job from the new one, to be lent a third time.
    for worker in [&cut_off, &other] {
        assert_eq!(said(worker, "delivered=3 "), 0);
    }
    assert!(cut_off.is_running() && other.is_running());
}
