//! Typed settings, validated once.
//!
//! Two steps: [`layers`] merges defaults, file, environment and flags and refuses keys that do not exist;
//! [`Settings`] is what the validated values mean. After [`Config::load`] nobody checks a setting again.
//! Every key, its default and its meaning stand in `config/defaults.toml` beside this file, and only there.

mod engine;
mod fleet;
mod layers;
mod reader;
mod secret;
mod telemetry;
mod watchdog;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::engine::{ALL_LAYERS, EngineKind, EngineSettings};
pub use self::fleet::{
    CrashPoint, HealthSettings, LaneWeights, NatsSettings, PostgresSettings, RedisSettings, SimSettings,
    WorkerSettings,
};
pub use self::layers::Entry;
use self::layers::Layers;
use self::reader::Reader;
pub use self::secret::{Secret, SecretError, SecretUrl};
pub use self::telemetry::TelemetrySettings;
pub use self::watchdog::{GpuSettings, StopHook, WatchdogSettings};
use crate::analysis::Thresholds;
use crate::analysis::reader::LabelSource;
use crate::job::{Analysis, Language, Limits, Scope};
use crate::scheduler::Order;

/// Settings in force, and where each comes from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The validated settings.
    pub settings: Settings,
    entries: BTreeMap<String, Entry>,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Folder with prompts, labels, aspects and seeds instead of the built-in ones.
    pub prompts_dir: Option<PathBuf>,
    /// Which models read.
    pub models: ModelSettings,
    /// How the models run.
    pub engine: EngineSettings,
    /// In which order jobs run.
    pub scheduler: SchedulerSettings,
    /// What is asked and when it is reported.
    pub analysis: AnalysisSettings,
    /// What a job may hold.
    pub limits: Limits,
    /// What outlives a run.
    pub store: StoreSettings,
    /// What counts as good service.
    pub goodput: GoodputSettings,
    /// Where jobs come from and results go to.
    pub nats: NatsSettings,
    /// The fleet's facts and vectors.
    pub redis: RedisSettings,
    /// The fleet's metrics.
    pub postgres: PostgresSettings,
    /// How a worker takes and holds jobs.
    pub worker: WorkerSettings,
    /// Where a worker tells how it is.
    pub health: HealthSettings,
    /// Metrics and traces.
    pub telemetry: TelemetrySettings,
    /// How GPUs are looked at.
    pub gpu: GpuSettings,
    /// When an idle worker ends.
    pub watchdog: WatchdogSettings,
    /// The engine without a model.
    pub sim: SimSettings,
    /// What reports go by.
    pub report: ReportSettings,
    /// Logs.
    pub log: LogSettings,
}

/// `[models]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSettings {
    /// Folder of fetched models; `None`: the user's data folder.
    pub dir: Option<PathBuf>,
    /// Name or path of the language model.
    pub language: String,
    /// Name or path of the embedding model; `None`: chosen by the reviews' language.
    pub embedding: Option<String>,
}

/// `[scheduler]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SchedulerSettings {
    /// The order.
    pub order: Order,
    /// Seconds of standing back per second of expected cost.
    pub lambda: f64,
}

/// `[analysis]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisSettings {
    /// Which reviews the model reads.
    pub scope: Scope,
    /// What is asked when a job does not say; never empty, without repeats, in the order of [`Analysis::ALL`].
    pub analyses: Vec<Analysis>,
    /// Language of the reviews; `None`: detected.
    pub language: Option<Language>,
    /// Reviews that selection keeps.
    pub top_k: usize,
    /// Whether the model writes claims.
    pub words: bool,
    /// Reviews that must say it before it is reported.
    pub min_support: u32,
    /// Strengths given at most.
    pub max_strengths: usize,
    /// Where a review's label comes from; `None`: as the language's prompts say.
    pub label_from: Option<LabelSource>,
    /// Labels of reviews.
    pub review: Thresholds,
    /// Log odds from the model's neutral point at which a clause has a label.
    pub clause_margin: f32,
    /// Tokens of reviews that are embedded and probed together, about.
    pub group_tokens: usize,
    /// Restaurants in work at the same time.
    pub concurrent_restaurants: usize,
}

/// Where facts are kept between runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// Beside the output file; nowhere if there is none.
    Auto,
    /// Nowhere.
    None,
    /// Here.
    At(PathBuf),
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where facts are kept between runs.
    pub cache: Cache,
    /// Bytes for facts and vectors in memory.
    pub memory_limit: usize,
}

/// `[goodput]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoodputSettings {
    /// Longest time to the first answer that counts as good service.
    pub ttft: Duration,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// What is worth a line.
    pub level: tracing::Level,
    /// How it looks.
    pub format: LogFormat,
    /// File that gets a line for each decode call; `None`: nothing does.
    pub steps: Option<PathBuf>,
}

/// `[report]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReportSettings {
    /// What an hour of a worker costs; `None`: not known.
    pub cost_per_hour: Option<f64>,
}

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Dotted key.
    pub key: &'static str,
    /// The flag as a person types it.
    pub flag: &'static str,
    /// The value as text.
    pub value: String,
}

/// One value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` = `{value}` ({origin}): {message}")]
pub struct Problem {
    /// Dotted key.
    pub key: String,
    /// The value found.
    pub value: String,
    /// Where it comes from.
    pub origin: String,
    /// What is allowed.
    pub message: String,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{path}`: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file `{path}` is not valid TOML: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The layers do not go together.
    #[error("the configuration cannot be put together: {0}")]
    Merge(String),
    /// Values or keys that cannot be used, all of them.
    #[error("the configuration cannot be used:\n  {}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n  "))]
    Problems(Vec<Problem>),
}

impl Config {
    /// Merges and validates. `environment` is any list of variables; those without the prefix are ignored.
    pub fn load(
        file: Option<&Path>,
        environment: &[(String, String)],
        flags: &[Override],
    ) -> Result<Self, ConfigError> {
        let layers = Layers::merge(file, environment, flags)?;
        let settings = Settings::validate(&layers)?;
        Ok(Self { settings, entries: layers.in_force })
    }

    /// Every key with its value in force, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }
}

/// The configuration file to read: the one named, else `maitred.toml` in `directory`, else
/// `maitred/config.toml` in `config_home`. A named file need not exist: reading it then says so.
pub fn locate(named: Option<&Path>, directory: &Path, config_home: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    let here = Some(directory.join("maitred.toml"));
    let home = config_home.map(|home| home.join("maitred/config.toml"));
    [here, home].into_iter().flatten().find(|path| path.is_file())
}

impl Default for Settings {
    fn default() -> Self {
        // Without other layers only defaults.toml is read, which `the_defaults_are_valid` reads too.
        Config::load(None, &[], &[]).expect("the defaults are valid").settings
    }
}

impl Settings {
    /// Short digest of what bears on speed and findings: workers with the same one can be compared. Names, addresses
    /// and secrets are not in it.
    pub fn fingerprint(&self) -> String {
        let parts =
            (&self.prompts_dir, &self.models, &self.engine, &self.scheduler, &self.analysis, &self.limits);
        let held = (self.goodput, self.worker.slots, self.worker.look_ahead, self.worker.weights, self.sim);
        let mut digest = crate::digest::text_digest(&format!("{parts:?} {held:?}"));
        digest.truncate(12);
        digest
    }

    fn validate(layers: &Layers) -> Result<Self, ConfigError> {
        let mut read = Reader::new(layers);
        let settings = Self {
            prompts_dir: unless(read.text("prompts_dir"), "built-in").map(PathBuf::from),
            models: ModelSettings {
                dir: unless(read.text("models.dir"), "auto").map(PathBuf::from),
                language: read.text("models.language"),
                embedding: unless(read.text("models.embedding"), "auto"),
            },
            engine: EngineSettings::read(&mut read),
            scheduler: SchedulerSettings {
                order: read
                    .word("scheduler.order", &[("prefill_cost", Order::PrefillCost), ("fifo", Order::Fifo)]),
                lambda: read.number("scheduler.lambda", 0.0..=1e6),
            },
            analysis: AnalysisSettings::read(&mut read),
            limits: Limits {
                reviews_per_job: read.number("limits.reviews_per_job", 1..=10_000_000),
                chars_per_review: read.number("limits.chars_per_review", 1..=100_000_000),
                bytes_per_job: read.bytes("limits.bytes_per_job"),
                bytes_per_id: read.number("limits.bytes_per_id", 8..=1024),
            },
            store: StoreSettings {
                cache: match read.text("store.cache").as_str() {
                    "auto" => Cache::Auto,
                    "none" => Cache::None,
                    path => Cache::At(path.into()),
                },
                memory_limit: read.bytes("store.memory_limit"),
            },
            goodput: GoodputSettings { ttft: read.duration("goodput.ttft") },
            nats: NatsSettings::read(&mut read),
            redis: RedisSettings::read(&mut read),
            postgres: PostgresSettings::read(&mut read),
            worker: WorkerSettings::read(&mut read),
            health: HealthSettings::read(&mut read),
            telemetry: TelemetrySettings::read(&mut read),
            gpu: GpuSettings::read(&mut read),
            watchdog: WatchdogSettings::read(&mut read),
            sim: SimSettings::read(&mut read),
            report: ReportSettings::read(&mut read),
            log: LogSettings::read(&mut read),
        };
        if settings.sim.crash_at.is_some() && settings.engine.backend == EngineKind::Llama {
            read.problem("sim.crash_at", "use it with engine.backend = \"sim\" only".to_owned());
        }
        read.finish(settings)
    }
}

impl AnalysisSettings {
    fn read(read: &mut Reader<'_>) -> Self {
        let analysis = Self {
            scope: read.word("analysis.scope", &[("all", Scope::All), ("selected", Scope::Selected)]),
            analyses: read.value(
                "analysis.analyses",
                "at least one of sentiment, summary, strengths",
                parse_analyses,
            ),
            language: read.word(
                "analysis.language",
                &[("auto", None), ("en", Some(Language::En)), ("ko", Some(Language::Ko))],
            ),
            top_k: read.number("analysis.top_k", 1..=10_000),
            words: read.switch("analysis.words"),
            min_support: read.number("analysis.min_support", 1..=10_000),
            max_strengths: read.number("analysis.max_strengths", 1..=100),
            label_from: read.word(
                "analysis.label_from",
                &[
                    ("auto", None),
                    ("clauses", Some(LabelSource::Clauses)),
                    ("review", Some(LabelSource::Review)),
                ],
            ),
            review: Thresholds {
                positive: read.number("analysis.positive_threshold", 0.0..=1.0),
                negative: read.number("analysis.negative_threshold", 0.0..=1.0),
            },
            clause_margin: read.number("analysis.clause_margin", 0.0..=10.0),
            group_tokens: read.number("analysis.group_tokens", 1..=1_000_000),
            concurrent_restaurants: read.number("analysis.concurrent_restaurants", 1..=1024),
        };
        if analysis.review.negative >= analysis.review.positive {
            let allowed =
                format!("use a number below `analysis.positive_threshold` ({})", analysis.review.positive);
            read.problem("analysis.negative_threshold", allowed);
        }
        analysis
    }
}

impl ReportSettings {
    fn read(read: &mut Reader<'_>) -> Self {
        let cost_per_hour = read.value("report.cost_per_hour", "a price above zero, or \"none\"", |text| {
            let price =
                |text: &str| text.parse().ok().filter(|price: &f64| price.is_finite() && *price > 0.0);
            if text == "none" { Some(None) } else { price(text).map(Some) }
        });
        Self { cost_per_hour }
    }
}

impl LogSettings {
    fn read(read: &mut Reader<'_>) -> Self {
        use tracing::Level;
        Self {
            level: read.word(
                "log.level",
                &[
                    ("error", Level::ERROR),
                    ("warn", Level::WARN),
                    ("info", Level::INFO),
                    ("debug", Level::DEBUG),
                    ("trace", Level::TRACE),
                ],
            ),
            format: read.word("log.format", &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]),
            steps: unless(read.text("log.steps"), "none").map(PathBuf::from),
        }
    }
}

/// `None` if the text is the word that stands for "not set".
fn unless(text: String, word: &str) -> Option<String> {
    (text != word).then_some(text)
}

/// Reads a comma-separated list; the order of asking does not matter and repeats count once.
fn parse_analyses(text: &str) -> Option<Vec<Analysis>> {
    let asked = text.split(',').map(|name| name.parse().ok()).collect::<Option<Vec<Analysis>>>()?;
    Some(Analysis::ALL.into_iter().filter(|a| asked.contains(a)).collect())
}

#[cfg(test)]
mod tests;
