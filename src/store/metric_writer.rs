//! Between the work and the metrics' home: a bounded buffer and one task that empties it in batches.
//!
//! Invariants: `offer` never waits; every row offered ends as exactly one of written, dropped (the buffer was full, or
//! the writer closed) and failed (the store did not take it in the allowed attempts, or its outcome is unknown);
//! `close` ends within one round of attempts however the store behaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::{MetricRow, MetricStore};

/// How rows are collected and how hard the store is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// Rows that may wait. More are dropped.
    pub buffer: usize,
    /// Rows written at once.
    pub batch: usize,
    /// How long a row may wait for its batch to fill.
    pub linger: Duration,
    /// Times that a batch is tried before it is given up.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles with every further one.
    pub retry_pause: Duration,
    /// An attempt that takes longer has failed.
    pub attempt_limit: Duration,
}

impl Default for WriterSettings {
    /// With these a batch is given up after at most 53 s, and about 3 s if the store fails at once.
    fn default() -> Self {
        Self {
            buffer: 8192,
            batch: 256,
            linger: Duration::from_secs(1),
            attempts: 5,
            retry_pause: Duration::from_millis(200),
            attempt_limit: Duration::from_secs(10),
        }
    }
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterReport {
    /// Taken by the store.
    pub written: u64,
    /// Not taken from the caller: the buffer was full, or the writer closed.
    pub dropped: u64,
    /// Taken from the caller and given up, or of unknown fate.
    pub failed: u64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    dropped: AtomicU64,
    written: AtomicU64,
}

enum Message {
    Row(Box<MetricRow>),
    Flush(oneshot::Sender<()>),
}

/// Where rows are offered. Cheap to clone; one for every part that has something to record.
#[derive(Clone)]
pub struct MetricSink {
    sender: mpsc::Sender<Message>,
    counters: Arc<Counters>,
}

impl MetricSink {
    /// Takes a row if there is room, else drops and counts it. Never waits.
    pub fn offer(&self, row: MetricRow) {
        let outcome = match self.sender.try_send(Message::Row(Box::new(row))) {
            Ok(()) => &self.counters.accepted,
            Err(_) => &self.counters.dropped,
        };
        outcome.fetch_add(1, Ordering::Relaxed);
    }
}

/// Owner of the task that writes. Dropped without [`MetricWriter::close`] it writes on in the background for as long
/// as the runtime lives, and what became of the rows is not known.
pub struct MetricWriter {
    sink: MetricSink,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl MetricWriter {
    /// Starts the task on the current tokio runtime.
    pub fn spawn<S: MetricStore>(store: Arc<S>, settings: WriterSettings) -> Self {
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = mpsc::channel(settings.buffer.max(1));
        let closing = CancellationToken::new();
        let writing = Writing {
            store,
            batch: settings.batch.max(1),
            settings,
            receiver,
            counters: Arc::clone(&counters),
            closing: closing.clone(),
            in_outage: false,
        };
        Self { sink: MetricSink { sender, counters }, closing, task: tokio::spawn(writing.run()) }
    }

    /// A place to offer rows.
    pub fn sink(&self) -> MetricSink {
        self.sink.clone()
    }

    /// Takes a row if there is room, else drops and counts it. Never waits.
    pub fn offer(&self, row: MetricRow) {
        self.sink.offer(row);
    }

    /// Waits until every row offered before was written or given up.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.sink.sender.send(Message::Flush(done)).await.is_ok() {
            // An error means that the task ended, and then nothing waits any more.
            let _ = flushed.await;
        }
    }

    /// Writes what waits and ends. Rows offered from now on are dropped. If the store does not take a batch in one
    /// round of attempts, the rest is given up with it. The report is exact if nobody offers while this runs.
    pub async fn close(self) -> WriterReport {
        self.closing.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the metrics writer ended early; its rows are counted as failed");
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.sink.counters;
        let written = count(&counters.written);
        let failed = count(&counters.accepted).saturating_sub(written);
        WriterReport { written, dropped: count(&counters.dropped), failed }
    }
}

/// The task's side.
struct Writing<S> {
    store: Arc<S>,
    settings: WriterSettings,
    batch: usize,
    receiver: mpsc::Receiver<Message>,
    counters: Arc<Counters>,
    closing: CancellationToken,
    in_outage: bool,
}

/// Rows to write together, and who waits for them.
#[derive(Default)]
struct Batch {
    rows: Vec<MetricRow>,
    flush: Option<oneshot::Sender<()>>,
    last: bool,
}

impl<S: MetricStore> Writing<S> {
    async fn run(mut self) {
        loop {
            let batch = self.collect().await;
            let taken = self.write(&batch.rows).await;
            if let Some(done) = batch.flush {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            if batch.last || (!taken && self.closing.is_cancelled()) {
                // Dropping the receiver ends whoever waits for a flush.
                return;
            }
        }
    }

    /// Waits for a batch: full, flushed, lingered long enough, or the last one.
    async fn collect(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut due: Option<Instant> = None;
        while batch.rows.len() < self.batch {
            let message = tokio::select! {
                biased;
                // Once closed, the receiver yields what it holds and then ends.
                () = self.closing.cancelled(), if !self.receiver.is_closed() => {
                    self.receiver.close();
                    continue;
                }
                message = self.receiver.recv() => message,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => break,
            };
            match message {
                Some(Message::Row(row)) => {
                    batch.rows.push(*row);
                    due.get_or_insert_with(|| Instant::now() + self.settings.linger);
                }
                Some(Message::Flush(done)) => {
                    batch.flush = Some(done);
                    break;
                }
                None => {
                    batch.last = true;
                    break;
                }
            }
        }
        batch
    }

    /// Tries to write; whether the store took the rows.
    async fn write(&mut self, rows: &[MetricRow]) -> bool {
        if rows.is_empty() {
            return true;
        }
        let mut pause = self.settings.retry_pause;
        for attempt in 1..=self.settings.attempts.max(1) {
            if attempt > 1 {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.closing.cancelled() => {}
                }
                pause = pause.saturating_mul(2);
            }
            match tokio::time::timeout(self.settings.attempt_limit, self.store.record(rows)).await {
                Ok(Ok(())) => {
                    self.counters.written.fetch_add(rows.len() as u64, Ordering::Relaxed);
                    self.note_success();
                    return true;
                }
                Ok(Err(error)) => self.note_failure(&error),
                Err(late) => self.note_failure(&late),
            }
        }
        false
    }

    /// Says once per outage that there is one.
    fn note_failure(&mut self, error: &dyn std::fmt::Display) {
        if !self.in_outage {
            self.in_outage = true;
            tracing::warn!(%error, "metrics cannot be written; results go on without them, rows are retried");
        }
    }

    fn note_success(&mut self) {
        if self.in_outage {
            self.in_outage = false;
            tracing::info!("metrics are written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::store::StoreError;
    use crate::store::contract::block_on;
    use crate::store::metrics::tests::request;

    /// How the double answers a call.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Answer {
        Take,
        Refuse,
        Hang,
        Panic,
    }

    /// A store whose every call waits for the test's answer, and reports the rows it was given.
    struct Scripted {
        answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<Answer>>,
        calls: mpsc::UnboundedSender<usize>,
        taken: Mutex<Vec<String>>,
    }

    struct Script {
        store: Arc<Scripted>,
        answers: mpsc::UnboundedSender<Answer>,
        calls: mpsc::UnboundedReceiver<usize>,
    }

    impl Script {
        fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
            let (answer, receiver) = mpsc::unbounded_channel();
            let (call, calls) = mpsc::unbounded_channel();
            answers.into_iter().for_each(|first| answer.send(first).unwrap());
            let store =
                Scripted { answers: tokio::sync::Mutex::new(receiver), calls: call, taken: Mutex::default() };
            Self { store: Arc::new(store), answers: answer, calls }
        }

        fn taken(&self) -> Vec<String> {
            self.store.taken.lock().unwrap().clone()
        }
    }

    impl MetricStore for Scripted {
        async fn record(&self, rows: &[MetricRow]) -> Result<(), StoreError> {
            // The test may not care.
            let _ = self.calls.send(rows.len());
            match self.answers.lock().await.recv().await.unwrap_or(Answer::Refuse) {
                Answer::Take => {
                    let ids = rows.iter().map(|row| match row {
                        MetricRow::Request(row) => row.request_id.clone(),
                        other => panic!("only requests were offered, not {other:?}"),
                    });
                    self.taken.lock().unwrap().extend(ids);
                    Ok(())
                }
                Answer::Refuse => Err(StoreError { store: "double", message: "out of order".into() }),
                Answer::Hang => std::future::pending().await,
                Answer::Panic => panic!("the double was told to"),
            }
        }
    }

    fn row(id: usize) -> MetricRow {
        MetricRow::Request(request(&id.to_string()))
    }

    /// Batches end by size, flush or close alone, and nothing pauses.
    fn settings() -> WriterSettings {
        WriterSettings {
            buffer: 64,
            batch: 4,
            linger: Duration::from_hours(1),
            attempts: 3,
            retry_pause: Duration::ZERO,
            attempt_limit: Duration::from_hours(1),
        }
    }

    #[test]
    fn a_full_batch_is_written_without_being_asked() {
        block_on(async {
            let mut script = Script::new([Answer::Take]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            (0..4).for_each(|id| writer.offer(row(id)));
            assert_eq!(script.calls.recv().await, Some(4));
        });
    }

    #[test]
    fn a_row_does_not_wait_for_company_longer_than_it_may() {
        block_on(async {
            let mut script = Script::new([Answer::Take]);
            let settings = WriterSettings { linger: Duration::ZERO, ..settings() };
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings);
            writer.offer(row(0));
            assert_eq!(script.calls.recv().await, Some(1));
        });
    }

    #[test]
    fn a_flush_waits_for_every_row_offered_before_it() {
        block_on(async {
            let script = Script::new([Answer::Take; 2]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            (0..6).for_each(|id| writer.offer(row(id)));
            writer.flush().await;
            assert_eq!(script.taken(), ["0", "1", "2", "3", "4", "5"]);
        });
    }

    #[test]
    fn closing_writes_what_waits_and_reports_it() {
        block_on(async {
            let script = Script::new([Answer::Take; 3]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            let sink = writer.sink();
            (0..10).for_each(|id| sink.offer(row(id)));
            assert_eq!(writer.close().await, WriterReport { written: 10, dropped: 0, failed: 0 });
            sink.offer(row(10));
            assert_eq!(sink.counters.dropped.load(Ordering::Relaxed), 1, "offered after the end");
        });
    }

    #[test]
    fn a_store_that_does_not_answer_costs_rows_but_no_waiting() {
        block_on(async {
            let mut script = Script::new([]);
            let settings = WriterSettings { buffer: 5, ..settings() };
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings);
            (0..4).for_each(|id| writer.offer(row(id)));
            assert_eq!(script.calls.recv().await, Some(4), "the writer now waits for the store");
            (4..16).for_each(|id| writer.offer(row(id)));
            (0..3).for_each(|_| script.answers.send(Answer::Take).unwrap());
            assert_eq!(writer.close().await, WriterReport { written: 9, dropped: 7, failed: 0 });
        });
    }

    #[test]
    fn a_batch_that_was_refused_is_tried_again_and_not_lost() {
        block_on(async {
            let script = Script::new([Answer::Refuse, Answer::Refuse, Answer::Take]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            (0..2).for_each(|id| writer.offer(row(id)));
            assert_eq!(writer.close().await, WriterReport { written: 2, dropped: 0, failed: 0 });
            assert_eq!(script.taken(), ["0", "1"]);
        });
    }

    #[test]
    fn a_batch_refused_too_often_is_given_up_and_the_next_one_tried() {
        block_on(async {
            let script = Script::new([Answer::Refuse, Answer::Refuse, Answer::Refuse, Answer::Take]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            (0..4).for_each(|id| writer.offer(row(id)));
            writer.flush().await;
            (4..6).for_each(|id| writer.offer(row(id)));
            assert_eq!(writer.close().await, WriterReport { written: 2, dropped: 0, failed: 4 });
            assert_eq!(script.taken(), ["4", "5"]);
        });
    }

    #[test]
    fn closing_does_not_try_every_batch_on_a_store_that_is_gone() {
        block_on(async {
            let mut script = Script::new([Answer::Refuse; 100]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            (0..40).for_each(|id| writer.offer(row(id)));
            assert_eq!(writer.close().await, WriterReport { written: 0, dropped: 0, failed: 40 });
            let mut calls = 0;
            while script.calls.try_recv().is_ok() {
                calls += 1;
            }
            assert_eq!(calls, 3, "one round of attempts for the first batch, none for the others");
        });
    }

    #[test]
    fn an_attempt_that_hangs_is_cut_off_and_repeated() {
        block_on(async {
            let script = Script::new([Answer::Hang, Answer::Take]);
            let settings = WriterSettings { attempt_limit: Duration::from_millis(1), ..settings() };
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings);
            writer.offer(row(0));
            assert_eq!(writer.close().await, WriterReport { written: 1, dropped: 0, failed: 0 });
        });
    }

    #[test]
    fn a_store_that_panics_fails_its_rows_and_nobody_else() {
        block_on(async {
            let script = Script::new([Answer::Take, Answer::Panic]);
            let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
            (0..4).for_each(|id| writer.offer(row(id)));
            writer.flush().await;
            (4..7).for_each(|id| writer.offer(row(id)));
            writer.flush().await;
            assert_eq!(writer.close().await, WriterReport { written: 4, dropped: 0, failed: 3 });
        });
    }

    /// Counts warnings on the thread of the test.
    struct Warnings(Arc<AtomicU64>);

    impl<C: tracing::Subscriber> tracing_subscriber::Layer<C> for Warnings {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, C>) {
            if *event.metadata().level() == tracing::Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn an_outage_is_logged_once_however_long_it_lasts() {
        use tracing_subscriber::layer::SubscriberExt;
        let warnings = Arc::new(AtomicU64::new(0));
        let subscriber = tracing_subscriber::registry().with(Warnings(Arc::clone(&warnings)));
        tracing::subscriber::with_default(subscriber, || {
            block_on(async {
                let outage = [Answer::Refuse; 7];
                let recovery_and_relapse = [Answer::Take, Answer::Refuse, Answer::Take];
                let script = Script::new(outage.into_iter().chain(recovery_and_relapse));
                let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
                for id in 0..4 {
                    writer.offer(row(id));
                    writer.flush().await;
                }
                writer.close().await;
            });
        });
        assert_eq!(warnings.load(Ordering::Relaxed), 2, "two outages");
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![Just(Answer::Take), Just(Answer::Refuse)]
    }

    proptest! {
        #[test]
        fn every_row_offered_ends_as_exactly_one_of_the_three(
            answers in prop::collection::vec(any_answer(), 0..30),
            steps in prop::collection::vec((1_usize..20, any::<bool>()), 0..12),
            buffer in 1_usize..30,
        ) {
            block_on(async {
                let script = Script::new(answers);
                let writer = MetricWriter::spawn(Arc::clone(&script.store), WriterSettings { buffer, ..settings() });
                // From the end of the script on, every call is refused.
                let Script { store, answers, .. } = script;
                drop(answers);
                let mut offered = 0;
                for (rows, flush) in steps {
                    for _ in 0..rows {
                        writer.offer(row(offered));
                        offered += 1;
                    }
                    if flush {
                        writer.flush().await;
                    }
                }
                let report = writer.close().await;
                prop_assert_eq!(report.written + report.dropped + report.failed, offered as u64);
                let taken = store.taken.lock().unwrap().clone();
                prop_assert_eq!(taken.len() as u64, report.written);
                let distinct: std::collections::HashSet<_> = taken.iter().collect();
                prop_assert_eq!(distinct.len(), taken.len(), "no row is written twice");
                Ok(())
            })?;
        }
    }
}
