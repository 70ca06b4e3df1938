//! Faults of Postgres. NATS is not there in these tests: one server's fault hides no other's.

use maitred_testkit::Postgres;

use crate::doctor::{Told, ask, plain};

const ROLES: &str = include_str!("../../../deploy/postgres/roles.sql");

fn about(postgres: &Postgres, url: &str) -> Told {
    ask(&plain(postgres.folder()).set("nats.url", "nats://127.0.0.1:1").set("postgres.url", url))
}

/// A server with its tables, made as `maitred init` makes them.
fn made() -> Option<Postgres> {
    let postgres = Postgres::start()?;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = maitred::config::SecretUrl::new(postgres.url());
    runtime.block_on(maitred::store::postgres::migrate(&url)).unwrap();
    Some(postgres)
}

#[test]
fn a_server_with_its_tables_is_well() {
    let Some(postgres) = made() else { return };
    let told = about(&postgres, &postgres.url());
    assert_eq!(told.codes(&["postgres"]), [""; 0]);
    for check in ["postgres.schema", "postgres.rights", "postgres.room", "clock.postgres"] {
        assert_eq!(told.status(check), "ok", "{check}");
    }
}

#[test]
fn a_server_without_tables_is_told_to_run_init_and_gets_none() {
    let Some(postgres) = Postgres::start() else { return };
    let told = about(&postgres, &postgres.url());
    assert_eq!(told.codes(&["postgres"]), ["postgres.behind"]);
    let found = told.failed("postgres.behind", "0001 metrics", "let the owner of the tables");
    assert_eq!(found["command"], "maitred init");
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[test]
fn a_role_that_may_not_write_is_told_what_to_grant() {
    let Some(postgres) = made() else { return };
    postgres.sql(ROLES);
    postgres.sql("CREATE ROLE nobody LOGIN");
    let told = about(&postgres, &postgres.url_as("nobody", "postgres"));
    assert_eq!(told.codes(&["postgres"]), ["postgres.forbidden"]);
    let found = told.failed(
        "postgres.forbidden",
        "the role nobody may not add rows to llm_metrics, ",
        "grants the role maitred_writer",
    );
    assert_eq!(found["command"], "psql -f deploy/postgres/roles.sql");
    let told = about(&postgres, &postgres.url_as("maitred_writer", "postgres"));
    assert_eq!(told.codes(&["postgres"]), [""; 0]);
}

#[test]
fn a_role_that_is_read_only_is_told_how_to_let_it_write() {
    let Some(postgres) = made() else { return };
    postgres
        .sql("CREATE ROLE quiet LOGIN SUPERUSER; ALTER ROLE quiet SET default_transaction_read_only = on");
    let told = about(&postgres, &postgres.url_as("quiet", "postgres"));
    assert_eq!(told.codes(&["postgres"]), ["postgres.read_only"]);
    told.failed(
        "postgres.read_only",
        "takes no changes",
        "ALTER ROLE quiet RESET default_transaction_read_only",
    );
}

#[test]
fn tables_of_a_newer_version_are_told_apart_from_old_ones() {
    let Some(postgres) = made() else { return };
    postgres.sql(
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum, 0 FROM _sqlx_migrations LIMIT 1",
    );
    let told = about(&postgres, &postgres.url());
    assert_eq!(told.codes(&["postgres"]), ["postgres.foreign"]);
    told.failed("postgres.foreign", "migration 9999", "update this program");
}

#[test]
fn a_table_that_is_gone_is_named_to_a_writer_who_may_not_see_the_steps() {
    let Some(postgres) = made() else { return };
    postgres.sql(ROLES);
    postgres.sql("ALTER TABLE goodput_windows RENAME TO elsewhere");
    let told = about(&postgres, &postgres.url_as("maitred_writer", "postgres"));
    assert_eq!(told.codes(&["postgres"]), ["postgres.behind"]);
    told.failed("postgres.behind", "the database lacks goodput_windows", "bring them up to date");
}

#[test]
fn a_server_without_the_database_or_without_the_role_or_at_all_is_one_failure() {
    let Some(mut postgres) = Postgres::start() else { return };
    let told = about(&postgres, &postgres.url_as("postgres", "elsewhere"));
    assert_eq!(told.codes(&["postgres"]), ["postgres.no_database"]);
    told.failed("postgres.no_database", "the database is not", "create the database");
    let told = about(&postgres, &postgres.url_as("stranger", "postgres"));
    assert_eq!(told.codes(&["postgres"]), ["postgres.refused"]);
    postgres.terminate();
    let told = about(&postgres, &postgres.url());
    assert_eq!(told.codes(&["postgres"]), ["postgres.unreachable"]);
    told.failed("postgres.unreachable", "does not answer", "until then workers go on and drop metrics");
    assert_eq!(told.status("clock.postgres"), "skipped");
}
