//! The engine without a model: the same interface on a virtual clock.
//!
//! [`SimBackend`] keeps the books a real cache keeps (positions consecutive, cells counted, sequences within the
//! context) and refuses what llama.cpp would abort on, and its logits are a pure function of the tokens a sequence
//! holds. So a test can compare what the core made of any mix of requests with what one request alone would give.
//! Its times come from a linear cost, and pass on a virtual clock or, for tests of a whole fleet, for real; gains shown with it are simulated and must be labelled so.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::backend::{Backend, BackendError, BatchToken, ContextShape, Embedder, SeqId, Token, Tokenizer};
use super::clock::VirtualClock;

/// Tokens are bytes, and this one control token.
const VOCABULARY: usize = 257;
/// The end of a text.
pub const END: Token = Token(256);

/// What a step costs in virtual time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimCosts {
    /// Per decode call.
    pub step: Duration,
    /// Per prompt token; a generated token costs the same to feed, as on a CPU.
    pub token: Duration,
}

/// Faults that a test asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimFaults {
    /// A batch that holds this token fails as a whole.
    pub poison: Option<Token>,
    /// Logits behind this token are not numbers.
    pub nan_after: Option<Token>,
}

/// How modelled time passes.
#[derive(Debug, Clone)]
pub enum Pace {
    /// On a virtual clock, at once.
    Virtual(VirtualClock),
    /// On the machine's, so that processes around the engine can be tested and measured without a model.
    Real,
}

impl From<VirtualClock> for Pace {
    fn from(clock: VirtualClock) -> Self {
        Self::Virtual(clock)
    }
}

impl Pace {
    #[expect(clippy::disallowed_methods, reason = "not a wait for something: this is the decode call's time")]
    fn pass(&self, by: Duration) {
        match self {
            Self::Virtual(clock) => clock.advance(by),
            Self::Real => std::thread::sleep(by),
        }
    }
}

/// A cell of the cache: shared by the sequences that were copied from one another.
type Cell = Rc<Token>;

/// Called with each batch before it is decoded: lets a test look, or park the engine.
pub type StepHook = Box<dyn FnMut(&[BatchToken]) + Send>;

/// The simulated backend.
pub struct SimBackend {
    shape: ContextShape,
    costs: SimCosts,
    faults: SimFaults,
    pace: Pace,
    sequences: HashMap<SeqId, Vec<Cell>>,
    logits: Vec<Option<Vec<f32>>>,
    hook: Option<StepHook>,
}

impl SimBackend {
    /// A backend whose decode calls take their time by `pace`.
    pub fn new(shape: ContextShape, costs: SimCosts, pace: impl Into<Pace>) -> Self {
        Self {
            shape,
            costs,
            faults: SimFaults::default(),
            pace: pace.into(),
            sequences: HashMap::new(),
            logits: Vec::new(),
            hook: None,
        }
    }

    /// With faults.
    #[must_use]
    pub fn with_faults(mut self, faults: SimFaults) -> Self {
        self.faults = faults;
        self
    }

    /// With a hook before each decode.
    #[must_use]
    pub fn with_hook(mut self, hook: StepHook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Cells in use: shared ones count once under unified KV.
    pub fn cells_in_use(&self) -> usize {
        let all = self.sequences.values().flatten();
        if self.shape.unified {
            all.map(Rc::as_ptr).collect::<std::collections::HashSet<_>>().len()
        } else {
            all.count()
        }
    }

    /// Checks a batch as a careful cache would.
    fn check(&self, batch: &[BatchToken]) -> Result<(), BackendError> {
        let invalid = Err(BackendError::Fatal { code: -1 });
        if batch.is_empty() || batch.len() > self.shape.batch_tokens as usize {
            return invalid;
        }
        let mut lengths: HashMap<SeqId, usize> =
            self.sequences.iter().map(|(&seq, cells)| (seq, cells.len())).collect();
        for item in batch {
            let length = lengths.entry(item.seq).or_default();
            if item.seq.0 >= self.shape.sequences || item.pos as usize != *length {
                return invalid;
            }
            *length += 1;
            if *length > self.shape.cells_per_sequence as usize {
                return Err(BackendError::NoRoom);
            }
        }
        if self.shape.unified && self.cells_in_use() + batch.len() > self.shape.cells as usize {
            return Err(BackendError::NoRoom);
        }
        Ok(())
    }
}

/// Logits behind a text: a pure function of its tokens, with one clear winner among bytes `a` to `p` (or the end).
pub fn sim_logits(tokens: impl IntoIterator<Item = Token>) -> Vec<f32> {
    // FNV-1a over the tokens.
    let hash = tokens.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, token| {
        (hash ^ token.0 as u64).wrapping_mul(0x0100_0000_01b3)
    });
    let mut logits: Vec<f32> = (0..VOCABULARY as u64)
        .map(|i| ((hash >> (i % 48)) & 0xff) as f32 / 256.0 + (i % 7) as f32 * 1e-3)
        .collect();
    let winner = if hash % 17 == 0 { 256 } else { 97 + (hash % 16) as usize };
    logits[winner] += 2.0;
    logits
}

impl Backend for SimBackend {
    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError> {
        if let Some(hook) = &mut self.hook {
            hook(batch);
        }
        self.check(batch)?;
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.pace.pass(self.costs.step + self.costs.token * count);
        self.logits.clear();
        if self.faults.poison.is_some_and(|poison| batch.iter().any(|item| item.token == poison)) {
            return Err(BackendError::Fatal { code: -3 });
        }
        for item in batch {
            let cells = self.sequences.entry(item.seq).or_default();
            cells.push(Rc::new(item.token));
            let not_numbers = self.faults.nan_after == Some(item.token);
            self.logits.push(item.output.then(|| {
                if not_numbers {
                    vec![f32::NAN; VOCABULARY]
                } else {
                    sim_logits(cells.iter().map(|cell| **cell))
                }
            }));
        }
        Ok(())
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.logits.get(index).and_then(Option::as_deref).unwrap_or(&[])
    }

    fn fork(&mut self, from: SeqId, to: SeqId) {
        let copy = self.sequences.get(&from).cloned().unwrap_or_default();
        self.sequences.insert(to, copy);
    }

    fn truncate(&mut self, seq: SeqId, keep: u32) -> bool {
        if let Some(cells) = self.sequences.get_mut(&seq) {
            cells.truncate(keep as usize);
        }
        true
    }

    fn clear(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }
}

/// Bytes as tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimTokenizer;

impl Tokenizer for SimTokenizer {
    fn tokenize(&self, text: &str, _begin: bool) -> Vec<Token> {
        text.bytes().map(|byte| Token(i32::from(byte))).collect()
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        u8::try_from(token.0).map(|byte| vec![byte]).unwrap_or_default()
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn is_control(&self, token: Token) -> bool {
        !(0..256).contains(&token.0)
    }
}

/// Embeddings by counting bytes: equal texts are equal, similar ones are near.
#[derive(Debug, Clone, Copy)]
pub struct SimEmbedder;

impl Embedder for SimEmbedder {
    fn dimensions(&self) -> usize {
        32
    }

    fn max_text_tokens(&self) -> usize {
        512
    }

    fn batch_tokens(&self) -> usize {
        4096
    }

    fn batch_texts(&self) -> usize {
        64
    }

    fn embed(&mut self, texts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        let count = |text: &Vec<Token>| {
            let mut vector = vec![0.0; 32];
            for token in text {
                vector[token.0.unsigned_abs() as usize % 32] += 1.0;
            }
            vector
        };
        Ok(texts.iter().map(count).collect())
    }
}
