//! Alert and recording rules: promtool's check, their unit tests, and that nothing is left without one.

use std::collections::BTreeSet;
use std::process::Command;

use maitred_testkit::promtool;
use serde_json::Value;

use crate::deploy::catalogue;
use crate::deploy::file::{document, files, path, read};

/// An alert rule.
pub struct Alert {
    pub name: String,
    expression: String,
    severity: String,
    annotations: Value,
}

/// Every group of every file.
fn rules() -> Vec<Value> {
    let files = files("deploy/prometheus/rules", ".yml");
    let groups = files.iter().flat_map(|file| document(file)["groups"].as_array().unwrap().clone());
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Every alert, in order.
pub fn alerts() -> Vec<Alert> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rules()
        .iter()
        .filter(|rule| rule.get("alert").is_some())
        .map(|rule| Alert {
            name: text(&rule["alert"]),
            expression: text(&rule["expr"]),
            severity: text(&rule["labels"]["severity"]),
            annotations: rule["annotations"].clone(),
        })
        .collect()
}

/// Series that rules record.
fn recorded() -> BTreeSet<String> {
    rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect()
}

#[test]
fn promtool_finds_no_fault_in_configuration_and_rules() {
    let Some(promtool) = promtool() else { return };
    let config = path("deploy/prometheus/prometheus.yml");
    let checked = Command::new(&promtool).args(["check", "config"]).arg(config).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let rules = files("deploy/prometheus/rules", ".yml").iter().map(|file| path(file)).collect::<Vec<_>>();
    // Each file on its own: two of them have a group of the same name, and one of the two is used.
    for file in rules {
        let mut check = Command::new(&promtool);
        let checked =
            check.args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn the_unit_tests_of_the_rules_pass() {
    let Some(promtool) = promtool() else { return };
    for file in files("deploy/prometheus/tests", ".yml") {
        let tested = Command::new(&promtool).args(["test", "rules"]).arg(path(&file)).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(tested.status.success(), "{file}\n{}{}", said(&tested.stdout), said(&tested.stderr));
    }
}

/// Else the test before would prove little.
#[test]
fn a_wrong_expectation_fails_its_unit_test() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let test = read("deploy/prometheus/tests/stores.yml")
        .replace("../rules", &path("deploy/prometheus/rules").to_string_lossy())
        .replace("store=\"redis\"}\n            value: 1", "store=\"other\"}\n            value: 1");
    let file = folder.path().join("stores.yml");
    std::fs::write(&file, test).unwrap();
    let tested = Command::new(promtool).args(["test", "rules"]).arg(file).output().unwrap();
    assert!(!tested.status.success());
}

#[test]
fn every_alert_has_a_test_where_it_fires_and_one_where_it_does_not() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("deploy/prometheus/tests", ".yml") {
        for test in document(&file)["tests"].as_array().unwrap() {
            for check in test["promql_expr_test"].as_array().into_iter().flatten() {
                let expression = check["expr"].as_str().unwrap();
                let Some(rest) = expression.strip_prefix("ALERTS{alertname=\"") else { continue };
                let alert = rest.split('"').next().unwrap().to_owned();
                let found = check["exp_samples"].as_array().unwrap();
                if found.is_empty() {
                    silent.insert(alert)
                } else {
                    fires.insert(alert)
                };
            }
        }
    }
    let names: BTreeSet<String> = alerts().into_iter().map(|alert| alert.name).collect();
    let missing = |tested: &BTreeSet<String>| names.difference(tested).cloned().collect::<Vec<_>>();
    assert_eq!(missing(&fires), [""; 0], "no test where it fires");
    // Where another worker or store is well beside the one that is not, the same test shows both.
    assert_eq!(missing(&silent), [""; 0], "no test where it does not fire");
    assert!(fires.is_subset(&names) && silent.is_subset(&names), "tests of alerts that there are not");
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() {
    let runbook = read("docs/OPERATIONS.md");
    let alerts = alerts();
    assert!(alerts.len() >= 13);
    for Alert { name, severity, annotations, .. } in &alerts {
        assert!(["critical", "warning"].contains(&severity.as_str()), "{name}: {severity}");
        let said = |what: &str| annotations[what].as_str().unwrap_or_default();
        assert!(said("summary").len() > 10, "{name}");
        assert!(said("description").len() > 80, "{name}: what to do?");
        let (file, anchor) = said("runbook").split_once('#').unwrap_or_else(|| panic!("{name}: no runbook"));
        assert_eq!(file, "docs/OPERATIONS.md");
        let heading = runbook
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .any(|line| line.to_lowercase() == anchor);
        assert!(heading, "{name}: no heading {anchor} in {file}");
    }
    // And no paragraph about an alert that there is not.
    for heading in runbook.lines().filter_map(|line| line.strip_prefix("### Maitred")) {
        let known = alerts.iter().any(|alert| {
            alert.annotations["runbook"]
                .as_str()
                .unwrap()
                .ends_with(&format!("#maitred{}", heading.to_lowercase()))
        });
        assert!(known, "Maitred{heading}");
    }
}

#[test]
fn rules_are_about_metrics_and_labels_that_there_are() {
    let recorded = recorded();
    let mut faults = Vec::new();
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        faults.extend(catalogue::unknown(expression, &recorded));
    }
    assert_eq!(faults, [""; 0]);
}

/// A counter is born with its first event, so increase() alone does not see that one. What is not born anew but runs all
/// the time needs no such care.
#[test]
fn alerts_on_rare_events_see_the_first_one() {
    let rare = [
        "maitred_dead_letters_total",
        "maitred_lease_renewal_failures_total",
        "maitred_store_errors_total",
        "maitred_metric_rows_dropped_total",
        "maitred_gpu_sample_failures_total",
        "maitred_jobs_total",
        "maitred_jobs_within_sla_total",
    ];
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        for counter in rare.iter().filter(|counter| expression.contains(&format!("increase({counter}"))) {
            assert!(expression.contains(&format!("{counter} unless {counter} offset")), "{expression}");
        }
    }
    for Alert { name, expression, .. } in alerts() {
        let raw = rare.iter().any(|counter| expression.contains(counter));
        assert!(!raw, "{name} should use what is recorded of the counter");
    }
}
