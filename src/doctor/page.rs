//! The part of `docs/TROUBLESHOOTING.md` that is written from the [`catalogue`](super::catalogue).

use std::fmt::Write as _;

use super::catalogue::{ALL, Known};
use super::finding::Status;

/// Where that part begins and ends.
pub const BEGIN: &str =
    "<!-- From src/doctor/catalogue.rs; `MAITRED_WRITE_DOCS=1 cargo test troubleshooting` writes it. -->";
/// See [`BEGIN`].
pub const END: &str = "<!-- The end of what is written from the catalogue. -->";

/// A table for each area: what one sees, what the doctor says, what to do.
pub fn tables() -> String {
    let mut text = String::new();
    let mut area = "";
    for known in ALL {
        let own = known.check.name().split('.').next().unwrap_or_default();
        if own != area {
            area = own;
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n## {}\n\n| what you see | what `maitred doctor` says | what to do |\n|---|---|---|\n",
                title(area)
            );
        }
        text += &row(known);
    }
    text
}

fn title(area: &str) -> &str {
    match area {
        "nats" => "NATS",
        "redis" => "Redis",
        "postgres" => "Postgres",
        "model" => "Models",
        "gpu" => "GPU",
        "cpu" => "Cores",
        "disk" => "Disk",
        "clock" => "Clocks",
        "limit" => "Limits",
        "health" => "Health",
        "config" => "Settings",
        "secrets" => "Secrets",
        "memory" => "Memory",
        "telemetry" => "Telemetry",
        "watchdog" => "Watchdog",
        other => other,
    }
}

fn row(known: &Known) -> String {
    let word = if known.status == Status::Fail { "**fail**" } else { "warn" };
    let command =
        if known.command.is_empty() { String::new() } else { format!(": `{}`", plain(known.command)) };
    let (code, symptom) = (known.code, plain(known.symptom));
    let (means, mend) = (plain(known.means), plain(known.mend));
    format!("| {symptom} | {word} `{code}`: {means} | {mend}{command} |\n")
}

/// A place that a finding fills is shown in capitals, as in a usage line.
fn plain(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((name, after)) = behind.split_once('}') else { break };
        text += before;
        text += &name.to_uppercase();
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Check;

    /// With `MAITRED_WRITE_DOCS` set the page is written; else it is held against the catalogue.
    #[test]
    fn the_troubleshooting_page_is_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TROUBLESHOOTING.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the mark of its begin");
        let (_, after) = rest.split_once(END).expect("the mark of its end");
        let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", tables());
        if std::env::var_os("MAITRED_WRITE_DOCS").is_some() {
            std::fs::write(path, expected).unwrap();
            return;
        }
        assert!(page == expected, "run MAITRED_WRITE_DOCS=1 cargo test troubleshooting");
    }

    #[test]
    fn the_schema_knows_every_check_and_every_code() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/doctor.schema.json")).unwrap();
        let listed = |field: &str| -> Vec<String> {
            let values = schema["$defs"]["finding"]["properties"][field]["enum"].as_array().unwrap();
            values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
        };
        let checks: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(listed("check"), checks);
        let codes: Vec<&str> = ALL.iter().map(|known| known.code).collect();
        assert_eq!(listed("code"), codes);
    }
}
