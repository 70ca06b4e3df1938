//! The engine thread and the handle to it.
//!
//! One OS thread owns the core, the language context and the embedding contexts, and uses them in turn: both kinds
//! of model want all cores (or the one GPU), so running them at once would only make each slower. Commands come
//! through a bounded channel; answers go back one by one. A watchdog sees a step that does not end: a decode call
//! cannot be broken off, so everyone waiting is told, and the process should be restarted.

mod embeds;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::embeds::{EmbedJob, Embeds};
use super::backend::{Backend, Embedder, Token};
use super::clock::{Clock, Monotonic};
use super::core::{Core, CoreCounters, Reply, Step};
use super::request::{Answer, PrefixId, Request, RequestError};
use crate::scheduler::cost::Step as CostStep;
use crate::scheduler::{Arrival, CostModel, DeviceClass, Need, Policy, Room, Seconds, Tokens};

/// Commands that may wait for the thread: each may carry a whole job's requests.
const COMMANDS: usize = 64;

/// How the engine is run.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// Sequences set aside for pinned prefixes.
    pub prefixes: u16,
    /// A step longer than this means that the engine is stuck.
    pub step_limit: Duration,
    /// Where the cost model starts before it has seen a step.
    pub device: DeviceClass,
    /// The order of the heap.
    pub policy: Policy,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            prefixes: 8,
            step_limit: Duration::from_mins(2),
            device: DeviceClass::default(),
            policy: Policy::default(),
        }
    }
}

/// What the engine has done and has in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EngineStats {
    /// Counters of the core.
    pub core: CoreCounters,
    /// Requests in the heap.
    pub waiting: usize,
    /// Requests running.
    pub running: usize,
    /// Sequences and cells that they hold.
    pub held: Need,
    /// Sequences and cells that requests can hold at most, without what is pinned.
    pub capacity: Need,
    /// Texts embedded.
    pub embedded_texts: u64,
    /// Tokens of those texts.
    pub embedded_tokens: u64,
    /// Time inside the embedding model.
    pub embedding_time: Duration,
}

impl EngineStats {
    /// Seconds that embedding so many tokens takes, at the mean of those embedded so far; none before the first.
    pub fn embedding_seconds(&self, tokens: u64) -> f64 {
        if self.embedded_tokens == 0 {
            return 0.0;
        }
        self.embedding_time.as_secs_f64() / self.embedded_tokens as f64 * tokens as f64
    }
}

enum Command {
    Run(Vec<(Request, Reply)>),
    Embed(EmbedJob, Arrival),
    Register(Vec<Token>, oneshot::Sender<Result<PrefixId, RequestError>>),
}

/// What thread and handle share.
struct Shared {
    stats: Mutex<EngineStats>,
    device: DeviceClass,
    costs: Mutex<CostModel>,
    /// Real time: the watchdog must see a step that hangs, also when the engine's own clock is virtual.
    pulse: Pulse,
    stalled: CancellationToken,
}

/// When the step under way began; 0 when none is.
#[derive(Default)]
struct Pulse {
    clock: Monotonic,
    since: AtomicU64,
}

impl Pulse {
    fn beat(&self) {
        let nanos = u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX);
        self.since.store(nanos.max(1), Ordering::Relaxed);
    }

    fn rest(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        (since > 0).then(|| self.clock.now().saturating_sub(Duration::from_nanos(since)))
    }
}

/// The handle. Clones talk to the same thread; when the last is dropped the thread finishes what it has and ends.
#[derive(Clone)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

/// Sees what an engine does without keeping it: an engine ends when its last handle is dropped.
#[derive(Clone)]
pub struct EngineView(Weak<Shared>);

impl EngineView {
    /// What it has done and has in hand; `None` once it has ended.
    pub fn stats(&self) -> Option<EngineStats> {
        self.0.upgrade().map(|shared| *lock(&shared.stats))
    }
}

/// The thread's end: made by [`Engine::start`], used by the closure that owns the models.
pub struct Server {
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    prefixes: u16,
    policy: Policy,
    watchers: Vec<Watcher>,
}

/// Is told each step, on the engine's thread.
pub type Watcher = Box<dyn FnMut(&StepReport) + Send>;

/// A step, and what was expected of it before it was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// What it did.
    pub step: Step,
    /// What the cost model expected its decode call to take, in seconds.
    pub predicted: f64,
}

impl Engine {
    /// Starts a thread that runs `body`, which makes backend and embedders and calls [`Server::serve`] with them.
    /// Must be called within a tokio runtime (the watchdog lives there).
    pub fn start<E: Send + 'static>(
        config: EngineConfig,
        clock: Arc<dyn Clock>,
        body: impl FnOnce(Server) -> Result<(), E> + Send + 'static,
    ) -> std::io::Result<(Self, oneshot::Receiver<E>)> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared {
            stats: Mutex::default(),
            device: config.device,
            costs: Mutex::new(CostModel::new(config.device)),
            pulse: Pulse::default(),
            stalled: CancellationToken::new(),
        });
        let server = Server {
            commands,
            shared: Arc::clone(&shared),
            clock: Arc::clone(&clock),
            prefixes: config.prefixes,
            policy: config.policy,
            watchers: Vec::new(),
        };
        let (failed, failure) = oneshot::channel();
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            if let Err(error) = body(server) {
                // Nobody left to hear why: whoever asks next learns that the engine has stopped.
                let _ = failed.send(error);
            }
        })?;
        tokio::spawn(watch(Arc::downgrade(&shared), config.step_limit));
        Ok((Self { commands: sender, shared, clock }, failure))
    }

    /// Runs the requests; each gets an answer or an error of its own, in order. Dropping the future cancels those
    /// that are not done.
    pub async fn run(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        let (replies, answers): (Vec<_>, Vec<_>) = requests.iter().map(|_| oneshot::channel()).unzip();
        let command = Command::Run(requests.into_iter().zip(replies).collect());
        if let Err(error) = self.send(command).await {
            return answers.iter().map(|_| Err(error.clone())).collect();
        }
        join_all(answers.into_iter().map(|answer| self.wait(answer))).await
    }

    /// Embeddings of tokenized texts by the `model`-th embedder, not normalised. Their place is that of `arrival`, set
    /// back by what embedding them will cost.
    pub async fn embed(
        &self,
        model: usize,
        texts: Vec<Vec<Token>>,
        arrival: Arrival,
    ) -> Result<Vec<Vec<f32>>, RequestError> {
        let (reply, answer) = oneshot::channel();
        let tokens = texts.iter().map(Vec::len).sum::<usize>() as u64;
        let cost = arrival.cost.get() + self.stats().embedding_seconds(tokens);
        let arrival = Arrival { cost: Seconds::new(cost), ..arrival };
        let job = EmbedJob { model, done: Vec::with_capacity(texts.len()), texts: texts.into(), reply };
        self.send(Command::Embed(job, arrival)).await?;
        self.wait(answer).await
    }

    /// Sets cells aside for a prompt head and gives its id; the same tokens give the same id.
    pub async fn register_prefix(&self, tokens: Vec<Token>) -> Result<PrefixId, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Register(tokens, reply)).await?;
        self.wait(answer).await
    }

    /// Now, on the engine's clock.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// What kind of device it runs on.
    pub fn device(&self) -> DeviceClass {
        self.shared.device
    }

    /// Seconds that the tokens will take, by the steps seen so far.
    pub fn estimate(&self, tokens: Tokens) -> f64 {
        lock(&self.shared.costs).estimate(tokens).get()
    }

    /// What it has done and has in hand.
    pub fn stats(&self) -> EngineStats {
        *lock(&self.shared.stats)
    }

    /// The same for who only looks on.
    pub fn view(&self) -> EngineView {
        EngineView(Arc::downgrade(&self.shared))
    }

    /// How long the step under way has been; `None` between steps. For those who hold something only while the engine
    /// gets on with it.
    pub fn step_age(&self) -> Option<Duration> {
        self.shared.pulse.age()
    }

    /// Resolves when a step has not ended within its limit. The process should then be restarted.
    pub fn stalled(&self) -> impl Future<Output = ()> + use<> {
        self.shared.stalled.clone().cancelled_owned()
    }

    /// Hands a command over. A stuck thread takes none, so that a full channel must not be waited for either.
    async fn send(&self, command: Command) -> Result<(), RequestError> {
        tokio::select! {
            biased;
            () = self.shared.stalled.cancelled() => Err(RequestError::Stalled),
            sent = self.commands.send(command) => sent.map_err(|_| RequestError::Stopped),
        }
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<Result<T, RequestError>>) -> Result<T, RequestError> {
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or(Err(RequestError::Stopped)),
            () = self.shared.stalled.cancelled() => Err(RequestError::Stalled),
        }
    }
}

impl Server {
    /// Has each step told to `watcher`, too, on the engine's thread: it must be quick about it.
    #[must_use]
    pub fn watched_by(mut self, watcher: impl FnMut(&StepReport) + Send + 'static) -> Self {
        self.watchers.push(Box::new(watcher));
        self
    }

    /// Serves until every handle is gone and all work is done; says what was done in all.
    pub fn serve<B: Backend>(mut self, backend: B, embedders: Vec<Box<dyn Embedder + '_>>) -> EngineStats {
        let mut core = Core::new(backend, Arc::clone(&self.clock), self.policy, self.prefixes);
        let mut embeds = Embeds::new(embedders, self.policy);
        let mut open = true;
        while open || !core.is_idle() || !embeds.is_empty() {
            if core.is_idle() && embeds.is_empty() {
                match self.commands.blocking_recv() {
                    Some(command) => take(command, &mut core, &mut embeds),
                    None => open = false,
                }
            }
            loop {
                match self.commands.try_recv() {
                    Ok(command) => take(command, &mut core, &mut embeds),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                }
            }
            if embeds_first(&core, &embeds) {
                self.embed(&mut embeds);
            }
            self.step(&mut core);
        }
        core.abort(&RequestError::Stopped);
        *lock(&self.shared.stats)
    }

    fn step<B: Backend>(&mut self, core: &mut Core<B>) {
        self.shared.pulse.beat();
        let step = core.step();
        self.shared.pulse.rest();
        if let Some(step) = step {
            let seconds = step.decode_time.as_secs_f64();
            let (fed, read) = (step.prefill_tokens + step.decode_tokens, step.read_tokens);
            let mut costs = lock(&self.shared.costs);
            let predicted = costs.step(Tokens { fed: fed.into(), read: read.into() }).get();
            costs.observe(CostStep { fed, read, seconds });
            drop(costs);
            let report = StepReport { step, predicted };
            self.watchers.iter_mut().for_each(|watcher| watcher(&report));
        }
        let (held, capacity) = room(core.room());
        let mut stats = lock(&self.shared.stats);
        stats.core = core.counters();
        (stats.waiting, stats.running) = core.depth();
        (stats.held, stats.capacity) = (held, capacity);
    }

    /// One call of an embedding model.
    fn embed(&self, embeds: &mut Embeds<'_>) {
        self.shared.pulse.beat();
        let call = embeds.call(&self.shared.pulse.clock);
        self.shared.pulse.rest();
        if let Some(call) = call {
            let mut stats = lock(&self.shared.stats);
            stats.embedding_time += call.time;
            stats.embedded_texts += call.texts;
            stats.embedded_tokens += call.tokens;
        }
    }
}

/// What requests hold, and what they can hold at most.
fn room(room: &Room) -> (Need, Need) {
    let (free, capacity) = (room.free(), room.capacity());
    let held = Need {
        sequences: capacity.sequences.saturating_sub(free.sequences),
        cells: capacity.cells.saturating_sub(free.cells),
    };
    (held, Need { sequences: capacity.sequences, cells: capacity.cells })
}

/// Whether the embedding model's turn comes before the next decode call: unless a request is to be admitted first whose
/// job is more urgent. What runs already does not count, urgent as it may be: it is held up by one call a step, while a
/// job held up by it would see less urgent ones admitted beside it.
fn embeds_first<B: Backend>(core: &Core<B>, embeds: &Embeds<'_>) -> bool {
    let Some(waiting) = embeds.first_key() else { return false };
    core.waiting_key().is_none_or(|admitted| waiting < admitted)
}

fn take<B: Backend>(command: Command, core: &mut Core<B>, embeds: &mut Embeds<'_>) {
    match command {
        Command::Run(requests) => {
            for (request, reply) in requests {
                core.submit(request, reply);
            }
        }
        Command::Embed(job, arrival) => embeds.push(job, arrival),
        Command::Register(tokens, reply) => {
            // A closed reply means that nobody waits any more.
            let _ = reply.send(core.register_prefix(tokens));
        }
    }
}

/// Looks at the pulse until the engine is gone or stuck.
async fn watch(shared: Weak<Shared>, limit: Duration) {
    let mut ticks = tokio::time::interval((limit / 8).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.pulse.age().is_some_and(|age| age > limit) {
            tracing::error!(limit_s = limit.as_secs_f64(), "engine step did not end within its limit");
            shared.stalled.cancel();
            return;
        }
    }
}

/// The guarded values are plain numbers, sound at every moment: a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
