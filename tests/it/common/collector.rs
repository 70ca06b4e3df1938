//! A collector of OpenTelemetry in the test's own process: OTLP over HTTP, protobuf bodies, all of it kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::post;
use maitred::telemetry::names::CATALOGUE;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PROTOBUF: &str = "application/x-protobuf";

/// The collector; gone when dropped.
pub struct Collector {
    at: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

/// A span, and which process sent it.
#[derive(Debug, Clone)]
pub struct Sent {
    pub instance: String,
    pub span: Span,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(Arc::clone(&kept));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { at, kept, serving }
    }

    /// What a process is told.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn port(&self) -> u16 {
        self.at.port()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Sent> {
        let kept = self.kept.lock().unwrap();
        let resources = kept.traces.iter().flat_map(|request| &request.resource_spans);
        let spans = resources.flat_map(|spans| {
            let instance = instance(spans.resource.as_ref());
            let all = spans.scope_spans.iter().flat_map(|scope| &scope.spans);
            all.map(move |span| Sent { instance: instance.clone(), span: span.clone() })
        });
        spans.collect()
    }

    /// The metrics that this process sent last, all together.
    pub fn last_metrics(&self, of: &str) -> Option<Vec<Metric>> {
        let kept = self.kept.lock().unwrap();
        let resources = kept.metrics.iter().flat_map(|request| &request.resource_metrics);
        let last = resources.rev().find(|metrics| instance(metrics.resource.as_ref()) == of)?;
        Some(last.scope_metrics.iter().flat_map(|scope| scope.metrics.clone()).collect())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn traces(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    assert_eq!(headers[header::CONTENT_TYPE], PROTOBUF);
    kept.lock().unwrap().traces.push(ExportTraceServiceRequest::decode(body).unwrap());
    ([(header::CONTENT_TYPE, PROTOBUF)], ExportTraceServiceResponse::default().encode_to_vec())
}

async fn metrics(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    assert_eq!(headers[header::CONTENT_TYPE], PROTOBUF);
    kept.lock().unwrap().metrics.push(ExportMetricsServiceRequest::decode(body).unwrap());
    ([(header::CONTENT_TYPE, PROTOBUF)], ExportMetricsServiceResponse::default().encode_to_vec())
}

fn instance(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    text(attributes, "service.instance.id").unwrap_or_default()
}

/// The text of an attribute.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        _ => None,
    }
}

/// A counter's series: their labels, and what was counted.
pub fn counted(metrics: &[Metric], name: &str) -> Vec<(Vec<KeyValue>, f64)> {
    let metric = metrics.iter().find(|metric| metric.name == name);
    let Some(Data::Sum(sum)) = metric.and_then(|metric| metric.data.as_ref()) else { return Vec::new() };
    let value = |number| match number {
        Some(Number::AsInt(count)) => count as f64,
        Some(Number::AsDouble(count)) => count,
        None => f64::NAN,
    };
    sum.data_points.iter().map(|point| (point.attributes.clone(), value(point.value))).collect()
}

/// Whether all of them stand in the catalogue, each with a unit and a meaning.
#[track_caller]
pub fn assert_known(metrics: &[Metric]) {
    for metric in metrics {
        assert!(!metric.unit.is_empty() && !metric.description.is_empty(), "{}", metric.name);
        let known = CATALOGUE.iter().any(|known| known.name == metric.name);
        assert!(known, "{} is in no catalogue", metric.name);
    }
}
