//! Messages to jobs and results, and back.
//!
//! Pure: bytes in, values out. The bytes may come from anybody, so decoding never panics, never takes more memory than
//! a small multiple of the body, and never repeats the body in an error. The version is read before anything else: a
//! newer job whose fields have changed is left for newer workers, it is not malformed.
//!
//! MessagePack with named fields is what maitred writes. JSON is read as well, so that a person can publish with any
//! client, and is answered in JSON. `docs/CONTRACT.md` is the public form of this module.

mod dead_letter;
mod refusal;
mod skim;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::dead_letter::{DeadLetter, Reason};
pub use self::refusal::{Refusal, codes};
use super::names;
use crate::job::{Analysis, Job, Limits, Review, WIRE_VERSION};
use crate::result::AnalysisResult;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// MessagePack with named fields.
    #[default]
    Msgpack,
    /// JSON.
    Json,
}

impl Encoding {
    /// The media type to write into the headers.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Msgpack => names::MSGPACK,
            Self::Json => names::JSON,
        }
    }

    /// The encoding of a body: as its media type says, parameters aside; without one, by its first character. `None`
    /// for a media type that is not read.
    pub fn of(content_type: Option<&str>, body: &[u8]) -> Option<Self> {
        let media_type = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        match media_type.to_ascii_lowercase().as_str() {
            "" if begins_object(body) => Some(Self::Json),
            // `{` is a small number in MessagePack, and no job is one.
            "" | names::MSGPACK | "application/x-msgpack" | "application/vnd.msgpack" => Some(Self::Msgpack),
            names::JSON | "text/json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A message, as far as the codec needs it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// Where it was published.
    pub subject: &'m str,
    /// The header `Content-Type`.
    pub content_type: Option<&'m str>,
    /// The body.
    pub body: &'m [u8],
}

/// A job, and how it was written: its result is written the same way.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The job, checked. While `reviews_ref` stands for its reviews, those are not: [`attach_reviews`].
    pub job: Job,
    /// How it was written.
    pub encoding: Encoding,
}

/// A value that cannot be written: a time without a year of four digits, say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode the {what}: {message}")]
pub struct EncodeError {
    what: &'static str,
    message: String,
}

/// Reads and checks a job.
pub fn decode_job(message: Message<'_>, limits: &Limits) -> Result<Decoded, Refusal> {
    check_size(message.body.len() as u64, limits)?;
    let encoding = encoding_of(message.content_type, message.body)?;
    check_version(version(encoding, message.body)?)?;
    let job: Job = match encoding {
        Encoding::Msgpack => unpack_job(message.body, limits)?,
        Encoding::Json => serde_json::from_slice(message.body).map_err(|error| refusal::of_json(&error))?,
    };
    let job = check(job, limits)?;
    check_subject(message.subject, &job.restaurant_id)?;
    Ok(Decoded { job, encoding })
}

/// Reads the reviews that `job.reviews_ref` stands for into the job, and checks it as a whole. The bytes are taken for
/// those that the reference names: whoever fetched them has compared their digest.
pub fn attach_reviews(mut job: Job, object: &[u8], limits: &Limits) -> Result<Job, Refusal> {
    let Some(reference) = job.reviews_ref.take() else { return Ok(job) };
    check_size(object.len() as u64, limits)?;
    skim::items(object, |_| ()).map_err(Refusal::malformed)?;
    check_count(skim::length(object).unwrap_or_default(), limits)?;
    let reviews: Vec<Review> = unpack(object).map_err(|_| {
        let (field, reason) = refusal::review_at_fault(object).unwrap_or_default();
        Refusal::malformed(format!("field `{field}`: {reason}"))
    })?;
    if reviews.len() != reference.reviews {
        return Err(Refusal::permanent(
            codes::REVIEWS_MISMATCH,
            format!(
                "the object holds {} reviews, the job says {}; write the object before the job and name it by its digest",
                reviews.len(),
                reference.reviews
            ),
        ));
    }
    job.reviews = reviews;
    check(job, limits)
}

/// Writes a job.
pub fn encode_job(job: &Job, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    encode("job", job, encoding)
}

/// Writes the reviews of a job as they stand in an object.
pub fn encode_reviews(reviews: &[Review]) -> Result<Vec<u8>, EncodeError> {
    encode("reviews", &reviews, Encoding::Msgpack)
}

/// Writes a result.
pub fn encode_result(result: &AnalysisResult, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    encode("result", result, encoding)
}

/// Reads a result.
pub fn decode_result(content_type: Option<&str>, body: &[u8]) -> Result<AnalysisResult, Refusal> {
    let encoding = encoding_of(content_type, body)?;
    check_version(version(encoding, body)?)?;
    match encoding {
        Encoding::Msgpack => unpack(body).map_err(|error| refusal::of_msgpack(body, &error)),
        Encoding::Json => serde_json::from_slice(body).map_err(|error| refusal::of_json(&error)),
    }
}

fn encode<T: Serialize>(what: &'static str, value: &T, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    let written = match encoding {
        Encoding::Msgpack => rmp_serde::to_vec_named(value).map_err(|error| error.to_string()),
        Encoding::Json => serde_json::to_vec(value).map_err(|error| error.to_string()),
    };
    written.map_err(|message| EncodeError { what, message })
}

/// Decodes a document that [`skim`] has passed, or a part of one.
fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    // The decoder counts each struct and option as a level of its own.
    decoder.set_max_depth(4 * skim::MAX_DEPTH);
    T::deserialize(&mut decoder)
}

fn unpack_job(body: &[u8], limits: &Limits) -> Result<Job, Refusal> {
    // Tiny reviews take ten times their bytes in memory, so they are counted before they are decoded.
    let mut reviews = 0;
    skim::fields(body, |name, value| {
        if name == "reviews" {
            reviews = skim::length(value).unwrap_or_default();
        }
    })
    .map_err(Refusal::malformed)?;
    check_count(reviews, limits)?;
    unpack(body).map_err(|error| refusal::of_msgpack(body, &error))
}

fn check_count(reviews: usize, limits: &Limits) -> Result<(), Refusal> {
    if reviews <= limits.reviews_per_job {
        return Ok(());
    }
    let max = limits.reviews_per_job;
    let message =
        format!("{reviews} reviews, the limit is {max}; split the job or raise `limits.reviews_per_job`");
    Err(Refusal::permanent(codes::TOO_MANY_REVIEWS, message))
}

fn check_size(bytes: u64, limits: &Limits) -> Result<(), Refusal> {
    if bytes <= limits.bytes_per_job as u64 {
        return Ok(());
    }
    let max = limits.bytes_per_job;
    let message = format!("{bytes} bytes, the limit is {max}; split the job or raise `limits.bytes_per_job`");
    Err(Refusal::permanent(codes::TOO_LARGE, message))
}

fn encoding_of(content_type: Option<&str>, body: &[u8]) -> Result<Encoding, Refusal> {
    Encoding::of(content_type, body).ok_or_else(|| {
        let told: String =
            content_type.unwrap_or_default().chars().take(60).flat_map(char::escape_debug).collect();
        let message = format!("content type `{told}`; write {} or {}", names::MSGPACK, names::JSON);
        Refusal::permanent(codes::UNKNOWN_CONTENT_TYPE, message)
    })
}

/// The version that a body says it has. Nothing else of it is decoded, but its structure is walked to the end.
fn version(encoding: Encoding, body: &[u8]) -> Result<u64, Refusal> {
    match encoding {
        Encoding::Msgpack => {
            let mut found = Vec::new();
            skim::fields(body, |name, value| found.extend((name == "v").then_some(value)))
                .map_err(Refusal::malformed)?;
            match found[..] {
                [] => Err(Refusal::malformed("missing field `v`")),
                [value] => skim::unsigned(value)
                    .ok_or_else(|| Refusal::malformed("field `v`: expected a whole number")),
                _ => Err(Refusal::malformed("duplicate field `v`")),
            }
        }
        Encoding::Json => {
            #[derive(serde::Deserialize)]
            struct Head {
                v: u64,
            }
            // Serde would take a list for the fields in their order.
            if !begins_object(body) {
                return Err(Refusal::malformed("expected a JSON object"));
            }
            serde_json::from_slice(body).map(|Head { v }| v).map_err(|error| refusal::of_json(&error))
        }
    }
}

fn begins_object(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

fn check_version(v: u64) -> Result<(), Refusal> {
    match v {
        0 => Err(Refusal::permanent(codes::BAD_VERSION, format!("version 0; write {WIRE_VERSION}"))),
        v if v > u64::from(WIRE_VERSION) => Err(Refusal::Newer { v }),
        _ => Ok(()),
    }
}

fn check(mut job: Job, limits: &Limits) -> Result<Job, Refusal> {
    job.validate(limits)?;
    let mut asked = Vec::with_capacity(Analysis::ALL.len());
    job.analyses.retain(|analysis| {
        !asked.contains(analysis) && {
            asked.push(*analysis);
            true
        }
    });
    for review in &mut job.reviews {
        // As in files: what is no rating counts as none given, and a vector with a hole in it as absent.
        review.rating = review.rating.filter(|stars| *stars > 0.0 && *stars <= 5.0);
        review.embedding = review.embedding.take().filter(|vector| vector.iter().all(|x| x.is_finite()));
    }
    let Some(reference) = &job.reviews_ref else { return Ok(job) };
    if !job.reviews.is_empty() {
        let message = "reviews in the job and by reference; write either `reviews` or `reviews_ref`";
        return Err(Refusal::permanent(codes::REVIEWS_TWICE, message));
    }
    check_size(reference.bytes, limits)?;
    check_count(reference.reviews, limits)?;
    let is_digest =
        |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest(&reference.sha256) || reference.object.is_empty() || reference.object.len() > 256 {
        return Err(Refusal::malformed(
            "field `reviews_ref`: expected an object's name and its SHA-256 in lower-case hex",
        ));
    }
    Ok(job)
}

/// A job belongs under its own restaurant's subject: coalescing, permissions and `--restaurant` go by subjects.
fn check_subject(subject: &str, restaurant: &str) -> Result<(), Refusal> {
    let token = subject.rsplit('.').next().unwrap_or_default();
    if token == restaurant {
        return Ok(());
    }
    let token: String = token.chars().take(40).flat_map(char::escape_debug).collect();
    let message =
        format!("published for `{token}`, but the job's restaurant is `{restaurant}`; use its own subject");
    Err(Refusal::permanent(codes::SUBJECT_MISMATCH, message))
}

#[cfg(test)]
mod tests;
