//! What a result holds.

use maitred::job::Analysis;
use maitred::result::{Origin, Outcome, Polarity};

use crate::analyze::program::{CHEAPLY, FAST, GOOD, Place, SAMPLE, claims, jsonl, of, restaurant};

#[test]
fn the_sample_reviews_give_valid_results_with_evidence_for_every_finding() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", std::fs::read(SAMPLE).unwrap());
    place.analyze(&["in.jsonl", "--limit", "3", "--out", "out.jsonl"]).ended(0);
    let results = place.results("in.jsonl", "out.jsonl");
    assert_eq!(results.len(), 3);
    for result in &results {
        assert_eq!(result.outcome, Outcome::Ok);
        let summary = result.summary.as_ref().unwrap();
        assert!(!summary.aspects.is_empty(), "{} has no aspects", result.restaurant_id);
        assert_eq!(result.sentiment.as_ref().unwrap().total, result.usage.reviews);
        for claim in claims(result).filter(|claim| claim.origin == Origin::Extractive) {
            assert!(result.evidence().any(|e| e.quote == claim.text), "{claim:?} is no quote");
        }
    }
}

#[test]
fn quotes_are_verbatim_whatever_white_space_and_script_surrounds_them() {
    let Some(place) = Place::with(FAST) else { return };
    let texts = [
        "  The soup   was\tdelicious!!\r\n\r\nThe\u{a0}service — slow…but kind 🙂  ",
        "Delicious soup 🍜🍜, “the best” in town; the cafe\u{301} itself is tiny.",
        "DELICIOUS SOUP.\nDelicious soup.\n\n\n- slow service\n- kind waiter",
        "국물이 맛있어요. The soup was delicious, 서비스는 느렸어요 but the waiter was kind.",
    ];
    place.write("in.jsonl", jsonl(&[restaurant("odd", &texts)]));
    place.analyze(&["in.jsonl", "--out", "out.jsonl"]).ended(0);
    let results = place.results("in.jsonl", "out.jsonl");
    assert!(results[0].evidence().count() > 0, "nothing was quoted");
}

#[test]
fn outcomes_has_exactly_one_entry_for_each_analysis_asked_for() {
    use Analysis::{Sentiment, Strengths, Summary};
    let Some(place) = Place::with(FAST) else { return };
    let texts = ["The soup was delicious.", "Delicious soup, kind waiter.", "The waiter was kind."];
    place.write("in.jsonl", jsonl(&[restaurant("r", &texts)]));
    for (asked, expected) in [
        ("sentiment", &[Sentiment][..]),
        ("strengths", &[Strengths]),
        ("strengths,summary", &[Summary, Strengths]),
        ("summary,strengths,sentiment", &[Sentiment, Summary, Strengths]),
    ] {
        place.analyze(&["in.jsonl", "--out", "out.jsonl", "--no-words", "--analyses", asked]).ended(0);
        let result = &place.results("in.jsonl", "out.jsonl")[0];
        assert_eq!(result.outcomes.keys().copied().collect::<Vec<_>>(), expected, "{asked}");
        let found = [result.sentiment.is_some(), result.summary.is_some(), result.strengths.is_some()];
        assert_eq!(found, Analysis::ALL.map(|analysis| expected.contains(&analysis)), "{asked}");
    }
}

#[test]
fn that_nothing_is_praised_is_a_finding_and_not_a_want_of_data() {
    let Some(place) = Place::with(GOOD) else { return };
    let texts = ["The soup was cold and awful.", "Rude waiter, awful service.", "Dirty tables. Never again!"];
    place.write("in.jsonl", jsonl(&[restaurant("bad", &texts)]));
    let ran = place.analyze(&["in.jsonl", "--out", "out.jsonl"]).ended(0);
    let result = &place.results("in.jsonl", "out.jsonl")[0];
    assert_eq!(result.outcomes[&Analysis::Strengths], Outcome::Ok);
    assert_eq!(result.strengths.as_ref().unwrap().items, []);
    assert_eq!(result.sentiment.as_ref().unwrap().negative, 3);
    assert!(ran.stdout.contains("nothing is praised by enough guests"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("nothing to read"), "{}", ran.stdout);
}

#[test]
fn a_restaurant_without_anything_to_read_has_no_data_and_no_zeros() {
    let Some(place) = Place::with(FAST) else { return };
    let restaurants = [
        restaurant("none", &[]),
        restaurant("blank", &["", "  \n", "👍👍", "…!?"]),
        restaurant("some", &["", "The soup was good."]),
    ];
    place.write("in.jsonl", jsonl(&restaurants));
    let ran = place.analyze(&["in.jsonl", "--out", "out.jsonl", "--stats", "stats.json"]).ended(0);
    assert!(ran.stdout.contains("there is nothing to read in its reviews"), "{}", ran.stdout);
    let results = place.results("in.jsonl", "out.jsonl");
    for id in ["none", "blank"] {
        let result = of(&results, id);
        assert_eq!(result.outcome, Outcome::NoData);
        assert!(result.outcomes.len() == 3 && result.outcomes.values().all(|o| *o == Outcome::NoData));
        // The schema has it that findings stand only where their outcome has some.
        assert!(result.sentiment.is_none() && result.summary.is_none() && result.strengths.is_none());
    }
    let some = of(&results, "some").sentiment.as_ref().unwrap();
    assert_eq!((some.total, some.unread), (1, 1));
    let stats = place.stats("stats.json");
    assert_eq!((stats.restaurants.no_data, stats.restaurants.ok), (2, 1));
}

#[test]
fn clear_praise_and_clear_complaint_are_told_apart() {
    let Some(place) = Place::with(GOOD) else { return };
    let texts = [
        "Wonderful food and very friendly staff, we loved it.",
        "Terrible food, rude staff, we will never come back.",
    ];
    place.write("in.jsonl", jsonl(&[restaurant("r", &texts)]));
    place.analyze(&[&["in.jsonl", "--out", "out.jsonl"], &CHEAPLY[..]].concat()).ended(0);
    let results = place.results("in.jsonl", "out.jsonl");
    let labels: Vec<Polarity> =
        results[0].sentiment.as_ref().unwrap().reviews.iter().map(|review| review.label).collect();
    assert_eq!(labels, [Polarity::Positive, Polarity::Negative]);
}
