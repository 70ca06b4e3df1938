//! Raw settings: where each value comes from, before anyone asks whether it is a good one.
//!
//! Later layers win: defaults, variables of a common standard, file, environment, flags. The merging is the `config` crate's, whose values carry
//! an origin; its own environment source is not used because it calls every variable "the environment", and a
//! person looking for a wrong value needs the variable's name.

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Format, Map, Source, Value, ValueKind};

use super::secret::redact;
use super::{ConfigError, Override, Problem};

/// The program's defaults, and with them the list of keys there are.
const DEFAULTS: &str = include_str!("defaults.toml");
const PREFIX: &str = "MAITRED__";
/// Variables that other programs know too, and the keys they stand for. They come right after the defaults: whoever
/// writes one of ours means us.
const STANDARD: [(&str, &str); 1] = [("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint")];

/// One key with the value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value as text; the items of a list are joined by commas.
    pub text: String,
    /// What kind of value the key has.
    pub kind: Kind,
    /// Where the value comes from: `default`, `file PATH`, `environment NAME` or `flag NAME`.
    pub origin: String,
}

impl Entry {
    /// The value as text, as it may be shown: without what a URL holds of secrets.
    pub fn shown(&self) -> String {
        if self.text.contains("://") || self.text.contains('@') {
            redact(&self.text)
        } else {
            self.text.clone()
        }
    }

    /// The value as JSON of the key's own kind, also where it came as text from the environment or a flag; secrets
    /// hidden.
    pub fn value(&self) -> serde_json::Value {
        let text = || self.shown().into();
        match self.kind {
            Kind::Text => text(),
            Kind::List => self.text.split(',').map(str::trim).collect(),
            Kind::Number => serde_json::from_str(self.text.trim()).unwrap_or_else(|_| text()),
            Kind::Switch => switch(&self.text).map_or_else(text, Into::into),
        }
    }
}

/// `true` or `false` in the words that people use.
pub fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What kind of value a key has, by its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word, path, duration or size.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Several words.
    List,
}

/// Every key's value in force beside its default.
#[derive(Debug)]
pub struct Layers {
    pub in_force: BTreeMap<String, Entry>,
    pub defaults: BTreeMap<String, Entry>,
}

impl Layers {
    /// Merges the layers and refuses keys that do not exist.
    pub fn merge(
        file: Option<&Path>,
        environment: &[(String, String)],
        flags: &[Override],
    ) -> Result<Self, ConfigError> {
        let defaults = Layer::defaults();
        let mut layers = vec![defaults.clone(), Layer::standard(environment)];
        if let Some(path) = file {
            layers.push(Layer::file(path)?);
        }
        layers.push(Layer::environment(environment));
        layers.push(Layer::flags(flags));

        let defaults = flatten(&defaults.0);
        // No layer fails to hand over values that it already holds.
        let merged = layers.collect().map_err(|e| ConfigError::Merge(e.to_string()))?;
        let mut in_force = flatten(&merged);
        refuse_unknown(&in_force, &defaults)?;
        for (key, entry) in &mut in_force {
            entry.kind = defaults[key].kind;
        }
        Ok(Self { in_force, defaults })
    }
}

/// Values of one layer, each with its origin.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    fn defaults() -> Self {
        let values = FileFormat::Toml
            .parse(Some(&"default".to_owned()), DEFAULTS)
            // The text is part of the program; `the_defaults_are_valid` reads it.
            .expect("defaults.toml is TOML");
        Self(values)
    }

    fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let origin = format!("file {}", path.display());
        let values = FileFormat::Toml
            .parse(Some(&origin), &text)
            .map_err(|e| ConfigError::Syntax { path: path.to_owned(), message: e.to_string() })?;
        Ok(Self(values))
    }

    fn standard(variables: &[(String, String)]) -> Self {
        let values = STANDARD.iter().filter_map(|(name, key)| {
            let (_, value) = variables.iter().find(|(other, value)| other == name && !value.is_empty())?;
            Some(((*key).to_owned(), Value::new(Some(&format!("environment {name}")), value.as_str())))
        });
        Self(values.collect())
    }

    fn environment(variables: &[(String, String)]) -> Self {
        let values = variables.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", ".");
            Some((key, Value::new(Some(&format!("environment {name}")), value.as_str())))
        });
        Self(values.collect())
    }

    fn flags(flags: &[Override]) -> Self {
        let values = flags
            .iter()
            .map(|o| (o.key.to_owned(), Value::new(Some(&format!("flag {}", o.flag)), o.value.as_str())));
        Self(values.collect())
    }
}

/// Leaves of the tree by dotted key. A table without leaves is a leaf, so that it is not overlooked.
fn flatten(table: &Map<String, Value>) -> BTreeMap<String, Entry> {
    fn walk(prefix: &str, value: &Value, leaves: &mut BTreeMap<String, Entry>) {
        if let ValueKind::Table(table) = &value.kind
            && !table.is_empty()
        {
            for (key, value) in table {
                walk(&format!("{prefix}.{key}"), value, leaves);
            }
            return;
        }
        let origin = value.origin().unwrap_or("unknown").to_owned();
        let entry = Entry { text: text_of(&value.kind), kind: kind_of(&value.kind), origin };
        leaves.insert(prefix.to_owned(), entry);
    }
    let mut leaves = BTreeMap::new();
    for (key, value) in table {
        walk(key, value, &mut leaves);
    }
    leaves
}

fn text_of(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Array(items) => items.iter().map(|v| text_of(&v.kind)).collect::<Vec<_>>().join(","),
        ValueKind::Table(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn kind_of(kind: &ValueKind) -> Kind {
    match kind {
        ValueKind::Boolean(_) => Kind::Switch,
        ValueKind::Array(_) => Kind::List,
        ValueKind::Nil | ValueKind::String(_) | ValueKind::Table(_) => Kind::Text,
        _ => Kind::Number,
    }
}

fn refuse_unknown(
    found: &BTreeMap<String, Entry>,
    known: &BTreeMap<String, Entry>,
) -> Result<(), ConfigError> {
    let problems: Vec<Problem> = found
        .iter()
        .filter(|(key, _)| !known.contains_key(*key))
        .map(|(key, entry)| Problem {
            key: key.clone(),
            value: entry.shown(),
            origin: entry.origin.clone(),
            message: unknown_message(key, known),
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
}

fn unknown_message(key: &str, known: &BTreeMap<String, Entry>) -> String {
    let section = format!("{key}.");
    if let Some(example) = known.keys().find(|k| k.starts_with(&section)) {
        return format!("this is a section, not a key; set a key in it, such as `{example}`");
    }
    match nearest(key, known.keys()) {
        Some(nearest) => format!("there is no such key; the nearest is `{nearest}`"),
        None => "there is no such key".to_owned(),
    }
}

/// The known key that takes the fewest edits. The last part alone counts too, for a key in the wrong section.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .min_by_key(|candidate| {
            let whole = edit_distance(key, candidate);
            let part = 1 + edit_distance(&last(key), &last(candidate));
            (whole.min(part), whole)
        })
        .map(String::as_str)
}

/// Levenshtein distance in characters, one row at a time.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_nearest_key_may_stand_in_another_section() {
        let known = ["analysis.scope".to_owned(), "engine.sequences".to_owned(), "log.level".to_owned()];
        assert_eq!(nearest("engine.sequenses", known.iter()), Some("engine.sequences"));
        assert_eq!(nearest("engine.scope", known.iter()), Some("analysis.scope"));
        assert_eq!(nearest("level", known.iter()), Some("log.level"));
    }

    proptest! {
        #[test]
        fn edit_distance_is_a_metric(a in "[a-c가]{0,6}", b in "[a-c가]{0,6}", c in "[a-c가]{0,6}") {
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            prop_assert!(edit_distance(&a, &c) <= edit_distance(&a, &b) + edit_distance(&b, &c));
        }
    }
}
