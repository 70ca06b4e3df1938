use maitred::broker::nats::Found;
use maitred::broker::wire::Reason;
use maitred::job::{Job, Language};
use maitred::result::{ModelInfo, Timings};
use maitred::scheduler::Lane;
use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::sample::Size;

fn job(number: usize) -> Job {
    let json = format!(
        r#"{{"v":1,"job_id":"j-{number}","restaurant_id":"r-{number}","analyses":["sentiment"],"reviews":[]}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn trace(jobs: usize) -> Vec<Timed> {
    (0..jobs).map(|number| Timed { at: number as f64, size: Size::Small, job: job(number) }).collect()
}

fn result(number: usize, timings: Timings) -> AnalysisResult {
    let model = ModelInfo {
        name: "simulated".into(),
        digest: "d".into(),
        embedding_name: "simulated".into(),
        embedding_digest: "d".into(),
        prompt_version: "p".into(),
    };
    AnalysisResult { timings, ..AnalysisResult::without_findings(&job(number), "w", model, Language::En) }
}

fn found(number: usize, backfill: Option<&str>) -> Ending {
    let result = result(number, Timings::default());
    Ending::Result(Box::new(Found {
        result,
        backfill: backfill.map(str::to_owned),
        sequence: 1,
        published_at: OffsetDateTime::UNIX_EPOCH,
    }))
}

/// Of the job that lies at this place of its stream.
fn dead(job_id: Option<&str>, sequence: u64) -> Ending {
    Ending::DeadLetter(Box::new(DeadLetter {
        v: 1,
        job_id: job_id.map(str::to_owned),
        restaurant_id: None,
        lane: Lane::Live,
        stream: names::JOBS_STREAM.to_owned(),
        sequence,
        subject: "s".into(),
        consumer: "c".into(),
        delivered: 1,
        failures: 0,
        reason: Reason { code: "code".into(), message: "message".into() },
        worker: "w".into(),
        traceparent: None,
        backfill: None,
        at: OffsetDateTime::UNIX_EPOCH,
        headers: std::collections::BTreeMap::new(),
        payload: Vec::new(),
    }))
}

fn stored(sequence: u64) -> Submitted {
    Submitted { sequence, duplicate: false }
}

#[test]
fn the_time_to_the_first_token_counts_the_wait_in_the_broker() {
    let timings = Timings { queue_ms: 1_000.0, ttft_ms: Some(1_500.0), total_ms: 4_000.0 };
    let timed = Timed { at: 10.0, size: Size::Large, job: job(0) };
    // The worker had it for the last four seconds of fifty.
    let sample = sample(0, &timed, 60.0, Some(&result(0, timings)));
    assert_eq!((sample.admitted, sample.first_output), (Some(57.0), Some(57.5)));
    assert_eq!(sample.ttft(), Some(47.5));
    assert!(sample.ok);
}

#[test]
fn a_job_that_asked_the_model_nothing_has_no_first_token_and_a_dead_letter_no_success() {
    let timed = &trace(1)[0];
    let unasked = sample(0, timed, 2.0, Some(&result(0, Timings { total_ms: 5.0, ..Timings::default() })));
    assert_eq!((unasked.admitted, unasked.ttft(), unasked.ok), (None, None, true));
    let dead = sample(0, timed, 2.0, None);
    assert_eq!((dead.ttft(), dead.ok), (None, false));
}

#[test]
fn a_dead_letter_without_an_id_is_known_by_its_sequence_even_if_it_comes_before_that_does() {
    let trace = trace(2);
    let mut books = Books::new(&trace).unwrap();
    books.ended(3.0, &dead(None, 7));
    assert_eq!(books.open(), 2);
    books.sent((1, 1.0, Ok(stored(7)))).unwrap();
    assert_eq!((books.open(), books.in_the_fleet()), (1, 0));
    let run = books.close(Vec::new());
    assert_eq!((run.samples[0].job, run.samples[0].ok, run.open, run.strays), (1, false, vec![0], 0));
}

#[test]
fn what_is_of_no_job_is_a_stray() {
    let trace = trace(1);
    let mut books = Books::new(&trace).unwrap();
    books.ended(1.0, &found(5, None));
    books.ended(1.0, &found(0, Some("replay")));
    books.ended(1.0, &dead(None, 99));
    let run = books.close(Vec::new());
    assert_eq!((run.strays, run.samples.len()), (3, 0));
    assert!(run.complete().is_err());
}

#[test]
fn a_duplicate_is_an_error_for_its_end_would_never_come() {
    let trace = trace(1);
    let submitted = Submitted { sequence: 1, duplicate: true };
    let error = Books::new(&trace).unwrap().sent((0, 0.0, Ok(submitted))).unwrap_err();
    assert!(error.to_string().contains("job 0 asks what an earlier one asked"), "{error}");
}

proptest! {
    #[test]
    fn every_job_has_one_sample_however_often_and_in_whatever_order_it_ends(
        jobs in 1_usize..12, ends in prop::collection::vec((0_usize..12, any::<bool>()), 0..60),
    ) {
        let trace = trace(jobs);
        let mut books = Books::new(&trace).unwrap();
        for number in 0..jobs {
            books.sent((number, 0.0, Ok(stored(number as u64)))).unwrap();
        }
        let mut ended = std::collections::BTreeSet::new();
        for &(number, dies) in &ends {
            let number = number % jobs;
            ended.insert(number);
            let ending =
                if dies { dead(Some(&format!("j-{number}")), number as u64) } else { found(number, None) };
            books.ended(1.0, &ending);
        }
        prop_assert_eq!(books.open(), jobs - ended.len());
        prop_assert_eq!(books.in_the_fleet(), books.open());
        let run = books.close(Vec::new());
        let sampled: Vec<usize> = run.samples.iter().map(|sample| sample.job).collect();
        prop_assert_eq!(sampled, ended.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(run.strays, ends.len() - ended.len());
        prop_assert_eq!(run.open.len() + run.samples.len(), jobs);
    }
}
