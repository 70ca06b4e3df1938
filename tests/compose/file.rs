//! The file as it is meant: aliases resolved, merges done.

use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// docker-compose.yml.
pub fn compose() -> Value {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let documents = Yaml::load_from_str(&text).unwrap();
    assert_eq!(documents.len(), 1);
    merged(json(&documents[0]))
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

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::from(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => Value::from(value.as_ref()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(items) => {
            let pairs = items
                .iter()
                .map(|(key, value)| (key.as_str().expect("a key is a string").to_owned(), json(value)));
            Value::Object(pairs.collect())
        }
        other => panic!("nothing that a compose file should hold: {other:?}"),
    }
}

/// With the mapping under `<<` put into the one around it, where a key of its own wins.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(mut items) => {
            let base = items.remove("<<").map(merged);
            let mut result = match base {
                Some(Value::Object(base)) => base,
                None => Map::new(),
                Some(other) => panic!("cannot merge {other}"),
            };
            result.extend(items.into_iter().map(|(key, value)| (key, merged(value))));
            Value::Object(result)
        }
        Value::Array(items) => items.into_iter().map(merged).collect(),
        other => other,
    }
}

#[test]
fn a_merge_takes_what_is_not_there() {
    let documents = Yaml::load_from_str("a: &a {x: 1, y: {z: 2}}\nb: {<<: *a, x: 3}\n").unwrap();
    assert_eq!(merged(json(&documents[0]))["b"], serde_json::json!({"x": 3, "y": {"z": 2}}));
}
