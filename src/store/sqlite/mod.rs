//! Everything that outlives a run, in one SQLite file: facts, last results, running rates and metrics.
//!
//! The schema, with its units, stands in `migrations/sqlite/`. Invariants: a write is one immediate transaction, so it
//! is there as a whole or not at all, and waits for other processes instead of failing; writers of this process queue
//! for one connection while readers go on beside them (write-ahead log). The file belongs to this program: a file of
//! another program, or of a newer version, is left untouched.

mod error;
mod facts;
mod metrics;
mod report;
mod retention;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqlitePool, Transaction};
use time::OffsetDateTime;

use self::error::{explain, explain_migration, is_busy};
pub use self::retention::Retention;
use super::StoreError;

/// The schema, of three files so far. The macro does not notice a file that is added to the folder: change this then.
static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// `PRAGMA application_id` of the files of this program: "MTRD".
const APPLICATION_ID: i32 = 0x4d54_5244;
const SET_APPLICATION_ID: &str = "PRAGMA application_id = 0x4d545244";

/// How long a writer waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Readers beside the one writer.
const READERS: u32 = 2;

/// See the module.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    readers: SqlitePool,
    writer: SqlitePool,
    retention: Retention,
}

impl SqliteStore {
    /// Opens the file, creating it and its folder if they are missing, and brings its schema up to date.
    ///
    /// # Errors
    /// If the file or its folder cannot be written, or the file is damaged, not a database, a database of another
    /// program or one written by a newer version. A file that is refused is not changed.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        create_folder_of(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            // After a power cut the latest writes may be missing; they are computed again. The file stays sound.
            .synchronous(SqliteSynchronous::Normal)
            .disable_statement_logging();
        prepare(path, &options).await?;
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        Ok(Self {
            path: path.to_owned(),
            readers: pool(READERS),
            writer: pool(1),
            retention: Retention::default(),
        })
    }

    /// Sets what `close` prunes.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Prunes by the retention rule and closes the file. Calls after this fail.
    pub async fn close(&self) -> Result<(), StoreError> {
        let pruned = self.prune(OffsetDateTime::now_utc()).await;
        self.readers.close().await;
        // The last connection moves the write-ahead log into the file.
        self.writer.close().await;
        pruned
    }

    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.explain(error))
    }

    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|error| self.explain(error))
    }

    #[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
    fn explain(&self, error: sqlx::Error) -> StoreError {
        explain(&self.path, &error)
    }
}

fn create_folder_of(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| {
        error::refuse(
            path,
            format_args!("its folder cannot be created ({error}); name a folder that can be written"),
        )
    })
}

/// Makes the file ours or refuses it, over a connection that is closed again.
async fn prepare(path: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let mut connection = options.connect().await.map_err(|error| explain(path, &error))?;
    let prepared = prepare_over(path, &mut connection).await;
    connection.close().await.map_err(|error| explain(path, &error)).and(prepared)
}

async fn prepare_over(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    // Before anything is written: whose file is it?
    let (application, tables): (i32, i64) = sqlx::query_as(
        "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| explain(path, &error))?;
    let fresh = application == 0 && tables == 0;
    if !fresh && application != APPLICATION_ID {
        return Err(error::refuse(path, "it is a database of another program; name another file"));
    }
    enter_wal(connection, fresh).await.map_err(|error| explain(path, &error))?;
    migrate(connection).await.map_err(|error| explain_migration(path, &error))
}

/// Switches the journal, which SQLite does not wait for however the busy timeout is set: two processes that create the
/// file at the same time would fail without this.
async fn enter_wal(connection: &mut SqliteConnection, fresh: bool) -> Result<(), sqlx::Error> {
    const PAUSE: Duration = Duration::from_millis(20);
    let started = Instant::now();
    loop {
        // Pages that pruning frees go back to the file system; only settable while the file is empty.
        let pragmas = if fresh {
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL"
        } else {
            "PRAGMA journal_mode = WAL"
        };
        match sqlx::raw_sql(pragmas).execute(&mut *connection).await {
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "another process holds the file: nothing tells when it lets go"
                )]
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome.map(drop),
        }
    }
}

/// In one immediate transaction: a second process waits and then finds nothing to do.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // `run` itself gives a future that the compiler cannot show to be `Send`; this is what it calls.
    MIGRATIONS.run_direct(None, &mut *transaction, false).await?;
    // Written at every opening: SQLite quietly opens a file that it may not write, and even begins the transaction.
    sqlx::raw_sql(SET_APPLICATION_ID).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Seconds since 1970 in UTC, as caches keep them.
fn unix_now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// SQLite's integers are signed; no count here comes near the difference.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
