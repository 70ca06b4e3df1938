//! Receiving, ordering, renewing.

use super::*;

#[test]
fn jobs_start_in_heap_order_up_to_the_slots() {
    let mut desk = Desk::new(2, 2);
    desk.engine_well = Some(Duration::ZERO);
    desk.freeze(secs(30));
    for sequence in [3, 1, 4, 2] {
        desk.queue(sequence);
    }
    assert_eq!(desk.actions(), [], "the engine stands still");
    desk.engine_well = None;
    assert_eq!(
        desk.tick().iter().filter(|a| matches!(a, Action::Start(_))).collect::<Vec<_>>(),
        [&start(1), &start(2)]
    );
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), start(3)], "the slot is free before the ack is through");
}

#[test]
fn a_queued_job_of_a_running_restaurant_waits_and_others_pass() {
    let mut desk = Desk::new(2, 2);
    desk.queue_job(1, job("a", "r", 1, 1));
    desk.queue_job(2, job("b", "r", 1, 2));
    desk.queue_job(3, job("c", "other", 1, 3));
    assert_eq!(desk.actions(), [start(1), start(3)]);
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), start(2)]);
}

#[test]
fn a_suspect_starts_when_nothing_runs_and_nothing_starts_beside_it() {
    let mut desk = Desk::new(2, 3);
    desk.queue(1);
    desk.queue_job(2, solo(2));
    desk.queue(3);
    assert_eq!(desk.actions(), [start(1)], "a free slot stays free for the suspect at the head");
    desk.end(1, End::Done);
    assert_eq!(desk.actions(), [ack(1), start(2)]);
    desk.queue(4);
    assert_eq!(desk.actions(), []);
    desk.end(2, End::Done);
    assert_eq!(desk.actions(), [ack(2), start(3), start(4)]);
}

#[test]
fn a_suspect_behind_others_does_not_hold_them_up() {
    let mut desk = Desk::new(2, 3);
    desk.queue(1);
    desk.queue_job(9, solo(9));
    desk.queue(2);
    assert_eq!(desk.actions(), [start(1), start(2)]);
}

#[test]
fn a_redelivery_of_a_held_job_is_merged_and_runs_once() {
    let mut desk = Desk::new(2, 2);
    desk.queue(1);
    assert_eq!(desk.actions(), [start(1)]);
    assert_eq!(desk.deliver_as(id(1), 2), Received::Merged);
    assert_eq!(desk.actions(), []);
    assert_eq!(desk.machine.counts(desk.now).merged, 1);
}

#[test]
fn the_same_sequence_of_another_consumer_is_another_lease() {
    let mut desk = Desk::new(2, 2);
    desk.queue(1);
    assert_eq!(desk.deliver_as(LeaseId { source: SourceId(7), ..id(1) }, 1), Received::Decode);
}

#[test]
fn the_same_sequence_of_a_stream_that_was_made_anew_is_another_job() {
    let mut desk = Desk::new(2, 2);
    desk.queue(1);
    desk.queue(2);
    desk.end(1, End::Done);
    desk.settled(1, true);
    for (sequence, before) in [(1, "finished"), (2, "held")] {
        let anew = LeaseId { published: 1, ..id(sequence) };
        assert_eq!(desk.deliver_as(anew, 1), Received::Decode, "one that was {before} is not meant");
    }
    assert_eq!(desk.deliver_as(id(1), 2), Received::Again(Settlement::Ack));
}

#[test]
fn every_lease_is_renewed_four_times_in_the_wait_whatever_its_state() {
    let mut desk = Desk::new(1, 3);
    assert_eq!(desk.deliver(1), Received::Decode);
    desk.queue(2);
    desk.queue(3);
    desk.queue_job(4, job("old", "restaurant-3", 0, 4));
    assert_eq!(desk.actions(), [start(2), Action::Stale(id(4))]);
    let actions = desk.pass(ACK_WAIT);
    for (sequence, state) in [(1, "decoding"), (2, "running"), (3, "queued"), (4, "closing")] {
        assert_eq!(renewed(&actions, sequence), 4, "{state}");
    }
}

#[test]
fn ticks_that_come_a_little_early_still_renew_each_time() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    let mut actions = desk.actions();
    for _ in 0..20 {
        desk.now += TICK * 3 / 4;
        actions.extend(desk.tick());
    }
    assert_eq!(renewed(&actions, 1), 20);
}

#[test]
fn what_needs_the_engine_is_renewed_only_while_the_engine_is_well() {
    let mut desk = Desk::new(1, 2);
    desk.queue(1);
    desk.queue(2);
    assert_eq!(desk.deliver(3), Received::Decode);
    desk.engine_well = Some(Duration::ZERO);
    desk.pass(secs(20));
    let actions = desk.pass(secs(10));
    assert_eq!((renewed(&actions, 1), renewed(&actions, 2), renewed(&actions, 3)), (0, 0, 1));
    assert_eq!((desk.machine.room(true), desk.machine.room(false)), (0, 0), "and nothing more is asked for");
    desk.engine_well = None;
    let actions = desk.tick();
    assert_eq!((renewed(&actions, 1), renewed(&actions, 2)), (1, 1));
}

#[test]
fn a_job_that_runs_too_long_is_stopped_not_renewed_and_handed_back() {
    let mut desk = Desk::new(1, 0);
    desk.queue(1);
    desk.pass(secs(290));
    let actions = desk.pass(secs(20));
    assert_eq!(actions, [Action::Stop(id(1))], "stopped once, and no renewal after");
    desk.end(1, End::Interrupted);
    assert_eq!(desk.actions(), [nak_later(1, 1)]);
}

#[test]
fn room_is_what_the_slots_and_the_look_ahead_leave() {
    let mut desk = Desk::new(2, 3);
    assert_eq!((desk.machine.room(false), desk.machine.room(true)), (2, 5));
    for sequence in 1..=3 {
        desk.queue(sequence);
    }
    assert_eq!((desk.machine.room(false), desk.machine.room(true)), (0, 2));
    desk.end(1, End::Done);
    assert_eq!(desk.machine.room(true), 2, "what is being settled is held");
    desk.settled(1, true);
    assert_eq!(desk.machine.room(true), 3);
}

#[test]
fn a_delivery_whose_lease_ended_on_the_way_is_dropped() {
    let mut desk = Desk::new(1, 0);
    let sent = desk.now;
    desk.freeze(ACK_WAIT);
    let delivery = Delivery { count: 1, not_before: sent };
    assert_eq!(desk.machine.received(id(1), delivery, desk.now), Received::Late);
    assert!(desk.machine.is_empty());
    desk.machine.drain(desk.now);
    assert_eq!(
        desk.machine.received(id(1), delivery, desk.now),
        Received::Late,
        "no late nak, not even in a drain"
    );
}

#[test]
fn figures_say_where_the_leases_stand() {
    let mut desk = Desk::new(1, 4);
    desk.queue(1);
    desk.queue(2);
    assert_eq!(desk.deliver_as(id(3), 2), Received::Decode);
    desk.pass(secs(10));
    desk.end(1, End::Done);
    let counts = desk.machine.counts(desk.now);
    let held = (counts.held, counts.decoding, counts.queued, counts.running, counts.closing, counts.settling);
    assert_eq!(held, (3, 1, 0, 1, 0, 1));
    assert_eq!((counts.received, counts.redelivered, counts.renewals), (3, 1, 3));
    assert_eq!(counts.oldest, secs(10));
}
