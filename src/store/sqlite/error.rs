//! SQLite's result codes in words that say what to do.

use std::fmt::Display;
use std::path::Path;

use sqlx::migrate::MigrateError;

use super::MIGRATIONS;
use crate::store::StoreError;

pub(super) const STORE: &str = "sqlite";

/// Primary result codes, <https://www.sqlite.org/rescode.html>.
mod code {
    pub const BUSY: i32 = 5;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const NOTADB: i32 = 26;
}

/// A refusal of `path`, with what to do.
pub(super) fn refuse(path: &Path, message: impl Display) -> StoreError {
    StoreError::new(STORE, format_args!("{}: {message}", path.display()))
}

/// Says what SQLite's error means for the owner of the file.
pub(super) fn explain(path: &Path, error: &sqlx::Error) -> StoreError {
    let advice = match primary_code(error) {
        Some(code::BUSY) => "another process is writing to it for too long; wait for it or name another file",
        Some(code::READONLY) => "it cannot be written; change its permissions or name another file",
        Some(code::IOERR) => "reading or writing failed; check the disk",
        Some(code::CORRUPT) => {
            "it is damaged; delete it, it only holds what can be computed again, and metrics"
        }
        Some(code::FULL) => "the disk is full; free some space",
        Some(code::CANTOPEN) if path.is_dir() => "it is a folder; name a file in it",
        Some(code::CANTOPEN) => "it cannot be opened or created; name a file in a folder that can be written",
        Some(code::NOTADB) => "it is not an SQLite database; name another file",
        _ => return refuse(path, error),
    };
    refuse(path, format_args!("{advice} ({error})"))
}

/// As [`explain`], for the schema.
pub(super) fn explain_migration(path: &Path, error: &MigrateError) -> StoreError {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain(path, error),
        MigrateError::VersionMissing(version) if *version > newest => refuse(
            path,
            format_args!(
                "it was written by a newer version (schema {version}, this one knows {newest}); update this program or name another file"
            ),
        ),
        other => refuse(
            path,
            format_args!(
                "its schema is not one that this program ever had ({other}); delete it or name another file"
            ),
        ),
    }
}

/// Whether another connection holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(code::BUSY)
}

/// The lowest byte of the extended code that the driver reports.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}
