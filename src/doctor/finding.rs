//! Findings, and the report that they make.

use std::fmt::Display;

use serde::Serialize;
use time::OffsetDateTime;

use super::catalogue::Known;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
    /// It works, and should be mended all the same.
    Warn,
    /// Something does not work.
    Fail,
}

impl Status {
    /// Its name, as in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Names the checks once, in the order of a report.
macro_rules! checks {
    ($($(#[$doc:meta])* $check:ident = $name:literal,)*) => {
        /// Something that is looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $($(#[$doc])* $check,)*
        }

        impl Check {
            /// All of them, in the order of a report.
            pub const ALL: &[Self] = &[$(Self::$check,)*];

            /// Its name: a part of the installation, or such a part and what of it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$check => $name,)*
                }
            }
        }
    };
}

checks! {
    /// The settings.
    Config = "config",
    /// Files with passwords and keys.
    Secrets = "secrets",
    /// Whether NATS answers and takes the login.
    NatsConnection = "nats.connection",
    /// Whether it is new enough.
    NatsVersion = "nats.version",
    /// Whether JetStream is on.
    NatsJetStream = "nats.jetstream",
    /// What a worker may do there.
    NatsRights = "nats.rights",
    /// Streams, buckets and consumers.
    NatsStreams = "nats.streams",
    /// Room for streams.
    NatsStorage = "nats.storage",
    /// Size of a message.
    NatsPayload = "nats.payload",
    /// How fast it answers.
    NatsLatency = "nats.latency",
    /// Whether Redis answers and takes the login.
    RedisConnection = "redis.connection",
    /// Whether it is new enough.
    RedisVersion = "redis.version",
    /// What a worker may do there.
    RedisRights = "redis.rights",
    /// Whether it takes what is new.
    RedisMemory = "redis.memory",
    /// How fast it answers.
    RedisLatency = "redis.latency",
    /// Whether Postgres answers and takes the login.
    PostgresConnection = "postgres.connection",
    /// Whether it is new enough.
    PostgresVersion = "postgres.version",
    /// Tables.
    PostgresSchema = "postgres.schema",
    /// What a worker may do there.
    PostgresRights = "postgres.rights",
    /// Connections that are left.
    PostgresRoom = "postgres.room",
    /// The language model.
    ModelLanguage = "model.language",
    /// The embedding models.
    ModelEmbedding = "model.embedding",
    /// Memory against what the models need.
    Memory = "memory",
    /// Cores against threads.
    Cpu = "cpu",
    /// GPUs.
    Gpu = "gpu",
    /// The folder of the models.
    DiskModels = "disk.models",
    /// The folder of what is kept between runs.
    DiskCache = "disk.cache",
    /// Whether the clock is kept right.
    ClockSync = "clock.sync",
    /// The clock against that of NATS.
    ClockNats = "clock.nats",
    /// The clock against that of Redis.
    ClockRedis = "clock.redis",
    /// The clock against that of Postgres.
    ClockPostgres = "clock.postgres",
    /// Files that may be open.
    LimitFiles = "limit.files",
    /// The address of health and status.
    Health = "health.address",
    /// Where telemetry goes.
    Telemetry = "telemetry.endpoint",
    /// What ends an idle worker's machine.
    Watchdog = "watchdog.hook",
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What was found of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it is.
    pub status: Status,
    /// What it is called in `docs/TROUBLESHOOTING.md`; absent for what is as it should be, and for what was skipped.
    pub code: Option<&'static str>,
    /// What was seen.
    pub saw: String,
    /// What that means; absent for what is as it should be.
    pub means: Option<String>,
    /// What to do; absent for what is as it should be.
    pub mend: Option<String>,
    /// A command that does it, if there is one.
    pub command: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(check: Check, saw: impl Display) -> Self {
        Self {
            check,
            status: Status::Ok,
            code: None,
            saw: saw.to_string(),
            means: None,
            mend: None,
            command: None,
        }
    }

    /// It was not looked at: why, and what to do to have it looked at.
    pub fn skipped(check: Check, why: impl Display, mend: impl Display) -> Self {
        Self {
            status: Status::Skipped,
            means: Some("not looked at".to_owned()),
            mend: Some(mend.to_string()),
            ..Self::ok(check, why)
        }
    }

    /// It depends on another check that is not well.
    pub fn behind(check: Check, first: Check) -> Self {
        let first = first.name();
        Self::skipped(check, format_args!("needs {first}"), format_args!("mend {first} first"))
    }

    /// Something known is wrong. `values` fill the places of its texts.
    pub fn known(known: &Known, saw: impl Display, values: &[(&str, &dyn Display)]) -> Self {
        let filled = |template: &str| fill(template, values);
        Self {
            check: known.check,
            status: known.status,
            code: Some(known.code),
            saw: saw.to_string(),
            means: Some(filled(known.means)),
            mend: Some(filled(known.mend)),
            command: (!known.command.is_empty()).then(|| filled(known.command)),
        }
    }

    /// The same, where its command does not apply.
    #[must_use]
    pub fn without_command(mut self) -> Self {
        self.command = None;
        self
    }

    /// The same, but the work goes on without it.
    #[must_use]
    pub fn only_warned(mut self) -> Self {
        self.status = self.status.min(Status::Warn);
        self
    }
}

/// Puts values into the places of a template, such as `{path}`.
fn fill(template: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    // What was put in is not looked at again: a value may hold braces of its own.
    while let Some((before, behind)) = rest.split_once('{') {
        text += before;
        let Some((name, after)) = behind.split_once('}') else {
            rest = behind;
            break;
        };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => text += &value.to_string(),
            None => debug_assert!(false, "no value for {{{name}}} in {template:?}"),
        }
        rest = after;
    }
    text + rest
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When it was so (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The version of this program.
    pub version: &'static str,
    /// Whether nothing has failed.
    pub healthy: bool,
    /// How many findings there are of each kind.
    pub counts: Counts,
    /// The findings, by check; several of one check stand together.
    pub findings: Vec<Finding>,
}

/// How many findings there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As they should be.
    pub ok: usize,
    /// To be mended some day.
    pub warn: usize,
    /// Not working.
    pub fail: usize,
    /// Not looked at.
    pub skipped: usize,
}

impl Report {
    /// Puts findings into their order. A check of which nobody said anything is skipped, visibly.
    pub fn new(at: OffsetDateTime, mut findings: Vec<Finding>) -> Self {
        let silent =
            Check::ALL.iter().filter(|check| findings.iter().all(|finding| finding.check != **check));
        let silent: Vec<Finding> =
            silent.map(|check| Finding::skipped(*check, "nothing was said of it", "ask again")).collect();
        findings.extend(silent);
        findings.sort_by_key(|finding| finding.check);
        let count = |status| findings.iter().filter(|finding| finding.status == status).count();
        let counts = Counts {
            ok: count(Status::Ok),
            warn: count(Status::Warn),
            fail: count(Status::Fail),
            skipped: count(Status::Skipped),
        };
        Self { at, version: env!("CARGO_PKG_VERSION"), healthy: counts.fail == 0, counts, findings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::catalogue;
    use time::macros::datetime;

    #[test]
    fn values_are_put_in_once_and_their_own_braces_stay() {
        let values: [(&str, &dyn Display); 2] = [("a", &"{b}"), ("b", &1)];
        assert_eq!(fill("x {a} y {b}", &values), "x {b} y 1");
        assert_eq!(fill("nothing to fill", &values), "nothing to fill");
    }

    #[test]
    fn a_report_is_healthy_unless_something_failed_and_has_every_check() {
        let at = datetime!(2026-06-15 12:00 UTC);
        let warned = Finding::known(&catalogue::GPU_UNUSED, "one", &[("gpus", &"G")]);
        let report = Report::new(at, vec![Finding::ok(Check::Watchdog, "fine"), warned]);
        assert!(report.healthy);
        let checks: Vec<Check> = report.findings.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, Check::ALL);
        assert_eq!((report.counts.ok, report.counts.warn, report.counts.fail), (1, 1, 0));
        let failed = Finding::known(&catalogue::NATS_NO_JETSTREAM, "off", &[]);
        assert!(!Report::new(at, vec![failed.clone()]).healthy);
        assert!(Report::new(at, vec![failed.only_warned()]).healthy);
    }
}
