//! The servers, each by the module that knows its protocol, within a time.

use std::time::Duration;

use tokio::time::timeout;

use crate::broker::nats::checkup;
use crate::checkup::{Looked, NatsFacts, Obstacle, PostgresFacts, RedisFacts};
use crate::config::Settings;
use crate::store::{postgres as postgres_store, redis as redis_store};

/// Looks NATS over.
pub async fn nats(settings: &Settings, limit: Duration) -> Looked<NatsFacts> {
    looked(limit, checkup::check_up(&settings.nats)).await
}

/// Looks Redis over, if there is one.
pub async fn redis(settings: &Settings, limit: Duration) -> Looked<RedisFacts> {
    let Some(url) = &settings.redis.url else { return Looked::Unset };
    looked(limit, redis_store::check_up(url)).await
}

/// Looks Postgres over, if there is one.
pub async fn postgres(settings: &Settings, limit: Duration) -> Looked<PostgresFacts> {
    let Some(url) = &settings.postgres.url else { return Looked::Unset };
    match url.read("postgres.url_file") {
        Ok(url) => looked(limit, postgres_store::check_up(&url)).await,
        Err(error) => Looked::Away(Obstacle::Settings(error.to_string())),
    }
}

async fn looked<T>(limit: Duration, look: impl Future<Output = Result<T, Obstacle>>) -> Looked<T> {
    match timeout(limit, look).await {
        Ok(Ok(facts)) => Looked::At(facts),
        Ok(Err(obstacle)) => Looked::Away(obstacle),
        Err(_) => Looked::Late,
    }
}
