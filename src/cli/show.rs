//! `maitred config …`: every key, the value in force and where it comes from; secrets are hidden.

use std::io::{self, Write};

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use unicode_width::UnicodeWidthStr;

use super::text::pad;
use crate::config::Config;

/// Commands about the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key, the value in force and where it comes from.
    Show {
        /// How to print it.
        #[arg(long, value_enum, default_value_t = ShowFormat::Table)]
        format: ShowFormat,
    },
}

/// How settings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowFormat {
    /// Aligned columns.
    Table,
    /// One object: key → value and source.
    Json,
}

/// Runs the command.
pub fn run(command: &ConfigCommand, config: &Config, to: &mut impl Write) -> io::Result<()> {
    let ConfigCommand::Show { format } = command;
    match format {
        ShowFormat::Table => to.write_all(table(config).as_bytes()),
        ShowFormat::Json => writeln!(to, "{:#}", object(config)),
    }
}

/// One key a line, sorted by key.
fn table(config: &Config) -> String {
    let rows: Vec<[String; 3]> = std::iter::once(["KEY", "VALUE", "SOURCE"].map(String::from))
        .chain(config.entries().map(|(key, entry)| [key.to_owned(), entry.shown(), entry.origin.clone()]))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let (keys, values) = (width(0), width(1));
    let lines: Vec<String> = rows
        .iter()
        .map(|[key, value, source]| format!("{}  {}  {source}\n", pad(key, keys), pad(value, values)))
        .collect();
    lines.concat()
}

/// One object: key → `{value, source}`.
fn object(config: &Config) -> Value {
    let entries = config
        .entries()
        .map(|(key, entry)| (key.to_owned(), json!({ "value": entry.value(), "source": entry.origin })));
    Value::Object(entries.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn the_table_has_one_line_for_each_key_and_aligned_columns() {
        let config = Config::load(None, &[], &[]).unwrap();
        let table = table(&config);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 1 + config.entries().count());
        let column = lines[0].find("SOURCE").unwrap();
        assert!(lines[1..].iter().all(|line| &line[column..] == "default"), "{table}");
    }

    #[test]
    fn json_values_have_the_kind_of_their_key_wherever_they_come_from() {
        let shown =
            |name: &str, value: &str| object(&Config::load(None, &environment(name, value), &[]).unwrap());
        assert_eq!(
            shown("MAITRED__ANALYSIS__TOP_K", "7")["analysis.top_k"],
            json!({ "value": 7, "source": "environment MAITRED__ANALYSIS__TOP_K" })
        );
        let analyses = shown("MAITRED__ANALYSIS__ANALYSES", "summary, sentiment");
        assert_eq!(analyses["analysis.analyses"]["value"], json!(["summary", "sentiment"]));
        assert_eq!(shown("MAITRED__ANALYSIS__WORDS", "False")["analysis.words"]["value"], false);
        assert_eq!(shown("PATH", "/bin")["goodput.ttft"]["value"], "2s");
    }
}
