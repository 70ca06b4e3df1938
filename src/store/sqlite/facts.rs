//! Facts, last results and running rates in SQLite.

use std::collections::{BTreeMap, HashMap};

use super::error::{STORE, refuse};
use super::{SqliteStore, integer, unix_now};
use crate::selection::representative::Representative;
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

    async fn known_many(&self, keys: &[FactKey]) -> Result<Vec<bool>, StoreError> {
        let mut known = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS_PER_QUERY) {
            let pairs = chunk.iter().map(|key| serde_json::json!([key.reader, key.text]));
            let found: Vec<bool> = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM facts WHERE reader = asked.value ->> 0 AND text = asked.value ->> 1)
                 FROM json_each(?) AS asked ORDER BY asked.key",
            )
            .bind(pairs.collect::<serde_json::Value>().to_string())
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.explain(error))?;
            known.extend(found);
        }
        Ok(known)
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

    async fn last_epoch(&self, restaurant: &str) -> Result<Option<u64>, StoreError> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM last_results WHERE restaurant_id = ?")
            .bind(restaurant)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.explain(error))?;
        Ok(epoch.map(i64::unsigned_abs))
    }

    async fn put_last_result(&self, last: LastResult) -> Result<(), StoreError> {
        let value = pack(STORE, &last)?;
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT INTO last_results (restaurant_id, epoch, value, updated_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (restaurant_id) DO UPDATE
             SET epoch = excluded.epoch, value = excluded.value, updated_at = excluded.updated_at
             WHERE excluded.epoch >= last_results.epoch",
        )
        .bind(last.result.restaurant_id)
        .bind(integer(last.result.epoch))
        .bind(value)
        .bind(unix_now())
        .execute(&mut *transaction)
        .await
        .map_err(|error| self.explain(error))?;
        self.commit(transaction).await
    }

    /// From the running totals, which the schema keeps (`migrations/sqlite/0002_fleet.sql`): the time does not grow
    /// with the restaurants.
    async fn aspect_rates(
        &self,
        reader: &str,
        restaurant: &str,
        aspects: usize,
    ) -> Result<Vec<AspectRate>, StoreError> {
        let sums: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT total.aspect, total.restaurants - (own.aspect IS NOT NULL),
                    total.reviews - coalesce(own.reviews, 0), total.positive - coalesce(own.positive, 0)
             FROM aspect_totals AS total LEFT JOIN aspect_counts AS own
                  ON own.reader = total.reader AND own.aspect = total.aspect AND own.restaurant_id = ?
             WHERE total.reader = ? AND total.aspect < ?",
        )
        .bind(restaurant)
        .bind(reader)
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

    async fn representative(
        &self,
        restaurant: &str,
        model: &str,
    ) -> Result<Option<Representative>, StoreError> {
        let kept: Option<(String, Vec<u8>)> =
            sqlx::query_as("SELECT digest, value FROM representatives WHERE restaurant_id = ? AND model = ?")
                .bind(restaurant)
                .bind(model)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.explain(error))?;
        let Some((digest, value)) = kept else { return Ok(None) };
        let representative: Option<Representative> = unpack(STORE, &value);
        if representative.is_none() {
            // It would stand in the way of its successor.
            self.drop_representative(restaurant, model, &digest).await?;
        }
        Ok(representative)
    }

    async fn put_representative(
        &self,
        restaurant: &str,
        expected: Option<&str>,
        new: &Representative,
    ) -> Result<bool, StoreError> {
        let (digest, value, now) = (new.digest(), pack(STORE, new)?, unix_now());
        let mut transaction = self.write().await?;
        let query = match expected {
            None => sqlx::query(
                "INSERT INTO representatives (digest, value, updated_at, restaurant_id, model)
                 VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            ),
            Some(_) => sqlx::query(
                "UPDATE representatives SET digest = ?, value = ?, updated_at = ?
                 WHERE restaurant_id = ? AND model = ? AND digest = ?",
            ),
        };
        let query = query.bind(digest).bind(value).bind(now).bind(restaurant).bind(&new.model);
        let query = if let Some(expected) = expected { query.bind(expected) } else { query };
        let done = query.execute(&mut *transaction).await.map_err(|error| self.explain(error))?;
        self.commit(transaction).await?;
        Ok(done.rows_affected() == 1)
    }
}

impl SqliteStore {
    async fn drop_representative(
        &self,
        restaurant: &str,
        model: &str,
        digest: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM representatives WHERE restaurant_id = ? AND model = ? AND digest = ?")
            .bind(restaurant)
            .bind(model)
            .bind(digest)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.explain(error))?;
        self.commit(transaction).await
    }

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
