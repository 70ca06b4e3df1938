//! Several held jobs of one restaurant, several deliveries of one job, cancelled jobs.

use super::*;

#[test]
fn a_newer_epoch_makes_the_queued_older_one_stale() {
    let mut desk = Desk::new(1, 3);
    desk.queue(1);
    desk.queue_job(2, job("old", "r", 1, 2));
    desk.queue_job(3, job("new", "r", 2, 3));
    assert_eq!(desk.actions(), [start(1), Action::Stale(id(2))]);
    desk.end(2, End::Done);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(2), ack(1), start(3)]);
    assert_eq!(desk.machine.counts(desk.now).stale, 1);
}

#[test]
fn an_older_epoch_is_stale_at_once_beside_a_queued_or_a_running_newer_one() {
    let mut desk = Desk::new(1, 4);
    desk.queue_job(1, job("running", "r", 5, 1));
    desk.queue_job(2, job("queued", "q", 5, 2));
    desk.queue_job(3, job("old-r", "r", 4, 3));
    desk.queue_job(4, job("old-q", "q", 4, 4));
    assert_eq!(desk.actions(), [start(1), Action::Stale(id(3)), Action::Stale(id(4))]);
}

#[test]
fn a_newer_epoch_waits_for_the_running_older_one() {
    let mut desk = Desk::new(2, 2);
    desk.queue_job(1, job("old", "r", 1, 1));
    desk.queue_job(2, job("new", "r", 2, 2));
    assert_eq!(desk.actions(), [start(1)]);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), start(2)]);
}

#[test]
fn equal_epochs_with_different_results_both_run_one_after_the_other() {
    let mut desk = Desk::new(2, 2);
    desk.queue_job(1, job("j", "r", 1, 1));
    desk.queue_job(2, job("j@backfill", "r", 1, 2));
    assert_eq!(desk.actions(), [start(1)]);
    desk.end(1, End::Dead);
    assert_eq!(desk.actions(), [Action::Settle(id(1), Settlement::Term), start(2)]);
}

#[test]
fn a_stale_suspect_holds_nobody_up() {
    let mut desk = Desk::new(2, 3);
    desk.queue(1);
    desk.queue_job(2, JobHead { solo: true, ..job("suspect", "r", 1, 2) });
    desk.queue(3);
    assert_eq!(desk.actions(), [start(1)]);
    desk.queue_job(4, job("new", "r", 2, 4));
    assert_eq!(desk.actions(), [Action::Stale(id(2)), start(3)]);
}

#[test]
fn a_double_waits_for_the_first_and_is_acked_without_a_run() {
    let mut desk = Desk::new(2, 2);
    desk.queue_job(1, job("j", "r", 1, 1));
    desk.queue_job(2, job("j", "r", 1, 2));
    assert_eq!(desk.actions(), [start(1)]);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), ack(2)]);
    assert_eq!(desk.machine.counts(desk.now).duplicates, 1);
}

#[test]
fn a_double_takes_the_place_of_a_first_that_did_not_end_well() {
    for end in [End::Dead, End::Retry(secs(5)), End::Interrupted] {
        let mut desk = Desk::new(2, 3);
        for sequence in 1..=3 {
            desk.queue_job(sequence, job("j", "r", 1, sequence));
        }
        desk.end(1, end);
        let actions = desk.actions();
        assert_eq!(actions.last(), Some(&start(2)), "{end:?}");
        desk.end(2, End::Done);
        assert_eq!(desk.actions(), [ack(2), ack(3)], "{end:?}");
    }
}

#[test]
fn a_double_takes_the_place_of_a_first_that_is_forgotten() {
    let mut desk = Desk::new(1, 3);
    desk.queue(1);
    desk.queue_job(2, job("j", "r", 1, 2));
    desk.engine_well = Some(Duration::ZERO);
    desk.pass(secs(30));
    desk.queue_job(3, job("j", "r", 1, 3));
    let actions = desk.pass(secs(30));
    assert_eq!(
        actions.iter().filter(|a| matches!(a, Action::Forget(_))).collect::<Vec<_>>(),
        [&Action::Forget(id(2))]
    );
    desk.end(1, End::Done);
    desk.engine_well = None;
    assert!(desk.tick().contains(&start(3)));
}

#[test]
fn a_result_that_is_in_its_stream_is_not_worked_again() {
    let mut desk = Desk::new(2, 2);
    desk.queue_job(1, job("j", "r", 1, 1));
    desk.end(1, End::Done);
    desk.settled(1, true);
    desk.actions();
    desk.queue_job(2, job("j", "r", 1, 2));
    assert_eq!(desk.actions(), [ack(2)]);
}

#[test]
fn a_dead_job_that_is_sent_again_runs_again() {
    let mut desk = Desk::new(2, 2);
    desk.queue_job(1, job("j", "r", 1, 1));
    desk.end(1, End::Dead);
    desk.settled(1, true);
    desk.actions();
    desk.queue_job(2, job("j", "r", 1, 2));
    assert_eq!(desk.actions(), [start(2)]);
}

#[test]
fn a_cancelled_queued_job_gets_its_result_without_a_run() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    assert_eq!(desk.machine.cancel("job-2", desk.now), 1);
    assert_eq!(desk.actions(), [Action::Cancelled(id(2))]);
    desk.end(2, End::Done);
    assert_eq!(desk.actions(), [ack(2)]);
}

#[test]
fn a_cancelled_running_job_is_stopped_first() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    assert_eq!(desk.machine.cancel("job-1", desk.now), 1);
    assert_eq!(desk.actions(), [Action::Stop(id(1))]);
    desk.end(1, End::Interrupted);
    assert_eq!(desk.actions(), [Action::Cancelled(id(1)), start(2)]);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1)]);
}

#[test]
fn a_run_that_was_faster_than_its_cancel_counts() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.machine.cancel("job-1", desk.now);
    desk.actions();
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1)]);
}

#[test]
fn cancelling_a_job_that_is_not_held_concerns_nothing() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.actions();
    assert_eq!(desk.machine.cancel("job-9", desk.now), 0);
    assert_eq!(desk.actions(), []);
}

#[test]
fn a_cancelled_newer_epoch_makes_nothing_stale() {
    let mut desk = Desk::new(1, 2);
    desk.queue_job(1, job("new", "r", 2, 1));
    desk.machine.cancel("new", desk.now);
    desk.actions();
    desk.queue_job(2, job("old", "r", 1, 2));
    assert_eq!(desk.actions(), []);
    desk.end(1, End::Interrupted);
    assert_eq!(desk.actions(), [Action::Cancelled(id(1)), start(2)]);
}
