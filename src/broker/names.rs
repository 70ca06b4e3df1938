//! Names on the server: streams, subjects, consumers, buckets, headers. In one place, because producers, workers and
//! permissions must agree on them; `docs/CONTRACT.md` is their public form.

use crate::digest::text_digest;
use crate::scheduler::Lane;

/// Stream of jobs. Limits retention: what was worked stays, so that it can be replayed.
pub const JOBS_STREAM: &str = "REVIEW_JOBS";
/// Stream of results.
pub const RESULTS_STREAM: &str = "ANALYSIS_RESULTS";
/// Stream of dead letters.
pub const DEAD_LETTERS_STREAM: &str = "ANALYSIS_DLQ";
/// Stream that keeps the server's own word that it gave a job up.
pub const ADVISORIES_STREAM: &str = "ANALYSIS_ADVISORIES";

/// All jobs.
pub const JOBS_SUBJECTS: &str = "jobs.analysis.>";
/// All results.
pub const RESULTS_SUBJECTS: &str = "results.analysis.>";
/// All dead letters.
pub const DEAD_LETTERS_SUBJECTS: &str = "dlq.analysis.>";

/// Durable consumer of the advisories, shared by all workers.
pub const SWEEPER: &str = "sweeper";

/// Key-value bucket of live workers; a worker that stops writing fades out of it.
pub const WORKERS_BUCKET: &str = "maitred_workers";
/// Key-value bucket of runs under way: what a crashed worker was doing.
pub const ATTEMPTS_BUCKET: &str = "maitred_attempts";
/// Key-value bucket of backfills.
pub const BACKFILLS_BUCKET: &str = "maitred_backfills";
/// Object bucket of what is too large for a message.
pub const OBJECTS_BUCKET: &str = "maitred_payloads";

/// Core subject on which a worker that holds the job hears that it is not wanted any more.
pub const CANCEL_PREFIX: &str = "ctl.cancel";

/// Media type of the body.
pub const CONTENT_TYPE: &str = "Content-Type";
/// MessagePack with named fields.
pub const MSGPACK: &str = "application/msgpack";
/// JSON.
pub const JSON: &str = "application/json";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the object that holds the body, if it is too large for a message.
pub const BODY_OBJECT: &str = "Maitred-Body-Object";
/// SHA-256 of that object, lower-case hex.
pub const BODY_SHA256: &str = "Maitred-Body-Sha256";
/// The code of a dead letter's reason.
pub const REASON: &str = "Maitred-Reason";
/// The job of a dead letter.
pub const JOB: &str = "Maitred-Job";
/// Identity of a message, by which the server drops a second one.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The backfill for which a result was made.
pub const BACKFILL: &str = "Maitred-Backfill";

/// Subject of a job. `restaurant` is a valid id, and so a valid subject token.
pub fn job_subject(lane: Lane, restaurant: &str) -> String {
    format!("jobs.analysis.{lane}.{restaurant}")
}

/// Subjects of all jobs of a lane.
pub fn lane_subjects(lane: Lane) -> String {
    format!("jobs.analysis.{lane}.>")
}

/// The lane in a job's subject.
pub fn lane_of(subject: &str) -> Option<Lane> {
    subject.strip_prefix("jobs.analysis.")?.split('.').next()?.parse().ok()
}

/// Subject of a restaurant's results.
pub fn result_subject(restaurant: &str) -> String {
    format!("results.analysis.{restaurant}")
}

/// Subject of a dead letter; a restaurant that is not known, or not fit for a subject, is `_`.
pub fn dead_letter_subject(lane: Lane, restaurant: Option<&str>) -> String {
    format!("dlq.analysis.{lane}.{}", restaurant.unwrap_or("_"))
}

/// Durable consumer of a lane.
pub fn lane_consumer(lane: Lane) -> String {
    format!("worker-{lane}")
}

/// Durable consumer of a backfill.
pub fn backfill_consumer(id: &str) -> String {
    format!("backfill-{id}")
}

/// The backfill whose consumer this is.
pub fn backfill_of(consumer: &str) -> Option<&str> {
    consumer.strip_prefix("backfill-")
}

/// A job id as a token: ids may hold what keys and subjects may not.
pub fn job_token(job_id: &str) -> String {
    text_digest(job_id).chars().take(32).collect()
}

/// Subject on which the cancelling of a job is announced.
pub fn cancel_subject(job_id: &str) -> String {
    format!("{CANCEL_PREFIX}.{}", job_token(job_id))
}

/// Identity of a result, and the message id by which the server drops a second one. A backfill works a job anew, so
/// its result is another one.
pub fn result_id(job_id: &str, backfill: Option<&str>) -> String {
    match backfill {
        Some(backfill) => format!("{job_id}@{backfill}"),
        None => job_id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_subject_is_the_one_it_was_made_with() {
        for lane in Lane::ALL {
            assert_eq!(lane_of(&job_subject(lane, "r-1")), Some(lane));
        }
        for other in ["jobs.analysis.low.r", "jobs.analysis", "results.analysis.hi.r", ""] {
            assert_eq!(lane_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_job_token_fits_keys_and_subjects_whatever_the_id_holds() {
        let token = job_token("가게:1@x");
        assert_eq!(token.len(), 32);
        assert!(token.chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(token, job_token("가게:2@x"));
    }
}
