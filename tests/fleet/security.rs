//! Who may connect, who may do what, and that no secret is ever told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::object_store::ObjectStore;
use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt;
use maitred::broker::backfill::Bound;
use maitred::broker::nats::{Backfills, Broker, BrokerError, Order};
use maitred::broker::topology::Topology;
use maitred::config::{NatsSettings, Secret};
use nkeys::KeyPair;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;

use crate::common::fleet::{Maitred, Workload};
use crate::common::servers::{LIMIT, Nats, NatsConfig, skipped, wait_until};
use crate::topology::{settings, wait_link};

/// A server with the users of deploy/nats/permissions.conf.
fn with_users(max_payload: Option<u64>) -> Option<Nats> {
    let users = ["OPERATOR", "PRODUCER", "WORKER"];
    let password = |user: &str| (format!("NATS_{user}_PASSWORD"), format!("{}pw", user.to_lowercase()));
    Nats::start_with(&NatsConfig {
        includes: vec!["permissions.conf"],
        environment: users.map(password).to_vec(),
        max_payload,
        ..NatsConfig::default()
    })
}

fn url_as(nats: &Nats, user: &str) -> String {
    format!("nats://{user}:{user}pw@{}", nats.address())
}

/// A plain client of one of the users.
async fn plain(nats: &Nats, user: &str) -> jetstream::Context {
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), format!("{user}pw"))
        .custom_inbox_prefix(format!("_INBOX.{user}"));
    let client = options.connect(nats.address()).await.unwrap();
    jetstream::new(client)
}

async fn put(store: &ObjectStore, name: &str, mut bytes: &[u8]) {
    store.put(name, &mut bytes).await.unwrap();
}

async fn get(store: &ObjectStore, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.get(name).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn publish(context: &jetstream::Context, subject: &'static str) {
    context.publish(subject, "a message".into()).await.unwrap().await.unwrap();
}

/// Whether the server refuses every one of these to a user, by its own word.
async fn refuses(nats: &Nats, user: &jetstream::Context, subjects: &[&'static str]) {
    let client = user.client();
    for subject in subjects {
        client.publish(*subject, "{}".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    for subject in subjects {
        let refused = format!("Publish Violation - Subject \"{subject}\"");
        wait_until(&refused, || nats.log().contains(&refused));
    }
}

/// A server with users on which the operator has run `maitred init`.
fn made() -> Option<Nats> {
    let nats = with_users(None)?;
    let maitred = Maitred::new(nats.folder()).set("nats.url", url_as(&nats, "operator"));
    maitred.run(&["init"]).ended(0);
    Some(nats)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_submits_and_reads_results_and_nothing_else() {
    let Some(nats) = made() else { return };
    let producer = plain(&nats, "producer").await;
    publish(&producer, "jobs.analysis.live.r").await;
    let bucket = producer.get_object_store("maitred_payloads").await.unwrap();
    put(&bucket, "reviews", &vec![7; 300_000]).await;
    put(&bucket, "reviews", &vec![8; 300_000]).await;
    assert_eq!(get(&bucket, "reviews").await, vec![8; 300_000]);

    let worker = plain(&nats, "worker").await;
    publish(&worker, "results.analysis.r").await;
    let results = producer.get_stream("ANALYSIS_RESULTS").await.unwrap();
    assert_eq!(results.get_last_raw_message_by_subject("results.analysis.r").await.unwrap().sequence, 1);
    let followed = results
        .create_consumer(consumer::pull::OrderedConfig {
            filter_subject: "results.analysis.>".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    let first = followed.messages().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first.subject.as_str(), "results.analysis.r");

    let forbidden = [
        "results.analysis.r",
        "dlq.analysis.live.r",
        "ctl.cancel.token",
        "$KV.maitred_backfills.x",
        "$JS.API.CONSUMER.INFO.REVIEW_JOBS.worker-live",
        "$JS.API.CONSUMER.MSG.NEXT.REVIEW_JOBS.worker-live",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS.mine.jobs.analysis.live.r",
        "$JS.ACK.REVIEW_JOBS.worker-live.1.1.1.1.1",
        "$JS.API.STREAM.DELETE.REVIEW_JOBS",
        "$JS.API.STREAM.PURGE.ANALYSIS_RESULTS",
        "$JS.API.STREAM.MSG.DELETE.REVIEW_JOBS",
    ];
    refuses(&nats, &producer, &forbidden).await;
    let operator = plain(&nats, "operator").await;
    assert_eq!(operator.get_stream("REVIEW_JOBS").await.unwrap().cached_info().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_its_work_and_cannot_change_the_streams_or_submit() {
    let Some(nats) = made() else { return };
    let producer = plain(&nats, "producer").await;
    publish(&producer, "jobs.analysis.hi.r").await;
    let as_worker = settings(&url_as(&nats, "worker"));
    let broker = Broker::connect(&as_worker, "test").await.unwrap();
    broker.verify(&Topology::desired(&as_worker)).await.unwrap();
    broker.round_trip().await.unwrap();

    let worker = plain(&nats, "worker").await;
    let lane: consumer::PullConsumer =
        worker.get_consumer_from_stream("worker-hi", "REVIEW_JOBS").await.unwrap();
    let job = lane.fetch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    job.ack_with(jetstream::AckKind::Progress).await.unwrap();
    publish(&worker, "results.analysis.r").await;
    publish(&worker, "dlq.analysis.hi.r").await;
    job.double_ack().await.unwrap();
    let jobs = worker.get_stream("REVIEW_JOBS").await.unwrap();
    jobs.direct_get(1).await.unwrap();
    jobs.get_raw_message(1).await.unwrap();

    for name in ["maitred_workers", "maitred_attempts", "maitred_backfills"] {
        let bucket = worker.get_key_value(name).await.unwrap();
        bucket.create("key", "1".into()).await.unwrap();
        bucket.put("key", "2".into()).await.unwrap();
        assert_eq!(bucket.get("key").await.unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(bucket.keys().await.unwrap().count().await, 1);
        let mut watch = bucket.watch_with_history(">").await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().key, "key");
        bucket.purge("key").await.unwrap();
    }
    let bucket = worker.get_object_store("maitred_payloads").await.unwrap();
    put(&bucket, "body", b"large").await;
    assert_eq!(get(&bucket, "body").await, b"large");
    bucket.delete("body").await.unwrap();
    let sweeper: consumer::PullConsumer =
        worker.get_consumer_from_stream("sweeper", "ANALYSIS_ADVISORIES").await.unwrap();
    assert_eq!(sweeper.fetch().max_messages(1).messages().await.unwrap().count().await, 0);

    let forbidden = [
        "jobs.analysis.hi.r",
        "ctl.cancel.token",
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.REVIEW_JOBS.worker-hi",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.REVIEW_JOBS",
        "$JS.API.STREAM.DELETE.REVIEW_JOBS",
        "$JS.API.STREAM.PURGE.REVIEW_JOBS",
        "$JS.API.STREAM.PURGE.ANALYSIS_RESULTS",
        "$JS.API.STREAM.MSG.DELETE.REVIEW_JOBS",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS.worker-hi.jobs.analysis.hi.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.REVIEW_JOBS.mine",
        "$JS.API.CONSUMER.DELETE.REVIEW_JOBS.worker-hi",
        "$JS.API.CONSUMER.DELETE.ANALYSIS_ADVISORIES.sweeper",
    ];
    refuses(&nats, &worker, &forbidden).await;
    let operator = plain(&nats, "operator").await;
    assert_eq!(operator.get_stream("REVIEW_JOBS").await.unwrap().cached_info().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_a_backfill_and_hears_and_answers_who_cancels_a_job() {
    let Some(nats) = made() else { return };
    let (operator, worker) = (plain(&nats, "operator").await, plain(&nats, "worker").await);
    let config = consumer::pull::Config {
        durable_name: Some("backfill-1".to_owned()),
        filter_subject: "jobs.analysis.>".to_owned(),
        ..Default::default()
    };
    operator.create_consumer_on_stream(config, "REVIEW_JOBS").await.unwrap();
    worker
        .get_consumer_from_stream::<consumer::pull::Config, _, _>("backfill-1", "REVIEW_JOBS")
        .await
        .unwrap();
    worker.delete_consumer_from_stream("backfill-1", "REVIEW_JOBS").await.unwrap();

    let mut heard = worker.client().subscribe("ctl.cancel.*").await.unwrap();
    worker.query_account().await.unwrap(); // A round trip: the subscription is in place.
    let answer = async {
        let asked = heard.next().await.unwrap();
        worker.client().publish(asked.reply.unwrap(), "dropped".into()).await.unwrap();
    };
    let client = operator.client();
    let (told, ()) = tokio::join!(client.request("ctl.cancel.token", "".into()), answer);
    assert_eq!(told.unwrap().payload, "dropped");
}

/// The program itself under these permissions: whatever it asks of the server, nothing of it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_does_its_work_as_three_users_and_nothing_is_refused() {
    // So small that the largest job and the dead letter go into the bucket.
    let Some(nats) = with_users(Some(140_000)) else { return };
    let as_user = |user: &str| {
        let maitred = Maitred::new(nats.folder()).set("nats.url", url_as(&nats, user));
        maitred
            .set("engine.backend", "sim")
            .set("sim.step", "1us")
            .set("sim.token", "1ns")
            .set("health.listen", "none")
    };
    as_user("operator").run(&["init"]).ended(0);
    let mut worker = as_user("worker").worker("w-1");
    let file = nats.folder().join("jobs.jsonl");
    let sizes = std::cell::RefCell::new([1500, 1, 2, 3, 4, 5].into_iter());
    let workload = Workload::with(7, 6, move |_| sizes.borrow_mut().next().unwrap_or(1));
    workload.write(&file);
    let producer = as_user("producer");
    producer.run(&["submit", "--wait", file.to_str().unwrap()]).ended(0);
    // Known already: their results are looked up.
    producer.run(&["submit", "--wait", file.to_str().unwrap()]).ended(0);
    let results = producer.run(&["results", "--format", "jsonl"]).ended(0);
    assert_eq!(results.stdout.lines().count(), 6);

    let operator = plain(&nats, "operator").await;
    operator.publish("jobs.analysis.hi.r", vec![b'?'; 139_000].into()).await.unwrap().await.unwrap();
    let count = async |stream: &str| operator.get_stream(stream).await.unwrap().cached_info().state.messages;
    let all = async {
        let settings = settings(&url_as(&nats, "operator"));
        let backfills = Backfills::new(&Broker::connect(&settings, "test").await.unwrap());
        let order = Order {
            id: Some("again".to_owned()),
            from: Bound::Sequence(1),
            to: None,
            rate: None,
            analyses: None,
        };
        backfills.start(order, &settings, OffsetDateTime::now_utc()).await.unwrap();
        while count("ANALYSIS_RESULTS").await < 12 || count("ANALYSIS_DLQ").await < 2 {}
        // As an operator does; the worker may have ended it by then, which is no error.
        let as_worker = Broker::connect(&self::settings(&url_as(&nats, "worker")), "test").await.unwrap();
        Backfills::new(&as_worker).stop("again", OffsetDateTime::now_utc()).await.unwrap();
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    as_user("operator").run(&["cancel", "unknown", "--patience", "1"]).ended(1);
    let objects = operator.get_stream("OBJ_maitred_payloads").await.unwrap();
    assert!(objects.cached_info().state.messages > 0);
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    let log = nats.log();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert_eq!(refused, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_the_replies_of_others() {
    let Some(nats) = with_users(None) else { return };
    let worker = plain(&nats, "worker").await.client();
    let operator = plain(&nats, "operator").await.client();
    let mut others = worker.subscribe("_INBOX.operator.>").await.unwrap();
    let mut own = worker.subscribe("_INBOX.worker.test").await.unwrap();
    worker.flush().await.unwrap();
    // Until the own subscription is in place, and so the other one refused.
    let heard = async {
        loop {
            operator.publish("_INBOX.operator.test", "secret".into()).await.unwrap();
            operator.publish("_INBOX.worker.test", "mine".into()).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(100), own.next()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), others.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_in_no_message_and_in_no_log_right_or_wrong() {
    let Some(nats) = with_users(None) else { return };
    let wrong = format!("nats://operator:S3CRET@{}", nats.address());
    let right = url_as(&nats, "operator");
    for (url, secret, code) in [(wrong, "S3CRET", 1), (right, "operatorpw", 0)] {
        let maitred = Maitred::new(nats.folder()).set("nats.url", url);
        for arguments in [&["-vvv", "init"][..], &["-vvv", "config", "show"]] {
            let ran = maitred.run(arguments);
            let said = ran.stdout.clone() + &ran.stderr;
            assert!(said.contains(&format!("***@{}", nats.address())) || code == 0, "{said}");
            assert!(!said.contains(secret), "{said}");
            if arguments[1] == "init" {
                let ran = ran.ended(code);
                if code == 1 {
                    ran.told(&["refuses the credentials", "authorization violation"]);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_file_is_taken_up_when_the_connection_comes_back() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let lines = format!("authorization {{ users = [ {{ nkey: {} }} ] }}\n", old.public_key());
    let Some(mut nats) = Nats::start_with(&NatsConfig { lines, ..NatsConfig::default() }) else { return };
    let path = nats.folder().join("user.nk");
    std::fs::write(&path, old.seed().unwrap()).unwrap();
    let settings = NatsSettings { nkey_file: Some(path.clone()), ..settings(&nats.url()) };
    let broker = Broker::connect(&settings, "test").await.unwrap();

    swap(&nats, &old.public_key(), &new.public_key());
    nats.restart();
    let mut link = broker.link();
    wait_link(&mut link, |link| !link.connected).await;
    let refused = Broker::connect(&settings, "test").await.err().unwrap();
    assert!(matches!(refused, BrokerError::Refused { .. }), "{refused}");
    std::fs::write(&path, new.seed().unwrap()).unwrap();
    wait_link(&mut link, |link| link.connected).await;
    broker.round_trip().await.unwrap();
}

/// A signed claim, as the server's operator mode wants it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let head = unpadded_base64(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let body = format!(
        r#"{{"jti":"{subject_key}","iat":1700000000,"iss":"{issuer_key}","name":"test","sub":"{subject_key}","nats":{{{claims},"version":2}}}}"#
    );
    let signed = format!("{head}.{}", unpadded_base64(body.as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", unpadded_base64(&signature))
}

/// With the alphabet for URLs.
fn unpadded_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let of_three = |three: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, n| bits << 8 | u32::from(three.get(n).copied().unwrap_or(0)));
        let letter = move |n: usize| char::from(LETTERS[(bits >> (18 - 6 * n)) as usize & 63]);
        (0..=three.len()).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(of_three).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_opens_a_server_that_knows_only_its_operator() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let limits = r#""subs":-1,"data":-1,"payload":-1"#;
    let connections = format!(
        r#""type":"account","limits":{{{limits},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1"#
    );
    let streams = r#","mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#;
    let system = KeyPair::new_account();
    let preloaded = [(&account, streams), (&system, "")].map(|(account, streams)| {
        format!("{}: {}", account.public_key(), jwt(&operator, account, &format!("{connections}{streams}}}")))
    });
    let lines = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {} }}\n",
        jwt(&operator, &operator, r#""type":"operator""#),
        system.public_key(),
        preloaded.join(", "),
    );
    let Some(nats) = Nats::start_with(&NatsConfig { lines, ..NatsConfig::default() }) else { return };
    let path = nats.folder().join("user.creds");
    let settings = NatsSettings { creds_file: Some(path.clone()), ..settings(&nats.url()) };
    let issue = |issuer: &KeyPair| {
        let user_jwt = jwt(issuer, &user, &format!(r#"{limits},"type":"user""#));
        let seed = user.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    issue(&KeyPair::new_account());
    let refused = Broker::connect(&settings, "test").await.err().unwrap();
    assert!(matches!(refused, BrokerError::Refused { .. }), "{refused}");
    issue(&account);
    let broker = Broker::connect(&settings, "test").await.unwrap();
    broker.init(&Topology::desired(&settings)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_in_a_mounted_url_is_taken_up_when_the_connection_comes_back() {
    let lines = "authorization { user: me, password: 0ldpw }\n".to_owned();
    let Some(mut nats) = Nats::start_with(&NatsConfig { lines, ..NatsConfig::default() }) else { return };
    let path = nats.folder().join("url");
    let mount = |password: &str| std::fs::write(&path, format!("nats://me:{password}@{}\n", nats.address()));
    mount("0ldpw").unwrap();
    let settings = NatsSettings { url: Secret::File(path.clone()), ..settings(&nats.url()) };
    let broker = Broker::connect(&settings, "test").await.unwrap();

    swap(&nats, "0ldpw", "n3wpw");
    mount("n3wpw").unwrap();
    nats.restart();
    wait_link(&mut broker.link(), |link| link.connected && link.reconnects == 1).await;
    broker.round_trip().await.unwrap();
}

/// Changes the server's configuration for its next start.
fn swap(nats: &Nats, old: &str, new: &str) {
    let file = nats.folder().join("nats.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(old));
    std::fs::write(file, text.replace(old, new)).unwrap();
}

/// A certificate authority, and certificates that it signed, made for one test.
struct Authority(tempfile::TempDir);

impl Authority {
    /// `None`, said on stderr, where there is no openssl.
    fn new() -> Option<Self> {
        let there = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            skipped("no openssl");
            return None;
        }
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem");
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            authority.sign(name, usage);
        }
        Some(authority)
    }

    fn sign(&self, name: &str, usage: &str) {
        let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(self.path("extensions"), extensions).unwrap();
        self.openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"));
    }

    fn openssl(&self, arguments: &str) {
        let made =
            Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server with a certificate of this authority, which asks clients for one too.
    fn server(&self) -> Option<Nats> {
        let file = |variable: &str, name: &str| (variable.to_owned(), self.path(name).display().to_string());
        Nats::start_with(&NatsConfig {
            includes: vec!["tls.conf"],
            environment: vec![
                file("NATS_TLS_CERT", "server.pem"),
                file("NATS_TLS_KEY", "server.key"),
                file("NATS_TLS_CA", "ca.pem"),
            ],
            ..NatsConfig::default()
        })
    }
}

fn trusting(nats: &Nats, authority: &Path) -> NatsSettings {
    NatsSettings { tls_ca: Some(authority.to_owned()), ..settings(&nats.url()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_a_certificate_of_the_authority_or_there_is_no_connection() {
    let Some(authority) = Authority::new() else { return };
    let Some(nats) = authority.server() else { return };
    let identity =
        |name: &str| Some((authority.path(&format!("{name}.pem")), authority.path(&format!("{name}.key"))));
    let good =
        NatsSettings { tls_identity: identity("client"), ..trusting(&nats, &authority.path("ca.pem")) };
    let broker = Broker::connect(&good, "test").await.unwrap();
    broker.round_trip().await.unwrap();

    let stranger = Authority::new().unwrap();
    let untrusted = NatsSettings { tls_ca: Some(stranger.path("ca.pem")), ..good.clone() };
    let none = NatsSettings { tls_ca: None, ..good.clone() };
    let anonymous = NatsSettings { tls_identity: None, ..good.clone() };
    let theirs = Some((stranger.path("client.pem"), stranger.path("client.key")));
    let foreign = NatsSettings { tls_identity: theirs, ..good.clone() };
    for (settings, what) in [
        (untrusted, "invalid peer certificate"),
        (none, "invalid peer certificate"),
        (anonymous, "nats.tls_cert"),
        (foreign, "nats.tls_cert"),
    ] {
        let error = Broker::connect(&settings, "test").await.err().unwrap();
        assert!(matches!(error, BrokerError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let missing = NatsSettings { tls_ca: Some(authority.path("none.pem")), ..good };
    let error = Broker::connect(&missing, "test").await.err().unwrap().to_string();
    assert!(error.contains("none.pem") && error.contains("nats.tls_ca"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_tls_does_not_talk_to_a_server_without_it() {
    let Some(authority) = Authority::new() else { return };
    let Some(nats) = Nats::start() else { return };
    let error = Broker::connect(&trusting(&nats, &authority.path("ca.pem")), "test").await.err().unwrap();
    assert!(matches!(error, BrokerError::Connect { .. } | BrokerError::Tls { .. }), "{error:?}");
}
