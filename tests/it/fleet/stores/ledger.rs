//! What a fleet leaves in Postgres, and what `maitred report` makes of it.

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use maitred::broker::names;
use maitred::broker::nats::Sweeper;
use maitred::job::Limits;
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Postgres};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fleet::dlq::{give_up, say_again};
use crate::fleet::ground::until;
use crate::fleet::telemetry::scrape::Scrape;
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
async fn a_job_that_the_server_gave_up_is_one_row_and_counted_once_however_many_workers_sweep() {
    let Some(postgres) = Postgres::start() else { return };
    let change = |program: maitred_testkit::Maitred| {
        program.set("postgres.url", postgres.url()).set("nats.max_deliver", 2)
    };
    let Some(team) = Team::new(change).await else { return };
    team.program.run(&["init"]).ended(0);
    // Somebody takes a job again and again, writes its letter in the end, and dies before anything else.
    let before = team.ground.submit(Lane::Live, "before").await;
    give_up(&team.ground).await;
    let gone = Sweeper::new(&team.ground.broker, "w-gone", Limits::default());
    until("its letter", async || Some(gone.once().await.unwrap()).filter(|swept| !swept.is_empty())).await;
    say_again(&team.ground, before, 3).await;
    // The server's word of another one comes to several workers.
    let now = team.ground.submit(Lane::Live, "now").await;
    give_up(&team.ground).await;
    // More than one of them takes at a time.
    say_again(&team.ground, now, 39).await;

    let mut workers: Vec<_> = ["w-1", "w-2", "w-3"].map(|name| team.start(name)).into();
    for worker in &mut workers {
        worker.wait_ready();
    }
    until("all advisories are swept", async || {
        let stream = team.ground.context.get_stream(names::ADVISORIES_STREAM).await.unwrap();
        let mut sweeper = stream.get_consumer::<pull::Config>(names::SWEEPER).await.unwrap();
        let state = sweeper.info().await.unwrap();
        (state.num_pending == 0 && state.num_ack_pending == 0).then_some(())
    })
    .await;
    let counted = |name: &str, labels: &[&str]| -> f64 {
        workers.iter().map(|worker| Scrape::of(worker).sum(name, labels)).sum()
    };
    // What the one that died had counted died with it.
    assert_eq!(counted("maitred_dead_letters_total", &["reason=\"max_deliveries\""]) as u64, 1);
    assert_eq!(counted("maitred_dead_letters_total", &[]) as u64, 1);
    assert_eq!(counted("messaging_client_sent_messages_total", &["ANALYSIS_DLQ"]) as u64, 1);
    for worker in &mut workers {
        worker.signal(Signal::SIGTERM);
        assert_eq!(worker.wait_code(), 0);
    }
    let rows = postgres.sql(
        "SELECT job_id, restaurant_id, worker, lane, reason, sequence, deliveries,
                round(extract(epoch FROM created_at) * 1000000)::bigint
         FROM dead_letters ORDER BY sequence",
    );
    let letters = team.dead_letters().await;
    assert_eq!((letters[0].worker.as_str(), letters[0].delivered), ("w-gone", 2));
    let told = letters.iter().map(|letter| {
        let (job, restaurant) = (letter.job_id.as_deref().unwrap(), letter.restaurant_id.as_deref().unwrap());
        format!(
            "{job}|{restaurant}|{}|live|max_deliveries|{}|{}|{}",
            letter.worker,
            letter.sequence,
            letter.delivered,
            letter.at.unix_timestamp_nanos() / 1000
        )
    });
    assert_eq!(rows.lines().collect::<Vec<_>>(), told.collect::<Vec<_>>());
    assert_eq!(letters.len(), 2);
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
