//! `maitred init`: makes on the servers what the fleet needs, or says what it would make. Idempotent, and the only
//! command that creates or changes streams, buckets, consumers and tables.

use std::io::{self, Write};

use clap::Args;

use crate::broker::nats::{Broker, possible};
use crate::broker::topology::{Action, Step, Topology};
use crate::config::{SecretUrl, Settings};
use crate::store::postgres;

/// Arguments of `maitred init`.
#[derive(Debug, Clone, Copy, Args)]
pub struct InitArgs {
    /// Only show what would be created or changed.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command. A line is printed when its step has been taken; with `--dry-run`, it would be.
pub async fn run(args: InitArgs, settings: &Settings, to: &mut impl Write) -> anyhow::Result<()> {
    let broker = Broker::connect(&settings.nats, "maitred init").await?;
    broker.require_version()?;
    let desired = Topology::desired(&settings.nats);
    let plan = broker.plan(&desired).await?;
    if args.dry_run {
        plan.iter().try_for_each(|step| print(to, step, Tense::Would))?;
        possible(&plan)?;
    } else {
        possible(&plan)?;
        for step in &plan {
            broker.take(step, &desired).await?;
            print(to, step, Tense::Has)?;
        }
        broker.kept(&desired).await?;
    }
    match &settings.postgres.url {
        Some(secret) => migrate(&secret.read("postgres.url_file")?, args.dry_run, to).await,
        None => Ok(()),
    }
}

/// The tables of the metrics; a line for each step that was missing.
async fn migrate(url: &SecretUrl, dry_run: bool, to: &mut impl Write) -> anyhow::Result<()> {
    let (word, steps) = if dry_run {
        ("would create", postgres::pending(url).await?)
    } else {
        ("created", postgres::migrate(url).await?)
    };
    if steps.is_empty() {
        writeln!(to, "{:<13} tables in postgres", "unchanged")?;
    }
    for step in steps {
        writeln!(to, "{word:<13} tables in postgres: {:04} {}", step.version, step.description)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Tense {
    Has,
    Would,
}

/// A line for the object, and one below it for each difference.
fn print(to: &mut impl Write, step: &Step, tense: Tense) -> io::Result<()> {
    let (word, found) = match (&step.action, tense) {
        (Action::Create, Tense::Has) => ("created", None),
        (Action::Create, Tense::Would) => ("would create", None),
        (Action::Change(found), Tense::Has) => ("changed", Some(found)),
        (Action::Change(found), Tense::Would) => ("would change", Some(found)),
        (Action::Keep, _) => ("unchanged", None),
        (Action::Refuse(found), _) => ("cannot change", Some(found)),
    };
    writeln!(to, "{word:<13} {}", step.object)?;
    for difference in found.into_iter().flatten() {
        let (field, actual, desired) = (difference.field, &difference.actual, &difference.desired);
        writeln!(to, "{:13} {field}: {actual} -> {desired}", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn printed(actual: &Topology, tense: Tense) -> String {
        let mut to = Vec::new();
        for step in Topology::desired(&Settings::default().nats).plan(actual) {
            print(&mut to, &step, tense).unwrap();
        }
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn each_object_is_a_line_and_each_difference_one_below_it() {
        let mut actual = Topology::desired(&Settings::default().nats);
        actual.consumers[0].ack_wait = Duration::from_mins(1);
        actual.streams.remove(0);
        let would = printed(&actual, Tense::Would);
        assert!(
            would.starts_with("would create  stream REVIEW_JOBS\nunchanged     stream ANALYSIS_RESULTS\n"),
            "{would}"
        );
        assert!(
            would.contains("would change  consumer worker-hi\n              ack_wait: 1m -> 30s\n"),
            "{would}"
        );
        assert!(printed(&actual, Tense::Has).contains("changed       consumer worker-hi\n"));
    }
}
