//! The counts of the sample workload, exactly: losing sharing, batching, probes or forcing changes them.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;

use super::super::variant::{BASELINE, Idea, OTHERS, OURS, Setup, Variant, agreement};
use super::sample::{self, CLAIM_HEAD, LABEL_HEAD, SHAPE};
use super::*;
use crate::engine::VirtualClock;
use crate::engine::backend::ContextShape;
use crate::engine::sim::{SimBackend, SimCosts};
use crate::scheduler::Policy;

const COSTS: SimCosts = SimCosts { step: Duration::from_millis(2), token: Duration::from_millis(1) };
const SETUP: Setup =
    Setup { sequences: SHAPE.sequences, heads: 2, cells: SHAPE.cells, unified: true, flash_attention: true };

/// A run of the sample workload on a context as the variant wants it.
fn run_of(variant: &Variant) -> Run {
    let workload = sample::workload();
    let setup = variant.setup(SETUP, workload.reach());
    let per_sequence = if setup.unified { setup.cells } else { setup.cells / u32::from(setup.sequences) };
    let shape = ContextShape {
        sequences: setup.sequences,
        cells: setup.cells,
        cells_per_sequence: per_sequence,
        unified: setup.unified,
        ..SHAPE
    };
    let clock = VirtualClock::default();
    let backend = SimBackend::new(shape, COSTS, clock.clone());
    let mut core = Core::new(backend, Arc::new(clock.clone()), Policy::default(), setup.heads);
    run(&mut core, &clock, &workload, variant).unwrap()
}

/// Tokens of bodies, of questions and lead-ins, and of the heads if every request had its own.
fn tokens_of(workload: &Workload) -> (u64, u64, u64) {
    let (mut bodies, mut fixed, mut heads) = (0, 0, 0);
    for request in workload.places.iter().flat_map(|place| place.labels.iter().chain(&place.claims)) {
        bodies += request.body.len() as u64;
        fixed += request.branches.iter().map(Branch::fed_tokens).sum::<usize>() as u64;
        let head = workload.heads.iter().find(|head| Some(head.id) == request.prefix).unwrap();
        heads += head.tokens.len() as u64;
    }
    (bodies, fixed, heads)
}

#[test]
fn ours_computes_each_head_once_and_every_other_prompt_token_once() {
    let run = run_of(&OURS);
    let (bodies, fixed, heads) = tokens_of(&sample::workload());
    let pinned = (LABEL_HEAD.len() + CLAIM_HEAD.len()) as u64;
    assert_eq!(run.counters.prefill_tokens, pinned + bodies + fixed);
    assert_eq!(run.reused_tokens, heads);
}

#[test]
fn ours_takes_exactly_these_calls_and_tokens() {
    // Sixteen requests in sixteen calls, four of which pin the heads; the simulator's texts are fixed.
    let counters = run_of(&OURS).counters;
    let counts = (counters.steps, counters.prefill_tokens, counters.decode_tokens, counters.sequence_steps);
    assert_eq!(counts, (16, 373, 16, 38));
}

#[test]
fn one_at_a_time_computes_every_head_anew_and_shares_no_call() {
    let run = run_of(&BASELINE);
    let workload = sample::workload();
    let (bodies, fixed, heads) = tokens_of(&workload);
    let lead_ins =
        workload.places.iter().map(|place| place.claims.len()).sum::<usize>() * sample::LEAD_IN.len();
    assert_eq!(run.counters.prefill_tokens, heads + bodies + fixed - lead_ins as u64);
    assert_eq!(run.counters.sequence_steps, run.counters.steps);
    assert_eq!(run.reused_tokens, 0);
}

#[rstest]
#[case(Idea::Batching)]
#[case(Idea::Sharing)]
#[case(Idea::Probes)]
fn each_idea_lowers_what_it_is_meant_to_lower(#[case] idea: Idea) {
    let ours = run_of(&OURS);
    let only_this = |variant: &&Variant| !variant.has(idea) && OTHERS[..6].contains(variant);
    let without = run_of(OTHERS.iter().find(only_this).unwrap());
    let measure = |run: &Run| match idea {
        Idea::Batching => run.counters.steps,
        Idea::Sharing => run.counters.prefill_tokens,
        _ => run.generated_tokens,
    };
    assert!(measure(&without) > measure(&ours), "{} and {}", measure(&without), measure(&ours));
}

#[test]
fn the_answers_do_not_depend_on_batching_sharing_or_the_kind_of_cache() {
    let ours = run_of(&OURS);
    assert!(ours.labels.iter().all(Option::is_some) && ours.claims.iter().all(Option::is_some));
    let same_questions = |variant: &&Variant| variant.has(Idea::Probes) && variant.has(Idea::Forcing);
    for variant in OTHERS.iter().filter(same_questions) {
        let theirs = run_of(variant);
        assert!((agreement(&ours.labels, &theirs.labels) - 1.0).abs() < 1e-9, "{}", variant.name);
        assert_eq!(ours.claims, theirs.claims, "{}", variant.name);
    }
}

#[test]
fn a_restaurant_without_labels_is_asked_for_its_claims_all_the_same() {
    let mut workload = sample::workload();
    // The second restaurant has no labels to wait for.
    workload.places[1].labels.clear();
    let clock = VirtualClock::default();
    let backend = SimBackend::new(SHAPE, COSTS, clock.clone());
    let mut core = Core::new(backend, Arc::new(clock.clone()), Policy::default(), 2);
    let run = run(&mut core, &clock, &workload, &OURS).unwrap();
    assert_eq!((run.labels.len(), run.claims.len()), (7, 4));
}

#[test]
fn a_request_that_fails_ends_the_measurement() {
    let mut workload = sample::workload();
    workload.places[1].labels[2].body = vec![Token(65); 5000];
    let clock = VirtualClock::default();
    let backend = SimBackend::new(SHAPE, COSTS, clock.clone());
    let mut core = Core::new(backend, Arc::new(clock.clone()), Policy::default(), 2);
    let outcome = run(&mut core, &clock, &workload, &OURS);
    assert!(matches!(outcome, Err(RequestError::TooLarge { .. })));
}
