//! Heap, cost and admission together, in virtual time: what the scheduler promises as a whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::admission::{Capacity, Grant, Need, Room};
use super::heap::{Arrival, Lane, Policy, Ready};
use super::{Seconds, admit_next};

const CAPACITY: Capacity = Capacity { sequences: 8, cells: 1000, cells_per_sequence: 1000 };

#[derive(Debug, Clone, Copy)]
struct Work {
    arrival: Arrival,
    need: Need,
}

/// When a piece of work started and ended.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: f64,
    end: f64,
}

fn work() -> impl Strategy<Value = Work> {
    let lane = prop::sample::select(vec![Lane::Hi, Lane::Live, Lane::Backfill]);
    // Half-second steps, so that arrivals and ends meet.
    (0_u32..400, 1_u32..60, lane, 1..=CAPACITY.sequences, 1..=CAPACITY.cells).prop_map(
        |(at, cost, lane, sequences, cells)| Work {
            arrival: Arrival {
                at: Seconds::new(f64::from(at) / 2.0),
                cost: Seconds::new(f64::from(cost) / 2.0),
                lane,
            },
            need: Need { sequences, cells },
        },
    )
}

/// Serves all work, each piece for its cost, and tells when.
fn simulate(all: &[Work], policy: Policy, room: &Room) -> BTreeMap<usize, Span> {
    let mut waiting: Vec<usize> = (0..all.len()).collect();
    waiting.sort_by(|&a, &b| all[b].arrival.at.get().total_cmp(&all[a].arrival.at.get()));
    let mut ready = Ready::new(policy);
    let mut running: Vec<(f64, Grant)> = Vec::new();
    let mut spans = BTreeMap::new();
    loop {
        let next_arrival = waiting.last().map(|&n| all[n].arrival.at.get());
        let next_end = running.iter().map(|(end, _)| *end).min_by(f64::total_cmp);
        let Some(now) = [next_arrival, next_end].into_iter().flatten().min_by(f64::total_cmp) else { break };
        running.retain(|(end, _)| *end > now);
        while let Some(n) = waiting.pop_if(|n| all[*n].arrival.at.get() <= now) {
            ready.push(n, all[n].arrival);
        }
        while let Some((_, n, grant)) = admit_next(&mut ready, room, |&n| all[n].need) {
            let end = now + all[n].arrival.cost.get();
            running.push((end, grant));
            spans.insert(n, Span { start: now, end });
        }
    }
    assert!(ready.is_empty(), "{} pieces wait for ever", ready.len());
    spans
}

proptest! {
    #[test]
    fn all_work_ends_within_the_bound_and_the_room_is_whole(
        all in prop::collection::vec(work(), 1..40),
        lambda in 0.0..10.0_f64,
    ) {
        let policy = Policy { lambda, ..Policy::default() };
        let room = Room::new(CAPACITY);
        for work in &all {
            prop_assert_eq!(room.check(work.need), Ok(()));
        }
        let spans = simulate(&all, policy, &room);
        prop_assert_eq!(spans.len(), all.len());
        prop_assert_eq!(room.free(), Need { sequences: CAPACITY.sequences, cells: CAPACITY.cells });

        for (&n, span) in &spans {
            let old = all[n].arrival;
            prop_assert!(span.start >= old.at.get());
            // Whatever starts while it waits has arrived within the bound of the key.
            let mut ahead = 0.0;
            for (&other, passing) in spans.iter().filter(|&(&other, _)| other != n) {
                let new = all[other].arrival;
                let bound = old.at.get() + lambda * (old.cost.get() - new.cost.get())
                    + policy.bonus(new.lane).get() - policy.bonus(old.lane).get();
                if (old.at.get()..span.start).contains(&passing.start) {
                    prop_assert!(new.at.get() <= bound + 1e-9, "{other} passed {n} beyond the bound");
                }
                if passing.start < span.start && passing.end > old.at.get() {
                    ahead += passing.end - passing.start.max(old.at.get());
                }
            }
            // While it waits, something that went before it is always running: it waits no longer than that takes.
            prop_assert!(span.start - old.at.get() <= ahead + 1e-9, "{n} waited while the room was empty");
        }
    }

    #[test]
    fn the_room_is_never_overdrawn(all in prop::collection::vec(work(), 1..40), lambda in 0.0..10.0_f64) {
        let room = Room::new(CAPACITY);
        let spans = simulate(&all, Policy { lambda, ..Policy::default() }, &room);
        for span in spans.values() {
            let at_once = || spans.iter().filter(|(_, s)| s.start <= span.start && span.start < s.end);
            let sequences: u32 = at_once().map(|(&n, _)| all[n].need.sequences).sum();
            let cells: u32 = at_once().map(|(&n, _)| all[n].need.cells).sum();
            prop_assert!(sequences <= CAPACITY.sequences && cells <= CAPACITY.cells);
        }
    }
}
