//! A store on a temporary folder, with a registry of two small models.

use std::fs;

use tempfile::TempDir;
use time::macros::datetime;

use super::*;
use crate::model::gguf::{GgufBuilder, TensorType};
use crate::model::{QuantType, Recipe};

fn model_file(architecture: &str) -> Vec<u8> {
    let mut file = GgufBuilder::new();
    file.set("general.architecture", architecture);
    file.tensor("a.weight", TensorType::F32, &[64], vec![1; 256]).unwrap();
    let mut bytes = Vec::new();
    file.write_to(&mut bytes).unwrap();
    bytes
}

/// `pinned` has a digest in the registry, `made` only one in its record.
fn registry() -> &'static Registry {
    let payload = Sha256Digest::of(b"payload");
    let entry = |name: &str, more: &str, recipe: &str| {
        format!(
            r#"
[[model]]
name = "{name}"
title = "{name}"
languages = ["en"]
licence = "MIT"
file = "{name}-file.gguf"
bytes = 1
recipe = {recipe}
{more}
[model.source]
payload_sha256 = "{payload}"
[[model.source.packages]]
name = "package"
version = "1"
bytes = 1
member = "weights"
"#
        )
    };
    let pinned = Sha256Digest::of(&model_file("llama"));
    let language = "kind = \"language\"\ntuning = \"base\"\n";
    let text = [
        "schema = 1\ndefault = []\n".to_owned(),
        entry("pinned", &format!("{language}sha256 = \"{pinned}\""), "\"copy\""),
        entry("made", language, "{ requantize = \"q8_0\" }"),
    ];
    // Tests want what the program has: a registry that lives as long as the process.
    Box::leak(Box::new(Registry::parse(&text.concat()).unwrap()))
}

fn store() -> (TempDir, ModelStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ModelStore::with_registry(dir.path().join("models"), registry());
    fs::create_dir(store.dir()).unwrap();
    (dir, store)
}

fn record(sha256: Sha256Digest, payload: &[u8], recipe: Recipe) -> Record {
    let provenance = Provenance::Packages {
        packages: vec!["package==1".to_owned()],
        payload_sha256: Sha256Digest::of(payload),
        recipe,
    };
    Record::new(Some("made".to_owned()), 1, sha256, provenance, datetime!(2026-01-02 03:04:05 UTC))
}

const Q8: Recipe = Recipe::Requantize(QuantType::Q8_0);

fn install_made(store: &ModelStore, record: &Record, bytes: &[u8]) {
    let staging = store.stage(|| {}).unwrap();
    let staged = staging.path("made");
    fs::write(&staged, bytes).unwrap();
    store.install(&staging, &staged, "made-file.gguf", record).unwrap();
}

fn failure(store: &ModelStore, reference: &str) -> ModelError {
    store.resolve(reference).expect_err("an error")
}

#[test]
fn a_model_that_is_not_installed_names_the_command_that_fetches_it() {
    let (_dir, store) = store();
    let error = failure(&store, "pinned");
    assert!(error.to_string().contains("`maitred model fetch pinned`"), "{error}");
    assert!(!error.is_damage());
}

#[test]
fn a_name_that_nothing_has_lists_the_known_ones() {
    let (_dir, store) = store();
    let error = failure(&store, "pined");
    assert!(error.to_string().contains("pinned, made"), "{error}");
}

#[test]
fn a_whole_file_with_the_pinned_digest_resolves() {
    let (_dir, store) = store();
    fs::write(store.path_of("pinned-file.gguf"), model_file("llama")).unwrap();
    let model = store.resolve("pinned").unwrap();
    assert_eq!((model.name.as_str(), model.kind), ("pinned", ModelKind::Language));
    assert_eq!(model.sha256, Sha256Digest::of(&model_file("llama")));
    assert_eq!(model.header.architecture, "llama");
}

#[test]
fn a_truncated_file_names_the_forced_fetch() {
    let (_dir, store) = store();
    let bytes = model_file("llama");
    fs::write(store.path_of("pinned-file.gguf"), &bytes[..bytes.len() - 100]).unwrap();
    let error = failure(&store, "pinned");
    let text = error.to_string();
    assert!(text.contains("truncated") && text.contains("`maitred model fetch --force pinned`"), "{text}");
    assert!(error.is_damage());
}

#[test]
fn a_wrong_digest_names_the_forced_fetch() {
    let (_dir, store) = store();
    fs::write(store.path_of("pinned-file.gguf"), model_file("gemma3")).unwrap();
    let error = failure(&store, "pinned");
    assert!(matches!(error, ModelError::WrongDigest { .. }));
    assert!(error.to_string().contains("`maitred model fetch --force pinned`"), "{error}");
}

#[test]
fn a_file_of_another_format_or_age_says_what_to_do() {
    let (_dir, store) = store();
    fs::write(store.path_of("pinned-file.gguf"), b"<html>404</html>").unwrap();
    assert!(failure(&store, "pinned").to_string().contains("not a GGUF file"));
    let old = [&b"GGUF"[..], &1_u32.to_le_bytes(), &[0; 40]].concat();
    fs::write(store.path_of("old.gguf"), old).unwrap();
    assert!(failure(&store, "old.gguf").to_string().contains("current llama.cpp"));
}

#[test]
fn a_made_model_is_trusted_only_with_its_record() {
    let (_dir, store) = store();
    let bytes = model_file("llama");
    fs::write(store.path_of("made-file.gguf"), &bytes).unwrap();
    assert!(matches!(failure(&store, "made"), ModelError::NoRecord { .. }));
    install_made(&store, &record(Sha256Digest::of(&bytes), b"payload", Q8), &bytes);
    assert_eq!(store.resolve("made").unwrap().record.unwrap().installed_at.year(), 2026);
    install_made(&store, &record(Sha256Digest::of(b"other"), b"payload", Q8), &bytes);
    assert!(matches!(failure(&store, "made"), ModelError::WrongDigest { .. }));
}

#[test]
fn a_model_made_from_other_weights_or_otherwise_is_outdated() {
    let (_dir, store) = store();
    let bytes = model_file("llama");
    let sha256 = Sha256Digest::of(&bytes);
    install_made(&store, &record(sha256, b"older payload", Q8), &bytes);
    assert!(matches!(failure(&store, "made"), ModelError::Outdated { .. }));
    install_made(&store, &record(sha256, b"payload", Recipe::Copy), &bytes);
    assert!(matches!(failure(&store, "made"), ModelError::Outdated { .. }));
}

#[test]
fn a_damaged_record_is_an_error_of_its_own() {
    let (_dir, store) = store();
    fs::write(store.path_of("made-file.gguf"), model_file("llama")).unwrap();
    fs::write(store.path_of("made-file.gguf.json"), b"{").unwrap();
    assert!(matches!(failure(&store, "made"), ModelError::Record { .. }));
}

#[test]
fn any_model_file_can_be_named_by_path_or_by_its_name_in_the_store() {
    let (dir, store) = store();
    let outside = dir.path().join("own.gguf");
    fs::write(&outside, model_file("llama")).unwrap();
    fs::write(store.path_of("inside.gguf"), model_file("bert")).unwrap();
    let by_path = store.resolve(outside.to_str().unwrap()).unwrap();
    assert_eq!((by_path.name.as_str(), by_path.spec), ("own", None));
    assert_eq!(store.resolve("inside.gguf").unwrap().kind, ModelKind::Embedding);
    assert!(matches!(failure(&store, "absent.gguf"), ModelError::NoSuchFile(_)));
}

#[test]
fn a_path_into_the_store_is_held_to_the_registry_and_one_elsewhere_is_not() {
    let (dir, store) = store();
    let (inside, outside) = (store.path_of("pinned-file.gguf"), dir.path().join("pinned-file.gguf"));
    fs::write(&inside, model_file("gemma3")).unwrap();
    fs::write(&outside, model_file("gemma3")).unwrap();
    assert!(matches!(failure(&store, inside.to_str().unwrap()), ModelError::WrongDigest { .. }));
    assert!(store.resolve(outside.to_str().unwrap()).is_ok());
}

#[test]
fn an_embedding_model_is_refused_where_a_language_model_is_needed() {
    let (_dir, store) = store();
    fs::write(store.path_of("vectors.gguf"), model_file("bert")).unwrap();
    let error = store.resolve_as("vectors.gguf", ModelKind::Language).expect_err("refused");
    assert!(matches!(error, ModelError::WrongKind { actual: ModelKind::Embedding, .. }));
    assert!(store.resolve_as("vectors.gguf", ModelKind::Embedding).is_ok());
}

#[test]
fn the_list_has_known_models_first_and_hides_work_in_progress() {
    let (_dir, store) = store();
    for name in ["zebra.gguf", "ant.gguf", ".partial.gguf", "notes.txt", "pinned-file.gguf"] {
        fs::write(store.path_of(name), b"x").unwrap();
    }
    let list = store.list().unwrap();
    let names: Vec<&str> = list.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["pinned", "made", "ant.gguf", "zebra.gguf"]);
    assert_eq!((list[0].bytes, list[1].bytes), (Some(1), None));
}

#[test]
fn a_store_that_does_not_exist_yet_lists_nothing_installed() {
    let store = ModelStore::with_registry(PathBuf::from("/no/such/folder"), registry());
    assert!(store.list().unwrap().iter().all(|model| model.bytes.is_none()));
}

#[test]
fn a_second_fetch_waits_for_the_first() {
    let (_dir, store) = store();
    let first = store.stage(|| panic!("nobody else is there")).unwrap();
    let (told, waits) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| store.stage(|| told.send(()).unwrap()).map(drop));
        waits.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn leftovers_of_a_dead_fetch_are_cleared_and_nothing_stays_behind() {
    let (_dir, store) = store();
    fs::create_dir(store.path_of(".staging")).unwrap();
    fs::write(store.path_of(".staging").join("half"), b"x").unwrap();
    let staging = store.stage(|| {}).unwrap();
    assert_eq!(fs::read_dir(staging.dir()).unwrap().count(), 0);
    drop(staging);
    assert!(!store.path_of(".staging").exists());
}

#[test]
fn the_folder_follows_the_environment() {
    let dir = |variables: &[(&str, &str)]| {
        default_dir(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    };
    let home = ("HOME", "/home/u");
    assert_eq!(dir(&[("MAITRED_MODELS_DIR", "/m"), home]), Some("/m".into()));
    assert_eq!(dir(&[("XDG_CACHE_HOME", "/c"), home]), Some("/c/maitred/models".into()));
    assert_eq!(dir(&[("XDG_CACHE_HOME", "relative"), home]), Some("/home/u/.cache/maitred/models".into()));
    assert_eq!(dir(&[("MAITRED_MODELS_DIR", ""), home]), Some("/home/u/.cache/maitred/models".into()));
    assert_eq!(dir(&[]), None);
}
