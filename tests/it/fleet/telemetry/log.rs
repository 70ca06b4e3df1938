//! The one line of a job, as a machine reads it.

use std::time::Duration;

use maitred::scheduler::Lane;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fleet::worker_faults::team::{Team, job};

const LIMIT: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_job_is_one_line_with_all_times_and_counts_and_no_review() {
    let Some(team) = Team::new(|program| program.set("log.format", "json").set("log.level", "trace")).await
    else {
        return;
    };
    let mut worker = team.start("w-1");
    worker.wait_line("models are ready");
    team.publish(Lane::Hi, &job(0)).await;
    team.checker(["j-0".to_owned()]).await.wait(LIMIT).await;
    worker.wait_line("\"settled\"");
    // Its log is whole when it has ended.
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    let log = worker.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), log.lines().count(), "every line is an object");
    let settled: Vec<&Value> = lines.iter().filter(|line| line["message"] == "settled").collect();
    assert_eq!(settled.len(), 1);
    let line = settled[0];

    let result = team.result("j-0").await.result;
    for (field, text) in [
        ("job", "j-0"),
        ("restaurant", "r-0"),
        ("lane", "hi"),
        ("outcome", result.outcome.status()),
        ("model", &result.model.name),
        ("level", "INFO"),
    ] {
        assert_eq!(line[field], text, "{field}: {line}");
    }
    let usage = result.usage;
    for (field, count) in [
        ("reviews", u64::from(usage.reviews)),
        ("read", usage.reviews_read.into()),
        ("cached", usage.reviews_cached.into()),
        ("requests", usage.requests.into()),
        ("prompt_tokens", usage.prompt_tokens),
        ("reused_tokens", usage.reused_tokens),
        ("forced_tokens", usage.forced_tokens),
        ("generated_tokens", usage.generated_tokens),
        ("baseline_tokens", usage.baseline_tokens),
        ("embedded_texts", usage.embedded_texts.into()),
        ("claims_written", usage.claims_written.into()),
        ("claims_kept", usage.claims_kept.into()),
        ("delivered", 1),
        ("epoch", result.epoch),
    ] {
        assert_eq!(line[field], count, "{field}: {line}");
    }
    let time = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("{field} is no time: {line}"));
    let timings = result.timings;
    for (field, wanted) in [
        ("queue_ms", Some(timings.queue_ms)),
        ("ttft_ms", timings.ttft_ms),
        ("total_ms", Some(timings.total_ms)),
    ] {
        assert_eq!(line[field], json!(wanted), "{field}: {line}");
    }
    assert!(time("held_ms") <= time("queue_ms") && time("queue_ms") <= time("ttft_ms"), "{line}");
    assert!(time("ttft_ms") <= time("total_ms") && time("publish_ms") > 0.0, "{line}");
    assert!(time("end_to_end_ms") > 0.0);
    assert!(line["trace"].as_str().unwrap().starts_with("00-"));
    // Not even where everything is logged.
    for part in ["the soup was hot", "waiter was rude", "I waited an hour"] {
        assert!(!log.contains(part), "a review's text in the log");
    }
}
