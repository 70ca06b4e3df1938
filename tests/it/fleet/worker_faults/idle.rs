//! Workers that end by themselves when there is nothing to do, and those that must not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Maitred, wait_until};
use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::team::{Member, Team, job_of};
use crate::common::nvml::{Nvml, gpus};
use crate::fleet::ground::until;

/// Checks in quick succession, and the worker may end three of them after its start.
fn hasty(program: Maitred) -> Maitred {
    program
        .set("watchdog.enabled", "true")
        .set("watchdog.check_interval", "200ms")
        .set("watchdog.idle_limit", "3")
        .set("watchdog.min_runtime", "1ms")
        .set("gpu.library", "none")
}

fn status(worker: &Member) -> Value {
    let (_, body) = worker.health("/status").expect("a worker that answers");
    serde_json::from_str(&body).unwrap()
}

/// Waits until a number of `/status` is so.
fn wait_status(worker: &Member, field: &str, so: impl Fn(u64) -> bool) {
    wait_until(field, || so(status(worker)[field].as_u64().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_ends_by_itself_and_one_with_work_does_not() {
    let Some(team) = Team::new(|program| hasty(program).set("sim.step", "100ms")).await else { return };
    // Work of a few seconds: many times the limit.
    let jobs = team.publish_some(3).await;
    let mut worker = team.start("busy");
    assert_eq!(worker.wait_code(), 0);
    // Idle was what it was when it left, not before.
    let report = team.checker(jobs).await.wait(LIMIT).await;
    assert_eq!(report.results.len(), 3, "{}", report.told());
    let log = worker.log();
    let lines = |text: &'static str| {
        log.lines().enumerate().filter(move |(_, line)| line.contains(text)).map(|(at, _)| at)
    };
    let (last, idle) = (lines(" settled ").last(), lines("idle for long enough").next());
    assert!(last.unwrap() < idle.expect("it says why it ends"), "{log}");
    assert_eq!(worker.settled().len(), 3);
    assert!(team.attempts().await.is_empty(), "it left nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_others_hold_keep_a_worker_up() {
    // A lease that outlasts the test.
    let Some(team) = Team::new(|program| hasty(program).set("nats.ack_wait", "10m")).await else { return };
    team.program.run(&["init"]).ended(0);
    team.publish_some(1).await;
    // Somebody who takes the job and does not say what becomes of it.
    let held = team.ground.pull(&maitred::broker::names::lane_consumer(Lane::Live)).await;
    let worker = team.worker("waiting");
    let mut checks = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..6 {
        checks.tick().await;
        assert_eq!(status(&worker)["idle_checks"], 0);
    }
    let mut worker = worker;
    assert!(worker.is_running());
    held.double_ack().await.unwrap();
    assert_eq!(worker.wait_code(), 0, "with the job its reason to stay is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_run_after_the_drain_with_what_it_must_know() {
    let Some(team) = Team::new(|program| {
        hasty(program).set("watchdog.stop", "command").set(
            "watchdog.command",
            "echo \"$MAITRED_WORKER $MAITRED_REASON $MAITRED_IDLE_SECONDS $MAITRED_UPTIME_SECONDS\" > hook.txt",
        )
    })
    .await
    else {
        return;
    };
    let mut worker = team.start("leaver");
    assert_eq!(worker.wait_code(), 0);
    let told = std::fs::read_to_string(team.folder.path().join("hook.txt")).unwrap();
    let words: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(words[..2], ["leaver", "idle"]);
    let seconds: Vec<u64> = words[2..].iter().map(|word| word.parse().unwrap()).collect();
    assert!(seconds.len() == 2 && seconds[0] <= seconds[1], "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_tried_again_and_then_the_worker_ends_as_failed_and_says_so() {
    let Some(team) = Team::new(|program| {
        hasty(program)
            .set("watchdog.stop", "command")
            .set("watchdog.command", "echo x >> tries.txt; echo no such pod >&2; exit 7")
            .set("watchdog.hook_tries", "2")
    })
    .await
    else {
        return;
    };
    let mut worker = team.start("leaver");
    assert_eq!(worker.wait_code(), 1);
    assert_eq!(std::fs::read_to_string(team.folder.path().join("tries.txt")).unwrap().lines().count(), 2);
    let log = worker.log();
    for said in ["the stop hook failed 2 times", "exit status: 7", "no such pod", "the machine still runs"] {
        assert!(log.contains(said), "{said:?} is not in {log}");
    }
}

/// One request, and the answers that are given.
fn serve(listener: &TcpListener, status: &str) -> (String, String) {
    let (mut stream, _) = listener.accept().unwrap();
    let request = read_request(&mut stream);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    request
}

/// The head, in lower case, and the body.
fn read_request(stream: &mut TcpStream) -> (String, String) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "a whole request");
        text.extend_from_slice(&chunk[..read]);
        let told = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = told.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if body.len() >= length.expect("a length").trim().parse().unwrap() {
            return (head, body.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_is_posted_to_and_an_answer_that_is_none_of_success_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/pods/p-1/stop", listener.local_addr().unwrap());
    let Some(team) = Team::new(|program| {
        hasty(program)
            .set("watchdog.stop", "http")
            .set("watchdog.url", url)
            .set("watchdog.token_file", "token")
    })
    .await
    else {
        return;
    };
    std::fs::write(team.folder.path().join("token"), "sesame\n").unwrap();
    let (told, requests) = sync_channel(2);
    std::thread::spawn(move || {
        for answer in ["503 Service Unavailable", "200 OK"] {
            told.send(serve(&listener, answer)).unwrap();
        }
    });
    let mut worker = team.start("leaver");
    for _ in 0..2 {
        let (head, body) = requests.recv_timeout(LIMIT).expect("a request");
        assert!(head.starts_with("post /v1/pods/p-1/stop http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer sesame"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((body["worker"].as_str(), body["reason"].as_str()), (Some("leaver"), Some("idle")));
        assert!(body["idle_seconds"].is_u64() && body["uptime_seconds"].is_u64(), "{body}");
    }
    assert_eq!(worker.wait_code(), 0, "{}", worker.log());
    assert!(worker.log().contains("503"), "{}", worker.log());
    assert!(!worker.log().contains("sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_waits_for_its_rate_keeps_a_worker_up() {
    let Some(team) = Team::new(hasty).await else { return };
    // Twice as many as it may take at once in spite of its rate.
    team.publish_some(8).await;
    let start = ["backfill", "start", "--from", "1", "--rate", "1/h", "--id", "slow"];
    team.program.run(&start).ended(0);
    let mut worker = team.worker("waiting");
    until("an empty lane", async || {
        let live = team.lane(Lane::Live).await;
        (live.num_pending + live.num_ack_pending as u64 == 0).then_some(())
    })
    .await;
    let waiting = || {
        let (_, body) = worker.health("/metrics")?;
        let line = body.lines().find(|line| line.starts_with("maitred_replay_pending"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    wait_until("the backfill in the metrics", || waiting().is_some_and(|jobs| jobs >= 1.0));
    wait_until("empty hands", || status(&worker)["jobs"]["held"] == 0);
    let mut checks = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..6 {
        checks.tick().await;
        assert_eq!(status(&worker)["idle_checks"], 0);
    }
    assert!(worker.is_running());
    team.program.run(&["backfill", "stop", "slow"]).ended(0);
    assert_eq!(worker.wait_code(), 0, "with the backfill its reason to stay is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_nobody_knows_and_the_worker_stays() {
    let Some(mut team) = Team::new(|program| hasty(program).set("nats.ack_wait", "20s")).await else {
        return;
    };
    team.program.run(&["init"]).ended(0);
    // Somebody holds a job until the server is away: before that the worker has no reason to end. The lease is long enough
    // for that, and short enough to wait for where the server loses an ack as it dies.
    team.publish_some(2).await;
    let held = team.ground.pull(&maitred::broker::names::lane_consumer(Lane::Live)).await;
    let mut worker = team.worker("lonely");
    // It is at work, and watched: it may be ready before that.
    worker.wait_line(" settled ");
    team.ground.nats.kill();
    // Many times as many as it takes idle ones to end.
    wait_status(&worker, "unreadable_checks", |checks| checks > 12);
    assert_eq!(status(&worker)["idle_checks"], 0);
    worker.wait_line("nobody can tell whether this worker is idle");
    assert!(worker.is_running());
    team.ground.nats.restart();
    held.double_ack().await.ok();
    assert_eq!(worker.wait_code(), 0, "now it is known that there is nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_at_work_keeps_a_worker_up_and_so_does_one_that_cannot_be_read() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(2));
    nvml.change("1.utilization", "60");
    let Some(team) = Team::new(|program| {
        let program = hasty(program).set("store.cache", "worker.sqlite");
        program.set("gpu.library", nvml.library().display()).set("gpu.interval", "50ms")
    })
    .await
    else {
        return;
    };
    let mut worker = team.worker("warm");
    wait_until("the gpus", || status(&worker)["gpus"].as_array().unwrap().len() == 2);
    let told = status(&worker);
    assert_eq!((&told["gpus"][1]["utilization"], &told["idle_checks"]), (&0.6.into(), &0.into()));
    // Lost: neither busy nor idle.
    nvml.change("1.utilization", "!15");
    wait_status(&worker, "unreadable_checks", |checks| checks >= 4);
    assert_eq!(status(&worker)["idle_checks"], 0);
    assert!(status(&worker)["gpu_failures"].as_u64().unwrap() > 0);
    // A library that does not answer: the last look is too old to say anything.
    nvml.change("1.utilization", "HANG");
    let before = status(&worker)["unreadable_checks"].as_u64().unwrap();
    wait_status(&worker, "unreadable_checks", |checks| checks >= before + 3);
    // Meanwhile it works, and tells the fleet.
    team.publish(Lane::Live, &job_of("j", "r", "The soup was hot.")).await;
    team.checker(["j".to_owned()]).await.wait(LIMIT).await;
    let shown = || team.program.run(&["status"]).ended(0).stdout;
    wait_until("the gpus in the fleet's status", || shown().contains("Stand-in 1"));
    assert!(worker.is_running());
    nvml.answer(&gpus(2));
    assert_eq!(worker.wait_code(), 0, "well, and idle");
    // All of it is in its rows: at work, lost, well again; and what was not read is no zero.
    let file = SqliteConnectOptions::new().filename(team.folder.path().join("worker.sqlite"));
    let mut rows = file.connect().await.unwrap();
    let count =
        "SELECT count(*) FROM gpu_samples WHERE worker = 'warm' AND name = 'Stand-in 1' AND device = 1 AND ";
    for so in ["utilization = 0.6", "utilization IS NULL AND power_watts IS NULL", "utilization = 0"] {
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("{count}{so}")))
            .fetch_one(&mut rows)
            .await
            .unwrap();
        assert!(found > 0, "{so}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_while_its_hook_runs_stops() {
    let Some(team) = Team::new(|program| {
        hasty(program).set("watchdog.stop", "command").set("watchdog.command", "touch begun; exec sleep 600")
    })
    .await
    else {
        return;
    };
    let mut worker = team.start("leaver");
    wait_until("the hook", || team.folder.path().join("begun").is_file());
    // What a hook that stops a machine brings about.
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_at_the_last_moment_is_worked_here_or_elsewhere_at_once() {
    // Leases that outlast the test: a job that was left to the end of one would not be worked. And a hook, during which
    // the worker is connected and hears nothing.
    let Some(team) = Team::new(|program| {
        let slow = hasty(program).set("watchdog.stop", "command").set("watchdog.command", "sleep 3");
        slow.set("nats.ack_wait", "10m")
    })
    .await
    else {
        return;
    };
    team.program.run(&["init"]).ended(0);
    let mut worker = team.start("leaver");
    worker.wait_line("idle for long enough");
    // Its pulls are still out.
    let jobs = team.publish_some(3).await;
    assert_eq!(worker.wait_code(), 0);
    let _heir = team.worker_with("heir", |program| program.set("watchdog.enabled", "false"));
    let report = team.checker(jobs).await.wait(LIMIT).await;
    assert_eq!(report.results.len(), 3, "{}", report.told());
}
