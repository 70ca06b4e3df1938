//! Dead letters as they stand in their stream.
//!
//! Pure: names and headers, which say what a list shows without the record being read. The record itself is
//! [`wire::DeadLetter`](super::wire::DeadLetter). Invariant: a job that is given up by several workers, or again after
//! a restart, has one message id, so that the server keeps one letter of it.

use serde::Serialize;
use time::OffsetDateTime;

use super::names;
use super::wire::DeadLetter;
use crate::scheduler::Lane;

/// The reason when the server gave the job up, not a worker.
pub const MAX_DELIVERIES: &str = "max_deliveries";

/// Bytes of a header value at most: ids are shorter, and what is longer is for reading, not for a list.
const MAX_HEADER: usize = 256;

/// A dead letter, as far as its headers tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its sequence in the stream of dead letters: what `show`, `replay` and `drop` take.
    pub sequence: u64,
    /// When it was written (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The lane the job came in.
    pub lane: Option<Lane>,
    /// The restaurant, if it is known.
    pub restaurant_id: Option<String>,
    /// The job, if it is known.
    pub job_id: Option<String>,
    /// The code of the reason.
    pub reason: String,
    /// The job's stream and sequence, and the backfill that replayed it: `REVIEW_JOBS:5`.
    pub origin: String,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this lane only.
    pub lane: Option<Lane>,
    /// Of this restaurant only.
    pub restaurant: Option<String>,
    /// With this code of the reason only.
    pub reason: Option<String>,
}

impl Filter {
    /// The subjects of what is meant.
    pub fn subjects(&self) -> String {
        let lane = self.lane.map_or("*", Lane::name);
        format!("dlq.analysis.{lane}.{}", self.restaurant.as_deref().unwrap_or("*"))
    }

    /// Whether it is meant, once its subject is.
    pub fn takes(&self, summary: &Summary) -> bool {
        self.reason.as_ref().is_none_or(|reason| *reason == summary.reason)
    }
}

/// Identity of the dead letter of a job, by which the server drops a second one.
pub fn message_id(stream: &str, sequence: u64, backfill: Option<&str>) -> String {
    match backfill {
        Some(backfill) => format!("dlq:{stream}:{sequence}:{backfill}"),
        None => format!("dlq:{stream}:{sequence}"),
    }
}

/// Identity of a letter's replay, by which the server drops a second one.
pub fn replay_id(sequence: u64) -> String {
    format!("replay:{sequence}")
}

/// Where a letter is published.
pub fn subject(letter: &DeadLetter) -> String {
    let restaurant = letter.restaurant_id.as_deref().filter(|id| is_token(id));
    names::dead_letter_subject(letter.lane, restaurant)
}

/// The letter's headers for lists. Ids of a job that was refused may hold anything; what a header cannot hold is left
/// out.
pub fn headers(letter: &DeadLetter) -> Vec<(&'static str, String)> {
    let fits = |text: &&String| text.len() <= MAX_HEADER && !text.chars().any(char::is_control);
    let optional = [(names::JOB, &letter.job_id), (names::TRACEPARENT, &letter.traceparent)];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    [(names::REASON, &letter.reason.code)]
        .into_iter()
        .chain(optional)
        .filter(|(_, value)| fits(value))
        .map(|(name, value)| (name, value.clone()))
        .collect()
}

/// The summary of a stored letter.
pub fn summary<'h>(
    subject: &str,
    sequence: u64,
    at: OffsetDateTime,
    header: impl Fn(&str) -> Option<&'h str>,
) -> Summary {
    let mut tokens = subject.strip_prefix("dlq.analysis.").unwrap_or_default().splitn(2, '.');
    let lane = tokens.next().and_then(|token| token.parse().ok());
    let restaurant = tokens.next().filter(|token| *token != "_").map(str::to_owned);
    let id = header(names::MESSAGE_ID).unwrap_or_default();
    Summary {
        sequence,
        at,
        lane,
        restaurant_id: restaurant,
        job_id: header(names::JOB).map(str::to_owned),
        reason: header(names::REASON).unwrap_or("unknown").to_owned(),
        origin: id.strip_prefix("dlq:").unwrap_or(id).to_owned(),
    }
}

/// Headers of the original job that go with its replay. The server's own are instructions about the first publishing.
pub fn replayed_headers(letter: &DeadLetter) -> impl Iterator<Item = (&str, &str)> {
    let of_server = |name: &str| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"));
    let kept = letter.headers.iter().filter(move |(name, _)| !of_server(name));
    kept.flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
}

/// Whether a letter's subject is one at which jobs are published.
pub fn is_job_subject(subject: &str) -> bool {
    let restaurant = names::lane_of(subject).and_then(|_| subject.splitn(4, '.').nth(3));
    restaurant.is_some_and(is_token)
}

/// Whether a text is one token of a subject, and no wildcard.
pub fn is_token(text: &str) -> bool {
    let breaks = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>');
    !text.is_empty() && text.len() <= MAX_HEADER && !text.contains(breaks)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::broker::wire::Reason;
    use time::macros::datetime;

    const AT: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn letter() -> DeadLetter {
        DeadLetter {
            v: 1,
            job_id: Some("j-1".into()),
            restaurant_id: Some("r-1".into()),
            lane: Lane::Live,
            stream: "REVIEW_JOBS".into(),
            sequence: 5,
            subject: "jobs.analysis.live.r-1".into(),
            consumer: "worker-live".into(),
            delivered: 1,
            failures: 0,
            reason: Reason { code: "malformed".into(), message: "no".into() },
            worker: "w".into(),
            traceparent: None,
            backfill: None,
            at: AT,
            headers: BTreeMap::new(),
            payload: b"{".to_vec(),
        }
    }

    #[test]
    fn what_a_list_shows_comes_back_from_subject_and_headers() {
        let letter = letter();
        let mut headers = headers(&letter);
        headers.push((names::MESSAGE_ID, message_id(&letter.stream, letter.sequence, None)));
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        let summary = summary(&subject(&letter), 9, AT, header);
        assert_eq!((summary.sequence, summary.lane), (9, Some(Lane::Live)));
        assert_eq!(summary.restaurant_id.as_deref(), Some("r-1"));
        assert_eq!(summary.job_id.as_deref(), Some("j-1"));
        assert_eq!((summary.reason.as_str(), summary.origin.as_str()), ("malformed", "REVIEW_JOBS:5"));
    }

    #[test]
    fn an_id_that_is_unfit_for_a_subject_or_a_header_does_not_get_into_it() {
        for bad in ["a.b", "a b", ">", "*", "", "a\r\nb"] {
            let letter = DeadLetter { restaurant_id: Some(bad.into()), job_id: Some(bad.into()), ..letter() };
            assert_eq!(subject(&letter), "dlq.analysis.live._", "{bad:?}");
            assert!(headers(&letter).iter().all(|(_, value)| !value.contains(['\r', '\n'])));
        }
        let korean = DeadLetter { restaurant_id: Some("한식당-1".into()), ..letter() };
        assert_eq!(subject(&korean), "dlq.analysis.live.한식당-1");
    }

    #[test]
    fn a_backfills_letter_of_the_same_job_is_another_one() {
        assert_eq!(message_id("S", 5, None), "dlq:S:5");
        assert_ne!(message_id("S", 5, Some("b")), message_id("S", 5, None));
    }

    #[test]
    fn a_replay_keeps_the_jobs_headers_and_not_the_servers_instructions() {
        let mut letter = letter();
        for (name, value) in
            [("Content-Type", "application/json"), ("X-Own", "a"), ("nats-Expected-Stream", "S")]
        {
            letter.headers.insert(name.into(), vec![value.into()]);
        }
        letter.headers.insert("Nats-Msg-Id".into(), vec!["j-1".into()]);
        letter.headers.insert("X-Own".into(), vec!["a".into(), "b".into()]);
        let kept: Vec<_> = replayed_headers(&letter).collect();
        assert_eq!(kept, [("Content-Type", "application/json"), ("X-Own", "a"), ("X-Own", "b")]);
    }

    #[test]
    fn only_subjects_of_jobs_are_replayed_to() {
        assert!(is_job_subject("jobs.analysis.hi.r-1"));
        for other in
            ["jobs.analysis.hi", "jobs.analysis.hi.*", "jobs.analysis.hi.a.b", "$JS.API.INFO", "a b", ""]
        {
            assert!(!is_job_subject(other), "{other}");
        }
    }

    #[test]
    fn a_filter_is_a_subject_and_a_reason() {
        assert_eq!(Filter::default().subjects(), "dlq.analysis.*.*");
        let filter =
            Filter { lane: Some(Lane::Hi), restaurant: Some("r".into()), reason: Some("malformed".into()) };
        assert_eq!(filter.subjects(), "dlq.analysis.hi.r");
        let of = |reason: &str| {
            summary("dlq.analysis.hi.r", 1, AT, |name| {
                (name == names::REASON).then_some(match reason {
                    "malformed" => "malformed",
                    _ => "other",
                })
            })
        };
        assert!(filter.takes(&of("malformed")) && !filter.takes(&of("other")));
    }
}
