//! The dashboards: as their source says, and about metrics that there are.
//!
//! `GOLDEN=write` writes them anew.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::deploy::catalogue;
use crate::deploy::file::{document, files, path, read};
use crate::deploy::render::{Dashboard, Kind, Threshold};

/// Every dashboard with its name.
pub fn dashboards() -> Vec<(String, Dashboard)> {
    let one = |file: &String| {
        let name = file.rsplit('/').next().unwrap().trim_end_matches(".toml").to_owned();
        (name, toml::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}")))
    };
    files("deploy/grafana/source", ".toml").iter().map(one).collect()
}

#[test]
fn dashboards_are_what_their_source_says() {
    let names: Vec<String> = dashboards().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["engine", "fleet", "quality"]);
    for (name, dashboard) in dashboards() {
        let file = format!("deploy/grafana/dashboards/{name}.json");
        let rendered = dashboard.render();
        if std::env::var("GOLDEN").is_ok_and(|what| what == "write") {
            std::fs::write(path(&file), serde_json::to_string_pretty(&rendered).unwrap() + "\n").unwrap();
        }
        let written: Value = serde_json::from_str(&read(&file)).unwrap();
        assert!(written == rendered, "{file} is older than its source: GOLDEN=write writes it anew");
    }
    let there = files("deploy/grafana/dashboards", ".json");
    assert_eq!(there.len(), names.len(), "{there:?}");
}

#[test]
fn panels_ask_for_metrics_and_labels_that_there_are() {
    let none = BTreeSet::new();
    let mut faults = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard.panels() {
            for (_, expression) in &panel.queries {
                let unknown = catalogue::unknown(&expression.replace("$__rate_interval", "1m"), &none);
                faults.extend(unknown.into_iter().map(|fault| format!("{name}, {}: {fault}", panel.title)));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
}

/// Nothing is measured for nobody to look at.
#[test]
fn every_metric_is_on_a_dashboard() {
    let shown: BTreeSet<String> = dashboards()
        .iter()
        .flat_map(|(_, dashboard)| dashboard.panels().collect::<Vec<_>>())
        .flat_map(|panel| &panel.queries)
        .flat_map(|(_, expression)| crate::deploy::promql::names(expression).series)
        .collect();
    // Gauges of the same figures as counters that are shown; they serve the page and the report.
    let elsewhere = ["maitred_throughput_tokens_per_second", "maitred_goodput_tokens_per_second"];
    let is_shown = |name: &String| {
        ["", "_bucket", "_sum", "_count"].iter().any(|part| shown.contains(&format!("{name}{part}")))
    };
    let missing: Vec<String> = catalogue::metrics()
        .into_iter()
        .filter(|name| !is_shown(name) && !elsewhere.contains(&name.as_str()))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_panel_says_what_it_shows_and_what_to_do() {
    for (name, dashboard) in dashboards() {
        assert!(!dashboard.description.is_empty() && dashboard.uid == format!("maitred-{name}"));
        let titles: BTreeSet<&str> = dashboard.panels().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles.len(), dashboard.panels().count(), "{name}: two panels of one name");
        for panel in dashboard.panels() {
            assert!(panel.description.len() > 40, "{name}, {}: what to do?", panel.title);
            assert!(!panel.queries.is_empty() && panel.queries.len() < 8, "{name}, {}", panel.title);
            assert!((1..=24).contains(&panel.width), "{name}, {}", panel.title);
            // Without a colour from the bottom on, Grafana takes one of its own.
            let bottom = panel.thresholds.first().is_none_or(|first| matches!(first, Threshold::Bottom(_)));
            assert!(bottom, "{name}, {}: the first threshold has no value", panel.title);
            // A legend that is the same for all lines tells nothing.
            let mut legends: Vec<&str> = panel.queries.iter().map(|query| query.0.as_str()).collect();
            legends.sort_unstable();
            legends.dedup();
            assert_eq!(legends.len(), panel.queries.len(), "{name}, {}: legends", panel.title);
        }
    }
}

/// Who chooses a worker sees that worker, where the figure is one of workers. What is asked of the server is the same
/// from all of them.
#[test]
fn every_query_goes_by_the_chosen_worker_or_lane() {
    for (name, dashboard) in dashboards() {
        for panel in dashboard.panels().filter(|panel| panel.kind != Kind::Stat) {
            for (_, expression) in &panel.queries {
                let narrowed = expression.contains("$worker") || expression.contains("$lane");
                assert!(narrowed, "{name}, {}: {expression}", panel.title);
            }
        }
    }
}

#[test]
fn alerts_in_descriptions_are_alerts_that_there_are() {
    let alerts = crate::deploy::rules::alerts();
    for (name, dashboard) in dashboards() {
        for panel in dashboard.panels() {
            let words = panel.description.split(|c: char| !c.is_ascii_alphanumeric());
            for word in words.filter(|word| word.starts_with("Maitred")) {
                assert!(alerts.iter().any(|alert| alert.name == word), "{name}, {}: {word}", panel.title);
            }
        }
    }
}

#[test]
fn provisioning_names_what_is_there() {
    let source = document("deploy/grafana/provisioning/datasources/prometheus.yml");
    let source = &source["datasources"][0];
    assert_eq!(source["type"], "prometheus");
    let prometheus = document("deploy/prometheus/prometheus.yml");
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    let provider = document("deploy/grafana/provisioning/dashboards/maitred.yml");
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap();
    // README.md tells where to mount.
    assert!(read("deploy/grafana/README.md").contains(folder), "{folder}");
}

/// Whoever opens a dashboard sees figures without choosing: its variable takes the default source of its type.
#[test]
fn dashboards_ask_the_source_that_is_provisioned() {
    let source = document("deploy/grafana/provisioning/datasources/prometheus.yml");
    let source = &source["datasources"][0];
    assert_eq!(source["isDefault"], true);
    for file in files("deploy/grafana/dashboards", ".json") {
        let dashboard: Value = serde_json::from_str(&read(&file)).unwrap();
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!((&variable["type"], &variable["name"]), (&"datasource".into(), &"datasource".into()));
        assert_eq!(variable["query"], source["type"], "{file}");
        let asked = sources(&dashboard);
        assert!(asked.len() > 10, "{file}: {asked:?}");
        for asked in asked {
            assert_eq!(asked["type"], source["type"], "{file}");
            let provisioned = asked["uid"] == "${datasource}" || asked["uid"] == source["uid"];
            assert!(provisioned, "{file} asks {asked}");
        }
    }
}

/// Each `datasource` that is named, however deep.
fn sources(value: &Value) -> Vec<&Value> {
    let (own, inner): (Option<&Value>, Vec<&Value>) = match value {
        Value::Object(fields) => (fields.get("datasource"), fields.values().collect()),
        Value::Array(items) => (None, items.iter().collect()),
        _ => (None, Vec::new()),
    };
    own.into_iter().chain(inner.into_iter().flat_map(sources)).collect()
}
