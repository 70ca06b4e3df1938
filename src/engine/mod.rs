//! The engine: requests in, answers out, one context busy with many sequences.
//!
//! A [`Request`] is a pinned **prefix**, a **body**, and **branches** forked from the end of the body: a **probe**
//! reads label probabilities and generates nothing; a **generation** runs a template whose fixed text is fed as
//! prompt tokens, many per step, and whose free spans are sampled with a bound.
//!
//! - [`core`]: the state machine of waiting and running requests; pure but for the [`Backend`] it drives.
//! - [`handle`]: the thread that owns a core, bounded channels around it, the stuck-step watchdog.
//! - [`fit`]: what the models need of a GPU and whether they get it; pure.
//! - [`llama`]: the backend on llama.cpp, the only module with llama calls and `unsafe`.
//! - [`step_log`]: the loop's own account of its decode calls, as a file.
//! - [`sim`]: the backend on a virtual clock, for scheduler work and tests of the loop without a model.
//!
//! Invariants:
//! 1. A request runs only while it holds a grant for its sequences and its KV cells ([`crate::scheduler::admission`]),
//!    so the context cannot overflow.
//! 2. Every submitted request is answered exactly once; one that fails, fails alone.
//! 3. Copies are of whole sequences, so the same core works over unified and split KV.

pub mod backend;
pub mod clock;
pub mod core;
pub mod fit;
pub mod handle;
pub mod labels;
#[cfg(feature = "llama")]
pub mod llama;
pub mod request;
pub mod sim;
pub mod step_log;

pub use backend::{Backend, BackendError, BatchToken, Embedder, SeqId, Token, Tokenizer};
pub use clock::{Clock, Monotonic, VirtualClock};
pub use handle::{Engine, EngineConfig, EngineStats, EngineView, StepReport};
pub use request::{
    Answer, Branch, BranchAnswer, Labels, PrefixId, Request, RequestError, RequestTiming, RequestUsage, Span,
    SpanText, TokenSet,
};
