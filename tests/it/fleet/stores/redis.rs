//! Redis down, slow, full, read-only, taken by others: facts are computed, calls fail in their time, and it is used
//! again when it is back. (`reference/jetstream.md`: "Redis down, slow, WRONGTYPE, maxmemory".)

use std::path::{Path, PathBuf};
use std::time::Duration;

use maitred::config::{RedisSettings, Secret, SecretUrl};
use maitred::selection::representative::Representative;
use maitred::store::redis::{FAILURES, RedisFacts};
use maitred::store::{FactKey, FactStore, ReviewFacts, StoreError};
use maitred_testkit::{LIMIT, Redis, RedisConfig};

/// So long that no test sees its end.
const NO_END: Duration = Duration::from_hours(24);

fn store(redis: &Redis, timeout: Duration, rest: Duration) -> RedisFacts {
    let settings = RedisSettings { url: None, timeout, rest, facts_max_age: Duration::from_hours(1) };
    RedisFacts::new(Secret::Value(SecretUrl::new(redis.url())), &settings).unwrap()
}

fn key(text: &str) -> FactKey {
    FactKey { reader: "m".into(), text: text.into() }
}

fn facts() -> ReviewFacts {
    ReviewFacts { tokens: 7, p_positive: Some(0.5), clauses: Vec::new(), vector: vec![1; 64] }
}

async fn put(store: &RedisFacts, text: &str) -> Result<(), StoreError> {
    store.put_many(vec![(key(text), facts())]).await
}

async fn get(store: &RedisFacts, text: &str) -> Result<Option<ReviewFacts>, StoreError> {
    Ok(store.get_many(&[key(text)]).await?.remove(0))
}

/// Asks until it answers.
async fn until_it_answers(store: &RedisFacts) {
    let asking = async {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while get(store, "absent").await.is_err() {
            beat.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.expect("it never answers again");
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/redis").join(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_later_than_the_worker_is_used_when_it_comes() {
    let Some(mut redis) = Redis::start() else { return };
    redis.kill();
    let store = store(&redis, Duration::from_secs(20), Duration::from_millis(20));
    let message = get(&store, "t").await.unwrap_err().to_string();
    assert!(message.contains("check redis.url"), "{message}");
    redis.restart();
    until_it_answers(&store).await;
    put(&store, "t").await.unwrap();
    assert_eq!(get(&store, "t").await.unwrap(), Some(facts()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_left_alone_after_a_few_failures() {
    let Some(mut redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);
    put(&store, "t").await.unwrap();
    redis.kill();
    for _ in 0..FAILURES {
        let message = get(&store, "t").await.unwrap_err().to_string();
        assert!(!message.contains("left alone"), "{message}");
    }
    // It is back, and would answer: nothing is sent to it before the rest is over.
    redis.restart();
    for _ in 0..20 {
        let message = get(&store, "t").await.unwrap_err().to_string();
        assert!(message.contains("left alone"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_used_again_after_its_restart_however_often() {
    let Some(mut redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_secs(20), Duration::from_millis(20));
    for round in 0..3 {
        until_it_answers(&store).await;
        let text = round.to_string();
        put(&store, &text).await.unwrap();
        assert_eq!(get(&store, &text).await.unwrap(), Some(facts()));
        redis.kill();
        for _ in 0..2 * FAILURES {
            assert!(get(&store, &text).await.is_err());
        }
        redis.restart();
    }
    until_it_answers(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_costs_a_few_timeouts_and_then_nothing() {
    let Some(mut redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_millis(500), NO_END);
    // The first exchange may be slow on a busy machine; the breaker needs a row of failures, not one.
    until_it_answers(&store).await;
    redis.stop();
    let calls = async {
        let mut timeouts = 0;
        loop {
            let message = get(&store, "t").await.unwrap_err().to_string();
            if message.contains("left alone") {
                return timeouts;
            }
            timeouts += 1;
        }
    };
    let timeouts = tokio::time::timeout(LIMIT, calls).await.expect("a call has no end");
    assert_eq!(timeouts, FAILURES);
    redis.cont();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_stopped_is_used_again_when_it_goes_on() {
    let Some(mut redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_millis(100), Duration::from_millis(20));
    until_it_answers(&store).await;
    redis.stop();
    for _ in 0..2 * FAILURES {
        assert!(get(&store, "t").await.is_err());
    }
    redis.cont();
    until_it_answers(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_fails_its_call_and_no_other() {
    let Some(redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);
    for key in ["last:r", "rates:m", "representative:m:r"] {
        redis.command(&format!("SET maitred:{key} other"));
    }
    redis.command("HSET maitred:facts:m:t field other");
    for _ in 0..2 * FAILURES {
        let errors = [
            store.last_result("r").await.err(),
            store.last_epoch("r").await.err(),
            store.aspect_rates("m", "r", 1).await.err(),
            store.put_aspect_counts("m", "r", 1, &[1]).await.err(),
            store.representative("r", "m").await.err(),
            store.put_representative("r", None, &Representative::new("m")).await.err(),
        ];
        for error in errors {
            let message = error.expect("it is refused").to_string();
            assert!(message.contains("another program keeps something else"), "{message}");
        }
    }
    // Facts only ever replace what is under their key.
    assert_eq!(get(&store, "t").await.unwrap(), None);
    put(&store, "t").await.unwrap();
    assert_eq!(get(&store, "t").await.unwrap(), Some(facts()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_takes_nothing_new_and_still_tells_what_it_knows() {
    let Some(redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);
    put(&store, "t").await.unwrap();
    redis.command("CONFIG SET maxmemory-policy noeviction");
    redis.command("CONFIG SET maxmemory 1");
    for _ in 0..2 * FAILURES {
        for refused in [put(&store, "u").await, store.put_aspect_counts("m", "r", 1, &[1]).await] {
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("raise maxmemory"), "{message}");
        }
        assert_eq!(get(&store, "t").await.unwrap(), Some(facts()));
    }
    redis.command("CONFIG SET maxmemory 0");
    put(&store, "u").await.unwrap();
    store.put_aspect_counts("m", "r", 1, &[1]).await.unwrap();
    assert_eq!(store.aspect_rates("m", "", 1).await.unwrap()[0].restaurants, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_tells_what_it_knows_and_refuses_the_rest() {
    let Some(redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);
    put(&store, "t").await.unwrap();
    redis.command("REPLICAOF 127.0.0.1 1");
    let message = put(&store, "u").await.unwrap_err().to_string();
    assert!(message.contains("name the primary"), "{message}");
    assert_eq!(get(&store, "t").await.unwrap(), Some(facts()), "though its time cannot be renewed");
    redis.command("REPLICAOF NO ONE");
    put(&store, "u").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_that_is_deployed_starts_and_drops_what_is_old_when_it_is_full() {
    let Some(redis) = Redis::start() else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);
    redis.command("CONFIG SET maxmemory 3mb");
    for batch in 0..40 {
        let value = || ReviewFacts { vector: vec![1; 4000], ..facts() };
        let puts = (0..50).map(|id| (key(&format!("{batch}-{id}")), value()));
        store.put_many(puts.collect()).await.unwrap();
    }
    let last: Vec<FactKey> = (0..50).map(|id| key(&format!("39-{id}"))).collect();
    let first: Vec<FactKey> = (0..50).map(|id| key(&format!("0-{id}"))).collect();
    assert!(store.known_many(&last).await.unwrap().into_iter().any(|known| known));
    assert!(!store.known_many(&first).await.unwrap().into_iter().all(|known| known));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_deployed_suffice_and_reach_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let users = std::fs::read_to_string(deploy("users.acl")).unwrap();
    assert!(users.contains("resetpass"), "nobody can log in before a password is given");
    let file = folder.path().join("users.acl");
    std::fs::write(&file, users.replace("resetpass", ">secret")).unwrap();
    let lines = format!("aclfile {}", file.display());
    let login = Some("maitred:secret".to_owned());
    let Some(redis) = Redis::start_with(&RedisConfig { lines, login }) else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);

    put(&store, "t").await.unwrap();
    assert_eq!(get(&store, "t").await.unwrap(), Some(facts()));
    assert_eq!(store.known_many(&[key("t")]).await.unwrap(), [true]);
    assert_eq!(store.last_result("r").await.unwrap(), None);
    assert_eq!(store.last_epoch("r").await.unwrap(), None);
    store.put_aspect_counts("m", "r", 3, &[1]).await.unwrap();
    store.put_aspect_counts("m", "r", 4, &[2]).await.unwrap();
    assert_eq!(store.aspect_rates("m", "", 1).await.unwrap()[0].positive, 2);
    assert!(store.put_representative("r", None, &Representative::new("m")).await.unwrap());
    assert_eq!(store.representative("r", "m").await.unwrap(), Some(Representative::new("m")));

    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for words in [&["FLUSHALL"][..], &["SET", "theirs", "1"], &["KEYS", "*"], &["CONFIG", "GET", "*"]] {
        let refused = redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut connection).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{words:?}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_says_so_and_rests() {
    let lines = "requirepass secret".to_owned();
    let Some(redis) = Redis::start_with(&RedisConfig { lines, ..RedisConfig::default() }) else { return };
    let store = store(&redis, Duration::from_secs(20), NO_END);
    for _ in 0..FAILURES {
        let message = get(&store, "t").await.unwrap_err().to_string();
        assert!(message.contains("check user and password"), "{message}");
    }
    assert!(get(&store, "t").await.unwrap_err().to_string().contains("left alone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_changed_in_its_file_is_taken_up_after_the_rest() {
    let lines = "requirepass secret".to_owned();
    let Some(redis) = Redis::start_with(&RedisConfig { lines, ..RedisConfig::default() }) else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |password: &str| {
        std::fs::write(file.path(), format!("redis://:{password}@127.0.0.1:{}", redis.port())).unwrap();
    };
    write("old");
    let settings = RedisSettings {
        url: None,
        timeout: Duration::from_secs(20),
        rest: Duration::from_millis(20),
        facts_max_age: Duration::from_hours(1),
    };
    let store = RedisFacts::new(Secret::File(file.path().to_owned()), &settings).unwrap();
    for _ in 0..FAILURES {
        assert!(get(&store, "t").await.is_err());
    }
    write("secret");
    until_it_answers(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_speak_tls_is_an_outage_and_no_panic() {
    let Some(redis) = Redis::start() else { return };
    let settings = RedisSettings {
        url: None,
        timeout: Duration::from_secs(2),
        rest: NO_END,
        facts_max_age: Duration::from_hours(1),
    };
    let url = redis.url().replace("redis://", "rediss://");
    let store = RedisFacts::new(Secret::Value(SecretUrl::new(url)), &settings).unwrap();
    for _ in 0..FAILURES {
        assert!(get(&store, "t").await.is_err());
    }
    assert!(get(&store, "t").await.unwrap_err().to_string().contains("left alone"));
}
