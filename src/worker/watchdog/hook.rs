//! What ends the machine of an idle worker: a command, or a request. One try; it worked or it did not.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;

use crate::broker::nats::provide_tls;
use crate::config::{Secret, SecretError, StopHook, WatchdogSettings};

/// The last of what a failing command says that is told on.
const LAST_WORDS: usize = 500;

/// Why a worker stops, as the hook is told.
pub(super) struct Occasion {
    pub worker: String,
    /// For how long it has had nothing to do.
    pub idle: Duration,
    /// Since its process began.
    pub uptime: Duration,
}

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("the shell cannot be started: {0}")]
    Shell(#[from] std::io::Error),
    #[error("the command ended with {status}: {said}")]
    Command { status: ExitStatus, said: String },
    #[error("it took longer than {0:?} (`watchdog.hook_timeout`)")]
    Late(Duration),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the request failed: {}", causes(.0))]
    Request(#[from] reqwest::Error),
    #[error("the answer was {0}")]
    Refused(reqwest::StatusCode),
}

/// What is posted.
#[derive(Serialize)]
struct Body<'a> {
    worker: &'a str,
    reason: &'static str,
    idle_seconds: u64,
    uptime_seconds: u64,
}

/// Why it stops; there may be others some day.
const REASON: &str = "idle";

/// Runs the hook once.
pub(super) async fn run(settings: &WatchdogSettings, occasion: &Occasion) -> Result<(), HookError> {
    let limit = settings.hook_timeout;
    let done = async {
        match &settings.stop {
            StopHook::Exit => Ok(()),
            StopHook::Command(line) => command(line, occasion).await,
            StopHook::Http { url, token } => post(url, token.as_deref(), occasion, limit).await,
        }
    };
    tokio::time::timeout(limit, done).await.unwrap_or(Err(HookError::Late(limit)))
}

/// The shell dies with its try; what it left in the background does not.
async fn command(line: &str, occasion: &Occasion) -> Result<(), HookError> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("MAITRED_WORKER", &occasion.worker).env("MAITRED_REASON", REASON);
    shell.env("MAITRED_IDLE_SECONDS", occasion.idle.as_secs().to_string());
    shell.env("MAITRED_UPTIME_SECONDS", occasion.uptime.as_secs().to_string());
    let output = shell.output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let from = said.ceil_char_boundary(said.len().saturating_sub(LAST_WORDS));
    Err(HookError::Command { status: output.status, said: said[from..].to_owned() })
}

async fn post(
    url: &Secret,
    token: Option<&Path>,
    occasion: &Occasion,
    limit: Duration,
) -> Result<(), HookError> {
    let url = url.read("watchdog.url_file")?;
    let body = Body {
        worker: &occasion.worker,
        reason: REASON,
        idle_seconds: occasion.idle.as_secs(),
        uptime_seconds: occasion.uptime.as_secs(),
    };
    provide_tls();
    // Who answers with another place has not done it.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(limit);
    // Plain HTTP needs no certificates, which small images do not have.
    let is_plain = url.expose().starts_with("http://");
    let client = if is_plain { client.tls_certs_only([]) } else { client }.build()?;
    // Plain structs of text and numbers become JSON always.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut request = client.post(url.expose()).header("content-type", "application/json").body(body);
    if let Some(token) = token {
        // Read at each try: a token that is replaced is taken up.
        let token = Secret::File(token.to_owned()).read("watchdog.token_file")?;
        request = request.bearer_auth(token.expose());
    }
    // The URL may hold a secret.
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    if answer.status().is_success() { Ok(()) } else { Err(HookError::Refused(answer.status())) }
}

/// The error with its causes: "error sending request" alone says nothing.
fn causes(error: &reqwest::Error) -> String {
    let first: &dyn std::error::Error = error;
    let all = std::iter::successors(Some(first), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
