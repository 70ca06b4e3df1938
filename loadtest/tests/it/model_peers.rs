//! The peers with a real server and a real model, on a sample restaurant. Skips, visibly, where either is missing:
//! nothing else of the project needs them.

use std::path::PathBuf;

use maitred::input::{Columns, InputOptions, JobReader, JobTemplate};
use maitred::job::{Analysis, Job, Limits};
use maitred_loadtest::peers::{
    Answered, PeerServer, Restaurant, ServerOptions, Task, Totals, llama_server, origin, server,
};

const MODEL: &str = "gemma-3-270m-q8_0.gguf";

/// Enough for the worked restaurants, three short reviews and an answer.
const CONTEXT: usize = 2048;

/// One: nothing waits for a second that another test keeps from a core.
const THREADS: usize = 1;

/// The samples that the project ships.
fn samples() -> Vec<Job> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/sample-restaurants.jsonl");
    let job = JobTemplate { analyses: Analysis::ALL.into(), ..JobTemplate::default() };
    let options = InputOptions { format: None, columns: Columns::default(), limits: Limits::default(), job };
    JobReader::open(&path, options).unwrap().map(Result::unwrap).collect()
}

/// A server; `None`, said on stderr, where it or the model is not installed.
fn start() -> Option<PeerServer> {
    let (Some(python), Some(model)) = (server::installed(), server::fetched(MODEL)) else {
        eprintln!("SKIPPED: no peer server or no {MODEL}, run scripts/install-peers.sh and make models");
        return None;
    };
    Some(PeerServer::start(&python, &ServerOptions::new(&model, THREADS, 3, CONTEXT)).unwrap())
}

/// What holds of every restaurant, whatever the model makes of its reviews.
fn check(answered: &Answered) {
    assert_eq!(answered.answers.iter().map(|answer| answer.task).collect::<Vec<_>>(), Task::ALL);
    assert!(answered.answers.iter().all(|answer| answer.answer.is_some() != answer.invalid.is_some()));
    let first = answered.first_token.unwrap();
    assert!(answered.sent <= first && first <= answered.finished, "{answered:?}");
    assert!(answered.tokens.generated > 0 && answered.tokens.cached < answered.tokens.prompt);
}

#[test]
fn both_ways_answer_and_their_answers_are_graded() {
    let Some(server) = start() else { return };
    let jobs = samples();
    let restaurant = Restaurant::first(&jobs[0], 3);

    let answered =
        llama_server::run(&server, std::slice::from_ref(&restaurant), llama_server::Drive::Chained);
    check(&answered[0]);
    // The grammar sees to it.
    assert!(answered[0].valid, "{answered:?}");
    assert!(answered[0].share_error.is_some() && answered[0].evidence.quotes >= 2, "{answered:?}");
    // The second and third question found the reviews in their slot.
    let cached: Vec<bool> =
        answered[0].answers.iter().map(|a| 2 * a.tokens.cached > a.tokens.prompt).collect();
    assert_eq!(cached, [false, true, true]);

    // One try: what a free answer is worth is not for a test to say.
    let once = origin::OriginOptions { sharing: origin::Sharing::None, tries: 1, seed: 1 };
    let answered = origin::run(&server, &[restaurant], once);
    check(&answered[0]);
    assert_eq!(answered[0].tokens.cached, 0);
    assert_eq!(Totals::of(&answered).map(|totals| totals.requests), Some(3));
}

#[test]
fn a_prompt_that_does_not_fit_is_an_invalid_answer_and_no_end() {
    let Some(server) = start() else { return };
    let jobs = samples();
    let mut job = jobs[0].clone();
    job.reviews[0].text = "soup ".repeat(2 * CONTEXT);
    let large = Restaurant::first(&job, 1);
    let answered = llama_server::run(&server, &[large], llama_server::Drive::Spread);
    assert!(!answered[0].valid);
    let reasons = answered[0].answers.iter().filter_map(|answer| answer.invalid.as_deref());
    assert_eq!(reasons.filter(|reason| reason.contains("refused with 400")).count(), 3, "{answered:?}");
}
