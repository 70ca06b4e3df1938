//! The machine against a small server and another worker, over any order of events: deliveries and redeliveries,
//! lost acks, a lost link, an engine that stands still, a stopped process, crashes, drains.
//!
//! What the edge and the server object to is in their files. At the end all faults are taken away, and every job must
//! come to exactly one result or dead letter. A link may be silent and not known to be; not modelled: what is sent on it
//! arrives late.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use self::edge::{Edge, Link, Work};
use self::server::{Place, Server};
use super::{End, JobHead, LeaseId, LeaseSettings, SourceId};
use crate::scheduler::{Arrival, Lane, Policy, Seconds};

mod edge;
mod server;

const ACK_WAIT: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy)]
enum Event {
    Pull { backlog: bool },
    Deliver(Index),
    Receive,
    Decode(Index),
    End(Index, End),
    Report(Index, bool),
    LoseNextSettlement,
    Pass(u64),
    Tick { engine_well: bool },
    Freeze,
    Link(bool),
    Silence,
    TheyTake(Index),
    TheyFinish(Index),
    Crash,
    Leave { abort: bool },
    Cancel(Index),
    IdleElsewhere(u16, usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<Index>;
    let end = prop_oneof![
        5 => Just(End::Done),
        1 => Just(End::Dead),
        2 => (0_u64..60).prop_map(|seconds| End::Retry(Duration::from_secs(seconds))),
        3 => Just(End::Interrupted),
    ];
    let event = prop_oneof![
        10 => any::<bool>().prop_map(|backlog| Event::Pull { backlog }),
        16 => index().prop_map(Event::Deliver),
        16 => Just(Event::Receive),
        14 => index().prop_map(Event::Decode),
        12 => (index(), end).prop_map(|(which, end)| Event::End(which, end)),
        10 => (index(), any::<bool>()).prop_map(|(which, answered)| Event::Report(which, answered)),
        2 => Just(Event::LoseNextSettlement),
        10 => (1_u64..12_000).prop_map(Event::Pass),
        12 => prop::bool::weighted(0.85).prop_map(|engine_well| Event::Tick { engine_well }),
        1 => Just(Event::Freeze),
        3 => prop::bool::weighted(0.6).prop_map(Event::Link),
        1 => Just(Event::Silence),
        3 => index().prop_map(Event::TheyTake),
        3 => index().prop_map(Event::TheyFinish),
        1 => Just(Event::Crash),
        1 => any::<bool>().prop_map(|abort| Event::Leave { abort }),
        2 => index().prop_map(Event::Cancel),
        2 => (0_u16..2, 1_usize..4).prop_map(|(source, waiting)| Event::IdleElsewhere(source, waiting)),
    ];
    prop::collection::vec(event, 1..250)
}

/// Few restaurants and epochs, so that jobs meet; ids that come twice; suspects; replays; what cannot be decoded.
fn jobs() -> impl Strategy<Value = BTreeMap<LeaseId, Option<JobHead>>> {
    let job = (0_usize..8, 0_usize..3, 1_u64..4, prop::bool::weighted(0.15), 0_u16..20);
    let delivery = (prop::bool::weighted(0.25), prop::option::weighted(0.92, job));
    prop::collection::vec(delivery, 1..14).prop_map(|all| {
        let lease = |(sequence, (replay, job)): (usize, (bool, Option<_>))| {
            let id = LeaseId { source: SourceId(u16::from(replay)), sequence: sequence as u64, published: 0 };
            (id, job.map(|job| head(replay, job)))
        };
        all.into_iter().enumerate().map(lease).collect()
    })
}

fn head(replay: bool, (name, restaurant, epoch, solo, cost): (usize, usize, u64, bool, u16)) -> JobHead {
    let job_id = format!("job-{name}-{restaurant}-{epoch}");
    JobHead {
        result_id: if replay { format!("{job_id}@replay") } else { job_id.clone() },
        job_id,
        restaurant: format!("restaurant-{restaurant}"),
        epoch,
        arrival: Arrival { at: Seconds::ZERO, cost: Seconds::new(f64::from(cost)), lane: Lane::Live },
        solo,
    }
}

fn settings(slots: usize, look_ahead: usize) -> LeaseSettings {
    LeaseSettings {
        ack_wait: ACK_WAIT,
        max_hold: Duration::from_mins(1),
        stall_timeout: Duration::from_secs(25),
        job_timeout: Duration::from_mins(2),
        grace: Duration::from_secs(30),
        slots,
        look_ahead,
        policy: Policy::default(),
    }
}

fn apply(edge: &mut Edge, event: Event) {
    match event {
        Event::Pull { backlog } => edge.pull(backlog),
        Event::Deliver(which) => {
            edge.deliver(which.index(1000));
        }
        Event::Receive => {
            edge.receive();
        }
        Event::Decode(which) => {
            if let Some(id) = pick(&edge.working(Work::Decoding), which) {
                edge.decode(id);
            }
        }
        Event::End(which, end) => end_one(edge, which, end),
        Event::Report(which, answered) => edge.report(which.index(1000), answered),
        Event::LoseNextSettlement => edge.lossy = true,
        Event::Pass(millis) => edge.pass(Duration::from_millis(millis)),
        Event::Tick { engine_well } => edge.tick(engine_well),
        Event::Freeze => edge.pass(ACK_WAIT * 2),
        Event::Link(up) => edge.set_link(up),
        Event::Silence if edge.link == Link::Up => edge.link = Link::Silent,
        Event::Silence => {}
        Event::TheyTake(which) => {
            if let Some(id) = pick(&edge.server.ready(edge.now), which) {
                edge.server.lend(id, false, edge.now);
            }
        }
        Event::TheyFinish(which) => {
            if let Some(id) = pick(&edge.server.theirs(), which) {
                they_finish(&mut edge.server, id);
            }
        }
        Event::Crash => edge.crash(),
        Event::Leave { abort } => edge.leave(abort),
        Event::Cancel(which) => {
            let ids: Vec<_> = edge.server.messages.keys().copied().collect();
            let job = pick(&ids, which).and_then(|id| edge.server.job(id));
            if let Some(job_id) = job.map(|job| job.job_id.clone()) {
                edge.cancel(&job_id);
            }
        }
        Event::IdleElsewhere(source, waiting) => edge.idle_elsewhere(source, waiting),
    }
    edge.restart_if_drained();
}

/// Runs may end in any way, but only what was stopped is interrupted; publishing does not end in a dead letter.
fn end_one(edge: &mut Edge, which: Index, end: End) {
    let works = [Work::Running, Work::Publishing, Work::Decoding];
    let all: Vec<_> = works.into_iter().flat_map(|work| edge.working(work)).collect();
    let Some(id) = pick(&all, which) else { return };
    let life = &edge.lives[&id];
    let possible = match end {
        End::Interrupted => life.stop,
        End::Retry(_) => true,
        End::Done => life.work != Work::Decoding,
        End::Dead => life.work == Work::Running,
    };
    if possible {
        edge.end(id, end);
    }
}

fn they_finish(server: &mut Server, id: LeaseId) {
    match server.job(id).map(|job| job.result_id.clone()) {
        Some(result) => server.results.insert(result),
        None => server.dead.insert(id),
    };
    server.get(id).place = Place::Over;
}

fn pick(ids: &[LeaseId], which: Index) -> Option<LeaseId> {
    (!ids.is_empty()).then(|| *which.get(ids))
}

/// No more faults: everything comes to its end.
fn finish(edge: &mut Edge) {
    edge.lossy = false;
    edge.set_link(true);
    for _ in 0..300 {
        edge.pass(Duration::from_secs(4));
        edge.tick(true);
        edge.pull(true);
        while edge.deliver(0) {}
        while edge.receive() {}
        for id in edge.working(Work::Decoding) {
            edge.decode(id);
        }
        for work in [Work::Running, Work::Publishing] {
            for id in edge.working(work) {
                edge.end(id, End::Done);
            }
        }
        while !edge.sent.is_empty() {
            edge.report(0, true);
        }
        edge.check();
        edge.restart_if_drained();
        if edge.machine.is_empty()
            && edge.server.messages.values().all(|message| message.place == Place::Over)
        {
            return;
        }
    }
    panic!("jobs are left over: {:?}", edge.server.messages);
}

proptest! {
    // Three times as many as usual: the events are many. `PROPTEST_CASES` still counts.
    #![proptest_config(ProptestConfig { cases: 3 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_once_whatever_happens_on_the_way(
        jobs in jobs(), events in events(), slots in 1_usize..4, look_ahead in 0_usize..5,
    ) {
        let server = Server::new(jobs, ACK_WAIT);
        let mut edge = Edge::new(settings(slots, look_ahead), server);
        for event in events {
            apply(&mut edge, event);
            edge.check();
        }
        finish(&mut edge);
        // What is over was worked, by `Server::check`; results are counted once by their id.
        for (id, message) in &edge.server.messages {
            let result = message.job.as_ref().is_some_and(|job| edge.server.results.contains(&job.result_id));
            prop_assert!(result || edge.server.dead.contains(id), "{} came to nothing", id);
        }
    }
}
