//! One trace from the producer's process to the worker's, as a collector gets it.

use maitred::broker::names;
use maitred_testkit::wait_until;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::common::collector::{Collector, Sent, text};
use crate::fleet::worker_faults::team::{Team, long_job};

/// One restaurant with so many reviews, as `maitred submit` reads it.
fn file(team: &Team, reviews: usize) {
    let reviews = &long_job(0, reviews)["reviews"];
    let restaurant = json!({ "restaurant_id": "r-0", "reviews": reviews });
    std::fs::write(team.folder.path().join("one.jsonl"), format!("{restaurant}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_runs_from_the_submission_to_the_result_over_two_processes() {
    let collector = Collector::start().await;
    let change = |program: maitred_testkit::Maitred| {
        program
            .set("telemetry.otlp_endpoint", collector.url())
            .set("analysis.scope", "selected")
            .set("analysis.top_k", "8")
    };
    let Some(team) = Team::new(change).await else { return };
    file(&team, 20);
    let mut worker = team.worker("w-1");
    team.program.run(&["submit", "one.jsonl"]).ended(0);
    worker.wait_line(" settled ");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);

    let sent = collector.spans();
    let trace = &sent[0].span.trace_id;
    assert!(sent.iter().all(|sent| sent.span.trace_id == *trace), "one job, one trace: {sent:#?}");
    let publish = one(&sent, "publish live");
    let process = one(&sent, "process live");
    assert_eq!((publish.instance.as_str(), process.instance.as_str()), ("maitred submit", "w-1"));
    assert!(publish.span.parent_span_id.is_empty(), "it is the first of its trace");
    assert_eq!(process.span.parent_span_id, publish.span.span_id);
    assert_eq!(publish.span.kind, SpanKind::Producer as i32);
    assert_eq!(process.span.kind, SpanKind::Consumer as i32);
    assert!(publish.span.start_time_unix_nano <= process.span.start_time_unix_nano);

    // Below the job: waiting, selecting, its requests, publishing; below each request its three phases.
    let parts = children(&sent, &process.span);
    for part in ["wait", "select", "publish ANALYSIS_RESULTS"] {
        assert_eq!(parts.iter().filter(|span| span.name == part).count(), 1, "{part}: {parts:#?}");
    }
    let requests: Vec<&&Span> = parts.iter().filter(|span| span.name.starts_with("request ")).collect();
    assert!(requests.iter().any(|span| span.name == "request facts"), "{parts:#?}");
    assert_eq!(requests.len() + 3, parts.len(), "nothing else: {parts:#?}");
    for request in requests {
        let phases: Vec<&str> = children(&sent, request).iter().map(|span| span.name.as_str()).collect();
        assert_eq!(phases, ["queue", "prefill", "decode"]);
    }
    for Sent { span, .. } in sent.iter().filter(|sent| sent.instance == "w-1") {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:#?}");
        let parent = sent.iter().find(|parent| parent.span.span_id == span.parent_span_id);
        let parent = &parent.expect("no span hangs in the air").span;
        let within = parent.start_time_unix_nano <= span.start_time_unix_nano
            && span.end_time_unix_nano <= parent.end_time_unix_nano;
        assert!(within || span.span_id == process.span.span_id, "{} in {}", span.name, parent.name);
    }

    // The result carries the trace on, and the spans name the job and hold no text.
    let results = team.results().await;
    let header = results[0].headers.get(names::TRACEPARENT).unwrap().as_str().to_owned();
    assert_eq!(header, format!("00-{}-{}-01", hex(trace), hex(&process.span.span_id)));
    let job = text(&process.span.attributes, "maitred.job_id");
    assert_eq!(job.as_deref(), Some(results[0].result.job_id.as_str()));
    assert!(!format!("{sent:?}").contains("waiter"), "no review's text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_recorded_sends_nothing_and_is_carried_on_all_the_same() {
    let collector = Collector::start().await;
    let change = |program: maitred_testkit::Maitred| {
        program.set("telemetry.otlp_endpoint", collector.url()).set("telemetry.trace_ratio", "0.0")
    };
    let Some(team) = Team::new(change).await else { return };
    file(&team, 2);
    let mut worker = team.worker("w-1");
    team.program.run(&["submit", "one.jsonl"]).ended(0);
    worker.wait_line(" settled ");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    assert!(collector.spans().is_empty());
    assert!(collector.last_metrics("w-1").is_some(), "metrics are sent all the same");
    let results = team.results().await;
    assert!(results[0].headers.get(names::TRACEPARENT).unwrap().as_str().ends_with("-00"));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_do_not_wait_for_the_end_of_the_process() {
    let collector = Collector::start().await;
    let Some(team) = Team::new(|program| program.set("telemetry.otlp_endpoint", collector.url())).await
    else {
        return;
    };
    let _worker = team.worker("w-1");
    team.publish_some(1).await;
    wait_until("the job's span", || collector.spans().iter().any(|sent| sent.span.name == "process live"));
}

#[track_caller]
fn one<'s>(sent: &'s [Sent], name: &str) -> &'s Sent {
    let found: Vec<&Sent> = sent.iter().filter(|sent| sent.span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {sent:#?}");
    found[0]
}

fn children<'s>(sent: &'s [Sent], parent: &Span) -> Vec<&'s Span> {
    let mut found: Vec<&Span> =
        sent.iter().map(|sent| &sent.span).filter(|span| span.parent_span_id == parent.span_id).collect();
    found.sort_by_key(|span| (span.start_time_unix_nano, span.end_time_unix_nano));
    found
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
