//! The job: one restaurant's reviews and what is asked of them.
//!
//! Wire types only. They know nothing of brokers, models or stores. MessagePack with named fields and JSON are
//! both accepted; unknown fields are ignored so that an older worker can read a newer producer's job.

use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Version of the wire format written by this build. A reader leaves larger versions for newer workers.
pub const WIRE_VERSION: u16 = 1;

/// What can be asked of a restaurant's reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    /// Positive, negative and neutral counts with per-review labels.
    Sentiment,
    /// Findings per aspect, each with verbatim evidence, and an overall text.
    Summary,
    /// What guests repeatedly praise, and where the restaurant stands out.
    Strengths,
}

impl Analysis {
    /// Every analysis, in the order in which results show them.
    pub const ALL: [Self; 3] = [Self::Sentiment, Self::Summary, Self::Strengths];

    /// The name on the wire and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sentiment => "sentiment",
            Self::Summary => "summary",
            Self::Strengths => "strengths",
        }
    }
}

/// Languages with prompts, clause rules and seeds in `config/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    En,
    /// Korean.
    Ko,
}

impl Language {
    /// The ISO 639-1 code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ko => "ko",
        }
    }
}

/// Which reviews the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every review, once in its life: exact counts.
    #[default]
    All,
    /// Only the selected ones: cheaper at first sight of a restaurant; counts are a sample and say so.
    Selected,
}

impl Scope {
    /// The name on the wire and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Selected => "selected",
        }
    }
}

macro_rules! parse_by_name {
    ($type:ty, $what:literal, [$($value:expr => $name:expr),+ $(,)?]) => {
        impl std::str::FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $(name if name == $name => Ok($value),)+
                    other => Err(format!(
                        concat!("unknown ", $what, " `{}`: use one of {}"),
                        other,
                        [$($name),+].join(", "),
                    )),
                }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(value if *value == $value => $name,)+ _ => "" })
            }
        }
    };
}

parse_by_name!(Analysis, "analysis", [
    Self::Sentiment => Self::Sentiment.name(), Self::Summary => Self::Summary.name(),
    Self::Strengths => Self::Strengths.name(),
]);
parse_by_name!(Language, "language", [Self::En => "en", Self::Ko => "ko"]);
parse_by_name!(Scope, "scope", [Self::All => "all", Self::Selected => "selected"]);

/// One review as the platform holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// Unique within the job.
    pub id: String,
    /// The guest's words, never changed: evidence is cut from this text by byte offsets.
    pub text: String,
    /// Stars, 1 to 5, if the guest gave any. Never shown to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<f32>,
    /// Whether the guest recommends the restaurant; weighs in the representative vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<bool>,
    /// When it was written (UTC). RFC 3339 or a plain date; an unreadable date counts as unknown.
    #[serde(
        default,
        deserialize_with = "lenient_time",
        serialize_with = "optional_rfc3339",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_at: Option<OffsetDateTime>,
    /// An embedding made elsewhere with the same model, to save computing it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
}

/// Per-job settings; what is absent follows the worker's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobOptions {
    /// How many reviews selection keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Which reviews the model reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether claims are written by the model (`false`: extractive only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<bool>,
}

/// Reviews that are too many for one message: an object in the object store holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewsRef {
    /// Name of the object.
    pub object: String,
    /// SHA-256 of its bytes, as lower-case hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// How many reviews it holds.
    pub reviews: usize,
}

/// One restaurant's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Wire version, [`WIRE_VERSION`] when written by this build.
    pub v: u16,
    /// Identity of the job; results are idempotent by it.
    pub job_id: String,
    /// Identity of the restaurant; safe as a subject token.
    pub restaurant_id: String,
    /// Name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restaurant_name: Option<String>,
    /// Grows with every change of the restaurant's reviews; of two jobs in hand the newer one runs.
    #[serde(default)]
    pub epoch: u64,
    /// What is asked, without repeats.
    pub analyses: Vec<Analysis>,
    /// The reviews, all of them; empty while `reviews_ref` stands for them.
    #[serde(default)]
    pub reviews: Vec<Review>,
    /// Where the reviews are, if not in the job itself. Resolved at intake, before anything reads the reviews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviews_ref: Option<ReviewsRef>,
    /// Language of the reviews; detected when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// After this time the result is of no use.
    #[serde(
        default,
        deserialize_with = "lenient_time",
        serialize_with = "optional_rfc3339",
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<OffsetDateTime>,
    /// Per-job settings.
    #[serde(default)]
    pub options: JobOptions,
    /// When the producer made the job (UTC).
    #[serde(
        default,
        deserialize_with = "lenient_time",
        serialize_with = "optional_rfc3339",
        skip_serializing_if = "Option::is_none"
    )]
    pub enqueued_at: Option<OffsetDateTime>,
}

/// What a job may hold. What breaks a limit is refused at first sight, with the limit in the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Reviews in one job.
    pub reviews_per_job: usize,
    /// Characters of one review.
    pub chars_per_review: usize,
    /// Bytes of one input line or message.
    pub bytes_per_job: usize,
    /// Bytes of an id.
    pub bytes_per_id: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { reviews_per_job: 10_000, chars_per_review: 20_000, bytes_per_job: 64 << 20, bytes_per_id: 128 }
    }
}

/// Why a job cannot be worked, ever. Permanent: retrying the same bytes gives the same error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// No analysis was asked for.
    #[error("restaurant `{0}`: no analysis asked for; name at least one of sentiment, summary, strengths")]
    NoAnalyses(String),
    /// An id that cannot be a subject token or a key.
    #[error(
        "{what} `{id}` has characters that are not allowed; use 1 to {max} letters, digits, `-`, `_`, `:` or `@`"
    )]
    BadId {
        /// Which id.
        what: &'static str,
        /// The id, shortened and escaped.
        id: String,
        /// Greatest length in bytes.
        max: usize,
    },
    /// Two reviews share an id, so evidence could not name its review.
    #[error("restaurant `{restaurant}`: review id `{id}` occurs twice; give every review an id of its own")]
    DuplicateReview {
        /// The restaurant.
        restaurant: String,
        /// The repeated id.
        id: String,
    },
    /// Too many reviews.
    #[error(
        "restaurant `{restaurant}`: {found} reviews, the limit is {max}; split the job or raise `limits.reviews_per_job`"
    )]
    TooManyReviews {
        /// The restaurant.
        restaurant: String,
        /// How many there are.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// One review is too long.
    #[error(
        "restaurant `{restaurant}`: review `{id}` has {found} characters, the limit is {max}; shorten it or raise `limits.chars_per_review`"
    )]
    ReviewTooLong {
        /// The restaurant.
        restaurant: String,
        /// The review.
        id: String,
        /// Its characters.
        found: usize,
        /// Allowed characters.
        max: usize,
    },
}

impl Job {
    /// Checks the job against `limits`.
    pub fn validate(&self, limits: &Limits) -> Result<(), JobError> {
        check_id("restaurant id", &self.restaurant_id, limits.bytes_per_id)?;
        check_id("job id", &self.job_id, limits.bytes_per_id)?;
        if self.analyses.is_empty() {
            return Err(JobError::NoAnalyses(self.restaurant_id.clone()));
        }
        if self.reviews.len() > limits.reviews_per_job {
            return Err(JobError::TooManyReviews {
                restaurant: self.restaurant_id.clone(),
                found: self.reviews.len(),
                max: limits.reviews_per_job,
            });
        }
        let mut seen = std::collections::HashSet::with_capacity(self.reviews.len());
        for review in &self.reviews {
            check_id("review id", &review.id, limits.bytes_per_id)?;
            if !seen.insert(review.id.as_str()) {
                return Err(JobError::DuplicateReview {
                    restaurant: self.restaurant_id.clone(),
                    id: review.id.clone(),
                });
            }
            // Bytes bound characters from above, so the exact count is only made for suspects.
            if review.text.len() > limits.chars_per_review {
                let found = review.text.chars().count();
                if found > limits.chars_per_review {
                    return Err(JobError::ReviewTooLong {
                        restaurant: self.restaurant_id.clone(),
                        id: review.id.clone(),
                        found,
                        max: limits.chars_per_review,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Ids become subject tokens and keys: no blanks, dots, wildcards or control characters.
pub(crate) fn check_id(what: &'static str, id: &str, max: usize) -> Result<(), JobError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ':' | '@');
    if !id.is_empty() && id.len() <= max && id.chars().all(allowed) {
        return Ok(());
    }
    let shown: String = id.chars().take(40).flat_map(char::escape_debug).collect();
    Err(JobError::BadId { what, id: shown, max })
}

/// Reads RFC 3339, `YYYY-MM-DD HH:MM[:SS]` or `YYYY-MM-DD`; anything else is unknown, not an error: a date only
/// weighs, and a review with an odd date is still a review. A year before Christ is odd: it could not be written again.
pub fn parse_time(text: &str) -> Option<OffsetDateTime> {
    read_time(text.trim()).filter(|at| (0..=9999).contains(&at.year()))
}

fn read_time(text: &str) -> Option<OffsetDateTime> {
    use time::macros::format_description;
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(at);
    }
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let minutes = format_description!("[year]-[month]-[day] [hour]:[minute]");
    let plain = text.replace('T', " ");
    time::PrimitiveDateTime::parse(&plain, seconds)
        .or_else(|_| time::PrimitiveDateTime::parse(&plain, minutes))
        .map(time::PrimitiveDateTime::assume_utc)
        .ok()
        .or_else(|| {
            let day = time::Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
            Some(day.midnight().assume_utc())
        })
}

fn lenient_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(parse_time))
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn optional_rfc3339<S: serde::Serializer>(
    at: &Option<OffsetDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::Error;
    match at {
        Some(at) => serializer.serialize_str(&at.format(&Rfc3339).map_err(S::Error::custom)?),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let review = |id: &str| Review {
            id: id.into(),
            text: "good".into(),
            rating: None,
            recommended: None,
            created_at: None,
            embedding: None,
        };
        Job {
            v: WIRE_VERSION,
            job_id: "j-1".into(),
            restaurant_id: "r-1".into(),
            restaurant_name: None,
            epoch: 0,
            analyses: Analysis::ALL.to_vec(),
            reviews: vec![review("a"), review("b")],
            reviews_ref: None,
            language: None,
            deadline: None,
            options: JobOptions::default(),
            enqueued_at: None,
        }
    }

    #[test]
    fn a_sound_job_is_accepted() {
        assert_eq!(job().validate(&Limits::default()), Ok(()));
    }

    #[test]
    fn a_repeated_review_id_is_refused_by_name() {
        let mut job = job();
        job.reviews[1].id = "a".into();
        let error = job.validate(&Limits::default()).unwrap_err();
        assert!(matches!(error, JobError::DuplicateReview { ref id, .. } if id == "a"), "{error}");
    }

    #[test]
    fn ids_that_would_break_a_subject_are_refused() {
        for bad in ["", "a b", "a.b", "a>b", "a*b", "a\nb", "a/b"] {
            let mut job = job();
            job.restaurant_id = bad.into();
            assert!(
                matches!(job.validate(&Limits::default()), Err(JobError::BadId { .. })),
                "{bad:?} passed"
            );
        }
        let mut job = job();
        job.restaurant_id = "한식당-1".into();
        assert_eq!(job.validate(&Limits::default()), Ok(()));
    }

    #[test]
    fn a_review_over_the_limit_is_counted_in_characters_not_bytes() {
        let limits = Limits { chars_per_review: 4, ..Limits::default() };
        let mut job = job();
        job.reviews[0].text = "맛있다!".into();
        assert_eq!(job.validate(&limits), Ok(()));
        job.reviews[0].text = "맛있다!!".into();
        assert!(matches!(job.validate(&limits), Err(JobError::ReviewTooLong { found: 5, max: 4, .. })));
    }

    #[test]
    fn dates_come_in_several_forms_and_nonsense_is_unknown() {
        assert!(parse_time("2019-05-25T15:54:00Z").is_some());
        assert!(parse_time("2019-05-25 15:54").is_some());
        assert!(parse_time("2019-05-25").is_some());
        assert_eq!(parse_time("last Tuesday"), None);
    }

    #[test]
    fn a_job_survives_both_codecs_and_ignores_unknown_fields() {
        let job = job();
        let packed = rmp_serde::to_vec_named(&job).unwrap();
        assert_eq!(rmp_serde::from_slice::<Job>(&packed).unwrap(), job);
        let mut json = serde_json::to_value(&job).unwrap();
        json["a_field_of_the_future"] = 1.into();
        assert_eq!(serde_json::from_value::<Job>(json).unwrap(), job);
    }
}
