//! `maitred config show`: every key, the value in force and where it comes from.

use serde_json::{Map, Value, json};
use unicode_width::UnicodeWidthStr;

use super::Config;
use super::layers::{Entry, Kind};

impl Config {
    /// An aligned table, one key a line, sorted by key. There are no secrets among the settings.
    pub fn show_table(&self) -> String {
        let rows: Vec<[&str; 3]> = std::iter::once(["KEY", "VALUE", "SOURCE"])
            .chain(self.entries.iter().map(|(key, e)| [key.as_str(), e.text.as_str(), e.origin.as_str()]))
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let (key_width, value_width) = (width(0), width(1));
        let mut table = String::new();
        for [key, value, source] in rows {
            let pad = |text: &str, to: usize| " ".repeat(to.saturating_sub(text.width()));
            table += &format!("{key}{}  {value}{}  {source}\n", pad(key, key_width), pad(value, value_width));
        }
        table
    }

    /// One object: key → `{value, source}`.
    pub fn show_json(&self) -> Value {
        let entries = self
            .entries
            .iter()
            .map(|(key, entry)| (key.clone(), json!({ "value": value_of(entry), "source": entry.origin })));
        Value::Object(entries.collect::<Map<_, _>>())
    }
}

/// The value as JSON of the key's own kind, also where it came as text from the environment or a flag.
fn value_of(entry: &Entry) -> Value {
    let text = || Value::String(entry.text.clone());
    match entry.kind {
        Kind::Text => text(),
        Kind::List => entry.text.split(',').map(|item| Value::String(item.trim().to_owned())).collect(),
        Kind::Number | Kind::Switch => serde_json::from_str(&entry.text).unwrap_or_else(|_| text()),
    }
}
