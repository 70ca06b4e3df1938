//! How to find out what a login may do without doing it.
//!
//! The server tells a login of each word that it may not say, whatever the word's content. So a checkup says every word
//! that a worker says, each with a content that the server refuses for itself or that changes nothing:
//!
//! - requests that read are asked as they are;
//! - requests that change something have a body that is not JSON, or name something that is not there;
//! - a pull is sent without a place for the answer: the server ignores it, and no job is taken;
//! - what would be stored is sent with the wish that it be stored in a stream that does not exist
//!   ([`NOWHERE`]): the streams that hear it refuse it. Who subscribes to such a subject outside JetStream hears one
//!   empty message to a restaurant, key or object called [`NOBODY`].
//!
//! Pure: `nats::checkup` sends it.

use crate::broker::names;
use crate::scheduler::Lane;

/// A stream that nobody has.
pub const NOWHERE: &str = "MAITRED_DOCTOR";
/// A restaurant, key, object and consumer that nobody has.
pub const NOBODY: &str = "maitred-doctor";

/// What the server takes for no request at all.
const NO_JSON: &str = "{";

/// How a word is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// As a request with this body, without a place for the answer.
    Ask(String),
    /// As a message that no stream takes.
    Store,
    /// As a subscription, which is ended at once.
    Hear,
}

/// Something that a worker says to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What for, in words that go on after "may not".
    pub what: &'static str,
    /// Where it is said.
    pub subject: String,
    /// How.
    pub say: Say,
}

/// The request that is answered for real, behind all others: then the server has heard them.
pub const LAST_WORD: &str = "$JS.API.INFO";

const BUCKETS: [&str; 3] = [names::WORKERS_BUCKET, names::ATTEMPTS_BUCKET, names::BACKFILLS_BUCKET];

/// All that a worker says, but for [`LAST_WORD`].
pub fn words() -> Vec<Word> {
    [jobs(), outcomes(), buckets(), objects()].concat()
}

fn word(what: &'static str, subject: impl Into<String>, say: Say) -> Word {
    Word { what, subject: subject.into(), say }
}

/// A request under the prefix of JetStream.
fn api(what: &'static str, rest: &str, body: &str) -> Word {
    word(what, format!("$JS.API.{rest}"), Say::Ask(body.to_owned()))
}

/// Taking jobs and settling them, hearing of those that are cancelled or were given up.
fn jobs() -> Vec<Word> {
    let (jobs, advisories, sweeper) = (names::JOBS_STREAM, names::ADVISORIES_STREAM, names::SWEEPER);
    let mut words = reading("read jobs", jobs);
    for lane in Lane::ALL {
        let consumer = names::lane_consumer(lane);
        words.push(api("look at a lane", &format!("CONSUMER.INFO.{jobs}.{consumer}"), ""));
        words.push(api("take jobs", &format!("CONSUMER.MSG.NEXT.{jobs}.{consumer}"), ""));
    }
    words.extend([
        word("settle jobs", format!("$JS.ACK.{jobs}.{NOBODY}"), Say::Ask(String::new())),
        api("end a backfill", &format!("CONSUMER.DELETE.{jobs}.{NOBODY}"), ""),
        word("hear that a job is cancelled", format!("{}.*", names::CANCEL_PREFIX), Say::Hear),
        api("look at given-up jobs", &format!("STREAM.INFO.{advisories}"), ""),
        api("look at given-up jobs", &format!("CONSUMER.INFO.{advisories}.{sweeper}"), ""),
        api("take given-up jobs", &format!("CONSUMER.MSG.NEXT.{advisories}.{sweeper}"), ""),
        // Of no delivery, and a word that renews: there is nothing to renew.
        word(
            "settle given-up jobs",
            format!("$JS.ACK.{advisories}.{sweeper}.{NOBODY}"),
            Say::Ask("+WPI".into()),
        ),
    ]);
    words
}

/// Writing results and dead letters, and looking whether one is there already.
fn outcomes() -> Vec<Word> {
    let mut words = Vec::new();
    for (write, read, stream, subject) in [
        ("write results", "read results", names::RESULTS_STREAM, names::result_subject(NOBODY)),
        (
            "write dead letters",
            "read dead letters",
            names::DEAD_LETTERS_STREAM,
            names::dead_letter_subject(Lane::Live, Some(NOBODY)),
        ),
    ] {
        words.push(word(write, subject, Say::Store));
        words.extend(reading(read, stream));
        words.extend(following(read, stream));
        words.push(api(read, &format!("CONSUMER.INFO.{stream}.{NOBODY}"), ""));
        words.push(api(read, &format!("CONSUMER.MSG.NEXT.{stream}.{NOBODY}"), ""));
    }
    let letters = names::DEAD_LETTERS_STREAM;
    words.push(api("take a dead letter back", &format!("STREAM.MSG.DELETE.{letters}"), NO_JSON));
    words
}

/// Presence, marks of what runs, backfills.
fn buckets() -> Vec<Word> {
    let mut words = Vec::new();
    for bucket in BUCKETS {
        let stream = format!("KV_{bucket}");
        let key = format!("$KV.{bucket}.{NOBODY}");
        words.push(word("write a record", key.clone(), Say::Store));
        words.push(api("read a record", &format!("STREAM.INFO.{stream}"), ""));
        words.push(api("read a record", &format!("DIRECT.GET.{stream}.{key}"), ""));
        words.extend(following("watch records", &stream));
    }
    let attempts = names::ATTEMPTS_BUCKET;
    words.push(api("remove a mark", &format!("STREAM.MSG.DELETE.KV_{attempts}"), NO_JSON));
    words
}

/// Bodies that are too large for a message.
fn objects() -> Vec<Word> {
    let bucket = names::OBJECTS_BUCKET;
    let stream = format!("OBJ_{bucket}");
    let (chunk, record) = (format!("$O.{bucket}.C.{NOBODY}"), format!("$O.{bucket}.M.{NOBODY}"));
    // Purges the pieces of an object that is not there. Without the filter it would purge all.
    let purge = format!(r#"{{"filter":"{chunk}"}}"#);
    let mut words = vec![
        word("write a large body", record.clone(), Say::Store),
        word("write a large body", chunk, Say::Store),
        api("read a large body", &format!("STREAM.INFO.{stream}"), ""),
        api("replace a large body", &format!("STREAM.PURGE.{stream}"), &purge),
        api("read a large body", &format!("DIRECT.GET.{stream}.{record}"), ""),
        // Answers that keep ordered consumers flowing; nobody waits for this one.
        word("read a large body", format!("$JS.FC.{NOBODY}"), Say::Ask(String::new())),
    ];
    words.extend(following("read a large body", &stream));
    words
}

/// Reading single messages of a stream.
fn reading(what: &'static str, stream: &str) -> Vec<Word> {
    let last = format!(r#"{{"last_by_subj":"{NOBODY}"}}"#);
    vec![
        api(what, &format!("STREAM.INFO.{stream}"), ""),
        api(what, &format!("STREAM.MSG.GET.{stream}"), &last),
        api(what, &format!("DIRECT.GET.{stream}"), &last),
        api(what, &format!("DIRECT.GET.{stream}.{NOBODY}"), ""),
    ]
}

/// Reading a stream with a consumer of one's own.
fn following(what: &'static str, stream: &str) -> Vec<Word> {
    vec![
        api(what, &format!("CONSUMER.CREATE.{stream}"), NO_JSON),
        api(what, &format!("CONSUMER.CREATE.{stream}.{NOBODY}"), NO_JSON),
        api(what, &format!("CONSUMER.DELETE.{stream}.{NOBODY}"), ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMISSIONS: &str = include_str!("../../deploy/nats/permissions.conf");

    /// What the deployed worker may publish, and what it may hear.
    fn deployed() -> (Vec<String>, Vec<String>) {
        let worker = PERMISSIONS.split("user: worker").nth(1).unwrap();
        let quoted = |text: &str| {
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            let parts = lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned));
            parts.collect::<Vec<_>>()
        };
        let publish = quoted(worker.split("deny: [").next().unwrap());
        let subscribe = quoted(worker.lines().find(|line| line.contains("subscribe: {")).unwrap());
        (publish, subscribe)
    }

    fn matches(pattern: &str, subject: &str) -> bool {
        let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
        loop {
            match (pattern.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(own), Some(other)) if own == other => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn every_right_of_the_deployed_worker_is_asked_for_and_none_that_it_lacks() {
        let (publish, subscribe) = deployed();
        assert!(publish.len() > 60, "{publish:?}");
        let words = words();
        for pattern in publish.iter().filter(|pattern| *pattern != LAST_WORD) {
            let said = words.iter().any(|word| word.say != Say::Hear && matches(pattern, &word.subject));
            assert!(said, "nothing asks for {pattern}");
        }
        for word in &words {
            let rights = if word.say == Say::Hear { &subscribe } else { &publish };
            let may = rights.iter().any(|right| matches(right, &word.subject) || *right == word.subject);
            assert!(may, "a worker does not need {}", word.subject);
        }
    }

    #[test]
    fn no_word_is_said_twice_and_all_of_them_can_be_refused_at_once() {
        let mut subjects: Vec<String> = words().into_iter().map(|word| word.subject).collect();
        let all = subjects.len();
        subjects.sort_unstable();
        subjects.dedup();
        assert_eq!(subjects.len(), all);
        // The client library keeps 128 events that nobody took yet, and drops the rest.
        assert!(all < 120, "{all}");
    }

    #[test]
    fn what_changes_something_names_nobody_or_is_no_request() {
        for word in words() {
            let Say::Ask(body) = &word.say else { continue };
            let changes = ["CREATE", "DELETE", "PURGE", "ACK"].iter().any(|verb| word.subject.contains(verb));
            let is_harmless = body == NO_JSON || body.contains(NOBODY) || word.subject.ends_with(NOBODY);
            assert!(!changes || is_harmless, "{word:?}");
        }
    }
}
