//! The last word, and doubtful leases.

use super::*;

#[test]
fn a_settled_job_is_never_renewed_and_never_settled_otherwise() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [start(1), ack(1)]);
    desk.end(1, End::Interrupted);
    desk.machine.abort(desk.now);
    assert_eq!(desk.actions(), []);
    assert_eq!(desk.pass(secs(200)), [], "the edge has not said yet what became of the ack");
}

#[test]
fn a_settlement_that_did_not_get_through_is_repeated_until_it_does() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Done);
    desk.actions();
    for _ in 0..3 {
        desk.settled(1, false);
        assert_eq!(desk.actions(), [], "not at once");
        let due = desk.machine.next_due().unwrap();
        assert!(due > desk.now);
        desk.freeze(due.saturating_sub(desk.now));
        assert_eq!(desk.tick(), [ack(1)]);
    }
    desk.settled(1, true);
    assert!(desk.machine.is_empty());
}

#[test]
fn a_link_that_is_back_hurries_what_did_not_get_through() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Dead);
    desk.actions();
    desk.machine.link(false, desk.now);
    desk.settled(1, false);
    desk.machine.link(true, desk.now);
    assert_eq!(desk.tick(), [Action::Settle(id(1), Settlement::Term)]);
}

#[test]
fn a_finished_job_that_comes_again_is_settled_again_as_before() {
    for (end, settlement) in [(End::Done, Settlement::Ack), (End::Dead, Settlement::Term)] {
        let mut desk = Desk::new(1, 0);
        desk.queue(1);
        desk.end(1, end);
        desk.settled(1, true);
        desk.actions();
        assert_eq!(desk.deliver_as(id(1), 2), Received::Again(settlement));
        assert!(desk.machine.is_empty());
        assert_eq!(desk.actions(), []);
    }
}

#[test]
fn a_job_that_was_handed_back_is_taken_in_anew() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Retry(secs(3)));
    desk.settled(1, true);
    assert_eq!(desk.actions(), [start(1), nak_later(1, 3)]);
    assert_eq!(desk.deliver_as(id(1), 2), Received::Decode);
}

#[test]
fn a_redelivery_that_overtakes_the_word_on_its_hand_back_begins_a_new_life() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Retry(secs(1)));
    desk.actions();
    assert_eq!(desk.deliver_as(id(1), 2), Received::Decode);
    desk.settled(1, true);
    assert!(desk.machine.holds(id(1)), "the edge must keep what belongs to the new life");
    desk.machine.decoded(id(1), head(1), desk.now);
    assert_eq!(desk.actions(), [start(1)], "the word on the old life does not end the new one");
    desk.end(1, End::Done);
    desk.settled(1, true);
    assert_eq!(desk.actions(), [ack(1)]);
    assert!(desk.machine.is_empty());
}

#[test]
fn a_redelivery_during_the_ack_keeps_the_newer_acker() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Done);
    desk.actions();
    assert_eq!(desk.deliver_as(id(1), 2), Received::Merged);
    desk.settled(1, true);
    assert!(desk.machine.is_empty());
}

#[test]
fn what_cannot_be_decoded_ends_before_it_is_queued() {
    let mut desk = Desk::new(1, 0);
    assert_eq!(desk.deliver(1), Received::Decode);
    desk.end(1, End::Dead);
    assert_eq!(desk.actions(), [Action::Settle(id(1), Settlement::Term)]);
    desk.machine.decoded(id(1), head(1), desk.now);
    assert_eq!(desk.actions(), [], "too late");
}

#[test]
fn a_delay_is_never_under_a_second() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Retry(Duration::ZERO));
    assert_eq!(desk.actions(), [start(1), nak_later(1, 1)]);
}

#[test]
fn a_queued_job_whose_lease_ran_out_is_forgotten() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    desk.freeze(ACK_WAIT);
    let actions = desk.tick();
    assert_eq!(actions, [Action::Forget(id(2))], "and what runs is not renewed: it may be somebody else's");
    assert_eq!(desk.deliver_as(id(2), 2), Received::Decode);
}

#[test]
fn renewals_without_a_link_do_not_count() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    desk.machine.link(false, desk.now);
    let actions = desk.pass(secs(39));
    assert_eq!(actions, []);
    desk.machine.link(true, desk.now);
    assert_eq!(desk.tick().len(), 2, "in time");
    desk.machine.link(false, desk.now);
    assert_eq!(desk.pass(ACK_WAIT), [Action::Forget(id(2))]);
}

#[test]
fn renewals_that_nobody_confirms_do_not_count() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    desk.silent = true;
    let actions = desk.pass(ACK_WAIT);
    assert_eq!((renewed(&actions, 1), renewed(&actions, 2)), (3, 3), "asked for in vain");
    assert!(actions.contains(&Action::Forget(id(2))), "{actions:?}");
    // An answer that comes too late changes nothing: the renewal may have been another holder's.
    desk.machine.renewed(id(1), secs(30), desk.now);
    desk.silent = false;
    assert_eq!(renewed(&desk.pass(ACK_WAIT), 1), 0);
}

#[test]
fn one_confirmation_that_is_lost_does_no_harm() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    for _ in 0..5 {
        desk.silent = true;
        desk.pass(TICK * 2);
        desk.silent = false;
        assert_eq!(desk.pass(TICK), [Action::Renew(id(1)), Action::Renew(id(2))]);
    }
}

#[test]
fn a_doubtful_running_job_finishes_and_acks_and_is_never_handed_back() {
    let ends = [
        (End::Done, ack(1)),
        (End::Dead, Action::Settle(id(1), Settlement::Term)),
        (End::Retry(secs(9)), Action::Forget(id(1))),
        (End::Interrupted, Action::Forget(id(1))),
    ];
    for (end, action) in ends {
        let mut desk = Desk::new(1, 0);
        desk.queue(1);
        desk.actions();
        desk.freeze(ACK_WAIT * 2);
        // No tick in between: the event itself looks at the clock.
        desk.end(1, end);
        assert_eq!(desk.actions(), [action], "{end:?}");
    }
}

#[test]
fn a_doubtful_lease_stays_doubtful_unless_the_job_is_delivered_again() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.actions();
    desk.freeze(ACK_WAIT);
    assert_eq!(desk.pass(secs(50)), [], "no renewal brings it back");
    assert_eq!(desk.deliver_as(id(1), 2), Received::Merged);
    assert_eq!(desk.pass(secs(10)), [Action::Renew(id(1))]);
    desk.end(1, End::Retry(secs(9)));
    assert_eq!(desk.actions(), [nak_later(1, 9)]);
}

#[test]
fn a_queued_job_that_is_lent_anew_keeps_its_place() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    desk.freeze(ACK_WAIT);
    assert_eq!(desk.deliver_as(id(2), 2), Received::Merged);
    assert_eq!(desk.actions(), [], "above all it is not forgotten for its past");
    desk.tick();
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), start(2)]);
}

#[test]
fn a_hand_back_is_said_once() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Retry(secs(9)));
    desk.actions();
    desk.settled(1, false);
    assert_eq!(
        desk.actions(),
        [Action::Forget(id(1))],
        "it may have got through, and the job be lent to another"
    );
    assert!(desk.machine.is_empty());
}

#[test]
fn a_hand_back_that_nobody_confirms_is_dropped_in_the_end() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Retry(secs(9)));
    desk.actions();
    desk.freeze(ACK_WAIT);
    assert_eq!(desk.tick(), [Action::Forget(id(1))]);
}

#[test]
fn without_a_link_nothing_is_handed_back() {
    let mut desk = Desk::new(1, 1);
    desk.queue(1);
    desk.queue(2);
    desk.actions();
    desk.machine.link(false, desk.now);
    desk.machine.drain(desk.now);
    desk.end(1, End::Interrupted);
    assert_eq!(desk.actions(), [Action::Forget(id(2)), Action::Forget(id(1))]);
}

#[test]
fn an_ack_that_does_not_get_through_in_time_is_still_repeated() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.end(1, End::Done);
    desk.settled(1, false);
    desk.actions();
    desk.freeze(ACK_WAIT);
    assert_eq!(desk.tick(), [ack(1)]);
}

#[test]
fn a_job_decoded_after_its_lease_ran_out_is_forgotten() {
    let mut desk = Desk::new(1, 0);
    assert_eq!(desk.deliver(1), Received::Decode);
    desk.freeze(ACK_WAIT);
    desk.machine.decoded(id(1), head(1), desk.now);
    assert_eq!(desk.actions(), [Action::Forget(id(1))]);
}
