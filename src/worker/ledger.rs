//! What a worker writes of its work: rows of jobs, windows, its start and its end.
//!
//! One value that everything with something to record holds a clone of. Without a home for metrics it keeps the books
//! of goodput all the same, for whoever looks at the worker itself.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::goodput::{GoodputClerk, WINDOW, busy};
use super::intake::Taken;
use crate::analyst::{Worked, metrics};
use crate::broker::wire::DeadLetter;
use crate::config::Settings;
use crate::engine::Engine;
use crate::result::AnalysisResult;
use crate::store::home::MetricHome;
use crate::store::metric_writer::MetricSink;
use crate::store::metrics::{DeadLetterRow, GoodputWindow, MetricRow, WorkerEnd, WorkerStart};

/// How often old rows are asked after. The store sees to it that they are let go once a day.
const ASK_AGAIN: Duration = Duration::from_hours(1);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ledger {
    maker: Arc<metrics::Maker>,
    sink: Option<MetricSink>,
    engine: Engine,
    /// The books of goodput.
    pub clerk: GoodputClerk,
    started_at: OffsetDateTime,
}

impl Ledger {
    /// Opens the books, now that the models are ready, and tells the start.
    pub(super) fn begin(
        settings: &Settings,
        worker: &str,
        model: &str,
        engine: &Engine,
        sink: Option<MetricSink>,
        clerk: GoodputClerk,
    ) -> Self {
        clerk.begin(engine.now(), busy(&engine.stats()));
        let maker = metrics::Maker::new(worker.to_owned(), engine.device(), settings);
        // To the millisecond, as SQLite keeps it: start and end are found by it.
        let now = OffsetDateTime::now_utc();
        let started_at = now - Duration::from_nanos(u64::from(now.nanosecond() % 1_000_000));
        let start = WorkerStart {
            worker: worker.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: model.to_owned(),
            device: maker.device.into(),
            slots: settings.worker.slots as u64,
            sequences: u64::from(settings.engine.sequences),
            config: maker.config.clone(),
            sla: maker.sla.ttft,
            started_at,
        };
        let ledger = Self { maker: Arc::new(maker), sink, engine: engine.clone(), clerk, started_at };
        ledger.offer(MetricRow::Worker(start));
        ledger
    }

    /// A job was worked, and its result is stored.
    pub(super) fn worked(&self, taken: &Taken, worked: &Worked) {
        self.clerk.settled(worked.sample());
        if let Some(sink) = &self.sink {
            let trace_id = taken.trace.trace_id();
            metrics::offer(sink, &taken.job, worked, self.source(taken, &trace_id), self.engine.now());
        }
    }

    /// A job ended without work, and its result is stored.
    pub(super) fn unworked(&self, taken: &Taken, result: &AnalysisResult) {
        if let Some(sink) = &self.sink {
            let trace_id = taken.trace.trace_id();
            let (source, now) = (self.source(taken, &trace_id), self.engine.now());
            metrics::offer_unworked(sink, &taken.job, result, source, taken.place, now);
        }
    }

    /// This dead letter is in its stream. Told again, it has the same row: what the row says is all of the letter.
    pub(super) fn buried(&self, letter: &DeadLetter) {
        self.offer(MetricRow::DeadLetter(DeadLetterRow {
            job_id: letter.job_id.clone(),
            restaurant_id: letter.restaurant_id.clone(),
            worker: letter.worker.clone(),
            lane: letter.lane,
            reason: letter.reason.code.clone(),
            sequence: letter.sequence,
            deliveries: letter.delivered,
            created_at: letter.at,
        }));
    }

    /// Closes a window each minute until `ended`.
    pub(super) async fn keep(self, ended: CancellationToken) {
        let mut minutes = tokio::time::interval(WINDOW);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and there is no window yet.
        minutes.tick().await;
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                _ = minutes.tick() => self.close_window(),
            }
        }
    }

    /// The worker ends: its last window, and its end.
    pub(super) fn end(&self, ending: &'static str) {
        self.close_window();
        self.offer(MetricRow::WorkerEnd(WorkerEnd {
            worker: self.maker.worker.clone(),
            started_at: self.started_at,
            ended_at: OffsetDateTime::now_utc(),
            ending,
        }));
    }

    fn close_window(&self) {
        let Some(closed) = self.clerk.close(self.engine.now(), busy(&self.engine.stats())) else { return };
        self.offer(MetricRow::Goodput(GoodputWindow {
            worker: self.maker.worker.clone(),
            ended_at: OffsetDateTime::now_utc(),
            window: closed.window,
            busy: Some(closed.busy),
        }));
    }

    fn source<'a>(&'a self, taken: &'a Taken, trace_id: &'a str) -> metrics::Source<'a> {
        metrics::Source {
            maker: &self.maker,
            result_id: &taken.head.result_id,
            lane: Some(taken.letter.origin.lane),
            trace_id: Some(trace_id),
            deliveries: Some(taken.letter.delivered),
        }
    }

    fn offer(&self, row: MetricRow) {
        if let Some(sink) = &self.sink {
            sink.offer(row);
        }
    }
}

/// Lets rows go that are older than `keep`, at most daily, until `ended`. Of a fleet's workers whoever comes first does
/// it, and one that ends in mid-way leaves the rest to the next.
pub(super) async fn let_go(home: Arc<MetricHome>, keep: Duration, ended: CancellationToken) {
    let mut asks = tokio::time::interval(ASK_AGAIN);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = asks.tick() => {}
        }
        let gone = tokio::select! {
            () = ended.cancelled() => return,
            gone = home.let_go(keep) => gone,
        };
        match gone {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "metrics past postgres.retention were let go"),
            Err(error) => error.tell("metrics past postgres.retention are kept for now"),
        }
    }
}
