//! The program as a person runs it: in a folder of its own, with the fetched models and the default settings.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use jsonschema::Validator;
use maitred::result::{AnalysisResult, Claim};
use maitred::stats::RunStats;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common;

/// The project's own sample reviews.
pub const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample-restaurants.jsonl");

/// The models of a test and the arguments that choose them.
#[derive(Clone, Copy)]
pub struct Models {
    arguments: &'static [&'static str],
    files: &'static [&'static str],
}

/// English, where it does not matter how well it is read.
pub const FAST: Models = Models {
    arguments: &["--model", "smollm2-135m", "--lang", "en"],
    files: &["smollm2-135m-instruct-q8_0.gguf", "all-minilm-l6-v2-f16.gguf"],
};

/// English, read well.
pub const GOOD: Models = Models {
    arguments: &["--model", "gemma-3-270m", "--lang", "en"],
    files: &["gemma-3-270m-q8_0.gguf", "all-minilm-l6-v2-f16.gguf"],
};

/// The defaults, for Korean: model and language are left to the program.
pub const KOREAN: Models =
    Models { arguments: &[], files: &["gemma-3-270m-q8_0.gguf", "multilingual-e5-small-q4_0.gguf"] };

/// Labels and counts only: the cheapest way to see that a restaurant was worked.
pub const CHEAPLY: [&str; 3] = ["--analyses", "sentiment", "--no-words"];

/// A folder with the program in it.
pub struct Place {
    folder: TempDir,
    models: PathBuf,
    arguments: &'static [&'static str],
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// A place with these models; `None`, said on stderr for each that is missing, where they are not fetched.
    pub fn with(models: Models) -> Option<Self> {
        let files: Vec<Option<PathBuf>> = models.files.iter().map(|file| common::model(file)).collect();
        let files: Vec<PathBuf> = files.into_iter().collect::<Option<_>>()?;
        let folder = files[0].parent().unwrap().to_owned();
        Some(Self {
            folder: tempfile::tempdir().unwrap(),
            models: folder.canonicalize().unwrap(),
            arguments: models.arguments,
        })
    }

    /// A place whose folder of models, `models`, is empty, and which chooses none.
    pub fn without_models() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        std::fs::create_dir(&models).unwrap();
        Self { folder, models, arguments: &[] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the models are.
    pub fn models(&self) -> &Path {
        &self.models
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The names of the files here, in order.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `maitred analyze` with these arguments, in this folder. Nothing of the user's settings reaches it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
        command
            .arg("analyze")
            .args(arguments)
            .args(self.arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("MAITRED_MODELS_DIR", &self.models);
        command
    }

    /// Runs `maitred analyze` to its end.
    pub fn analyze(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// The results in a file, each found valid, with quotes that stand in the reviews of `input`.
    pub fn results(&self, input: &str, out: &str) -> Vec<AnalysisResult> {
        self.checked(input, &std::fs::read_to_string(self.path(out)).unwrap())
    }

    /// The same for results that were printed.
    pub fn checked(&self, input: &str, lines: &str) -> Vec<AnalysisResult> {
        let texts = texts(&std::fs::read(self.path(input)).unwrap());
        lines.lines().map(|line| sound(line, &texts)).collect()
    }

    pub fn stats(&self, name: &str) -> RunStats {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

impl Ran {
    /// The run, if it ended with `code`.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Whether all of this was said on stderr.
    #[track_caller]
    pub fn told(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {:?}", self.stderr);
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A restaurant whose reviews have the ids `{id}-0`, `{id}-1`, …
pub fn restaurant(id: &str, texts: &[&str]) -> Value {
    let reviews = texts.iter().enumerate().map(|(n, text)| json!({"id": format!("{id}-{n}"), "text": text}));
    json!({"restaurant_id": id, "name": format!("The {id}"), "reviews": reviews.collect::<Vec<_>>()})
}

/// One line for each.
pub fn jsonl(restaurants: &[Value]) -> String {
    let lines: Vec<String> = restaurants.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

/// The result of a restaurant.
#[track_caller]
pub fn of<'r>(results: &'r [AnalysisResult], restaurant: &str) -> &'r AnalysisResult {
    results.iter().find(|result| result.restaurant_id == restaurant).unwrap()
}

/// Every text of a result.
pub fn claims(result: &AnalysisResult) -> impl Iterator<Item = &Claim> {
    let overall = result.summary.iter().map(|summary| &summary.overall);
    let aspects = result.summary.iter().flat_map(|summary| &summary.aspects).map(|aspect| &aspect.claim);
    let strengths = result.strengths.iter().flat_map(|found| &found.items).map(|strength| &strength.claim);
    overall.chain(aspects).chain(strengths)
}

/// Reviews by restaurant and id.
type Texts = HashMap<(String, String), String>;

/// The reviews of an input; lines that are not JSON have none.
fn texts(input: &[u8]) -> Texts {
    let mut texts = Texts::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(restaurant) = serde_json::from_slice::<Value>(line) else { continue };
        for review in restaurant["reviews"].as_array().into_iter().flatten() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            texts.insert((word(&restaurant["restaurant_id"]), word(&review["id"])), word(&review["text"]));
        }
    }
    texts
}

/// The result that a line holds, if it is valid and quotes what was written.
fn sound(line: &str, texts: &Texts) -> AnalysisResult {
    static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
        let schema = include_str!("../../../docs/result.schema.json");
        jsonschema::draft202012::new(&serde_json::from_str(schema).unwrap()).unwrap()
    });
    let value: Value = serde_json::from_str(line).unwrap();
    let faults: Vec<String> =
        SCHEMA.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(faults, [] as [String; 0], "{line}");
    let result: AnalysisResult = serde_json::from_value(value).unwrap();
    for evidence in result.evidence() {
        let key = (result.restaurant_id.clone(), evidence.review_id.clone());
        let text = texts.get(&key).unwrap_or_else(|| panic!("{evidence:?} names no review"));
        assert!(text.contains(&evidence.quote), "{evidence:?} is not in {text:?}");
    }
    if let Some(sentiment) = &result.sentiment {
        assert_eq!(sentiment.total, sentiment.positive + sentiment.negative + sentiment.neutral);
        assert_eq!(sentiment.total as usize, sentiment.reviews.len());
    }
    result
}
