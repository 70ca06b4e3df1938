//! How throughput grows with workers, and what broker and stores cost per job. A benchmark, not a test: it asserts that
//! all jobs end, prints the rest, and is run by name (`make bench-fleet`).
//!
//! Workers have the simulated engine, so that sixteen of them fit on two cores: a job takes its modelled time and no
//! CPU. Throughput is taken from the results' own times in their stream, between the first and the last twentieth, so
//! that neither the start nor the tail of a run counts.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use maitred::broker::names;
use maitred::result::AnalysisResult;
use maitred_testkit::{Nats, Postgres, Redis, wait_until};

use crate::common::fleet::{Workload, maitred};

/// Of one run.
struct Measured {
    workers: usize,
    /// Jobs per second.
    rate: f64,
    /// From the start of a job's work to its result, in milliseconds, at the median.
    service_ms: f64,
    /// What else passes from one result of a worker to its next, at the median: broker, stores, and our own steps.
    between_ms: f64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark of several minutes"]
async fn throughput_grows_with_workers() {
    let jobs = number("MAITRED_SCALING_JOBS").unwrap_or(2000);
    let mut runs: Vec<Measured> = Vec::new();
    for workers in [1, 2, 4, 8, 16] {
        let Some(measured) = run(workers, jobs).await else { return };
        let base = runs.first().map_or(measured.rate, |first| first.rate);
        eprintln!(
            "{workers:>2} workers: {:7.2} jobs/s, efficiency {:.3}, job {:6.1} ms, between jobs {:5.1} ms",
            measured.rate,
            measured.rate / base / measured.workers as f64,
            measured.service_ms,
            measured.between_ms,
        );
        runs.push(measured);
    }
}

async fn run(workers: usize, jobs: usize) -> Option<Measured> {
    let (nats, redis, postgres) = (Nats::start()?, Redis::start()?, Postgres::start()?);
    let folder = tempfile::tempdir().unwrap();
    let maitred = maitred(folder.path())
        .set("nats.url", nats.url())
        .set("redis.url", redis.url())
        .set("postgres.url", postgres.url())
        .set("engine.backend", "sim")
        // Some 0.1 s a job: less than a real one takes (docs/PERFORMANCE.md), so that broker and stores weigh more.
        .set("sim.step", "50ms")
        .set("sim.token", "10us")
        .set("worker.slots", "1")
        .set("worker.look_ahead", "1")
        .set("health.listen", "none")
        .set("log.level", "info");
    maitred.run(&["init"]).ended(0);
    let mut fleet: Vec<_> = (0..workers).map(|n| maitred.worker(&format!("w-{n}"))).collect();
    for worker in &mut fleet {
        worker.wait_line("models are ready");
    }
    let file = folder.path().join("jobs.jsonl");
    // The same work for each, and no two alike: nothing is known of any review beforehand.
    Workload::with(7, jobs, |_| 3).write(&file);
    maitred.run(&["submit", file.to_str().unwrap()]).ended(0);
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let mut stream = context.get_stream(names::RESULTS_STREAM).await.unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    while stream.info().await.unwrap().state.messages < jobs as u64 {
        beat.tick().await;
        assert!(fleet.iter_mut().all(|worker| worker.is_running()), "a worker ended");
    }
    let measured = measure(&stream, workers, jobs).await;
    for worker in &mut fleet {
        worker.signal(nix::sys::signal::Signal::SIGTERM);
    }
    wait_until("the workers are gone", || fleet.iter_mut().all(|worker| !worker.is_running()));
    Some(measured)
}

async fn measure(stream: &jetstream::stream::Stream, workers: usize, jobs: usize) -> Measured {
    let consumer = stream
        .create_consumer(jetstream::consumer::pull::Config {
            ack_policy: jetstream::consumer::AckPolicy::None,
            ..Default::default()
        })
        .await
        .unwrap();
    let mut messages = consumer.fetch().max_messages(jobs).messages().await.unwrap();
    let mut times = Vec::with_capacity(jobs);
    let mut of_worker: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        let published = message.info().unwrap().published.unix_timestamp_nanos() as f64 / 1e6;
        let result: AnalysisResult = rmp_serde::from_slice(&message.payload).unwrap();
        let service = result.timings.total_ms - result.timings.queue_ms;
        times.push(published);
        of_worker.entry(result.worker).or_default().push((published, service));
    }
    times.sort_by(f64::total_cmp);
    let edge = times.len() / 20;
    let (first, last) = (edge, times.len() - 1 - edge);
    let rate = (last - first) as f64 / (times[last] - times[first]) * 1e3;
    let (service, between) = of_worker.into_values().flat_map(beside_the_work).unzip();
    Measured { workers, rate, service_ms: median(service), between_ms: median(between) }
}

/// For each job of a worker that works one at a time: how long it was worked, and what passed between the result before
/// and its own beside that.
fn beside_the_work(mut results: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    results.sort_by(|a, b| a.0.total_cmp(&b.0));
    results.windows(2).map(|pair| (pair[1].1, pair[1].0 - pair[0].0 - pair[1].1)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}
