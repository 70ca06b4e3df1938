//! `maitred analyze` on the engine without a model: what it tells a collector of its work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use maitred::result::{AnalysisResult, Usage};
use maitred::telemetry::names;
use maitred_testkit::{Maitred, Port};
use opentelemetry_proto::tonic::trace::v1::Span;
use sqlx::{Connection, SqliteConnection};

use crate::common::collector::{Collector, assert_known, counted, text};
use crate::common::fleet::maitred;

/// The project's own sample reviews.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample-restaurants.jsonl");
const RUN: [&str; 4] = ["analyze", SAMPLE, "--out", "results.jsonl"];

/// The program with the simulated engine, and its collector there.
fn program(folder: &Path, endpoint: &str) -> Maitred {
    maitred(folder)
        .set("engine.backend", "sim")
        .set("sim.step", "1ms")
        .set("sim.token", "10ns")
        // What the simulated engine says leans hardly to a side. So every clause counts, and there are claims to write.
        .set("analysis.clause_margin", "0.0")
        .set("analysis.min_support", "1")
        .set("telemetry.otlp_endpoint", endpoint)
}

fn results(folder: &Path) -> Vec<AnalysisResult> {
    let text = std::fs::read_to_string(folder.join("results.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_a_file_sends_the_sums_of_its_results_and_nothing_of_a_fleet() {
    let (collector, folder) = (Collector::start().await, tempfile::tempdir().unwrap());
    program(folder.path(), &collector.url()).run(&RUN).ended(0);
    let results = results(folder.path());
    assert_eq!(results.len(), 10);
    let mut usage = Usage::default();
    for result in &results {
        usage.add(&result.usage);
    }

    let instance = collector.spans()[0].instance.clone();
    assert!(instance.starts_with("analyze-"), "{instance}");
    let metrics = collector.last_metrics(&instance).expect("metrics of the run");
    assert_known(&metrics);
    let sum = |name: &str| counted(&metrics, name).iter().map(|(_, count)| count).sum::<f64>() as u64;
    assert_eq!(sum(names::JOBS.name), 10);
    assert_eq!(sum(names::TOKENS.name), usage.worked_tokens());
    assert_eq!(sum(names::REVIEWS.name), u64::from(usage.reviews_read));
    assert_eq!(sum(names::CLAIMS.name), u64::from(usage.claims_written));
    assert!(usage.reviews_read == 247 && usage.claims_written > 0, "{usage:?}");
    assert!(sum(names::PREFILL_TOKENS.name) >= usage.prompt_tokens + usage.forced_tokens);
    for (labels, _) in counted(&metrics, names::JOBS.name) {
        assert!(labels.iter().all(|label| label.key == names::label::OUTCOME), "{labels:?}");
    }
    let sent: BTreeSet<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    for there in
        [names::JOB_TTFT, names::STEP_TIME, names::GEN_AI_DURATION, names::WORKER_INFO, names::GOODPUT]
    {
        assert!(sent.contains(there.name), "{} is not among {sent:?}", there.name);
    }
    for name in sent {
        let of_a_fleet =
            ["messaging.", "maitred.lane", "maitred.lease", "maitred.slots", "maitred.dead_letters"];
        assert!(!of_a_fleet.iter().any(|start| name.starts_with(start)), "{name}");
        assert!(name != names::NATS_CONNECTED.name && name != names::WORKER_READY.name, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_a_file_sends_a_trace_for_each_restaurant_that_its_rows_name() {
    let (collector, folder) = (Collector::start().await, tempfile::tempdir().unwrap());
    let program = program(folder.path(), &collector.url()).set("analysis.scope", "selected");
    program.run(&RUN).ended(0);
    let sent = collector.spans();
    let mut traces: BTreeMap<Vec<u8>, Vec<&Span>> = BTreeMap::new();
    for sent in &sent {
        traces.entry(sent.span.trace_id.clone()).or_default().push(&sent.span);
    }
    let mut jobs = BTreeSet::new();
    for spans in traces.values() {
        let first: Vec<&&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
        assert_eq!((first.len(), first[0].name.as_str()), (1, "analyze"), "{spans:#?}");
        jobs.insert(text(&first[0].attributes, "maitred.job_id").unwrap());
        let parts = spans.iter().filter(|span| span.parent_span_id == first[0].span_id);
        let parts: Vec<&str> = parts.map(|span| span.name.as_str()).collect();
        for part in ["select", "request facts", "write"] {
            assert!(parts.contains(&part), "{part} is not among {parts:?}");
        }
        for span in spans {
            let parent =
                spans.iter().find(|parent| parent.span_id == span.parent_span_id).unwrap_or(first[0]);
            let within = parent.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= parent.end_time_unix_nano;
            assert!(within, "{} in {}", span.name, parent.name);
        }
    }
    let results = results(folder.path());
    assert_eq!(traces.len(), results.len(), "one for each restaurant");
    assert_eq!(jobs, results.iter().map(|result| result.job_id.clone()).collect());
    let told = format!("{sent:?}");
    for evidence in results.iter().flat_map(AnalysisResult::evidence) {
        assert!(!told.contains(&evidence.quote), "{}", evidence.quote);
    }
    let hex = |id: &Vec<u8>| format!("{:032x}", u128::from_be_bytes(id.as_slice().try_into().unwrap()));
    let file = format!("sqlite://{}", folder.path().join("results.maitred.db").display());
    let mut rows = SqliteConnection::connect(&file).await.unwrap();
    let named: Vec<(String,)> =
        sqlx::query_as("SELECT trace_id FROM job_metrics ORDER BY 1").fetch_all(&mut rows).await.unwrap();
    assert_eq!(
        named.into_iter().map(|(id,)| id).collect::<Vec<_>>(),
        traces.keys().map(hex).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_traces_are_not_recorded_sends_metrics_only() {
    let (collector, folder) = (Collector::start().await, tempfile::tempdir().unwrap());
    let program = program(folder.path(), &collector.url()).set("telemetry.trace_ratio", "0.0");
    program.environment("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine").run(&RUN).ended(0);
    assert!(collector.spans().is_empty());
    let metrics = collector.last_metrics("mine").expect("metrics of the run");
    assert!(metrics.iter().any(|metric| metric.name == names::JOBS.name));
}

#[test]
fn a_collector_that_is_away_costs_a_run_a_line_and_no_result() {
    let (nobody, folder) = (Port::free(), tempfile::tempdir().unwrap());
    let endpoint = format!("http://127.0.0.1:{}", nobody.number());
    let ran = program(folder.path(), &endpoint).run(&RUN).ended(0);
    ran.told(&["not sent to the collector", "what=\"metrics\"", "what=\"traces\""]);
    assert_eq!(results(folder.path()).len(), 10);
}

#[test]
fn a_run_without_a_collector_has_no_trace_and_says_nothing_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let ran = program(folder.path(), "none").run(&RUN).ended(0);
    assert!(!ran.stderr.contains("collector"), "{}", ran.stderr);
    assert_eq!(results(folder.path()).len(), 10);
}
