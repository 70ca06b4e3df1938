//! Where things are.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::yaml;

/// A path seen from the project's root.
pub fn path(text: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(text)
}

/// A file's text.
#[track_caller]
pub fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The documents of a YAML file.
#[track_caller]
pub fn documents(file: &str) -> Vec<Value> {
    yaml::documents(&read(file))
}

/// The only document of a YAML file.
#[track_caller]
pub fn document(file: &str) -> Value {
    let mut documents = documents(file);
    assert_eq!(documents.len(), 1, "{file}");
    documents.remove(0)
}

/// The files of a folder that end so, in order, as paths from the root.
pub fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries
        .map(|name| format!("{folder}/{}", name.to_string_lossy()))
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "nothing in {folder} ends with {ending}");
    names
}
