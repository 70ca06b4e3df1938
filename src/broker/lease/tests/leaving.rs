//! Handing back: held too long, idle workers elsewhere, drain, abort.

use super::*;

#[test]
fn a_job_held_too_long_goes_back_unless_it_is_next() {
    let mut desk = Desk::new(1, 3);
    for sequence in 1..=3 {
        desk.queue(sequence);
    }
    desk.actions();
    desk.pass(secs(60));
    let actions = desk.pass(secs(10));
    assert_eq!(actions.iter().filter(|a| matches!(a, Action::Settle(..))).collect::<Vec<_>>(), [&nak(3)]);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), start(2)]);
}

#[test]
fn the_next_job_is_the_first_whose_restaurant_does_not_run() {
    let mut desk = Desk::new(1, 3);
    desk.queue_job(1, job("a", "r", 1, 1));
    desk.queue_job(2, job("b", "r", 1, 2));
    desk.queue_job(3, job("c", "other", 1, 3));
    let actions = desk.pass(secs(70));
    assert!(actions.contains(&nak(2)) && !actions.contains(&nak(3)));
}

#[test]
fn a_double_is_not_handed_over_while_its_first_runs() {
    let mut desk = Desk::new(1, 3);
    desk.queue_job(1, job("j", "r", 1, 1));
    desk.queue_job(2, job("j", "r", 1, 2));
    let actions = desk.pass(secs(100));
    desk.machine.idle_elsewhere(SourceId(0), 5, desk.now);
    assert!(!actions.contains(&nak(2)));
    assert_eq!(desk.actions(), []);
}

#[test]
fn jobs_go_to_idle_workers_the_last_in_order_first() {
    let mut desk = Desk::new(1, 4);
    for sequence in [1, 4, 2, 3] {
        desk.queue(sequence);
    }
    desk.actions();
    desk.machine.idle_elsewhere(SourceId(9), 5, desk.now);
    assert_eq!(desk.actions(), [], "another source");
    desk.machine.idle_elsewhere(SourceId(0), 2, desk.now);
    assert_eq!(desk.actions(), [nak(4), nak(3)]);
    desk.machine.idle_elsewhere(SourceId(0), 2, desk.now);
    assert_eq!(desk.actions(), [nak(2)], "no slot is free here: the next one goes too");
    assert_eq!(desk.machine.counts(desk.now).handed_back, 3);
}

#[test]
fn the_next_job_stays_if_there_is_a_slot_for_it() {
    let mut desk = Desk::new(2, 2);
    desk.queue(1);
    desk.queue_job(2, solo(2));
    desk.queue(3);
    desk.actions();
    desk.machine.idle_elsewhere(SourceId(0), 5, desk.now);
    assert_eq!(desk.actions(), [nak(3)]);
}

#[test]
fn a_drain_hands_back_what_waits_and_lets_finish_what_runs() {
    let mut desk = Desk::new(1, 3);
    desk.queue(1);
    desk.queue(2);
    assert_eq!(desk.deliver(3), Received::Decode);
    desk.actions();
    desk.machine.drain(desk.now);
    assert_eq!(desk.actions(), [nak(2)]);
    desk.machine.decoded(id(3), head(3), desk.now);
    assert_eq!(desk.actions(), [nak(3)], "what was being decoded goes back when it is decoded");
    assert_eq!(desk.deliver(4), Received::Refused);
    assert_eq!(desk.machine.room(true), 0);
    desk.settled(2, true);
    desk.settled(3, true);
    assert_eq!(renewed(&desk.pass(secs(20)), 1), 2);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1)]);
    assert!(!desk.machine.is_empty());
    desk.settled(1, true);
    assert!(desk.machine.is_empty());
}

#[test]
fn a_double_goes_back_in_a_drain_with_its_first_or_without_it() {
    let mut desk = Desk::new(1, 3);
    desk.queue_job(1, job("j", "r", 1, 1));
    desk.queue_job(2, job("j", "r", 1, 2));
    desk.queue_job(3, job("k", "s", 1, 3));
    desk.queue_job(4, job("k", "s", 1, 4));
    desk.actions();
    desk.machine.drain(desk.now);
    let mut actions = desk.actions();
    actions.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(actions, [nak(2), nak(3), nak(4)]);
}

#[test]
fn what_still_runs_after_the_grace_is_stopped_and_handed_back() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.actions();
    desk.machine.drain(desk.now);
    assert_eq!(desk.machine.next_due(), Some(secs(30)));
    desk.pass(secs(20));
    let actions = desk.pass(secs(10));
    assert_eq!(actions, [Action::Stop(id(1)), Action::Renew(id(1))]);
    desk.end(1, End::Interrupted);
    assert_eq!(desk.actions(), [nak_later(1, 1)]);
}

#[test]
fn an_abort_stops_everything_at_once() {
    let mut desk = Desk::new(1, 3);
    desk.queue(1);
    desk.queue(2);
    assert_eq!(desk.deliver(3), Received::Decode);
    desk.actions();
    desk.machine.abort(desk.now);
    assert_eq!(desk.actions(), [nak(2), Action::Stop(id(1)), Action::Stop(id(3))]);
    desk.machine.abort(desk.now);
    assert_eq!(desk.actions(), []);
    desk.end(1, End::Interrupted);
    desk.end(3, End::Interrupted);
    assert_eq!(desk.actions(), [nak_later(1, 1), nak_later(3, 1)]);
}

#[test]
fn an_abort_outweighs_a_cancel() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.machine.cancel("job-1", desk.now);
    desk.machine.abort(desk.now);
    assert_eq!(desk.actions(), [start(1), Action::Stop(id(1))]);
    desk.end(1, End::Interrupted);
    assert_eq!(desk.actions(), [nak_later(1, 1)]);
}

#[test]
fn a_drain_forgets_what_is_doubtful() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    desk.freeze(ACK_WAIT);
    desk.machine.drain(desk.now);
    assert_eq!(desk.actions(), [Action::Forget(id(2))]);
}
