//! Requests and answers.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::backend::Token;
use crate::scheduler::Arrival;

/// A prompt head registered with [`crate::engine::Engine::register_prefix`]: prefilled once, pinned, and copied
/// into every request that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixId(pub usize);

/// The closed set of answers of a probe, each as the tokens that spell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(Vec<Vec<Token>>);

impl Labels {
    /// At least two labels, none empty, none spelled like the start of another: otherwise their probabilities
    /// cannot be told apart.
    pub fn new(labels: Vec<Vec<Token>>) -> Option<Self> {
        let distinct = labels.iter().enumerate().all(|(i, a)| {
            !a.is_empty() && labels.iter().enumerate().all(|(j, b)| i == j || !b.starts_with(a.as_slice()))
        });
        (labels.len() >= 2 && distinct).then_some(Self(labels))
    }

    /// The labels' tokens.
    pub fn tokens(&self) -> &[Vec<Token>] {
        &self.0
    }

    /// Whether the first token tells them apart, so that one position suffices.
    pub fn separable_at_first_token(&self) -> bool {
        self.0.iter().enumerate().all(|(i, a)| self.0[..i].iter().all(|b| a[0] != b[0]))
    }

    /// Tokens of the longest label: KV cells that walking them may take.
    pub fn longest(&self) -> usize {
        self.0.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// A set of tokens by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSet(Vec<u64>);

impl TokenSet {
    /// The tokens below `vocabulary` for which `holds` is true.
    pub fn of(vocabulary: usize, mut holds: impl FnMut(Token) -> bool) -> Self {
        let mut words = vec![0u64; vocabulary.div_ceil(64)];
        for index in 0..vocabulary {
            let token = i32::try_from(index).map(Token);
            if token.is_ok_and(&mut holds) {
                words[index / 64] |= 1 << (index % 64);
            }
        }
        Self(words)
    }

    /// Whether the token is in the set; tokens outside the vocabulary are not.
    pub fn contains(&self, token: Token) -> bool {
        usize::try_from(token.0)
            .ok()
            .and_then(|index| self.0.get(index / 64).map(|word| word >> (index % 64) & 1 == 1))
            .unwrap_or(false)
    }
}

/// A part of a generation's template.
#[derive(Debug, Clone)]
pub enum Span {
    /// Fixed text: fed, not sampled.
    Forced(Vec<Token>),
    /// Sampled greedily until a stop token or the bound. The stop token is not part of the text.
    Free {
        /// Greatest number of sampled tokens.
        max_tokens: u32,
        /// Tokens that end the span.
        stop: Arc<TokenSet>,
    },
}

/// A continuation of the body.
#[derive(Debug, Clone)]
pub enum Branch {
    /// Read the probabilities of `labels` after `question`.
    Probe {
        /// Tokens between the body and the labels; may be empty if the body is not.
        question: Vec<Token>,
        /// What is read.
        labels: Arc<Labels>,
    },
    /// Run a template.
    Generate {
        /// Its parts, in order.
        template: Vec<Span>,
    },
}

impl Branch {
    /// KV cells the branch may take beyond the body.
    pub fn cells(&self) -> usize {
        match self {
            Self::Probe { question, labels } => question.len() + labels.longest() - 1,
            Self::Generate { template } => template
                .iter()
                .map(|span| match span {
                    Span::Forced(tokens) => tokens.len(),
                    Span::Free { max_tokens, .. } => *max_tokens as usize,
                })
                .sum(),
        }
    }

    /// Tokens that are fed without being sampled.
    pub fn fed_tokens(&self) -> usize {
        match self {
            Self::Probe { question, .. } => question.len(),
            Self::Generate { template } => template
                .iter()
                .map(|span| if let Span::Forced(tokens) = span { tokens.len() } else { 0 })
                .sum(),
        }
    }
}

/// One unit of work.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its place in the heap: that of its job, from whose arrival on the engine's clock queue wait and TTFT count.
    pub arrival: Arrival,
    /// The pinned head.
    pub prefix: Option<PrefixId>,
    /// Tokens after the head, shared by the branches.
    pub body: Vec<Token>,
    /// At least one.
    pub branches: Vec<Branch>,
    /// Time on the engine's clock after which the answer is of no use.
    pub deadline: Option<Duration>,
}

impl Request {
    /// Tokens to prefill beyond the prefix.
    pub fn prefill_tokens(&self) -> usize {
        self.body.len() + self.branches.iter().map(Branch::fed_tokens).sum::<usize>()
    }
}

/// The text of one free span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanText {
    /// Sampled tokens.
    pub tokens: Vec<Token>,
    /// Whether it ended at a stop token; otherwise the bound cut it.
    pub complete: bool,
}

/// What a branch gave.
#[derive(Debug, Clone, PartialEq)]
pub enum BranchAnswer {
    /// Natural-log probabilities of the labels, normalised over them, in their order.
    Probe(Vec<f32>),
    /// The free spans in order.
    Text(Vec<SpanText>),
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestUsage {
    /// Computed prompt tokens: body and questions.
    pub prompt: u32,
    /// Taken from the prefix.
    pub reused: u32,
    /// Template tokens fed.
    pub forced: u32,
    /// Sampled.
    pub generated: u32,
}

/// When things happened, on the engine's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestTiming {
    /// Put into the heap.
    pub queued: Duration,
    /// Given its sequences.
    pub admitted: Duration,
    /// First label or token known.
    pub first_output: Duration,
    /// All branches known.
    pub finished: Duration,
}

/// What a request gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// In the order of the request's branches.
    pub branches: Vec<BranchAnswer>,
    /// Tokens.
    pub usage: RequestUsage,
    /// Times.
    pub timing: RequestTiming,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It can never fit; nothing was run.
    #[error(
        "request needs {needed_sequences} sequences and {needed_cells} kv cells; the context offers {sequences} and {cells}: shorten it or raise engine.context_cells"
    )]
    TooLarge {
        /// Sequences it needs.
        needed_sequences: u32,
        /// Cells it needs.
        needed_cells: u32,
        /// Sequences there are for requests.
        sequences: u32,
        /// Cells there are for one request.
        cells: u32,
    },
    /// It has no branches, an empty question after an empty body, or an unknown prefix.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// Its deadline passed.
    #[error("deadline passed before the answer was complete")]
    DeadlineExceeded,
    /// Whoever asked has gone.
    #[error("cancelled")]
    Cancelled,
    /// The backend failed on this request when it ran alone.
    #[error("the model failed on this request: {0}")]
    Backend(BackendFailure),
    /// A decode step did not end within the limit.
    #[error("engine stalled: a step did not end within its limit; restart the process")]
    Stalled,
    /// The engine is stopping.
    #[error("engine stopped")]
    Stopped,
}

/// The backend's words for a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendFailure {
    /// A decode error.
    #[error("{0}")]
    Decode(#[from] crate::engine::backend::BackendError),
    /// Not a number among the logits.
    #[error("logits are not numbers")]
    BadLogits,
}
