//! Facts, last results and running rates in SQLite.

use std::collections::{BTreeMap, HashMap};

use super::error::{STORE, refuse};
use super::{SqliteStore, integer, unix_now};
use crate::store::codec::{pack, unpack};
use crate::store::{AspectRate, FactKey, FactStore, LastResult, ReviewFacts, StoreError};

/// Keys looked up by one statement, so that a large job does not hold a reader for long.
const KEYS_PER_QUERY: usize = 500;

/// A value's `last_used` is refreshed when it is older than this: reading stays reading.
const USE_GRAIN_SECONDS: i64 = 24 * 3600;

impl FactStore for SqliteStore {
    async fn get_many(&self, keys: &[FactKey]) -> Result<Vec<Option<ReviewFacts>>, StoreError> {
        let mut by_reader: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            by_reader.entry(&key.reader).or_default().push(index);
        }
        let mut facts = vec![None; keys.len()];
        for (reader, indices) in by_reader {
            for chunk in indices.chunks(KEYS_PER_QUERY) {
                let found =
                    self.facts_of(reader, chunk.iter().map(|&index| keys[index].text.as_str())).await?;
                for &index in chunk {
                    facts[index] = found.get(&keys[index].text).cloned();
                }
            }
        }
        Ok(facts)
    }

    async fn put_many(&self, facts: Vec<(FactKey, ReviewFacts)>) -> Result<(), StoreError> {
        if facts.is_empty() {
            return Ok(());
        }
        // Packed before the transaction, which others wait for.
        let packed: Vec<_> = facts
            .into_iter()
            .map(|(key, facts)| Ok((key, pack(STORE, &facts)?)))
            .collect::<Result<_, StoreError>>()?;
        let now = unix_now();
        let mut transaction = self.write().await?;
        for (key, value) in packed {
            let bytes = integer(value.len() as u64);
            sqlx::query(
                "INSERT INTO facts (reader, text, value, bytes, last_used) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (reader, text) DO UPDATE
                 SET value = excluded.value, bytes = excluded.bytes, last_used = excluded.last_used",
            )
            .bind(key.reader)
            .bind(key.text)
            .bind(value)
            .bind(bytes)
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.explain(error))?;
        }
        self.commit(transaction).await
    }

    async fn last_result(&self, restaurant: &str) -> Result<Option<LastResult>, StoreError> {
        let value: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT value FROM last_results WHERE restaurant_id = ?")
                .bind(restaurant)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.explain(error))?;
        Ok(value.and_then(|value| unpack(STORE, &value)))
    }

    async fn put_last_result(&self, last: LastResult) -> Result<(), StoreError> {
        let value = pack(STORE, &last)?;
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT OR REPLACE INTO last_results (restaurant_id, value, updated_at) VALUES (?, ?, ?)",
        )
        .bind(last.result.restaurant_id)
        .bind(value)
        .bind(unix_now())
        .execute(&mut *transaction)
        .await
        .map_err(|error| self.explain(error))?;
        self.commit(transaction).await
    }

    /// Sums the shares anew, so that no total can drift. The time grows with the restaurants of the file (44 ms with
    /// 10,000 of eight aspects, on 2 cores), which this home can bear; a fleet keeps totals.
    async fn aspect_rates(
        &self,
        reader: &str,
        restaurant: &str,
        aspects: usize,
    ) -> Result<Vec<AspectRate>, StoreError> {
        let sums: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT aspect, count(*), sum(reviews), sum(positive) FROM aspect_counts
             WHERE reader = ? AND restaurant_id <> ? AND aspect < ? GROUP BY aspect",
        )
        .bind(reader)
        .bind(restaurant)
        .bind(integer(aspects as u64))
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.explain(error))?;

        let mut rates = vec![AspectRate::default(); aspects];
        for (aspect, restaurants, reviews, positive) in sums {
            let rate = usize::try_from(aspect).ok().and_then(|aspect| rates.get_mut(aspect));
            let (Some(rate), Ok(restaurants), Ok(reviews), Ok(positive)) =
                (rate, restaurants.try_into(), reviews.try_into(), positive.try_into())
            else {
                return Err(refuse(&self.path, "it holds counts below zero; delete it, someone changed it"));
            };
            *rate = AspectRate { restaurants, reviews, positive };
        }
        Ok(rates)
    }

    async fn put_aspect_counts(
        &self,
        reader: &str,
        restaurant: &str,
        reviews: u64,
        positive: &[u64],
    ) -> Result<(), StoreError> {
        let now = unix_now();
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM aspect_counts WHERE reader = ? AND restaurant_id = ?")
            .bind(reader)
            .bind(restaurant)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.explain(error))?;
        for (aspect, &positive) in positive.iter().enumerate() {
            sqlx::query(
                "INSERT INTO aspect_counts (reader, restaurant_id, aspect, reviews, positive, updated_at)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(reader)
            .bind(restaurant)
            .bind(integer(aspect as u64))
            .bind(integer(reviews))
            .bind(integer(positive))
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.explain(error))?;
        }
        self.commit(transaction).await
    }
}

impl SqliteStore {
    /// The known facts of some texts, by text. The texts travel as one JSON array: one statement for any number.
    async fn facts_of<'a>(
        &self,
        reader: &str,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<String, ReviewFacts>, StoreError> {
        let texts = texts.collect::<serde_json::Value>().to_string();
        let rows: Vec<(i64, String, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT rowid, text, value, last_used FROM facts
             WHERE reader = ? AND text IN (SELECT value FROM json_each(?))",
        )
        .bind(reader)
        .bind(texts)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.explain(error))?;

        let now = unix_now();
        let due = |last_used: i64| last_used < now - USE_GRAIN_SECONDS;
        let stale: Vec<i64> =
            rows.iter().filter(|(.., last_used)| due(*last_used)).map(|(rowid, ..)| *rowid).collect();
        if !stale.is_empty()
            && let Err(error) = self.touch(&stale, now).await
        {
            // What was read is good; at worst it is pruned early.
            tracing::warn!(%error, "the time of use of facts could not be kept");
        }
        Ok(rows.into_iter().filter_map(|(_, text, value, _)| Some((text, unpack(STORE, &value)?))).collect())
    }

    async fn touch(&self, rowids: &[i64], now: i64) -> Result<(), StoreError> {
        let rowids = rowids.iter().copied().collect::<serde_json::Value>().to_string();
        let mut transaction = self.write().await?;
        sqlx::query("UPDATE facts SET last_used = ? WHERE rowid IN (SELECT value FROM json_each(?))")
            .bind(now)
            .bind(rowids)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.explain(error))?;
        self.commit(transaction).await
    }
}
