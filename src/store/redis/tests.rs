//! Over a real server: the contract, and what only Redis can get wrong. Faults of the server: `tests/it/fleet/stores.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use maitred_testkit::Redis;
use proptest::prelude::*;

use super::*;
use crate::config::SecretUrl;
use crate::job::Review;
use crate::selection::representative::Representative;
use crate::selection::vector::UnitVector;
use crate::store::contract::{self, block_on, facts_of, key, last_of, representative_of};
use crate::store::{AspectRate, FactStore, ReviewFacts};

fn settings() -> RedisSettings {
    // What a busy machine may need; nothing here waits for it.
    let timeout = Duration::from_secs(20);
    let facts_max_age = Duration::from_hours(1);
    RedisSettings { url: None, timeout, rest: Duration::from_secs(5), facts_max_age }
}

fn store_at(redis: &Redis) -> RedisFacts {
    RedisFacts::new(Secret::Value(SecretUrl::new(redis.url())), &settings()).unwrap()
}

/// Says something to the server behind the store's back.
async fn say<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let mut connection = Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (verb, arguments) = words.split_first().unwrap();
    redis::cmd(verb).arg(arguments).query_async(&mut connection).await.unwrap()
}

#[test]
fn it_keeps_the_contract_of_fact_stores() {
    let Some(redis) = Redis::start() else { return };
    block_on(contract::holds(&store_at(&redis)));
}

#[test]
fn a_url_that_is_none_is_refused_without_repeating_its_password() {
    let url = Secret::Value(SecretUrl::new("redis://me:hunter2@host:not-a-port"));
    let message = RedisFacts::new(url, &settings()).err().unwrap().to_string();
    assert!(message.contains("redis.url") && !message.contains("hunter2"), "{message}");
}

#[test]
fn every_key_is_ours_and_has_a_time_to_live() {
    let Some(redis) = Redis::start() else { return };
    block_on(async {
        let store = store_at(&redis);
        store.put_many(vec![(key("m", "t"), facts_of(1, 0.5))]).await.unwrap();
        store.put_last_result(last_of("r", "m", 1)).await.unwrap();
        store.put_aspect_counts("m", "r", 3, &[1]).await.unwrap();
        store.put_representative("r", None, &representative_of("m", 1)).await.unwrap();
        let mut keys: Vec<String> = say(&redis, &["KEYS", "*"]).await;
        keys.sort();
        let ours =
            ["facts:m:t", "last:r", "rates:m", "representative:m:r"].map(|key| format!("maitred:{key}"));
        assert_eq!(keys, ours);
        for key in keys {
            let seconds: i64 = say(&redis, &["TTL", &key]).await;
            assert!((3000..=3600).contains(&seconds), "{key} lives {seconds} s");
        }
    });
}

#[test]
fn using_facts_gives_them_their_whole_time_again() {
    let Some(redis) = Redis::start() else { return };
    block_on(async {
        let store = store_at(&redis);
        let puts = ["used", "unused"].map(|text| (key("m", text), facts_of(1, 0.5)));
        store.put_many(puts.into()).await.unwrap();
        for text in ["used", "unused"] {
            let _: i64 = say(&redis, &["EXPIRE", &format!("maitred:facts:m:{text}"), "500"]).await;
        }
        store.get_many(&[key("m", "used")]).await.unwrap();
        let seconds: i64 = say(&redis, &["TTL", "maitred:facts:m:used"]).await;
        assert!(seconds > 500, "{seconds}");
        let seconds: i64 = say(&redis, &["TTL", "maitred:facts:m:unused"]).await;
        assert!(seconds <= 500, "{seconds}");
    });
}

#[test]
fn more_keys_and_bytes_than_one_exchange_takes_keep_their_order() {
    let Some(redis) = Redis::start() else { return };
    block_on(async {
        let store = store_at(&redis);
        // Some 4 MB in 900 values.
        let puts =
            (0..900).map(|id| (key("m", &id.to_string()), ReviewFacts { tokens: id, ..facts_of(10, 0.5) }));
        store.put_many(puts.collect()).await.unwrap();
        let ids: Vec<u32> = (0..1000).rev().chain((0..1000).step_by(3)).collect();
        let keys: Vec<_> = ids.iter().map(|id| key("m", &id.to_string())).collect();
        let found = store.get_many(&keys).await.unwrap();
        let tokens: Vec<_> = found.iter().map(|facts| facts.as_ref().map(|facts| facts.tokens)).collect();
        let expected: Vec<_> = ids.iter().map(|&id| (id < 900).then_some(id)).collect();
        assert_eq!(tokens, expected);
        let known = store.known_many(&keys).await.unwrap();
        assert_eq!(known, ids.iter().map(|&id| id < 900).collect::<Vec<_>>());
    });
}

#[test]
fn what_cannot_be_read_is_unknown_dropped_and_replaced() {
    let Some(redis) = Redis::start() else { return };
    block_on(async {
        let store = store_at(&redis);
        let next = representative_of("m", 2);
        store.put_many(vec![(key("m", "t"), facts_of(1, 0.5))]).await.unwrap();
        store.put_last_result(last_of("r", "m", 1)).await.unwrap();
        store.put_representative("r", None, &representative_of("m", 1)).await.unwrap();
        let _: String = say(&redis, &["SET", "maitred:facts:m:t", "?"]).await;
        for key in ["maitred:last:r", "maitred:representative:m:r"] {
            let _: i64 = say(&redis, &["HSET", key, "value", "?"]).await;
        }
        assert_eq!(store.get_many(&[key("m", "t")]).await.unwrap(), [None]);
        assert_eq!(store.last_result("r").await.unwrap(), None);
        assert_eq!(store.representative("r", "m").await.unwrap(), None);
        assert_eq!(say::<Vec<String>>(&redis, &["KEYS", "*"]).await, Vec::<String>::new());
        assert!(store.put_representative("r", None, &next).await.unwrap());
        assert_eq!(store.representative("r", "m").await.unwrap(), Some(next));
    });
}

#[test]
fn totals_that_someone_changed_are_refused() {
    let Some(redis) = Redis::start() else { return };
    block_on(async {
        let store = store_at(&redis);
        store.put_aspect_counts("m", "r", 9, &[4]).await.unwrap();
        let _: i64 = say(&redis, &["HSET", "maitred:rates:m", "r:0", "2"]).await;
        let message = store.aspect_rates("m", "r", 1).await.unwrap_err().to_string();
        assert!(message.contains("`maitred:rates:m` does not add up"), "{message}");
    });
}

#[test]
fn many_writers_of_shares_leave_exact_totals() {
    let Some(redis) = Redis::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let writers: Vec<_> = (0..8_u64)
            .map(|writer| {
                // Each with a connection of its own, as workers have.
                let store = store_at(&redis);
                tokio::spawn(async move {
                    for round in 0..40 {
                        let restaurant = format!("r{}", (writer + round) % 5);
                        store.put_aspect_counts("m", &restaurant, 10, &[round % 10, 7]).await.unwrap();
                    }
                    for restaurant in 0..5 {
                        store
                            .put_aspect_counts("m", &format!("r{restaurant}"), 20, &[restaurant, 7])
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let rate = |positive| AspectRate { restaurants: 5, reviews: 100, positive };
        assert_eq!(store_at(&redis).aspect_rates("m", "none", 2).await.unwrap(), [rate(10), rate(35)]);
    });
}

/// As workers do with one restaurant's representative vector, only all at once.
#[test]
fn writers_that_read_change_and_compare_lose_no_update() {
    let Some(redis) = Redis::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = store_at(&redis);
                tokio::spawn(async move {
                    for round in 0..10 {
                        add_one(&store, &format!("{writer}-{round}")).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let kept = store_at(&redis).representative("r", "m").await.unwrap().unwrap();
        assert_eq!(kept.count(), 40);
    });
}

/// Adds a review to what is kept, until nobody came in between.
async fn add_one(store: &RedisFacts, id: &str) {
    let review = Review {
        id: id.into(),
        text: format!("the text of {id}"),
        rating: None,
        recommended: None,
        created_at: None,
        embedding: None,
    };
    let vector = UnitVector::new(vec![0.6, 0.8]).unwrap();
    loop {
        let kept = store.representative("r", "m").await.unwrap();
        let expected = kept.as_ref().map(Representative::digest);
        let mut next = kept.unwrap_or_else(|| Representative::new("m"));
        next.add(&review, &vector, time::OffsetDateTime::UNIX_EPOCH).unwrap();
        if store.put_representative("r", expected.as_deref(), &next).await.unwrap() {
            return;
        }
    }
}

/// Counts warnings on the thread of the test.
struct Warnings(Arc<AtomicU64>);

impl<C: tracing::Subscriber> tracing_subscriber::Layer<C> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, C>) {
        if *event.metadata().level() == tracing::Level::WARN {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_outage_is_logged_once_however_many_calls_it_fails() {
    use tracing_subscriber::layer::SubscriberExt;
    let warnings = Arc::new(AtomicU64::new(0));
    let subscriber = tracing_subscriber::registry().with(Warnings(Arc::clone(&warnings)));
    let told = tracing::subscriber::with_default(subscriber, || {
        block_on(async {
            let nowhere = Secret::Value(SecretUrl::new("redis://127.0.0.1:1"));
            let settings = RedisSettings { rest: Duration::from_hours(1), ..settings() };
            let store = RedisFacts::new(nowhere, &settings).unwrap();
            let mut told = Vec::new();
            for _ in 0..20 {
                told.push(store.last_epoch("r").await.unwrap_err().is_told);
            }
            told
        })
    });
    assert_eq!(warnings.load(Ordering::Relaxed), 1);
    let failures = FAILURES as usize;
    assert_eq!(
        told,
        [vec![false; failures], vec![true; 20 - failures]].concat(),
        "callers need not say it again"
    );
}

/// Any number of aspects, any counts, replaced in any order, against the home in memory.
#[test]
fn totals_are_the_sum_of_any_shares() {
    let Some(redis) = Redis::start() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(async { store_at(&redis) });
    let counts = || 0..1_u64 << 40;
    let share = (0_u8..4, counts(), prop::collection::vec(counts(), 0..5));
    proptest!(ProptestConfig::with_cases(32), |(shares in prop::collection::vec(share, 1..20), reader in "[a-z]{12}")| {
        runtime.block_on(async {
            let model = crate::store::memory::MemoryFacts::new(1 << 20);
            for (restaurant, reviews, positive) in shares {
                let restaurant = restaurant.to_string();
                store.put_aspect_counts(&reader, &restaurant, reviews, &positive).await.unwrap();
                model.put_aspect_counts(&reader, &restaurant, reviews, &positive).await.unwrap();
                for without in ["0", "none"] {
                    let expected = model.aspect_rates(&reader, without, 5).await.unwrap();
                    prop_assert_eq!(store.aspect_rates(&reader, without, 5).await.unwrap(), expected);
                }
            }
            Ok(())
        })?;
    });
}
