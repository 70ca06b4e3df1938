//! The metrics of a worker with all its servers: every one that a fleet without a GPU can fill is there, and the sums are
//! those of the results.

use std::time::Duration;

use maitred::config::SecretUrl;
use maitred::result::Usage;
use maitred::scheduler::Lane;
use maitred::store::postgres::migrate;
use maitred::telemetry::names::{self, CATALOGUE, Kind, MetricInfo};
use maitred_testkit::{Postgres, Redis, wait_until};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use serde_json::Value;

use super::scrape::Scrape;
use crate::common::collector::{Collector, assert_known};
use crate::fleet::ground::until;
use crate::fleet::worker_faults::team::{Team, job, long_job};

const LIMIT: Duration = Duration::from_mins(3);

/// What this fleet cannot fill everywhere, and why.
const ABSENT: &[(MetricInfo, &str)] = &[
    (names::GPU_UTILIZATION, "there is no GPU"),
    (names::GPU_MEMORY_USED, "there is no GPU"),
    (names::GPU_MEMORY_TOTAL, "there is no GPU"),
    (names::GPU_POWER, "there is no GPU"),
    (names::GPU_TEMPERATURE, "there is no GPU"),
    (names::THROUGHPUT, "the first window closes after a minute"),
    (names::GOODPUT, "the first window closes after a minute"),
    (names::SLA_COMPLIANCE, "the first window closes after a minute"),
];

/// What nothing went wrong for, or nothing was asked for, in this run: there, and zero.
const ZERO: &[MetricInfo] = &[
    names::HEAP_DEPTH,
    names::HEAP_OLDEST_AGE,
    names::JOBS_HELD,
    names::SLOTS_IN_USE,
    names::RETRIES,
    names::HANDED_BACK,
    names::REDELIVERIES,
    names::LEASE_RENEWAL_FAILURES,
    names::LEASE_RENEWALS,
    names::REQUESTS_WAITING,
    names::REQUESTS_RUNNING,
    names::SEQUENCES_IN_USE,
    names::KV_CELLS_RESERVED,
    names::STORE_ERRORS,
    names::METRIC_ROWS_DROPPED,
    names::WORKER_DRAINING,
    names::IDLE_CHECKS,
    names::GPU_SAMPLE_FAILURES,
    // Asked every ten seconds: before the jobs came, or after.
    names::LANE_PENDING,
    names::LANE_IN_FLIGHT,
    names::LANE_OLDEST_AGE,
    names::REPLAY_PENDING,
    names::REPLAY_IN_FLIGHT,
    names::DEAD_LETTERS_WAITING,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_filled_and_the_sums_are_those_of_the_results() {
    let (Some(redis), Some(postgres)) = (Redis::start(), Postgres::start()) else { return };
    migrate(&SecretUrl::new(postgres.url())).await.unwrap();
    let collector = Collector::start().await;
    let change = |program: maitred_testkit::Maitred| {
        program
            .set("redis.url", redis.url())
            .set("postgres.url", postgres.url())
            .set("telemetry.otlp_endpoint", collector.url())
            // What the simulated engine says leans hardly to a side. So every clause counts, and there are claims to write.
            .set("analysis.clause_margin", "0.0")
            .set("analysis.min_support", "1")
            // How fast this machine is must not decide whether a job was in time.
            .set("goodput.ttft", "10m")
    };
    let Some(team) = Team::new(change).await else { return };
    let mut worker = team.worker("w-1");
    let wanted = publish_all(&team).await;
    let checker = team.checker(wanted).await;
    checker.wait(LIMIT).await;
    wait_until("all is settled", || Scrape::of(&worker).sum("maitred_jobs_held", &[]) == 0.0);
    until("the lanes are known", async || Scrape::of(&worker).has("maitred_lane_pending").then_some(()))
        .await;
    let scrape = Scrape::of(&worker);
    holds_every_metric(&scrape);
    names_no_restaurant(&scrape);

    let results = team.results().await;
    let mut usage = Usage::default();
    for published in &results {
        usage.add(&published.result.usage);
    }
    let sum = |name: &str, labels: &[&str]| scrape.sum(name, labels) as u64;
    assert_eq!(sum("maitred_tokens_total", &[]), usage.worked_tokens());
    assert_eq!(sum("maitred_baseline_tokens_total", &[]), usage.baseline_tokens);
    assert_eq!(
        sum("gen_ai_client_token_usage_sum", &["gen_ai_token_type=\"input\""]),
        usage.prompt_tokens + usage.reused_tokens + usage.forced_tokens
    );
    assert_eq!(
        sum("gen_ai_client_token_usage_sum", &["gen_ai_token_type=\"output\""]),
        usage.generated_tokens
    );
    assert_eq!(sum("gen_ai_server_request_duration_seconds_count", &[]), u64::from(usage.requests));
    assert_eq!(sum("maitred_reviews_total", &["\"read\""]), u64::from(usage.reviews_read));
    assert_eq!(sum("maitred_reviews_total", &["\"cached\""]), u64::from(usage.reviews_cached));
    assert_eq!(sum("maitred_claims_total", &[]), u64::from(usage.claims_written));
    assert_eq!(sum("maitred_jobs_total", &[]), results.len() as u64);
    assert_eq!(sum("maitred_jobs_total", &["lane=\"hi\"", "outcome=\"ok\""]), 1);
    assert_eq!(sum("maitred_dead_letters_total", &["reason=\"malformed\""]), 1);
    // The engine computed what the results say, and what preparing the languages took.
    assert!(sum("maitred_prefill_tokens_total", &[]) >= usage.prompt_tokens + usage.forced_tokens);

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    collector_has_the_same(&collector, usage.worked_tokens());
}

/// Jobs of each lane and size, a repeated one, an overtaken one, and one that cannot be read. The ids of those that end.
async fn publish_all(team: &Team) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let large: [(Lane, Value); 5] = [
        (Lane::Hi, long_job(0, 3)),
        (Lane::Live, job(1)),
        (Lane::Backfill, long_job(2, 40)),
        (Lane::Live, long_job(3, 3)),
        (Lane::Live, long_job(4, 3)),
    ];
    for (lane, job) in &large {
        team.publish(*lane, job).await;
        ids.push(job["job_id"].as_str().unwrap().to_owned());
    }
    team.checker(ids.clone()).await.wait(LIMIT).await;
    // The same reviews again, under another id: unchanged. And an older epoch after a newer one: overtaken.
    let mut again = job(1);
    again["job_id"] = "again".into();
    let mut newer = long_job(4, 4);
    (newer["job_id"], newer["epoch"]) = ("newer".into(), 7.into());
    for job in [&again, &newer] {
        team.publish(Lane::Live, job).await;
        ids.push(job["job_id"].as_str().unwrap().to_owned());
    }
    team.checker(ids.clone()).await.wait(LIMIT).await;
    let mut older = long_job(4, 5);
    (older["job_id"], older["epoch"]) = ("older".into(), 6.into());
    team.publish(Lane::Live, &older).await;
    ids.push("older".into());
    let sequence = team.ground.publish(Lane::Live, "r-bad", "not a job").await;
    ids.push(format!("unreadable:{sequence}"));
    ids
}

#[track_caller]
fn holds_every_metric(scrape: &Scrape) {
    for metric in CATALOGUE {
        let name = metric.prometheus();
        let value = match metric.kind {
            Kind::Histogram(_) => format!("{name}_count"),
            Kind::Counter | Kind::Gauge => name.clone(),
        };
        if ABSENT.iter().any(|(absent, _)| absent == metric) {
            continue;
        }
        assert!(scrape.has(&value), "{name} is not there\n{}", scrape.text);
        if !ZERO.contains(metric) {
            assert!(scrape.sum(&value, &[]) > 0.0, "{name} is zero\n{}", scrape.text);
        }
    }
}

#[track_caller]
fn names_no_restaurant(scrape: &Scrape) {
    for id in ["r-0", "r-1", "j-0", "j-1", "newer", "again"] {
        assert!(!scrape.text.contains(&format!("\"{id}\"")), "{id} is a label\n{}", scrape.text);
    }
}

/// What was sent at the end is what a scrape at the end would have shown, with a unit and a meaning each.
#[track_caller]
fn collector_has_the_same(collector: &Collector, tokens: u64) {
    let metrics = collector.last_metrics("w-1").expect("metrics of the worker");
    assert_known(&metrics);
    let counted = metrics.iter().find(|metric| metric.name == names::TOKENS.name).unwrap();
    let Some(Data::Sum(sum)) = &counted.data else { panic!("{counted:?} is no sum") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(Number::AsInt(tokens as i64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_telemetry_works_and_serves_no_metrics() {
    let Some(team) = Team::new(|program| program.set("telemetry.enabled", "false")).await else { return };
    let worker = team.worker("w-1");
    let ids = team.publish_some(2).await;
    team.checker(ids).await.wait(LIMIT).await;
    let (code, text) = worker.health("/metrics").unwrap();
    assert_eq!((code, text.trim()), (404, "telemetry.enabled is false"));
}
