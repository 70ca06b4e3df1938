//! What outlives a job: facts, vectors and last results (all of it can be lost: only time is), and metrics.
//!
//! Two traits with a home for a single machine here and a home for a fleet (Redis, Postgres) beside them.

pub mod breaker;
mod codec;
#[cfg(test)]
mod contract;
pub mod home;
mod lru;
pub mod memory;
pub mod metric_writer;
pub mod metrics;
pub mod postgres;
pub mod redis;
pub mod sqlite;

use std::fmt::Display;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::result::AnalysisResult;
use crate::selection::representative::Representative;

/// Identity of a reading: the same models, prompts and text give the same facts for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// Digest of (language model, embedding model, prompts and aspects, language): one per run and language.
    pub reader: String,
    /// Digest of the review's text.
    pub text: String,
}

/// What the models said of one clause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClauseFacts {
    /// First byte in the review's text.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Indices into the configured aspects that the clause is near to, nearest first.
    pub aspects: Vec<u16>,
    /// Calibrated probability that it is positive; absent if it was not asked.
    pub p_positive: Option<f32>,
    /// Unit embedding as little-endian f16; empty if the clause is near no aspect.
    #[serde(with = "serde_bytes_compat")]
    pub vector: Vec<u8>,
}

/// What the models said of one review.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewFacts {
    /// Tokens of the text by the language model's own tokenizer.
    pub tokens: u32,
    /// Calibrated probability that the review is positive; absent if there is nothing to read in it.
    pub p_positive: Option<f32>,
    /// Its clauses with something to read, in order.
    pub clauses: Vec<ClauseFacts>,
    /// Unit embedding of the review as little-endian f16; empty if there is nothing to read.
    #[serde(with = "serde_bytes_compat")]
    pub vector: Vec<u8>,
}

/// MessagePack `bin` instead of an array of integers: a third of the size.
mod serde_bytes_compat {
    use serde::{Deserializer, Serializer, de};
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// The earlier result of a restaurant, kept to say `unchanged` and to carry texts over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastResult {
    /// The reader and settings under which it was made; another reader's result is not comparable.
    pub reader: String,
    /// The result as published.
    pub result: AnalysisResult,
}

/// Running totals of one aspect over the fleet's restaurants: what distinctness is measured against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct AspectRate {
    /// Restaurants counted.
    pub restaurants: u32,
    /// Their reviews.
    pub reviews: u64,
    /// Of those, the reviews that praise the aspect.
    pub positive: u64,
}

/// Why a store call did not work. Callers compute instead and go on.
#[derive(Debug, thiserror::Error)]
#[error("{store}: {message}")]
pub struct StoreError {
    /// Which store.
    pub store: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// Whether the store itself has logged it: one that is left alone for a while says so once, not at every call.
    pub is_told: bool,
}

impl StoreError {
    /// A failure that nobody has logged yet.
    pub fn new(store: &'static str, message: impl Display) -> Self {
        Self { store, message: message.to_string(), is_told: false }
    }

    /// Logs the failure with what follows from it, where it is handled.
    pub fn tell(&self, consequence: &'static str) {
        if self.is_told {
            tracing::debug!(error = %self, "{consequence}");
        } else {
            tracing::warn!(error = %self, "{consequence}");
        }
    }
}

/// Home of facts and of what is derived from them.
pub trait FactStore: Send + Sync + 'static {
    /// The facts of each key, in order; `None` where they are not known.
    fn get_many(
        &self,
        keys: &[FactKey],
    ) -> impl Future<Output = Result<Vec<Option<ReviewFacts>>, StoreError>> + Send;
    /// Whether facts of each key are known, in order, without fetching them: what a job will cost.
    fn known_many(&self, keys: &[FactKey]) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;
    /// Keeps facts. Keeping the same key twice is harmless.
    fn put_many(
        &self,
        facts: Vec<(FactKey, ReviewFacts)>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The earlier result of a restaurant.
    fn last_result(
        &self,
        restaurant: &str,
    ) -> impl Future<Output = Result<Option<LastResult>, StoreError>> + Send;
    /// The epoch of the earlier result, without fetching it: a job of an older one is stale.
    fn last_epoch(&self, restaurant: &str) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;
    /// Replaces the earlier result of a restaurant, unless that is of a newer epoch.
    fn put_last_result(&self, last: LastResult) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Running totals of every aspect under `reader`, without `restaurant`'s own share.
    fn aspect_rates(
        &self,
        reader: &str,
        restaurant: &str,
        aspects: usize,
    ) -> impl Future<Output = Result<Vec<AspectRate>, StoreError>> + Send;
    /// Replaces `restaurant`'s share in the running totals: its reviews, and per aspect those that praise it.
    fn put_aspect_counts(
        &self,
        reader: &str,
        restaurant: &str,
        reviews: u64,
        positive: &[u64],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The restaurant's representative vector of `model`.
    fn representative(
        &self,
        restaurant: &str,
        model: &str,
    ) -> impl Future<Output = Result<Option<Representative>, StoreError>> + Send;
    /// Replaces the restaurant's representative vector of `new.model`, if the kept one still has the digest `expected`
    /// (`None`: if there is none). Whether it was replaced: of several writers that began with the same one, one wins.
    fn put_representative(
        &self,
        restaurant: &str,
        expected: Option<&str>,
        new: &Representative,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
