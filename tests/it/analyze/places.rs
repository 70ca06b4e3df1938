//! Files and models that are not where, or what, they should be.

use std::fs::File;
use std::io::{self, Read};

use rstest::rstest;

use crate::analyze::program::{CHEAPLY, FAST, Place, jsonl, restaurant};

fn one() -> String {
    jsonl(&[restaurant("r", &["The soup was good."])])
}

#[rstest]
#[case::no_folder(&["--out", "nowhere/out.jsonl"], &["nowhere/out.jsonl", "does not exist; create it"])]
#[case::a_folder(&["--out", "models"], &["`models` is a folder"])]
#[case::no_folder_for_the_statistics(&["--stats", "nowhere/s.json", "--out", "out.jsonl"], &["does not exist"])]
fn an_output_that_cannot_be_written_is_noticed_before_any_work(
    #[case] arguments: &[&str],
    #[case] told: &[&str],
) {
    // No models: had it begun to work, it would miss them first.
    let place = Place::without_models();
    place.write("in.jsonl", one());
    place.analyze(&[&["in.jsonl"], arguments].concat()).ended(2).told(told);
    assert_eq!(place.files(), ["in.jsonl", "models"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_noticed_before_any_work() {
    let place = Place::without_models();
    place.write("in.jsonl", one());
    // Nobody can make a file there, not even root, whom no permission stops.
    let ran = place.analyze(&["in.jsonl", "--out", "/proc/out.jsonl"]).ended(2);
    ran.told(&["cannot write `/proc/out.jsonl`", "nothing was worked yet"]);
}

#[rstest]
#[case::missing("none.jsonl", "cannot open `none.jsonl`")]
#[case::a_folder("models", "it is a folder")]
#[case::of_no_known_shape("in.txt", "--input-format")]
fn an_input_that_cannot_be_opened_is_noticed_before_any_work(#[case] file: &str, #[case] told: &str) {
    let place = Place::without_models();
    place.write("in.txt", one());
    place.analyze(&[file, "--out", "out.jsonl"]).ended(2).told(&[told]);
    assert_eq!(place.files(), ["in.txt", "models"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_and_says_what_is_safe() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", one());
    let ran = place.analyze(&[&["in.jsonl", "--out", "/dev/full"], &CHEAPLY[..]].concat()).ended(1);
    ran.told(&["no space left for `/dev/full`", "first 0 results are safe", "free space and run again"]);
    assert_eq!(ran.stdout, "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_leaves_ends_the_run_without_a_word() {
    let Some(place) = Place::with(FAST) else { return };
    place.write("in.jsonl", one());
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let arguments = [&["in.jsonl", "--format", "json"], &CHEAPLY[..]].concat();
    let ran = place.command(&arguments).stdout(writer).output().unwrap();
    assert!(ran.status.success());
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "");
}

#[rstest]
#[case::unknown("smollm9", &["smollm9", "smollm2-135m", "maitred model list"])]
#[case::not_fetched("smollm2-135m", &["not installed", "maitred model fetch smollm2-135m"])]
#[case::no_such_file("models/none.gguf", &["no model file at models/none.gguf", "maitred model list"])]
#[case::not_a_model("prose.gguf", &["prose.gguf cannot be used"])]
fn a_model_that_cannot_be_used_is_named_with_what_mends_it(#[case] model: &str, #[case] told: &[&str]) {
    let place = Place::without_models();
    place.write("in.jsonl", one());
    place.write("prose.gguf", "Once upon a time there was a soup.");
    let ran = place.analyze(&["in.jsonl", "--out", "out.jsonl", "--model", model]).ended(1);
    ran.told(told);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(!place.path("out.jsonl").exists());
}

#[test]
fn a_model_file_that_was_cut_off_is_named_with_the_command_that_fetches_it_again() {
    const FILE: &str = "smollm2-135m-instruct-q8_0.gguf";
    let Some(fetched) = Place::with(FAST) else { return };
    let place = Place::without_models();
    let whole = File::open(fetched.models().join(FILE)).unwrap();
    let mut cut = File::create(place.models().join(FILE)).unwrap();
    io::copy(&mut whole.take(20 << 20), &mut cut).unwrap();
    let record = format!("{FILE}.json");
    std::fs::copy(fetched.models().join(&record), place.models().join(&record)).unwrap();
    place.write("in.jsonl", one());
    let ran = place.analyze(&["in.jsonl", "--out", "out.jsonl", "--model", "smollm2-135m"]).ended(1);
    ran.told(&[FILE, "maitred model fetch --force smollm2-135m"]);
    assert!(!place.path("out.jsonl").exists());
}
