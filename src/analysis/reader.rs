//! Reading: from review texts to facts, by the embedding model and probes of the language model.
//!
//! A review is cut into clauses; each clause is embedded and compared with the aspects' seeds; a clause near an
//! aspect gets its polarity from a probe, and so does the review as a whole. Nothing is generated. Facts depend on
//! the text, the models, the pack and [`ReadSettings`] alone, which is what makes them cacheable for ever.

mod groups;
mod language;
mod probes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::OnceCell;

pub use self::language::{EmbedderInfo, LanguageReader, ReaderError};
use self::probes::{Plan, Target};
use super::pack::LanguagePack;
use crate::engine::{Answer, BranchAnswer, Engine, Request, RequestError, RequestTiming, Tokenizer};
use crate::job::Language;
use crate::result::Usage;
use crate::scheduler::{Arrival, Lane, Seconds, Tokens};
use crate::selection::vector::UnitVector;
use crate::store::{ClauseFacts, ReviewFacts};
use crate::text::clauses;

/// How reviews are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadSettings {
    /// When a clause is near an aspect.
    pub near: super::near::NearSettings,
    /// Where the review's own label comes from; `None`: as the language's pack says.
    pub label: Option<LabelSource>,
    /// Tokens of a review that its own probe reads at most; of a longer one the beginning and the end are read.
    pub max_review_tokens: usize,
}

/// Where a review's label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// Its clauses' probes, weighted by length; all clauses are probed then.
    Clauses,
    /// A probe of the whole text; clauses near no aspect are not probed then.
    Review,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self { near: super::near::NearSettings::default(), label: None, max_review_tokens: 384 }
    }
}

/// A request as it went, for the metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// What it was for.
    pub purpose: &'static str,
    /// Tokens.
    pub usage: crate::engine::RequestUsage,
    /// Times on the engine's clock; of a failed request only zeros.
    pub timing: RequestTiming,
    /// `ok`, or the error.
    pub outcome: Result<(), String>,
}

impl RequestRecord {
    /// Whether words were to be written; else label probabilities were read.
    pub fn is_generation(&self) -> bool {
        matches!(self.purpose, "summary" | "strengths")
    }
}

/// What reading or writing cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cost {
    /// Sums.
    pub usage: Usage,
    /// Each request.
    pub requests: Vec<RequestRecord>,
    /// From when to when reviews were selected, on the engine's clock; absent where all are read.
    pub selected: Option<(Duration, Duration)>,
}

impl Cost {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.usage.add(&other.usage);
        self.requests.extend(other.requests);
        self.selected = self.selected.or(other.selected);
    }

    /// Takes note of a request.
    pub fn note(&mut self, purpose: &'static str, outcome: &Result<Answer, RequestError>) {
        self.usage.requests += 1;
        let record = match outcome {
            Ok(answer) => {
                self.usage.prompt_tokens += u64::from(answer.usage.prompt);
                self.usage.reused_tokens += u64::from(answer.usage.reused);
                self.usage.forced_tokens += u64::from(answer.usage.forced);
                self.usage.generated_tokens += u64::from(answer.usage.generated);
                RequestRecord { purpose, usage: answer.usage, timing: answer.timing, outcome: Ok(()) }
            }
            Err(error) => RequestRecord {
                purpose,
                usage: crate::engine::RequestUsage::default(),
                timing: RequestTiming::default(),
                outcome: Err(error.to_string()),
            },
        };
        self.requests.push(record);
    }

    /// First label or token on the engine's clock.
    pub fn first_output(&self) -> Option<Duration> {
        let answered = self.requests.iter().filter(|record| record.outcome.is_ok());
        answered.map(|record| record.timing.first_output).min()
    }

    /// First admission on the engine's clock.
    pub fn first_admission(&self) -> Option<Duration> {
        let answered = self.requests.iter().filter(|record| record.outcome.is_ok());
        answered.map(|record| record.timing.admitted).min()
    }
}

/// What reading gave: one entry per text, in order.
#[derive(Debug)]
pub struct Reading {
    /// The facts, or why there are none.
    pub facts: Vec<Result<ReviewFacts, RequestError>>,
    /// What it cost.
    pub cost: Cost,
}

/// A job's place among others, given to each of its requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticket {
    /// When the job arrived and what it will cost.
    pub arrival: Arrival,
    /// Time on the engine's clock after which answers are of no use.
    pub deadline: Option<Duration>,
}

impl Ticket {
    /// For work that begins now and stands in nobody's way.
    pub fn now(engine: &Engine, lane: Lane) -> Self {
        let arrival = Arrival { at: Seconds::from(engine.now()), cost: Seconds::ZERO, lane };
        Self { arrival, deadline: None }
    }

    /// The same place with the cost of a stage of the job, as far as it is not cached.
    #[must_use]
    pub fn costing(self, seconds: f64) -> Self {
        Self { arrival: Arrival { cost: Seconds::new(seconds), ..self.arrival }, ..self }
    }
}

/// Which language model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: String,
}

/// The models, ready to read in some languages.
pub struct Reader {
    engine: Engine,
    tokenizer: Arc<dyn Tokenizer>,
    model: ModelIdentity,
    languages: BTreeMap<Language, Slot>,
    cache: Option<PathBuf>,
    settings: ReadSettings,
    group_tokens: usize,
}

/// A language that has a pack and an embedding model; prepared when it is first asked for.
struct Slot {
    pack: LanguagePack,
    embedder: EmbedderInfo,
    ready: OnceCell<LanguageReader>,
}

impl Reader {
    /// A reader over a running engine. What preparing a language finds is kept in the folder `cache`.
    pub fn new(
        engine: Engine,
        tokenizer: Arc<dyn Tokenizer>,
        model: ModelIdentity,
        languages: Vec<(LanguagePack, EmbedderInfo)>,
        cache: Option<PathBuf>,
        settings: ReadSettings,
    ) -> Self {
        let slot = |(pack, embedder): (LanguagePack, _)| {
            (pack.language, Slot { pack, embedder, ready: OnceCell::new() })
        };
        let languages = languages.into_iter().map(slot).collect();
        Self { engine, tokenizer, model, languages, cache, settings, group_tokens: usize::MAX }
    }

    /// Embeds and probes reviews in groups of about so many tokens, instead of all of a call at once. What is read does
    /// not depend on it, only when.
    #[must_use]
    pub fn in_groups_of(self, group_tokens: usize) -> Self {
        Self { group_tokens, ..self }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The language model.
    pub fn model(&self) -> &ModelIdentity {
        &self.model
    }

    /// The language model's tokenizer.
    pub fn tokenizer(&self) -> &dyn Tokenizer {
        self.tokenizer.as_ref()
    }

    /// The language, prepared at its first use: prompts registered, seeds embedded, calibrated.
    pub async fn language(&self, language: Language) -> Result<&LanguageReader, ReaderError> {
        let slot = self.languages.get(&language).ok_or(ReaderError::NoEmbedder(language.code()))?;
        slot.ready
            .get_or_try_init(|| {
                LanguageReader::prepare(
                    &self.engine,
                    self.tokenizer.as_ref(),
                    &self.model.digest,
                    slot.pack.clone(),
                    slot.embedder.clone(),
                    &self.settings,
                    self.cache.as_deref(),
                )
            })
            .await
    }

    /// How reviews are read.
    pub fn settings(&self) -> &ReadSettings {
        &self.settings
    }

    /// Where labels of reviews come from in this language.
    fn label_source(&self, reader: &LanguageReader) -> LabelSource {
        self.settings.label.unwrap_or(reader.pack.polarity.label_from)
    }

    /// Tokens that reading the texts will put through the model: exact, by its own tokenizer.
    pub fn cost_of<'t>(&self, reader: &LanguageReader, texts: impl Iterator<Item = &'t str>) -> Tokens {
        let question = reader.question_tokens();
        let mut tokens = Tokens::default();
        let mut probe = |text: &str| {
            let body = self.tokenizer.tokenize(&reader.pack.polarity_body(text), false).len();
            tokens.fed += (body.min(self.settings.max_review_tokens) + question) as u64;
            tokens.read += 1;
        };
        for text in texts {
            match self.label_source(reader) {
                LabelSource::Review => probe(text),
                LabelSource::Clauses => {
                    for range in clauses::split(text, &reader.pack.clauses) {
                        probe(&text[range]);
                    }
                }
            }
        }
        tokens
    }

    /// The probes that reading the text takes, where the label comes from the clauses (not so in Korean): all of them are probed then,
    /// whatever they are near to.
    pub fn probes(&self, reader: &LanguageReader, text: &str, ticket: Ticket) -> Vec<Request> {
        let clauses = clauses::split(text, &reader.pack.clauses);
        let plan = Plan::new(self, reader, text, clauses.into_iter().map(|range| (range, None)).collect());
        plan.requests(self, reader, ticket).map(|(_, request)| request).collect()
    }

    /// Reads the texts. A text that fails, fails alone; dropping the future cancels.
    pub async fn read(&self, reader: &LanguageReader, texts: &[&str], ticket: Ticket) -> Reading {
        let groups = groups::cut(texts, self.group_tokens);
        let groups = groups.into_iter().map(|group| self.read_group(reader, group, ticket));
        let mut reading = Reading { facts: Vec::with_capacity(texts.len()), cost: Cost::default() };
        for group in futures_util::future::join_all(groups).await {
            reading.facts.extend(group.facts);
            reading.cost.add(group.cost);
        }
        reading
    }

    async fn read_group(&self, reader: &LanguageReader, texts: &[&str], ticket: Ticket) -> Reading {
        let mut cost = Cost::default();
        let cuts: Vec<_> = texts.iter().map(|text| clauses::split(text, &reader.pack.clauses)).collect();
        let clause_texts: Vec<&str> = texts
            .iter()
            .zip(&cuts)
            .flat_map(|(text, ranges)| ranges.iter().map(|range| &text[range.clone()]))
            .collect();
        cost.usage.embedded_texts += clause_texts.len() as u32;
        let vectors = match self.embed(reader, &clause_texts, ticket).await {
            Ok(vectors) => vectors,
            Err(error) => return Reading { facts: texts.iter().map(|_| Err(error.clone())).collect(), cost },
        };
        let mut vectors = vectors.into_iter();
        let mut plans: Vec<Plan> = texts
            .iter()
            .zip(cuts)
            .map(|(text, ranges)| {
                let embedded = ranges.into_iter().map(|range| (range, vectors.next().flatten())).collect();
                Plan::new(self, reader, text, embedded)
            })
            .collect();
        let mut targets: Vec<(usize, Target)> = Vec::new();
        let mut requests = Vec::new();
        for (index, plan) in plans.iter().enumerate() {
            for (target, request) in plan.requests(self, reader, ticket) {
                targets.push((index, target));
                requests.push(request);
            }
        }
        for ((index, target), outcome) in targets.into_iter().zip(self.engine.run(requests).await) {
            cost.note("facts", &outcome);
            plans[index].take(target, outcome.map(|answer| leaning(&answer)), reader);
        }
        let neutral = reader.calibration.neutral;
        Reading {
            facts: plans.into_iter().map(|plan| plan.finish(self.label_source(reader), neutral)).collect(),
            cost,
        }
    }

    /// Unit embeddings; `None` where the model gives no direction.
    pub async fn embed(
        &self,
        reader: &LanguageReader,
        texts: &[&str],
        ticket: Ticket,
    ) -> Result<Vec<Option<UnitVector>>, RequestError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = texts.iter().map(|text| reader.embedder.tokens(text)).collect();
        let vectors = self.engine.embed(reader.embedder.index, tokens, ticket.arrival).await?;
        Ok(vectors.into_iter().map(UnitVector::new).collect())
    }

    /// Calibrated probability that each text is positive.
    pub async fn polarity(
        &self,
        reader: &LanguageReader,
        texts: &[&str],
        ticket: Ticket,
        purpose: &'static str,
        cost: &mut Cost,
    ) -> Vec<Result<f32, RequestError>> {
        let requests = texts.iter().map(|text| {
            let body = self.tokenizer.tokenize(&reader.pack.polarity_body(text), false);
            reader.probe(body, ticket)
        });
        let outcomes = self.engine.run(requests.collect()).await;
        outcomes
            .into_iter()
            .map(|outcome| {
                cost.note(purpose, &outcome);
                outcome.map(|answer| reader.calibration.probability(leaning(&answer)))
            })
            .collect()
    }
}

/// `ln P(positive) − ln P(negative)` of a polarity probe.
fn leaning(answer: &Answer) -> f32 {
    match answer.branches.first() {
        // Labels are registered as positive, negative.
        Some(BranchAnswer::Probe(log)) if log.len() == 2 => log[0] - log[1],
        _ => 0.0,
    }
}

/// Facts of a text in which there is nothing to read.
fn nothing_to_read(tokens: u32) -> ReviewFacts {
    ReviewFacts { tokens, p_positive: None, clauses: Vec::<ClauseFacts>::new(), vector: Vec::new() }
}
