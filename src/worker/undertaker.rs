//! Writing dead letters. One that cannot be written yet is tried until it is: the job's lease is renewed meanwhile, and
//! a job must not vanish for want of a place to put it.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use time::OffsetDateTime;

use super::board::Board;
use super::intake::Letter;
use super::ledger::Ledger;
use super::vitals::SharedVitals;
use crate::broker::names;
use crate::broker::nats::{DeadLetters, Written};
use crate::broker::wire::{DeadLetter, Reason};
use crate::job::WIRE_VERSION;
use crate::telemetry::Instruments;

/// Writes dead letters.
pub(super) struct Undertaker {
    pub letters: DeadLetters,
    pub worker: String,
    pub vitals: SharedVitals,
    pub instruments: Instruments,
    pub ledger: Ledger,
    pub board: Board,
}

impl Undertaker {
    /// Writes a dead letter; returns when it is in its stream.
    pub(super) async fn bury(
        &self,
        letter: &Letter,
        job: Option<&str>,
        restaurant: Option<&str>,
        failures: u32,
        reason: Reason,
    ) {
        tracing::warn!(
            job, sequence = letter.sequence, lane = %letter.origin.lane, delivered = letter.delivered,
            code = reason.code, reason = reason.message, "dead letter"
        );
        let record = DeadLetter {
            v: WIRE_VERSION,
            job_id: job.map(str::to_owned),
            restaurant_id: restaurant.map(str::to_owned),
            lane: letter.origin.lane,
            stream: names::JOBS_STREAM.to_owned(),
            sequence: letter.sequence,
            subject: letter.subject.clone(),
            consumer: letter.origin.consumer.clone(),
            delivered: letter.delivered,
            failures,
            reason,
            worker: self.worker.clone(),
            traceparent: letter.traceparent.clone(),
            backfill: letter.origin.backfill_id().map(str::to_owned),
            at: OffsetDateTime::now_utc(),
            headers: letter.headers.clone(),
            payload: letter.body.to_vec(),
        };
        let before = match until_done("writing a dead letter", || self.letters.put(&record)).await {
            Written::Stored => None,
            // Of a worker that died before it could settle the job, or of this one, whose answer got lost.
            Written::Before(sequence) => self.letters.get(sequence).await.ok(),
        };
        let stored = before.as_ref().unwrap_or(&record);
        self.ledger.buried(stored);
        if *stored == record {
            self.vitals.update(|vitals| vitals.jobs.dead_letters += 1);
            self.instruments.sent(names::DEAD_LETTERS_STREAM);
            self.instruments.dead_letter(&record.reason.code);
        }
        self.board.buried(&record);
    }
}

impl Undertaker {
    /// A job that has its result after all must not have a dead letter too. The server gives a job up after its last
    /// delivery without knowing that a slow worker still has it; the sweeper then writes a letter, and looks for a
    /// result afterwards, as this looks for a letter after the result: one of the two sees the other.
    pub(super) async fn raise(&self, letter: &Letter, max_deliver: u32) {
        if letter.delivered < u64::from(max_deliver) {
            return;
        }
        let backfill = letter.origin.backfill_id();
        let raised =
            self.letters.retract(names::JOBS_STREAM, letter.sequence, backfill, letter.published_at).await;
        match raised {
            Ok(true) => {
                tracing::warn!(sequence = letter.sequence, "dead letter taken back: the job has a result");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, sequence = letter.sequence, "a dead letter may be left behind");
            }
        }
    }
}

/// Tries until it works, with growing pauses. Whoever must stop waiting drops the future.
pub(super) async fn until_done<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &'static str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let mut pauses = pauses();
    let mut told = false;
    loop {
        match attempt().await {
            Ok(done) => {
                if told {
                    tracing::info!(what, "works again");
                }
                return done;
            }
            Err(error) if !told => {
                tracing::warn!(%error, what, "failed; trying until it works");
                told = true;
            }
            Err(error) => tracing::debug!(%error, what, "failed again"),
        }
        // Endless by construction; the fallback only satisfies the type.
        pause(pauses.next().unwrap_or(LONGEST)).await;
    }
}

const LONGEST: Duration = Duration::from_secs(5);

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST)
        .without_max_times()
        .with_jitter()
        .build()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a pause between tries is not a wait for something we could see"
)]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
