//! Looks a Postgres over, for `maitred doctor`. Only reads, and mostly what every login may read.

use std::time::Instant;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};
use time::OffsetDateTime;

use super::error::{explain, explain_migration};
use super::{CONNECT, STATEMENT, migrate, options};
use crate::checkup::{Obstacle, PostgresFacts, Right, Schema, Skew};
use crate::config::SecretUrl;

/// Tables to which workers add rows.
const WRITTEN: [&str; 8] = [
    "llm_metrics",
    "analysis_metrics",
    "job_metrics",
    "goodput_windows",
    "gpu_samples",
    "dead_letters",
    "workers",
    "worker_ends",
];

/// Looks the server over. One connection, closed at the end.
pub async fn check_up(url: &SecretUrl) -> Result<PostgresFacts, Obstacle> {
    let options = options(url).map_err(|error| Obstacle::Settings(error.message))?;
    let options = options
        .application_name("maitred doctor")
        .options([("statement_timeout", STATEMENT.as_millis().to_string())]);
    let opened = tokio::time::timeout(CONNECT, options.connect()).await;
    let opened = opened.map_err(|_| Obstacle::Unreachable(format!("no connection within {CONNECT:?}")))?;
    let mut connection = opened.map_err(|error| obstacle(&error))?;
    let found = look(&mut connection).await.map_err(|error| Obstacle::Unreachable(explain(&error).message));
    // What was found counts, however the server takes the farewell.
    let _ = connection.close().await;
    found
}

fn obstacle(error: &sqlx::Error) -> Obstacle {
    let told = explain(error).message;
    match error {
        sqlx::Error::Configuration(_) => Obstacle::Settings(told),
        sqlx::Error::Tls(_) => Obstacle::Untrusted(told),
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("28P01" | "28000" | "42501") => Obstacle::Refused(told),
            Some("3D000") => Obstacle::NoDatabase(told),
            _ => Obstacle::Unreachable(told),
        },
        _ => Obstacle::Unreachable(told),
    }
}

async fn look(connection: &mut PgConnection) -> Result<PostgresFacts, sqlx::Error> {
    let (asked, start) = (OffsetDateTime::now_utc(), Instant::now());
    let now: OffsetDateTime =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
    let (round_trip, heard) = (start.elapsed(), OffsetDateTime::now_utc());
    let (version, version_number, role, is_read_only): (String, i32, String, bool) = sqlx::query_as(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
                current_user::text,
                pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (open, most): (i64, i32) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                current_setting('max_connections')::integer
                    - current_setting('superuser_reserved_connections')::integer",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (rights, missing_tables) = tables(connection).await?;
    Ok(PostgresFacts {
        version,
        version_number,
        role,
        round_trip,
        is_read_only,
        schema: schema(connection).await?,
        missing_tables,
        rights,
        connections: u32::try_from(open).unwrap_or(u32::MAX),
        max_connections: u32::try_from(most).unwrap_or(0),
        skew: Some(Skew::of(now, asked, heard)),
    })
}

/// Which steps of the schema are there. A writer's role may not see them: then the tables have to speak for it.
async fn schema(connection: &mut PgConnection) -> Result<Schema, sqlx::Error> {
    let may: Option<bool> =
        sqlx::query_scalar("SELECT has_table_privilege(to_regclass('_sqlx_migrations')::oid, 'SELECT')")
            .fetch_one(&mut *connection)
            .await?;
    if may == Some(false) {
        return Ok(Schema::Hidden);
    }
    match migrate::missing(connection).await {
        Ok(missing) if missing.is_empty() => Ok(Schema::Current),
        Ok(missing) => {
            let name = |step: migrate::Migration| format!("{:04} {}", step.version, step.description);
            Ok(Schema::Behind(missing.into_iter().map(name).collect()))
        }
        Err(MigrateError::Execute(error)) => Err(error),
        Err(error) => Ok(Schema::Foreign(explain_migration(&error).message)),
    }
}

/// Whether each table may be written, and which are not there.
async fn tables(connection: &mut PgConnection) -> Result<(Vec<Right>, Vec<String>), sqlx::Error> {
    let (mut rights, mut missing) = (Vec::new(), Vec::new());
    for table in WRITTEN {
        let may: Option<bool> =
            sqlx::query_scalar("SELECT has_table_privilege(to_regclass($1)::oid, 'INSERT')")
                .bind(table)
                .fetch_one(&mut *connection)
                .await?;
        match may {
            Some(allowed) => {
                rights.push(Right { what: "add rows".to_owned(), name: table.to_owned(), allowed });
            }
            None => missing.push(table.to_owned()),
        }
    }
    Ok((rights, missing))
}
