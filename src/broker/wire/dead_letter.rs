//! The record of a job that was given up: everything that is needed to understand it, and to send it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{EncodeError, Encoding, Refusal, check_version, encode, refusal, unpack, version};
use crate::scheduler::Lane;

/// Why a job was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A short stable code.
    pub code: String,
    /// What is wrong and what to do. Never holds review text.
    pub message: String,
}

/// A job that was given up, as it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Wire version.
    pub v: u16,
    /// The job; absent if the body could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The restaurant; absent if the body could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restaurant_id: Option<String>,
    /// The lane it came in.
    pub lane: Lane,
    /// The stream it came from.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// Where it was published.
    pub subject: String,
    /// The consumer that delivered it.
    pub consumer: String,
    /// How often it was delivered, for whatever reason.
    pub delivered: u64,
    /// How often it failed, as far as is known.
    pub failures: u32,
    /// Why it was given up.
    pub reason: Reason,
    /// Who gave it up.
    pub worker: String,
    /// Its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The backfill that replayed it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
    /// When it was given up.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Its headers. One that occurs twice has two values.
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its body, byte for byte.
    #[serde(with = "binary")]
    pub payload: Vec<u8>,
}

impl DeadLetter {
    /// Writes the record, always as MessagePack.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        encode("dead letter", self, Encoding::Msgpack)
    }

    /// Reads a record.
    pub fn decode(body: &[u8]) -> Result<Self, Refusal> {
        check_version(version(Encoding::Msgpack, body)?)?;
        unpack(body).map_err(|error| refusal::of_msgpack(&[], &error))
    }
}

/// Bytes as MessagePack's own binary type; a derived `Vec<u8>` would be a list of numbers.
mod binary {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("binary")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
