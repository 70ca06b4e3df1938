//! Settings of metrics and traces.

use std::time::Duration;

use super::reader::Reader;
use super::unless;

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// Whether anything is measured at all.
    pub enabled: bool,
    /// A collector of OpenTelemetry; `None`: nothing is sent anywhere.
    pub otlp_endpoint: Option<String>,
    /// How often metrics are sent there.
    pub otlp_interval: Duration,
    /// A request that takes longer has failed.
    pub otlp_timeout: Duration,
    /// Share of the traces begun here that are recorded, 0 to 1; whoever brings a trace has decided already.
    pub trace_ratio: f64,
}

impl TelemetrySettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        Self {
            enabled: read.switch("telemetry.enabled"),
            otlp_endpoint: unless(
                read.value(
                    "telemetry.otlp_endpoint",
                    "a URL such as \"http://127.0.0.1:4318\", or \"none\"",
                    endpoint,
                ),
                "none",
            ),
            otlp_interval: read.duration("telemetry.otlp_interval"),
            otlp_timeout: read.duration("telemetry.otlp_timeout"),
            trace_ratio: read.number("telemetry.trace_ratio", 0.0..=1.0),
        }
    }
}

/// The base of the collector's addresses: `/v1/metrics` and `/v1/traces` are put behind it.
fn endpoint(text: &str) -> Option<String> {
    let host = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_url = host.is_some_and(|host| {
        !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace)
    });
    (text == "none" || is_url).then(|| text.trim_end_matches('/').to_owned())
}
