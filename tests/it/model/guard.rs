//! What a fixed workload costs, to the token: a guard against losing sharing, batching, probes or forced text by
//! accident. Counts, not times, so that it fails only when the work itself has changed. If a change of prompts, models
//! or rules is meant to change it, put in the new counts, and say in the commit why they are better.

use std::path::Path;
use std::sync::Arc;

use maitred::bench::drive::{self, Run};
use maitred::bench::variant::OURS;
use maitred::bench::workload::{self, Extent};
use maitred::config::{Config, Settings};
use maitred::engine::Monotonic;
use maitred::engine::core::Core;
use maitred::engine::llama::LlamaContextBackend;
use maitred::runtime;

use crate::common;

/// What is counted, in one line for each kind.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    /// Labels read and texts written.
    answers: (usize, usize),
    /// Prompt and template tokens computed, heads included; taken from pinned heads instead; sampled.
    tokens: (u64, u64, u64),
    /// Decode calls, and the sequences in all of them.
    calls: (u64, u64),
    /// Positions whose logits were read.
    read: u64,
}

impl Counts {
    fn of(run: &Run) -> Self {
        let core = run.counters;
        Self {
            answers: (run.labels.iter().flatten().count(), run.claims.iter().flatten().count()),
            tokens: (core.prefill_tokens, run.reused_tokens, run.generated_tokens),
            calls: (core.steps, core.sequence_steps),
            read: core.read_tokens,
        }
    }
}

/// The first reviews of the first sample restaurants, asked as the reader asks, on a fresh context.
async fn work(settings: &Settings, file: &str, extent: Extent) -> Counts {
    let loaded = runtime::load(settings).await.unwrap();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let reader = loaded
        .reader(runtime::read_settings(settings), move |server, backend, embedders| {
            server.serve(backend, embedders);
            done.send(()).unwrap();
        })
        .await
        .unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let input = runtime::input(&file, settings).unwrap();
    let analyst = workload::analyst(reader, settings);
    let taken = workload::take(input, &analyst, extent).await.unwrap();
    drop(analyst);
    is_done.await.unwrap();
    let (model, config) = (loaded.language_model().clone(), loaded.config().clone());
    let run = tokio::task::spawn_blocking(move || {
        let backend = LlamaContextBackend::new(&model, &config.context).unwrap();
        let clock = Monotonic::default();
        let mut core =
            Core::new(backend, Arc::new(clock.clone()), config.engine.policy, config.engine.prefixes);
        drive::run(&mut core, &clock, &taken.workload, &OURS).unwrap()
    });
    Counts::of(&run.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_workload_costs_what_it_did() {
    let models = ["gemma-3-270m-q8_0.gguf", "all-minilm-l6-v2-f16.gguf"];
    if models.iter().any(|file| common::model(file).is_none()) {
        return;
    }
    let settings = Config::load(None, &[], &[]).unwrap().settings;
    let counts =
        work(&settings, "data/sample-restaurants.jsonl", Extent { restaurants: 2, reviews: 8 }).await;
    let expected = Counts { answers: (43, 2), tokens: (1206, 8786, 18), calls: (18, 63), read: 61 };
    assert_eq!(counts, expected);
}
