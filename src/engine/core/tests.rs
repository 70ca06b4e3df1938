//! The core over the simulator: one rule per test here and in [`failures`], any mix of requests and
//! events in [`properties`].

mod failures;
mod properties;
mod reference;
mod strict;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rstest::rstest;
use tokio::sync::oneshot;

use self::strict::Strict;
use super::super::backend::{BatchToken, ContextShape, SeqId, Token, Tokenizer};
use super::super::clock::{Clock, VirtualClock};
use super::super::request::{
    Answer, Branch, BranchAnswer, Labels, PrefixId, Request, RequestError, Span, TokenSet,
};
use super::super::sim::{SimBackend, SimCosts, SimFaults, SimTokenizer};
use super::Core;
use crate::scheduler::{Arrival, Lane, Need, Policy, Seconds};

type Outcome = Result<Answer, RequestError>;

const COSTS: SimCosts = SimCosts { step: Duration::from_millis(2), token: Duration::from_millis(1) };
const ROOMY: ContextShape =
    ContextShape { sequences: 10, cells: 400, cells_per_sequence: 400, batch_tokens: 32, unified: true };
const SPLIT: ContextShape = ContextShape { cells_per_sequence: 40, unified: false, ..ROOMY };
/// No text of these tests holds these, and the simulator never samples them.
const POISON: Token = Token(200);
const NAN: Token = Token(201);
const FAULTS: SimFaults = SimFaults { poison: Some(POISON), nan_after: Some(NAN) };

/// A core, the clock it lives by and the batches it made.
struct Scene {
    core: Core<Strict>,
    clock: VirtualClock,
    batches: Arc<Mutex<Vec<Vec<BatchToken>>>>,
}

impl Scene {
    fn new(shape: ContextShape, prefixes: u16, faults: SimFaults) -> Self {
        let clock = VirtualClock::default();
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&batches);
        let sim = SimBackend::new(shape, COSTS, clock.clone())
            .with_faults(faults)
            .with_hook(Box::new(move |batch| seen.lock().unwrap().push(batch.to_vec())));
        let core = Core::new(Strict::new(sim), Arc::new(clock.clone()), Policy::default(), prefixes);
        Self { core, clock, batches }
    }

    fn submit(&mut self, request: Request) -> oneshot::Receiver<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.core.submit(request, reply);
        answer
    }

    /// What the request gets when it is answered at once.
    fn refusal(&mut self, request: Request) -> RequestError {
        self.submit(request).try_recv().expect("answered at once").unwrap_err()
    }

    fn run_until_idle(&mut self) {
        for _ in 0..10_000 {
            if self.core.is_idle() {
                return;
            }
            self.core.step();
        }
        panic!("the core never comes to rest: {:?}", self.core.depth());
    }

    fn batches(&self) -> Vec<Vec<BatchToken>> {
        self.batches.lock().unwrap().clone()
    }
}

fn tokens(text: &str) -> Vec<Token> {
    SimTokenizer.tokenize(text, false)
}

fn stop_at(numbers: std::ops::Range<i32>) -> Arc<TokenSet> {
    Arc::new(TokenSet::of(SimTokenizer.vocabulary(), |token| numbers.contains(&token.0)))
}

fn labels(words: &str) -> Arc<Labels> {
    Arc::new(Labels::new(words.split(' ').map(tokens).collect()).unwrap())
}

fn arrival(at: f64, cost: f64) -> Arrival {
    Arrival { at: Seconds::new(at), cost: Seconds::new(cost), lane: Lane::Live }
}

fn request(body: Vec<Token>, branches: Vec<Branch>) -> Request {
    Request { arrival: arrival(0.0, 0.0), prefix: None, body, branches, deadline: None }
}

fn probe(question: &str) -> Branch {
    Branch::Probe { question: tokens(question), labels: labels("a b") }
}

/// A branch that samples exactly `length` tokens.
fn generation(head: &str, length: u32) -> Branch {
    let free = Span::Free { max_tokens: length, stop: stop_at(0..0) };
    Branch::Generate { template: vec![Span::Forced(tokens(head)), free] }
}

fn assert_whole(scene: &Scene) {
    assert!(scene.core.is_idle());
    assert_eq!(scene.core.room().free().sequences, scene.core.room().capacity().sequences);
    assert_eq!(scene.core.room().free().cells, scene.core.room().capacity().cells);
    assert_eq!(scene.core.backend().offences(), Vec::<String>::new());
}

#[rstest]
#[case::sequences(ROOMY, request(tokens("body"), vec![probe("?"); 9]), (9, 13), (8, 388))]
#[case::cells(ROOMY, request(vec![Token(65); 380], vec![probe("12345678"), probe("?")]), (2, 389), (8, 388))]
#[case::reach_of_one_sequence(SPLIT, request(vec![Token(65); 40], vec![probe("?")]), (1, 41), (8, 40))]
#[case::reach_with_the_prefix(
    SPLIT,
    Request { prefix: Some(PrefixId(0)), ..request(vec![Token(65); 28], vec![probe("?")]) },
    (1, 41),
    (8, 40)
)]
#[case::a_bound_beyond_all_cells(
    ROOMY,
    request(tokens("b"), vec![generation(":", u32::MAX)]),
    (1, u32::MAX),
    (8, 400)
)]
fn what_can_never_fit_is_refused_at_once_with_both_figures(
    #[case] shape: ContextShape,
    #[case] request: Request,
    #[case] needed: (u32, u32),
    #[case] offered: (u32, u32),
) {
    let mut scene = Scene::new(shape, 2, FAULTS);
    scene.core.register_prefix(vec![Token(66); 12]).unwrap();
    assert_eq!(
        scene.refusal(request),
        RequestError::TooLarge {
            needed_sequences: needed.0,
            needed_cells: needed.1,
            sequences: offered.0,
            cells: offered.1
        }
    );
    assert!(scene.core.is_idle());
}

#[test]
fn what_just_fits_is_served() {
    for shape in [ROOMY, SPLIT] {
        let mut scene = Scene::new(shape, 2, FAULTS);
        let body = vec![Token(65); shape.cells_per_sequence as usize - 4];
        let mut answer = scene.submit(request(body, vec![generation(":", 3)]));
        scene.run_until_idle();
        answer.try_recv().unwrap().unwrap();
        assert_whole(&scene);
    }
}

#[rstest]
#[case::no_branches(request(tokens("body"), vec![]))]
#[case::nothing_before_the_labels(request(vec![], vec![probe("")]))]
#[case::an_unread_body_end(request(tokens("body"), vec![probe("?"), probe("")]))]
#[case::several_over_no_body(request(vec![], vec![probe("?"), probe("!")]))]
#[case::unknown_prefix(Request { prefix: Some(PrefixId(7)), ..request(tokens("body"), vec![probe("?")]) })]
#[case::no_free_span(request(tokens("body"), vec![Branch::Generate { template: vec![Span::Forced(tokens("x"))] }]))]
#[case::no_template(request(tokens("body"), vec![Branch::Generate { template: vec![] }]))]
#[case::an_empty_bound(request(tokens("body"), vec![generation(":", 0)]))]
#[case::an_empty_forced_span(request(tokens("body"), vec![generation("", 4)]))]
#[case::two_free_spans_in_a_row(request(tokens("body"), vec![Branch::Generate { template: vec![
    Span::Free { max_tokens: 1, stop: stop_at(0..1) },
    Span::Free { max_tokens: 1, stop: stop_at(0..1) },
] }]))]
fn a_malformed_request_is_refused_at_once(#[case] request: Request) {
    let mut scene = Scene::new(ROOMY, 2, FAULTS);
    assert!(matches!(scene.refusal(request), RequestError::Malformed(_)));
    assert!(scene.core.is_idle());
    assert_eq!(scene.core.counters().failed, 1);
}

#[test]
fn sampled_tokens_go_into_the_batch_before_prompt_tokens() {
    let mut scene = Scene::new(ContextShape { batch_tokens: 4, ..ROOMY }, 2, FAULTS);
    // By key the prompts come first; the generations have begun before they arrived.
    let writers: Vec<_> = (0..3)
        .map(|_| {
            scene.submit(Request {
                arrival: arrival(9.0, 0.0),
                ..request(tokens("b"), vec![generation(":", 20)])
            })
        })
        .collect();
    scene.core.step();
    scene.core.step();
    let readers: Vec<_> =
        (0..3).map(|_| scene.submit(request(vec![Token(65); 40], vec![probe("?")]))).collect();
    scene.batches.lock().unwrap().clear();
    for _ in 0..5 {
        let step = scene.core.step().unwrap();
        assert_eq!((step.decode_tokens, step.prefill_tokens, step.sequences), (3, 1, 4));
    }
    for batch in scene.batches() {
        assert!(batch[..3].iter().all(|item| item.output), "{batch:?}");
        assert_eq!((batch[3].token, batch[3].output), (Token(65), false));
    }
    drop((writers, readers));
}

#[test]
fn prompts_are_fed_in_heap_order() {
    let mut scene = Scene::new(ContextShape { batch_tokens: 8, ..ROOMY }, 2, FAULTS);
    let later = scene
        .submit(Request { arrival: arrival(5.0, 0.0), ..request(vec![Token(66); 12], vec![probe("?")]) });
    let earlier = scene.submit(request(vec![Token(65); 9], vec![probe("?")]));
    scene.run_until_idle();
    let fed: Vec<Token> = scene.batches().concat().iter().map(|item| item.token).collect();
    assert_eq!(fed, tokens("AAAAAAAAA?BBBBBBBBBBBB?"));
    drop((later, earlier));
}

#[rstest]
// λ = 20: a difference of 2 s in cost is worth 40 s of arrival.
#[case::within_the_bound(39.0, [1, 0])]
#[case::beyond_the_bound(41.0, [0, 1])]
fn a_cheap_later_request_passes_a_dear_earlier_one_within_lambda(
    #[case] later: f64,
    #[case] order: [usize; 2],
) {
    let mut scene = Scene::new(ContextShape { sequences: 1, ..ROOMY }, 0, FAULTS);
    let mut answers: Vec<_> = [arrival(0.0, 2.0), arrival(later, 0.0)]
        .into_iter()
        .map(|arrival| scene.submit(Request { arrival, ..request(tokens("body"), vec![probe("?")]) }))
        .collect();
    scene.core.step();
    assert!(answers[order[0]].try_recv().is_ok());
    scene.core.step();
    assert!(answers[order[1]].try_recv().is_ok());
}

#[test]
fn nothing_passes_a_head_that_does_not_fit() {
    let mut scene = Scene::new(ContextShape { sequences: 2, ..ROOMY }, 0, FAULTS);
    let mut first = scene.submit(request(tokens("body"), vec![generation(":", 9)]));
    let mut wide = scene.submit(request(tokens("body"), vec![probe("?"), probe("!")]));
    let mut narrow = scene.submit(request(tokens("body"), vec![probe("?")]));
    while first.try_recv().is_err() {
        scene.core.step();
        assert!(wide.try_recv().is_err() && narrow.try_recv().is_err());
    }
    scene.run_until_idle();
    assert!(wide.try_recv().unwrap().is_ok() && narrow.try_recv().unwrap().is_ok());
}

#[rstest]
fn a_prefix_is_prefilled_once_and_copied_after_that(#[values(ROOMY, SPLIT)] shape: ContextShape) {
    let mut scene = Scene::new(shape, 2, FAULTS);
    let head = scene.core.register_prefix(tokens("the head")).unwrap();
    assert_eq!(scene.core.register_prefix(tokens("the head")), Ok(head));
    let with_head = || Request { prefix: Some(head), ..request(tokens("body"), vec![probe("?")]) };
    let mut answers: Vec<_> = (0..5).map(|_| scene.submit(with_head())).collect();
    scene.run_until_idle();
    answers.push(scene.submit(with_head()));
    scene.run_until_idle();
    for mut answer in answers {
        let usage = answer.try_recv().unwrap().unwrap().usage;
        assert_eq!((usage.reused, usage.prompt), (8, 5));
    }
    assert_eq!(scene.core.counters().prefill_tokens, 8 + 6 * 5);
    assert_eq!(scene.core.backend().sim.cells_in_use(), 8);
    assert_whole(&scene);
}

#[test]
fn a_refused_prefix_takes_nothing() {
    let mut scene = Scene::new(ROOMY, 1, FAULTS);
    let too_large = |sequences, cells| {
        Err(RequestError::TooLarge { needed_sequences: 1, needed_cells: 400, sequences, cells })
    };
    assert_eq!(scene.core.register_prefix(vec![Token(65); 400]), too_large(1, 399));
    assert!(matches!(scene.core.register_prefix(vec![]), Err(RequestError::Malformed(_))));
    let head = scene.core.register_prefix(tokens("head")).unwrap();
    assert_eq!(scene.core.room().free(), Need { sequences: 9, cells: 396 });
    assert_eq!(scene.core.register_prefix(vec![Token(65); 400]), too_large(0, 396));
    assert!(scene.core.register_prefix(tokens("another")).is_err(), "one sequence is set aside for prefixes");
    assert_eq!(scene.core.room().free(), Need { sequences: 9, cells: 396 });
    assert_eq!(scene.core.register_prefix(tokens("head")), Ok(head));
}

#[test]
fn a_request_for_which_a_later_prefix_leaves_no_room_is_refused_and_holds_nobody_up() {
    let mut scene = Scene::new(ROOMY, 2, FAULTS);
    let mut large = scene.submit(request(vec![Token(65); 390], vec![probe("?")]));
    let mut small = scene.submit(request(tokens("body"), vec![probe("?")]));
    scene.core.register_prefix(vec![Token(66); 20]).unwrap();
    scene.run_until_idle();
    assert_eq!(
        large.try_recv().unwrap(),
        Err(RequestError::TooLarge { needed_sequences: 1, needed_cells: 391, sequences: 8, cells: 380 })
    );
    assert!(small.try_recv().unwrap().is_ok());
}

#[test]
fn every_moment_of_decoding_is_counted_once() {
    let mut scene = Scene::new(ContextShape { batch_tokens: 4, ..ROOMY }, 2, FAULTS);
    let head = scene.core.register_prefix(tokens("a head in chunks")).unwrap();
    let poisoned = scene.core.register_prefix(vec![POISON]).unwrap();
    let answers: Vec<_> = [Some(head), Some(poisoned), None]
        .map(|prefix| scene.submit(Request { prefix, ..request(tokens("body"), vec![generation(":", 5)]) }))
        .into();
    scene.run_until_idle();
    let counters = scene.core.counters();
    // Time passes in decode calls only.
    assert_eq!((counters.decode_time, counters.busy_time), (scene.clock.now(), scene.clock.now()));
    assert_eq!(counters.steps, scene.batches().len() as u64);
    let fed: usize = scene.batches().iter().map(Vec::len).sum();
    assert_eq!(counters.prefill_tokens + counters.decode_tokens, fed as u64);
    assert_eq!(counters.decode_tokens, 2 * 4, "the last sampled token is not fed");
    drop(answers);
}

#[test]
fn template_text_counts_as_prompt_and_sampled_tokens_as_decoding_however_they_are_cut() {
    let mut scene = Scene::new(ContextShape { batch_tokens: 2, ..ROOMY }, 2, FAULTS);
    let free = |max_tokens| Span::Free { max_tokens, stop: stop_at(0..0) };
    let template = vec![free(3), Span::Forced(tokens(";;;;;")), free(2)];
    let answer = scene.submit(request(tokens("body"), vec![Branch::Generate { template }]));
    scene.run_until_idle();
    let counters = scene.core.counters();
    assert_eq!((counters.prefill_tokens, counters.decode_tokens), (4 + 5, 3 + 1));
    drop(answer);
}

#[test]
fn times_are_those_of_the_clock() {
    let mut scene = Scene::new(ROOMY, 2, FAULTS);
    scene.clock.advance(Duration::from_millis(100));
    let mut answer = scene.submit(request(tokens("12345"), vec![generation(":", 3)]));
    scene.clock.advance(Duration::from_millis(50));
    scene.run_until_idle();
    let timing = answer.try_recv().unwrap().unwrap().timing;
    let ms = |moment: Duration| moment.as_millis();
    // A step is 2 ms and 1 ms a token: six prompt tokens, then two steps of one.
    assert_eq!(
        [timing.queued, timing.admitted, timing.first_output, timing.finished].map(ms),
        [100, 150, 158, 164]
    );
}

#[test]
fn a_stop_token_ends_a_span_and_is_no_part_of_it() {
    let mut scene = Scene::new(ROOMY, 2, FAULTS);
    let free = |stop| Span::Free { max_tokens: 4, stop };
    let template = vec![free(stop_at(0..257)), Span::Forced(tokens(";")), free(stop_at(0..0))];
    let mut answer = scene.submit(request(tokens("body"), vec![Branch::Generate { template }]));
    scene.run_until_idle();
    let answer = answer.try_recv().unwrap().unwrap();
    let [BranchAnswer::Text(spans)] = answer.branches.as_slice() else { panic!("{answer:?}") };
    assert_eq!((spans[0].tokens.len(), spans[0].complete), (0, true));
    assert_eq!((spans[1].tokens.len(), spans[1].complete), (4, false));
    assert_eq!((answer.usage.generated, answer.usage.forced), (5, 1));
    let seq: Vec<SeqId> = scene.batches().concat().iter().map(|item| item.seq).collect();
    assert!(seq.iter().all(|&other| other == seq[0]), "a lone branch needs one sequence");
}
