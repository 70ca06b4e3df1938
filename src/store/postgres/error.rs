//! Postgres' errors in words that say what to do.

use std::fmt::Display;

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

const STORE: &str = "postgres";

/// SQLSTATE codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
mod code {
    pub const READ_ONLY: &str = "25006";
    pub const BAD_PASSWORD: &str = "28P01";
    pub const BAD_AUTHORIZATION: &str = "28000";
    pub const NO_DATABASE: &str = "3D000";
    pub const NO_PRIVILEGE: &str = "42501";
    pub const NO_TABLE: &str = "42P01";
    pub const NO_COLUMN: &str = "42703";
    pub const NO_FUNCTION: &str = "42883";
    pub const DISK_FULL: &str = "53100";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const LOCKED: &str = "55P03";
    pub const CANCELED: &str = "57014";
    pub const STARTING: &str = "57P03";
}

/// A failure, with what to do.
pub(super) fn refuse(message: impl Display) -> StoreError {
    StoreError::new(STORE, message)
}

/// Says what the error means for the owner of the server.
pub(super) fn explain(error: &sqlx::Error) -> StoreError {
    let advice = match error {
        sqlx::Error::Io(_) => "it does not answer; check postgres.url and the server",
        sqlx::Error::PoolTimedOut => "no connection within its time; check postgres.url and the server",
        sqlx::Error::Tls(_) => "no trusted connection; check sslmode and sslrootcert in postgres.url",
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some(code::READ_ONLY) => "it is read-only; name the primary in postgres.url",
            Some(code::BAD_PASSWORD | code::BAD_AUTHORIZATION) => {
                "it refuses the login; check user and password in postgres.url"
            }
            Some(code::NO_DATABASE) => "the database is not there; create it or correct postgres.url",
            Some(code::NO_PRIVILEGE) => "the user may not do this; grant what deploy/postgres/roles.sql says",
            Some(code::NO_TABLE | code::NO_COLUMN | code::NO_FUNCTION) => {
                "its schema is not up to date; run `maitred init`"
            }
            Some(code::DISK_FULL) => "its disk is full; free some space there",
            Some(code::TOO_MANY_CONNECTIONS) => "it has no connection left; raise max_connections",
            Some(code::LOCKED) => "a table is locked for too long; see who holds it in pg_locks",
            Some(code::CANCELED) => {
                "the statement took too long; see what the server does in pg_stat_activity"
            }
            Some(code::STARTING) => "it is still starting; it will answer later",
            _ => return refuse(error),
        },
        _ => return refuse(error),
    };
    refuse(format_args!("{advice} ({error})"))
}

/// As [`explain`], for the schema.
pub(super) fn explain_migration(error: &MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain(error),
        MigrateError::VersionMissing(version) => refuse(format_args!(
            "its schema is of a newer version (migration {version}); update this program"
        )),
        MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => refuse(format_args!(
            "its schema is not one that this program ever had (migration {version}); name another database"
        )),
        other => refuse(other),
    }
}
