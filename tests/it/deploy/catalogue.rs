//! The metrics that there are, by their names in Prometheus.

use std::collections::BTreeSet;

use maitred::telemetry::names::{CATALOGUE, Kind, MetricInfo};

use crate::deploy::promql;

/// The labels of a metric as Prometheus has them.
fn label_names(metric: &MetricInfo) -> Vec<String> {
    metric.labels.iter().map(|label| label.replace('.', "_")).collect()
}

/// All metrics, as Prometheus has them.
pub fn metrics() -> Vec<String> {
    CATALOGUE.iter().map(MetricInfo::prometheus).collect()
}

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["job", "instance", "le"];
/// Series that are not the program's.
const OTHERS: [(&str, &[&str]); 2] =
    [("up", &[]), ("keda_scaler_metrics_value", &["scaledObject", "scaler"])];

/// The labels of a series as it is written in PromQL; `None` where there is no such series.
fn labels(series: &str) -> Option<Vec<String>> {
    if let Some((_, labels)) = OTHERS.iter().find(|(name, _)| *name == series) {
        return Some(labels.iter().map(ToString::to_string).collect());
    }
    // A histogram has no series of its own name.
    let of = |metric: &&MetricInfo| match metric.kind {
        Kind::Histogram(_) => {
            let name = metric.prometheus();
            ["_bucket", "_sum", "_count"].iter().any(|part| series.strip_suffix(part) == Some(&name))
        }
        Kind::Counter | Kind::Gauge => metric.prometheus() == series,
    };
    CATALOGUE.iter().find(of).map(label_names)
}

/// What an expression names that there is not. `recorded`: series of recording rules.
pub fn unknown(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let names = promql::names(expression);
    let added = |label: &String| ADDED.contains(&label.as_str());
    let mut unknown = Vec::new();
    for series in &names.series {
        if !recorded.contains(series) && labels(series).is_none() {
            unknown.push(format!("no metric {series}"));
        }
    }
    for (series, label) in &names.matched {
        let known = labels(series).is_none_or(|labels| labels.contains(label));
        if !known && !added(label) {
            unknown.push(format!("{series} has no label {label}"));
        }
    }
    let all: BTreeSet<String> = CATALOGUE.iter().flat_map(label_names).collect();
    let grouped = names.grouped.iter().filter(|label| !all.contains(*label) && !added(label));
    unknown.extend(grouped.map(|label| format!("no metric has the label {label}")));
    unknown
}

#[test]
fn what_there_is_not_is_named() {
    let none = BTreeSet::new();
    assert_eq!(unknown("sum by (lane) (rate(maitred_jobs_total{outcome=\"ok\"}[1m]))", &none), [""; 0]);
    assert_eq!(unknown("rate(maitred_step_seconds_count[1m])", &none), [""; 0]);
    assert_eq!(unknown("maitred_step_seconds", &none), ["no metric maitred_step_seconds"]);
    assert_eq!(unknown("maitred_slots_total", &none), ["no metric maitred_slots_total"]);
    assert_eq!(unknown("maitred_slots{lane=\"hi\"}", &none), ["maitred_slots has no label lane"]);
    assert_eq!(unknown("sum by (restaurant) (up)", &none), ["no metric has the label restaurant"]);
    assert_eq!(unknown("maitred:x:max", &BTreeSet::from(["maitred:x:max".to_owned()])), [""; 0]);
}
