//! Faults of Redis. NATS is not there in these tests: one server's fault hides no other's.

use maitred_testkit::{Redis, RedisConfig};

use crate::doctor::{Told, ask, plain};

fn about(redis: &Redis) -> Told {
    about_url(redis, &redis.url())
}

fn about_url(redis: &Redis, url: &str) -> Told {
    ask(&plain(redis.folder()).set("nats.url", "nats://127.0.0.1:1").set("redis.url", url))
}

#[test]
fn a_server_as_it_is_deployed_is_well_and_keeps_nothing_of_the_visit() {
    let Some(redis) = Redis::start() else { return };
    let told = about(&redis);
    assert_eq!(told.codes(&["redis"]), [""; 0]);
    for check in ["redis.rights", "redis.memory", "redis.latency", "clock.redis"] {
        assert_eq!(told.status(check), "ok", "{check}");
    }
    assert!(redis.command("DBSIZE").starts_with(":0"));
    assert_eq!(told.codes(&["nats"]), ["nats.unreachable"]);
}

#[test]
fn a_server_that_is_away_or_refuses_the_login_is_one_failure() {
    let lines = "requirepass secret".to_owned();
    let Some(mut redis) = Redis::start_with(&RedisConfig { lines, login: None }) else { return };
    let url = format!("redis://default:wr0ng@{}", redis.address());
    let told = about_url(&redis, &url);
    assert_eq!(told.codes(&["redis"]), ["redis.refused"]);
    told.failed("redis.refused", "does not take this login", "correct user and password in `redis.url`");
    assert!(!told.report.to_string().contains("wr0ng"));
    assert_eq!(about(&redis).codes(&["redis"]), ["redis.refused"], "nobody at all");
    redis.kill();
    let told = about(&redis);
    assert_eq!(told.codes(&["redis"]), ["redis.unreachable"]);
    let found = told.failed("redis.unreachable", "does not answer", "start it");
    assert_eq!(found["command"], "redis-server deploy/redis/redis.conf");
    assert_eq!(told.status("redis.memory"), "skipped");
}

#[test]
fn a_login_that_may_only_read_is_told_what_it_lacks() {
    let lines = "user reader on >pw ~* resetchannels -@all +@read +@connection +info +time".to_owned();
    let login = Some("reader:pw".to_owned());
    let Some(redis) = Redis::start_with(&RedisConfig { lines, login }) else { return };
    let told = about(&redis);
    assert_eq!(told.codes(&["redis"]), ["redis.forbidden"]);
    let found = told.failed("redis.forbidden", "may not keep facts, ", "deploy/redis/users.acl");
    let means = found["means"].as_str().unwrap();
    for command in ["SET", "EXPIRE", "HSET", "HINCRBY", "UNLINK", "EVALSHA", "SCRIPT LOAD"] {
        assert!(means.contains(command), "{command}: {means}");
    }
    assert!(!means.contains("MGET"), "{means}");
    assert!(redis.command("DBSIZE").starts_with(":0"));
}

#[test]
fn a_login_without_keys_of_ours_is_told_so() {
    let lines = "user other on >pw ~other:* resetchannels +@all".to_owned();
    let login = Some("other:pw".to_owned());
    let Some(redis) = Redis::start_with(&RedisConfig { lines, login }) else { return };
    let told = about(&redis);
    told.failed("redis.forbidden", "MGET", "deploy/redis/users.acl");
}

#[test]
fn a_full_server_that_may_drop_nothing_fails_and_one_that_would_is_a_warning() {
    let Some(redis) = Redis::start() else { return };
    redis.command("CONFIG SET maxmemory-policy noeviction");
    let told = about(&redis);
    assert_eq!(told.codes(&["redis"]), ["redis.policy"]);
    assert_eq!(told.found("redis.policy")["command"], "redis-cli CONFIG SET maxmemory-policy allkeys-lru");
    redis.command("CONFIG SET maxmemory 100kb");
    let told = about(&redis);
    assert_eq!(told.codes(&["redis"]), ["redis.full"]);
    told.failed("redis.full", "lets it drop nothing", "let it drop what nobody asks for, or raise maxmemory");
    redis.command("CONFIG SET maxmemory 0");
    assert_eq!(about(&redis).codes(&["redis"]), ["redis.unbounded"]);
}

#[test]
fn a_replica_is_told_to_be_one() {
    let Some(redis) = Redis::start() else { return };
    redis.command("REPLICAOF 127.0.0.1 1");
    let told = about(&redis);
    assert_eq!(told.codes(&["redis"]), ["redis.replica"]);
    told.failed("redis.replica", "takes no changes", "name the primary in `redis.url`");
}

#[test]
fn an_address_of_something_else_is_a_matter_of_settings() {
    let Some(redis) = Redis::start() else { return };
    let told = about_url(&redis, "http://me:hunter2@host");
    told.failed("redis.settings", "cannot be used", "write `redis.url` as redis://");
    assert!(!told.report.to_string().contains("hunter2"));
}
