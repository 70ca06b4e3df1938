//! Telemetry of a process: started once, asked and told from everywhere, flushed at the end.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::resource::EnvResourceDetector;
use prometheus::{Registry, TextEncoder};
use tokio::sync::oneshot;

use super::export::{self, ExportError};
use super::gauges::{self, Reading};
use super::goodput::Sla;
use super::instruments::Instruments;
use super::names::MetricInfo;
use super::spans::Traces;
use crate::config::Settings;
use crate::scheduler::Lane;

/// What the process is called to those who gather from many.
const SERVICE: &str = "maitred";

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Nothing can be sent.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Metrics cannot be gathered.
    #[error("metrics cannot be gathered: {0}")]
    Gather(String),
}

/// The handle. Cheap to clone. One that is off does nothing.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Running>>);

struct Running {
    registry: Registry,
    provider: SdkMeterProvider,
    meter: Meter,
    instruments: Instruments,
    traces: Traces,
    /// Whether anything is sent anywhere, so that there is something to flush.
    sends: bool,
}

impl Telemetry {
    /// Telemetry that does nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Starts what the settings ask for, for a worker of this name. No server is asked yet.
    pub fn start(settings: &Settings, name: &str) -> Result<Self, TelemetryError> {
        Self::with_lanes(settings, name, &Lane::ALL.map(Some))
    }

    /// The same for a process whose jobs come in no lane, and which nobody can ask: off unless a collector is named.
    pub fn start_sending(settings: &Settings, name: &str) -> Result<Self, TelemetryError> {
        if settings.telemetry.otlp_endpoint.is_none() {
            return Ok(Self::off());
        }
        Self::with_lanes(settings, name, &[None])
    }

    fn with_lanes(settings: &Settings, name: &str, lanes: &[Option<Lane>]) -> Result<Self, TelemetryError> {
        let telemetry = &settings.telemetry;
        if !telemetry.enabled {
            return Ok(Self::off());
        }
        let (registry, resource) = (Registry::new(), resource(name));
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| TelemetryError::Gather(error.to_string()))?;
        let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(exporter);
        if let Some(endpoint) = &telemetry.otlp_endpoint {
            builder = builder.with_reader(export::metrics(telemetry, endpoint)?);
        }
        let provider = builder.build();
        let meter = provider.meter(SERVICE);
        let running = Running {
            instruments: Instruments::new(&meter, Sla { ttft: settings.goodput.ttft }, lanes),
            traces: Traces::start(telemetry, name)?,
            registry,
            provider,
            meter,
            sends: telemetry.otlp_endpoint.is_some(),
        };
        Ok(Self(Some(Arc::new(running))))
    }

    /// What counts and measures.
    pub fn instruments(&self) -> Instruments {
        self.0.as_ref().map_or_else(Instruments::off, |running| running.instruments.clone())
    }

    /// Where spans go.
    pub fn traces(&self) -> Traces {
        self.0.as_ref().map_or_else(Traces::off, |running| running.traces.clone())
    }

    /// Has a value read whenever somebody asks for it. See [`Reading`].
    pub fn observe<R>(&self, metric: MetricInfo, read: impl Fn() -> R + Send + Sync + 'static)
    where
        R: IntoIterator<Item = Reading>,
    {
        if let Some(running) = &self.0 {
            gauges::observe(&running.meter, metric, read);
        }
    }

    /// All metrics as Prometheus reads them; `None` if this handle is off.
    pub fn render(&self) -> Option<Result<String, TelemetryError>> {
        let families = self.0.as_ref()?.registry.gather();
        let text = TextEncoder::new().encode_to_string(&families);
        Some(text.map_err(|error| TelemetryError::Gather(error.to_string())))
    }

    /// Sends what is still to be sent, for `limit` at most. To be called once, at the end.
    pub async fn shutdown(&self, limit: Duration) {
        let Some(running) = self.0.clone().filter(|running| running.sends) else { return };
        flush(limit, move || {
            // What could not be sent was told by the exporter.
            let _ = running.provider.shutdown();
            running.traces.flush();
        })
        .await;
    }
}

impl Traces {
    /// The same for who has nothing but spans.
    pub async fn shutdown(&self, limit: Duration) {
        if self.is_on() {
            let traces = self.clone();
            flush(limit, move || traces.flush()).await;
        }
    }
}

/// Does `work`, which may wait for a collector, on a thread of its own: nobody waits for longer than `limit`.
async fn flush(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = oneshot::channel();
    let work = move || {
        work();
        // Whoever waited may have gone.
        let _ = done.send(());
    };
    let started = std::thread::Builder::new().name("telemetry".into()).spawn(work);
    if started.is_err() || tokio::time::timeout(limit, is_done).await.is_err() {
        tracing::warn!("the last metrics and traces may not have reached the collector");
    }
}

/// What is the same for all that this process tells.
pub(super) fn resource(name: &str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", SERVICE),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", name.to_owned()),
        ])
        // OTEL_RESOURCE_ATTRIBUTES, which may say otherwise.
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}
