//! Faults of the settings, the secrets, the models, the folders and the address of health. No server is there.

use std::fs::{Permissions, set_permissions, write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use maitred_testkit::{Maitred, Port};

use crate::common::nvml::{Nvml, gpus};
use crate::doctor::{ask, plain};

/// Without servers: what fails of them is left out of account.
fn alone(folder: &Path) -> Maitred {
    plain(folder).set("nats.url", "nats://127.0.0.1:1")
}

#[test]
fn settings_that_cannot_be_used_are_told_one_by_one_and_nothing_else_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("maitred.toml"), "[nats]\nurll = \"x\"\n[worker]\nslot = 2\n").unwrap();
    let told = ask(&alone(folder.path()));
    assert_eq!(told.codes(&["config"]), ["config.invalid", "config.invalid"]);
    told.failed("config.invalid", "from file maitred.toml", "the nearest is `nats.url`");
    assert_eq!(told.status("nats.connection"), "skipped");
    write(folder.path().join("maitred.toml"), "[nats\n").unwrap();
    let told = ask(&alone(folder.path()));
    told.failed("config.unreadable", "nothing else was looked at", "correct the file");
    let told = ask(&alone(folder.path()).set("worker.slots", "none"));
    assert_eq!(told.code, 1);
}

#[test]
fn secrets_that_all_can_read_and_secrets_that_nobody_can_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redis-url");
    write(&file, "redis://a:b@127.0.0.1:1\n").unwrap();
    set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let maitred = alone(folder.path())
        .set("redis.url_file", file.display())
        .set("postgres.url_file", folder.path().join("missing").display());
    let told = ask(&maitred);
    assert_eq!(told.codes(&["secrets"]), ["secret.unreadable", "secret.exposed"]);
    told.failed("secret.unreadable", "`postgres.url_file`", "mount the file");
    let found = told.found("secret.exposed");
    assert_eq!(
        (&found["status"], &found["command"]),
        (&"warn".into(), &format!("chmod o= {}", file.display()).into())
    );
    // The command mends it.
    set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let told = ask(&alone(folder.path()).set("redis.url_file", file.display()));
    assert_eq!(told.codes(&["secrets"]), [""; 0]);
}

#[test]
fn a_password_in_a_file_of_settings_that_all_can_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maitred.toml");
    write(&file, "[redis]\nurl = \"redis://a:s3cret@127.0.0.1:1\"\n").unwrap();
    set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let told = ask(&alone(folder.path()));
    assert_eq!(told.codes(&["config"]), ["config.exposed"]);
    assert!(told.found("config.exposed")["mend"].as_str().unwrap().contains("`redis.url_file`"));
    assert!(!told.report.to_string().contains("s3cret"));
}

#[test]
fn a_model_that_is_missing_is_told_with_the_command_that_fetches_it() {
    let folder = tempfile::tempdir().unwrap();
    let maitred =
        alone(folder.path()).set("engine.backend", "llama").set("models.dir", folder.path().display());
    let told = ask(&maitred);
    // A build without the engine says that first: no model would help it.
    if cfg!(feature = "llama") {
        let found = told.failed("model.language_missing", "gemma-3-270m", "fetch it");
        assert_eq!(found["command"], "maitred model fetch gemma-3-270m");
    } else {
        told.failed("model.no_engine", "without the engine", "build it with the feature llama");
    }
    let found = told.failed("model.embedding_missing", "all-minilm-l6-v2", "fetch one");
    assert_eq!(found["command"], "maitred model fetch all-minilm-l6-v2");
    assert_eq!(told.status("memory"), "skipped", "nobody knows what it needs");
}

#[test]
fn gpus_that_nothing_uses_are_told_as_far_as_the_engine_would_see_them() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(2));
    let folder = tempfile::tempdir().unwrap();
    let maitred = alone(folder.path())
        .set("engine.backend", "llama")
        .set("models.dir", folder.path().display())
        .set("gpu.library", nvml.library().display());
    let unused = |maitred: &Maitred| ask(maitred).found("gpu.unused")["saw"].as_str().unwrap().to_owned();
    assert_eq!(unused(&maitred), "Stand-in 0 and Stand-in 1");
    let shown = |value: &str| maitred.clone().environment("CUDA_VISIBLE_DEVICES", value);
    assert_eq!(unused(&shown("1")), "Stand-in 1");
    assert_eq!(ask(&shown("-1")).codes(&["gpu"]), [""; 0]);
    // One that is asked for and cannot be seen has its reason from the driver.
    nvml.answer("init=!9\n");
    assert_eq!(ask(&maitred).codes(&["gpu"]), [""; 0]);
    let told = ask(&maitred.clone().set("engine.gpu_layers", "all"));
    let found = told.findings().iter().find(|finding| finding["check"] == "gpu").unwrap();
    assert_eq!(found["status"], "fail", "{found:#}");
    assert!(found["saw"].as_str().unwrap().contains("driver"), "{found:#}");
}

#[test]
fn a_folder_that_cannot_be_written_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    write(&file, "").unwrap();
    // Whoever may write everything, root, may not make a file below a file either.
    let told = ask(&alone(folder.path()).set("store.cache", file.join("maitred.db").display()));
    told.failed("disk.cache_unwritable", "nothing can be written", "name another file in `store.cache`");
}

#[test]
fn a_full_disk_fails_and_one_without_rights_too() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::of(folder.path(), "size=64k") else { return };
    let maitred = alone(folder.path()).set("store.cache", disk.0.join("maitred.db").display());
    let told = ask(&maitred);
    let found = told.failed("disk.cache_full", "is free where `store.cache` lies", "free some space");
    assert_eq!(found["command"], format!("df -h {}", disk.0.display()));
    assert_eq!(disk.0.read_dir().unwrap().count(), 0, "what was tried has gone");
    write(disk.0.join("filler"), vec![1; 64 << 10]).unwrap();
    let told = ask(&maitred);
    told.failed("disk.cache_full", "0 B is free", "free some space");
    disk.remount("ro");
    told_unwritable(&maitred);
}

fn told_unwritable(maitred: &Maitred) {
    ask(maitred).failed("disk.cache_unwritable", "ead-only file system", "let this user write");
}

/// A small file system in memory; unmounted when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    /// `None`, said on stderr, where this process may not mount: no script can give it that right.
    fn of(folder: &Path, options: &str) -> Option<Self> {
        let place = folder.join("disk");
        std::fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&place)
            .output()
            .is_ok_and(|run| run.status.success());
        if !mounted {
            eprintln!("SKIPPED: this process may not mount a file system");
        }
        mounted.then_some(Self(place))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_address_that_somebody_else_has_is_told_with_a_way_to_find_out_who() {
    let folder = tempfile::tempdir().unwrap();
    // One that nobody takes when it is free again.
    let port = Port::free();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
    let listen = listener.local_addr().unwrap();
    // It answers, but is no worker.
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        listener
    });
    let told = ask(&alone(folder.path()).set("health.listen", listen));
    let found = told.failed("health.taken", "no maitred listens", "a free port");
    assert_eq!(found["command"], format!("ss -ltnp 'sport = :{}'", listen.port()));
    drop(answering.join().unwrap());
    let told = ask(&alone(folder.path()).set("health.listen", listen));
    assert_eq!(told.status("health.address"), "ok");
    let told = ask(&alone(folder.path()).set("health.listen", "192.0.2.1:8080"));
    told.failed("health.unusable", "cannot be listened on", "an address of this machine");
}

#[test]
fn for_a_person_each_fault_has_what_it_means_what_to_do_and_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let ran = alone(folder.path()).run(&["doctor"]).ended(1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("fail") && line.contains("[nats.unreachable]"));
    let at = at.unwrap_or_else(|| panic!("{}", ran.stdout));
    assert!(lines[at + 1].trim_start().starts_with("means  nobody answers at `nats.url`"), "{}", ran.stdout);
    let rest = lines[at + 2..].iter().map(|line| line.trim_start());
    let labels: Vec<&str> = rest.take_while(|line| !line.starts_with("skipped")).collect();
    assert!(labels.iter().any(|line| line.starts_with("mend   start the server")), "{labels:?}");
    assert_eq!(labels.last(), Some(&"run    nats-server -c deploy/nats/nats.conf"));
    assert!(ran.stdout.ends_with(" skipped\n") && ran.stdout.contains("1 failed"), "{}", ran.stdout);
    let quiet = alone(folder.path()).run(&["doctor", "-q"]).ended(1).stdout;
    assert!(quiet.starts_with("fail") || quiet.starts_with("warn"), "{quiet}");
    assert!(!quiet.contains("redis.connection"), "{quiet}");
}
