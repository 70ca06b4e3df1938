//! The thread and its handle over the simulator. Tests wait for what they wait for: a channel, an answer, an end.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};

use proptest::prelude::*;

use super::super::backend::{BackendError, BatchToken, ContextShape, Tokenizer};
use super::super::clock::VirtualClock;
use super::super::labels::greedy;
use super::super::request::{Branch, BranchAnswer, Span, SpanText, TokenSet};
use super::super::sim::{SimBackend, SimCosts, SimEmbedder, SimTokenizer, StepHook, sim_logits};
use super::embeds::cut_slice;
use super::*;
use crate::scheduler::{Arrival, Lane, Seconds};

const SHAPE: ContextShape =
    ContextShape { sequences: 6, cells: 600, cells_per_sequence: 600, batch_tokens: 32, unified: true };
const COSTS: SimCosts = SimCosts { step: Duration::from_millis(2), token: Duration::from_millis(1) };
const NOW: Arrival = Arrival { at: Seconds::ZERO, cost: Seconds::ZERO, lane: Lane::Live };
/// Only a test that hangs meets this.
const LIMIT: Duration = Duration::from_mins(1);

type Embedders = Vec<Box<dyn Embedder + 'static>>;

/// An engine, and a channel on which its thread says that it has ended.
fn engine(
    config: EngineConfig,
    hook: StepHook,
    embedders: impl FnOnce() -> Embedders + Send + 'static,
) -> (Engine, oneshot::Receiver<()>) {
    let (end, ended) = oneshot::channel();
    let clock = VirtualClock::default();
    let shared = clock.clone();
    let (engine, _) = Engine::start::<()>(config, Arc::new(clock), move |server| {
        server.serve(SimBackend::new(SHAPE, COSTS, shared).with_hook(hook), embedders());
        // The test may not wait for the end.
        let _ = end.send(());
        Ok(())
    })
    .unwrap();
    (engine, ended)
}

fn plain() -> (Engine, oneshot::Receiver<()>) {
    engine(EngineConfig::default(), Box::new(|_| ()), Vec::new)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("ends in time")
}

fn tokens(text: &str) -> Vec<Token> {
    SimTokenizer.tokenize(text, false)
}

/// Samples `length` tokens behind `body`.
fn request(body: &str, length: u32) -> Request {
    let stop = Arc::new(TokenSet::default());
    Request {
        arrival: NOW,
        prefix: None,
        body: tokens(body),
        branches: vec![Branch::Generate { template: vec![Span::Free { max_tokens: length, stop }] }],
        deadline: None,
    }
}

/// What such a request gives.
fn expected(body: &str, length: u32) -> Vec<BranchAnswer> {
    let mut text = tokens(body);
    let start = text.len();
    text.extend((0..length).scan(text.clone(), |text, _| {
        text.push(greedy(&sim_logits(text.iter().copied()))?);
        text.last().copied()
    }));
    vec![BranchAnswer::Text(vec![SpanText { tokens: text.split_off(start), complete: false }])]
}

/// A hook that reports each step and then waits for leave; without limit once the leave's sender is gone.
fn gate() -> (StepHook, mpsc::Receiver<Vec<BatchToken>>, SyncSender<()>) {
    let (began, steps) = mpsc::channel(1024);
    let (leave, waits) = sync_channel(0);
    let hook = move |batch: &[BatchToken]| {
        // Whether the test still listens makes no difference to the step.
        let _ = began.blocking_send(batch.to_vec());
        let _ = waits.recv();
    };
    (Box::new(hook), steps, leave)
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let (engine, _) = plain();
    let wanted: Vec<(String, u32)> = (0..60).map(|n| (format!("body {n}"), 1 + (n * 7) % 13)).collect();
    let answers =
        soon(engine.run(wanted.iter().map(|(body, length)| request(body, *length)).collect())).await;
    assert_eq!(answers.len(), wanted.len());
    for ((body, length), answer) in wanted.iter().zip(answers) {
        assert_eq!(answer.unwrap().branches, expected(body, *length), "{body}");
    }
    assert!(soon(engine.run(Vec::new())).await.is_empty());
}

#[tokio::test]
async fn one_bad_request_leaves_the_others_their_answers() {
    let (engine, _) = plain();
    let answers = soon(engine.run(vec![request("a", 2), request("b", 9999), request("c", 2)])).await;
    assert_eq!(answers[0].as_ref().unwrap().branches, expected("a", 2));
    assert!(matches!(answers[1], Err(RequestError::TooLarge { .. })));
    assert_eq!(answers[2].as_ref().unwrap().branches, expected("c", 2));
}

#[tokio::test]
async fn clones_share_prefixes_and_an_unknown_one_is_refused() {
    let (engine, _) = plain();
    let head = soon(engine.register_prefix(tokens("head "))).await.unwrap();
    assert_eq!(soon(engine.clone().register_prefix(tokens("head "))).await, Ok(head));
    let named = |id| Request { prefix: Some(id), ..request("body", 3) };
    let answers = soon(engine.run(vec![named(head), named(PrefixId(9))])).await;
    assert_eq!(answers[0].as_ref().unwrap().branches, expected("head body", 3));
    assert!(matches!(answers[1], Err(RequestError::Malformed(_))));
}

#[tokio::test]
async fn dropping_the_future_cancels_its_requests() {
    let (hook, mut steps, leave) = gate();
    let (engine, _) = engine(EngineConfig::default(), hook, Vec::new);
    let mut run = Box::pin(engine.run(vec![request("long", 500)]));
    tokio::select! {
        _ = &mut run => panic!("answered while its first step is held up"),
        step = steps.recv() => assert!(step.is_some()),
    }
    drop(run);
    drop(leave);
    for _ in 0..2 {
        // The figures of a step are published after its answers: the second run sees those of the first.
        assert!(soon(engine.run(vec![request("short", 2)])).await[0].is_ok());
    }
    let stats = engine.stats();
    assert_eq!(stats.core.failed, 1, "the dropped one");
    assert!(stats.core.decode_tokens < 10, "it went on for {} tokens", stats.core.decode_tokens);
}

#[tokio::test]
async fn the_thread_ends_when_the_last_handle_is_dropped() {
    let (first, mut ended) = plain();
    let second = first.clone();
    assert!(soon(first.run(vec![request("body", 2)])).await[0].is_ok());
    drop(first);
    assert!(soon(second.run(vec![request("body", 2)])).await[0].is_ok());
    assert!(ended.try_recv().is_err(), "a handle is left");
    drop(second);
    soon(ended).await.unwrap();
}

#[tokio::test]
async fn an_engine_whose_thread_failed_tells_why_and_then_that_it_has_stopped() {
    let clock = Arc::new(VirtualClock::default());
    let (engine, failure) = Engine::start(EngineConfig::default(), clock, |_| Err("no model")).unwrap();
    assert_eq!(soon(failure).await, Ok("no model"));
    assert_eq!(soon(engine.run(vec![request("body", 2)])).await, [Err(RequestError::Stopped)]);
    assert_eq!(soon(engine.embed(0, vec![tokens("text")], NOW)).await, Err(RequestError::Stopped));
    assert_eq!(soon(engine.register_prefix(tokens("head"))).await, Err(RequestError::Stopped));
}

#[tokio::test]
async fn a_panic_in_the_thread_answers_those_who_wait() {
    let hook = |_: &[BatchToken]| panic!("on purpose");
    let (engine, _) = engine(EngineConfig::default(), Box::new(hook), Vec::new);
    let answers = soon(engine.run(vec![request("a", 2), request("b", 2)])).await;
    assert_eq!(answers, [Err(RequestError::Stopped), Err(RequestError::Stopped)]);
}

#[tokio::test]
async fn a_step_that_hangs_is_told_to_everyone_who_waits_and_to_nobody_elses_engine() {
    let (hook, _steps, leave) = gate();
    let config = EngineConfig { step_limit: Duration::from_millis(40), ..EngineConfig::default() };
    let (stuck, ended) = engine(config, hook, || vec![Box::new(SimEmbedder)]);
    let (sound, _) = plain();
    // More than the channel holds: those who cannot even hand over their requests wait as well.
    let runs = join_all((0..3 * COMMANDS).map(|_| stuck.run(vec![request("body", 2)])));
    let texts = stuck.embed(0, vec![tokens("text")], NOW);
    let head = stuck.register_prefix(tokens("head"));
    let (runs, texts, head, ()) = soon(async { tokio::join!(runs, texts, head, stuck.stalled()) }).await;
    assert!(runs.concat().iter().all(|answer| *answer == Err(RequestError::Stalled)));
    assert_eq!((texts, head), (Err(RequestError::Stalled), Err(RequestError::Stalled)));
    assert_eq!(soon(stuck.run(vec![request("later", 2)])).await, [Err(RequestError::Stalled)]);
    assert_eq!(
        soon(sound.run(vec![request("body", 2)])).await[0].as_ref().unwrap().branches,
        expected("body", 2)
    );
    drop(leave);
    drop(stuck);
    soon(ended).await.unwrap();
}

#[tokio::test]
async fn two_engines_side_by_side_keep_apart() {
    let ((one, _), (other, _)) = (plain(), plain());
    let batch = |name: &str| (0..30).map(|n| request(&format!("{name} {n}"), 3)).collect();
    let (ones, others) = soon(async { tokio::join!(one.run(batch("one")), other.run(batch("other"))) }).await;
    for (name, answers) in [("one", ones), ("other", others)] {
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap().branches, expected(&format!("{name} {n}"), 3));
        }
    }
}

/// An embedder with narrow limits. An embedding is the first token, the last, and the length of the text.
struct Narrow {
    log: Arc<Mutex<String>>,
    batch: usize,
}

impl Default for Narrow {
    fn default() -> Self {
        Self { log: Arc::default(), batch: 20 }
    }
}

/// A text with this token cannot be embedded.
const BAD: Token = Token(7);

impl Embedder for Narrow {
    fn dimensions(&self) -> usize {
        3
    }

    fn max_text_tokens(&self) -> usize {
        8
    }

    fn batch_tokens(&self) -> usize {
        self.batch
    }

    fn batch_texts(&self) -> usize {
        3
    }

    fn embed(&mut self, texts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        lock(&self.log).push('E');
        let total: usize = texts.iter().map(Vec::len).sum();
        if texts.len() > 3 || total > 20 || texts.iter().any(|text| text.len() > 8 || text.contains(&BAD)) {
            return Err(BackendError::Fatal { code: -1 });
        }
        let number = |token: Token| token.0 as f32;
        Ok(texts.iter().map(|t| vec![number(t[0]), number(t[t.len() - 1]), t.len() as f32]).collect())
    }
}

fn with_embedder() -> Engine {
    engine(EngineConfig::default(), Box::new(|_| ()), || vec![Box::new(Narrow::default())]).0
}

#[tokio::test]
async fn embeddings_of_many_calls_come_in_order_and_long_texts_keep_their_closing_token() {
    let engine = with_embedder();
    let texts: Vec<Vec<Token>> =
        (0..25).map(|n| (0..=(n * 5) % 13).map(|k| Token(100 * n + k + 10)).collect()).collect();
    let wanted: Vec<Vec<f32>> = texts
        .iter()
        .map(|text| vec![text[0].0 as f32, text[text.len() - 1].0 as f32, text.len().min(8) as f32])
        .collect();
    assert_eq!(soon(engine.embed(0, texts, NOW)).await, Ok(wanted));
    assert_eq!(soon(engine.embed(0, Vec::new(), NOW)).await, Ok(Vec::new()));
    assert_eq!(engine.stats().embedded_texts, 25);
}

#[tokio::test]
async fn texts_that_cannot_be_embedded_fail_their_own_call_only() {
    let engine = with_embedder();
    let good = || vec![tokens("good")];
    let (unknown, void, bad, good) = soon(async {
        tokio::join!(
            engine.embed(1, good(), NOW),
            engine.embed(0, vec![tokens("a"), Vec::new()], NOW),
            engine.embed(0, vec![tokens("a"), vec![BAD]], NOW),
            engine.embed(0, good(), NOW),
        )
    })
    .await;
    assert!(matches!(unknown, Err(RequestError::Malformed(_))));
    assert!(matches!(void, Err(RequestError::Malformed(_))));
    assert!(matches!(bad, Err(RequestError::Backend(_))));
    assert_eq!(good, Ok(vec![vec![103.0, 100.0, 4.0]]));
}

#[tokio::test]
async fn embeddings_and_requests_take_turns() {
    let log = Arc::new(Mutex::new(String::new()));
    let (steps, calls) = (Arc::clone(&log), Arc::clone(&log));
    let (start, started) = sync_channel::<()>(1);
    // The embedders are made before the thread serves: both kinds of work are there when it begins.
    let (engine, _) = engine(EngineConfig::default(), Box::new(move |_| lock(&steps).push('S')), move || {
        started.recv().unwrap();
        vec![Box::new(Narrow { log: calls, ..Narrow::default() })]
    });
    let texts = vec![tokens("text"); 9];
    let both = async {
        tokio::join!(engine.embed(0, texts, NOW), engine.run(vec![request("body", 4)]), async {
            start.send(())
        })
    };
    let (vectors, answers, sent) = soon(both).await;
    assert!(vectors.is_ok() && answers[0].is_ok() && sent.is_ok());
    assert_eq!(*lock(&log), "SESESES");
}

#[tokio::test]
async fn texts_are_embedded_in_the_order_of_their_jobs() {
    let (start, started) = sync_channel::<()>(1);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (seen, hook_log) = (Arc::clone(&log), Arc::clone(&log));
    let hook: StepHook = Box::new(move |_| lock(&hook_log).push(0));
    let (engine, _) = engine(EngineConfig::default(), hook, move || {
        started.recv().unwrap();
        vec![Box::new(First { seen })]
    });
    let at = |seconds| Arrival { at: Seconds::new(seconds), ..NOW };
    let text = |byte: i32| vec![vec![Token(byte); 8]; 6];
    let all = async {
        tokio::join!(
            engine.embed(0, text(2), at(20.0)),
            engine.embed(0, text(1), at(10.0)),
            engine.run(vec![Request { arrival: at(15.0), ..request("body", 2) }]),
            async { start.send(()) }
        )
    };
    soon(all).await.3.unwrap();
    // Two texts a call. The request's first step (0) comes after the texts of the job before it; then nothing waits for
    // a sequence, and both kinds of work take turns.
    let log = lock(&log).clone();
    assert_eq!(log[..4], [1, 0, 1, 0], "{log:?}");
    assert_eq!(log.iter().filter(|&&byte| byte != 0).copied().collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
}

#[tokio::test]
async fn a_job_is_embedded_while_more_urgent_ones_run_and_before_less_urgent_ones_are_admitted() {
    let (start, started) = sync_channel::<()>(1);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (seen, hook_log) = (Arc::clone(&log), Arc::clone(&log));
    let hook: StepHook = Box::new(move |_| lock(&hook_log).push(0));
    let config = EngineConfig { prefixes: 0, ..EngineConfig::default() };
    let (engine, _) = engine(config, hook, move || {
        started.recv().unwrap();
        vec![Box::new(First { seen })]
    });
    let at = |seconds| Arrival { at: Seconds::new(seconds), ..NOW };
    let length = 6;
    let urgent = Request { arrival: at(10.0), ..request("body", length) };
    let late = Request { arrival: at(30.0), ..request("body", 2) };
    // The urgent ones take all sequences, so that the late one waits.
    let requests = (0..SHAPE.sequences).map(|_| urgent.clone()).chain([late]).collect();
    let all = async {
        tokio::join!(engine.embed(0, vec![vec![Token(1); 8]; 6], at(20.0)), engine.run(requests), async {
            start.send(())
        })
    };
    soon(all).await.2.unwrap();
    let log = lock(&log).clone();
    // Two texts a call, one call a step.
    assert_eq!(log[..6], [0, 1, 0, 1, 0, 1], "{log:?}");
}

/// Two texts a call; takes note of the first token of each call.
struct First {
    seen: Arc<Mutex<Vec<i32>>>,
}

impl Embedder for First {
    fn dimensions(&self) -> usize {
        1
    }

    fn max_text_tokens(&self) -> usize {
        8
    }

    fn batch_tokens(&self) -> usize {
        16
    }

    fn batch_texts(&self) -> usize {
        2
    }

    fn embed(&mut self, texts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        lock(&self.seen).push(texts[0][0].0);
        Ok(texts.iter().map(|_| vec![1.0]).collect())
    }
}

proptest! {
    #[test]
    fn slices_fit_one_call_and_lose_nothing(
        lengths in prop::collection::vec(1_usize..15, 0..30), batch in 1_usize..25,
    ) {
        let narrow = Narrow { batch, ..Narrow::default() };
        let texts: Vec<Vec<Token>> =
            lengths.iter().map(|&length| (0..length).map(|k| Token(k as i32)).collect()).collect();
        let (mut left, mut done) = (VecDeque::from(texts.clone()), Vec::new());
        while !left.is_empty() {
            let slice = cut_slice(&mut left, &narrow);
            prop_assert!(!slice.is_empty() && slice.len() <= 3);
            // What is longer than a call should be goes alone.
            prop_assert!(slice.len() == 1 || slice.iter().map(Vec::len).sum::<usize>() <= batch);
            done.extend(slice);
        }
        prop_assert_eq!(done.len(), texts.len());
        for (ours, whole) in done.iter().zip(&texts) {
            prop_assert_eq!(ours.len(), whole.len().min(8));
            prop_assert_eq!(ours.last(), whole.last());
            prop_assert_eq!(&ours[..ours.len() - 1], &whole[..ours.len() - 1]);
        }
    }
}
