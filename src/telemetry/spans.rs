//! Spans: made from what was measured, once it is over, and handed to the exporter.
//!
//! Times are taken on the engine's clock, as everywhere, and become dates by one anchor for a whole job: so the spans of
//! a job nest exactly, whatever the wall clock does meanwhile. Invariants: a span lies within its parent of the same
//! process; no attribute holds a review's text; offering never waits.

mod job;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use time::OffsetDateTime;

pub use self::job::{JobTimeline, MOST_REQUESTS, Queued, job};
use super::export::{self, ExportError};
use super::instruments::Operation;
use super::names::label;
use super::running::resource;
use super::trace::TraceContext;
use crate::config::TelemetrySettings;
use crate::job::Job;
use crate::scheduler::Lane;

/// How long the end of a process waits for its last spans, inside what its caller allows.
const FLUSH: Duration = Duration::from_mins(1);

/// One span that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its place in the trace.
    pub place: TraceContext,
    /// What it is part of; absent for the first of a trace.
    pub parent: Option<TraceContext>,
    /// Whether another process told of the parent.
    pub is_parent_remote: bool,
    /// What was done.
    pub name: Cow<'static, str>,
    /// How it stands to other processes.
    pub kind: SpanKind,
    /// When it began (UTC).
    pub start: OffsetDateTime,
    /// When it ended (UTC).
    pub end: OffsetDateTime,
    /// What else is known.
    pub attributes: Vec<KeyValue>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// A stretch of time on a monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Its start.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

impl From<(Duration, Duration)> for Interval {
    fn from((from, to): (Duration, Duration)) -> Self {
        Self { from, to }
    }
}

impl Interval {
    /// The part of it that lies within another; empty, at its edge, if none does.
    fn within(self, outer: Self) -> Self {
        let from = self.from.clamp(outer.from, outer.to);
        Self { from, to: self.to.clamp(from, outer.to) }
    }

    /// Its length.
    pub const fn length(self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// A moment on two clocks: a monotonic one and the wall's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// On the monotonic clock.
    pub clock: Duration,
    /// On the wall's (UTC).
    pub wall: OffsetDateTime,
}

impl Anchor {
    /// The wall's time at a moment of the clock.
    fn at(self, moment: Duration) -> OffsetDateTime {
        match moment.checked_sub(self.clock) {
            Some(after) => self.wall + after,
            None => self.wall - self.clock.saturating_sub(moment),
        }
    }
}

/// Where spans go. Cheap to clone; one that is off takes nothing.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<BatchSpanProcessor>>);

impl Traces {
    /// Traces that go nowhere.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Traces of a process of this name, to the collector that the settings name; off if they name none.
    pub fn start(settings: &TelemetrySettings, name: &str) -> Result<Self, ExportError> {
        let endpoint = settings.otlp_endpoint.as_ref().filter(|_| settings.enabled);
        let Some(endpoint) = endpoint else { return Ok(Self::off()) };
        Ok(Self(Some(Arc::new(export::spans(settings, endpoint, &resource(name))?))))
    }

    /// Whether spans go anywhere; if not, none need be made.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes spans of a trace that is recorded, as far as there is room. Never waits.
    pub fn offer(&self, spans: impl IntoIterator<Item = Span>) {
        let Some(processor) = &self.0 else { return };
        for span in spans.into_iter().filter(|span| span.place.is_sampled()) {
            processor.on_end(span.into());
        }
    }

    /// Sends what waits, and ends. May wait for the collector: not for a thread that others wait for.
    pub(super) fn flush(&self) {
        if let Some(processor) = &self.0 {
            // What could not be sent was told by the exporter.
            let _ = processor.shutdown_with_timeout(FLUSH);
        }
    }
}

/// The first span of a job: its publishing in a lane. Its place is the one that the message carries.
pub fn submitted(
    place: TraceContext,
    job: &Job,
    lane: Lane,
    (start, took): (OffsetDateTime, Duration),
    failure: Option<String>,
) -> Span {
    let mut attributes = messaging(lane.name(), Operation::Publish.name()).to_vec();
    attributes.push(KeyValue::new(attribute::JOB, job.job_id.clone()));
    attributes.push(KeyValue::new(attribute::RESTAURANT, job.restaurant_id.clone()));
    attributes.push(KeyValue::new(attribute::REVIEWS, job.reviews.len() as i64));
    Span {
        place,
        parent: None,
        is_parent_remote: false,
        name: format!("publish {lane}").into(),
        kind: SpanKind::Producer,
        start,
        end: start + took,
        attributes,
        failure,
    }
}

/// Names of our own attributes of spans.
mod attribute {
    pub const JOB: &str = "maitred.job_id";
    pub const RESTAURANT: &str = "maitred.restaurant_id";
    pub const REVIEWS: &str = "maitred.reviews";
    pub const OUTCOME: &str = "maitred.outcome";
    pub const DELIVERED: &str = "maitred.delivered";
    pub const TOKENS: &str = "maitred.tokens";
    pub const REQUESTS: &str = "maitred.requests";
    /// Requests that failed, and those beyond `MOST_REQUESTS`: they have no spans.
    pub const REQUESTS_WITHOUT_SPANS: &str = "maitred.requests_without_spans";
    pub const PURPOSE: &str = "maitred.purpose";
    pub const REUSED_TOKENS: &str = "maitred.reused_tokens";
}

fn messaging(destination: &'static str, operation: &'static str) -> [KeyValue; 3] {
    [
        KeyValue::new(label::MESSAGING_SYSTEM, "nats"),
        KeyValue::new(label::MESSAGING_DESTINATION, destination),
        KeyValue::new(label::MESSAGING_OPERATION, operation),
    ]
}

impl From<Span> for SpanData {
    fn from(span: Span) -> Self {
        let (trace, own) = span.place.ids();
        let parent = span.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.ids().1));
        let (trace, own) = (TraceId::from(trace), SpanId::from(own));
        let flags = if span.place.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
        Self {
            span_context: SpanContext::new(trace, own, flags, false, TraceState::default()),
            parent_span_id: parent,
            parent_span_is_remote: span.is_parent_remote,
            span_kind: span.kind,
            name: span.name,
            start_time: span.start.into(),
            end_time: span.end.into(),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_moment_before_or_behind_the_anchor_has_its_date() {
        let anchor = Anchor { clock: ms(5000), wall: datetime!(2026-06-15 12:00:05 UTC) };
        assert_eq!(anchor.at(ms(4000)), datetime!(2026-06-15 12:00:04 UTC));
        assert_eq!(anchor.at(ms(5000)), anchor.wall);
        assert_eq!(anchor.at(ms(6500)), datetime!(2026-06-15 12:00:06.5 UTC));
    }

    #[test]
    fn what_is_off_takes_nothing_and_what_is_not_asked_for_is_off() {
        assert!(!Traces::off().is_on());
        let settings = crate::config::Settings::default();
        assert!(!Traces::start(&settings.telemetry, "t").unwrap().is_on(), "no endpoint is named");
        let telemetry = TelemetrySettings {
            enabled: false,
            otlp_endpoint: Some("http://127.0.0.1:1".into()),
            ..settings.telemetry
        };
        assert!(!Traces::start(&telemetry, "t").unwrap().is_on());
    }

    #[test]
    fn a_span_keeps_its_place_when_it_is_handed_over() {
        let mut random = fastrand::Rng::with_seed(3);
        let parent = TraceContext::root(&mut random);
        let place = parent.child(&mut random);
        let span = Span {
            place,
            parent: Some(parent),
            is_parent_remote: true,
            name: "process live".into(),
            kind: SpanKind::Consumer,
            start: datetime!(2026-06-15 12:00 UTC),
            end: datetime!(2026-06-15 12:00:01 UTC),
            attributes: Vec::new(),
            failure: Some("cancelled".into()),
        };
        let data = SpanData::from(span);
        assert_eq!(data.span_context.trace_id().to_string(), place.trace_id());
        assert_eq!(data.span_context.span_id().to_string(), place.span_id());
        assert_eq!(data.parent_span_id.to_string(), parent.span_id());
        assert!(data.span_context.is_sampled() && data.parent_span_is_remote);
        assert_eq!(data.status, Status::error("cancelled"));
        assert_eq!(data.end_time.duration_since(data.start_time).unwrap(), ms(1000));
    }
}
