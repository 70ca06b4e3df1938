//! What is read when somebody asks for it: gauges, and counters that are kept elsewhere.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::names::{Kind, MetricInfo};

/// A value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    labels: Vec<KeyValue>,
    value: f64,
}

impl Reading {
    /// A value without labels.
    pub const fn new(value: f64) -> Self {
        Self { labels: Vec::new(), value }
    }

    /// With a label.
    #[must_use]
    pub fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push(KeyValue::new(label, value.into()));
        self
    }
}

/// Has `read` asked whenever metrics are collected, on the collecting thread: it must not wait. What it leaves out has no
/// series: a value that is not known is no zero.
pub(super) fn observe<R>(meter: &Meter, metric: MetricInfo, read: impl Fn() -> R + Send + Sync + 'static)
where
    R: IntoIterator<Item = Reading>,
{
    let MetricInfo { name, unit, help, .. } = metric;
    match metric.kind {
        Kind::Counter => {
            let builder = meter.f64_observable_counter(name).with_unit(unit).with_description(help);
            builder.with_callback(move |to| tell(read(), |value, labels| to.observe(value, labels))).build();
        }
        Kind::Gauge => {
            let builder = meter.f64_observable_gauge(name).with_unit(unit).with_description(help);
            builder.with_callback(move |to| tell(read(), |value, labels| to.observe(value, labels))).build();
        }
        Kind::Histogram(_) => debug_assert!(false, "{name}: a histogram is recorded, not read"),
    }
}

fn tell(readings: impl IntoIterator<Item = Reading>, observe: impl Fn(f64, &[KeyValue])) {
    for Reading { labels, value } in readings {
        observe(value, &labels);
    }
}
