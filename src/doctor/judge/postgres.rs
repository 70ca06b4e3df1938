//! Postgres.

use std::time::Duration;

use super::{behind, skipped, span};
use crate::checkup::{Looked, Obstacle, PostgresFacts, Schema};
use crate::doctor::catalogue as known;
use crate::doctor::finding::{Check, Finding};

/// The oldest version whose features the tables use, as the server numbers versions.
const OLDEST: i32 = 130_000;
/// Connections that should be left: five workers' worth.
const LEFT: u32 = 10;

const CHECKS: [Check; 5] = [
    Check::PostgresConnection,
    Check::PostgresVersion,
    Check::PostgresSchema,
    Check::PostgresRights,
    Check::PostgresRoom,
];

/// `limit`: how long it had to answer.
pub fn judge(looked: &Looked<PostgresFacts>, limit: Duration) -> Vec<Finding> {
    let facts = match looked {
        Looked::Unset => {
            let mend = "set `postgres.url` to keep the fleet's metrics";
            return skipped(
                &CHECKS,
                "`postgres.url` is none: metrics are not kept, or in `store.cache`",
                mend,
            );
        }
        Looked::At(facts) => facts,
        Looked::Away(obstacle) => return [vec![away(obstacle)], behind(&CHECKS)].concat(),
        Looked::Late => {
            let late = Finding::known(&known::POSTGRES_LATE, "no answer", &[("limit", &span(limit))]);
            return [vec![late], behind(&CHECKS)].concat();
        }
    };
    let took = span(facts.round_trip);
    vec![
        Finding::ok(Check::PostgresConnection, format_args!("connected as {}, {took}", facts.role)),
        version(facts),
        schema(facts),
        rights(facts),
        room(facts.connections, facts.max_connections),
    ]
}

fn away(obstacle: &Obstacle) -> Finding {
    let (known, told) = match obstacle {
        Obstacle::Settings(told) => (&known::POSTGRES_SETTINGS, told),
        Obstacle::Refused(told) => (&known::POSTGRES_REFUSED, told),
        Obstacle::Untrusted(told) => (&known::POSTGRES_UNTRUSTED, told),
        Obstacle::Unreachable(told) => (&known::POSTGRES_UNREACHABLE, told),
        Obstacle::NoDatabase(told) => (&known::POSTGRES_NO_DATABASE, told),
    };
    Finding::known(known, "no connection", &[("told", told)])
}

fn version(facts: &PostgresFacts) -> Finding {
    let version = &facts.version;
    if facts.version_number < OLDEST {
        Finding::known(&known::POSTGRES_OLD, version, &[("version", version)])
    } else {
        Finding::ok(Check::PostgresVersion, version)
    }
}

fn schema(facts: &PostgresFacts) -> Finding {
    let behind = |steps: &[String]| {
        let saw = format!("{} missing", steps.len());
        Finding::known(&known::POSTGRES_BEHIND, saw, &[("steps", &steps.join(", "))])
    };
    match &facts.schema {
        Schema::Behind(steps) => behind(steps),
        Schema::Foreign(told) => Finding::known(&known::POSTGRES_FOREIGN, "not ours", &[("told", told)]),
        Schema::Hidden | Schema::Current if !facts.missing_tables.is_empty() => behind(&facts.missing_tables),
        Schema::Current => Finding::ok(Check::PostgresSchema, "up to date"),
        Schema::Hidden => Finding::skipped(
            Check::PostgresSchema,
            "the tables are there; their version is not told to this login",
            "run `maitred init --dry-run` as the owner of the tables",
        ),
    }
}

fn rights(facts: &PostgresFacts) -> Finding {
    let role = &facts.role;
    if facts.is_read_only {
        return Finding::known(&known::POSTGRES_READ_ONLY, "read-only", &[("role", role)]);
    }
    let tables = |allowed: bool| -> Vec<&str> {
        facts
            .rights
            .iter()
            .filter(|right| right.allowed == allowed)
            .map(|right| right.name.as_str())
            .collect()
    };
    let forbidden = tables(false);
    if !forbidden.is_empty() {
        let values: [(&str, &dyn std::fmt::Display); 2] = [("role", role), ("tables", &forbidden.join(", "))];
        let saw = format!("{} of {} forbidden", forbidden.len(), facts.rights.len());
        return Finding::known(&known::POSTGRES_FORBIDDEN, saw, &values);
    }
    if facts.rights.is_empty() {
        return Finding::behind(Check::PostgresRights, Check::PostgresSchema);
    }
    Finding::ok(Check::PostgresRights, format_args!("may add rows to {}", tables(true).join(", ")))
}

fn room(open: u32, most: u32) -> Finding {
    let saw = format!("{open} of {most} connections open");
    if most.saturating_sub(open) < LEFT {
        Finding::known(&known::POSTGRES_CROWDED, saw, &[("open", &open), ("most", &most)])
    } else {
        Finding::ok(Check::PostgresRoom, saw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkup::Right;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn well() -> PostgresFacts {
        let right = |name: &str| Right { what: "add rows".into(), name: name.into(), allowed: true };
        PostgresFacts {
            version: "15.10".into(),
            version_number: 150_010,
            role: "maitred_writer".into(),
            round_trip: Duration::from_millis(1),
            is_read_only: false,
            schema: Schema::Current,
            missing_tables: Vec::new(),
            rights: vec![right("llm_metrics"), right("workers")],
            connections: 5,
            max_connections: 97,
            skew: None,
        }
    }

    fn judged(facts: PostgresFacts) -> Vec<Finding> {
        judge(&Looked::At(facts), Duration::from_secs(20))
    }

    #[test]
    fn a_server_that_is_as_it_should_be_is_well_and_so_is_none() {
        let found = judged(well());
        assert_well(&found);
        assert_eq!(found.iter().map(|finding| finding.check).collect::<Vec<_>>(), CHECKS);
        let none = judge(&Looked::Unset, Duration::from_secs(20));
        assert!(none.len() == CHECKS.len() && none.iter().all(|f| f.status == Status::Skipped));
    }

    #[test]
    fn a_server_that_is_away_is_one_failure() {
        for (looked, code) in [
            (Looked::Away(Obstacle::Unreachable("x".into())), "postgres.unreachable"),
            (Looked::Away(Obstacle::Refused("x".into())), "postgres.refused"),
            (Looked::Away(Obstacle::Untrusted("x".into())), "postgres.untrusted"),
            (Looked::Away(Obstacle::NoDatabase("x".into())), "postgres.no_database"),
            (Looked::Away(Obstacle::Settings("x".into())), "postgres.settings"),
            (Looked::Late, "postgres.late"),
        ] {
            let found = judge(&looked, Duration::from_secs(20));
            assert_eq!(codes(&found), [code]);
            assert_eq!(found.len(), CHECKS.len());
        }
    }

    #[test]
    fn without_migrations_there_is_one_failure_and_its_command() {
        let facts = PostgresFacts {
            schema: Schema::Behind(vec!["0001 metrics".into()]),
            missing_tables: vec!["workers".into()],
            rights: Vec::new(),
            ..well()
        };
        let found = judged(facts);
        assert_eq!(codes(&found), ["postgres.behind"]);
        let found = one(&found, Check::PostgresSchema);
        assert_eq!(found.command.as_deref(), Some("maitred init"));
        assert_eq!(found.mend.as_deref(), Some("let the owner of the tables bring them up to date"));
    }

    #[test]
    fn a_writer_that_may_not_see_the_steps_sees_whether_tables_are_missing() {
        let hidden = PostgresFacts { schema: Schema::Hidden, ..well() };
        let found = judged(hidden.clone());
        assert_well(&found);
        assert_eq!(one(&found, Check::PostgresSchema).status, Status::Skipped);
        let found = judged(PostgresFacts { missing_tables: vec!["gpu_samples".into()], ..hidden });
        assert_eq!(codes(&found), ["postgres.behind"]);
        assert_eq!(
            one(&found, Check::PostgresSchema).means.as_deref(),
            Some("the database lacks gpu_samples")
        );
    }

    #[test]
    fn tables_of_another_program_are_told_apart_from_old_ones() {
        let found = judged(PostgresFacts { schema: Schema::Foreign("newer".into()), ..well() });
        assert_eq!(codes(&found), ["postgres.foreign"]);
        assert_eq!(
            mend(&found, Check::PostgresSchema),
            "update this program, or name another database in `postgres.url`"
        );
    }

    #[test]
    fn a_role_that_may_not_write_is_told_what_to_grant() {
        let mut facts = well();
        facts.rights[0].allowed = false;
        let found = judged(facts);
        assert_eq!(codes(&found), ["postgres.forbidden"]);
        assert_eq!(
            one(&found, Check::PostgresRights).means.as_deref(),
            Some("the role maitred_writer may not add rows to llm_metrics")
        );
        assert_eq!(
            one(&found, Check::PostgresRights).command.as_deref(),
            Some("psql -f deploy/postgres/roles.sql")
        );
        let found = judged(PostgresFacts { is_read_only: true, ..well() });
        assert_eq!(codes(&found), ["postgres.read_only"]);
        assert!(mend(&found, Check::PostgresRights).contains("ALTER ROLE maitred_writer RESET"));
    }

    #[test]
    fn an_old_and_a_crowded_server_are_told() {
        let facts =
            PostgresFacts { version: "12.3".into(), version_number: 120_003, connections: 90, ..well() };
        let found = judged(facts);
        assert_eq!(codes(&found), ["postgres.old", "postgres.crowded"]);
        assert_eq!(one(&found, Check::PostgresRoom).status, Status::Warn);
    }
}
