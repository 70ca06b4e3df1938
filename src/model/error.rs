//! What can be wrong with a model that was asked for.
//!
//! Every message ends with what to do; where a command helps, it is spelled out so that it can be copied.
//! Messages are complete in themselves: what lies beneath is part of the text (`cause`), not a link of an
//! error chain that would print it a second time.

use std::io;
use std::path::{Path, PathBuf};

use super::gguf::GgufError;
use super::{ModelKind, Sha256Digest};

/// Why a reference did not resolve to a usable model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Neither a known name nor a file.
    #[error(
        "{reference:?} is neither a known model nor a .gguf file; known models: {known}; see `maitred model list`"
    )]
    Unknown {
        /// What was asked for.
        reference: String,
        /// All names, with commas.
        known: String,
    },
    /// Known, but not on this machine.
    #[error("model {name} is not installed in {}; run `maitred model fetch {name}`", dir.display())]
    NotInstalled {
        /// Name in the registry.
        name: String,
        /// The store's folder.
        dir: PathBuf,
    },
    /// A path that leads nowhere.
    #[error("there is no model file at {}; give a path to a .gguf file, or a name from `maitred model list`", .0.display())]
    NoSuchFile(PathBuf),
    /// The file is cut off, or no GGUF file, or of a version that nothing reads.
    #[error("{} cannot be used: {cause}; {remedy}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: GgufError,
        /// What to do.
        remedy: String,
    },
    /// The content is not what it should be.
    #[error("{} has sha256 {}…, expected {}…; {remedy}", path.display(), actual.short(), expected.short())]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What the registry or the record states.
        expected: Sha256Digest,
        /// What the file has.
        actual: Sha256Digest,
        /// What to do.
        remedy: String,
    },
    /// A file under a known name whose origin is not recorded, and cannot be told from its digest.
    #[error("nothing records how {} was made; run `maitred model fetch --force {name}`", path.display())]
    NoRecord {
        /// Name in the registry.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Made from a payload other than the one this program knows.
    #[error("{} was made from other weights than this version wants; run `maitred model fetch --force {name}`", path.display())]
    Outdated {
        /// Name in the registry.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Language model wanted, embedding model given, or the other way round.
    #[error(
        "model {name} is an {actual} model, a {wanted} model is needed here; `maitred model list` shows which are"
    )]
    WrongKind {
        /// Name of the model.
        name: String,
        /// What it is.
        actual: ModelKind,
        /// What was needed.
        wanted: ModelKind,
    },
    /// The record beside a model is damaged.
    #[error("{} is damaged: {cause}; remove it and fetch the model again", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What the parser says.
        cause: serde_json::Error,
    },
    /// No place for models: neither variable is set.
    #[error("where do models belong? set MAITRED_MODELS_DIR, XDG_CACHE_HOME or HOME")]
    NoDirectory,
    /// The file system refused.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

impl ModelError {
    /// For `map_err`: the system's refusal, with what was tried on what.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |cause| Self::Io { action, path, cause }
    }

    /// Whether fetching the model (again) helps.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Unusable { .. }
                | Self::WrongDigest { .. }
                | Self::NoRecord { .. }
                | Self::Outdated { .. }
                | Self::Record { .. }
        )
    }
}
