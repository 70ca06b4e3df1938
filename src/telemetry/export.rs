//! Sending metrics and spans to a collector: OTLP over HTTP, from threads of the exporters' own.
//!
//! Invariants: work never waits for a collector; one that is away costs one log line, and one when it is back; spans that
//! do not fit the queue are dropped. Metrics are sums since the start, so that what one message lost the next one brings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter as ExportSpans, SpanProcessor,
};
use reqwest::blocking::Client;

use crate::broker::nats::provide_tls;
use crate::config::TelemetrySettings;

/// Spans that wait to be sent; more are dropped. About ten megabytes.
const QUEUED_SPANS: usize = 16_384;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(2);

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No client of HTTP.
    #[error("cannot make a client of HTTP for telemetry.otlp_endpoint: {0}")]
    Client(String),
    /// The exporter does not take the settings.
    #[error(
        "cannot send to telemetry.otlp_endpoint = \"{endpoint}\": {cause}; correct it, or set it to \"none\""
    )]
    Exporter {
        /// The collector.
        endpoint: String,
        /// What the exporter says.
        cause: ExporterBuildError,
    },
}

/// Sends what `telemetry.otlp_interval` says, as often as it says.
pub(super) fn metrics(
    settings: &TelemetrySettings,
    endpoint: &str,
) -> Result<PeriodicReader<impl PushMetricExporter + use<>>, ExportError> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/metrics"))
        .with_timeout(settings.otlp_timeout)
        .with_retry_policy(RetryPolicy::disabled())
        .with_http_client(client(settings.otlp_timeout)?)
        .build()
        .map_err(|cause| ExportError::Exporter { endpoint: endpoint.to_owned(), cause })?;
    let exporter = Told::new("metrics", endpoint, exporter);
    Ok(PeriodicReader::builder(exporter).with_interval(settings.otlp_interval).build())
}

/// Sends spans in batches.
pub(super) fn spans(
    settings: &TelemetrySettings,
    endpoint: &str,
    resource: &Resource,
) -> Result<BatchSpanProcessor, ExportError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .with_timeout(settings.otlp_timeout)
        .with_http_client(client(settings.otlp_timeout)?)
        .build()
        .map_err(|cause| ExportError::Exporter { endpoint: endpoint.to_owned(), cause })?;
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUED_SPANS).with_scheduled_delay(LINGER);
    let exporter = Told::new("traces", endpoint, exporter);
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
    processor.set_resource(resource);
    Ok(processor)
}

/// A client whose TLS is ring's, as everywhere in this program. Made on a thread of its own: a blocking client brings a
/// runtime, which must not be made within another one.
fn client(timeout: Duration) -> Result<Client, ExportError> {
    provide_tls();
    let make = || Client::builder().timeout(timeout).build();
    let made = std::thread::scope(|scope| scope.spawn(make).join());
    let made = made.map_err(|_| ExportError::Client("its thread broke off".to_owned()))?;
    made.map_err(|error| ExportError::Client(error.to_string()))
}

/// An exporter that says once when sending fails, and once when it works again. The library says nothing.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    what: &'static str,
    endpoint: String,
    in_outage: AtomicBool,
}

impl<E> Told<E> {
    fn new(what: &'static str, endpoint: &str, exporter: E) -> Self {
        Self { exporter, what, endpoint: endpoint.to_owned(), in_outage: AtomicBool::new(false) }
    }

    fn tell(&self, outcome: &OTelSdkResult) {
        let (what, endpoint) = (self.what, &self.endpoint);
        let before = self.in_outage.swap(outcome.is_err(), Ordering::Relaxed);
        match (before, outcome) {
            (false, Err(error)) => {
                tracing::warn!(what, endpoint, %error, "not sent to the collector; work goes on without it");
            }
            (true, Ok(())) => tracing::info!(what, endpoint, "sent to the collector again"),
            _ => {}
        }
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Told<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let outcome = self.exporter.export(metrics).await;
        self.tell(&outcome);
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl<E: ExportSpans> ExportSpans for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        self.tell(&outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
