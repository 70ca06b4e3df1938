//! `maitred worker`: two runtimes, signals, exit code.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Overrides};
use crate::config::Settings;
use crate::worker::{self, Ended, Stop};

/// Threads of the runtime for work: tokenizing and waiting; the models have threads of their own.
const WORK_THREADS: usize = 2;

/// Take jobs from the queue and work them.
///
/// The first SIGTERM or interrupt drains: no more jobs are taken, queued ones are handed back, running ones finish
/// within `worker.grace`. The second one hands everything back at once. With `watchdog.enabled` a worker that is idle for
/// long drains and ends by itself.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    /// Name in results, metrics and `maitred status`.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Jobs in work at the same time.
    #[arg(long, value_name = "N")]
    pub slots: Option<usize>,
    /// Where to serve /livez, /readyz and /status; none serves nothing.
    #[arg(long, value_name = "ADDRESS|none")]
    pub listen: Option<String>,
    /// Language model: a name from `maitred model list` or a GGUF file.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
}

impl WorkerArgs {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default()
            .set("worker.name", "--name", self.name.as_ref())
            .set("worker.slots", "--slots", self.slots)
            .set("health.listen", "--listen", self.listen.as_ref())
            .set("models.language", "--model", self.model.as_ref())
    }
}

/// Runs the command.
pub fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let work = runtime("work", WORK_THREADS)?;
    let io = runtime("io", 1)?;
    let stop = Stop::default();
    io.spawn(obey_signals(stop.clone()));
    let ended = io.block_on(worker::run(Arc::new(settings.clone()), work.handle().clone(), stop));
    // A blocked thread (a stuck engine, a store that does not answer) must not keep the process.
    work.shutdown_timeout(Duration::from_secs(1));
    io.shutdown_timeout(Duration::from_secs(1));
    Ok(match ended? {
        Ended::Drained | Ended::Idle => Exit::Ok,
        Ended::Aborted => Exit::Interrupted,
    })
}

fn runtime(name: &'static str, threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("starting the threads `{name}`"))
}

/// The first signal drains, the second one aborts.
async fn obey_signals(stop: Stop) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be heard; stop the worker with SIGKILL, its jobs go to others");
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.drain.is_cancelled() {
            stop.abort.cancel();
        } else {
            stop.drain.cancel();
        }
    }
}
