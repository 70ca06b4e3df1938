//! The fleet's facts, last results, running rates and representative vectors, in Redis 7.
//!
//! All of it can be lost: only time is. Invariants:
//!
//! - No call takes longer than twice `redis.timeout` per batch, and after [`FAILURES`] calls in a row without an answer
//!   none is made for `redis.rest`: a server that is dead or slow costs a job next to nothing ([`super::breaker`]).
//! - A refusal (full, read-only, a key of another type) is an answer: it fails its call, and reading goes on.
//! - What is changed by comparing or adding is changed by one script, so by one worker at a time.
//! - Every key begins with `maitred:` and has a time to live.
//!
//! TLS: a URL that begins with `rediss://`.

mod checkup;
mod error;
mod facts;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script};

pub use self::checkup::check_up;
use self::error::{explain, is_answer, refuse};
use super::StoreError;
use super::breaker::{Breaker, BreakerSettings, Change, Permit};
use crate::config::{RedisSettings, Secret};

/// Calls in a row without an answer after which the server is left alone.
pub const FAILURES: u32 = 3;

/// See the module.
pub struct RedisFacts {
    url: Secret,
    timeout: Duration,
    rest: Duration,
    /// Seconds that a value lives after its last use.
    lifetime: u64,
    scripts: Scripts,
    link: Mutex<Link>,
    /// Calls that failed; those that were not made because it is left alone are none.
    errors: AtomicU64,
}

/// What calls go through.
struct Link {
    breaker: Breaker,
    /// Made when it is first needed, and anew after a rest: with the secret as it is then.
    connection: Option<ConnectionManager>,
}

struct Scripts {
    put_counts: Script,
    put_last: Script,
    put_representative: Script,
    drop_if: Script,
}

impl RedisFacts {
    /// A store at `url`. Nothing is connected yet: the server may come later.
    ///
    /// # Errors
    /// If the URL cannot be read, or is none of Redis.
    pub fn new(url: Secret, settings: &RedisSettings) -> Result<Self, StoreError> {
        client(&url)?;
        let breaker = Breaker::new(BreakerSettings { failures: FAILURES, rest: settings.rest });
        Ok(Self {
            url,
            timeout: settings.timeout,
            rest: settings.rest,
            lifetime: settings.facts_max_age.as_secs().max(1),
            scripts: Scripts {
                put_counts: Script::new(include_str!("put_counts.lua")),
                put_last: Script::new(include_str!("put_last.lua")),
                put_representative: Script::new(include_str!("put_representative.lua")),
                drop_if: Script::new(include_str!("drop_if.lua")),
            },
            link: Mutex::new(Link { breaker, connection: None }),
            errors: AtomicU64::new(0),
        })
    }

    /// Calls that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Runs one exchange with the server, within its time.
    async fn exchange<T, F>(&self, exchange: impl FnOnce(ConnectionManager) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let (permit, connection) = self.begin()?;
        // Connecting and answering may take `timeout` each; this bounds what the client does around them.
        let outcome = tokio::time::timeout(2 * self.timeout, exchange(connection)).await;
        let (outcome, is_answer) = match outcome {
            Ok(Ok(answer)) => (Ok(answer), true),
            Ok(Err(error)) => (Err(explain(&error)), is_answer(&error)),
            Err(late) => {
                (Err(refuse(format_args!("it does not answer in time ({late}); check the server"))), false)
            }
        };
        self.end(permit, outcome.as_ref().err().filter(|_| !is_answer));
        self.errors.fetch_add(outcome.is_err().into(), Ordering::Relaxed);
        outcome
    }

    fn begin(&self) -> Result<(Permit, ConnectionManager), StoreError> {
        let mut link = self.lock();
        let permit = link.breaker.admit(Instant::now()).map_err(|left| {
            let message = format_args!(
                "it did not answer {FAILURES} times in a row and is left alone for another {left:.1?}"
            );
            StoreError { is_told: true, ..refuse(message) }
        })?;
        let connection = match &link.connection {
            Some(connection) => connection.clone(),
            None => link.connection.insert(self.connect()?).clone(),
        };
        Ok((permit, connection))
    }

    /// Notes how the call ended, and says so once per change.
    fn end(&self, permit: Permit, failure: Option<&StoreError>) {
        let mut link = self.lock();
        let change = match failure {
            None => link.breaker.answered(permit),
            Some(_) => link.breaker.failed(permit, Instant::now()),
        };
        if link.breaker.is_open() {
            // The next one is made after the rest: this one may wait for a host that is gone.
            link.connection = None;
        }
        drop(link);
        match (change, failure) {
            (Some(Change::Opened), Some(error)) => {
                tracing::warn!(%error, rest = ?self.rest, "facts are computed without their store until it answers");
            }
            (Some(Change::Closed), _) => tracing::info!("the store of facts answers again"),
            _ => {}
        }
    }

    /// A connection that connects when it is first used. It does not try again by itself: the breaker knows when to.
    fn connect(&self) -> Result<ConnectionManager, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        ConnectionManager::new_lazy_with_config(client(&self.url)?, config).map_err(|error| explain(&error))
    }

    /// Nothing panics while it holds the lock; were it to, a breaker in any state goes on.
    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(url: &Secret) -> Result<Client, StoreError> {
    let url = url.read("redis.url_file").map_err(refuse)?;
    // The client's own words may repeat the URL, with its password.
    Client::open(url.expose())
        .map_err(|_| refuse("the URL cannot be used; write redis.url as redis://user:password@host:6379/0"))
}
