//! What is no job, is a job of another kind, or comes in another form.

use async_nats::HeaderMap;
use maitred::broker::names;
use maitred::broker::wire::codes;
use maitred::scheduler::Lane;
use maitred_testkit::LIMIT;
use serde_json::{Value, json};

use super::team::{Team, job, job_of};
use crate::fleet::ground::until;

/// A message as anybody might publish it.
struct Bad {
    what: &'static str,
    code: &'static str,
    content_type: Option<&'static str>,
    restaurant: &'static str,
    body: Vec<u8>,
}

fn packed(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

/// A sound job, with one field of another value.
fn sound_but(field: &str, value: Value) -> Value {
    let mut sound = job_of("j-bad", "r", "The soup was hot.");
    sound[field] = value;
    sound
}

/// A message of each kind.
fn bad_messages() -> Vec<Bad> {
    let bad = |what, code, content_type, body| Bad { what, code, content_type, restaurant: "r", body };
    let (msgpack, json) = (Some(names::MSGPACK), Some(names::JSON));
    let sound = packed(&sound_but("v", json!(1)));
    let nested = format!("{{\"v\":1,\"options\":{}", "[".repeat(20_000));
    let twins = json!([{ "id": "1", "text": "a" }, { "id": "1", "text": "b" }]);
    vec![
        bad("nothing", codes::MALFORMED, None, Vec::new()),
        bad("bytes", codes::MALFORMED, msgpack, vec![0xc1; 300]),
        bad("half a job", codes::MALFORMED, msgpack, sound[..sound.len() / 2].to_vec()),
        bad(
            "a list that says it has 4 Gi items",
            codes::MALFORMED,
            msgpack,
            b"\xdd\xff\xff\xff\xff".to_vec(),
        ),
        bad(
            "a map that says it has 4 Gi entries",
            codes::MALFORMED,
            msgpack,
            b"\xdf\xff\xff\xff\xff\xa1v\x01".to_vec(),
        ),
        bad(
            "a text that says it has 4 GiB",
            codes::MALFORMED,
            msgpack,
            b"\x82\xa1v\x01\xa6job_id\xdb\xff\xff\xff\xff".to_vec(),
        ),
        bad("lists in lists", codes::MALFORMED, msgpack, vec![0x91; 20_000]),
        bad("lists in lists in JSON", codes::MALFORMED, json, nested.into_bytes()),
        bad("version 0", codes::BAD_VERSION, msgpack, packed(&sound_but("v", json!(0)))),
        bad("a blank in an id", codes::BAD_ID, json, sound_but("job_id", json!("a b")).to_string().into()),
        bad(
            "a restaurant that is no token",
            codes::BAD_ID,
            msgpack,
            packed(&sound_but("restaurant_id", json!("r.*"))),
        ),
        bad("no analyses", codes::NO_ANALYSES, json, sound_but("analyses", json!([])).to_string().into()),
        bad("twin reviews", codes::DUPLICATE_REVIEW, msgpack, packed(&sound_but("reviews", twins))),
        bad("a table", codes::UNKNOWN_CONTENT_TYPE, Some("text/csv"), b"id,text\n1,good".to_vec()),
        bad("too many bytes", codes::TOO_LARGE, msgpack, vec![b'x'; 70_000]),
        Bad {
            what: "another restaurant's subject",
            code: codes::SUBJECT_MISMATCH,
            content_type: msgpack,
            restaurant: "other",
            body: packed(&sound_but("v", json!(1))),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_a_dead_letter_at_its_first_delivery_with_the_bytes_it_had() {
    let Some(team) = Team::new(|program| program.set("limits.bytes_per_job", "64 KiB")).await else { return };
    let mut worker = team.worker("w-1");
    let mut published = Vec::new();
    for bad in bad_messages() {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = bad.content_type {
            headers.insert(names::CONTENT_TYPE, content_type);
        }
        let subject = names::job_subject(Lane::Live, bad.restaurant);
        published.push((team.publish_as(subject, headers, bad.body.clone()).await, bad));
    }
    team.publish(Lane::Live, &job(0)).await;
    let wanted = published.iter().map(|(sequence, bad)| (sequence, bad));
    // Only those that could be decoded have a job's id.
    let letters = until("all are dead letters", async || {
        let letters = team.dead_letters().await;
        (letters.len() >= published.len()).then_some(letters)
    })
    .await;
    assert_eq!(letters.len(), published.len());
    for (sequence, bad) in wanted {
        let letter = letters.iter().find(|letter| letter.sequence == *sequence).expect(bad.what);
        assert_eq!(letter.reason.code, bad.code, "{}: {}", bad.what, letter.reason.message);
        assert_eq!(letter.delivered, 1, "{}", bad.what);
        assert!(letter.payload == bad.body, "{}: the payload is another one", bad.what);
    }
    until("the sound job has a result", async || (team.results().await.len() == 1).then_some(())).await;
    assert!(worker.is_running());
    assert!(!worker.log().contains("panicked"));
    until("nothing is held", async || (team.lane(Lane::Live).await.num_ack_pending == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_newer_version_is_left_for_newer_workers() {
    let Some(team) = Team::new(|program| program).await else { return };
    let mut worker = team.worker("w-1");
    let newer = json!({ "v": 2, "job_id": "new", "restaurant_id": "r", "what_is_asked": { "all": true } });
    team.publish(Lane::Live, &newer).await;
    worker.wait_line("left for newer workers");
    let jobs = team.publish_some(3).await;
    for id in jobs {
        until("older jobs pass it", async || {
            team.results().await.iter().any(|found| found.result.job_id == id).then_some(())
        })
        .await;
    }
    until("only the newer job is left", async || {
        let info = team.lane(Lane::Live).await;
        (info.num_pending == 0 && info.num_ack_pending == 1).then_some(())
    })
    .await;
    assert!(team.dead_letters().await.is_empty());
    // Handed back with a delay, not held.
    worker.wait_jobs("held", |held| held == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_written_as_its_job_was_and_goes_on_with_its_trace() {
    const TRACES: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"];
    let Some(team) = Team::new(|program| program).await else { return };
    let _worker = team.worker("w-1");
    let forms = [(names::JSON, job(0).to_string().into_bytes()), (names::MSGPACK, packed(&job(1)))];
    for (n, (content_type, body)) in forms.iter().enumerate() {
        let mut headers = HeaderMap::new();
        headers.insert(names::CONTENT_TYPE, *content_type);
        headers.insert(names::TRACEPARENT, format!("00-{}-00f067aa0ba902b7-01", TRACES[n]).as_str());
        team.publish_as(names::job_subject(Lane::Live, &format!("r-{n}")), headers, body.clone()).await;
    }
    team.checker(["j-0".to_owned(), "j-1".to_owned()]).await.wait(LIMIT).await;
    for (n, (content_type, _)) in forms.iter().enumerate() {
        let published = team.result(&format!("j-{n}")).await;
        let header = |name: &str| published.headers.get(name).unwrap().as_str().to_owned();
        assert_eq!(header(names::CONTENT_TYPE), *content_type);
        let parts: Vec<String> = header(names::TRACEPARENT).split('-').map(str::to_owned).collect();
        assert_eq!((parts.len(), parts[1].as_str()), (4, TRACES[n]));
        assert_ne!(parts[2], "00f067aa0ba902b7", "a part of its own");
    }
}
