//! The codec from outside: what is read, what is refused and with which words, and that the format stands still.

mod fuzz;
mod properties;

use rstest::rstest;
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::job::{JobOptions, Language, ReviewsRef, Scope};
use crate::result::sample;
use crate::scheduler::Lane;

const SUBJECT: &str = "jobs.analysis.live.blue-door";

/// A job with every field but the reference.
fn full() -> Job {
    let review = |id: &str, text: &str| Review {
        id: id.into(),
        text: text.into(),
        rating: Some(4.5),
        recommended: Some(true),
        created_at: Some(datetime!(2024-03-01 12:30 UTC)),
        embedding: Some(vec![0.5, -0.25]),
    };
    Job {
        v: WIRE_VERSION,
        job_id: "j-1".into(),
        restaurant_id: "blue-door".into(),
        restaurant_name: Some("The Blue Door".into()),
        epoch: 7,
        analyses: vec![Analysis::Sentiment, Analysis::Strengths],
        reviews: vec![review("r1", "The soup was good."), review("r2", "국물이 시원해요")],
        reviews_ref: None,
        language: Some(Language::En),
        deadline: Some(datetime!(2030-01-01 00:00 UTC)),
        options: JobOptions { top_k: Some(20), scope: Some(Scope::Selected), words: Some(false) },
        enqueued_at: Some(datetime!(2024-03-02 08:00 UTC)),
    }
}

/// The least that is a job.
fn least() -> Value {
    json!({"v": 1, "job_id": "j-1", "restaurant_id": "blue-door", "analyses": ["summary"]})
}

/// [`least`] with a field set.
fn with(field: &str, value: Value) -> Value {
    let mut job = least();
    job[field] = value;
    job
}

fn without(field: &str) -> Value {
    let mut job = least();
    job.as_object_mut().unwrap().remove(field);
    job
}

fn pack(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn decode(body: &[u8]) -> Result<Decoded, Refusal> {
    decode_as(None, body)
}

fn decode_as(content_type: Option<&str>, body: &[u8]) -> Result<Decoded, Refusal> {
    decode_job(Message { subject: SUBJECT, content_type, body }, &Limits::default())
}

/// Code and message of a body that is refused for good.
#[track_caller]
fn refused(body: &[u8]) -> (&'static str, String) {
    match decode(body) {
        Err(Refusal::Permanent { code, message }) => (code, message),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::msgpack(Encoding::Msgpack)]
#[case::json(Encoding::Json)]
fn a_job_comes_back_as_it_was_written(#[case] encoding: Encoding) {
    let body = encode_job(&full(), encoding).unwrap();
    for content_type in [None, Some(encoding.content_type())] {
        assert_eq!(decode_as(content_type, &body), Ok(Decoded { job: full(), encoding }));
    }
}

#[test]
fn results_of_every_outcome_come_back_as_they_were_written() {
    for result in sample::one_of_each_outcome() {
        for encoding in [Encoding::Msgpack, Encoding::Json] {
            let body = encode_result(&result, encoding).unwrap();
            assert_eq!(decode_result(Some(encoding.content_type()), &body).as_ref(), Ok(&result));
            assert_eq!(decode_result(None, &body).as_ref(), Ok(&result));
        }
    }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        v: WIRE_VERSION,
        job_id: Some("j-1".into()),
        restaurant_id: None,
        lane: Lane::Live,
        stream: "REVIEW_JOBS".into(),
        sequence: 42,
        subject: SUBJECT.into(),
        consumer: "worker-live".into(),
        delivered: 3,
        failures: 2,
        reason: Reason { code: codes::MALFORMED.into(), message: "missing field `v`".into() },
        worker: "w-1".into(),
        traceparent: None,
        backfill: Some("b-1".into()),
        at: datetime!(2024-03-02 08:00 UTC),
        headers: [("Content-Type".into(), vec!["application/json".into(), "text/json".into()])].into(),
        payload: vec![0, 255, 193, b'{'],
    }
}

#[test]
fn a_dead_letter_keeps_the_payload_byte_for_byte() {
    let body = dead_letter().encode().unwrap();
    assert_eq!(DeadLetter::decode(&body), Ok(dead_letter()));
    // As MessagePack's binary type: marker, length, bytes.
    assert!(body.windows(6).any(|part| part == [0xc4, 4, 0, 255, 193, b'{']));
    for length in 0..body.len() {
        assert!(DeadLetter::decode(&body[..length]).is_err());
    }
}

/// The files of earlier builds are what their workers and producers send: they are read for ever. A new format gets
/// new files beside these. `GOLDEN=write` writes those that are missing.
#[test]
fn the_format_is_the_one_of_the_golden_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker/wire/golden");
    let mut referring = full();
    referring.reviews.clear();
    referring.reviews_ref = Some(ReviewsRef {
        object: "ab".repeat(32),
        sha256: "ab".repeat(32),
        bytes: 2_000_000,
        reviews: 9000,
    });
    let written = [
        ("job-v1.msgpack", encode_job(&full(), Encoding::Msgpack).unwrap()),
        ("job-v1.json", encode_job(&full(), Encoding::Json).unwrap()),
        ("job-v1-reference.msgpack", encode_job(&referring, Encoding::Msgpack).unwrap()),
        ("reviews-v1.msgpack", encode_reviews(&full().reviews).unwrap()),
        ("result-v1.msgpack", encode_result(&sample::english(), Encoding::Msgpack).unwrap()),
        ("result-v1.json", encode_result(&sample::english(), Encoding::Json).unwrap()),
        ("dead-letter-v1.msgpack", dead_letter().encode().unwrap()),
    ];
    for (name, bytes) in written {
        let path = folder.join(name);
        if std::env::var("GOLDEN").is_ok_and(|what| what == "write") && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
    }
    let read = |name: &str| decode(&std::fs::read(folder.join(name)).unwrap()).unwrap().job;
    assert_eq!(read("job-v1.msgpack"), full());
    assert_eq!(read("job-v1.json"), full());
    assert_eq!(read("job-v1-reference.msgpack"), referring);
}

#[test]
fn mixed_schema_versions_are_read_as_far_as_they_can_be() {
    // The least that an older producer wrote.
    let old = decode(&pack(&least())).unwrap().job;
    assert_eq!((old.epoch, old.reviews.len(), &old.options), (0, 0, &JobOptions::default()));
    // Fields that this build does not know, of every kind.
    let mut newer = least();
    for value in [json!(null), json!({"a": [1, {"b": 2.5}]}), json!("text"), json!(u64::MAX)] {
        newer[format!("field-{value}")] = value.clone();
    }
    newer["reviews"] = json!([{"id": "r1", "text": "Good.", "mood": {"warm": true}}]);
    for body in [pack(&newer), newer.to_string().into_bytes()] {
        assert_eq!(decode(&body).unwrap().job.reviews[0].text, "Good.");
    }
    // A timestamp, which JSON does not have.
    let mut extended = vec![0x85, 0xa2, b'a', b't', 0xd6, 0xff, 0, 0, 0, 1];
    extended.extend(&pack(&least())[1..]);
    assert_eq!(decode(&extended).unwrap().job, old);
}

#[rstest]
#[case(json!({"v": 2}), 2)]
#[case(json!({"v": 2, "job_id": 9, "reviews": "moved", "restaurant": {"id": "x"}}), 2)]
#[case(json!({"v": 70_000}), 70_000)]
fn a_newer_version_is_left_for_newer_workers_whatever_its_fields_are(#[case] job: Value, #[case] v: u64) {
    for body in [pack(&job), job.to_string().into_bytes()] {
        assert_eq!(decode(&body), Err(Refusal::Newer { v }));
    }
}

#[rstest]
#[case::msgpack("application/msgpack", true, Some(Encoding::Msgpack))]
#[case::older_name("application/x-msgpack", true, Some(Encoding::Msgpack))]
#[case::json("application/json", false, Some(Encoding::Json))]
#[case::parameters("Application/JSON; charset=utf-8", false, Some(Encoding::Json))]
#[case::empty(" ", false, Some(Encoding::Json))]
#[case::other("text/csv", true, None)]
#[case::wrong("application/json", true, None)]
fn the_media_type_decides_how_a_body_is_read(
    #[case] content_type: &str,
    #[case] packed: bool,
    #[case] read_as: Option<Encoding>,
) {
    let body = if packed { pack(&least()) } else { format!(" \n{}", least()).into_bytes() };
    assert_eq!(decode_as(Some(content_type), &body).ok().map(|decoded| decoded.encoding), read_as);
}

#[test]
fn an_unknown_media_type_is_refused_with_those_that_are_read() {
    let Err(Refusal::Permanent { code, message }) = decode_as(Some("text/\u{1b}csv"), &pack(&least())) else {
        panic!("it was read");
    };
    assert_eq!(code, codes::UNKNOWN_CONTENT_TYPE);
    assert_eq!(message, "content type `text/\\u{1b}csv`; write application/msgpack or application/json");
}

#[rstest]
#[case::no_version(without("v"), codes::MALFORMED, "missing field `v`")]
#[case::version_zero(with("v", json!(0)), codes::BAD_VERSION, "write 1")]
#[case::version_in_words(with("v", json!("one")), codes::MALFORMED, "expected")]
#[case::negative_version(with("v", json!(-1)), codes::MALFORMED, "expected")]
#[case::no_job_id(without("job_id"), codes::MALFORMED, "missing field `job_id`")]
#[case::bad_id(with("job_id", json!("a.b")), codes::BAD_ID, "job id `a.b`")]
#[case::bad_restaurant(with("restaurant_id", json!("*")), codes::BAD_ID, "restaurant id `*`")]
#[case::empty_id(with("job_id", json!("")), codes::BAD_ID, "1 to 128")]
#[case::nothing_asked(with("analyses", json!([])), codes::NO_ANALYSES, "at least one of")]
#[case::unknown_analysis(with("analyses", json!(["mood"])), codes::MALFORMED, "expected one of `sentiment`")]
#[case::reviews_in_words(with("reviews", json!("all good")), codes::MALFORMED, "expected a ")]
#[case::review_without_text(with("reviews", json!([{"id": "a"}])), codes::MALFORMED, "missing field `text`")]
#[case::twins(
    with("reviews", json!([{"id": "a", "text": ""}, {"id": "a", "text": ""}])),
    codes::DUPLICATE_REVIEW,
    "`a` occurs twice"
)]
#[case::other_restaurant(with("restaurant_id", json!("red-door")), codes::SUBJECT_MISMATCH, "`blue-door`")]
#[case::huge_epoch(with("epoch", json!(1e300)), codes::MALFORMED, "expected")]
#[case::reference_without_digest(
    with("reviews_ref", json!({"object": "o", "sha256": "AB", "bytes": 1, "reviews": 1})),
    codes::MALFORMED,
    "SHA-256"
)]
#[case::reviews_twice(
    {
        let mut job = with("reviews", json!([{"id": "a", "text": ""}]));
        job["reviews_ref"] = json!({"object": "o", "sha256": "ab".repeat(32), "bytes": 1, "reviews": 1});
        job
    },
    codes::REVIEWS_TWICE,
    "either"
)]
#[case::huge_reference(
    with("reviews_ref", json!({"object": "o", "sha256": "ab".repeat(32), "bytes": u64::MAX, "reviews": 1})),
    codes::TOO_LARGE,
    "limits.bytes_per_job"
)]
fn what_can_never_be_worked_is_refused_with_a_code_and_what_to_do(
    #[case] job: Value,
    #[case] code: &str,
    #[case] told: &str,
) {
    for body in [pack(&job), job.to_string().into_bytes()] {
        let (found, message) = refused(&body);
        assert_eq!(found, code, "{message}");
        assert!(message.contains(told), "{message}");
        assert!(!message.starts_with(char::is_uppercase), "{message}");
    }
}

#[test]
fn the_field_at_fault_is_named() {
    let reviews = json!([{"id": "a", "text": "x"}, {"id": "b", "text": ["the soup was cold"]}]);
    let (_, message) = refused(&pack(&with("reviews", reviews)));
    assert_eq!(
        message,
        "field `reviews[1]`: found sequence, expected a string; docs/CONTRACT.md has the fields"
    );
    let (_, message) = refused(&pack(&with("options", json!({"top_k": -3}))));
    assert!(message.starts_with("field `options`: "), "{message}");
}

#[test]
fn a_refusal_never_repeats_a_guests_words() {
    let words = "the soup, expected hot, was cold";
    let review = json!({"id": "a", "text": words, "rating": words});
    for (field, value) in [
        ("reviews", json!(words)),
        ("reviews", json!([words])),
        ("reviews", json!([review])),
        ("analyses", json!([words])),
        ("epoch", json!(words)),
        ("language", json!(words)),
        ("options", json!({"scope": words})),
        ("v", json!(words)),
    ] {
        let job = with(field, value);
        for body in [pack(&job), job.to_string().into_bytes()] {
            let (_, message) = refused(&body);
            assert!(!message.contains("soup") && !message.contains("cold"), "{message}");
        }
    }
}

#[test]
fn a_field_that_occurs_twice_is_refused() {
    for name in ["v", "epoch"] {
        let told = format!("duplicate field `{name}`");
        let mut packed = pack(&with("epoch", json!(1)));
        packed[0] += 1;
        packed.extend(pack(&name));
        packed.push(1);
        assert!(refused(&packed).1.contains(&told));
        let text = with("epoch", json!(1)).to_string().replacen('{', &format!("{{\"{name}\":1,"), 1);
        assert!(refused(text.as_bytes()).1.contains(&told));
    }
}

#[test]
fn a_list_is_no_job_even_if_its_values_would_fit() {
    let values = json!([1, "j-1", "blue-door", null, 0, ["summary"]]);
    assert!(refused(&pack(&values)).1.starts_with("expected a map of named fields"));
    let Err(refusal) = decode_as(Some(names::JSON), values.to_string().as_bytes()) else {
        panic!("it was read")
    };
    assert!(refusal.to_string().starts_with("malformed: expected a JSON object"), "{refusal}");
}

#[test]
fn every_beginning_of_a_job_is_refused_and_so_is_what_follows_one() {
    for encoding in [Encoding::Msgpack, Encoding::Json] {
        let body = encode_job(&full(), encoding).unwrap();
        for length in 0..body.len() {
            assert!(decode_as(Some(encoding.content_type()), &body[..length]).is_err(), "{length}");
        }
        let longer = [&body[..], b"x"].concat();
        assert!(decode_as(Some(encoding.content_type()), &longer).is_err());
    }
}

#[test]
fn limits_are_checked_before_the_body_is_decoded() {
    let limits = Limits { bytes_per_job: 1000, reviews_per_job: 3, ..Limits::default() };
    let code = |body: &[u8]| match decode_job(Message { subject: SUBJECT, content_type: None, body }, &limits)
    {
        Err(Refusal::Permanent { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&[0xff; 1001]), codes::TOO_LARGE);
    // No review at all, only a list that says that it has four: nothing in it is looked at.
    assert_eq!(code(&pack(&with("reviews", json!([null, null, null, null])))), codes::TOO_MANY_REVIEWS);
}

#[test]
fn hostile_lengths_are_refused_before_anything_is_set_aside_for_them() {
    let with_value = |name: &str, value: &[u8]| {
        let mut body = pack(&least());
        body[0] += 1;
        body.extend(pack(&name));
        body.extend(value);
        body
    };
    for header in [0xdf, 0xdd, 0xdb, 0xc6, 0xc9] {
        let length = [header, 0xff, 0xff, 0xff, 0xff];
        for name in ["reviews", "options", "restaurant_name", "unknown"] {
            let (code, message) = refused(&with_value(name, &length));
            assert_eq!(code, codes::MALFORMED);
            assert!(message.contains("is larger than the body"), "{message}");
        }
    }
    let (_, message) = refused(&with_value("reviews", &[0x91].repeat(100_000)));
    assert!(message.contains("nested deeper than 16 levels"), "{message}");
    let nested = with("reviews", json!(null)).to_string().replace("null", &"[".repeat(100_000));
    assert_eq!(refused(nested.as_bytes()).0, codes::MALFORMED);
    let (_, message) = refused(&with_value("restaurant_name", &[0xa2, 0xff, 0xfe]));
    assert!(message.contains("not UTF-8"), "{message}");
}

#[test]
fn what_is_no_rating_or_no_vector_counts_as_none_given() {
    let review = |rating: f32, embedding: Vec<f32>| Review {
        rating: Some(rating),
        embedding: Some(embedding),
        ..full().reviews[0].clone()
    };
    for (rating, embedding, kept) in [
        (5.0, vec![1.0], (Some(5.0), Some(vec![1.0]))),
        (0.0, vec![f32::NAN], (None, None)),
        (f32::INFINITY, vec![1.0, f32::INFINITY], (None, None)),
        (f32::NAN, vec![], (None, Some(vec![]))),
    ] {
        let job = Job { reviews: vec![review(rating, embedding)], ..full() };
        let read = decode(&encode_job(&job, Encoding::Msgpack).unwrap()).unwrap().job;
        assert_eq!((read.reviews[0].rating, read.reviews[0].embedding.clone()), kept);
    }
}

#[test]
fn an_analysis_that_is_asked_for_twice_is_done_once() {
    let job = with("analyses", json!(["summary", "sentiment", "summary"]));
    assert_eq!(decode(&pack(&job)).unwrap().job.analyses, [Analysis::Summary, Analysis::Sentiment]);
}

#[test]
fn reviews_by_reference_are_checked_like_those_in_the_job() {
    let job = |reviews| Job {
        reviews: Vec::new(),
        reviews_ref: Some(ReviewsRef { object: "o".into(), sha256: "ab".repeat(32), bytes: 9, reviews }),
        ..full()
    };
    let attach = |count, object: &[u8]| attach_reviews(job(count), object, &Limits::default());
    let code = |result: Result<Job, Refusal>| match result {
        Err(Refusal::Permanent { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let object = encode_reviews(&full().reviews).unwrap();
    assert_eq!(attach(2, &object), Ok(full()));
    assert_eq!(code(attach(3, &object)), codes::REVIEWS_MISMATCH);
    assert_eq!(code(attach(2, &object[..9])), codes::MALFORMED);
    assert_eq!(code(attach(2, b"[]")), codes::MALFORMED);
    assert_eq!(code(attach(1, &[0xdd, 0xff, 0xff, 0xff, 0xff])), codes::MALFORMED);
    let twins = [full().reviews[0].clone(), full().reviews[0].clone()];
    assert_eq!(code(attach(2, &encode_reviews(&twins).unwrap())), codes::DUPLICATE_REVIEW);
    // Without a reference there is nothing to attach.
    assert_eq!(attach_reviews(full(), b"anything", &Limits::default()), Ok(full()));
}

#[test]
fn a_time_that_cannot_be_written_is_an_error_and_no_panic() {
    let odd = time::OffsetDateTime::new_in_offset(
        time::Date::MIN,
        time::Time::MIDNIGHT,
        time::UtcOffset::from_hms(1, 2, 3).unwrap(),
    );
    let error = encode_job(&Job { deadline: Some(odd), ..full() }, Encoding::Msgpack).unwrap_err();
    assert!(error.to_string().starts_with("cannot encode the job: "), "{error}");
}
