//! YAML files as values.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// The documents of a file, aliases resolved and merges done.
pub fn documents(text: &str) -> Vec<Value> {
    let documents = Yaml::load_from_str(text).unwrap();
    documents.iter().map(|document| merged(json(document))).collect()
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
        other => panic!("nothing that such a file should hold: {other:?}"),
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
    let read = documents("a: &a {x: 1, y: {z: 2}}\nb: {<<: *a, x: 3}\n");
    assert_eq!(read[0]["b"], serde_json::json!({"x": 3, "y": {"z": 2}}));
}
