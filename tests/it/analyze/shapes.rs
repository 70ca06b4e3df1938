//! Ways in and out: stdin, CSV, JSON on stdout, limits, languages.

use std::io::Write;
use std::process::Stdio;

use maitred::job::Language;
use maitred::result::Outcome;
use rstest::rstest;

use crate::analyze::program::{CHEAPLY, FAST, KOREAN, Place, Ran, SAMPLE, claims, jsonl, restaurant};

fn three() -> String {
    jsonl(&["one", "two", "three"].map(|id| restaurant(id, &["The soup was good."])))
}

#[rstest]
#[case::by_format(&["--format", "json"])]
#[case::by_output(&["--out", "-"])]
#[case::by_both(&["--out", "out.jsonl", "--format", "json"])]
fn json_on_stdout_is_results_and_nothing_else(#[case] arguments: &[&str]) {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", three());
    let ran = place.analyze(&[&["in.jsonl"], arguments, &CHEAPLY[..]].concat()).ended(0);
    assert_eq!(place.checked("in.jsonl", &ran.stdout).len(), 3);
    assert_eq!(ran.stderr, "");
}

#[test]
fn reviews_come_from_stdin_too() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", three());
    let mut child = place
        .command(&[&["-", "--format", "json"], &CHEAPLY[..]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(three().as_bytes()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).ended(0);
    assert_eq!(place.checked("in.jsonl", &ran.stdout).len(), 3);
}

#[test]
fn no_more_restaurants_are_worked_than_the_limit() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", three());
    place.analyze(&[&["in.jsonl", "--out", "out.jsonl", "--limit", "2"], &CHEAPLY[..]].concat()).ended(0);
    assert_eq!(place.results("in.jsonl", "out.jsonl").len(), 2);
}

#[test]
fn csv_with_columns_of_other_names_gives_what_the_same_reviews_as_jsonl_give() {
    let Some(place) = Place::with(FAST) else { return };
    let texts = ["The soup was good, \"really\" good.", "Cold soup,\nrude waiter."];
    place.write("in.jsonl", jsonl(&[restaurant("r", &texts)]));
    place.write(
        "in.csv",
        "comment,place,review_no,stars\r\n\
         \"The soup was good, \"\"really\"\" good.\",r,r-0,5\r\n\"Cold soup,\nrude waiter.\",r,r-1,1\r\n",
    );
    place.analyze(&["in.jsonl", "--out", "jsonl.jsonl", "--no-words"]).ended(0);
    let columns = "restaurant_id=place,id=review_no,text=comment,rating=stars";
    place.analyze(&["in.csv", "--columns", columns, "--out", "csv.jsonl", "--no-words"]).ended(0);
    let (plain, csv) = (place.results("in.jsonl", "jsonl.jsonl"), place.results("in.jsonl", "csv.jsonl"));
    assert_eq!(csv[0].review_set_digest, plain[0].review_set_digest);
    assert_eq!(csv[0].sentiment, plain[0].sentiment);
    assert_eq!(csv[0].summary, plain[0].summary);
}

#[test]
fn a_csv_without_the_column_says_which_there_are() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.csv", "place,comment\nr,Good.\n");
    place.analyze(&["in.csv"]).ended(1).told(&["restaurant_id", "place", "--columns"]);
}

#[test]
fn korean_reviews_are_noticed_and_answered_in_korean() {
    let Some(place) = Place::with(KOREAN) else { return };
    let sample = std::fs::read_to_string(SAMPLE).unwrap();
    let line = sample.lines().find(|line| line.contains("골목 국수집")).unwrap();
    let mut restaurant: serde_json::Value = serde_json::from_str(line).unwrap();
    restaurant["reviews"].as_array_mut().unwrap().truncate(12);
    place.write("in.jsonl", jsonl(&[restaurant]));
    place.analyze(&["in.jsonl", "--out", "out.jsonl"]).ended(0);
    let result = &place.results("in.jsonl", "out.jsonl")[0];
    assert_eq!((result.language, &result.outcome), (Language::Ko, &Outcome::Ok));
    assert_eq!(result.model.embedding_name, "multilingual-e5-small");
    assert!(result.evidence().count() > 0, "nothing was quoted");
    for claim in claims(result) {
        assert!(claim.text.chars().any(|c| ('가'..='힣').contains(&c)), "{claim:?} is not Korean");
    }
}
