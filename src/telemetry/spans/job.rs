//! The spans of one job in one process.
//!
//! ```text
//! process LANE ─┬─ wait                    in the worker, for a slot
//!               ├─ select                  where only some reviews are read
//!               ├─ request PURPOSE ─┬─ queue     in the engine's heap
//!               │  …                ├─ prefill   to the first label or token
//!               │                   └─ decode    to the last one
//!               └─ publish STREAM
//! ```
//!
//! A job of a file, `analyze`, has not waited for anybody, and its result is not published: its last part is `write`.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::{Anchor, Interval, Span, attribute, messaging};
use crate::analysis::reader::RequestRecord;
use crate::result::{AnalysisResult, Outcome};
use crate::scheduler::Lane;
use crate::telemetry::instruments::{Operation, gen_ai};
use crate::telemetry::trace::TraceContext;

/// Requests of a job that have spans, the first ones; a large job makes thousands, which nobody reads one by one.
pub const MOST_REQUESTS: usize = 200;

/// What was measured of a job, on the engine's clock.
#[derive(Debug, Clone, Copy)]
pub struct JobTimeline<'a> {
    /// The job's place in its trace.
    pub place: TraceContext,
    /// The producer's, if it told of one.
    pub parent: Option<TraceContext>,
    /// How it came and where its result went; absent if both are files.
    pub queued: Option<Queued>,
    /// When it was received.
    pub arrived: Duration,
    /// When its run began.
    pub begun: Duration,
    /// When reviews were selected; absent where all are read.
    pub selected: Option<Interval>,
    /// Its requests; those that failed have no times.
    pub requests: &'a [RequestRecord],
    /// When its result was published, or written.
    pub published: Interval,
    /// The result.
    pub result: &'a AnalysisResult,
}

/// A job's way through the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The lane it came in.
    pub lane: Lane,
    /// How often the server has delivered it.
    pub delivered: u64,
    /// The stream of its result.
    pub stream: &'static str,
}

/// The job's spans, its own first. Pure but for the ids.
pub fn job(timeline: &JobTimeline<'_>, anchor: Anchor, random: &mut fastrand::Rng) -> Vec<Span> {
    let whole = Interval { from: timeline.arrived, to: timeline.published.to.max(timeline.arrived) };
    let mut tree = Tree { spans: Vec::new(), anchor, random };
    let answered = || timeline.requests.iter().filter(|record| record.outcome.is_ok());
    let shown = answered().count().min(MOST_REQUESTS);
    tree.spans.push(root(timeline, anchor, whole, timeline.requests.len() - shown));
    let place = timeline.place;
    if timeline.queued.is_some() {
        tree.add(place, whole, "wait", Interval { from: timeline.arrived, to: timeline.begun });
    }
    if let Some(selected) = timeline.selected {
        tree.add(place, whole, "select", selected);
    }
    for record in answered().take(MOST_REQUESTS) {
        tree.request(place, whole, record, &timeline.result.model.name);
    }
    if let Some(Queued { stream, .. }) = timeline.queued {
        let publish = tree.add(place, whole, format!("publish {stream}"), timeline.published);
        publish.kind = SpanKind::Producer;
        publish.attributes = messaging(stream, Operation::Publish.name()).to_vec();
    } else {
        tree.add(place, whole, "write", timeline.published);
    }
    tree.spans
}

fn root(timeline: &JobTimeline<'_>, anchor: Anchor, whole: Interval, without_spans: usize) -> Span {
    let result = timeline.result;
    let mut attributes = Vec::new();
    let (name, kind) = match timeline.queued {
        Some(Queued { lane, delivered, .. }) => {
            attributes.extend(messaging(lane.name(), "process"));
            attributes.push(KeyValue::new(attribute::DELIVERED, delivered as i64));
            (format!("process {lane}").into(), SpanKind::Consumer)
        }
        None => ("analyze".into(), SpanKind::Internal),
    };
    attributes.extend([
        KeyValue::new(attribute::JOB, result.job_id.clone()),
        KeyValue::new(attribute::RESTAURANT, result.restaurant_id.clone()),
        KeyValue::new(attribute::OUTCOME, result.outcome.status()),
        KeyValue::new(attribute::REVIEWS, i64::from(result.usage.reviews)),
        KeyValue::new(attribute::TOKENS, result.usage.worked_tokens() as i64),
        KeyValue::new(attribute::REQUESTS, timeline.requests.len() as i64),
    ]);
    if without_spans > 0 {
        attributes.push(KeyValue::new(attribute::REQUESTS_WITHOUT_SPANS, without_spans as i64));
    }
    Span {
        place: timeline.place,
        parent: timeline.parent,
        is_parent_remote: timeline.parent.is_some(),
        name,
        kind,
        start: anchor.at(whole.from),
        end: anchor.at(whole.to),
        attributes,
        failure: match &result.outcome {
            Outcome::Failed { code, .. } => Some(code.clone()),
            _ => None,
        },
    }
}

struct Tree<'r> {
    spans: Vec<Span>,
    anchor: Anchor,
    random: &'r mut fastrand::Rng,
}

impl Tree<'_> {
    /// A part of what has the place `parent` and lasted for `outer`.
    fn add(
        &mut self,
        parent: TraceContext,
        outer: Interval,
        name: impl Into<std::borrow::Cow<'static, str>>,
        lasted: Interval,
    ) -> &mut Span {
        let lasted = lasted.within(outer);
        self.spans.push(Span {
            place: parent.child(self.random),
            parent: Some(parent),
            is_parent_remote: false,
            name: name.into(),
            kind: SpanKind::Internal,
            start: self.anchor.at(lasted.from),
            end: self.anchor.at(lasted.to),
            attributes: Vec::new(),
            failure: None,
        });
        let last = self.spans.len() - 1;
        &mut self.spans[last]
    }

    fn request(&mut self, parent: TraceContext, outer: Interval, record: &RequestRecord, model: &str) {
        let (timing, usage) = (record.timing, record.usage);
        let whole = Interval { from: timing.queued, to: timing.finished }.within(outer);
        let span = self.add(parent, outer, format!("request {}", record.purpose), whole);
        span.attributes = gen_ai(record, model).to_vec();
        span.attributes.extend([
            KeyValue::new("gen_ai.usage.input_tokens", input_tokens(record)),
            KeyValue::new("gen_ai.usage.output_tokens", i64::from(usage.generated)),
            KeyValue::new(attribute::REUSED_TOKENS, i64::from(usage.reused)),
            KeyValue::new(attribute::PURPOSE, record.purpose),
        ]);
        let place = span.place;
        for (name, from, to) in [
            ("queue", timing.queued, timing.admitted),
            ("prefill", timing.admitted, timing.first_output),
            ("decode", timing.first_output, timing.finished),
        ] {
            self.add(place, whole, name, Interval { from, to });
        }
    }
}

fn input_tokens(record: &RequestRecord) -> i64 {
    let usage = record.usage;
    i64::from(usage.prompt) + i64::from(usage.reused) + i64::from(usage.forced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{RequestTiming, RequestUsage};
    use crate::result::sample;
    use proptest::prelude::*;
    use time::macros::datetime;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn between(from: u64, to: u64) -> Interval {
        Interval { from: ms(from), to: ms(to) }
    }

    fn answered(queued: u64, admitted: u64, first_output: u64, finished: u64) -> RequestRecord {
        RequestRecord {
            purpose: "facts",
            usage: RequestUsage { prompt: 7, reused: 90, forced: 2, generated: 3 },
            timing: RequestTiming {
                queued: ms(queued),
                admitted: ms(admitted),
                first_output: ms(first_output),
                finished: ms(finished),
            },
            outcome: Ok(()),
        }
    }

    fn failed() -> RequestRecord {
        RequestRecord { outcome: Err("engine stopped".into()), ..answered(0, 0, 0, 0) }
    }

    fn spans(timeline: &JobTimeline<'_>) -> Vec<Span> {
        let anchor = Anchor { clock: timeline.published.to, wall: datetime!(2026-06-15 12:00 UTC) };
        job(timeline, anchor, &mut fastrand::Rng::with_seed(1))
    }

    fn timeline<'a>(requests: &'a [RequestRecord], result: &'a AnalysisResult) -> JobTimeline<'a> {
        let producer = TraceContext::root(&mut fastrand::Rng::with_seed(9));
        JobTimeline {
            place: producer.child(&mut fastrand::Rng::with_seed(10)),
            parent: Some(producer),
            queued: Some(Queued { lane: Lane::Live, delivered: 1, stream: "ANALYSIS_RESULTS" }),
            arrived: ms(1000),
            begun: ms(1100),
            selected: Some(between(1100, 1200)),
            requests,
            published: between(2000, 2050),
            result,
        }
    }

    fn children<'s>(spans: &'s [Span], parent: &Span) -> Vec<&'s Span> {
        spans.iter().filter(|span| span.parent == Some(parent.place)).collect()
    }

    #[test]
    fn a_job_is_told_from_its_arrival_to_its_published_result() {
        let (requests, result) = ([answered(1200, 1300, 1500, 1900)], sample::english());
        let timeline = timeline(&requests, &result);
        let spans = spans(&timeline);
        assert_eq!((spans[0].place, spans[0].parent), (timeline.place, timeline.parent));
        assert_eq!(spans[0].name, "process live");
        let names: Vec<&str> = children(&spans, &spans[0]).iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["wait", "select", "request facts", "publish ANALYSIS_RESULTS"]);
        let lengths: Vec<(&str, i128)> =
            spans.iter().map(|span| (&*span.name, (span.end - span.start).whole_milliseconds())).collect();
        assert_eq!(
            lengths,
            [
                ("process live", 1050),
                ("wait", 100),
                ("select", 100),
                ("request facts", 700),
                ("queue", 100),
                ("prefill", 200),
                ("decode", 400),
                ("publish ANALYSIS_RESULTS", 50),
            ]
        );
    }

    #[test]
    fn a_job_of_a_file_is_told_without_a_queue() {
        let (requests, result) = ([answered(1200, 1300, 1500, 1900)], sample::english());
        let timeline = JobTimeline { queued: None, parent: None, ..timeline(&requests, &result) };
        let spans = spans(&timeline);
        assert_eq!((&*spans[0].name, &spans[0].kind), ("analyze", &SpanKind::Internal));
        let names: Vec<&str> = children(&spans, &spans[0]).iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["select", "request facts", "write"]);
        let told = spans.iter().flat_map(|span| &span.attributes).map(|attribute| attribute.key.as_str());
        let of_a_queue = |name: &str| name.starts_with("messaging.") || name == attribute::DELIVERED;
        assert_eq!(told.filter(|name| of_a_queue(name)).count(), 0);
    }

    #[test]
    fn requests_without_times_and_beyond_the_bound_are_counted_and_have_no_span() {
        let mut requests = vec![answered(1200, 1300, 1500, 1900); MOST_REQUESTS + 5];
        requests.push(failed());
        let result = sample::english();
        let spans = spans(&timeline(&requests, &result));
        assert_eq!(spans.iter().filter(|span| span.name == "request facts").count(), MOST_REQUESTS);
        let count = KeyValue::new(attribute::REQUESTS_WITHOUT_SPANS, 6_i64);
        assert!(spans[0].attributes.contains(&count), "{:?}", spans[0].attributes);
    }

    #[test]
    fn a_failed_job_is_an_error_by_its_code_and_no_other_is() {
        for result in sample::one_of_each_outcome() {
            let spans = spans(&timeline(&[], &result));
            let expected = match &result.outcome {
                Outcome::Failed { code, .. } => Some(code.clone()),
                _ => None,
            };
            assert_eq!(spans[0].failure, expected);
        }
    }

    #[test]
    fn no_attribute_holds_a_reviews_text() {
        let result = sample::english();
        let requests = [answered(1200, 1300, 1500, 1900)];
        let told = format!("{:?}", spans(&timeline(&requests, &result)));
        for evidence in result.evidence() {
            assert!(!told.contains(&evidence.quote), "{}", evidence.quote);
        }
    }

    proptest! {
        #[test]
        fn spans_nest_and_have_ids_of_their_own(
            times in prop::collection::vec((0_u64..5000, 0_u64..5000, 0_u64..5000, 0_u64..5000), 0..20),
            job in (0_u64..3000, 0_u64..5000, 0_u64..5000, 0_u64..5000),
        ) {
            let requests: Vec<RequestRecord> =
                times.into_iter().map(|(a, b, c, d)| answered(a, b, c, d)).collect();
            let result = sample::english();
            let (arrived, begun, published, ended) = job;
            let timeline = JobTimeline {
                arrived: ms(arrived),
                begun: ms(begun),
                published: between(published, ended),
                ..timeline(&requests, &result)
            };
            let spans = spans(&timeline);
            let mut ids: Vec<String> = spans.iter().map(|span| span.place.span_id()).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), spans.len());
            for span in &spans[1..] {
                let parent = spans.iter().find(|other| Some(other.place) == span.parent);
                let parent = parent.expect("every part has its whole");
                prop_assert!(span.start <= span.end, "{span:?}");
                prop_assert!(parent.start <= span.start && span.end <= parent.end, "{parent:?}\n{span:?}");
                prop_assert_eq!(span.place.trace_id(), spans[0].place.trace_id());
            }
        }
    }
}
