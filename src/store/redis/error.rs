//! Redis' errors in words that say what to do.

use std::fmt::Display;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

pub(super) const STORE: &str = "redis";

/// A failure, with what to do.
pub(super) fn refuse(message: impl Display) -> StoreError {
    StoreError::new(STORE, message)
}

/// Says what the error means for the owner of the server.
pub(super) fn explain(error: &RedisError) -> StoreError {
    let advice = match error.kind() {
        ErrorKind::Io => "it does not answer; check redis.url and the server",
        ErrorKind::AuthenticationFailed => "it refuses the login; check user and password in redis.url",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => {
            "it is still loading its data; it will answer later"
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            "it is a replica that cannot be written; name the primary in redis.url"
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            "the user may not do this; give it the rights in deploy/redis/users.acl"
        }
        _ => match error.code() {
            Some("OOM") => {
                "it is full and may drop nothing; raise maxmemory or set maxmemory-policy allkeys-lru"
            }
            Some("WRONGTYPE") => {
                "another program keeps something else under this key; name a database of our own in redis.url"
            }
            Some("MISCONF") => "it cannot write to its disk and takes no changes; free some space there",
            Some("NOAUTH" | "WRONGPASS") => "it refuses the login; check user and password in redis.url",
            _ => return refuse(error),
        },
    };
    refuse(format_args!("{advice} ({error})"))
}

/// Whether the server said so itself, and would answer another question.
pub(super) fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => !matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
        ),
        // A refusal that the client has no name for. While a script runs for too long there is none but this.
        ErrorKind::Extension => !matches!(error.code(), Some("BUSY" | "NOAUTH" | "WRONGPASS")),
        // What it said was understood, and is not what was asked for.
        ErrorKind::UnexpectedReturnType => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn said(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        match value.extract_error() {
            Err(error) => error,
            Ok(value) => panic!("an error was parsed as {value:?}"),
        }
    }

    #[test]
    fn a_refusal_is_an_answer_and_says_what_to_do() {
        for (line, advice) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", "raise maxmemory"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "a database of our own"),
            ("READONLY You can't write against a read only replica.", "name the primary"),
            ("MISCONF Redis is configured to save RDB snapshots", "free some space"),
            ("NOPERM User x has no permissions", "users.acl"),
        ] {
            let error = said(line);
            assert!(is_answer(&error), "{line}");
            assert!(explain(&error).to_string().contains(advice), "{line}: {}", explain(&error));
        }
    }

    #[test]
    fn a_server_that_cannot_serve_counts_as_silent() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy",
            "NOAUTH x",
            "CLUSTERDOWN x",
        ] {
            assert!(!is_answer(&said(line)), "{line}");
        }
        let refused = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert!(!is_answer(&refused));
        assert!(explain(&refused).to_string().contains("check redis.url"));
    }

    #[test]
    fn an_answer_of_another_shape_is_no_outage() {
        let error: RedisError =
            redis::from_redis_value::<u64>(Value::SimpleString("x".into())).unwrap_err().into();
        assert!(!explain(&error).to_string().is_empty());
    }
}
