//! What is kept under which key, and how it is read and written.
//!
//! | key | what |
//! |---|---|
//! | `maitred:facts:<reader>:<text>` | facts, MessagePack |
//! | `maitred:last:<restaurant>` | hash: `epoch`, `value` |
//! | `maitred:rates:<reader>` | hash: totals by aspect, and each restaurant's share, so that they leave together |
//! | `maitred:representative:<model>:<restaurant>` | hash: `digest`, `value` |

use redis::aio::ConnectionManager;
use redis::{RedisError, Value, cmd, pipe};

use super::RedisFacts;
use super::error::{STORE, refuse};
use crate::selection::representative::Representative;
use crate::store::codec::{pack, unpack};
use crate::store::{AspectRate, FactKey, FactStore, LastResult, ReviewFacts, StoreError};

/// Keys in one exchange: others wait while the server answers it, and the answer has to come in time.
const KEYS_PER_EXCHANGE: usize = 200;
/// Bytes written in one exchange.
const BYTES_PER_EXCHANGE: usize = 1 << 20;

impl FactStore for RedisFacts {
    /// Using a value keeps it: each is given its whole time again, in the same exchange.
    async fn get_many(&self, keys: &[FactKey]) -> Result<Vec<Option<ReviewFacts>>, StoreError> {
        let mut facts = Vec::with_capacity(keys.len());
        let mut unreadable = Vec::new();
        for chunk in keys.chunks(KEYS_PER_EXCHANGE) {
            let names: Vec<String> = chunk.iter().map(facts_key).collect();
            let values = self.exchange(|connection| fetch(connection, &names, self.lifetime)).await?;
            for (name, value) in names.into_iter().zip(values) {
                let known = value.as_deref().and_then(|bytes| unpack(STORE, bytes));
                if value.is_some() && known.is_none() {
                    unreadable.push(name);
                }
                facts.push(known);
            }
        }
        for names in unreadable.chunks(KEYS_PER_EXCHANGE) {
            self.exchange(async |mut connection| cmd("UNLINK").arg(names).exec_async(&mut connection).await)
                .await?;
        }
        Ok(facts)
    }

    async fn known_many(&self, keys: &[FactKey]) -> Result<Vec<bool>, StoreError> {
        let mut known = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS_PER_EXCHANGE) {
            let mut pipeline = pipe();
            for key in chunk {
                pipeline.cmd("EXISTS").arg(facts_key(key));
            }
            let found: Vec<bool> =
                self.exchange(async |mut connection| pipeline.query_async(&mut connection).await).await?;
            known.extend(found);
        }
        Ok(known)
    }

    async fn put_many(&self, facts: Vec<(FactKey, ReviewFacts)>) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (key, facts) in facts {
            let value = pack(STORE, &facts)?;
            bytes += value.len();
            batch.push((facts_key(&key), value));
            if batch.len() == KEYS_PER_EXCHANGE || bytes >= BYTES_PER_EXCHANGE {
                self.put_batch(&batch).await?;
                (batch, bytes) = (Vec::new(), 0);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.put_batch(&batch).await }
    }

    async fn last_result(&self, restaurant: &str) -> Result<Option<LastResult>, StoreError> {
        self.value_of(&last_key(restaurant), "epoch").await
    }

    async fn last_epoch(&self, restaurant: &str) -> Result<Option<u64>, StoreError> {
        let key = last_key(restaurant);
        let epoch: Option<String> = self
            .exchange(async |mut connection| {
                cmd("HGET").arg(&key).arg("epoch").query_async(&mut connection).await
            })
            .await?;
        Ok(epoch.and_then(|digits| digits.parse().ok()))
    }

    async fn put_last_result(&self, last: LastResult) -> Result<(), StoreError> {
        let (epoch, value) = (format!("{:020}", last.result.epoch), pack(STORE, &last)?);
        let mut call = self.scripts.put_last.key(last_key(&last.result.restaurant_id));
        call.arg(epoch).arg(value).arg(self.lifetime);
        self.exchange(async |mut connection| call.invoke_async(&mut connection).await).await
    }

    async fn aspect_rates(
        &self,
        reader: &str,
        restaurant: &str,
        aspects: usize,
    ) -> Result<Vec<AspectRate>, StoreError> {
        let mut query = cmd("HMGET");
        query.arg(rates_key(reader)).arg(format!("s:{restaurant}"));
        for aspect in 0..aspects {
            query.arg(format!("n:{aspect}")).arg(format!("r:{aspect}")).arg(format!("p:{aspect}"));
        }
        let fields: Vec<Option<String>> =
            self.exchange(async |mut connection| query.query_async(&mut connection).await).await?;
        rates(&fields, aspects).ok_or_else(|| {
            refuse(format_args!("`{}` does not add up; delete it, someone changed it", rates_key(reader)))
        })
    }

    async fn put_aspect_counts(
        &self,
        reader: &str,
        restaurant: &str,
        reviews: u64,
        positive: &[u64],
    ) -> Result<(), StoreError> {
        let mut call = self.scripts.put_counts.key(rates_key(reader));
        call.arg(restaurant).arg(share_text(reviews, positive)).arg(self.lifetime);
        self.exchange(async |mut connection| call.invoke_async(&mut connection).await).await
    }

    async fn representative(
        &self,
        restaurant: &str,
        model: &str,
    ) -> Result<Option<Representative>, StoreError> {
        self.value_of(&representative_key(restaurant, model), "digest").await
    }

    async fn put_representative(
        &self,
        restaurant: &str,
        expected: Option<&str>,
        new: &Representative,
    ) -> Result<bool, StoreError> {
        let value = pack(STORE, new)?;
        let mut call = self.scripts.put_representative.key(representative_key(restaurant, &new.model));
        call.arg(expected.unwrap_or_default()).arg(new.digest()).arg(value).arg(self.lifetime);
        self.exchange(async |mut connection| call.invoke_async(&mut connection).await).await
    }
}

impl RedisFacts {
    async fn put_batch(&self, batch: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let mut pipeline = pipe();
        pipeline.ignore_errors();
        for (key, value) in batch {
            pipeline.cmd("SET").arg(key).arg(value).arg("EX").arg(self.lifetime);
        }
        self.exchange(async |mut connection| {
            let answers: Vec<Value> = pipeline.query_async(&mut connection).await?;
            answers.into_iter().try_for_each(refusal)
        })
        .await
    }

    /// The value beside the field that tells its versions apart. One that cannot be read is dropped, because it would
    /// stand in the way of its successor.
    async fn value_of<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
        version: &str,
    ) -> Result<Option<T>, StoreError> {
        let (kept, value): (Option<String>, Option<Vec<u8>>) = self
            .exchange(async |mut connection| {
                cmd("HMGET").arg(key).arg(version).arg("value").query_async(&mut connection).await
            })
            .await?;
        let (Some(kept), Some(value)) = (kept, value) else { return Ok(None) };
        let known = unpack(STORE, &value);
        if known.is_none() {
            let mut call = self.scripts.drop_if.key(key);
            call.arg(version).arg(kept);
            self.exchange(async |mut connection| call.invoke_async::<()>(&mut connection).await).await?;
        }
        Ok(known)
    }
}

/// The values, each of which is given its whole time again. That this is refused (by a full disk, by a replica) does
/// not make the values worse.
async fn fetch(
    mut connection: ConnectionManager,
    names: &[String],
    lifetime: u64,
) -> Result<Vec<Option<Vec<u8>>>, RedisError> {
    let mut pipeline = pipe();
    pipeline.ignore_errors().cmd("MGET").arg(names);
    for name in names {
        pipeline.cmd("EXPIRE").arg(name).arg(lifetime).ignore();
    }
    let (values,): (Value,) = pipeline.query_async(&mut connection).await?;
    Ok(redis::from_redis_value(values.extract_error()?)?)
}

fn refusal(answer: Value) -> Result<(), RedisError> {
    answer.extract_error().map(drop)
}

fn facts_key(key: &FactKey) -> String {
    format!("maitred:facts:{}:{}", key.reader, key.text)
}

fn last_key(restaurant: &str) -> String {
    format!("maitred:last:{restaurant}")
}

fn rates_key(reader: &str) -> String {
    format!("maitred:rates:{reader}")
}

fn representative_key(restaurant: &str, model: &str) -> String {
    format!("maitred:representative:{model}:{restaurant}")
}

/// A share as the script reads it. Counts stay far below what the sums can hold.
fn share_text(reviews: u64, positive: &[u64]) -> String {
    const MOST: u64 = 1 << 40;
    let numbers = std::iter::once(&reviews).chain(positive).map(|&count| count.min(MOST).to_string());
    numbers.collect::<Vec<_>>().join(",")
}

/// Totals less the restaurant's own share, from `HMGET`'s answer; nothing if they cannot be that.
fn rates(fields: &[Option<String>], aspects: usize) -> Option<Vec<AspectRate>> {
    let (share, totals) = fields.split_first()?;
    let share: Vec<u64> = match share {
        Some(text) => text.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    let reviews = share.first().copied().unwrap_or_default();
    let total = |aspect: usize, part: usize| match totals.get(3 * aspect + part) {
        Some(Some(number)) => number.parse::<u64>().ok(),
        _ => Some(0),
    };
    let rate = |aspect: usize| {
        let own = share.get(aspect + 1);
        Some(AspectRate {
            restaurants: total(aspect, 0)?.checked_sub(u64::from(own.is_some()))?.try_into().ok()?,
            reviews: total(aspect, 1)?.checked_sub(own.map_or(0, |_| reviews))?,
            positive: total(aspect, 2)?.checked_sub(own.copied().unwrap_or_default())?,
        })
    };
    (0..aspects).map(rate).collect()
}
