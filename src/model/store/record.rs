//! The record beside an installed model: where it came from and what it was when it came.
//!
//! `<file>.json`, so that a person can read it and a copy of the folder carries it along.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::model::{ModelError, Recipe, Sha256Digest};

const SCHEMA: u32 = 1;

/// Where an installed file came from and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    /// Registry name, for models of the registry.
    pub model: Option<String>,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Digest of the file.
    pub sha256: Sha256Digest,
    /// Where it came from.
    pub provenance: Provenance,
    /// When it was installed, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub installed_at: OffsetDateTime,
    /// The program that installed it.
    pub made_by: String,
}

/// Where a file came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Provenance {
    /// Packages of the Python package index.
    Packages {
        /// `name==version`, in the order of joining.
        packages: Vec<String>,
        /// Digest of the published payload.
        payload_sha256: Sha256Digest,
        /// What was done to it.
        recipe: Recipe,
    },
    /// A file of a Hugging Face repository.
    Hub {
        /// `hf:OWNER/REPO/FILE@revision`.
        reference: String,
        /// The commit that the revision meant then.
        commit: Option<String>,
        /// Whether the hub stated the digest, or it was only recorded on first use.
        digest_stated: bool,
    },
}

impl Record {
    /// A record of a file that is being installed now.
    pub fn new(
        model: Option<String>,
        bytes: u64,
        sha256: Sha256Digest,
        provenance: Provenance,
        installed_at: OffsetDateTime,
    ) -> Self {
        let made_by = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { schema: SCHEMA, model, bytes, sha256, provenance, installed_at, made_by }
    }

    /// The record beside `model`, if there is one.
    pub fn beside(model: &Path) -> Result<Option<Self>, ModelError> {
        let path = Self::path(model);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ModelError::io("read", &path)(error)),
        };
        match serde_json::from_slice(&text) {
            Ok(record) => Ok(Some(record)),
            Err(cause) => Err(ModelError::Record { path, cause }),
        }
    }

    /// Where the record of `model` lies.
    pub fn path(model: &Path) -> PathBuf {
        let mut path = OsString::from(model);
        path.push(".json");
        path.into()
    }

    /// The text of the record's file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Invariant: plain strings and numbers; nothing in a record can fail to serialize.
        let mut text = serde_json::to_vec_pretty(self).expect("a record is plain data");
        text.push(b'\n');
        text
    }
}
