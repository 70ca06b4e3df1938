//! The claim check: what is too large for a message lies in the object bucket, and the message says where.
//!
//! - An object's name is the SHA-256 of its bytes, so putting the same bytes again is harmless, and a name can only
//!   stand for one content. Objects are written before the message that names them.
//! - What is fetched is compared with the digest in the message. A difference is permanent: the bytes will not
//!   change. An object that is missing may still come (a copy that lags behind, a producer that wrote in the wrong
//!   order), so that is worth a few tries before it is a dead letter.
//! - A job's reviews are an object of their own, so that id, restaurant and epoch can be read without it. Of a result
//!   or a dead letter the whole body is one.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::object_store::{GetError, GetErrorKind, ObjectInfo, ObjectMetadata, ObjectStore};
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;

use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::wire::{self, EncodeError, Refusal, codes};
use crate::digest::bytes_digest;
use crate::job::{Job, Limits, ReviewsRef};

/// Bytes of a part of an object, where messages may be that large.
const PART_BYTES: usize = 128 << 10;
/// An object younger than this is not written again. Older ones are: the bucket forgets by age.
const FRESH: time::Duration = time::Duration::HOUR;
/// A fetch that takes longer has failed: with a part missing, the client waits for ever.
const FETCH_LIMIT: Duration = Duration::from_mins(1);
/// Bytes of a body that is fetched for a result or a dead letter; they are never near this.
const MAX_BODY: u64 = 256 << 20;
/// Bytes of a message that are not ours to use: the line before the headers, and room for the unforeseen.
const RESERVED: usize = 64;

/// Why what a message refers to is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It will be refused again: a dead letter.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is not there. Worth a few tries; then a dead letter with the code `reviews_missing`.
    #[error("object `{0}` is not in the bucket {bucket}; write the object before the message", bucket = names::OBJECTS_BUCKET)]
    Missing(String),
    /// The servers could not be asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl PayloadError {
    /// The code and the message of a dead letter that is written for this, now or after too many tries.
    pub fn reason(&self) -> (&'static str, String) {
        match self {
            Self::Refused(Refusal::Permanent { code, message }) => (code, message.clone()),
            Self::Refused(Refusal::Newer { .. }) | Self::Missing(_) | Self::Broker(_) => {
                (codes::REVIEWS_MISSING, self.to_string())
            }
        }
    }
}

/// Why a job cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The servers do not take it, or not now.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// How a request failed.
pub(super) fn failed<E>(what: &'static str) -> impl FnOnce(E) -> BrokerError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |cause| BrokerError::request(what)(Box::new(cause))
}

impl Broker {
    /// The job's body, with its reviews in an object if it would be too large beside `headers`.
    pub(super) async fn job_body(&self, job: &Job, headers: &HeaderMap) -> Result<Vec<u8>, SendError> {
        let body = wire::encode_job(job, wire::Encoding::Msgpack)?;
        if self.fits(headers, body.len()) || job.reviews.is_empty() {
            return Ok(body);
        }
        let reviews = wire::encode_reviews(&job.reviews)?;
        let name = self.put_object(&reviews).await?;
        let reference = ReviewsRef {
            object: name.clone(),
            sha256: name,
            bytes: reviews.len() as u64,
            reviews: job.reviews.len(),
        };
        let mut light = Job { reviews: Vec::new(), ..job.clone() };
        light.reviews_ref = Some(reference);
        Ok(wire::encode_job(&light, wire::Encoding::Msgpack)?)
    }

    /// Fetches the reviews that the job refers to, if it does, and checks the job as a whole.
    pub async fn with_reviews(&self, job: Job, limits: &Limits) -> Result<Job, PayloadError> {
        let Some(reference) = &job.reviews_ref else { return Ok(job) };
        let object = self.fetch(&reference.object, &reference.sha256, limits.bytes_per_job as u64).await?;
        Ok(wire::attach_reviews(job, &object, limits)?)
    }

    /// Publishes a message and waits for the server's word that it is stored. A body that is too large goes to an
    /// object first.
    pub(super) async fn publish(
        &self,
        subject: String,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<PublishAck, BrokerError> {
        let mut body = Bytes::from(body);
        if !self.fits(&headers, body.len()) {
            let name = self.put_object(&body).await?;
            headers.insert(names::BODY_OBJECT, name.as_str());
            headers.insert(names::BODY_SHA256, name.as_str());
            body = Bytes::new();
        }
        self.jetstream
            .publish_with_headers(subject, headers, body)
            .await
            .map_err(failed("cannot publish"))?
            .await
            .map_err(|error| match error.kind() {
                PublishErrorKind::StreamNotFound => {
                    BrokerError::Missing { what: "the stream of the subject".to_owned() }
                }
                _ => failed("a published message was not confirmed")(error),
            })
    }

    /// The body that a message has or refers to.
    pub(super) async fn body_of(&self, headers: &HeaderMap, body: Bytes) -> Result<Bytes, PayloadError> {
        let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        let Some(object) = header(names::BODY_OBJECT) else { return Ok(body) };
        let sha256 = header(names::BODY_SHA256).unwrap_or_default();
        Ok(self.fetch(object, sha256, MAX_BODY).await?.into())
    }

    /// Whether headers and body may go into one message.
    fn fits(&self, headers: &HeaderMap, body: usize) -> bool {
        // `name: value` and a line break each.
        let size = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            values
                .iter()
                .map(|value| AsRef::<[u8]>::as_ref(name).len() + value.as_str().len() + 4)
                .sum::<usize>()
        };
        let headers: usize = headers.iter().map(size).sum();
        headers + body + RESERVED <= self.max_payload()
    }

    /// Puts the bytes into the bucket; their name.
    async fn put_object(&self, bytes: &[u8]) -> Result<String, BrokerError> {
        let name = bytes_digest(bytes);
        let bucket = self.objects().await?;
        if bucket.info(&name).await.is_ok_and(|info| is_fresh(&info, bytes.len())) {
            return Ok(name);
        }
        let part = PART_BYTES.min(self.max_payload() / 2);
        let about =
            ObjectMetadata { name: name.clone(), chunk_size: Some(part), ..ObjectMetadata::default() };
        let mut rest = bytes;
        bucket.put(about, &mut rest).await.map_err(failed("cannot write an object"))?;
        Ok(name)
    }

    async fn fetch(&self, name: &str, sha256: &str, max: u64) -> Result<Vec<u8>, PayloadError> {
        let fetched = tokio::time::timeout(FETCH_LIMIT, self.get_object(name, max)).await;
        let bytes = fetched.map_err(failed("an object did not arrive"))??;
        if bytes_digest(&bytes) == sha256 {
            return Ok(bytes);
        }
        let message = format!("object `{name}` is not the one that the message means: its SHA-256 differs");
        Err(Refusal::permanent(codes::REVIEWS_MISMATCH, message).into())
    }

    async fn get_object(&self, name: &str, max: u64) -> Result<Vec<u8>, PayloadError> {
        let bucket = self.objects().await?;
        let object = bucket.get(name).await.map_err(|error| not_got(name, error))?;
        let size = object.info().size as u64;
        if size > max {
            let message = format!("object `{name}` has {size} bytes, the limit is {max}");
            return Err(Refusal::permanent(codes::TOO_LARGE, message).into());
        }
        let mut bytes = Vec::with_capacity(object.info().size);
        // What an object says of itself is not what limits it.
        let read = object.take(max + 1).read_to_end(&mut bytes).await;
        match read {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let message = format!("object `{name}` is damaged: it does not have its own digest");
                Err(Refusal::permanent(codes::REVIEWS_MISMATCH, message).into())
            }
            Err(error) => Err(failed("cannot read an object")(error).into()),
        }
    }

    async fn objects(&self) -> Result<ObjectStore, BrokerError> {
        let bucket = self.jetstream.get_object_store(names::OBJECTS_BUCKET).await;
        bucket.map_err(|_| BrokerError::Missing { what: format!("the bucket {}", names::OBJECTS_BUCKET) })
    }
}

fn is_fresh(info: &ObjectInfo, bytes: usize) -> bool {
    let now = OffsetDateTime::now_utc();
    !info.deleted && info.size == bytes && info.modified.is_some_and(|at| now - at < FRESH)
}

fn not_got(name: &str, error: GetError) -> PayloadError {
    match error.kind() {
        GetErrorKind::NotFound => {
            PayloadError::Missing(name.chars().take(64).flat_map(char::escape_debug).collect())
        }
        GetErrorKind::InvalidName | GetErrorKind::BucketLink => {
            let message = "the name of the object is none that can be read; use letters, digits, `-`, `_`, `=`, `/`, `.`";
            Refusal::permanent(codes::MALFORMED, message).into()
        }
        GetErrorKind::ConsumerCreate | GetErrorKind::Other | GetErrorKind::TimedOut => {
            failed("cannot read an object")(error).into()
        }
    }
}
