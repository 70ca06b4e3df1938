//! What a fleet leaves in Postgres, and what `maitred report` makes of it.

use async_nats::HeaderMap;
use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Postgres};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fleet::ground::until;
use crate::fleet::worker_faults::team::{Team, job_of};

fn of_epoch(id: &str, epoch: u64) -> Value {
    let mut job = job_of(id, "r-1", "The soup was hot. The waiter was rude.");
    job["epoch"] = json!(epoch);
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_what_became_of_every_job_and_what_a_worker_took() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(team) = Team::new(|program| program.set("postgres.url", postgres.url())).await else { return };
    team.program.run(&["init"]).ended(0);
    let mut worker = team.worker("w-1");
    team.publish(Lane::Hi, &of_epoch("j-new", 5)).await;
    team.checker(["j-new".to_owned()]).await.wait(LIMIT).await;
    team.publish(Lane::Live, &of_epoch("j-old", 3)).await;
    team.publish_as("jobs.analysis.live.r-2".to_owned(), HeaderMap::new(), "no job").await;
    until("the older job's result and the dead letter", async || {
        let letters = team.ground.messages(names::DEAD_LETTERS_STREAM).await;
        (team.ground.messages(names::RESULTS_STREAM).await == 2 && letters == 1).then_some(())
    })
    .await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);

    let unworked = "SELECT at_received_ms <= at_published_ms, at_admitted_ms IS NULL, ttft_ms IS NULL, within_sla IS NULL
                    FROM job_metrics WHERE outcome = 'stale'";
    assert_eq!(postgres.sql(unworked), "t|t|t|t");
    let ran = team.program.run(&["report", "--json", "--since", "1h", "--cost-per-hour", "0.5"]).ended(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["jobs"]["lanes"], json!({ "hi": { "ok": 1 }, "live": { "stale": 1 } }));
    assert_eq!(report["dead_letters"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["errors"], json!([]));
    let known = &report["workers"][0];
    assert_eq!(
        (&known["worker"], &known["model"], &known["starts"]),
        (&json!("w-1"), &json!("simulated"), &json!(1))
    );
    assert!(known["busy_share"].as_f64().unwrap() > 0.0, "{known}");
    assert_eq!(report["service"][0]["judged"], 1);
    assert!(report["flow"]["throughput_tps"].as_f64().unwrap() > 0.0);
    assert_eq!(report["cost"]["restaurants"], 1);
    assert!(report["cost"]["per_1000_restaurants"].as_f64().unwrap() > 0.0);
    assert_eq!(report["gpus"], json!([]));

    let table = team.program.run(&["report"]).ended(0).stdout;
    assert!(table.contains("gpus\nno data\n") && table.contains("cost\nno data\n"), "{table}");
    team.program.run(&["report", "--html", "report.html"]).ended(0);
    let page = std::fs::read_to_string(team.folder.path().join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("w-1") && page.contains("<svg"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_anything_to_read_says_what_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let program = crate::common::fleet::maitred(folder.path());
    program.run(&["report"]).ended(1).told(&["postgres.url", "--db"]);
    program
        .run(&["report", "--db", "results.maitred.db"])
        .ended(1)
        .told(&["results.maitred.db", "not there"]);
    program.run(&["report", "--since", "soon"]).ended(2).told(&["24h"]);
    program.run(&["report", "--cost-per-hour", "0"]).ended(2).told(&["--cost-per-hour"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "asking makes no file");
}
