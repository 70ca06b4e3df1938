//! The schema: what is there, what is missing, bringing it up to date.

use std::collections::BTreeMap;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};

use super::error::{explain, explain_migration, refuse};
use super::{CONNECT, options};
use crate::config::SecretUrl;
use crate::store::StoreError;

/// The schema, of two files so far. The macro does not notice a file that is added to the folder: change this one then.
static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// One step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub description: String,
}

/// Brings the schema up to date; what was missing. Several at the same time wait for each other.
///
/// # Errors
/// If the server cannot be reached, the user may not, or the schema is not ours, or newer.
pub async fn migrate(url: &SecretUrl) -> Result<Vec<Migration>, StoreError> {
    let mut connection = connect(url, "maitred init").await?;
    // Looked up under the lock: what another one applies meanwhile is not ours.
    connection.lock().await.map_err(|error| explain_migration(&error))?;
    let applied = async {
        let missing = missing(&mut connection).await?;
        // `run` itself gives a future that the compiler cannot show to be `Send`; this is what it calls. It takes the
        // lock once more, which counts.
        MIGRATIONS.run_direct(None, &mut connection, false).await?;
        Ok(missing)
    };
    let applied: Result<_, MigrateError> = applied.await;
    // Closing gives the lock back, also after a failure.
    connection.close().await.map_err(|error| explain(&error))?;
    applied.map_err(|error| explain_migration(&error))
}

/// What [`migrate`] would apply. Changes nothing.
///
/// # Errors
/// As [`migrate`].
pub async fn pending(url: &SecretUrl) -> Result<Vec<Migration>, StoreError> {
    let mut connection = connect(url, "maitred init").await?;
    let missing = missing(&mut connection).await;
    connection.close().await.map_err(|error| explain(&error))?;
    missing.map_err(|error| explain_migration(&error))
}

pub(super) async fn connect(url: &SecretUrl, name: &str) -> Result<PgConnection, StoreError> {
    let options = options(url)?.application_name(name);
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => connected.map_err(|error| explain(&error)),
        Err(_) => {
            Err(refuse(format_args!("no connection within {CONNECT:?}; check postgres.url and the server")))
        }
    }
}

pub(super) async fn missing(connection: &mut PgConnection) -> Result<Vec<Migration>, MigrateError> {
    let known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    let applied: BTreeMap<i64, Vec<u8>> = if known {
        let rows: Vec<(i64, Vec<u8>, bool)> =
            sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
                .fetch_all(connection)
                .await?;
        if let Some((version, ..)) = rows.iter().find(|(.., success)| !success) {
            return Err(MigrateError::Dirty(*version));
        }
        rows.into_iter().map(|(version, checksum, _)| (version, checksum)).collect()
    } else {
        BTreeMap::new()
    };
    if let Some(version) = applied.keys().find(|version| !MIGRATIONS.version_exists(**version)) {
        return Err(MigrateError::VersionMissing(*version));
    }
    let mut missing = Vec::new();
    for migration in MIGRATIONS.iter() {
        match applied.get(&migration.version) {
            Some(checksum) if *checksum != *migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version));
            }
            Some(_) => {}
            None => missing.push(Migration {
                version: migration.version,
                description: migration.description.to_string(),
            }),
        }
    }
    Ok(missing)
}
