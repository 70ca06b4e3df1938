//! A fleet on this machine: nats-server, Redis and workers as child processes, gone with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use maitred::broker::nats::Broker;
use maitred::config::{NatsSettings, Secret, SecretUrl, Settings};
use maitred_testkit::{Maitred, Nats, Program, Redis};

/// What a worker logs when it takes jobs.
const READY: &str = "models are ready";
/// A worker loads its models in seconds; after this it is stuck.
const START_LIMIT: Duration = Duration::from_mins(2);
/// Lines of a worker's log that are shown when it ends.
const TAIL: usize = 12;

/// A fleet to be started.
#[derive(Debug, Clone)]
pub struct Local {
    /// The program; without it, the one beside this one.
    pub program: Option<PathBuf>,
    /// How many workers.
    pub workers: usize,
    /// Whether facts are shared in a Redis; without it each worker knows only what it read itself.
    pub redis: bool,
    /// Settings of the workers by dotted key, such as `worker.look_ahead`. Paths must be absolute.
    pub settings: Vec<(String, String)>,
}

/// A fleet that was started.
#[derive(Debug)]
pub struct LocalFleet {
    // Before the servers, so that workers end first.
    workers: Vec<Program>,
    maitred: Maitred,
    nats: Nats,
    _redis: Option<Redis>,
}

impl Local {
    /// With this value for a setting of the workers.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a literal reads better without `&`")]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.retain(|(other, _)| other != key);
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    fn program(&self) -> anyhow::Result<PathBuf> {
        let here = std::env::current_exe().context("this program's own place")?;
        let program = self.program.clone().unwrap_or_else(|| program_beside(&here));
        // Children run in a folder of their own.
        program.canonicalize().with_context(|| {
            format!("no program at {}: run `make build`, or name one with --maitred", program.display())
        })
    }
}

/// Where `maitred` is when cargo has built this program beside it; a test lies one folder deeper.
pub fn program_beside(this: &Path) -> PathBuf {
    let folder = this.parent().unwrap_or(Path::new(""));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join(format!("maitred{}", std::env::consts::EXE_SUFFIX))
}

impl LocalFleet {
    /// Starts servers and workers; back when all workers take jobs.
    pub async fn start(local: &Local) -> anyhow::Result<Self> {
        let (program, wanted) = (local.program()?, local.clone());
        // Waits for its children, which blocks.
        let started = tokio::task::spawn_blocking(move || Self::servers(&program, &wanted));
        let mut fleet = started.await.context("the servers do not start")??;
        for _ in 0..local.workers {
            fleet.add_worker();
        }
        fleet.until_ready().await?;
        Ok(fleet)
    }

    /// The servers, with streams and without workers.
    fn servers(program: &Path, local: &Local) -> anyhow::Result<Self> {
        let nats = Nats::start().context("no nats-server: run `make servers`")?;
        let redis = local.redis.then(|| Redis::start().context("no redis-server: run `make servers`"));
        let redis = redis.transpose()?;
        let mut maitred = Maitred::new(program, nats.folder())
            .set("nats.url", nats.url())
            .set("store.cache", "none")
            .set("health.listen", "none")
            .set("log.level", "info");
        if let Some(redis) = &redis {
            maitred = maitred.set("redis.url", redis.url());
        }
        for (key, value) in &local.settings {
            maitred = maitred.set(key, value);
        }
        let made = maitred.run(&["init"]);
        if made.code != 0 {
            bail!("`maitred init` ended with {}: {}", made.code, made.stderr.trim());
        }
        Ok(Self { workers: Vec::new(), maitred, nats, _redis: redis })
    }

    /// Starts one more worker and does not wait for it.
    pub fn add_worker(&mut self) {
        let name = format!("load-{}", self.workers.len());
        self.workers.push(self.maitred.worker(&name));
    }

    /// Waits until all workers take jobs.
    pub async fn until_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !self.workers.iter().all(|worker| worker.log_since_start().contains(READY)) {
            looks.tick().await;
            self.check()?;
            if begun.elapsed() > START_LIMIT {
                bail!("a worker is not ready after {START_LIMIT:?}:\n{}", self.tail(0));
            }
        }
        Ok(())
    }

    /// That all workers live.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.workers.iter_mut().position(|worker| !worker.is_running()) {
            Some(ended) => bail!("worker {ended} has ended:\n{}", self.tail(ended)),
            None => Ok(()),
        }
    }

    /// Where the workers serve health, as far as they do.
    pub fn health(&self) -> Vec<SocketAddr> {
        let address = |worker: &Program| {
            let log = worker.log_since_start();
            let line = log.lines().find(|line| line.contains("health is served"))?;
            line.split("at=").nth(1)?.trim().parse().ok()
        };
        self.workers.iter().filter_map(address).collect()
    }

    /// Processor time of all workers so far, in seconds; `None` where the system does not tell.
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.workers.iter().map(|worker| cpu_seconds(worker.pid())).sum()
    }

    /// Settings of a client of its server.
    pub fn nats(&self) -> NatsSettings {
        NatsSettings { url: Secret::Value(SecretUrl::new(self.nats.url())), ..Settings::default().nats }
    }

    /// A connection to its server.
    pub async fn broker(&self) -> anyhow::Result<Broker> {
        Ok(Broker::connect(&self.nats(), "maitred-loadtest").await?)
    }

    /// The end of what a worker said.
    fn tail(&self, worker: usize) -> String {
        let log = self.workers.get(worker).map(|worker| worker.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// User and system time of a process: fields 14 and 15 of its `stat`, in hundredths of a second on every Linux.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold blanks; what follows it begins with field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_lies_beside_this_one_or_above_a_test() {
        for this in ["/target/release/maitred-loadtest", "/target/release/deps/fleet-0123"] {
            assert_eq!(program_beside(Path::new(this)), Path::new("/target/release/maitred"));
        }
    }

    #[test]
    fn the_processor_time_of_a_process_only_grows() {
        let this = std::process::id();
        let before = cpu_seconds(this).unwrap();
        assert!(cpu_seconds(this).unwrap() >= before && before < 1e6);
        assert_eq!(cpu_seconds(u32::MAX), None);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_said_with_what_to_do() {
        let program = Some("/nowhere/maitred".into());
        let local = Local { program, workers: 1, redis: false, settings: Vec::new() };
        let error = LocalFleet::start(&local).await.unwrap_err();
        assert!(error.to_string().contains("run `make build`"), "{error}");
    }
}
