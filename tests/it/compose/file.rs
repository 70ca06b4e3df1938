//! The file as it is meant: aliases resolved, merges done.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::common::yaml;

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// docker-compose.yml.
pub fn compose() -> Value {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let mut documents = yaml::documents(&text);
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// The services with their names.
pub fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service))
}

/// A list of strings; empty where there is none.
pub fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

/// The keys of a mapping; none where there is none.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

/// A path in the file, seen from the root.
pub fn path(text: &str) -> PathBuf {
    root().join(text)
}
