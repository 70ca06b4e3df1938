//! What the other tests rest on: the servers start, die and come back as they are told.

use async_nats::jetstream;
use async_nats::jetstream::stream;

use crate::common::servers::{Nats, Postgres, Redis};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nats_server_comes_back_with_its_streams() {
    let Some(mut nats) = Nats::start() else { return };
    let client = async_nats::connect(nats.url()).await.unwrap();
    let context = jetstream::new(client);
    let config =
        stream::Config { name: "KEPT".to_owned(), subjects: vec!["kept.>".to_owned()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    for n in 0..10 {
        context.publish(format!("kept.{n}"), "a message".into()).await.unwrap().await.unwrap();
    }
    nats.kill();
    nats.restart();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let kept = jetstream::new(client).get_stream("KEPT").await.unwrap();
    assert_eq!(kept.cached_info().state.messages, 10);
}

#[test]
fn a_killed_redis_comes_back_on_its_port() {
    let Some(mut redis) = Redis::start() else { return };
    let port = redis.port();
    redis.kill();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    redis.restart();
    assert_eq!(redis.port(), port);
}

#[test]
fn a_killed_postgres_comes_back_with_its_data() {
    let Some(mut postgres) = Postgres::start() else { return };
    postgres.sql("CREATE TABLE kept (n integer)");
    postgres.sql("INSERT INTO kept VALUES (7)");
    postgres.kill();
    postgres.restart();
    assert_eq!(postgres.sql("SELECT n FROM kept"), "7");
}
