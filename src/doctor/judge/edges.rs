//! What a worker is connected to beside its servers: who asks for its health, where its telemetry goes, what ends its
//! machine.

use std::net::SocketAddr;

use crate::doctor::catalogue as known;
use crate::doctor::finding::{Check, Finding};

/// The edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeFacts {
    /// The address of health and status.
    pub health: HealthFacts,
    /// Where telemetry goes.
    pub telemetry: EndFacts,
    /// What ends an idle worker's machine.
    pub hook: EndFacts,
}

impl EdgeFacts {
    /// Whether a worker of this installation runs here.
    pub const fn is_worker_here(&self) -> bool {
        matches!(self.health, HealthFacts::Served { .. })
    }
}

/// The address of health and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthFacts {
    /// None is set.
    Unset,
    /// Nobody listens there, and a worker can.
    Free(SocketAddr),
    /// A worker listens there.
    Served {
        /// Where.
        listen: SocketAddr,
        /// Which one.
        worker: String,
    },
    /// Somebody else listens there.
    Taken(SocketAddr),
    /// Nobody can listen there.
    Unusable {
        /// Where.
        listen: SocketAddr,
        /// Why.
        cause: String,
    },
}

/// Something that is set by a key and can be looked at from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndFacts {
    /// It is not set, in these words.
    Unset(String),
    /// It is set.
    Set {
        /// By which key.
        key: String,
        /// To what, without secrets.
        value: String,
        /// Whether it is there, or why it cannot be used.
        there: Result<(), String>,
    },
}

/// One finding an edge.
pub fn judge(facts: &EdgeFacts) -> Vec<Finding> {
    vec![health(&facts.health), telemetry(&facts.telemetry), hook(&facts.hook)]
}

fn health(facts: &HealthFacts) -> Finding {
    match facts {
        HealthFacts::Unset => Finding::skipped(
            Check::Health,
            "`health.listen` is none",
            "set it to let others ask whether a worker lives",
        ),
        HealthFacts::Free(listen) => Finding::ok(Check::Health, format_args!("{listen} is free")),
        HealthFacts::Served { listen, worker } => {
            Finding::ok(Check::Health, format_args!("{listen} is served by {worker}"))
        }
        HealthFacts::Taken(listen) => Finding::known(
            &known::HEALTH_TAKEN,
            format_args!("{listen} is taken"),
            &[("listen", listen), ("port", &listen.port())],
        ),
        HealthFacts::Unusable { listen, cause } => {
            Finding::known(&known::HEALTH_UNUSABLE, listen, &[("listen", listen), ("cause", cause)])
        }
    }
}

fn telemetry(facts: &EndFacts) -> Finding {
    match facts {
        EndFacts::Unset(told) => {
            Finding::skipped(Check::Telemetry, told, "nothing, unless a collector is to hear of the work")
        }
        EndFacts::Set { value, there: Ok(()), .. } => {
            Finding::ok(Check::Telemetry, format_args!("{value} answers"))
        }
        EndFacts::Set { key, value, there: Err(cause) } => {
            Finding::known(&known::TELEMETRY_UNREACHABLE, value, &[("key", key), ("cause", cause)])
        }
    }
}

fn hook(facts: &EndFacts) -> Finding {
    match facts {
        EndFacts::Unset(told) => {
            Finding::skipped(Check::Watchdog, told, "nothing, unless idle machines are to stop by themselves")
        }
        EndFacts::Set { value, there: Ok(()), .. } => {
            Finding::ok(Check::Watchdog, format_args!("{value} can be used"))
        }
        EndFacts::Set { key, value, there: Err(cause) } => {
            Finding::known(&known::WATCHDOG_UNUSABLE, value, &[("key", key), ("cause", cause)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn listen() -> SocketAddr {
        "127.0.0.1:8080".parse().unwrap()
    }

    fn set(there: Result<(), &str>) -> EndFacts {
        EndFacts::Set { key: "a.key".into(), value: "a value".into(), there: there.map_err(Into::into) }
    }

    fn facts(health: HealthFacts) -> EdgeFacts {
        EdgeFacts { health, telemetry: EndFacts::Unset("no".into()), hook: EndFacts::Unset("no".into()) }
    }

    #[test]
    fn a_free_address_is_well_and_so_is_one_that_a_worker_serves() {
        assert_well(&judge(&facts(HealthFacts::Free(listen()))));
        let served = facts(HealthFacts::Served { listen: listen(), worker: "w-1".into() });
        assert!(served.is_worker_here());
        let found = judge(&served);
        assert_well(&found);
        assert_eq!(one(&found, Check::Health).saw, "127.0.0.1:8080 is served by w-1");
        let none = judge(&facts(HealthFacts::Unset));
        assert!(none.iter().all(|finding| finding.status == Status::Skipped));
    }

    #[test]
    fn an_address_that_is_taken_or_not_ours_fails() {
        let found = judge(&facts(HealthFacts::Taken(listen())));
        assert_eq!(codes(&found), ["health.taken"]);
        assert_eq!(mend(&found, Check::Health), "end it, or set `health.listen` to a free port");
        assert_eq!(one(&found, Check::Health).command.as_deref(), Some("ss -ltnp 'sport = :8080'"));
        let cause = "permission denied".to_owned();
        let found = judge(&facts(HealthFacts::Unusable { listen: listen(), cause }));
        assert_eq!(codes(&found), ["health.unusable"]);
        assert_eq!(
            mend(&found, Check::Health),
            "set `health.listen` to an address of this machine and a port above 1023"
        );
    }

    #[test]
    fn a_collector_that_is_away_is_a_warning_and_a_hook_that_cannot_be_used_a_failure() {
        let well = EdgeFacts { telemetry: set(Ok(())), hook: set(Ok(())), ..facts(HealthFacts::Unset) };
        assert_well(&judge(&well));
        let ill = EdgeFacts { telemetry: set(Err("refused")), hook: set(Err("no such file")), ..well };
        let found = judge(&ill);
        assert_eq!(codes(&found), ["telemetry.unreachable", "watchdog.unusable"]);
        assert_eq!(one(&found, Check::Telemetry).status, Status::Warn);
        assert_eq!(mend(&found, Check::Watchdog), "correct `a.key`");
        assert_eq!(
            mend(&found, Check::Telemetry),
            "start the collector, open the way to it, or correct `a.key`"
        );
    }
}
