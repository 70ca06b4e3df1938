//! The fleet's metrics, in Postgres 13 or later.
//!
//! The schema, with its units, stands in `migrations/postgres/`; `maitred init` brings it up to date, workers only add
//! rows and let go of old ones by a function of the owner's (the role `maitred_writer` in `deploy/postgres/roles.sql`
//! suffices). Invariants: a batch is there as a whole
//! or not at all; a row that is there already is left as it is; a call ends within [`ATTEMPT`], whatever the server
//! does. Nothing is connected before it is needed, so the server may come later than the workers.
//!
//! TLS, as in every tool of Postgres, by parameters of the URL: `?sslmode=verify-full&sslrootcert=/path/ca.pem`, and
//! `sslcert` and `sslkey` for a client certificate. Without `sslmode` it is used if the server offers it, unchecked.

mod checkup;
mod error;
mod insert;
mod migrate;
mod report;

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};

pub use self::checkup::check_up;
use self::error::{explain, refuse};
pub use self::migrate::{Migration, migrate, pending};
pub use self::report::report;
use super::StoreError;
use super::metrics::{MetricRow, MetricStore};
use crate::config::SecretUrl;

/// Rows are written by one task, batch after batch; the second connection is for when the first one hangs.
const CONNECTIONS: u32 = 2;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time of one statement, kept by the server.
const STATEMENT: Duration = Duration::from_secs(5);
/// Longest wait for a lock, kept by the server.
const LOCK: Duration = Duration::from_secs(2);
/// Rows that are let go at once: well within the time of a statement.
const LET_GO_AT_ONCE: u32 = 5000;
/// Longest time of a batch, kept here: a server that hangs keeps nothing. Below the writer's own limit.
const ATTEMPT: Duration = Duration::from_secs(8);

/// See the module.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    /// Batches that failed.
    errors: AtomicU64,
}

impl PostgresStore {
    /// A store at `url`. Nothing is connected yet.
    ///
    /// # Errors
    /// If the URL is none of Postgres.
    pub fn new(url: &SecretUrl) -> Result<Self, StoreError> {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let options = options(url)?.application_name("maitred worker").options([
            ("statement_timeout", millis(STATEMENT)),
            ("lock_timeout", millis(LOCK)),
            // A worker that is killed in mid-batch must not keep its locks.
            ("idle_in_transaction_session_timeout", millis(ATTEMPT)),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .connect_lazy_with(options);
        Ok(Self { pool, errors: AtomicU64::new(0) })
    }

    /// Batches that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Closes the connections. Calls after this fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Lets rows go that are older than `keep`; how many. Nothing if another worker is at it, or did it today.
    ///
    /// # Errors
    /// If the server does not answer, or its schema or the rights are not up to date.
    pub async fn let_go(&self, keep: Duration) -> Result<u64, StoreError> {
        let mut all = 0;
        loop {
            // A stretch at a time, each in a transaction of its own: nobody waits long, and what is gone is gone.
            let gone = sqlx::query_scalar("SELECT let_go_of_metrics(make_interval(secs => $1), $2)")
                .bind(keep.as_secs_f64())
                .bind(i64::from(LET_GO_AT_ONCE))
                .fetch_one(&self.pool);
            let gone: Option<i64> = match tokio::time::timeout(ATTEMPT, gone).await {
                Ok(gone) => gone.map_err(|error| explain(&error))?,
                Err(_) => return Err(late()),
            };
            let Some(gone) = gone else { return Ok(all) };
            all += gone.unsigned_abs();
            if gone < i64::from(LET_GO_AT_ONCE) {
                return Ok(all);
            }
        }
    }

    async fn write(&self, rows: &[MetricRow]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        insert::all(&mut transaction, rows).await?;
        transaction.commit().await
    }
}

impl MetricStore for PostgresStore {
    async fn record(&self, rows: &[MetricRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let outcome = match tokio::time::timeout(ATTEMPT, self.write(rows)).await {
            Ok(outcome) => outcome.map_err(|error| explain(&error)),
            Err(_) => Err(late()),
        };
        self.errors.fetch_add(outcome.is_err().into(), Ordering::Relaxed);
        outcome
    }
}

fn late() -> StoreError {
    refuse(format_args!("it did not answer within {ATTEMPT:?}; check the server"))
}

/// The URL's, without logging of statements. The driver takes any scheme for its own.
fn options(url: &SecretUrl) -> Result<PgConnectOptions, StoreError> {
    let ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
    // The parser's own words may repeat the URL, with its password, so they are not passed on.
    let options = ours.then(|| PgConnectOptions::from_str(url.expose()).ok()).flatten().ok_or_else(|| {
        refuse("the URL cannot be used; write postgres.url as postgres://user:password@host:5432/database")
    })?;
    Ok(options.disable_statement_logging())
}
