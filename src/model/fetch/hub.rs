//! Downloading one file of a Hugging Face repository.
//!
//! The client is the `hf-hub` crate; endpoint and token come from [`HubConfig`]. It caches under the etag of each file, which for large files *is* the
//! SHA-256 of the content: so the digest that the hub states comes for free, as the name of the blob.
//!
//! The cache is a folder of the store that outlives a failed fetch, so a download of gigabytes goes on
//! where it stopped; it is removed when the file is installed.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::{FetchError, FetchEvent, Fetcher, Made, Outcome, Stage, Watcher, begin};
use crate::model::registry::is_model_file;
use crate::model::{ModelError, Provenance, Record, Sha256Digest};

const CACHE: &str = ".hub";
const SCHEME: &str = "hf:";
const DEFAULT_REVISION: &str = "main";

/// Which hub, and as whom.
#[derive(Clone, Default)]
pub struct HubConfig {
    /// Base address of a mirror; the client's own default if absent.
    pub endpoint: Option<String>,
    /// Access token, for private and gated repositories.
    pub token: Option<String>,
}

impl HubConfig {
    /// `HF_ENDPOINT` and `HF_TOKEN`, or the token file of the Python client.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| variable(name)?.into_string().ok().filter(|value| !value.trim().is_empty());
        let home = variable("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache").join("huggingface")));
        let stored = || fs::read_to_string(home?.join("token")).ok();
        let token = text("HF_TOKEN").or_else(stored).map(|token| token.trim().to_owned());
        Self { endpoint: text("HF_ENDPOINT"), token: token.filter(|token| !token.is_empty()) }
    }
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("HubConfig").field("endpoint", &self.endpoint).field("token", &token).finish()
    }
}

/// `hf:OWNER/REPO/FILE.gguf[@REVISION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    repository: String,
    file: String,
    revision: String,
}

impl HubReference {
    /// Whether a text claims to be a hub reference.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Name of the file in the store: the last part of its path in the repository.
    pub fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}@{}", self.repository, self.file, self.revision)
    }
}

impl FromStr for HubReference {
    type Err = FetchError;

    /// Checks every part, because the client puts them into URLs and paths as they are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || FetchError::Reference(text.to_owned());
        let rest = text.strip_prefix(SCHEME).ok_or_else(refused)?;
        let (path, revision) = rest.rsplit_once('@').unwrap_or((rest, DEFAULT_REVISION));
        let parts: Vec<&str> = path.split('/').collect();
        let [owner, repository, file @ ..] = parts.as_slice() else { return Err(refused()) };
        let is_gguf = file.last().is_some_and(|name| is_model_file(name));
        if !is_gguf || !parts.iter().all(|part| is_plain(part)) || !is_plain(revision) {
            return Err(refused());
        }
        Ok(Self {
            repository: format!("{owner}/{repository}"),
            file: file.join("/"),
            revision: revision.to_owned(),
        })
    }
}

/// A part of a URL path that needs no escaping and leads nowhere else; no hidden file either.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

impl Fetcher<'_> {
    /// Fetches a file of a hub repository into the store, under its own name.
    ///
    /// It is checked against the digest that the hub states. Small files have none; theirs is recorded
    /// now, and holds from here on.
    pub fn fetch_hub(
        &self,
        reference: &HubReference,
        watch: &mut Watcher<'_>,
    ) -> Result<Outcome, FetchError> {
        let staging = self.store.stage(|| begin(watch, Stage::Waiting, None))?;
        let file = reference.file_name();
        if let Some(path) = self.present_from_hub(reference)? {
            return Ok(Outcome::Present(path));
        }
        let cache = self.store.path_of(CACHE);
        if self.force {
            discard(&cache)?;
        }
        begin(watch, Stage::Download(reference.to_string()), None);
        let pointer = download(&self.hub, reference, &cache, watch)?;
        let blob = Blob::of(reference, &pointer)?;
        begin(watch, Stage::Install, None);
        let made = blob.verify(reference)?;
        let provenance = Provenance::Hub {
            reference: reference.to_string(),
            commit: blob.commit.clone(),
            digest_stated: blob.stated.is_some(),
        };
        let outcome = self.install(&staging, &made, file, None, provenance);
        discard(&cache)?;
        outcome
    }

    fn present_from_hub(&self, reference: &HubReference) -> Result<Option<PathBuf>, FetchError> {
        let file = reference.file_name();
        let taken = |by: String| FetchError::Taken { file: file.to_owned(), by };
        // A known model's file name promises known weights: not even --force gives it away.
        if let Some(spec) = self.store.registry().by_file(file) {
            return Err(taken(format!("the known model {}", spec.name)));
        }
        let path = self.store.path_of(file);
        if self.force || !path.exists() {
            return Ok(None);
        }
        match Record::beside(&path)?.map(|record| record.provenance) {
            Some(Provenance::Hub { reference: from, .. }) if from == reference.to_string() => {}
            Some(Provenance::Hub { reference: from, .. }) => return Err(taken(from)),
            _ => return Err(taken("a file of unknown origin".to_owned())),
        }
        // By path: a bare name could also mean a file in the current folder.
        self.present(&path.to_string_lossy())
    }
}

/// A downloaded file in the cache.
struct Blob {
    path: PathBuf,
    /// The digest that the hub stated, if its etag was one.
    stated: Option<Sha256Digest>,
    commit: Option<String>,
}

impl Blob {
    /// Follows the client's pointer `snapshots/COMMIT/FILE` to `blobs/ETAG`.
    fn of(reference: &HubReference, pointer: &Path) -> Result<Self, FetchError> {
        let path = pointer.canonicalize().map_err(ModelError::io("read", pointer))?;
        let etag = path.file_name().unwrap_or_default().to_string_lossy();
        let depth = reference.file.split('/').count();
        let commit = pointer.ancestors().nth(depth).and_then(Path::file_name);
        Ok(Self {
            stated: etag.parse().ok(),
            commit: commit.map(|name| name.to_string_lossy().into_owned()),
            path,
        })
    }

    fn verify(&self, reference: &HubReference) -> Result<Made, FetchError> {
        let actual = Sha256Digest::of_file(&self.path).map_err(ModelError::io("read", &self.path))?;
        match self.stated {
            Some(expected) if expected != actual => {
                // Resuming from wrong bytes would never end.
                let _ = fs::remove_file(&self.path);
                Err(FetchError::Payload { model: reference.to_string(), expected, actual })
            }
            _ => Ok(Made { path: self.path.clone(), sha256: actual }),
        }
    }
}

fn download(
    config: &HubConfig,
    reference: &HubReference,
    cache: &Path,
    watch: &mut Watcher<'_>,
) -> Result<PathBuf, FetchError> {
    let failed = |error: ApiError| hub_error(reference, error);
    // Not `ApiBuilder::from_env`: it panics where there is no home folder.
    let mut builder = ApiBuilder::from_cache(Cache::new(cache.to_owned()))
        .with_progress(false)
        .with_token(config.token.clone());
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let repo = Repo::with_revision(reference.repository.clone(), RepoType::Model, reference.revision.clone());
    let repo = builder.build().map_err(failed)?.repo(repo);
    let progress = Relay { watch, label: reference.to_string(), done: 0 };
    repo.download_with_progress(&reference.file, progress).map_err(failed)
}

/// Passes the client's progress on.
struct Relay<'a, 'b> {
    watch: &'a mut Watcher<'b>,
    label: String,
    done: u64,
}

impl Progress for Relay<'_, '_> {
    fn init(&mut self, size: usize, _filename: &str) {
        self.done = 0;
        begin(self.watch, Stage::Download(self.label.clone()), Some(size as u64));
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.watch)(FetchEvent::Bytes(self.done));
    }

    fn finish(&mut self) {}
}

fn hub_error(reference: &HubReference, error: ApiError) -> FetchError {
    let why = error.to_string();
    let status = match error {
        ApiError::RequestError(request) => request.into_response().map(|response| response.status()),
        _ => None,
    };
    let advice = match status {
        Some(404) => "check owner, repository, file and revision",
        Some(401 | 403) => "the repository is private or gated: accept its terms on the hub and set HF_TOKEN",
        Some(416) => "the partial download is unusable; run the command again with --force",
        _ => {
            "check the network, and HF_ENDPOINT if a mirror is meant; running it again continues the download"
        }
    };
    FetchError::Hub { reference: reference.to_string(), why, advice }
}

fn discard(cache: &Path) -> Result<(), ModelError> {
    match fs::remove_dir_all(cache) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ModelError::io("clear", cache)(error))
        }
        _ => Ok(()),
    }
}
