//! Input that cannot be used, in part or as a whole.

use rstest::rstest;
use serde_json::{Value, json};

use crate::analyze::program::{CHEAPLY, FAST, Place, jsonl, restaurant};

fn analyze(place: &Place, input: impl AsRef<[u8]>) -> crate::analyze::program::Ran {
    place.write("in.jsonl", input);
    place.analyze(&[&["in.jsonl", "--out", "out.jsonl", "--stats", "stats.json"], &CHEAPLY[..]].concat())
}

#[rstest]
#[case::empty("")]
#[case::blank("\n  \n\n")]
fn a_file_without_restaurants_is_an_error_that_says_what_is_wanted(#[case] content: &str) {
    let Some(place) = Place::with(FAST) else { return };
    let ran = analyze(&place, content).ended(1);
    ran.told(&["in.jsonl", "holds no restaurants", "one restaurant a line"]);
    assert_eq!(place.stats("stats.json").restaurants.total(), 0);
}

fn reviews(reviews: &Value) -> Vec<u8> {
    json!({"restaurant_id": "bad", "reviews": reviews}).to_string().into_bytes()
}

fn with_id(restaurant: &str, review: &str) -> Vec<u8> {
    let reviews = json!([{"id": review, "text": "The soup was good."}]);
    json!({"restaurant_id": restaurant, "reviews": reviews}).to_string().into_bytes()
}

#[rstest]
#[case::prose(b"Lovely soup, five stars!".to_vec(), &["not JSON"])]
#[case::cut_off(b"{\"restaurant_id\": \"bad\", \"rev".to_vec(), &["not JSON"])]
#[case::a_list(b"[1, 2]".to_vec(), &["found a list, not an object"])]
#[case::no_reviews_field(b"{\"restaurant_id\": \"bad\"}".to_vec(), &["`reviews`", "empty if there are none"])]
#[case::invalid_utf8(
    b"{\"restaurant_id\": \"bad\", \"reviews\": [{\"id\": \"1\", \"text\": \"caf\xe9 cr\xe8me\"}]}".to_vec(),
    &["invalid UTF-8 at byte 61"],
)]
#[case::a_review_of_a_megabyte(
    reviews(&json!([{"id": "long", "text": "good soup ".repeat(100_000)}])),
    &["review `long` has 1000000 characters", "limits.chars_per_review"],
)]
#[case::duplicate_ids(
    reviews(&json!([{"id": "twin", "text": "Good."}, {"id": "twin", "text": "Bad."}])),
    &["review id `twin` occurs twice"],
)]
#[case::a_restaurant_id_with_a_slash(with_id("a/b", "1"), &["restaurant id `a/b`", "not allowed"])]
#[case::a_review_id_with_a_blank(with_id("bad", "review 1"), &["review id `review 1`", "not allowed"])]
#[case::an_id_with_control_characters(with_id("bad", "1\u{1b}[2J\n"), &["`1\\u{1b}[2J\\n`", "not allowed"])]
#[case::an_id_without_end(with_id("bad", &"x".repeat(5000)), &["1 to 128"])]
fn a_line_that_cannot_be_used_is_named_and_the_others_are_worked(
    #[case] line: Vec<u8>,
    #[case] told: &[&str],
) {
    let Some(place) = Place::with(FAST) else { return };
    let good = |id| jsonl(&[restaurant(id, &["The soup was good."])]);
    let input = [good("before").as_bytes(), &line, b"\n", good("after").as_bytes()].concat();
    let ran = analyze(&place, input).ended(1);
    ran.told(&["in.jsonl", "line 2"]);
    ran.told(told);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.len() < 1000, "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    let mut worked: Vec<String> =
        place.results("in.jsonl", "out.jsonl").into_iter().map(|result| result.restaurant_id).collect();
    worked.sort();
    assert_eq!(worked, ["after", "before"]);
    let stats = place.stats("stats.json");
    assert_eq!((stats.restaurants.ok, stats.refused), (2, 1));
}

#[test]
fn ids_in_any_script_are_kept_as_they_are() {
    let Some(place) = Place::with(FAST) else { return };
    let input = json!({"restaurant_id": "한식당-1:a@b_c", "reviews": [{"id": "리뷰1", "text": "The soup was good."}]});
    analyze(&place, jsonl(&[input])).ended(0);
    let result = &place.results("in.jsonl", "out.jsonl")[0];
    assert_eq!(result.restaurant_id, "한식당-1:a@b_c");
    assert_eq!(result.sentiment.as_ref().unwrap().reviews[0].review_id, "리뷰1");
}

#[test]
fn one_json_document_over_many_lines_is_told_from_json_lines() {
    let Some(place) = Place::with(FAST) else { return };
    let document = serde_json::to_string_pretty(&json!([restaurant("r", &["Good."])])).unwrap();
    analyze(&place, document).ended(1).told(&["line 1", "jq -c '.[]'"]);
}
