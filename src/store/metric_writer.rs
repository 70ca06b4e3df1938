//! Between the work and the metrics' home: a bounded buffer and one task that empties it in batches.
//!
//! Invariants: `offer` never waits; every row offered ends as exactly one of written, dropped (the buffer was full, or
//! the writer closed) and failed (the store did not take it in the allowed attempts, or its outcome is unknown);
//! `close` ends within one round of attempts however the store behaves.

#[cfg(test)]
mod tests;

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

    /// Rows that were not taken so far.
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
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
        self.close_within(Duration::MAX).await
    }

    /// The same for who cannot wait for that long: what is not written by then is given up, and counted.
    pub async fn close_within(mut self, limit: Duration) -> WriterReport {
        self.closing.cancel();
        match tokio::time::timeout(limit, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the metrics writer ended early; its rows are counted as failed");
            }
            Err(_) => self.task.abort(),
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
                // A pause between attempts, cut short when the writer closes: running into the timeout is the pause.
                let _ = tokio::time::timeout(pause, self.closing.cancelled()).await;
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
