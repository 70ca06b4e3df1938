//! One language made ready on the loaded models: prefixes registered, labels checked, seeds embedded, calibrated.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::calibration::Calibration;
use super::super::near::{AspectSpace, WordList};
use super::super::pack::LanguagePack;
use super::{ReadSettings, Ticket, leaning};
use crate::digest::text_digest;
use crate::engine::{
    Branch, Engine, Labels, PrefixId, Request, RequestError, Span, Token, TokenSet, Tokenizer,
};
use crate::result::Polarity;
use crate::scheduler::Lane;
use crate::selection::vector::UnitVector;

/// Why a language cannot be read with these models.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The engine failed at start.
    #[error("preparing {language}: {cause}")]
    Engine {
        /// The language.
        language: &'static str,
        /// What happened.
        cause: RequestError,
    },
    /// There is no embedding model for the language.
    #[error("no embedding model for `{0}` is installed; run `maitred model fetch` or set models.embedding")]
    NoEmbedder(&'static str),
    /// The labels' spellings cannot be told apart by this model's tokenizer.
    #[error("the labels `{0}` and `{1}` cannot be told apart by this model; change [polarity] in prompts")]
    Labels(String, String),
    /// The model's readings of the calibration sentences are no numbers, or the seeds have no direction.
    #[error("the models give no usable readings for {0}: check them with `maitred model info`")]
    Unusable(&'static str),
}

/// An embedding model as the reader uses it.
#[derive(Debug, Clone)]
pub struct EmbedderInfo {
    /// Its index in the engine.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// What it wants before each text.
    pub text_prefix: String,
    /// Its tokenizer.
    pub tokenizer: Arc<dyn Tokenizer>,
}

impl EmbedderInfo {
    /// Tokens of a text as the model wants it.
    pub fn tokens(&self, text: &str) -> Vec<Token> {
        let line = super::super::pack::one_line(text);
        self.tokenizer.tokenize(&format!("{}{line}", self.text_prefix), true)
    }
}

/// A language ready to be read.
pub struct LanguageReader {
    /// Prompts, aspects, rules.
    pub pack: LanguagePack,
    /// The embedding model.
    pub embedder: EmbedderInfo,
    /// The aspects' seeds.
    pub space: AspectSpace,
    /// The label map.
    pub calibration: Calibration,
    /// Identity of everything that facts depend on.
    pub reader: String,
    polarity: Prompt,
    labels: Arc<Labels>,
    claim: Prompt,
    line_end: Arc<TokenSet>,
}

struct Prompt {
    prefix: PrefixId,
    question: Vec<Token>,
}

impl Prompt {
    fn request(&self, body: Vec<Token>, branch: Branch, ticket: Ticket) -> Request {
        let Ticket { arrival, deadline } = ticket;
        Request { arrival, prefix: Some(self.prefix), body, branches: vec![branch], deadline }
    }
}

/// What is found at start and kept for the next start.
#[derive(Serialize, Deserialize)]
struct Prepared {
    calibration: Calibration,
    seeds: Vec<Vec<Vec<f32>>>,
}

impl LanguageReader {
    /// Registers prompts, checks labels, embeds seeds and calibrates; what was found is kept in `cache`, keyed by
    /// everything it depends on. `settings` are how reviews will be read.
    pub async fn prepare(
        engine: &Engine,
        tokenizer: &dyn Tokenizer,
        model_digest: &str,
        pack: LanguagePack,
        embedder: EmbedderInfo,
        settings: &ReadSettings,
        cache: Option<&Path>,
    ) -> Result<Self, ReaderError> {
        let language = pack.language.code();
        let failed = |cause| ReaderError::Engine { language, cause };
        let (positive, negative) = (&pack.polarity.positive, &pack.polarity.negative);
        let spell = |label: &str| tokenizer.tokenize(&format!(" {label}"), false);
        let labels = Labels::new(vec![spell(positive), spell(negative)])
            .ok_or_else(|| ReaderError::Labels(positive.clone(), negative.clone()))?;
        let polarity = Prompt {
            prefix: engine
                .register_prefix(tokenizer.tokenize(&pack.polarity_prefix(), true))
                .await
                .map_err(failed)?,
            question: tokenizer.tokenize(&pack.polarity.question, false),
        };
        let claim = Prompt {
            prefix: engine
                .register_prefix(tokenizer.tokenize(&pack.claim_prefix(), true))
                .await
                .map_err(failed)?,
            question: tokenizer.tokenize(&pack.claim.question, false),
        };
        let line_end = TokenSet::of(tokenizer.vocabulary(), |token| {
            tokenizer.is_control(token) || tokenizer.piece(token).contains(&b'\n')
        });
        // Calibration and seeds hang on the models and the pack; facts also on how reviews are read.
        let prepared =
            text_digest(&format!("facts-2\n{model_digest}\n{}\n{}", embedder.digest, pack.reading_digest));
        let reader = text_digest(&format!("{prepared}\n{settings:?}"));
        let mut this = Self {
            space: AspectSpace::new(vec![], vec![]),
            calibration: Calibration::NONE,
            pack,
            embedder,
            reader,
            polarity,
            labels: Arc::new(labels),
            claim,
            line_end: Arc::new(line_end),
        };
        let file = cache.map(|folder| folder.join(format!("{prepared}.json")));
        let known = file.as_deref().and_then(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok());
        let prepared = if let Some(prepared) = known {
            prepared
        } else {
            let prepared = this.measure(engine, tokenizer).await?;
            if let Some(file) = &file {
                keep(file, &prepared);
            }
            prepared
        };
        this.adopt(prepared)?;
        Ok(this)
    }

    async fn measure(&self, engine: &Engine, tokenizer: &dyn Tokenizer) -> Result<Prepared, ReaderError> {
        let language = self.pack.language.code();
        let failed = |cause| ReaderError::Engine { language, cause };
        let now = Ticket::now(engine, Lane::Hi);
        let bodies = self.pack.calibration.iter().map(|(sentence, _)| {
            self.probe(tokenizer.tokenize(&self.pack.polarity_body(sentence), false), now)
        });
        let outcomes = engine.run(bodies.collect()).await;
        let (mut readings, mut neutral) = (Vec::new(), Vec::new());
        for (outcome, (_, label)) in outcomes.into_iter().zip(&self.pack.calibration) {
            let leaning = leaning(&outcome.map_err(failed)?);
            match label {
                Polarity::Neutral => neutral.push(leaning),
                label => readings.push((leaning, *label == Polarity::Positive)),
            }
        }
        let calibration = Calibration::fit(&readings, &neutral).ok_or(ReaderError::Unusable(language))?;
        let Calibration { slope, offset, neutral } = calibration;
        tracing::info!(language, slope, offset, neutral, "calibrated");
        let mut seeds = Vec::with_capacity(self.pack.aspects.len());
        for aspect in &self.pack.aspects {
            let tokens = aspect.seeds.iter().map(|seed| self.embedder.tokens(seed)).collect();
            seeds.push(engine.embed(self.embedder.index, tokens, now.arrival).await.map_err(failed)?);
        }
        Ok(Prepared { calibration, seeds })
    }

    fn adopt(&mut self, prepared: Prepared) -> Result<(), ReaderError> {
        let seeds: Option<Vec<Vec<UnitVector>>> = prepared
            .seeds
            .into_iter()
            .map(|seeds| seeds.into_iter().map(UnitVector::new).collect())
            .collect();
        let words = self.pack.aspects.iter().map(|aspect| WordList::new(&aspect.words)).collect();
        let seeds = seeds.ok_or(ReaderError::Unusable(self.pack.language.code()))?;
        self.space = AspectSpace::new(words, seeds);
        self.calibration = prepared.calibration;
        Ok(())
    }

    /// Tokens between a text and its label.
    pub fn question_tokens(&self) -> usize {
        self.polarity.question.len()
    }

    /// A polarity probe of a text, given as the tokens of [`LanguagePack::polarity_body`].
    pub fn probe(&self, body: Vec<Token>, ticket: Ticket) -> Request {
        let branch =
            Branch::Probe { question: self.polarity.question.clone(), labels: Arc::clone(&self.labels) };
        self.polarity.request(body, branch, ticket)
    }

    /// A claim, given as the tokens of [`LanguagePack::claim_body`]: one line, bounded.
    pub fn claim(&self, body: Vec<Token>, ticket: Ticket) -> Request {
        let template = vec![
            Span::Forced(self.claim.question.clone()),
            Span::Free { max_tokens: self.pack.claim.max_tokens, stop: Arc::clone(&self.line_end) },
        ];
        self.claim.request(body, Branch::Generate { template }, ticket)
    }
}

/// Keeps what was measured; without it the next start measures again, so a failure is only told.
fn keep(file: &Path, prepared: &Prepared) {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let staged = file.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&staged, serde_json::to_vec(prepared)?)?;
        std::fs::rename(&staged, file)
    };
    if let Err(error) = write() {
        tracing::warn!(file = %file.display(), %error, "calibration could not be kept");
    }
}
