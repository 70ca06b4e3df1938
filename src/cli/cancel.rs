//! `maitred cancel`: says what became of the wish, and fails when the job is not cancelled.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::Exit;
use crate::broker::nats::{Broker, Cancelled, Held};
use crate::config::Settings;

/// Cancel a job that waits or runs.
///
/// A worker that holds the job is asked first. Otherwise the queue is looked through, which reads every job that
/// waits; --restaurant narrows that to the jobs of one. A cancelled job ends with a result: `failed`, `cancelled`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// Id of the job.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Look only at the jobs of this restaurant.
    #[arg(long, value_name = "ID", value_parser = super::restaurant_id)]
    pub restaurant: Option<String>,
    /// Seconds that a worker has to say that it holds the job.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub patience: u64,
}

/// Runs the command.
pub async fn run(args: &CancelArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let broker = Broker::connect(&settings.nats, "maitred cancel").await?;
    broker.require_version()?;
    let patience = Duration::from_secs(args.patience);
    let became = broker.cancel(&args.job, args.restaurant.as_deref(), &settings.limits, patience).await?;
    writeln!(io::stdout().lock(), "{}", told(&became))?;
    Ok(match became {
        Cancelled::AtWorker(_) | Cancelled::InQueue { .. } => Exit::Ok,
        Cancelled::HasResult | Cancelled::NotFound { .. } => Exit::Failed,
    })
}

fn told(became: &Cancelled) -> String {
    match became {
        Cancelled::AtWorker(Held::Queued) => "cancelled: it waited at a worker, which drops it".to_owned(),
        Cancelled::AtWorker(Held::Running) => {
            "cancelling: a worker is running it and stops; its result says whether it was done before"
                .to_owned()
        }
        Cancelled::InQueue { lane, sequence } => {
            format!("cancelled: taken out of the queue (lane {lane}, sequence {sequence})")
        }
        Cancelled::HasResult => "not cancelled: it has a result already".to_owned(),
        Cancelled::NotFound { looked_at } => format!(
            "not found: no worker says that it holds it, and it is not among the {looked_at} jobs that may wait"
        ),
    }
}
