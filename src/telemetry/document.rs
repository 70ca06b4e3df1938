//! `docs/METRICS.md`, written from the catalogue. A test holds the file against it; with `MAITRED_WRITE_DOCS=1` the test
//! writes the file.

use std::fmt::Write;

use super::names::{CATALOGUE, Kind, MetricInfo};

const HEAD: &str = "\
# Metrics, traces and the log line

Written from `src/telemetry/names.rs` by a test; to change it, change that file and run
`MAITRED_WRITE_DOCS=1 cargo nextest run --no-default-features the_document`.

- **Prometheus**: `GET /metrics` at a worker's health address (`health.listen`). Names are those below.
- **OpenTelemetry**: with `telemetry.otlp_endpoint` (or `OTEL_EXPORTER_OTLP_ENDPOINT`) metrics and traces go to a collector
  as OTLP over HTTP with protobuf bodies. Names are those in brackets. A collector that is away costs a log line.
  `maitred analyze` sends there too, without the label `lane` and without what only a fleet has: lanes, leases, slots,
  messages. Each run is an instance of its own.
- `telemetry.enabled = false` measures nothing.

Durations are in seconds. Counters begin with the process. No label names a restaurant, a job or a request. A value that
is not known has no series; where the labels are known beforehand, counters begin at zero. One `target_info` says which
worker it is (`service_instance_id`).
";

const LABELS: &str = "
## Labels

| label | values |
|---|---|
| `lane` | `hi`, `live`, `backfill` |
| `size` | reviews of the job: `small` to 5, `medium` to 30, `large` above |
| `outcome` | of a job: `ok`, `partial`, `unchanged`, `no_data`, `stale`, `failed`; of a claim: `kept`, `replaced` |
| `reason` | the code of a dead letter's reason (docs/CONTRACT.md) |
| `phase` | `prefill`: prompt and template tokens; `decode`: sampled ones |
| `source` | `read` by the model, or `cached`: facts were known |
| `label` | `positive`, `negative`, `neutral` |
| `analysis` | `sentiment`, `summary`, `strengths` |
| `store` | `redis`, `postgres` |
| `device` | of `maitred_worker_info`: `cpu`, `integrated_gpu`, `discrete_gpu`, `simulated`; of a GPU metric: its number |
| `gen_ai_operation_name` | `classification`: label probabilities are read; `text_completion`: words are written |
| `gen_ai_provider_name` | `llama.cpp` |
| `gen_ai_token_type` | `input`: computed, template and reused tokens; `output`: sampled ones |
| `messaging_system` | `nats` |
| `messaging_destination_name` | a lane for jobs, a stream for what is published |
| `messaging_operation_name` | `receive`, `process`, `ack`, `nak`, `term`; `publish` |
";

const TRACES: &str = "
## Traces

One trace from the producer to the result. The message carries its `traceparent`; so does the result.

```
publish LANE                              maitred submit: until the server has stored the job
 └─ process LANE                          worker: from the job's arrival to its published result
     ├─ wait                              for a slot of the worker
     ├─ select                            where only some reviews are read (scope = selected)
     ├─ request PURPOSE                   one for each request to the engine, 200 at most
     │   ├─ queue                         in the engine's heap
     │   ├─ prefill                       to the first label or token
     │   └─ decode                        to the last one
     └─ publish ANALYSIS_RESULTS
```

Spans are made from what was measured, when the result is published. Times within a worker are of one monotonic clock; between
processes the clocks of the machines count. `telemetry.trace_ratio` decides of traces that begin here; who brings a trace
has decided. Requests that failed, and those above 200, are counted in `maitred.requests_without_spans`.

Each restaurant of `maitred analyze` has a trace of its own: `analyze`, and in it `select`, the requests as above, and
`write`, its result's way to the output. `trace_id` in the run's rows (docs/STORES.md) is the same.

## The log line

One line a job, `settled`, once its result is published (level info; `log.format = \"json\"` for machines). No review text.

| field | meaning |
|---|---|
| `job`, `restaurant`, `epoch`, `lane`, `backfill` | which job; `backfill` only where one replays it |
| `outcome`, `model` | how it ended, and what answered |
| `reviews`, `read`, `cached` | reviews in the job; read by the model; known |
| `requests`, `prompt_tokens`, `reused_tokens`, `forced_tokens`, `generated_tokens` | what it cost |
| `baseline_tokens` | what all reviews in each analysis' prompt would have cost |
| `embedded_texts`, `claims_written`, `claims_kept` | counts |
| `delivered` | how often the server has delivered it |
| `held_ms` | from arrival to the start of its run |
| `queue_ms`, `ttft_ms`, `total_ms` | from arrival to the first admission by the engine, to the first label or token (absent if the model was not asked), to the complete result |
| `publish_ms` | until the stream had the result |
| `end_to_end_ms` | from the server's receipt of the job to now, by the clocks of two machines |
| `trace` | its place in the trace, as a `traceparent` |
";

/// The whole document.
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for metric in CATALOGUE {
        if metric.section != section {
            section = metric.section;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "\n## {section}\n\n| name | kind | unit | labels | meaning |\n|---|---|---|---|---|"
            );
        }
        row(&mut text, metric);
    }
    text.push_str(LABELS);
    text.push_str("\n## Buckets\n\nUpper bounds; `+Inf` follows.\n\n");
    for metric in CATALOGUE {
        if let Kind::Histogram(bounds) = metric.kind {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "- `{}`: {}", metric.prometheus(), bounds.join(", "));
        }
    }
    text.push_str(TRACES);
    text
}

fn row(text: &mut String, metric: &MetricInfo) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> =
        metric.labels.iter().map(|label| format!("`{}`", label.replace('.', "_"))).collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| `{}` (`{}`) | {kind} | `{}` | {} | {} |",
        metric.prometheus(),
        metric.name,
        metric.unit,
        labels.join(", "),
        metric.help
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_is_the_one_in_the_repository() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
        if std::env::var_os("MAITRED_WRITE_DOCS").is_some_and(|value| value == "1") {
            std::fs::write(&path, document()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let written: Vec<&str> = written.lines().collect();
        let document = document();
        let first =
            document.lines().zip(written.iter().chain(std::iter::repeat(&""))).find(|(new, old)| new != *old);
        assert_eq!(first, None, "docs/METRICS.md is out of date: run this test with MAITRED_WRITE_DOCS=1");
        assert_eq!(written.len(), document.lines().count(), "docs/METRICS.md has more lines than it should");
    }
}
