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
    document(&root().join("docker-compose.yml"))
}

/// The only document of a YAML file.
#[track_caller]
pub fn document(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut documents = yaml::documents(&text);
    assert_eq!(documents.len(), 1, "{}", file.display());
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

/// What a service's container has at a path, on this machine; `None` where nothing of the project is mounted.
pub fn mounted(service: &Value, inside: &str) -> Option<PathBuf> {
    let volumes = list(&service["volumes"]);
    let around = volumes.iter().filter_map(|volume| {
        let (source, rest) = volume.split_once(':')?;
        let target = rest.trim_end_matches(":ro");
        Some((target.len(), source, Path::new(inside).strip_prefix(target).ok()?))
    });
    // A mount within another one is the one that is seen.
    let (_, source, below) = around.max_by_key(|(length, ..)| *length)?;
    source.starts_with('.').then(|| path(source.trim_start_matches("./")).join(below))
}

/// A path in the file, seen from the root.
pub fn path(text: &str) -> PathBuf {
    root().join(text)
}
