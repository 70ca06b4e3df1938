//! Child processes: what they leave behind, which is nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use maitred::config::Settings;
use maitred::input::{Columns, InputOptions, JobReader, JobTemplate};
use maitred::job::Analysis;
use maitred_testkit::{Process, Redis, Spec, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::fleet::{Workload, maitred, real_restaurants};

/// A shell that starts another program and waits for it; the other program's id.
fn family(folder: &Path) -> (Process, i32) {
    let script = "sleep 1000 & echo child $!; wait";
    let spec = Spec::new("shell", Path::new("/bin/sh"), folder).arguments(["-c", script]);
    let mut shell = Process::start(spec);
    let line = shell.wait_line("child ");
    let child = line.strip_prefix("child ").unwrap().parse().unwrap();
    (shell, child)
}

fn is_running(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie waits to be reaped, by whoever inherits orphans here.
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn a_killed_child_takes_its_children_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut shell, child) = family(folder.path());
    assert!(is_running(child));
    shell.kill();
    assert!(!is_running(child));
    assert_eq!(shell.wait_code(), -9);
}

#[test]
fn a_panic_leaves_no_child_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut left = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let (_shell, child) = family(folder.path());
        left = Some(child);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let child = left.unwrap();
    wait_until("the child dies", || !is_running(child));
}

#[test]
fn a_killed_test_leaves_no_server_behind() {
    const INNER: &str = "MAITRED_TEST_KILLED";
    if std::env::var_os(INNER).is_some() {
        let redis = Redis::start().unwrap();
        eprintln!("log {}", redis.folder().join("redis-server.log").display());
        kill(Pid::this(), Signal::SIGKILL).unwrap();
    }
    let Some(redis) = Redis::start() else { return };
    drop(redis);
    let module = module_path!().split_once("::").unwrap().1;
    let name = format!("{module}::a_killed_test_leaves_no_server_behind");
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(INNER, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&test.stderr).into_owned();
    let log = said.lines().find_map(|line| line.strip_prefix("log ")).unwrap_or_else(|| panic!("{said}"));
    let log_text = std::fs::read_to_string(log).unwrap();
    // Every line of its log begins with its process id.
    let pid = log_text.lines().next_back().unwrap().split(':').next().unwrap().parse().unwrap();
    wait_until("redis-server dies", || !is_running(pid));
    std::fs::remove_dir_all(Path::new(log).parent().unwrap()).unwrap();
}

#[test]
fn a_command_runs_with_the_settings_of_the_test_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let maitred = maitred(folder.path()).set("nats.url", "nats://127.0.0.1:1");
    let ran = maitred.run(&["config", "show"]).ended(0);
    assert!(ran.stdout.contains("nats://127.0.0.1:1"), "{}", ran.stdout);
    maitred
        .set("nats.ping_interval", "never")
        .run(&["config", "show"])
        .ended(2)
        .told(&["nats.ping_interval"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the run left files");
}

#[test]
fn the_same_seed_makes_the_same_restaurants_and_the_program_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let workload = Workload::new(7, 12);
    assert_eq!(workload.restaurants, Workload::new(7, 12).restaurants);
    assert_ne!(workload.restaurants, Workload::new(8, 12).restaurants);
    workload.write(&folder.path().join("made-up.jsonl"));
    let options = InputOptions {
        format: None,
        columns: Columns::default(),
        limits: Settings::default().limits,
        job: JobTemplate { analyses: Analysis::ALL.to_vec(), ..JobTemplate::default() },
    };
    let jobs = JobReader::open(&folder.path().join("made-up.jsonl"), options).unwrap();
    let restaurants: Vec<String> = jobs.map(|job| job.unwrap().restaurant_id).collect();
    assert_eq!(restaurants, workload.ids());
}

#[test]
fn the_real_restaurants_are_found_where_they_are_at_hand() {
    let Some(path) = real_restaurants() else { return };
    assert!(std::fs::read_to_string(path).unwrap().lines().count() >= 50);
}
