//! Over a double of the store whose every answer the test decides.

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
    answers: tokio::sync::Mutex<mpsc::Receiver<Answer>>,
    calls: mpsc::Sender<usize>,
    taken: Mutex<Vec<String>>,
}

struct Script {
    store: Arc<Scripted>,
    answers: mpsc::Sender<Answer>,
    calls: mpsc::Receiver<usize>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let (answer, receiver) = mpsc::channel(1024);
        let (call, calls) = mpsc::channel(1024);
        answers.into_iter().for_each(|first| answer.try_send(first).unwrap());
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
        let _ = self.calls.try_send(rows.len());
        match self.answers.lock().await.recv().await.unwrap_or(Answer::Refuse) {
            Answer::Take => {
                let ids = rows.iter().map(|row| match row {
                    MetricRow::Request(row) => row.request_id.clone(),
                    other => panic!("only requests were offered, not {other:?}"),
                });
                self.taken.lock().unwrap().extend(ids);
                Ok(())
            }
            Answer::Refuse => Err(StoreError::new("double", "out of order")),
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
        (0..3).for_each(|_| script.answers.try_send(Answer::Take).unwrap());
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
fn closing_within_a_limit_counts_what_the_store_did_not_take_by_then() {
    block_on(async {
        let mut script = Script::new([Answer::Take, Answer::Hang]);
        let writer = MetricWriter::spawn(Arc::clone(&script.store), settings());
        (0..10).for_each(|id| writer.offer(row(id)));
        assert_eq!((script.calls.recv().await, script.calls.recv().await), (Some(4), Some(4)));
        let report = writer.close_within(Duration::from_millis(1)).await;
        assert_eq!(report, WriterReport { written: 4, dropped: 0, failed: 6 });
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
