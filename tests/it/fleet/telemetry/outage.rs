//! A collector that is away, silent, or back again costs log lines and nothing else.

use std::net::TcpListener;
use std::time::Duration;

use maitred_testkit::{Mode, Port, Proxy};
use nix::sys::signal::Signal;

use super::scrape::Scrape;
use crate::common::collector::Collector;
use crate::fleet::worker_faults::team::{Member, Team};

const LIMIT: Duration = Duration::from_mins(3);
const NOT_SENT: &str = "not sent to the collector";

/// A worker whose collector is there, as far as the worker knows, with little patience.
async fn team(endpoint: String) -> Option<Team> {
    Team::new(|program| {
        program
            .set("telemetry.otlp_endpoint", endpoint)
            .set("telemetry.otlp_interval", "100ms")
            .set("telemetry.otlp_timeout", "1s")
    })
    .await
}

/// Works some jobs and ends, as if there were no collector.
#[track_caller]
fn ends_well(worker: &mut Member) {
    assert_eq!(
        Scrape::of(worker).sum("maitred_jobs_total", &[]) as u64,
        4,
        "metrics are there to be asked for"
    );
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
}

fn told(worker: &Member, what: &str) -> usize {
    let line = |line: &&str| line.contains(NOT_SENT) && line.contains(&format!("what=\"{what}\""));
    worker.log().lines().filter(line).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_one_line_for_metrics_and_one_for_traces() {
    let nobody = Port::free();
    let Some(team) = team(format!("http://127.0.0.1:{}", nobody.number())).await else { return };
    let mut worker = team.worker("w-1");
    let ids = team.publish_some(4).await;
    team.checker(ids).await.wait(LIMIT).await;
    worker.wait_line("what=\"traces\"");
    worker.wait_line("what=\"metrics\"");
    ends_well(&mut worker);
    assert_eq!((told(&worker, "metrics"), told(&worker, "traces")), (1, 1), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_calls_and_says_nothing_holds_up_no_job_and_no_end() {
    // Connections are taken by the system, and nobody ever reads.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let Some(team) = team(format!("http://{}", silent.local_addr().unwrap())).await else { return };
    let mut worker = team.worker("w-1");
    let ids = team.publish_some(4).await;
    team.checker(ids).await.wait(LIMIT).await;
    ends_well(&mut worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_back_gets_all_that_was_counted_meanwhile() {
    let collector = Collector::start().await;
    let network = Proxy::to(collector.port());
    network.set(Mode::Cut);
    let Some(team) = team(format!("http://127.0.0.1:{}", network.port())).await else { return };
    let mut worker = team.worker("w-1");
    let ids = team.publish_some(4).await;
    team.checker(ids).await.wait(LIMIT).await;
    worker.wait_line(NOT_SENT);
    network.set(Mode::Pass);
    worker.wait_line("sent to the collector again");
    ends_well(&mut worker);
    let metrics = collector.last_metrics("w-1").unwrap();
    assert!(metrics.iter().any(|metric| metric.name == "maitred.tokens"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_does_not_wait_for_a_collector_that_is_away() {
    let nobody = Port::free();
    let Some(team) = team(format!("http://127.0.0.1:{}", nobody.number())).await else { return };
    let one = r#"{"restaurant_id":"r","reviews":[{"id":"1","text":"Good soup."}]}"#;
    std::fs::write(team.folder.path().join("one.jsonl"), format!("{one}\n")).unwrap();
    let ran = team.program.run(&["submit", "one.jsonl"]).ended(0);
    assert!(ran.stdout.contains("1 job published"), "{}", ran.stdout);
    ran.told(&[NOT_SENT]);
}
