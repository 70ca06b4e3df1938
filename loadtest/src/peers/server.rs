//! llama.cpp's own server as a child process, and requests to it.
//!
//! The server runs inside Python, in the wheel that scripts/install-peers.sh installs; the script is part of this
//! program. It dies with its owner: dropping kills it, and it ends by itself when its stdin is closed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

const SCRIPT: &str = include_str!("../../peers/server.py");

/// A server that is not ready by then does not become ready. Loading a small model takes seconds.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// An answer that takes longer is given up: the server is stuck.
const ANSWER_WITHIN: Duration = Duration::from_mins(20);

/// How long threads of the OpenMP runtime spin for one another: the same as maitred sets for itself, because with the
/// default everything stands still on cores that others use too. What the environment says goes first.
const SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "10000");

/// The Python that scripts/install-peers.sh made; `None` where it has not run.
pub fn installed() -> Option<PathBuf> {
    let home = cache_home()?.join("peers");
    // The mark is written last: without it the installation was broken off.
    home.join("installed.txt").is_file().then(|| home.join("bin/python"))
}

/// Where the scripts put what they install and fetch (scripts/env.sh).
fn cache_home() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("maitred"))
}

/// A model that scripts/models.sh fetched; `None` where it has not.
pub fn fetched(file: &str) -> Option<PathBuf> {
    let models = variable("MAITRED_MODELS_DIR").or_else(|| Some(cache_home()?.join("models")))?;
    Some(models.join(file)).filter(|path| path.is_file())
}

/// The value of a variable that is set and not empty.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// How a server runs. What is not here is llama.cpp's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerOptions {
    /// The language model's GGUF file.
    pub model: PathBuf,
    /// Requests at the same time.
    pub slots: usize,
    /// Cells of all slots together.
    pub context: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Tokens of a step.
    pub batch: usize,
    /// Tokens of a pass through the model.
    pub ubatch: usize,
    /// Whether attention is computed in one go; `None` leaves it to the server, which takes it where it works.
    pub flash_attention: Option<bool>,
    /// Whether all slots share one pool of cells.
    pub unified: bool,
    /// Whether layers that look at a window of tokens only keep the others too.
    pub full_window: bool,
}

impl ServerOptions {
    /// A server with `slots` slots of `context` cells each, everything else as llama.cpp has it.
    pub fn new(model: &Path, threads: usize, slots: usize, context: usize) -> Self {
        Self {
            model: model.to_owned(),
            slots,
            context: slots * context,
            threads,
            batch: 2048,
            ubatch: 512,
            flash_attention: None,
            unified: false,
            full_window: false,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let flash_attention = match self.flash_attention {
            None => "auto",
            Some(true) => "on",
            Some(false) => "off",
        };
        let mut arguments: Vec<String> = [
            ("--slots", self.slots),
            ("--context", self.context),
            ("--threads", self.threads),
            ("--batch", self.batch),
            ("--ubatch", self.ubatch),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.to_string()])
        .collect();
        arguments.extend(["--flash-attention".to_owned(), flash_attention.to_owned()]);
        arguments.extend(self.unified.then(|| "--unified".to_owned()));
        arguments.extend(self.full_window.then(|| "--full-window".to_owned()));
        arguments
    }
}

/// What a server says when it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: String,
    /// Version of the wheel.
    pub version: String,
}

/// A running server.
#[derive(Debug)]
pub struct PeerServer {
    child: Child,
    ready: Ready,
    agent: ureq::Agent,
}

impl PeerServer {
    /// Starts one and waits until it is ready. `python`: see [`installed`].
    pub fn start(python: &Path, options: &ServerOptions) -> anyhow::Result<Self> {
        let mut command = Command::new(python);
        command.arg("-c").arg(SCRIPT).arg("--model").arg(&options.model).args(options.arguments());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if std::env::var_os(SPINS.0).is_none() && std::env::var_os("OMP_WAIT_POLICY").is_none() {
            command.env(SPINS.0, SPINS.1);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}; run scripts/install-peers.sh", python.display()))?;
        // From here on dropping it ends the child, whatever goes wrong.
        let mut server = Self {
            child,
            ready: Ready { address: String::new(), version: String::new() },
            agent: ureq::AgentBuilder::new()
                .timeout(ANSWER_WITHIN)
                .max_idle_connections_per_host(options.slots)
                .build(),
        };
        server.ready = server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<Ready> {
        let stdout = self.child.stdout.take().context("the peer server has no stdout")?;
        let (tell, told) = mpsc::sync_channel(1);
        // Ends with the first line, or with the child.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line).map(|_| line);
            // Nobody listens any more when the wait was given up.
            let _ = tell.send(read);
        });
        let line = match told.recv_timeout(READY_WITHIN) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Timeout) => bail!("the peer server was not ready within {READY_WITHIN:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the peer server's output could not be read"),
        };
        serde_json::from_str(&line).map_err(|_| {
            anyhow!("the peer server did not start, its reason stands above; got `{}`", line.trim())
        })
    }

    /// What it said when it was ready.
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Lets the server continue a prompt, and waits for the end.
    pub fn completion(&self, prompt: &str, options: &CompletionOptions<'_>) -> anyhow::Result<Completion> {
        let mut body = json!({
            "prompt": prompt,
            "n_predict": options.max_tokens,
            "temperature": options.temperature,
            "seed": options.seed,
            "cache_prompt": options.cache_prompt,
            "stop": options.stop,
        });
        if let Some(grammar) = options.grammar {
            body["grammar"] = grammar.into();
        }
        let sent = Instant::now();
        let answer = self.agent.post(&format!("{}/completion", self.ready.address)).send_json(body);
        let answer: Wire = match answer {
            Ok(response) => response.into_json().context("the peer server's answer is not as expected")?,
            Err(ureq::Error::Status(code, response)) => {
                bail!("the peer server refused with {code}: {}", response.into_string().unwrap_or_default())
            }
            Err(cause) => return Err(cause).context("the peer server does not answer"),
        };
        let finished = Instant::now();
        // The server generates from the first token on; what it says it took for that lies behind it.
        let generating = Duration::try_from_secs_f64(answer.timings.predicted_ms / 1e3).unwrap_or_default();
        Ok(Completion {
            text: answer.content,
            prompt_tokens: answer.timings.prompt_n + answer.timings.cache_n,
            cached_tokens: answer.timings.cache_n,
            generated_tokens: answer.timings.predicted_n,
            cut: answer.stop_type == "limit",
            sent,
            first_token: finished.checked_sub(generating).map_or(sent, |first| first.max(sent)),
            finished,
        })
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        // Neither fails but for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a prompt is continued.
#[derive(Debug, Clone, Copy)]
pub struct CompletionOptions<'a> {
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// What sampling draws from.
    pub seed: u32,
    /// Whether what a slot holds of the prompt already is used.
    pub cache_prompt: bool,
    /// The form of the text, in GBNF.
    pub grammar: Option<&'a str>,
    /// Texts that end it; they are not part of it.
    pub stop: &'a [&'a str],
}

/// What a server made of a prompt.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Of those, the ones that a slot held already.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Whether the limit ended it.
    pub cut: bool,
    /// When the request went out.
    pub sent: Instant,
    /// When the first token was known.
    pub first_token: Instant,
    /// When all of it was here.
    pub finished: Instant,
}

/// What the server answers, as far as it is of use.
#[derive(Deserialize)]
struct Wire {
    content: String,
    stop_type: String,
    timings: WireTimings,
}

#[derive(Deserialize)]
struct WireTimings {
    cache_n: u64,
    prompt_n: u64,
    predicted_n: u64,
    predicted_ms: f64,
}
