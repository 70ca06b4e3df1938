//! Jobs and results that are too large for a message.

use std::fmt::Write as _;
use std::time::Duration;

use maitred::broker::names;
use maitred::broker::wire::codes;
use maitred::digest::bytes_digest;
use maitred::result::AnalysisResult;
use maitred::scheduler::Lane;
use maitred_testkit::NatsConfig;
use serde_json::json;

use super::team::{Team, job};
use crate::common::fleet::Checker;
use crate::fleet::ground::until;

const LIMIT: Duration = Duration::from_mins(3);

fn quick(program: maitred_testkit::Maitred) -> maitred_testkit::Maitred {
    program.set("sim.step", "10us").set("sim.token", "10ns")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_more_than_a_mebibyte_is_submitted_by_claim_check_and_worked() {
    const REVIEWS: usize = 1200;
    let Some(team) = Team::new(quick).await else { return };
    let _worker = team.worker("w-1");
    let reviews: Vec<_> = (0..REVIEWS)
        .map(|n| json!({ "id": n.to_string(), "text": format!("Visit {n}. {}", "The soup was good. ".repeat(60)) }))
        .collect();
    let restaurant = json!({ "restaurant_id": "large", "reviews": reviews }).to_string();
    assert!(restaurant.len() > 1 << 20);
    let file = team.folder.path().join("large.jsonl");
    std::fs::write(&file, restaurant + "\n").unwrap();
    let submit = ["submit", file.to_str().unwrap(), "--scope", "selected", "--lang", "en"];
    team.program.run(&submit).ended(0);
    let checker = Checker::of_all_jobs(&team.ground.nats.url()).await;
    let report = checker.wait(LIMIT).await;
    assert_eq!(report.results.len(), 1, "{}", report.told());
    let published = team.results().await.remove(0);
    assert!(published.result.outcome.has_findings(), "{:?}", published.result.outcome);
    assert_eq!(published.result.usage.reviews as usize, REVIEWS, "all of the object's reviews were there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_over_the_payload_limit_is_an_object_that_maitred_results_reads() {
    const REVIEWS: usize = 500;
    let config = NatsConfig { max_payload: Some(64 << 10), ..NatsConfig::default() };
    let Some(team) = Team::with(&config, quick).await else { return };
    let _worker = team.worker("w-1");
    // The result names each review; long ids make it long.
    let mut lines = String::new();
    let reviews: Vec<_> =
        (0..REVIEWS).map(|n| json!({ "id": format!("{n:0120}"), "text": format!("Good {n}.") })).collect();
    let _ = writeln!(lines, "{}", json!({ "restaurant_id": "wide", "reviews": reviews }));
    let file = team.folder.path().join("wide.jsonl");
    std::fs::write(&file, lines).unwrap();
    let submit = ["submit", file.to_str().unwrap(), "--analyses", "sentiment", "--lang", "en"];
    team.program.run(&submit).ended(0);
    Checker::of_all_jobs(&team.ground.nats.url()).await.wait(LIMIT).await;
    let stream = team.ground.context.get_stream(names::RESULTS_STREAM).await.unwrap();
    let message = stream.get_last_raw_message_by_subject(&names::result_subject("wide")).await.unwrap();
    assert!(message.payload.is_empty() && message.headers.get(names::BODY_OBJECT).is_some());
    let printed = team.program.run(&["results", "--restaurant", "wide", "--format", "jsonl"]).ended(0).stdout;
    let result: AnalysisResult = serde_json::from_str(printed.trim()).unwrap();
    assert_eq!(result.sentiment.unwrap().reviews.len(), REVIEWS);
    assert!(printed.len() > 64 << 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_before_its_reviews_is_worked_when_they_are_there() {
    let Some(team) = Team::new(quick).await else { return };
    let mut worker = team.worker("w-1");
    let mut early = job(0);
    let reviews = rmp_serde::to_vec_named(&early["reviews"]).unwrap();
    let digest = bytes_digest(&reviews);
    early["reviews"] = json!([]);
    early["reviews_ref"] =
        json!({ "object": digest, "sha256": digest, "bytes": reviews.len(), "reviews": 20 });
    team.publish(Lane::Live, &early).await;
    worker.wait_line("reviews not fetched");
    let bucket = team.ground.context.get_object_store(names::OBJECTS_BUCKET).await.unwrap();
    bucket.put(digest.as_str(), &mut reviews.as_slice()).await.unwrap();
    let report = team.checker(["j-0".to_owned()]).await.wait(LIMIT).await;
    assert_eq!(report.results.len(), 1, "{}", report.told());
    let result = team.result("j-0").await.result;
    assert!(result.outcome.has_findings() && result.usage.reviews == 20, "{:?}", result.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_reviews_are_missing_is_tried_again_and_then_a_dead_letter() {
    let Some(team) = Team::new(quick).await else { return };
    let worker = team.worker("w-1");
    let digest = "ab".repeat(32);
    let mut lost = job(0);
    lost["reviews"] = json!([]);
    lost["reviews_ref"] = json!({ "object": digest, "sha256": digest, "bytes": 100, "reviews": 1 });
    let sequence = team.publish(Lane::Live, &lost).await;
    // Growing delays: 30 s at most to the fifth try, 32 s more to the sixth delivery.
    until("the fifth try", async || (worker.log().matches("reviews not fetched").count() == 5).then_some(()))
        .await;
    let letters = until("its dead letter", async || {
        let letters = team.dead_letters().await;
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    assert_eq!((letters.len(), letters[0].sequence), (1, sequence));
    assert_eq!(letters[0].reason.code, codes::REVIEWS_MISSING);
    assert_eq!(letters[0].delivered, 6, "five tries before");
    assert_eq!(worker.log().matches("reviews not fetched").count(), 5);
    assert!(team.results().await.is_empty());
}
