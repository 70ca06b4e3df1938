//! Ctrl-C: what is written is whole, and the next run goes on from there.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Stdio};

use maitred::result::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::analyze::program::{CHEAPLY, FAST, Place, Ran, jsonl, of, restaurant};

const TEXTS: [&str; 6] = [
    "The soup was delicious. The waiter was kind, but we had to wait for an hour.",
    "Delicious soup and a kind waiter. Prices are fair. The music is far too loud.",
    "We loved the fish; the bread was stale. Lovely terrace, dirty toilets.",
    "Cold soup. Nobody said sorry. The view makes up for some of it.",
    "A kind waiter saved the evening. The meat was tough, the wine was good.",
    "Large portions at a fair price. The room is dark and the chairs are hard.",
];

/// Starts a run and waits for its first result, which is in the file before it is printed.
fn after_first_result(
    place: &Place,
    arguments: &[&str],
    input: Option<&str>,
) -> (Child, BufReader<ChildStdout>) {
    let mut child = place
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(input) = input {
        child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
    }
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(!first.is_empty(), "{:?}", child.wait_with_output());
    (child, lines)
}

/// Sends what Ctrl-C sends. `stdin` of the child stays open until it has ended.
fn interrupt(mut child: Child, mut lines: BufReader<ChildStdout>) -> Ran {
    let stdin = child.stdin.take();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    lines.read_to_string(&mut String::new()).unwrap();
    let ended = child.wait_with_output().unwrap().into();
    drop(stdin);
    ended
}

#[test]
fn an_interrupted_run_leaves_whole_lines_and_the_next_one_goes_on_from_there() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", jsonl(&["one", "two", "three"].map(|id| restaurant(id, &texts_of(id)))));
    let run = ["in.jsonl", "--out", "out.jsonl", "--stats", "stats.json", "--concurrency", "1"];
    let (child, lines) = after_first_result(&place, &[&run[..], &["--format", "json"]].concat(), None);
    let ran = interrupt(child, lines).ended(130);
    ran.told(&["interrupted", "out.jsonl.partial", "run the same command again"]);
    assert!(place.stats("stats.json").interrupted);
    assert!(!place.path("out.jsonl").exists(), "it would look complete");
    let before = place.results("in.jsonl", "out.jsonl.partial");
    assert!((1..3).contains(&before.len()), "{} results", before.len());

    place.analyze(&run).ended(0);
    let after = place.results("in.jsonl", "out.jsonl");
    assert_eq!(after.len(), 3);
    assert!(!place.path("out.jsonl.partial").exists());
    for known in &before {
        let again = of(&after, &known.restaurant_id);
        assert_eq!((&again.outcome, again.usage.reviews_read), (&Outcome::Unchanged, 0));
        assert_eq!(again.sentiment, known.sentiment);
    }
    let usage = place.stats("stats.json").usage;
    assert_eq!(usage.reviews_read + usage.reviews_cached, 18);
    assert!(usage.reviews_read as usize <= 18 - 6 * before.len(), "{usage:?}");
}

/// The same words in no two restaurants, so that nothing is known of one from another.
fn texts_of(id: &str) -> Vec<&'static str> {
    TEXTS.iter().map(|text| &*Box::leak(format!("{text} That was visit {id}.").into_boxed_str())).collect()
}

#[test]
fn a_run_that_waits_for_input_ends_when_it_is_interrupted() {
    let Some(place) = Place::with(FAST) else { return };
    let input = jsonl(&[restaurant("r", &["The soup was good."])]);
    place.write("in.jsonl", &input);
    let run = [&["-", "--format", "json", "--out", "out.jsonl"], &CHEAPLY[..]].concat();
    let (child, lines) = after_first_result(&place, &run, Some(&input));
    interrupt(child, lines).ended(130).told(&["1 results are in out.jsonl.partial"]);
    assert_eq!(place.results("in.jsonl", "out.jsonl.partial").len(), 1);
}
