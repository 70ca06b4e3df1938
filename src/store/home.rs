//! Which homes a worker uses: those of the fleet where the settings name them, else those of a single machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::memory::MemoryFacts;
use super::metrics::{MetricRow, MetricStore};
use super::postgres::PostgresStore;
use super::redis::RedisFacts;
use super::sqlite::SqliteStore;
use super::{AspectRate, FactKey, FactStore, LastResult, ReviewFacts, StoreError};
use crate::config::{Cache, Settings};
use crate::selection::representative::Representative;

/// Home of facts. One of the three, chosen once.
pub enum FactHome {
    /// Shared by the fleet.
    Redis(Box<RedisFacts>),
    /// One file, shared by the workers of one machine.
    Sqlite(SqliteStore),
    /// This process.
    Memory(Box<MemoryFacts>),
}

/// Home of metrics. One of the two, chosen once.
pub enum MetricHome {
    /// Shared by the fleet.
    Postgres(PostgresStore),
    /// One file, shared by the workers of one machine.
    Sqlite(SqliteStore),
}

impl FactHome {
    /// Opens the home that the settings name, and says which. Redis need not be there yet.
    ///
    /// # Errors
    /// If the URL or the file that is named cannot be used.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        if let Some(url) = &settings.redis.url {
            let store = RedisFacts::new(url.clone(), &settings.redis)?;
            tracing::info!("facts are kept in Redis, shared by the fleet");
            return Ok(Self::Redis(Box::new(store)));
        }
        let Some(path) = cache_file(settings) else {
            let limit = settings.store.memory_limit;
            tracing::warn!(bytes = limit, "no redis.url: facts are kept in the memory of this worker alone");
            return Ok(Self::Memory(Box::new(MemoryFacts::new(limit))));
        };
        let store = SqliteStore::open(&path).await?;
        tracing::warn!(path = %path.display(), "no redis.url: facts are kept in store.cache, on this machine alone");
        Ok(Self::Sqlite(store))
    }

    /// Calls of a server that failed; `None` where no server is used.
    pub fn server_errors(&self) -> Option<u64> {
        match self {
            Self::Redis(store) => Some(store.errors()),
            Self::Sqlite(_) | Self::Memory(_) => None,
        }
    }

    /// Puts away what is to be put away. Calls after this may fail.
    ///
    /// # Errors
    /// If the file cannot be tidied; it stays sound.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Redis(_) | Self::Memory(_) => Ok(()),
        }
    }
}

impl MetricHome {
    /// Lets rows go that are older than `keep`, at most daily over all workers; how many. A file is tidied when it is
    /// closed.
    ///
    /// # Errors
    /// If the server does not do it.
    pub async fn let_go(&self, keep: Duration) -> Result<u64, StoreError> {
        match self {
            Self::Postgres(store) => store.let_go(keep).await,
            Self::Sqlite(_) => Ok(0),
        }
    }

    /// Opens the home that the settings name, and says which; nothing if there is none. Postgres need not be there
    /// yet.
    ///
    /// # Errors
    /// If the URL or the file that is named cannot be used.
    pub async fn open(settings: &Settings) -> Result<Option<Self>, StoreError> {
        if let Some(url) = &settings.postgres.url {
            let url = url.read("postgres.url_file").map_err(|error| StoreError::new("postgres", error))?;
            let store = PostgresStore::new(&url)?;
            tracing::info!("metrics are kept in Postgres, shared by the fleet");
            return Ok(Some(Self::Postgres(store)));
        }
        let Some(path) = cache_file(settings) else {
            tracing::warn!("no postgres.url and no file as store.cache: metrics are not kept");
            return Ok(None);
        };
        let store = SqliteStore::open(&path).await?;
        tracing::warn!(path = %path.display(), "no postgres.url: metrics are kept in store.cache, on this machine alone");
        Ok(Some(Self::Sqlite(store)))
    }

    /// Batches that a server did not take; `None` where no server is used.
    pub fn server_errors(&self) -> Option<u64> {
        match self {
            Self::Postgres(store) => Some(store.errors()),
            Self::Sqlite(_) => None,
        }
    }

    /// Closes it. Calls after this fail.
    ///
    /// # Errors
    /// If the file cannot be tidied; it stays sound.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => {
                store.close().await;
                Ok(())
            }
        }
    }
}

/// A worker has no output file to put a cache beside, so only a path that is named is one.
fn cache_file(settings: &Settings) -> Option<PathBuf> {
    match &settings.store.cache {
        Cache::At(path) => Some(Path::to_owned(path)),
        Cache::Auto | Cache::None => None,
    }
}

/// The same call to whichever it is.
macro_rules! of_each {
    ($home:expr, $store:ident => $call:expr) => {
        match $home {
            FactHome::Redis($store) => $call,
            FactHome::Sqlite($store) => $call,
            FactHome::Memory($store) => $call,
        }
    };
}

impl FactStore for FactHome {
    async fn get_many(&self, keys: &[FactKey]) -> Result<Vec<Option<ReviewFacts>>, StoreError> {
        of_each!(self, store => store.get_many(keys).await)
    }

    async fn known_many(&self, keys: &[FactKey]) -> Result<Vec<bool>, StoreError> {
        of_each!(self, store => store.known_many(keys).await)
    }

    async fn put_many(&self, facts: Vec<(FactKey, ReviewFacts)>) -> Result<(), StoreError> {
        of_each!(self, store => store.put_many(facts).await)
    }

    async fn last_result(&self, restaurant: &str) -> Result<Option<LastResult>, StoreError> {
        of_each!(self, store => store.last_result(restaurant).await)
    }

    async fn last_epoch(&self, restaurant: &str) -> Result<Option<u64>, StoreError> {
        of_each!(self, store => store.last_epoch(restaurant).await)
    }

    async fn put_last_result(&self, last: LastResult) -> Result<(), StoreError> {
        of_each!(self, store => store.put_last_result(last).await)
    }

    async fn aspect_rates(
        &self,
        reader: &str,
        restaurant: &str,
        aspects: usize,
    ) -> Result<Vec<AspectRate>, StoreError> {
        of_each!(self, store => store.aspect_rates(reader, restaurant, aspects).await)
    }

    async fn put_aspect_counts(
        &self,
        reader: &str,
        restaurant: &str,
        reviews: u64,
        positive: &[u64],
    ) -> Result<(), StoreError> {
        of_each!(self, store => store.put_aspect_counts(reader, restaurant, reviews, positive).await)
    }

    async fn representative(
        &self,
        restaurant: &str,
        model: &str,
    ) -> Result<Option<Representative>, StoreError> {
        of_each!(self, store => store.representative(restaurant, model).await)
    }

    async fn put_representative(
        &self,
        restaurant: &str,
        expected: Option<&str>,
        new: &Representative,
    ) -> Result<bool, StoreError> {
        of_each!(self, store => store.put_representative(restaurant, expected, new).await)
    }
}

impl MetricStore for MetricHome {
    async fn record(&self, rows: &[MetricRow]) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.record(rows).await,
            Self::Sqlite(store) => store.record(rows).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, SecretUrl};
    use crate::store::contract::{self, block_on};

    fn url(text: &str) -> Secret {
        Secret::Value(SecretUrl::new(text))
    }

    #[test]
    fn without_a_url_and_a_file_facts_are_in_memory_and_metrics_nowhere() {
        block_on(async {
            let home = FactHome::open(&Settings::default()).await.unwrap();
            assert!(matches!(home, FactHome::Memory(_)));
            contract::holds(&home).await;
            assert!(MetricHome::open(&Settings::default()).await.unwrap().is_none());
        });
    }

    #[test]
    fn without_a_url_a_file_that_is_named_holds_both() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.store.cache = Cache::At(folder.path().join("maitred.db"));
        block_on(async {
            let facts = FactHome::open(&settings).await.unwrap();
            assert!(matches!(facts, FactHome::Sqlite(_)));
            let metrics = MetricHome::open(&settings).await.unwrap().unwrap();
            contract::holds(&facts).await;
            let row = MetricRow::Worker(crate::store::metrics::tests::worker_start());
            metrics.record(&[row]).await.unwrap();
            metrics.close().await.unwrap();
            facts.close().await.unwrap();
        });
    }

    #[test]
    fn servers_that_are_named_are_used_though_they_are_not_there_yet() {
        let mut settings = Settings::default();
        settings.redis.url = Some(url("redis://127.0.0.1:1"));
        settings.postgres.url = Some(url("postgres://127.0.0.1:1/maitred"));
        block_on(async {
            let facts = FactHome::open(&settings).await.unwrap();
            assert!(matches!(facts, FactHome::Redis(_)));
            assert!(facts.last_epoch("r").await.is_err());
            let metrics = MetricHome::open(&settings).await.unwrap();
            assert!(matches!(metrics, Some(MetricHome::Postgres(_))));
        });
    }

    #[test]
    fn a_url_of_something_else_is_refused_at_the_start() {
        let mut settings = Settings::default();
        settings.redis.url = Some(url("http://me:hunter2@host"));
        settings.postgres.url = Some(url("me:hunter2"));
        block_on(async {
            let facts = FactHome::open(&settings).await.err().unwrap().to_string();
            let metrics = MetricHome::open(&settings).await.err().unwrap().to_string();
            for message in [facts, metrics] {
                assert!(message.contains("write ") && !message.contains("hunter2"), "{message}");
            }
        });
    }
}
