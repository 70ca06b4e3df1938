//! The second run: what is known is not read again, and what still stands is repeated.

use maitred::result::{AnalysisResult, AspectFinding, Outcome};

use crate::analyze::program::{CHEAPLY, FAST, Place, SAMPLE, claims, jsonl, of, restaurant};

const RUN: [&str; 5] = ["in.jsonl", "--out", "out.jsonl", "--stats", "stats.json"];

#[test]
fn an_unchanged_file_repeats_its_findings_and_costs_no_token() {
    let Some(place) = Place::with(FAST) else { return };
    let restaurants = [
        restaurant(
            "one",
            &["The soup was delicious.", "Delicious soup, kind waiter.", "The waiter was kind."],
        ),
        restaurant("two", &["Cold soup and a rude waiter.", "The soup was cold.", ""]),
    ];
    place.write("in.jsonl", jsonl(&restaurants));
    place.analyze(&RUN).ended(0);
    let first = place.results("in.jsonl", "out.jsonl");
    assert!(place.stats("stats.json").usage.prompt_tokens > 0);
    place.analyze(&RUN).ended(0);
    let stats = place.stats("stats.json");
    assert_eq!(stats.restaurants.unchanged, 2);
    assert_eq!((stats.usage.worked_tokens(), stats.usage.embedded_texts), (0, 0));
    assert_eq!((stats.usage.reviews_read, stats.usage.reviews_cached), (0, 6));
    assert_eq!(stats.goodput, None, "who did not ask the model says nothing of the service level");
    for again in place.results("in.jsonl", "out.jsonl") {
        let before = of(&first, &again.restaurant_id);
        assert!(again.outcomes.values().all(|outcome| *outcome == Outcome::Unchanged), "{again:?}");
        assert_eq!(again.sentiment, before.sentiment);
        assert_eq!(again.summary, before.summary);
        assert_eq!(again.strengths, before.strengths);
    }
}

#[test]
fn one_new_review_is_the_only_one_read_and_texts_that_stand_are_carried_over() {
    let Some(place) = Place::with(FAST) else { return };
    let sample = std::fs::read_to_string(SAMPLE).unwrap();
    let mut restaurants: Vec<serde_json::Value> =
        sample.lines().take(2).map(|line| serde_json::from_str(line).unwrap()).collect();
    place.write("in.jsonl", jsonl(&restaurants));
    place.analyze(&RUN).ended(0);
    let (first, spent) = (place.results("in.jsonl", "out.jsonl"), place.stats("stats.json").usage);

    let id = restaurants[0]["restaurant_id"].as_str().unwrap().to_owned();
    let new = serde_json::json!({"id": "new-1", "text": "The broth was lovely and the noodles too."});
    restaurants[0]["reviews"].as_array_mut().unwrap().push(new);
    place.write("in.jsonl", jsonl(&restaurants));
    place.analyze(&RUN).ended(0);
    let (second, stats) = (place.results("in.jsonl", "out.jsonl"), place.stats("stats.json"));

    assert_eq!((stats.restaurants.ok, stats.restaurants.unchanged), (1, 1));
    assert_eq!(stats.usage.reviews_read, 1);
    let (now, then) = (stats.usage.prompt_tokens, spent.prompt_tokens);
    assert!(now > 0 && now * 10 <= then, "{now} tokens after {then}");
    assert!(carried_where_it_stands(of(&first, &id), of(&second, &id)) > 0, "nothing stood");
    let other = second.iter().find(|result| result.restaurant_id != id).unwrap();
    assert!(claims(other).all(|claim| !claim.carried), "repeated as it was, not carried");
}

/// Checks that every aspect's text stands whose figures hardly moved (reviews were only added, so all its quotes still
/// do), and counts them.
fn carried_where_it_stands(first: &AnalysisResult, second: &AnalysisResult) -> usize {
    let aspects = |result: &AnalysisResult| result.summary.clone().unwrap().aspects;
    let moved = |a: &AspectFinding, b: &AspectFinding| {
        (a.positive_share - b.positive_share).abs().max((a.negative_share - b.negative_share).abs())
    };
    let before = aspects(first);
    let mut stood = 0;
    for after in aspects(second) {
        let same = before.iter().find(|b| b.aspect == after.aspect && b.polarity == after.polarity);
        // A share that moved by about the allowed step may fall on either side of it.
        if let Some(same) = same.filter(|same| moved(same, &after) < 0.09) {
            assert!(after.claim.carried, "{after:?}");
            assert_eq!((&after.claim.text, &after.evidence), (&same.claim.text, &same.evidence));
            stood += 1;
        }
    }
    stood
}

#[test]
fn words_that_several_guests_wrote_are_read_once() {
    let Some(place) = Place::with(FAST) else { return };
    let texts = ["The soup was good.", "The waiter was kind.", "The soup was good."];
    place.write("in.jsonl", jsonl(&[restaurant("r", &texts)]));
    place.analyze(&[&RUN[..], &CHEAPLY[..]].concat()).ended(0);
    let usage = place.stats("stats.json").usage;
    assert_eq!((usage.reviews, usage.reviews_read, usage.reviews_cached), (3, 2, 1));
    assert_eq!(place.results("in.jsonl", "out.jsonl")[0].sentiment.as_ref().unwrap().total, 3);
}

#[test]
fn a_review_that_was_reworded_is_read_again() {
    let Some(place) = Place::with(FAST) else { return };
    let run = [&RUN[..], &CHEAPLY[..]].concat();
    place.write("in.jsonl", jsonl(&[restaurant("r", &["The soup was good.", "The waiter was kind."])]));
    place.analyze(&run).ended(0);
    place.write("in.jsonl", jsonl(&[restaurant("r", &["The soup was bad.", "The waiter was kind."])]));
    place.analyze(&run).ended(0);
    let usage = place.stats("stats.json").usage;
    assert_eq!((usage.reviews_read, usage.reviews_cached), (1, 1));
    assert_eq!(place.results("in.jsonl", "out.jsonl")[0].outcome, Outcome::Ok);
}

#[test]
fn what_was_read_in_one_way_is_not_taken_for_a_reading_in_another() {
    let Some(place) = Place::with(FAST) else { return };
    let run = [&RUN[..], &CHEAPLY[..]].concat();
    place.write("in.jsonl", jsonl(&[restaurant("r", &["The soup was good. The waiter was rude."])]));
    for label_from in ["clauses", "review"] {
        let ran = place.command(&run).env("MAITRED__ANALYSIS__LABEL_FROM", label_from).output().unwrap();
        assert!(ran.status.success());
        assert_eq!(place.stats("stats.json").usage.reviews_read, 1, "{label_from}");
    }
}

#[test]
fn without_a_cache_nothing_is_kept_and_all_is_read_again() {
    let Some(place) = Place::with(FAST) else { return };
    let run = [&RUN[..], &CHEAPLY[..], &["--cache", "none"]].concat();
    place.write("in.jsonl", jsonl(&[restaurant("r", &["The soup was good."])]));
    for _ in 0..2 {
        place.analyze(&run).ended(0);
        assert_eq!(place.stats("stats.json").usage.reviews_read, 1);
        assert_eq!(place.files(), ["in.jsonl", "out.jsonl", "stats.json"]);
    }
}
