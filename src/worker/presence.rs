//! Telling the fleet that this worker lives, and how it fares.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::vitals::SharedVitals;
use crate::broker::nats::Presence;
use crate::broker::presence::Worker;
use crate::config::Settings;
use crate::engine::Engine;

/// Beats over which the pace is taken.
const WINDOW: usize = 20;

/// Writes the record until `ended`.
pub(super) async fn tell(
    presence: Arc<Presence>,
    engine: Engine,
    vitals: SharedVitals,
    settings: Arc<Settings>,
    ended: CancellationToken,
) {
    let mut beats = tokio::time::interval(Presence::BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started_at = OffsetDateTime::now_utc();
    let mut past = std::collections::VecDeque::with_capacity(WINDOW + 1);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = beats.tick() => {}
        }
        let now = vitals.read();
        let jobs = now.jobs;
        let mut record = Worker::new(now.worker, started_at);
        record.model.clone_from(&settings.models.language);
        (record.slots, record.look_ahead) = (settings.worker.slots, settings.worker.look_ahead);
        (record.held, record.queued, record.running) = (jobs.held, jobs.queued, jobs.running);
        record.draining = now.draining;
        record.gpus = now.gpus;
        record.totals.results = jobs.results;
        record.totals.failures = jobs.retried;
        record.totals.dead_letters = jobs.dead_letters;
        record.totals.renewals = jobs.renewals;
        record.totals.redeliveries = jobs.merged;
        let core = engine.stats().core;
        past.push_back((engine.now(), jobs.results, core.prefill_tokens + core.decode_tokens));
        if past.len() > WINDOW {
            past.pop_front();
        }
        if let (Some(first), Some(last)) = (past.front(), past.back()) {
            let seconds = last.0.saturating_sub(first.0).as_secs_f64();
            if seconds > 0.0 {
                record.pace.jobs_per_minute = (last.1 - first.1) as f64 / seconds * 60.0;
                record.pace.tokens_per_second = (last.2 - first.2) as f64 / seconds;
            }
        }
        if let Err(error) = presence.put(&record).await {
            tracing::debug!(%error, "presence not told");
        }
    }
}
