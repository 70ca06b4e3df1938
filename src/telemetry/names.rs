//! Every metric there is: name, kind, unit, labels, buckets and meaning, in one place.
//!
//! Instruments are made from this catalogue, `docs/METRICS.md` is written from it, and dashboards and alerts are written
//! against it. Where OpenTelemetry's conventions have a name (GenAI, messaging) it is used; everything else begins with
//! `maitred.`. Invariants, held by tests: names are unique; buckets rise; every metric has a unit and a meaning; no label
//! names a job, a restaurant or a request, so that there are as many series as a worker has states, however much it works.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// As it is now.
    Gauge,
    /// How values are spread, by these upper bounds.
    Histogram(&'static [f64]),
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricInfo {
    /// What it belongs to.
    pub section: &'static str,
    /// Name as OpenTelemetry has it.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Unit in UCUM, as OpenTelemetry has it; braces hold what is counted.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl MetricInfo {
    /// Name as Prometheus has it: dots are underscores, the unit is part of it, counters end in `_total`. The samples of
    /// a histogram end in `_bucket`, `_sum` and `_count`.
    pub fn prometheus(&self) -> String {
        let mut name = self.name.replace('.', "_");
        if let Some(unit) = suffix(self.unit) {
            name = format!("{name}_{unit}");
        }
        if self.kind == Kind::Counter {
            name += "_total";
        }
        name
    }
}

/// How Prometheus writes the units in use here.
fn suffix(unit: &str) -> Option<&'static str> {
    match unit {
        "s" => Some("seconds"),
        "By" => Some("bytes"),
        "1" => Some("ratio"),
        "W" => Some("watts"),
        "Cel" => Some("celsius"),
        "{token}/s" => Some("per_second"),
        _ => None,
    }
}

/// Names of labels.
pub mod label {
    /// The lane of a job: `hi`, `live`, `backfill`.
    pub const LANE: &str = "lane";
    /// How something ended.
    pub const OUTCOME: &str = "outcome";
    /// How many reviews a job has: `small` (to 5), `medium` (to 30), `large`.
    pub const SIZE: &str = "size";
    /// The code of a dead letter's reason.
    pub const REASON: &str = "reason";
    /// What tokens of a step were: `prefill` or `decode`.
    pub const PHASE: &str = "phase";
    /// Where the facts of a review came from: `read` or `cached`.
    pub const SOURCE: &str = "source";
    /// The label of a review: `positive`, `negative`, `neutral`.
    pub const LABEL: &str = "label";
    /// `sentiment`, `summary` or `strengths`.
    pub const ANALYSIS: &str = "analysis";
    /// `redis` or `postgres`.
    pub const STORE: &str = "store";
    /// What the models run on; of a GPU metric, the GPU's number.
    pub const DEVICE: &str = "device";
    /// Version of the program.
    pub const VERSION: &str = "version";
    /// Name of the language model.
    pub const MODEL: &str = "model";
    /// GenAI: `text_completion` (words are written) or `classification` (label probabilities are read).
    pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
    /// GenAI: who answers.
    pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
    /// GenAI: name of the model.
    pub const GEN_AI_MODEL: &str = "gen_ai.request.model";
    /// GenAI: `input` or `output`.
    pub const GEN_AI_TOKEN_TYPE: &str = "gen_ai.token.type";
    /// Messaging: the broker.
    pub const MESSAGING_SYSTEM: &str = "messaging.system";
    /// Messaging: a lane for jobs, a stream for what is published.
    pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
    /// Messaging: what was done.
    pub const MESSAGING_OPERATION: &str = "messaging.operation.name";
}

/// Upper bounds of histograms. Conventions end at ten seconds; a job may wait for minutes.
pub mod buckets {
    /// Seconds that a job takes or waits. Two seconds are a bound: the usual service level.
    pub const JOB: &[f64] = &[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
        160.0, 640.0, 2560.0,
    ];
    /// Seconds from a request's admission to its first label or token.
    pub const FIRST_TOKEN: &[f64] = &[
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
        40.0, 80.0, 160.0, 640.0, 2560.0,
    ];
    /// Seconds for each further token.
    pub const NEXT_TOKEN: &[f64] =
        &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0];
    /// Seconds of a request.
    pub const REQUEST: &[f64] = &[
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 160.0, 640.0,
        2560.0,
    ];
    /// Seconds with the broker, or with a message.
    pub const MESSAGING: &[f64] = &[
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
        160.0, 640.0, 2560.0,
    ];
    /// Tokens of a request.
    pub const REQUEST_TOKENS: &[f64] = &[
        1.0,
        4.0,
        16.0,
        64.0,
        256.0,
        1024.0,
        4096.0,
        16384.0,
        65536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
        67_108_864.0,
    ];
    /// Seconds of a step of the engine.
    pub const STEP: &[f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0,
    ];
    /// Tokens in a step.
    pub const STEP_TOKENS: &[f64] =
        &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
    /// Sequences in a step.
    pub const STEP_SEQUENCES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
    /// What was foreseen over what was needed.
    pub const ERROR: &[f64] =
        &[0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0];
}

macro_rules! catalogue {
    ($($section:literal { $($name:ident = $kind:expr, $otel:literal, $unit:literal, [$($label:expr),*], $help:literal;)+ })+) => {
        $($(
            #[doc = $help]
            pub const $name: MetricInfo = MetricInfo {
                section: $section,
                name: $otel,
                kind: $kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
            };
        )+)+

        /// Every metric, section by section.
        pub const CATALOGUE: &[MetricInfo] = &[$($($name),+),+];
    };
}

use self::Kind::{Counter, Gauge, Histogram};
use self::label as l;

catalogue! {
    "Jobs" {
        JOBS = Counter, "maitred.jobs", "{job}", [l::LANE, l::OUTCOME],
            "Jobs that have their result, by its outcome: ok, partial, unchanged, no_data, stale or failed. Dead letters are counted apart.";
        JOB_TTFT = Histogram(buckets::JOB), "maitred.job.ttft", "s", [l::LANE, l::SIZE],
            "From a job's publication (lane backfill: its arrival at the worker) to its first label or token, all waiting included; only jobs for which the model was asked.";
        JOB_DURATION = Histogram(buckets::JOB), "maitred.job.duration", "s", [l::LANE, l::SIZE],
            "From a job's publication (lane backfill: its arrival at the worker) to its complete result, all waiting included.";
        QUEUE_WAIT = Histogram(buckets::JOB), "maitred.queue_wait", "s", [l::LANE],
            "From a job's publication (lane backfill: its arrival at the worker) to the admission of its first request by the engine.";
        JOBS_WITHIN_SLA = Counter, "maitred.jobs_within_sla", "{job}", [l::LANE, l::SIZE],
            "Jobs that ended well with their first label or token below goodput.ttft; divide by maitred_job_ttft_seconds_count.";
        JOBS_HELD = Gauge, "maitred.jobs_held", "{job}", [],
            "Jobs that the worker has leases on, waiting and running ones together.";
        HEAP_DEPTH = Gauge, "maitred.heap_depth", "{job}", [],
            "Jobs that wait in the worker for a slot.";
        HEAP_OLDEST_AGE = Gauge, "maitred.heap_oldest_age", "s", [],
            "How long the job that has waited longest in the worker has waited; 0 when none waits.";
        SLOTS_IN_USE = Gauge, "maitred.slots_in_use", "{job}", [],
            "Jobs in work.";
        SLOTS = Gauge, "maitred.slots", "{job}", [],
            "Jobs that may be in work at the same time (worker.slots).";
        RETRIES = Counter, "maitred.retries", "{job}", [],
            "Jobs given back because they failed for a reason that may pass.";
        DEAD_LETTERS = Counter, "maitred.dead_letters", "{job}", [l::REASON],
            "Dead letters written, by the code of their reason (docs/CONTRACT.md).";
        HANDED_BACK = Counter, "maitred.handed_back", "{job}", [],
            "Jobs handed back unworked: while draining, after too long a wait, or because another worker was idle.";
        REDELIVERIES = Counter, "maitred.redeliveries", "{message}", [],
            "Deliveries of jobs that the server had lent before.";
        LEASE_RENEWALS = Counter, "maitred.lease_renewals", "{request}", [],
            "Renewals of leases that were asked for.";
        LEASE_RENEWAL_FAILURES = Counter, "maitred.lease_renewal_failures", "{request}", [],
            "Renewals of leases that the server did not confirm.";
        OVERTAKEN = Counter, "maitred.overtaken", "{job}", [],
            "Jobs ended unworked because a newer one of their restaurant was there.";
    }
    "Lanes" {
        LANE_PENDING = Gauge, "maitred.lane_pending", "{job}", [l::LANE],
            "Jobs of the lane that no worker has. Of the whole fleet, asked from the server every ten seconds; each worker tells the same, so take the maximum.";
        LANE_IN_FLIGHT = Gauge, "maitred.lane_in_flight", "{job}", [l::LANE],
            "Jobs of the lane that workers hold. Of the whole fleet, like maitred_lane_pending.";
        LANE_OLDEST_AGE = Gauge, "maitred.lane_oldest_age", "s", [l::LANE],
            "Age of the lane's oldest job that is not settled, from its publishing; 0 when there is none. Of the whole fleet.";
        REPLAY_PENDING = Gauge, "maitred.replay_pending", "{job}", [],
            "Jobs of running backfills (maitred backfill start) that no worker has; in no lane's count. Of the whole fleet, like maitred_lane_pending.";
        REPLAY_IN_FLIGHT = Gauge, "maitred.replay_in_flight", "{job}", [],
            "Jobs of running backfills that workers hold. Of the whole fleet.";
        DEAD_LETTERS_WAITING = Gauge, "maitred.dead_letters_waiting", "{message}", [],
            "Dead letters in their stream, which somebody should look at (maitred dlq). Of the whole fleet.";
    }
    "Engine" {
        STEP_TIME = Histogram(buckets::STEP), "maitred.step", "s", [],
            "Steps of the engine: admitting, one decode call, reading its answers.";
        STEP_TOKENS = Histogram(buckets::STEP_TOKENS), "maitred.step_tokens", "{token}", [l::PHASE],
            "Tokens in a step: prefill (prompt and template tokens) and decode (sampled ones); steps without any of the phase are left out.";
        STEP_SEQUENCES = Histogram(buckets::STEP_SEQUENCES), "maitred.step_sequences", "{sequence}", [],
            "Sequences in a step.";
        COST_ERROR = Histogram(buckets::ERROR), "maitred.cost_error", "1", [],
            "Time that the cost model expected of a decode call over the time it took; 1 is right.";
        REQUESTS_WAITING = Gauge, "maitred.engine_requests_waiting", "{request}", [],
            "Requests that wait for sequences or cells.";
        REQUESTS_RUNNING = Gauge, "maitred.engine_requests_running", "{request}", [],
            "Requests that hold sequences and cells.";
        SEQUENCES_IN_USE = Gauge, "maitred.sequences_in_use", "{sequence}", [],
            "Sequences that requests hold.";
        SEQUENCES_CAPACITY = Gauge, "maitred.sequences_capacity", "{sequence}", [],
            "Sequences that requests can hold at most.";
        KV_CELLS_RESERVED = Gauge, "maitred.kv_cells_reserved", "{cell}", [],
            "Cells of the KV cache that requests hold, for their longest possible output.";
        KV_CELLS_CAPACITY = Gauge, "maitred.kv_cells_capacity", "{cell}", [],
            "Cells of the KV cache that requests can hold at most: what pinned prompt heads hold is left out.";
        PREFILL_TOKENS = Counter, "maitred.prefill_tokens", "{token}", [],
            "Prompt and template tokens computed by the engine, those of prompt heads and of requests that failed included.";
        DECODE_TOKENS = Counter, "maitred.decode_tokens", "{token}", [],
            "Sampled tokens fed by the engine. The last token of a text is sampled and not fed.";
        FORCED_TOKENS = Counter, "maitred.forced_tokens", "{token}", [],
            "Template tokens of answered requests: fed, not sampled.";
        PREFIX_REUSED_TOKENS = Counter, "maitred.prefix_reused_tokens", "{token}", [],
            "Prompt tokens that answered requests took from a pinned prompt head instead of computing them.";
        EMBEDDED_TEXTS = Counter, "maitred.embedded_texts", "{text}", [],
            "Texts embedded.";
        EMBEDDED_TOKENS = Counter, "maitred.embedded_tokens", "{token}", [],
            "Tokens of those texts.";
        DECODE_TIME = Counter, "maitred.decode", "s", [],
            "Time inside decode calls.";
        EMBEDDING_TIME = Counter, "maitred.embedding", "s", [],
            "Time inside the embedding model.";
        SAMPLING_TIME = Counter, "maitred.sampling", "s", [],
            "Time of reading logits: labels, sampling, ending requests.";
    }
    "Requests (OpenTelemetry GenAI)" {
        GEN_AI_TTFT = Histogram(buckets::FIRST_TOKEN), "gen_ai.server.time_to_first_token", "s",
            [l::GEN_AI_OPERATION, l::GEN_AI_PROVIDER, l::GEN_AI_MODEL],
            "From a request's admission by the engine to its first label or token; waiting is in maitred_queue_wait_seconds.";
        GEN_AI_TPOT = Histogram(buckets::NEXT_TOKEN), "gen_ai.server.time_per_output_token", "s",
            [l::GEN_AI_OPERATION, l::GEN_AI_PROVIDER, l::GEN_AI_MODEL],
            "Time for each token after the first; only requests that sampled at least two.";
        GEN_AI_DURATION = Histogram(buckets::REQUEST), "gen_ai.server.request.duration", "s",
            [l::GEN_AI_OPERATION, l::GEN_AI_PROVIDER, l::GEN_AI_MODEL],
            "From a request's place in the engine's heap to its complete answer.";
        GEN_AI_TOKENS = Histogram(buckets::REQUEST_TOKENS), "gen_ai.client.token.usage", "{token}",
            [l::GEN_AI_OPERATION, l::GEN_AI_PROVIDER, l::GEN_AI_MODEL, l::GEN_AI_TOKEN_TYPE],
            "Tokens of a request whose job has its result: input (computed, template and reused ones) and output (sampled).";
    }
    "Messages (OpenTelemetry messaging)" {
        PROCESS_DURATION = Histogram(buckets::MESSAGING), "messaging.process.duration", "s",
            [l::MESSAGING_SYSTEM, l::MESSAGING_DESTINATION, l::MESSAGING_OPERATION],
            "From the start of a job's run to its published result.";
        OPERATION_DURATION = Histogram(buckets::MESSAGING), "messaging.client.operation.duration", "s",
            [l::MESSAGING_SYSTEM, l::MESSAGING_DESTINATION, l::MESSAGING_OPERATION],
            "Publishing a result until its stream has it, and settling a job (ack, nak, term) until the server has confirmed it.";
        CONSUMED_MESSAGES = Counter, "messaging.client.consumed.messages", "{message}",
            [l::MESSAGING_SYSTEM, l::MESSAGING_DESTINATION, l::MESSAGING_OPERATION],
            "Deliveries of jobs.";
        SENT_MESSAGES = Counter, "messaging.client.sent.messages", "{message}",
            [l::MESSAGING_SYSTEM, l::MESSAGING_DESTINATION, l::MESSAGING_OPERATION],
            "Results and dead letters published.";
    }
    "Goodput" {
        TOKENS = Counter, "maitred.tokens", "{token}", [],
            "Tokens of jobs that have their result: computed, template and sampled ones. Equal to the sum over the results.";
        GOODPUT_TOKENS = Counter, "maitred.goodput.tokens", "{token}", [],
            "Those of jobs that met the service level (goodput.ttft).";
        THROUGHPUT = Gauge, "maitred.throughput_tokens", "{token}/s", [],
            "Tokens per second of wall time over the last window of a minute; absent before the first job.";
        GOODPUT = Gauge, "maitred.goodput_tokens", "{token}/s", [],
            "Tokens of jobs that met the service level, per second of wall time, over the same window.";
        SLA_COMPLIANCE = Gauge, "maitred.sla_compliance", "1", [],
            "Share of the window's jobs that met the service level; absent while there was no job.";
    }
    "Quality" {
        REVIEWS = Counter, "maitred.reviews", "{review}", [l::SOURCE],
            "Reviews in scope of jobs that have their result: read by the model, or cached because their facts were known.";
        LABELS = Counter, "maitred.labels", "{review}", [l::LABEL],
            "Reviews labelled in results that are new; repeated results are left out.";
        CLAIMS = Counter, "maitred.claims", "{claim}", [l::OUTCOME],
            "Claims that the model wrote: kept, or replaced by a quote because they failed a check.";
        FINDINGS = Counter, "maitred.findings", "{finding}", [l::ANALYSIS],
            "Findings in results that are new: one for a sentiment, one for each aspect of a summary and for each strength.";
        BASELINE_TOKENS = Counter, "maitred.baseline_tokens", "{token}", [],
            "Prompt tokens that all reviews in each analysis' prompt would have cost: what the saving is measured against.";
    }
    "Stores" {
        STORE_ERRORS = Counter, "maitred.store_errors", "{call}", [l::STORE],
            "Calls of a store that failed; a store that is not configured has no series.";
        METRIC_ROWS_DROPPED = Counter, "maitred.metric_rows_dropped", "{row}", [],
            "Rows of metrics that were not taken because the buffer was full.";
    }
    "Worker" {
        WORKER_INFO = Gauge, "maitred.worker_info", "{worker}", [l::VERSION, l::MODEL, l::DEVICE],
            "Always 1, from the moment the models are ready; what runs here.";
        WORKER_READY = Gauge, "maitred.worker_ready", "{worker}", [],
            "Whether the worker takes jobs, as /readyz says: 1 or 0.";
        WORKER_DRAINING = Gauge, "maitred.worker_draining", "{worker}", [],
            "Whether the worker is on its way out: 1 or 0.";
        NATS_CONNECTED = Gauge, "maitred.nats_connected", "{connection}", [],
            "Whether there is a connection to NATS: 1 or 0.";
        IDLE_CHECKS = Gauge, "maitred.idle_checks", "{check}", [],
            "Checks in a row at which the watchdog found the worker idle.";
        RESIDENT_MEMORY = Gauge, "process.resident_memory", "By", [],
            "Memory of the process that is in RAM.";
    }
    "GPU" {
        GPU_UTILIZATION = Gauge, "maitred.gpu_utilization", "1", [l::DEVICE],
            "Share of the time in which the GPU worked, as its driver says.";
        GPU_MEMORY_USED = Gauge, "maitred.gpu_memory_used", "By", [l::DEVICE],
            "Memory of the GPU in use, by all programs.";
        GPU_MEMORY_TOTAL = Gauge, "maitred.gpu_memory_total", "By", [l::DEVICE],
            "Memory of the GPU.";
        GPU_POWER = Gauge, "maitred.gpu_power", "W", [l::DEVICE],
            "Power that the GPU draws.";
        GPU_TEMPERATURE = Gauge, "maitred.gpu_temperature", "Cel", [l::DEVICE],
            "Temperature of the GPU.";
        GPU_SAMPLE_FAILURES = Counter, "maitred.gpu_sample_failures", "{sample}", [],
            "Samples of a GPU that its driver did not give.";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_in_both_spellings() {
        let mut prometheus: Vec<String> = CATALOGUE.iter().map(MetricInfo::prometheus).collect();
        prometheus.sort_unstable();
        prometheus.dedup();
        assert_eq!(prometheus.len(), CATALOGUE.len());
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }

    #[test]
    fn buckets_rise() {
        for metric in CATALOGUE {
            if let Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }

    #[test]
    fn what_takes_time_has_room_for_minutes() {
        for metric in [JOB_TTFT, JOB_DURATION, QUEUE_WAIT, GEN_AI_TTFT, GEN_AI_DURATION, PROCESS_DURATION] {
            let Histogram(bounds) = metric.kind else { panic!("{} is no histogram", metric.name) };
            assert_eq!(bounds.last(), Some(&2560.0), "{}", metric.name);
        }
        assert!(buckets::JOB.contains(&2.0), "the usual service level can be read off exactly");
    }

    #[test]
    fn every_metric_has_a_unit_and_a_meaning() {
        for MetricInfo { name, unit, help, .. } in CATALOGUE {
            assert!(!unit.is_empty() && help.ends_with('.'), "{name}");
            let base = ["s", "By", "1", "W", "Cel", "{token}/s"].contains(unit);
            assert!(base || (unit.starts_with('{') && unit.ends_with('}')), "{name}: {unit} is no base unit");
        }
    }

    #[test]
    fn no_label_grows_with_the_work() {
        for MetricInfo { name, labels, .. } in CATALOGUE {
            for label in *labels {
                let grows = ["restaurant", "job", "request_id", "review", "trace"]
                    .iter()
                    .any(|part| label.contains(part));
                assert!(!grows, "{name}: {label}");
            }
        }
    }
}
