//! `maitred config show` over the real binary: sources, exit codes, pipes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary in an empty folder with an empty environment.
fn maitred(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    command(folder, args).envs(variables.iter().copied()).output().unwrap()
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
    command.args(args).current_dir(folder).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_layer_shows_as_the_source_of_its_values() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("maitred.toml"), "[engine]\nsequences = 4\n").unwrap();
    let shown = maitred(
        folder.path(),
        &["config", "show", "--format", "json", "-v"],
        &[("MAITRED__GOODPUT__TTFT", "3s")],
    );
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["engine.sequences"]["source"], "file maitred.toml");
    assert_eq!(shown["goodput.ttft"]["source"], "environment MAITRED__GOODPUT__TTFT");
    assert_eq!(shown["log.level"]["source"], "flag -v");
    assert_eq!(shown["analysis.top_k"]["source"], "default");
}

#[test]
fn a_wrong_setting_ends_with_2_and_says_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let refused = maitred(folder.path(), &["config", "show"], &[("MAITRED__ENGINE__SEQUENSES", "3")]);
    assert_eq!(refused.status.code(), Some(2));
    let message = text(&refused.stderr);
    assert!(message.contains("MAITRED__ENGINE__SEQUENSES"), "{message}");
    assert!(message.contains("`engine.sequences`"), "{message}");
    assert!(refused.stdout.is_empty());
}

#[test]
fn wrong_arguments_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&[][..], &["config"], &["config", "sow"], &["--config", "none.toml", "config", "show"]] {
        assert_eq!(maitred(folder.path(), args, &[]).status.code(), Some(2), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let left = command(folder.path(), &["config", "show"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert!(left.status.success());
    assert_eq!(text(&left.stderr), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let failed = command(folder.path(), &["config", "show"]).stdout(full).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("No space left"), "{}", text(&failed.stderr));
}
