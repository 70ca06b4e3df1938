//! Faults of NATS.

use std::net::TcpStream;

use async_nats::jetstream::{self, consumer::pull};
use maitred_testkit::{Nats, NatsConfig, Port, Process, Spec, jetstream, wait_until};

use crate::doctor::{Told, ask, plain};

/// Asks about a server.
fn about(nats: &Nats) -> Told {
    ask(&plain(nats.folder()).set("nats.url", nats.url()))
}

/// A server on which `maitred init` has been run.
fn made(config: &NatsConfig) -> Option<Nats> {
    let nats = Nats::start_with(config)?;
    plain(nats.folder()).set("nats.url", nats.url()).run(&["init"]).ended(0);
    Some(nats)
}

/// A server with one user, who may publish all but this.
fn forbidding(subjects: &str) -> NatsConfig {
    let user =
        format!("{{ user: some, password: pw, permissions: {{ publish: {{ deny: [{subjects}] }} }} }}");
    NatsConfig {
        lines: format!("authorization {{ users = [ {user} ] }}\n"),
        login: Some("some:pw".to_owned()),
        ..NatsConfig::default()
    }
}

#[test]
fn a_server_that_is_away_is_one_failure_and_what_needs_it_is_skipped() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    let told = about(&nats);
    assert_eq!(told.codes(&["nats"]), ["nats.unreachable"]);
    let found = told.failed("nats.unreachable", &nats.address(), "start the server");
    assert_eq!(found["command"], "nats-server -c deploy/nats/nats.conf");
    for check in ["nats.version", "nats.streams", "nats.rights", "clock.nats"] {
        assert_eq!(told.status(check), "skipped", "{check}");
    }
}

#[test]
fn a_login_that_is_not_taken_is_told_and_its_password_is_not() {
    let Some(nats) = made(&forbidding("")) else { return };
    let url = format!("nats://some:wr0ng@{}", nats.address());
    let told = ask(&plain(nats.folder()).set("nats.url", url));
    told.failed("nats.refused", "does not take this login", "correct the login in `nats.url`");
    assert!(!told.report.to_string().contains("wr0ng"));
}

#[test]
fn a_server_without_jetstream_is_told_what_to_switch_on() {
    let Some(program) = Nats::program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = Port::free();
    let arguments = ["-a".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.number().to_string()];
    let _server = Process::start(Spec::new("nats-server", &program, folder.path()).arguments(arguments));
    wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port.number())).is_ok());
    let told = ask(&plain(folder.path()).set("nats.url", format!("nats://127.0.0.1:{}", port.number())));
    assert_eq!(told.codes(&["nats"]), ["nats.no_jetstream"]);
    told.failed("nats.no_jetstream", "so there is no queue", "switch JetStream on");
}

#[test]
fn an_account_without_jetstream_is_the_same_fault() {
    let lines = "accounts { A { users: [{ user: some, password: pw }] } }\n".to_owned();
    let login = Some("some:pw".to_owned());
    let Some(nats) = Nats::start_with(&NatsConfig { lines, login, ..NatsConfig::default() }) else { return };
    assert_eq!(about(&nats).codes(&["nats"]), ["nats.no_jetstream"]);
}

#[test]
fn a_server_that_nobody_prepared_is_told_to_run_init() {
    let Some(nats) = Nats::start() else { return };
    let told = about(&nats);
    assert_eq!(told.codes(&["nats"]), ["nats.missing"]);
    let found = told.failed("nats.missing", "stream REVIEW_JOBS, ", "let an operator make what is missing");
    assert_eq!((&found["command"], &found["saw"]), (&"maitred init".into(), &"12 of 12 missing".into()));
    assert_eq!(told.status("nats.rights"), "ok", "that nothing is there is no matter of rights");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_and_a_changed_consumer_are_named_with_what_is_wanted() {
    let Some(nats) = made(&NatsConfig::default()) else { return };
    let context = jetstream(nats.connect().await);
    context.delete_stream("ANALYSIS_DLQ").await.unwrap();
    let consumer: jetstream::consumer::PullConsumer =
        context.get_consumer_from_stream("worker-hi", "REVIEW_JOBS").await.unwrap();
    let config = pull::Config {
        durable_name: Some("worker-hi".to_owned()),
        filter_subject: "jobs.analysis.hi.>".to_owned(),
        ack_wait: std::time::Duration::from_secs(7),
        max_deliver: consumer.cached_info().config.max_deliver,
        max_ack_pending: consumer.cached_info().config.max_ack_pending,
        max_batch: consumer.cached_info().config.max_batch,
        ..Default::default()
    };
    context.update_consumer_on_stream(config, "REVIEW_JOBS").await.unwrap();
    let told = about(&nats);
    assert_eq!(told.codes(&["nats"]), ["nats.missing", "nats.differs"]);
    told.failed("nats.missing", "stream ANALYSIS_DLQ is not there", "let an operator make");
    let found = told.failed(
        "nats.differs",
        "consumer worker-hi is not as the settings say: ack_wait is 7s, 30s is wanted",
        "correct the settings",
    );
    assert_eq!(found["command"], "maitred init");

    // What the command mends is well afterwards.
    plain(nats.folder()).set("nats.url", nats.url()).run(&["init"]).ended(0);
    assert_eq!(about(&nats).codes(&["nats"]), [""; 0]);
}

#[test]
fn a_setting_that_cannot_be_changed_in_place_is_told_apart() {
    let Some(nats) = Nats::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let context = jetstream(nats.connect().await);
        let config = jetstream::stream::Config {
            name: "REVIEW_JOBS".to_owned(),
            subjects: vec!["jobs.analysis.>".to_owned()],
            storage: jetstream::stream::StorageType::Memory,
            ..Default::default()
        };
        context.create_stream(config).await.unwrap();
    });
    let told = about(&nats);
    told.failed("nats.fixed", "storage is memory, file is wanted", "delete the stream REVIEW_JOBS");
}

#[test]
fn each_right_that_a_worker_lacks_is_told_with_its_subject() {
    let denied = "\"results.analysis.>\", \"$JS.API.CONSUMER.MSG.NEXT.REVIEW_JOBS.worker-hi\", \"$KV.maitred_attempts.>\"";
    let Some(nats) = made(&forbidding(denied)) else { return };
    let told = about(&nats);
    assert_eq!(told.codes(&["nats"]), ["nats.forbidden"; 3]);
    let mend = "deploy/nats/permissions.conf";
    let means = |part: &str| {
        let findings = told.findings().iter();
        findings
            .filter(|f| f["code"] == "nats.forbidden")
            .any(|f| f["means"].as_str().unwrap().contains(part))
    };
    told.failed("nats.forbidden", "this login may not take jobs", mend);
    assert!(means("forbids $JS.API.CONSUMER.MSG.NEXT.REVIEW_JOBS.worker-hi"));
    assert!(means("may not write results: the server forbids results.analysis.maitred-doctor"));
    assert!(means("may not write a record: the server forbids $KV.maitred_attempts.maitred-doctor"));
    assert_eq!(told.status("nats.streams"), "ok");
}

#[test]
fn a_login_that_may_not_even_ask_is_told_so_without_a_wait_for_each_answer() {
    let config = forbidding("\"$JS.API.INFO\", \"$JS.API.STREAM.INFO.>\"");
    let Some(nats) = Nats::start_with(&config) else { return };
    let told = about(&nats);
    let codes = told.codes(&["nats"]);
    for code in ["nats.silent", "nats.unseen", "nats.forbidden"] {
        assert!(codes.contains(&code), "{codes:?}");
    }
    told.failed("nats.unseen", "may not look at streams", "deploy/nats/permissions.conf");
}

#[test]
fn a_subscription_that_is_forbidden_is_told_too() {
    let user = "{ user: some, password: pw, permissions: { subscribe: { deny: [\"ctl.>\"] } } }";
    let lines = format!("authorization {{ users = [ {user} ] }}\n");
    let login = Some("some:pw".to_owned());
    let Some(nats) = made(&NatsConfig { lines, login, ..NatsConfig::default() }) else { return };
    let told = about(&nats);
    told.failed(
        "nats.forbidden",
        "may not hear that a job is cancelled: the server forbids ctl.cancel.*",
        "user",
    );
}

#[test]
fn small_messages_are_a_warning_and_no_failure() {
    let Some(nats) = made(&NatsConfig { max_payload: Some(65_536), ..NatsConfig::default() }) else { return };
    let told = about(&nats);
    assert_eq!(told.codes(&["nats"]), ["nats.small_payload"]);
    assert_eq!((told.code, &told.found("nats.small_payload")["status"]), (0, &"warn".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_takes_no_job_and_purges_no_large_body() {
    let Some(nats) = made(&NatsConfig::default()) else { return };
    let context = jetstream(nats.connect().await);
    context.publish("jobs.analysis.hi.r", "a job".into()).await.unwrap().await.unwrap();
    let bucket = context.get_object_store("maitred_payloads").await.unwrap();
    bucket.put("body", &mut &b"large"[..]).await.unwrap();
    let records = context.get_key_value("maitred_backfills").await.unwrap();
    records.put("b", "1".into()).await.unwrap();
    assert_eq!(about(&nats).codes(&["nats"]), [""; 0]);

    let consumer: jetstream::consumer::PullConsumer =
        context.get_consumer_from_stream("worker-hi", "REVIEW_JOBS").await.unwrap();
    let info = consumer.cached_info();
    assert_eq!((info.num_pending, info.num_ack_pending, info.delivered.consumer_sequence), (1, 0, 0));
    assert!(bucket.info("body").await.is_ok());
    assert_eq!(records.get("b").await.unwrap().as_deref(), Some(b"1".as_slice()));
    for (stream, messages) in [("ANALYSIS_RESULTS", 0), ("ANALYSIS_DLQ", 0), ("OBJ_maitred_payloads", 2)] {
        let found = context.get_stream(stream).await.unwrap().cached_info().state.messages;
        assert_eq!(found, messages, "{stream}");
    }
}
