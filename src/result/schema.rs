//! Holds `docs/result.schema.json` and the wire types together.

use jsonschema::Validator;
use rstest::rstest;
use serde_json::{Value, json};

use super::{AnalysisResult, sample};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/result.schema.json")).unwrap()
}

fn validator() -> Validator {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn faults(result: &Value) -> Vec<String> {
    validator().iter_errors(result).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

fn english() -> Value {
    serde_json::to_value(sample::english()).unwrap()
}

#[test]
fn a_result_of_every_outcome_is_valid() {
    for result in sample::one_of_each_outcome() {
        let found = faults(&serde_json::to_value(&result).unwrap());
        assert_eq!(found, [] as [String; 0], "{}", result.outcome.status());
    }
}

#[test]
fn a_result_in_every_language_is_valid() {
    for result in [sample::english(), sample::korean()] {
        assert_eq!(faults(&serde_json::to_value(result).unwrap()), [] as [String; 0]);
    }
}

#[test]
fn empty_lists_are_findings_too() {
    let mut result = sample::english();
    result.summary.as_mut().unwrap().aspects.clear();
    result.strengths.as_mut().unwrap().items.clear();
    assert_eq!(result.outcome, super::Outcome::Ok);
    assert_eq!(faults(&serde_json::to_value(result).unwrap()), [] as [String; 0]);
}

#[test]
fn the_analyses_asked_for_may_be_fewer_than_all() {
    let mut result = sample::english();
    result.outcomes.retain(|analysis, _| *analysis == crate::job::Analysis::Sentiment);
    (result.summary, result.strengths) = (None, None);
    assert_eq!(faults(&serde_json::to_value(result).unwrap()), [] as [String; 0]);
}

#[rstest]
#[case::unknown_field("/extra", json!(1))]
#[case::newer_version("/v", json!(2))]
#[case::no_outcomes("/outcomes", json!({}))]
#[case::unknown_analysis("/outcomes/taste", json!({"status": "ok"}))]
#[case::unknown_status("/outcomes/summary/status", json!("fine"))]
#[case::failed_without_a_message("/outcome", json!({"status": "failed", "code": "x"}))]
#[case::ok_with_a_message("/outcome/message", json!("well done"))]
#[case::findings_of_a_failed_analysis("/outcomes/summary", json!({"status": "no_data"}))]
#[case::evidence_that_is_a_string("/summary/aspects/0/evidence/0", json!("fresh fish"))]
#[case::evidence_without_a_review("/strengths/items/0/evidence/0", json!({"quote": "fresh fish"}))]
#[case::evidence_with_more("/strengths/items/0/evidence/0/score", json!(1))]
#[case::no_evidence("/summary/aspects/0/evidence", json!([]))]
#[case::an_empty_claim("/summary/aspects/0/claim/text", json!(""))]
#[case::an_unknown_origin("/summary/overall/origin", json!("invented"))]
#[case::a_negative_count("/sentiment/positive", json!(-1))]
#[case::a_share_over_one("/sentiment/positive_share", json!(1.5))]
#[case::an_unknown_label("/sentiment/reviews/0/label", json!("good"))]
#[case::a_month_that_is_none("/sentiment/trend/0/month", json!("2024-13"))]
#[case::a_digest_that_is_none("/model/digest", json!("abc"))]
#[case::an_unknown_language("/language", json!("fr"))]
#[case::a_time_before_the_start("/timings/queue_ms", json!(-0.5))]
fn a_broken_result_is_rejected(#[case] place: &str, #[case] value: Value) {
    let mut result = english();
    set(&mut result, place, value);
    assert_ne!(faults(&result), [] as [String; 0]);
}

#[rstest]
fn a_field_that_is_missing_is_noticed(
    #[values(
        "/v",
        "/outcome",
        "/outcomes",
        "/usage",
        "/timings",
        "/model",
        "/sentiment",
        "/summary",
        "/strengths",
        "/sentiment/positive",
        "/sentiment/negative",
        "/sentiment/neutral",
        "/sentiment/total",
        "/summary/aspects/0/support",
        "/summary/aspects/0/evidence",
        "/strengths/items/0/kind",
        "/usage/baseline_tokens",
        "/usage/claims_written",
        "/usage/claims_kept",
        "/summary/aspects/0/evidence/0/review_id"
    )]
    place: &str,
) {
    let mut result = english();
    let (parent, name) = place.rsplit_once('/').unwrap();
    let fields = result.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
    assert!(fields.remove(name).is_some());
    assert_ne!(faults(&result), [] as [String; 0]);
}

#[test]
fn every_object_in_the_schema_is_closed() {
    fn walk(at: &str, value: &Value, open: &mut Vec<String>) {
        if value["type"] == "object" && value["additionalProperties"] != json!(false) {
            open.push(at.to_owned());
        }
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
            _ => Vec::new(),
        };
        for (key, child) in children {
            walk(&format!("{at}/{key}"), child, open);
        }
    }
    let mut open = Vec::new();
    walk("", &schema(), &mut open);
    assert_eq!(open, [] as [String; 0]);
}

#[test]
fn what_the_schema_admits_the_program_reads() {
    let result = english();
    assert_eq!(faults(&result), [] as [String; 0]);
    let read: AnalysisResult = serde_json::from_value(result).unwrap();
    assert_eq!(read.evidence().count(), 5);
}

/// Sets the value at a JSON pointer whose parent exists.
fn set(root: &mut Value, place: &str, value: Value) {
    let (parent, name) = place.rsplit_once('/').unwrap();
    match root.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
}
