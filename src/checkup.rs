//! What is found when a server is looked at: plain facts, without an opinion and without I/O.
//!
//! The code that knows a server's protocol fills them in (`broker::nats`, `store::redis`, `store::postgres`), and
//! [`doctor`](crate::doctor) judges them.

use std::time::Duration;

use time::OffsetDateTime;

use crate::broker::topology::Step;

/// Why there was nothing to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A setting, or a file that it names, cannot be used.
    Settings(String),
    /// Nobody answers there.
    Unreachable(String),
    /// It does not take the login.
    Refused(String),
    /// One side does not trust the other's certificate.
    Untrusted(String),
    /// The server is there, the database is not.
    NoDatabase(String),
}

/// What became of looking at a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Looked<T> {
    /// The settings name none.
    Unset,
    /// It did not answer in time.
    Late,
    /// There was nothing to look at.
    Away(Obstacle),
    /// This was found.
    At(T),
}

impl<T> Looked<T> {
    /// What was found, if anything was.
    pub const fn at(&self) -> Option<&T> {
        match self {
            Self::At(found) => Some(found),
            Self::Unset | Self::Late | Self::Away(_) => None,
        }
    }
}

/// How far a server's clock is from ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skew {
    /// Seconds that the server's clock is ahead.
    pub seconds: f64,
    /// Seconds by which that may be wrong: half the time that asking took.
    pub doubt: f64,
}

impl Skew {
    /// From what the server said, and when we asked and heard.
    pub fn of(told: OffsetDateTime, asked: OffsetDateTime, heard: OffsetDateTime) -> Self {
        let taken = (heard - asked).as_seconds_f64().max(0.0);
        let middle = asked + time::Duration::seconds_f64(taken / 2.0);
        Self { seconds: (told - middle).as_seconds_f64(), doubt: taken / 2.0 }
    }

    /// Seconds that the clocks are apart at least, whatever the network did.
    pub fn at_least(self) -> f64 {
        (self.seconds.abs() - self.doubt).max(0.0)
    }
}

/// Something that a login may or may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What for, in words that go on after "may not".
    pub what: String,
    /// What the server calls it: a subject, a command, a table.
    pub name: String,
    /// Whether it may.
    pub allowed: bool,
}

/// What an account of NATS has of JetStream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Bytes of streams on disk.
    pub storage: u64,
    /// Bytes that they may be; `None`: as many as the server has.
    pub max_storage: Option<u64>,
    /// Streams, buckets included.
    pub streams: u64,
    /// Streams that it may have; `None`: any number.
    pub max_streams: Option<u64>,
    /// Consumers that it may have; `None`: any number.
    pub max_consumers: Option<u64>,
}

/// What was found at a NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JetStream {
    /// It is on.
    On(Account),
    /// It is off, or this login has none.
    Off,
    /// Nobody said.
    Unknown(String),
}

/// A NATS server.
#[derive(Debug, Clone, PartialEq)]
pub struct NatsFacts {
    /// Where it is: its own host and port.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Whether that is new enough.
    pub is_supported: bool,
    /// Bytes of one message.
    pub max_payload: u64,
    /// How long JetStream takes to answer; absent if it did not.
    pub round_trip: Option<Duration>,
    /// Whether there is JetStream.
    pub jetstream: JetStream,
    /// What `maitred init` would do; or why that cannot be told.
    pub plan: Result<Vec<Step>, String>,
    /// What a worker does there, and whether this login may; or why that cannot be told.
    pub rights: Result<Vec<Right>, String>,
    /// Its clock; absent if it does not tell.
    pub skew: Option<Skew>,
}

/// Redis' memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisMemory {
    /// Bytes that it may use; zero: all of the machine's.
    pub max: u64,
    /// Bytes that it uses.
    pub used: u64,
    /// What gives way when it is full.
    pub policy: String,
    /// Keys that gave way since it was started.
    pub evicted: u64,
}

/// Why a Redis that answers takes no changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisRefusal {
    /// It is full and may drop nothing.
    Full,
    /// It is a replica.
    Replica,
    /// It cannot write to its disk.
    Disk,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisFacts {
    /// Its version; absent if it does not tell this login.
    pub version: Option<String>,
    /// How long it takes to answer.
    pub round_trip: Duration,
    /// Its memory; absent if it does not tell this login.
    pub memory: Option<RedisMemory>,
    /// What a worker does there, and whether this login may.
    pub rights: Vec<Right>,
    /// Why it takes no changes.
    pub refusal: Option<RedisRefusal>,
    /// Its clock; absent if it does not tell.
    pub skew: Option<Skew>,
}

/// The tables in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// As this program knows it.
    Current,
    /// Some steps are missing.
    Behind(Vec<String>),
    /// It is of a newer program, or of none of ours.
    Foreign(String),
    /// This login may not see which steps were taken.
    Hidden,
}

/// A Postgres server.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresFacts {
    /// Its version as it prints it.
    pub version: String,
    /// Its version as a number, such as 150004.
    pub version_number: i32,
    /// The role of this login.
    pub role: String,
    /// How long it takes to answer.
    pub round_trip: Duration,
    /// Whether it takes no changes at all: a replica, or set so.
    pub is_read_only: bool,
    /// Its tables.
    pub schema: Schema,
    /// Tables of the metrics that are not there.
    pub missing_tables: Vec<String>,
    /// Whether this login may add rows to those that are there.
    pub rights: Vec<Right>,
    /// Connections that are open.
    pub connections: u32,
    /// Connections that there may be, without those for superusers.
    pub max_connections: u32,
    /// Its clock.
    pub skew: Option<Skew>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const ASKED: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn after(seconds: f64) -> OffsetDateTime {
        ASKED + time::Duration::seconds_f64(seconds)
    }

    #[test]
    fn a_clock_is_compared_with_the_middle_of_asking() {
        let skew = Skew::of(after(3.1), ASKED, after(0.2));
        assert!((skew.seconds - 3.0).abs() < 1e-6 && (skew.doubt - 0.1).abs() < 1e-6, "{skew:?}");
        let behind = Skew::of(after(-5.0), ASKED, ASKED);
        assert!((behind.seconds + 5.0).abs() < 1e-6 && (behind.at_least() - 5.0).abs() < 1e-6);
    }

    #[test]
    fn a_slow_answer_is_no_skew() {
        assert!(Skew::of(after(0.0), ASKED, after(4.0)).at_least() < 1e-6);
    }

    #[test]
    fn a_clock_that_was_set_back_meanwhile_gives_no_negative_doubt() {
        assert!(Skew::of(ASKED, after(1.0), ASKED).doubt >= 0.0);
    }
}
