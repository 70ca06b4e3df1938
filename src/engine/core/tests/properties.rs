//! Whatever comes in whatever order: right answers, each exactly once, and nothing left behind.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::super::super::request::{Labels, TokenSet};
use super::super::{Prefix, Token};
use super::reference::{self, same};
use super::*;

/// Never sampled by the simulator, and in no label.
const POISON: Token = Token(200);
const NAN: Token = Token(201);
const FAULTS: SimFaults = SimFaults { poison: Some(POISON), nan_after: Some(NAN) };

/// A context, its prefixes and the requests that come to it.
#[derive(Debug, Clone)]
struct World {
    shape: ContextShape,
    prefixes: Vec<Vec<Token>>,
    requests: Vec<Request>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The next request comes.
    Submit,
    Step,
    /// Whoever asked for one of the submitted requests goes away.
    Drop(usize),
    Pass(Duration),
}

fn text(length: std::ops::Range<usize>, faulty: bool) -> BoxedStrategy<Vec<Token>> {
    let plain = (0..128).prop_map(Token);
    let token = if faulty {
        prop_oneof![60 => plain, 1 => Just(POISON), 1 => Just(NAN)].boxed()
    } else {
        plain.boxed()
    };
    prop::collection::vec(token, length).boxed()
}

fn labels() -> impl Strategy<Value = Arc<Labels>> {
    let even = (1_usize..4).prop_flat_map(|length| {
        prop::collection::btree_set(prop::collection::vec((97..100).prop_map(Token), length), 2..4)
    });
    let uneven = prop::sample::select(vec!["ab ac d", "aab aac ab b", "b aaaa aaab", "abc abd"])
        .prop_map(|words| words.split(' ').map(tokens).collect());
    prop_oneof![even, uneven]
        .prop_map(|spellings| Arc::new(Labels::new(spellings.into_iter().collect()).unwrap()))
}

fn stop() -> impl Strategy<Value = Arc<TokenSet>> {
    prop::sample::select(vec![256..257, 256..257, 97..100, 0..257, 0..0]).prop_map(stop_at)
}

fn branch(heads: usize, faulty: bool) -> impl Strategy<Value = Branch> {
    let probe =
        (text(heads..5, faulty), labels()).prop_map(|(question, labels)| Branch::Probe { question, labels });
    let free = (1_u32..6, stop()).prop_map(|(max_tokens, stop)| Span::Free { max_tokens, stop });
    let pairs = prop::collection::vec((text(1..4, faulty), free), 1..4);
    let generation = (pairs, any::<bool>(), text(0..3, faulty)).prop_map(move |(pairs, headless, tail)| {
        let spans = pairs.into_iter().flat_map(|(forced, free)| [Span::Forced(forced), free]);
        let tail = (!tail.is_empty()).then_some(Span::Forced(tail));
        let template = spans.skip(usize::from(headless && heads == 0)).chain(tail).collect();
        Branch::Generate { template }
    });
    prop_oneof![probe, generation]
}

/// Well-formed requests; some are too large for the context.
fn request(faulty: bool) -> impl Strategy<Value = Request> {
    let branches = |count: std::ops::Range<usize>, heads| prop::collection::vec(branch(heads, faulty), count);
    let lone = prop_oneof![(text(1..14, faulty), branches(1..2, 0)), (Just(Vec::new()), branches(1..2, 1)),];
    let several = (text(1..14, faulty), branches(2..5, 1));
    let lane = prop::sample::select(vec![Lane::Hi, Lane::Live, Lane::Backfill]);
    let arrival = (0..40_u32, 0..40_u32, lane).prop_map(|(at, cost, lane)| Arrival {
        at: Seconds::new(f64::from(at)),
        cost: Seconds::new(f64::from(cost)),
        lane,
    });
    (prop::option::of((0..2_usize).prop_map(PrefixId)), prop_oneof![lone, several], arrival).prop_map(
        |(prefix, (body, branches), arrival)| Request { arrival, prefix, body, branches, deadline: None },
    )
}

fn world(faulty: bool) -> impl Strategy<Value = World> {
    let shape = (any::<bool>(), 1_u16..9, 30_u32..160, 1_u32..28).prop_map(
        |(unified, permits, cells, batch_tokens)| {
            let sequences = permits + 2;
            let (cells, cells_per_sequence) =
                if unified { (cells, cells) } else { (cells / 2 * u32::from(sequences), cells / 2) };
            ContextShape { sequences, cells, cells_per_sequence, batch_tokens, unified }
        },
    );
    let prefixes = (text(1..9, false), text(9..12, false)).prop_map(|(a, b)| vec![a, b]);
    (shape, prefixes, prop::collection::vec(request(faulty), 1..12))
        .prop_map(|(shape, prefixes, requests)| World { shape, prefixes, requests })
}

/// Whether the request fits the context when it has it to itself: all of it, under unified KV beside the pinned
/// prefixes, and each of its sequences.
fn fits(world: &World, request: &Request) -> bool {
    let pinned: usize = world.prefixes.iter().map(Vec::len).sum();
    let prefix = request.prefix.map_or(0, |id| world.prefixes[id.0].len());
    let cells = |branch: &Branch| match branch {
        Branch::Probe { question, labels } => {
            question.len() + labels.tokens().iter().map(Vec::len).max().unwrap() - 1
        }
        Branch::Generate { template } => template.iter().fold(0, |sum, span| match span {
            Span::Forced(tokens) => sum + tokens.len(),
            Span::Free { max_tokens, .. } => sum + *max_tokens as usize,
        }),
    };
    let branches: Vec<usize> = request.branches.iter().map(cells).collect();
    let longest = prefix + request.body.len() + branches.iter().max().unwrap();
    let all = pinned + request.body.len() + branches.iter().sum::<usize>();
    branches.len() <= usize::from(world.shape.sequences) - 2
        && longest <= world.shape.cells_per_sequence as usize
        && (!world.shape.unified || all <= world.shape.cells as usize)
}

/// Plays the events, then submits what is left and steps until all is done.
fn play(world: &World, events: &[Event]) -> (Scene, Vec<Option<oneshot::Receiver<Outcome>>>) {
    let mut scene = Scene::new(world.shape, 2, FAULTS);
    for (number, prefix) in world.prefixes.iter().enumerate() {
        assert_eq!(scene.core.register_prefix(prefix.clone()), Ok(PrefixId(number)));
    }
    let mut replies: Vec<Option<oneshot::Receiver<Outcome>>> = Vec::new();
    for event in events {
        match *event {
            Event::Submit => {
                if let Some(request) = world.requests.get(replies.len()) {
                    replies.push(Some(scene.submit(request.clone())));
                }
            }
            Event::Step => drop(scene.core.step()),
            Event::Drop(_) if replies.is_empty() => {}
            Event::Drop(number) => {
                let place = number % replies.len();
                replies[place] = None;
            }
            Event::Pass(time) => scene.clock.advance(time),
        }
    }
    for request in &world.requests[replies.len()..] {
        replies.push(Some(scene.submit(request.clone())));
    }
    scene.run_until_idle();
    (scene, replies)
}

/// What must hold after any run.
fn nothing_is_left(scene: &Scene, world: &World) -> Result<(), TestCaseError> {
    let core = &scene.core;
    prop_assert_eq!(core.backend().offences(), Vec::<String>::new());
    prop_assert!(core.is_idle());
    prop_assert_eq!(core.counters().evictions, 0);
    let done = core.counters().completed + core.counters().failed;
    prop_assert_eq!(done, world.requests.len() as u64, "each is answered once");
    let pinned: usize = world.prefixes.iter().map(Vec::len).sum();
    let cells = if world.shape.unified { world.shape.cells - pinned as u32 } else { world.shape.cells };
    prop_assert_eq!(core.room().free(), Need { sequences: u32::from(world.shape.sequences) - 2, cells });
    let pinned: Vec<&Prefix> = core.prefixes.iter().filter(|prefix| prefix.resident).collect();
    let pinned_cells: usize = pinned.iter().map(|prefix| prefix.tokens.len()).sum();
    prop_assert_eq!(core.backend().sim.cells_in_use(), pinned_cells, "only pinned prefixes stay");
    for prefix in pinned {
        prop_assert_eq!(core.backend().length(prefix.seq) as usize, prefix.tokens.len());
    }
    Ok(())
}

fn prefix_of<'w>(world: &'w World, request: &Request) -> &'w [Token] {
    request.prefix.map_or(&[], |id| &world.prefixes[id.0])
}

/// Compares what came with what the reference says.
fn check(world: &World, request: &Request, got: &Outcome) -> Result<(), TestCaseError> {
    match (got, reference::answer(prefix_of(world, request), request, FAULTS)) {
        (Err(RequestError::TooLarge { .. }), _) => prop_assert!(!fits(world, request)),
        (Err(RequestError::DeadlineExceeded), _) => prop_assert!(request.deadline.is_some()),
        (Ok(got), Ok((branches, usage))) => {
            prop_assert!(fits(world, request));
            prop_assert!(same(&got.branches, &branches), "{:?} is not {:?}", got.branches, branches);
            prop_assert_eq!(got.usage, usage);
            let timing = got.timing;
            prop_assert!(timing.queued <= timing.admitted && timing.admitted < timing.first_output);
            prop_assert!(timing.first_output <= timing.finished);
        }
        (Err(RequestError::Backend(got)), Err(failure)) => prop_assert_eq!(got, &failure),
        (got, expected) => prop_assert!(false, "{got:?} is not {expected:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_gets_in_a_crowd_the_answer_it_gets_alone(world in world(false)) {
        let (scene, replies) = play(&world, &[]);
        nothing_is_left(&scene, &world)?;
        for (request, reply) in world.requests.iter().zip(replies) {
            let got = reply.unwrap().try_recv().unwrap();
            check(&world, request, &got)?;
            prop_assert_eq!(got.is_ok(), fits(&world, request));
        }
    }

    #[test]
    fn whatever_happens_each_request_is_answered_once_and_nothing_is_left(
        (mut world, deadlines) in (world(true), prop::collection::vec(prop::option::of(0_u64..3000), 12)),
        events in prop::collection::vec(prop_oneof![
            4 => Just(Event::Submit),
            6 => Just(Event::Step),
            2 => (0_usize..12).prop_map(Event::Drop),
            1 => (0_u64..400).prop_map(|ms| Event::Pass(Duration::from_millis(ms))),
        ], 0..60),
    ) {
        for (request, deadline) in world.requests.iter_mut().zip(deadlines) {
            request.deadline = deadline.map(Duration::from_millis);
        }
        let (scene, replies) = play(&world, &events);
        nothing_is_left(&scene, &world)?;
        for (request, reply) in world.requests.iter().zip(replies) {
            if let Some(mut reply) = reply {
                check(&world, request, &reply.try_recv().unwrap())?;
            }
        }
    }
}
