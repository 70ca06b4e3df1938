//! Why a message is not a job, and how that is said without repeating what the message holds.

use serde::de::DeserializeOwned;

use super::skim;
use crate::job::{Analysis, JobError, JobOptions, Language, Review, ReviewsRef};

/// Codes of dead letters that the codec writes. Stable: consumers may depend on them; `docs/CONTRACT.md` lists them.
pub mod codes {
    /// The body is not the shape of a job.
    pub const MALFORMED: &str = "malformed";
    /// The body, or the object it names, is over `limits.bytes_per_job`.
    pub const TOO_LARGE: &str = "too_large";
    /// The media type is none that is read.
    pub const UNKNOWN_CONTENT_TYPE: &str = "unknown_content_type";
    /// The version is none that ever was.
    pub const BAD_VERSION: &str = "bad_version";
    /// The restaurant is another one in the subject.
    pub const SUBJECT_MISMATCH: &str = "subject_mismatch";
    /// An id that cannot be a subject token or a key.
    pub const BAD_ID: &str = "bad_id";
    /// No analysis was asked for.
    pub const NO_ANALYSES: &str = "no_analyses";
    /// Two reviews share an id.
    pub const DUPLICATE_REVIEW: &str = "duplicate_review";
    /// More than `limits.reviews_per_job`.
    pub const TOO_MANY_REVIEWS: &str = "too_many_reviews";
    /// More than `limits.chars_per_review`.
    pub const REVIEW_TOO_LONG: &str = "review_too_long";
    /// Reviews in the job and by reference.
    pub const REVIEWS_TWICE: &str = "reviews_twice";
    /// The object that holds the reviews is not there.
    pub const REVIEWS_MISSING: &str = "reviews_missing";
    /// The object that holds the reviews is not the one that was meant.
    pub const REVIEWS_MISMATCH: &str = "reviews_mismatch";

    /// All of them.
    pub const ALL: [&str; 13] = [
        MALFORMED,
        TOO_LARGE,
        UNKNOWN_CONTENT_TYPE,
        BAD_VERSION,
        SUBJECT_MISMATCH,
        BAD_ID,
        NO_ANALYSES,
        DUPLICATE_REVIEW,
        TOO_MANY_REVIEWS,
        REVIEW_TOO_LONG,
        REVIEWS_TWICE,
        REVIEWS_MISSING,
        REVIEWS_MISMATCH,
    ];
}

/// Why a message is not worked here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Written by a newer producer: left for newer workers.
    #[error("wire version {v} is newer than this worker's; it is left for a newer one")]
    Newer {
        /// Its version.
        v: u64,
    },
    /// The same bytes will be refused again: a dead letter.
    #[error("{code}: {message}")]
    Permanent {
        /// One of [`codes`].
        code: &'static str,
        /// What is wrong and what to do. Never holds review text.
        message: String,
    },
}

impl Refusal {
    /// A permanent refusal.
    pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self::Permanent { code, message: message.into() }
    }

    pub(super) fn malformed(message: impl std::fmt::Display) -> Self {
        Self::permanent(codes::MALFORMED, format!("{message}; docs/CONTRACT.md has the fields"))
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        let code = match error {
            JobError::NoAnalyses(_) => codes::NO_ANALYSES,
            JobError::BadId { .. } => codes::BAD_ID,
            JobError::DuplicateReview { .. } => codes::DUPLICATE_REVIEW,
            JobError::TooManyReviews { .. } => codes::TOO_MANY_REVIEWS,
            JobError::ReviewTooLong { .. } => codes::REVIEW_TOO_LONG,
        };
        Self::permanent(code, error.to_string())
    }
}

/// What serde_json says, without the values it quotes.
pub(super) fn of_json(error: &serde_json::Error) -> Refusal {
    use serde_json::error::Category;
    let place = format!("line {} column {}", error.line(), error.column());
    match error.classify() {
        Category::Data => Refusal::malformed(format!("{} at {place}", harmless(&error.to_string()))),
        // Its messages about syntax are fixed texts, with the place.
        Category::Syntax | Category::Eof | Category::Io => Refusal::malformed(format!("not JSON: {error}")),
    }
}

/// What rmp_serde says, without the values it quotes. It knows no place, so the field is looked for.
pub(super) fn of_msgpack(body: &[u8], error: &rmp_serde::decode::Error) -> Refusal {
    match field_at_fault(body) {
        Some((field, reason)) => Refusal::malformed(format!("field `{field}`: {reason}")),
        None => Refusal::malformed(reason_of(error)),
    }
}

/// The first field of a job that does not decode. Only asked after decoding failed, so it may take its time.
fn field_at_fault(body: &[u8]) -> Option<(String, String)> {
    let mut found = None;
    let whole = skim::fields(body, |name, value| {
        if found.is_none() {
            found = match name {
                "v" => trouble::<u16>(value),
                "job_id" | "restaurant_id" => trouble::<String>(value),
                "restaurant_name" | "deadline" | "enqueued_at" => trouble::<Option<String>>(value),
                "epoch" => trouble::<u64>(value),
                "analyses" => trouble::<Vec<Analysis>>(value),
                "language" => trouble::<Option<Language>>(value),
                "options" => trouble::<JobOptions>(value),
                "reviews_ref" => trouble::<Option<ReviewsRef>>(value),
                "reviews" => return found = review_at_fault(value),
                _ => None,
            }
            .map(|reason| (name.to_owned(), reason));
        }
    });
    whole.ok().and(found)
}

/// The first review that does not decode; the list itself, if it is none.
pub(super) fn review_at_fault(list: &[u8]) -> Option<(String, String)> {
    let (mut index, mut found) = (0, None);
    let whole = skim::items(list, |review| {
        if found.is_none() {
            found = trouble::<Review>(review).map(|reason| (format!("reviews[{index}]"), reason));
        }
        index += 1;
    });
    match whole {
        Ok(()) => found,
        Err(flaw) => Some(("reviews".to_owned(), flaw.to_string())),
    }
}

fn trouble<T: DeserializeOwned>(value: &[u8]) -> Option<String> {
    super::unpack::<T>(value).err().map(|error| reason_of(&error))
}

fn reason_of(error: &rmp_serde::decode::Error) -> String {
    use rmp_serde::decode::Error;
    match error {
        Error::Syntax(message) => harmless(message),
        Error::OutOfRange => "the number is out of range".to_owned(),
        Error::Utf8Error(_) => "the text is not UTF-8".to_owned(),
        Error::DepthLimitExceeded => "nested too deeply".to_owned(),
        Error::LengthMismatch(_) => "a list or map of the wrong length".to_owned(),
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "the body ends in the middle".to_owned(),
        Error::TypeMismatch(_) | Error::Uncategorized(_) => "a value of the wrong type".to_owned(),
    }
}

/// Serde's messages quote the value they did not expect, and that may be a guest's words. What passes is known to
/// come from our own types: names of fields, what was expected, and the kind of what was found.
fn harmless(message: &str) -> String {
    for start in ["missing field `", "duplicate field `"] {
        if let Some(name) = message.strip_prefix(start).and_then(|rest| rest.split('`').next()) {
            return format!("{start}{name}`");
        }
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return "not the shape of a job".to_owned();
    };
    let expected = expected.split(" at line ").next().unwrap_or_default();
    let kind = ["invalid type: ", "invalid value: ", "invalid length "]
        .into_iter()
        .find_map(|start| found.strip_prefix(start))
        .and_then(|found| found.split(['`', '"']).next())
        .map(str::trim)
        .filter(|kind| {
            kind.len() <= 24 && kind.chars().all(|c| c.is_ascii_alphanumeric() || " -".contains(c))
        });
    match kind {
        Some(kind) => format!("found {kind}, expected {expected}"),
        None => format!("expected {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_holds_never_comes_back_in_the_reason() {
        for (message, reason) in [
            (
                "invalid type: string \"the soup, expected hot, was cold\", expected a sequence",
                "found string, expected a sequence",
            ),
            (
                "invalid type: integer `5`, expected a string at line 1 column 9",
                "found integer, expected a string",
            ),
            ("invalid type: unit value, expected a map", "found unit value, expected a map"),
            ("invalid length 3, expected fewer elements in map", "found 3, expected fewer elements in map"),
            (
                "unknown variant `the soup was cold`, expected one of `sentiment`, `summary`, `strengths`",
                "expected one of `sentiment`, `summary`, `strengths`",
            ),
            ("invalid value: the soup was cold and so was everything, expected u16", "expected u16"),
            ("missing field `text` at line 1 column 3", "missing field `text`"),
            ("duplicate field `v`", "duplicate field `v`"),
            ("the soup was cold", "not the shape of a job"),
        ] {
            assert_eq!(harmless(message), reason);
        }
    }

    #[test]
    fn every_code_is_in_the_contract() {
        let contract = include_str!("../../../docs/CONTRACT.md");
        for code in codes::ALL {
            assert!(contract.contains(&format!("`{code}`")), "{code}");
        }
    }
}
