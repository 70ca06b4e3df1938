//! The metrics that there are, by their names in Prometheus.

use std::collections::BTreeSet;

use crate::promql;

/// A series in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// A metric: its name, its kind, its labels.
pub type Metric = (&'static str, Kind, &'static [&'static str]);

const GEN_AI: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];
const TOKENS: &[&str] =
    &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"];
const MESSAGING: &[&str] = &["messaging_system", "messaging_destination_name", "messaging_operation_name"];

/// All of them.
pub const METRICS: &[Metric] = &[
    ("gen_ai_server_time_to_first_token_seconds", Histogram, GEN_AI),
    ("gen_ai_server_time_per_output_token_seconds", Histogram, GEN_AI),
    ("gen_ai_server_request_duration_seconds", Histogram, GEN_AI),
    ("gen_ai_client_token_usage", Histogram, TOKENS),
    ("messaging_process_duration_seconds", Histogram, MESSAGING),
    ("messaging_client_operation_duration_seconds", Histogram, MESSAGING),
    ("messaging_client_consumed_messages_total", Counter, MESSAGING),
    ("messaging_client_sent_messages_total", Counter, MESSAGING),
    ("maitred_jobs_total", Counter, &["lane", "outcome"]),
    ("maitred_job_ttft_seconds", Histogram, &["lane", "size"]),
    ("maitred_job_duration_seconds", Histogram, &["lane", "size"]),
    ("maitred_queue_wait_seconds", Histogram, &["lane"]),
    ("maitred_jobs_within_sla_total", Counter, &["lane", "size"]),
    ("maitred_jobs_held", Gauge, &[]),
    ("maitred_heap_depth", Gauge, &[]),
    ("maitred_heap_oldest_age_seconds", Gauge, &[]),
    ("maitred_slots_in_use", Gauge, &[]),
    ("maitred_slots", Gauge, &[]),
    ("maitred_retries_total", Counter, &[]),
    ("maitred_dead_letters_total", Counter, &["reason"]),
    ("maitred_handed_back_total", Counter, &[]),
    ("maitred_redeliveries_total", Counter, &[]),
    ("maitred_lease_renewals_total", Counter, &[]),
    ("maitred_lease_renewal_failures_total", Counter, &[]),
    ("maitred_overtaken_total", Counter, &[]),
    ("maitred_lane_pending", Gauge, &["lane"]),
    ("maitred_lane_in_flight", Gauge, &["lane"]),
    ("maitred_lane_oldest_age_seconds", Gauge, &["lane"]),
    ("maitred_dead_letters_waiting", Gauge, &[]),
    ("maitred_step_seconds", Histogram, &[]),
    ("maitred_step_tokens", Histogram, &["phase"]),
    ("maitred_step_sequences", Histogram, &[]),
    ("maitred_cost_error_ratio", Histogram, &[]),
    ("maitred_engine_requests_waiting", Gauge, &[]),
    ("maitred_engine_requests_running", Gauge, &[]),
    ("maitred_sequences_in_use", Gauge, &[]),
    ("maitred_sequences_capacity", Gauge, &[]),
    ("maitred_kv_cells_reserved", Gauge, &[]),
    ("maitred_kv_cells_capacity", Gauge, &[]),
    ("maitred_prefill_tokens_total", Counter, &[]),
    ("maitred_decode_tokens_total", Counter, &[]),
    ("maitred_forced_tokens_total", Counter, &[]),
    ("maitred_prefix_reused_tokens_total", Counter, &[]),
    ("maitred_embedded_texts_total", Counter, &[]),
    ("maitred_embedded_tokens_total", Counter, &[]),
    ("maitred_decode_seconds_total", Counter, &[]),
    ("maitred_embedding_seconds_total", Counter, &[]),
    ("maitred_sampling_seconds_total", Counter, &[]),
    ("maitred_tokens_total", Counter, &[]),
    ("maitred_goodput_tokens_total", Counter, &[]),
    ("maitred_throughput_tokens_per_second", Gauge, &[]),
    ("maitred_goodput_tokens_per_second", Gauge, &[]),
    ("maitred_sla_compliance_ratio", Gauge, &[]),
    ("maitred_reviews_total", Counter, &["source"]),
    ("maitred_labels_total", Counter, &["label"]),
    ("maitred_claims_total", Counter, &["outcome"]),
    ("maitred_findings_total", Counter, &["analysis"]),
    ("maitred_baseline_tokens_total", Counter, &[]),
    ("maitred_store_errors_total", Counter, &["store"]),
    ("maitred_metric_rows_dropped_total", Counter, &[]),
    ("maitred_worker_info", Gauge, &["version", "model", "device"]),
    ("maitred_worker_ready", Gauge, &[]),
    ("maitred_worker_draining", Gauge, &[]),
    ("maitred_nats_connected", Gauge, &[]),
    ("maitred_idle_checks", Gauge, &[]),
    ("process_resident_memory_bytes", Gauge, &[]),
    ("maitred_gpu_utilization_ratio", Gauge, &["device"]),
    ("maitred_gpu_memory_used_bytes", Gauge, &["device"]),
    ("maitred_gpu_memory_total_bytes", Gauge, &["device"]),
    ("maitred_gpu_power_watts", Gauge, &["device"]),
    ("maitred_gpu_temperature_celsius", Gauge, &["device"]),
    ("maitred_gpu_sample_failures_total", Counter, &[]),
];

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["job", "instance", "le"];
/// Series that are not the program's.
const OTHERS: [(&str, &[&str]); 2] =
    [("up", &[]), ("keda_scaler_metrics_value", &["scaledObject", "scaler"])];

/// The labels of a series as it is written in PromQL; `None` where there is no such series.
fn labels(series: &str) -> Option<&'static [&'static str]> {
    let metric = |name: &str| METRICS.iter().find(|metric| metric.0 == name);
    if let Some((_, labels)) = OTHERS.iter().find(|(name, _)| *name == series) {
        return Some(labels);
    }
    for part in ["_bucket", "_sum", "_count"] {
        if let Some(&(_, Histogram, labels)) = series.strip_suffix(part).and_then(metric) {
            return Some(labels);
        }
    }
    match metric(series) {
        // A histogram has no series of its own name.
        Some((_, Histogram, _)) | None => None,
        Some((_, _, labels)) => Some(labels),
    }
}

/// What an expression names that there is not. `recorded`: series of recording rules.
pub fn unknown(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let names = promql::names(expression);
    let mut unknown = Vec::new();
    for series in &names.series {
        if !recorded.contains(series) && labels(series).is_none() {
            unknown.push(format!("no metric {series}"));
        }
    }
    for (series, label) in &names.matched {
        let known = labels(series).is_none_or(|labels| labels.contains(&label.as_str()));
        if !known && !ADDED.contains(&label.as_str()) {
            unknown.push(format!("{series} has no label {label}"));
        }
    }
    let all: BTreeSet<&str> = METRICS.iter().flat_map(|metric| metric.2).chain(&ADDED).copied().collect();
    unknown.extend(
        names
            .grouped
            .iter()
            .filter(|label| !all.contains(label.as_str()))
            .map(|label| format!("no metric has the label {label}")),
    );
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
