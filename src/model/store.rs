//! The folder of installed models.
//!
//! Invariants:
//!
//! - A file under its final name is whole: it was written under another name, flushed to the disk and
//!   renamed. Whatever starts with a dot is work in progress.
//! - One fetch at a time writes (an advisory lock, which the system drops if the fetch dies). Readers
//!   need no lock; a file replaced under a running worker stays readable to it.
//! - A resolved model has been hashed in this call. That takes a fraction of a second, once per worker,
//!   and is what lets every result name the exact weights behind it.

mod install;
mod record;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(super) use install::Staging;
pub use record::{Provenance, Record};

use super::gguf::{Arrays, GgufError, Header, HeaderSummary};
use super::registry::is_model_file;
use super::{ModelError, ModelKind, ModelSpec, Registry, Sha256Digest};

/// A folder of models, and the registry that says what belongs there.
#[derive(Clone, Debug)]
pub struct ModelStore {
    dir: PathBuf,
    registry: &'static Registry,
}

/// A model file that exists, is whole, and has the expected content.
#[derive(Clone, Debug)]
pub struct ResolvedModel {
    /// Registry name, or file name without extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Digest of the file, computed by this resolution.
    pub sha256: Sha256Digest,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// What the model is for.
    pub kind: ModelKind,
    /// Its registry entry, if it is a known model.
    pub spec: Option<ModelSpec>,
    /// How it came here, if that is recorded.
    pub record: Option<Record>,
    /// What the file's header says.
    pub header: HeaderSummary,
}

impl ResolvedModel {
    /// What an embedding model wants before every text; empty for models not in the registry.
    pub fn text_prefix(&self) -> &str {
        let embedding = self.spec.as_ref().and_then(|spec| spec.embedding.as_ref());
        embedding.map_or("", |embedding| embedding.text_prefix.as_str())
    }
}

/// A line of `maitred model list`.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Registry name, or file name.
    pub name: String,
    /// Registry entry, if there is one.
    pub spec: Option<&'static ModelSpec>,
    /// Where it lies, or would lie.
    pub path: PathBuf,
    /// Size in bytes if it is there.
    pub bytes: Option<u64>,
}

/// A reference taken apart: which file is meant, and what is known about it.
struct Located {
    name: String,
    path: PathBuf,
    spec: Option<&'static ModelSpec>,
}

impl ModelStore {
    /// The store in `dir`, which need not exist yet, with the built-in registry.
    pub fn new(dir: PathBuf) -> Self {
        Self::with_registry(dir, Registry::builtin())
    }

    /// The store in `dir` with another registry.
    pub fn with_registry(dir: PathBuf, registry: &'static Registry) -> Self {
        Self { dir, registry }
    }

    /// The store that the environment names: `MAITRED_MODELS_DIR`, else `maitred/models` in the user's
    /// cache folder.
    pub fn from_env() -> Result<Self, ModelError> {
        default_dir(|name| std::env::var_os(name)).map(Self::new).ok_or(ModelError::NoDirectory)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The known models.
    pub fn registry(&self) -> &'static Registry {
        self.registry
    }

    /// Where the file of this name lies, or would lie.
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Finds and verifies a model. `reference` is a registry name, the name of a file in the store, or a
    /// path to any `.gguf` file.
    pub fn resolve(&self, reference: &str) -> Result<ResolvedModel, ModelError> {
        let Located { name, path, spec } = self.locate(reference)?;
        let bytes = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => return Err(self.missing(path, spec)),
        };
        let record = Record::beside(&path)?;
        let remedy = remedy(spec, record.as_ref());
        let header =
            Header::open(&path, Arrays::Skip).map_err(|cause| unusable(&path, cause, &remedy))?.summary();
        let sha256 = Sha256Digest::of_file(&path).map_err(ModelError::io("read", &path))?;
        check_origin(&path, spec, record.as_ref(), sha256, remedy)?;
        let kind = spec.map_or_else(|| kind_of(&header), |spec| spec.kind);
        Ok(ResolvedModel { name, path, sha256, bytes, kind, spec: spec.cloned(), record, header })
    }

    /// As [`resolve`](Self::resolve), and refuses a model of the other kind.
    pub fn resolve_as(&self, reference: &str, wanted: ModelKind) -> Result<ResolvedModel, ModelError> {
        let model = self.resolve(reference)?;
        if model.kind != wanted {
            return Err(ModelError::WrongKind { name: model.name, actual: model.kind, wanted });
        }
        Ok(model)
    }

    /// All known models in the order of the registry, then every other model file in the folder by name.
    /// Nothing is hashed.
    pub fn list(&self) -> Result<Vec<Installed>, ModelError> {
        let size =
            |path: &Path| std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        let mut models: Vec<Installed> = self
            .registry
            .models()
            .iter()
            .map(|spec| {
                let path = self.path_of(&spec.file);
                Installed { name: spec.name.clone(), spec: Some(spec), bytes: size(&path), path }
            })
            .collect();
        for name in self.other_files()? {
            let path = self.path_of(&name);
            models.push(Installed { name, spec: None, bytes: size(&path), path });
        }
        Ok(models)
    }

    fn other_files(&self) -> Result<Vec<String>, ModelError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ModelError::io("list", &self.dir)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ModelError::io("list", &self.dir))?;
            // A name that is not Unicode cannot be given on a command line of ours either.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_model_file(&name) && !name.starts_with('.') && self.registry.by_file(&name).is_none() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn locate(&self, reference: &str) -> Result<Located, ModelError> {
        if let Some(spec) = self.registry.get(reference) {
            return Ok(Located { name: spec.name.clone(), path: self.path_of(&spec.file), spec: Some(spec) });
        }
        let given = Path::new(reference);
        let in_store = self.path_of(reference);
        let plain = given.components().count() == 1;
        let path = if plain && !given.exists() && in_store.is_file() { in_store } else { given.to_owned() };
        let meant_as_path = is_model_file(reference) || reference.contains(std::path::MAIN_SEPARATOR);
        if !meant_as_path && !path.is_file() {
            let known: Vec<&str> = self.registry.models().iter().map(|model| model.name.as_str()).collect();
            return Err(ModelError::Unknown { reference: reference.to_owned(), known: known.join(", ") });
        }
        let spec = self.spec_of_path(&path);
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Located { name: spec.map_or(stem, |spec| spec.name.clone()), path, spec })
    }

    /// The registry entry of a file, if it lies in the store: elsewhere a name promises nothing.
    fn spec_of_path(&self, path: &Path) -> Option<&'static ModelSpec> {
        let spec = self.registry.by_file(path.file_name()?.to_str()?)?;
        let expected = self.path_of(&spec.file).canonicalize().ok()?;
        (path.canonicalize().ok()? == expected).then_some(spec)
    }

    fn missing(&self, path: PathBuf, spec: Option<&ModelSpec>) -> ModelError {
        match spec {
            Some(spec) => ModelError::NotInstalled { name: spec.name.clone(), dir: self.dir.clone() },
            None => ModelError::NoSuchFile(path),
        }
    }
}

/// The content must be what the registry pins, or, where it cannot pin, what was recorded when the file
/// was made from the payload that the registry pins.
fn check_origin(
    path: &Path,
    spec: Option<&ModelSpec>,
    record: Option<&Record>,
    actual: Sha256Digest,
    remedy: String,
) -> Result<(), ModelError> {
    let pinned = spec.and_then(|spec| spec.sha256);
    if let (Some(spec), None) = (spec, pinned) {
        let (name, path) = (spec.name.clone(), path.to_owned());
        match record.map(|record| &record.provenance) {
            None => return Err(ModelError::NoRecord { name, path }),
            Some(Provenance::Packages { payload_sha256, recipe, .. })
                if *payload_sha256 == spec.source.payload_sha256 && *recipe == spec.recipe => {}
            Some(_) => return Err(ModelError::Outdated { name, path }),
        }
    }
    match pinned.or_else(|| record.map(|record| record.sha256)) {
        Some(expected) if expected != actual => {
            Err(ModelError::WrongDigest { path: path.to_owned(), expected, actual, remedy })
        }
        _ => Ok(()),
    }
}

fn unusable(path: &Path, cause: GgufError, remedy: &str) -> ModelError {
    let remedy = match cause {
        GgufError::UnsupportedVersion(_) | GgufError::BigEndian => {
            "convert it again with a current llama.cpp".to_owned()
        }
        _ => remedy.to_owned(),
    };
    ModelError::Unusable { path: path.to_owned(), cause, remedy }
}

/// What to do about a damaged file.
fn remedy(spec: Option<&ModelSpec>, record: Option<&Record>) -> String {
    match (spec, record.map(|record| &record.provenance)) {
        (Some(spec), _) => format!("run `maitred model fetch --force {}`", spec.name),
        (None, Some(Provenance::Hub { reference, .. })) => {
            format!("run `maitred model fetch --force {reference}`")
        }
        (None, _) => "get the file again from where it came".to_owned(),
    }
}

fn kind_of(header: &HeaderSummary) -> ModelKind {
    if header.pools { ModelKind::Embedding } else { ModelKind::Language }
}

/// The folder that the environment names, by the XDG rules: a relative path there counts as unset.
fn default_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("MAITRED_MODELS_DIR") {
        return Some(dir);
    }
    let cache = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("maitred").join("models"))
}
