//! The contract from the other side: programs that know nothing of maitred but `docs/CONTRACT.md`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_nats::HeaderMap;
use maitred::broker::names;
use maitred::broker::wire::Encoding;
use maitred_testkit::{cache_home, skipped, variable};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::fleet::standin::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn a_json_job_of_a_plain_client_is_answered_in_json_and_keeps_its_trace() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let Some(fleet) = Fleet::start() else { return };
    let (_, context) = fleet.plain_client().await;
    let stand_in = fleet.stand_in().await;
    let job = json!({
        "v": 1, "job_id": "by-hand", "restaurant_id": "가게-1", "analyses": ["sentiment"],
        "reviews": [{"id": "1", "text": "국물이 시원해요", "rating": 5}], "note": "ignored",
    });
    let mut headers = HeaderMap::new();
    headers.insert(names::CONTENT_TYPE, "application/json; charset=utf-8");
    headers.insert(names::TRACEPARENT, TRACE);
    let stored =
        context.publish_with_headers("jobs.analysis.live.가게-1", headers, job.to_string().into()).await;
    stored.unwrap().await.unwrap();
    let taken = stand_in.take().await;
    assert_eq!(taken.decoded.encoding, Encoding::Json);
    assert_eq!(taken.decoded.job.reviews[0].text, "국물이 시원해요");
    stand_in.finish(&taken).await;
    let results = context.get_stream(names::RESULTS_STREAM).await.unwrap();
    let result = results.get_last_raw_message_by_subject("results.analysis.가게-1").await.unwrap();
    let header = |name: &str| result.headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header(names::CONTENT_TYPE), "application/json");
    assert_eq!(header("Nats-Msg-Id"), "by-hand");
    assert!(header(names::TRACEPARENT).starts_with(&TRACE[..36]) && header(names::TRACEPARENT) != TRACE);
    let body: Value = serde_json::from_slice(&result.payload).unwrap();
    let schema = serde_json::from_str(include_str!("../../../docs/result.schema.json")).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let faults: Vec<String> = schema.iter_errors(&body).map(|fault| fault.to_string()).collect();
    assert_eq!(faults, [] as [String; 0], "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_any_header_is_read_by_its_first_byte() {
    let Some(fleet) = Fleet::start() else { return };
    let (_, context) = fleet.plain_client().await;
    let stand_in = fleet.stand_in().await;
    let job = json!({"v": 1, "job_id": "bare", "restaurant_id": "r", "analyses": ["summary"]});
    for (body, encoding) in [
        (job.to_string().into_bytes(), Encoding::Json),
        (rmp_serde::to_vec_named(&job).unwrap(), Encoding::Msgpack),
    ] {
        context.publish("jobs.analysis.live.r", body.into()).await.unwrap().await.unwrap();
        let taken = stand_in.take().await;
        assert_eq!(taken.decoded.encoding, encoding);
        stand_in.finish(&taken).await;
    }
}

#[test]
fn the_examples_in_the_contract_are_what_they_say() {
    use maitred::broker::wire::{Message, decode_job};
    let contract = include_str!("../../../docs/CONTRACT.md");
    let job = contract.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let message =
        Message { subject: "jobs.analysis.live.blue-door", content_type: None, body: job.as_bytes() };
    let decoded = decode_job(message, &maitred::job::Limits::default()).unwrap();
    assert_eq!(decoded.job.reviews.len(), 2);
    for name in [
        names::JOBS_STREAM,
        names::RESULTS_STREAM,
        names::DEAD_LETTERS_STREAM,
        names::OBJECTS_BUCKET,
        names::BODY_OBJECT,
        names::BODY_SHA256,
        names::BACKFILL,
        names::TRACEPARENT,
        names::MSGPACK,
        names::JSON,
    ] {
        assert!(contract.contains(&format!("`{name}`")), "{name}");
    }
}

/// The Python with the example's packages: the one that `make servers` sets up, unless another one is named.
fn python() -> Option<PathBuf> {
    let own = cache_home().map(|cache| cache.join("python/bin/python3"));
    let python = variable("MAITRED_PYTHON").or(own).filter(|path| path.is_file());
    let usable = python.filter(|python| {
        let mut import = std::process::Command::new(python);
        import.args(["-c", "import msgpack, nats"]).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    });
    if usable.is_none() {
        skipped("no Python with nats-py and msgpack, run make servers");
    }
    usable
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_submits_a_job_and_reads_its_result() {
    let Some(python) = python() else { return };
    let Some(fleet) = Fleet::start() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/submit.py");
    let lines = std::fs::read_to_string(&script).unwrap().lines().count();
    assert!(lines <= 35, "{lines} lines are no short example");
    let example = Command::new(python)
        .arg(script)
        .env("NATS_URL", fleet.nats.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let worker = fleet.stand_in_of(maitred::scheduler::Lane::Hi).await;
    let (ran, ()) = tokio::join!(example.wait_with_output(), worker.work(1));
    let ran = ran.unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(printed.starts_with("stored as 1 of REVIEW_JOBS, duplicate: False\n"), "{printed}");
    assert!(printed.trim_end().ends_with(": no_data"), "{printed}");
}
