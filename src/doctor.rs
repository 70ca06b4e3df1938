//! What is wrong with an installation, and what to do about it: the work of `maitred doctor`.
//!
//! Two halves. [`probe`] asks servers, files and the system, and gives facts; [`judge`] makes findings of facts, and
//! asks nobody. Invariants:
//!
//! - Nothing is changed, on no server and in no folder. How rights are found out without using them stands in
//!   `broker::checkup` and `store::redis`; that a folder can be written is found out with a file that is gone again.
//! - What is not as it should be has a code of the [`catalogue`], says what it means and what to do.
//! - All parts are looked at at the same time, each within [`LIMIT`]; what takes longer is a finding, not a wait.
//! - One fault is one failure: what needs a server that is away is skipped.
//! - No finding holds a password.

pub mod catalogue;
mod finding;
pub mod judge;
pub mod page;
pub mod probe;

use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

pub use self::finding::{Check, Counts, Finding, Report, Status};
use self::judge::models::ModelsFacts;
use crate::config::{Config, ConfigError, EngineKind, Settings};

/// Longest time of one part. Hashing the models takes most of it, and only on slow disks.
pub const LIMIT: Duration = Duration::from_mins(1);
/// Longest time of one server.
pub const SERVER_LIMIT: Duration = Duration::from_secs(20);

/// Looks at everything. `file` is the configuration file that was read, if there is one.
pub async fn examine(config: Result<&Config, &ConfigError>, file: Option<&Path>) -> Report {
    let findings = match config {
        // On the heap: the futures of all servers together are large.
        Ok(config) => Box::pin(look(config, file)).await,
        Err(error) => judge::config::broken(error),
    };
    Report::new(OffsetDateTime::now_utc(), findings)
}

/// Files that nobody reads are not hashed.
async fn models(settings: &Settings) -> Option<ModelsFacts> {
    if settings.engine.backend == EngineKind::Sim {
        return None;
    }
    let settings = settings.clone();
    probe::blocking(LIMIT, move || probe::models::look(&settings)).await
}

async fn look(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let settings = &config.settings;
    let (secrets, nats, redis, postgres, models, machine, disk, edges) = tokio::join!(
        probe::blocking(LIMIT, {
            let (config, file) = (config.clone(), file.map(Path::to_owned));
            move || probe::config::look(&config, file.as_deref())
        }),
        probe::servers::nats(settings, SERVER_LIMIT),
        probe::servers::redis(settings, SERVER_LIMIT),
        probe::servers::postgres(settings, SERVER_LIMIT),
        models(settings),
        probe::machine::look(settings, SERVER_LIMIT),
        probe::disk::look(settings, LIMIT),
        probe::edges::look(config, SERVER_LIMIT),
    );
    let mut findings = judge::config::judge(secrets.as_ref());
    findings.extend(judge::nats::judge(&nats, settings, SERVER_LIMIT));
    findings.extend(judge::redis::judge(&redis, settings, SERVER_LIMIT));
    findings.extend(judge::postgres::judge(&postgres, SERVER_LIMIT));
    findings.extend(judge::clock::judge(machine.is_clock_kept, &nats, &redis, &postgres));
    findings.extend(judge::models::judge(models.as_ref(), settings));
    findings.extend(judge::machine::judge(&machine, models.as_ref(), edges.is_worker_here(), settings));
    findings.extend(judge::disk::judge(&disk));
    findings.extend(judge::edges::judge(&edges));
    findings
}
