//! Row "Postgres down, read-only, locked, full": results do not wait for rows.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use maitred_testkit::{Postgres, wait_until};
use nix::sys::signal::Signal;
use rstest::rstest;

use super::super::faults::{Fleet, until_ready};
use super::{said, work};
use crate::common::fleet::Workload;

/// What happens to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Killed,
    Locked,
    ReadOnly,
}

/// A session that holds a lock on a table until it is released.
struct Lock(Child);

impl Lock {
    fn take(postgres: &Postgres) -> Self {
        let sql = "BEGIN; LOCK TABLE analysis_metrics, llm_metrics; SELECT pg_sleep(3600)";
        let program: &Path = &postgres.bin().join("psql");
        let mut psql = Command::new(program);
        psql.args(["-XAtq", "-d", &postgres.url(), "-c", sql]).stdout(Stdio::null()).stderr(Stdio::null());
        let lock = Self(psql.spawn().unwrap());
        wait_until("the table is locked", || {
            postgres.sql(
                "SELECT count(*) > 0 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                 WHERE c.relname = 'llm_metrics' AND l.mode = 'AccessExclusiveLock' AND l.granted",
            ) == "t"
        });
        lock
    }

    /// The server is told: it would not notice that its client has gone.
    fn release(mut self, postgres: &Postgres) {
        end_others(postgres);
        self.0.wait().unwrap();
    }
}

/// Ends all sessions but its own.
fn end_others(postgres: &Postgres) {
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    );
}

fn read_only(postgres: &Postgres, on: bool) {
    let change =
        if on { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
    postgres.sql(&format!("BEGIN READ WRITE; ALTER DATABASE postgres {change}; COMMIT"));
    // Sessions take it over when they begin.
    end_others(postgres);
}

/// How many restaurants of a workload have a row.
fn rows(postgres: &Postgres, seed: u64) -> String {
    postgres.sql(&format!(
        "SELECT count(DISTINCT restaurant_id) FROM analysis_metrics WHERE restaurant_id LIKE 'r{seed}-%'"
    ))
}

#[rstest]
#[case::killed(Trouble::Killed)]
#[case::locked(Trouble::Locked)]
#[case::read_only(Trouble::ReadOnly)]
#[tokio::test(flavor = "multi_thread")]
async fn results_flow_without_postgres_and_rows_arrive_when_it_is_back(#[case] trouble: Trouble) {
    let Some(mut postgres) = Postgres::start() else { return };
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.maitred = fleet.maitred.set("postgres.url", postgres.url());
    fleet.maitred.run(&["init"]).ended(0);
    let mut worker = fleet.worker("w-1");
    until_ready(&mut worker, true);
    let (_, before) = work(&fleet, &Workload::with(81, 6, |_| 4)).await;
    wait_until("rows are written", || rows(&postgres, 81) == "6");
    let mut lock = None;
    match trouble {
        Trouble::Killed => postgres.kill(),
        Trouble::Locked => lock = Some(Lock::take(&postgres)),
        Trouble::ReadOnly => read_only(&postgres, true),
    }
    let (report, during) = work(&fleet, &Workload::with(82, 6, |_| 4)).await;
    assert_eq!((report.results.len(), report.dead.len()), (12, 0), "{}", report.told());
    worker.wait_line("metrics cannot be written; results go on without them");
    match trouble {
        Trouble::Killed => postgres.restart(),
        Trouble::Locked => lock.take().unwrap().release(&postgres),
        Trouble::ReadOnly => read_only(&postgres, false),
    }
    work(&fleet, &Workload::with(83, 6, |_| 4)).await;
    // A batch is given up after some tries: what was offered after the recovery cannot be among those.
    wait_until("rows are written again", || {
        fleet.submit(&Workload::with(84, 1, |_| 4));
        rows(&postgres, 84) == "1"
    });
    fleet.all_end().await;
    eprintln!(
        "{trouble:?}: {before:.2?} a job before, {during:.2?} without Postgres; of 6 restaurants each, rows of {} \
         from the outage and of {} after it",
        rows(&postgres, 82),
        rows(&postgres, 83),
    );
    // A row can be seen before its writer has heard of it.
    wait_until("each outage has an end", || {
        said(&worker, "metrics cannot be written") == said(&worker, "metrics are written again")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_lost_are_counted_and_told_at_the_end() {
    let Some(mut postgres) = Postgres::start() else { return };
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.maitred = fleet.maitred.set("postgres.url", postgres.url());
    fleet.maitred.run(&["init"]).ended(0);
    let mut worker = fleet.worker("w-1");
    until_ready(&mut worker, true);
    postgres.kill();
    work(&fleet, &Workload::with(85, 4, |_| 4)).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    let lost = worker.wait_line("metrics rows lost");
    let failed: u64 = lost.rsplit_once("failed=").unwrap().1.trim().parse().unwrap();
    // A row for each job and one for the worker at least, and one for each request to the model.
    assert!(failed >= 5, "{lost}");
    assert!(lost.contains("dropped=0"), "{lost}");
    eprintln!("{lost}");
}
