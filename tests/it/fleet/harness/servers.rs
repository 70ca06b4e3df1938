//! The servers.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{Context, stream};
use maitred_testkit::{Nats, NatsConfig, Postgres, Redis, RedisConfig, connect, jetstream};
use tokio::time::timeout;

async fn with_a_stream(nats: &Nats) -> Context {
    let context = jetstream(nats.connect().await);
    let config =
        stream::Config { name: "KEPT".to_owned(), subjects: vec!["kept.>".to_owned()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    context
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nats_server_comes_back_with_its_stream_on_its_port() {
    let Some(mut nats) = Nats::start() else { return };
    let context = with_a_stream(&nats).await;
    for n in 0..10 {
        context.publish(format!("kept.{n}"), "a message".into()).await.unwrap().await.unwrap();
    }
    let url = nats.url();
    nats.kill();
    assert!(connect(&url).await.is_err());
    nats.restart();
    let kept = jetstream(connect(&url).await.unwrap()).get_stream("KEPT").await.unwrap();
    assert_eq!(kept.cached_info().state.messages, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_nats_server_answers_when_it_is_continued() {
    let Some(mut nats) = Nats::start() else { return };
    let context = with_a_stream(&nats).await;
    nats.stop();
    let mut ack = context.publish("kept.1", "a message".into()).await.unwrap().into_future();
    assert!(timeout(Duration::from_millis(300), &mut ack).await.is_err(), "it answers while it is stopped");
    nats.cont();
    ack.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_takes_the_limits_of_a_test() {
    let config = NatsConfig { max_payload: Some(2048), ..NatsConfig::default() };
    let Some(nats) = Nats::start_with(&config) else { return };
    let client = nats.connect().await;
    assert_eq!(client.server_info().max_payload, 2048);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_asks_for_the_login_of_a_test() {
    let config = NatsConfig {
        lines: "authorization { users: [ { user: cook, password: salt } ] }".to_owned(),
        login: Some("cook:salt".to_owned()),
        ..NatsConfig::default()
    };
    let Some(nats) = Nats::start_with(&config) else { return };
    assert_eq!(nats.connect().await.connection_state(), State::Connected);
    assert!(connect(&format!("nats://{}", nats.address())).await.is_err());
}

#[test]
fn a_killed_redis_comes_back_on_its_port_and_empty() {
    let Some(mut redis) = Redis::start() else { return };
    assert_eq!(redis.command("SET dish soup"), "+OK\r\n");
    redis.kill();
    assert!(std::net::TcpStream::connect(redis.address()).is_err());
    redis.restart();
    assert_eq!(redis.command("GET dish"), "$-1\r\n");
}

#[test]
fn a_redis_with_a_password_is_ready_though_it_asks_who_is_there() {
    let config = RedisConfig { lines: "requirepass salt".to_owned(), login: Some(":salt".to_owned()) };
    let Some(redis) = Redis::start_with(&config) else { return };
    assert!(redis.command("GET dish").starts_with("-NOAUTH"));
    assert!(redis.url().starts_with("redis://:salt@127.0.0.1:"));
}

#[test]
fn a_killed_postgres_comes_back_with_what_was_committed() {
    let Some(mut postgres) = Postgres::start() else { return };
    postgres.sql("CREATE TABLE kept (n integer); INSERT INTO kept VALUES (7)");
    postgres.kill();
    postgres.restart();
    assert_eq!(postgres.sql("SELECT n FROM kept"), "7");
}

#[test]
fn servers_that_are_asked_to_end_do_so_and_come_back() {
    if let Some(mut nats) = Nats::start() {
        nats.terminate();
        nats.restart();
    }
    if let Some(mut redis) = Redis::start() {
        redis.terminate();
        redis.restart();
    }
    if let Some(mut postgres) = Postgres::start() {
        postgres.terminate();
        postgres.restart();
    }
}
