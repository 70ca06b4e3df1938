//! The whole of it, as a scrape sees it: names, kinds and values, without a server.
#![expect(clippy::float_cmp, reason = "counts are whole numbers, which floats hold exactly")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::names::{self, CATALOGUE, Kind, MetricInfo};
use super::*;
use crate::analysis::reader::RequestRecord;
use crate::config::Settings;
use crate::engine::core::Step;
use crate::engine::{RequestTiming, RequestUsage, StepReport};
use crate::result::{AnalysisResult, Outcome, sample};
use crate::scheduler::Lane;

/// What dashboards and alerts are written against. A name that changes here breaks somebody's.
const PROMISED: &[&str] = &[
    "gen_ai_client_token_usage",
    "gen_ai_server_request_duration_seconds",
    "gen_ai_server_time_per_output_token_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "maitred_baseline_tokens_total",
    "maitred_claims_total",
    "maitred_cost_error_ratio",
    "maitred_dead_letters_total",
    "maitred_dead_letters_waiting",
    "maitred_decode_seconds_total",
    "maitred_decode_tokens_total",
    "maitred_embedded_texts_total",
    "maitred_embedded_tokens_total",
    "maitred_embedding_seconds_total",
    "maitred_engine_requests_running",
    "maitred_engine_requests_waiting",
    "maitred_findings_total",
    "maitred_forced_tokens_total",
    "maitred_goodput_tokens_per_second",
    "maitred_goodput_tokens_total",
    "maitred_gpu_memory_total_bytes",
    "maitred_gpu_memory_used_bytes",
    "maitred_gpu_power_watts",
    "maitred_gpu_sample_failures_total",
    "maitred_gpu_temperature_celsius",
    "maitred_gpu_utilization_ratio",
    "maitred_handed_back_total",
    "maitred_heap_depth",
    "maitred_heap_oldest_age_seconds",
    "maitred_idle_checks",
    "maitred_job_duration_seconds",
    "maitred_job_ttft_seconds",
    "maitred_jobs_held",
    "maitred_jobs_total",
    "maitred_jobs_within_sla_total",
    "maitred_kv_cells_capacity",
    "maitred_kv_cells_reserved",
    "maitred_labels_total",
    "maitred_lane_in_flight",
    "maitred_lane_oldest_age_seconds",
    "maitred_lane_pending",
    "maitred_lease_renewal_failures_total",
    "maitred_lease_renewals_total",
    "maitred_metric_rows_dropped_total",
    "maitred_nats_connected",
    "maitred_overtaken_total",
    "maitred_prefill_tokens_total",
    "maitred_prefix_reused_tokens_total",
    "maitred_queue_wait_seconds",
    "maitred_redeliveries_total",
    "maitred_replay_in_flight",
    "maitred_replay_pending",
    "maitred_retries_total",
    "maitred_reviews_total",
    "maitred_sampling_seconds_total",
    "maitred_sequences_capacity",
    "maitred_sequences_in_use",
    "maitred_sla_compliance_ratio",
    "maitred_slots",
    "maitred_slots_in_use",
    "maitred_step_seconds",
    "maitred_step_sequences",
    "maitred_step_tokens",
    "maitred_store_errors_total",
    "maitred_throughput_tokens_per_second",
    "maitred_tokens_total",
    "maitred_worker_draining",
    "maitred_worker_info",
    "maitred_worker_ready",
    "messaging_client_consumed_messages_total",
    "messaging_client_operation_duration_seconds",
    "messaging_client_sent_messages_total",
    "messaging_process_duration_seconds",
    "process_resident_memory_bytes",
];

fn started() -> Telemetry {
    Telemetry::start(&Settings::default(), "w-1").unwrap()
}

/// Samples by name and labels, as they stand in the text.
fn scraped(telemetry: &Telemetry) -> BTreeMap<String, f64> {
    let text = telemetry.render().unwrap().unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Records or reads each metric of the catalogue once.
fn touch_all(telemetry: &Telemetry) {
    let instruments = telemetry.instruments();
    for metric in CATALOGUE {
        // What is recorded has its instrument already; a second one for the same name would be another stream.
        let is_read = !RECORDED.contains(metric);
        if is_read {
            telemetry.observe(*metric, || Some(Reading::new(1.0)));
        }
    }
    let (result, request) = (sample::english(), request());
    let requests = [request];
    instruments.job_settled(&JobRecord {
        lane: Some(Lane::Live),
        result: &result,
        requests: &requests,
        run: Duration::from_secs(1),
    });
    instruments.dead_letter("malformed");
    instruments.consumed(Lane::Hi, 3);
    instruments.sent("ANALYSIS_RESULTS");
    instruments.operation(Operation::Ack, "live", Duration::from_millis(4));
    instruments.step_watcher().unwrap()(&step());
}

/// What [`Instruments`] records; everything else is read.
const RECORDED: &[MetricInfo] = &[
    names::JOBS,
    names::JOB_TTFT,
    names::JOB_DURATION,
    names::QUEUE_WAIT,
    names::JOBS_WITHIN_SLA,
    names::DEAD_LETTERS,
    names::STEP_TIME,
    names::STEP_TOKENS,
    names::STEP_SEQUENCES,
    names::COST_ERROR,
    names::GEN_AI_TTFT,
    names::GEN_AI_TPOT,
    names::GEN_AI_DURATION,
    names::GEN_AI_TOKENS,
    names::PROCESS_DURATION,
    names::OPERATION_DURATION,
    names::CONSUMED_MESSAGES,
    names::SENT_MESSAGES,
    names::TOKENS,
    names::GOODPUT_TOKENS,
    names::REVIEWS,
    names::LABELS,
    names::CLAIMS,
    names::FINDINGS,
    names::BASELINE_TOKENS,
];

fn request() -> RequestRecord {
    let ms = Duration::from_millis;
    RequestRecord {
        purpose: "summary",
        usage: RequestUsage { prompt: 60, reused: 200, forced: 4, generated: 11 },
        timing: RequestTiming {
            queued: ms(50),
            admitted: ms(100),
            first_output: ms(350),
            finished: ms(1350),
        },
        outcome: Ok(()),
    }
}

fn step() -> StepReport {
    let step = Step {
        prefill_tokens: 100,
        decode_tokens: 3,
        read_tokens: 5,
        sequences: 4,
        decode_time: Duration::from_millis(50),
        read_time: Duration::from_millis(2),
        total_time: Duration::from_millis(55),
        ..Step::default()
    };
    StepReport { step, predicted: 0.1 }
}

#[test]
fn the_promised_names_are_the_catalogues() {
    let names: BTreeSet<String> = CATALOGUE.iter().map(MetricInfo::prometheus).collect();
    let promised: BTreeSet<String> = PROMISED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names, promised);
}

#[test]
fn a_scrape_shows_each_metric_under_its_name_with_its_kind_meaning_and_labels() {
    let telemetry = started();
    touch_all(&telemetry);
    let text = format!("\n{}", telemetry.render().unwrap().unwrap());
    for metric in CATALOGUE {
        let name = metric.prometheus();
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(text.contains(&format!("\n# TYPE {name} {kind}\n")), "{name} is no {kind}\n{text}");
        let help = format!("\n# HELP {name} {}\n", metric.help);
        assert!(text.contains(&help), "{name} has no or another meaning");
    }
    let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(families, CATALOGUE.len() + 1, "nothing but the catalogue and one target_info");
    assert!(!text.contains("otel_scope"), "{text}");
    assert!(text.contains("service_instance_id=\"w-1\""));
}

#[test]
fn recorded_series_have_the_labels_of_the_catalogue_and_no_others() {
    let telemetry = started();
    touch_all(&telemetry);
    for series in scraped(&telemetry).keys() {
        let Some((name, labels)) = series.trim_end_matches('}').split_once('{') else { continue };
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let metric = RECORDED
            .iter()
            .find(|metric| suffixes.iter().any(|suffix| format!("{}{suffix}", metric.prometheus()) == name));
        let Some(metric) = metric else { continue };
        let found: BTreeSet<&str> = labels
            .split("\",")
            .filter_map(|pair| Some(pair.split_once('=')?.0.trim_start_matches(',')))
            .filter(|label| *label != "le")
            .collect();
        let wanted: BTreeSet<String> = metric.labels.iter().map(|label| label.replace('.', "_")).collect();
        assert_eq!(found, wanted.iter().map(String::as_str).collect(), "{series}");
    }
}

#[test]
fn buckets_count_what_lies_below_them_and_never_fall() {
    let telemetry = started();
    touch_all(&telemetry);
    let samples = scraped(&telemetry);
    let bucket = |le: &str| {
        let labels = "{lane=\"live\",size=\"medium\",le=";
        samples[&format!("maitred_job_duration_seconds_bucket{labels}\"{le}\"}}")]
    };
    let bounds: Vec<String> = names::buckets::JOB.iter().map(f64::to_string).chain(["+Inf".into()]).collect();
    let counts: Vec<f64> = bounds.iter().map(|bound| bucket(bound)).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!((counts[0], counts[counts.len() - 1]), (0.0, 1.0));
}

#[test]
fn tokens_are_those_of_the_results_exactly() {
    let telemetry = started();
    let (result, requests) = (sample::english(), [request(), request()]);
    for lane in [Lane::Hi, Lane::Live] {
        let run = Duration::from_secs(1);
        telemetry.instruments().job_settled(&JobRecord {
            lane: Some(lane),
            result: &result,
            requests: &requests,
            run,
        });
    }
    let samples = scraped(&telemetry);
    assert_eq!(samples["maitred_tokens_total"], 2.0 * result.usage.worked_tokens() as f64);
    assert_eq!(samples["maitred_baseline_tokens_total"], 2.0 * result.usage.baseline_tokens as f64);
    let sum = |kind: &str| -> f64 {
        let of_kind = samples.iter().filter(|(series, _)| {
            series.starts_with("gen_ai_client_token_usage_sum") && series.contains(&format!("\"{kind}\""))
        });
        of_kind.map(|(_, value)| value).sum()
    };
    assert_eq!((sum("input"), sum("output")), (4.0 * 264.0, 4.0 * 11.0));
}

#[test]
fn only_what_met_the_service_level_is_goodput() {
    let telemetry = started();
    let in_time = sample::english();
    let mut late = in_time.clone();
    late.timings.ttft_ms = Some(2000.0);
    let mut failed = in_time.clone();
    failed.outcome = Outcome::Failed { code: "c".into(), message: "m".into() };
    let tokens = in_time.usage.worked_tokens() as f64;
    assert!(in_time.timings.ttft_ms.is_some_and(|ms| ms < 2000.0) && tokens > 0.0);
    settle(&telemetry, &[&in_time, &late, &failed]);
    let samples = scraped(&telemetry);
    assert_eq!(samples["maitred_tokens_total"], 3.0 * tokens);
    assert_eq!(samples["maitred_goodput_tokens_total"], tokens);
    assert_eq!(samples["maitred_jobs_within_sla_total{lane=\"live\",size=\"medium\"}"], 1.0);
    assert_eq!(samples["maitred_jobs_total{lane=\"live\",outcome=\"failed\"}"], 1.0);
}

#[test]
fn what_an_unchanged_result_repeats_is_not_counted_again() {
    let telemetry = started();
    let new = sample::english();
    let mut again = new.clone();
    for outcome in again.outcomes.values_mut() {
        *outcome = Outcome::Unchanged;
    }
    settle(&telemetry, &[&new]);
    let once = scraped(&telemetry);
    settle(&telemetry, &[&again]);
    let twice = scraped(&telemetry);
    for part in ["maitred_labels_total", "maitred_findings_total"] {
        let of = |samples: &BTreeMap<String, f64>| -> Vec<f64> {
            samples.iter().filter(|(series, _)| series.starts_with(part)).map(|(_, value)| *value).collect()
        };
        assert!(of(&once).iter().sum::<f64>() > 0.0, "{part}");
        assert_eq!(of(&once), of(&twice), "{part}");
    }
}

#[test]
fn series_that_can_be_foreseen_begin_at_zero() {
    let telemetry = started();
    telemetry.instruments().expect_dead_letters(["malformed"]);
    let samples = scraped(&telemetry);
    for series in [
        "maitred_jobs_total{lane=\"backfill\",outcome=\"failed\"}",
        "maitred_jobs_within_sla_total{lane=\"hi\",size=\"large\"}",
        "maitred_dead_letters_total{reason=\"malformed\"}",
        "maitred_tokens_total",
        "maitred_claims_total{outcome=\"replaced\"}",
    ] {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
}

#[test]
fn what_is_not_known_has_no_series_and_is_no_zero() {
    let telemetry = started();
    telemetry.observe(names::THROUGHPUT, || None);
    telemetry.observe(names::LANE_PENDING, Vec::new);
    let samples = scraped(&telemetry);
    assert!(!samples.keys().any(|series| series.contains("throughput") || series.contains("pending")));
}

#[test]
fn a_step_is_told_by_phase() {
    let telemetry = started();
    let mut watch = telemetry.instruments().step_watcher().unwrap();
    let mut step = step();
    watch(&step);
    step.step.decode_tokens = 0;
    watch(&step);
    let samples = scraped(&telemetry);
    assert_eq!(samples["maitred_step_tokens_count{phase=\"prefill\"}"], 2.0);
    assert_eq!(samples["maitred_step_tokens_count{phase=\"decode\"}"], 1.0, "no zero for what was not there");
    assert_eq!(samples["maitred_step_sequences_sum"], 8.0);
    assert!((samples["maitred_cost_error_ratio_sum"] - 4.0).abs() < 1e-9, "0.1 s were expected of 0.05 s");
}

#[test]
fn telemetry_that_is_off_measures_nothing() {
    let mut settings = Settings::default();
    settings.telemetry.enabled = false;
    settings.telemetry.otlp_endpoint = Some("http://127.0.0.1:1".into());
    let telemetry = Telemetry::start(&settings, "w").unwrap();
    assert!(telemetry.render().is_none());
    assert!(telemetry.instruments().step_watcher().is_none(), "the engine is not watched");
    assert!(!telemetry.traces().is_on());
    settle(&telemetry, &[&sample::english()]);
}

#[test]
fn a_process_without_lanes_tells_of_no_lane_and_of_no_message() {
    let mut settings = Settings::default();
    assert!(
        Telemetry::start_sending(&settings, "t").unwrap().render().is_none(),
        "there is nobody to send to"
    );
    settings.telemetry.otlp_endpoint = Some("http://127.0.0.1:1".into());
    let telemetry = Telemetry::start_sending(&settings, "t").unwrap();
    let (result, run) = (sample::english(), Duration::from_secs(1));
    let job = JobRecord { lane: None, result: &result, requests: &[request()], run };
    telemetry.instruments().job_settled(&job);
    let samples = scraped(&telemetry);
    assert_eq!(samples["maitred_jobs_total{outcome=\"ok\"}"], 1.0);
    assert_eq!(samples["maitred_jobs_total{outcome=\"failed\"}"], 0.0);
    assert_eq!(samples["maitred_job_ttft_seconds_count{size=\"medium\"}"], 1.0);
    assert_eq!(samples["maitred_queue_wait_seconds_count"], 1.0);
    assert_eq!(samples["maitred_tokens_total"], result.usage.worked_tokens() as f64);
    let strange: Vec<&String> = samples
        .keys()
        .filter(|series| series.contains("lane=") || series.starts_with("messaging_"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[tokio::test]
async fn a_collector_behind_tls_needs_no_more_than_its_url() {
    // The client is made with ring's provider; without one it would panic here, and within a runtime it would too.
    let mut settings = Settings::default();
    settings.telemetry.otlp_endpoint = Some("https://127.0.0.1:1".into());
    let telemetry = Telemetry::start(&settings, "w").unwrap();
    assert!(telemetry.traces().is_on());
    telemetry.shutdown(Duration::from_secs(20)).await;
}

fn settle(telemetry: &Telemetry, results: &[&AnalysisResult]) {
    let instruments = telemetry.instruments();
    for result in results {
        let run = Duration::from_secs(1);
        instruments.job_settled(&JobRecord { lane: Some(Lane::Live), result, requests: &[], run });
    }
}
