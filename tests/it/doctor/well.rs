//! A fleet that is well, with the users that are deployed.

use std::path::Path;

use async_nats::jetstream::{self, consumer};
use maitred_testkit::{Nats, NatsConfig, Postgres, Redis, RedisConfig, jetstream, wait_until};

use crate::common::fleet::Workload;
use crate::doctor::{ask, plain};

const ROLES: &str = include_str!("../../../deploy/postgres/roles.sql");
const USERS: &str = include_str!("../../../deploy/redis/users.acl");

/// The three servers with the users and rights that are deployed.
struct Fleet {
    nats: Nats,
    redis: Redis,
    postgres: Postgres,
}

impl Fleet {
    fn start(folder: &Path) -> Option<Self> {
        let users = ["OPERATOR", "PRODUCER", "WORKER", "VIEWER"];
        let password = |user: &str| (format!("NATS_{user}_PASSWORD"), format!("{}pw", user.to_lowercase()));
        let nats = Nats::start_with(&NatsConfig {
            includes: vec!["permissions.conf"],
            environment: users.map(password).to_vec(),
            ..NatsConfig::default()
        })?;
        let acl = folder.join("users.acl");
        std::fs::write(&acl, USERS.replace("resetpass", ">secret")).unwrap();
        let lines = format!("aclfile {}", acl.display());
        let redis = Redis::start_with(&RedisConfig { lines, login: Some("maitred:secret".into()) })?;
        let postgres = Postgres::start()?;
        postgres.sql(ROLES);
        Some(Self { nats, redis, postgres })
    }

    fn nats_as(&self, user: &str) -> String {
        format!("nats://{user}:{user}pw@{}", self.nats.address())
    }

    async fn context(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::with_user_and_password(
            "operator".to_owned(),
            "operatorpw".to_owned(),
        );
        jetstream(options.connect(self.nats.address()).await.unwrap())
    }

    /// All that is on the servers, as text: the same if nothing was changed.
    async fn content(&self) -> String {
        use futures_util::TryStreamExt;
        let context = self.context().await;
        let mut lines = Vec::new();
        let mut streams: Vec<_> = context.streams().try_collect().await.unwrap();
        streams.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        for info in streams {
            let stream = context.get_stream(&info.config.name).await.unwrap();
            let state = &info.state;
            lines.push(format!(
                "{} {} {} {:?}",
                info.config.name, state.messages, state.last_sequence, info.config
            ));
            let mut consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.unwrap();
            consumers.sort_by(|a, b| a.name.cmp(&b.name));
            for consumer in consumers {
                lines.push(format!(
                    "  {} {:?} {:?} {} {}",
                    consumer.name,
                    consumer.delivered.stream_sequence,
                    consumer.ack_floor.stream_sequence,
                    consumer.num_ack_pending,
                    consumer.num_pending
                ));
            }
        }
        lines.push(self.postgres.sql("SELECT (SELECT count(*) FROM workers), (SELECT count(*) FROM llm_metrics), (SELECT count(*) FROM pg_class)"));
        let dump = self.redis.command("AUTH maitred secret\r\nEXISTS maitred:doctor");
        lines.push(dump);
        lines.join("\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_fleet_as_it_is_deployed_all_is_well_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fleet) = Fleet::start(folder.path()) else { return };
    let maitred = plain(folder.path()).set("redis.url", fleet.redis.url());
    let operator = maitred
        .clone()
        .set("nats.url", fleet.nats_as("operator"))
        .set("postgres.url", fleet.postgres.url_as("maitred_owner", "postgres"));
    operator.run(&["init"]).ended(0);
    let jobs = folder.path().join("jobs.jsonl");
    Workload::new(1, 5).write(&jobs);
    let producer = maitred.clone().set("nats.url", fleet.nats_as("producer"));
    producer.run(&["submit", jobs.to_str().unwrap()]).ended(0);

    let before = fleet.content().await;
    let worker = maitred
        .set("nats.url", fleet.nats_as("worker"))
        .set("postgres.url", fleet.postgres.url_as("maitred_writer", "postgres"));
    let told = ask(&worker);
    assert_eq!(told.codes(&["config", "secrets", "nats", "redis", "postgres"]), [""; 0], "{:#}", told.report);
    for check in [
        "nats.connection",
        "nats.version",
        "nats.jetstream",
        "nats.rights",
        "nats.streams",
        "nats.storage",
        "nats.payload",
        "nats.latency",
        "redis.connection",
        "redis.version",
        "redis.rights",
        "redis.memory",
        "redis.latency",
        "postgres.connection",
        "postgres.version",
        "postgres.rights",
        "postgres.room",
        "clock.nats",
        "clock.redis",
        "clock.postgres",
    ] {
        assert_eq!(told.status(check), "ok", "{check}");
    }
    // The writer may not see which steps were taken; the owner may.
    assert_eq!(told.status("postgres.schema"), "skipped");
    assert_eq!(ask(&operator).status("postgres.schema"), "ok");
    assert_eq!(told.code, 0, "{:#}", told.report);
    assert_eq!(fleet.content().await, before, "nothing is changed");
    let log = fleet.nats.log();
    assert!(!log.contains("Violation"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_beside_it_is_known_by_its_address_and_works_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(nats) = Nats::start() else { return };
    let port = maitred_testkit::Port::free();
    let maitred = plain(folder.path())
        .set("nats.url", nats.url())
        .set("health.listen", format!("127.0.0.1:{}", port.number()));
    maitred.run(&["init"]).ended(0);
    assert_eq!(ask(&maitred).status("health.address"), "ok", "nobody has it");
    let mut worker = maitred.worker("w-1");
    let served = || {
        let told = ask(&maitred);
        let health = told.findings().iter().find(|finding| finding["check"] == "health.address").unwrap();
        health["saw"].as_str().unwrap().contains("served by w-1")
    };
    wait_until("the worker to serve its address", served);
    assert!(worker.is_running());
    let text = maitred.run(&["doctor"]).ended(0).stdout;
    assert!(text.contains("nothing has failed"), "{text}");
}
