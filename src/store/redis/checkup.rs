//! Looks a Redis over, for `maitred doctor`. Nothing is written, not even for a moment.
//!
//! A server checks the rights of a login, and whether it takes changes at all, before a command looks at its
//! arguments. So each command that a worker uses is sent with an argument that the command itself refuses, or asks for
//! a key that is not there: what comes back is either "you may not", "I take no changes", or what was to be expected.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, cmd};
use time::OffsetDateTime;

use super::client;
use super::error::explain;
use crate::checkup::{Obstacle, RedisFacts, RedisMemory, RedisRefusal, Right, Skew};
use crate::config::Secret;

/// How long connecting may take, and each answer. Not `redis.timeout`: a slow server is to be measured, not missed.
const PATIENCE: Duration = Duration::from_secs(3);
/// Answers of which the fastest counts: what is asked for is the way there, not a pause of the server.
const PINGS: usize = 3;
/// A key that nobody has.
const NO_KEY: &str = "maitred:doctor";

/// What a worker sends, with arguments that change nothing.
const COMMANDS: [(&str, &[&str]); 12] = [
    ("read facts", &["MGET", NO_KEY]),
    ("look facts up", &["EXISTS", NO_KEY]),
    ("read results", &["HGET", NO_KEY, "epoch"]),
    ("read rates", &["HMGET", NO_KEY, "epoch"]),
    // A life of no seconds is refused.
    ("keep facts", &["SET", NO_KEY, "x", "EX", "0"]),
    // No number is refused.
    ("keep facts alive", &["EXPIRE", NO_KEY, "x"]),
    ("count rates", &["HINCRBY", NO_KEY, "x", "x"]),
    // A field without a value is refused.
    ("keep results", &["HSET", NO_KEY, "x", "x", "x"]),
    ("drop damaged facts", &["UNLINK", NO_KEY]),
    // A script that is not known, and one that is none, are refused.
    ("run scripts", &["EVALSHA", "0000000000000000000000000000000000000000", "1", NO_KEY]),
    ("load scripts", &["SCRIPT", "LOAD", "("]),
    ("ask whether it is there", &["PING"]),
];

/// Looks the server over.
pub async fn check_up(url: &Secret) -> Result<RedisFacts, Obstacle> {
    let client = client(url).map_err(|error| Obstacle::Settings(error.message))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let opened = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = opened.map_err(|error| obstacle(&error))?;
    let round_trip = round_trip(&mut connection).await.map_err(|error| obstacle(&error))?;
    let (mut rights, mut refusal) = (Vec::new(), None);
    for (what, words) in COMMANDS {
        let answer = cmd(words[0]).arg(&words[1..]).query_async::<Value>(&mut connection).await;
        let code = answer.as_ref().err().map(code);
        let name = if words[0] == "SCRIPT" { "SCRIPT LOAD" } else { words[0] };
        rights.push(Right {
            what: what.to_owned(),
            name: name.to_owned(),
            allowed: code.as_deref() != Some("NOPERM"),
        });
        refusal = refusal.or(code.as_deref().and_then(of_code));
    }
    let (version, memory) = (version(&mut connection).await, memory(&mut connection).await);
    Ok(RedisFacts { version, round_trip, memory, rights, refusal, skew: skew(&mut connection).await })
}

/// What the error's first word is.
fn code(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => "NOPERM".to_owned(),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => "READONLY".to_owned(),
        _ => error.code().unwrap_or_default().to_owned(),
    }
}

fn of_code(code: &str) -> Option<RedisRefusal> {
    match code {
        "OOM" => Some(RedisRefusal::Full),
        "READONLY" => Some(RedisRefusal::Replica),
        "MISCONF" => Some(RedisRefusal::Disk),
        _ => None,
    }
}

fn obstacle(error: &RedisError) -> Obstacle {
    let told = explain(error).message;
    match error.kind() {
        ErrorKind::AuthenticationFailed => Obstacle::Refused(told),
        ErrorKind::InvalidClientConfig => Obstacle::Settings(told),
        _ => match error.code() {
            Some("NOAUTH" | "WRONGPASS") => Obstacle::Refused(told),
            _ => Obstacle::Unreachable(told),
        },
    }
}

/// The time of a command that every login has: of its own connection it may always ask.
async fn round_trip(connection: &mut MultiplexedConnection) -> Result<Duration, RedisError> {
    let mut fastest = Duration::MAX;
    for _ in 0..PINGS {
        let start = Instant::now();
        match cmd("PING").exec_async(connection).await {
            Err(error) if code(&error) != "NOPERM" => return Err(error),
            _ => fastest = fastest.min(start.elapsed()),
        }
    }
    Ok(fastest)
}

/// Which version it is; `HELLO` tells a login that may not ask for more.
async fn version(connection: &mut MultiplexedConnection) -> Option<String> {
    let told: Value = cmd("HELLO").query_async(connection).await.ok()?;
    let pairs: std::collections::HashMap<String, Value> = FromRedisValue::from_redis_value(told).ok()?;
    FromRedisValue::from_redis_value(pairs.get("version")?.clone()).ok()
}

async fn memory(connection: &mut MultiplexedConnection) -> Option<RedisMemory> {
    let told: String = cmd("INFO").query_async(connection).await.ok()?;
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = |name: &str| field(name)?.trim().parse().ok();
    Some(RedisMemory {
        max: number("maxmemory")?,
        used: number("used_memory")?,
        policy: field("maxmemory_policy")?.trim().to_owned(),
        evicted: number("evicted_keys")?,
    })
}

async fn skew(connection: &mut MultiplexedConnection) -> Option<Skew> {
    let asked = OffsetDateTime::now_utc();
    let (seconds, micros): (i64, i64) = cmd("TIME").query_async(connection).await.ok()?;
    let told = OffsetDateTime::from_unix_timestamp(seconds).ok()? + time::Duration::microseconds(micros);
    Some(Skew::of(told, asked, OffsetDateTime::now_utc()))
}
