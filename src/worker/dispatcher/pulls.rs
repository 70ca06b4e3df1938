//! Asking for jobs: only as many as there is room for, each lane by its share.
//!
//! While there is a backlog, one pull at a time takes what is there from the lane whose turn it is. When all lanes are
//! found empty, a pull for one job waits at each: the first job of any lane starts at once. A job may then come from
//! several lanes for the same slot; the machine queues it, and hands it on if another worker waits.

use std::collections::HashMap;
use std::time::Duration;

use super::{Dispatcher, Event, report};
use crate::broker::backfill::Backfill;
use crate::broker::lease::SourceId;
use crate::broker::nats::source::{Delivered, Source};
use crate::broker::shares::{LaneShares, TokenBucket};
use crate::scheduler::Lane;

use super::super::intake::Origin;

/// How long a pull waits at an empty lane. A worker that is killed leaves its pull behind for as long.
const PATIENCE: Duration = Duration::from_secs(2);
/// By then every pull has ended, or nobody will hear of it.
pub(super) const LAST_WORD: Duration = PATIENCE.saturating_add(Duration::from_millis(500));
/// How long a lane that was found empty is passed over while others have jobs.
const EMPTY_FOR: Duration = Duration::from_millis(500);
/// After a failed pull.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How often the consumer of a backfill is looked for.
const LOOK_FOR_CONSUMER: Duration = Duration::from_secs(1);
/// Jobs that a backfill with a rate may take at once after a pause.
const BURST: usize = 4;
/// Jobs of one pull at most, whatever the room.
const MOST: usize = 64;

/// How a pull asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Kind {
    /// For what is there now.
    Take,
    /// For the next job, when there is one.
    Wait,
}

/// What a pull brought.
pub(in crate::worker) struct Pulled {
    source: SourceId,
    kind: Kind,
    /// How many jobs it asked for.
    asked: usize,
    /// When it was sent: what it brought was not delivered before.
    sent: Duration,
    outcome: Result<Vec<Delivered>, String>,
}

/// A consumer and what is known of it.
struct Known {
    source: Source,
    origin: Origin,
    /// Found empty, and not asked again before this moment.
    empty_until: Duration,
    /// Jobs behind the last one delivered.
    pending: u64,
    waiting: bool,
    rest_until: Duration,
    rate: Option<TokenBucket>,
}

impl Known {
    /// How many of `wanted` jobs the rate allows. They count as taken until a pull has ended with fewer.
    fn granted(&mut self, wanted: usize, now: Duration) -> usize {
        self.rate.as_mut().map_or(wanted, |rate| rate.take(wanted, now))
    }
}

/// The worker's sources and its pulls under way.
pub(in crate::worker) struct Pulls {
    sources: HashMap<SourceId, Known>,
    shares: LaneShares,
    next_id: u16,
    taking: bool,
    /// Live workers, among whom the rate of a backfill is shared.
    workers: usize,
    /// Backfills that are being joined, and when to try again: the record is there before the consumer.
    opening: HashMap<String, Duration>,
}

impl Pulls {
    pub(in crate::worker) fn new(shares: LaneShares) -> Self {
        Self {
            sources: HashMap::new(),
            shares,
            next_id: 0,
            taking: false,
            workers: 1,
            opening: HashMap::new(),
        }
    }

    /// Adds a consumer. Its id is never used again: leases of a source that is gone keep theirs.
    pub(in crate::worker) fn add(
        &mut self,
        source: Source,
        origin: Origin,
        rate: Option<TokenBucket>,
    ) -> SourceId {
        let id = SourceId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.shares.add(id, source.lane);
        let known = Known {
            source,
            origin,
            empty_until: Duration::ZERO,
            pending: 0,
            waiting: false,
            rest_until: Duration::ZERO,
            rate,
        };
        self.sources.insert(id, known);
        id
    }

    /// Adds the consumer of a backfill that runs, unless it is there.
    pub(super) fn add_backfill(&mut self, backfill: Backfill, source: Source) {
        self.opening.remove(&backfill.id);
        if self.backfill(&backfill.id).is_none() {
            tracing::info!(backfill = backfill.id, "backfill joined");
            let rate = backfill
                .rate_for_one_of(self.workers)
                .map(|rate| TokenBucket::new(rate, BURST, Duration::ZERO));
            self.add(source, Origin::backfill(backfill), rate);
        }
    }

    /// Shares the rate of each backfill among so many workers.
    pub(super) fn share_rates(&mut self, workers: usize, now: Duration) {
        self.workers = workers;
        for known in self.sources.values_mut() {
            let backfill = known.origin.backfill.as_ref();
            if let (Some(rate), Some(share)) =
                (&mut known.rate, backfill.and_then(|backfill| backfill.rate_for_one_of(workers)))
            {
                rate.set_rate(share, now);
            }
        }
    }

    /// Whether it is time to look for a backfill's consumer; if so, the next time is later.
    fn may_open(&mut self, id: &str, now: Duration) -> bool {
        match self.opening.get(id) {
            Some(next) if *next > now => false,
            _ => {
                self.opening.insert(id.to_owned(), now + LOOK_FOR_CONSUMER);
                true
            }
        }
    }

    fn backfill(&self, id: &str) -> Option<SourceId> {
        let mut found = self.sources.iter().filter(|(_, known)| known.origin.backfill_id() == Some(id));
        found.next().map(|(id, _)| *id)
    }

    /// Takes a consumer off; jobs of it in hand are finished.
    pub(in crate::worker) fn remove(&mut self, id: SourceId) {
        self.shares.remove(id);
        self.sources.remove(&id);
    }

    /// Whether it is still pulled from.
    pub(super) fn has(&self, id: SourceId) -> bool {
        self.sources.contains_key(&id)
    }

    /// Where a source's jobs come from.
    pub(super) fn origin(&self, id: SourceId) -> Origin {
        // Only deliveries of known sources are received; a source removed meanwhile was a backfill's.
        self.sources.get(&id).map_or_else(|| Origin::lane(Lane::Backfill), |known| known.origin.clone())
    }

    /// Whether this is a lane's own consumer; a source that is gone was a backfill's.
    fn is_lane(&self, id: SourceId) -> bool {
        self.sources.get(&id).is_some_and(|known| known.origin.backfill.is_none())
    }

    /// Our own pulls that wait at a source.
    pub(super) fn waiting_at(&self, id: SourceId) -> usize {
        usize::from(self.sources.get(&id).is_some_and(|known| known.waiting))
    }

    /// Whether a pull is out.
    pub(super) fn out(&self) -> bool {
        self.taking || self.sources.values().any(|known| known.waiting)
    }

    fn backlog(&self) -> bool {
        self.sources.values().any(|known| known.pending > 0)
    }
}

impl Dispatcher {
    /// Joins backfills that run and leaves those that do not any more. Called again and again: a consumer may come later
    /// than its record.
    pub(super) fn follow_backfills(&mut self) {
        let running = self.parts.backfills.borrow_and_update().clone();
        let gone: Vec<SourceId> = self
            .pulls
            .sources
            .iter()
            .filter(|(_, known)| {
                known.origin.backfill_id().is_some_and(|id| !running.iter().any(|b| b.id == id))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.pulls.remove(id);
        }
        let now = self.now();
        for backfill in running {
            if self.pulls.backfill(&backfill.id).is_some() || !self.pulls.may_open(&backfill.id, now) {
                continue;
            }
            let (broker, events) = (self.parts.broker.clone(), self.events.clone());
            tokio::spawn(async move {
                match broker.backfill(&backfill.id).await {
                    Ok(source) => report(&events, Event::Opened(Box::new((backfill, source)))).await,
                    Err(error) => tracing::debug!(%error, backfill = backfill.id, "backfill not joined yet"),
                }
            });
        }
    }

    /// Begins the pulls that there is room for.
    pub(super) fn pull(&mut self) {
        if self.pulls.taking || !self.parts.vitals.is_topology_right() {
            return;
        }
        let room = self.machine.room(self.pulls.backlog()).min(MOST);
        if room == 0 {
            return;
        }
        let now = self.now();
        if let Some((id, most)) = self.pulls.turn(room, now) {
            self.take(id, most);
        } else {
            self.wait_everywhere(now);
        }
    }

    fn take(&mut self, id: SourceId, most: usize) {
        let Some(known) = self.pulls.sources.get(&id) else { return };
        self.pulls.taking = true;
        let (consumer, events, sent) = (known.source.clone(), self.events.clone(), self.now());
        tokio::spawn(async move {
            let outcome = consumer.fetch(most).await.map_err(|error| error.to_string());
            report(
                &events,
                Event::Pulled(Pulled { source: id, kind: Kind::Take, asked: most, sent, outcome }),
            )
            .await;
        });
    }

    fn wait_everywhere(&mut self, now: Duration) {
        for (&id, known) in &mut self.pulls.sources {
            if known.waiting || known.rest_until > now || known.granted(1, now) == 0 {
                continue;
            }
            known.waiting = true;
            let (consumer, events) = (known.source.clone(), self.events.clone());
            tokio::spawn(async move {
                let outcome = consumer.wait(PATIENCE).await.map_err(|error| error.to_string());
                report(
                    &events,
                    Event::Pulled(Pulled { source: id, kind: Kind::Wait, asked: 1, sent: now, outcome }),
                )
                .await;
            });
        }
    }

    /// A pull has ended.
    pub(super) fn pulled(&mut self, Pulled { source: id, kind, asked, sent, outcome }: Pulled) {
        let now = self.now();
        if kind == Kind::Take {
            self.pulls.taking = false;
        }
        let jobs = match outcome {
            Ok(jobs) => {
                self.note_pulling(None);
                jobs
            }
            Err(error) => {
                // A backfill's consumer goes when the backfill ends, be it known already; the lanes' must be there.
                if self.pulls.is_lane(id) {
                    self.note_pulling(Some(error));
                } else {
                    tracing::debug!(error, "a backfill's jobs cannot be pulled");
                }
                if let Some(known) = self.pulls.sources.get_mut(&id) {
                    known.rest_until = now + AFTER_FAILURE;
                }
                Vec::new()
            }
        };
        if let Some(known) = self.pulls.sources.get_mut(&id) {
            if kind == Kind::Wait {
                known.waiting = false;
            }
            // What comes again is not counted as pending, but a pull that waits gets it as well.
            if jobs.last().is_none_or(|job| job.pending == 0) {
                known.empty_until = now + EMPTY_FOR;
            }
            known.pending = jobs.last().map_or(0, |job| job.pending);
            if let Some(rate) = &mut known.rate {
                rate.put_back(asked.saturating_sub(jobs.len()), now);
            }
            self.pulls.shares.charge(id, jobs.len());
        }
        self.received(id, jobs, sent);
    }

    /// Told once per change: pulls fail several times a second while a server is away.
    fn note_pulling(&self, fault: Option<String>) {
        let mut changed = false;
        self.parts.vitals.update(|vitals| {
            changed = vitals.pull_fault.is_some() != fault.is_some();
            vitals.pull_fault.clone_from(&fault);
        });
        match fault {
            Some(error) if changed => tracing::warn!(error, "jobs cannot be pulled"),
            None if changed => tracing::info!("jobs are pulled again"),
            _ => {}
        }
    }

    /// Asks at the consumers of queued jobs whether somebody waits there.
    pub(super) fn look_around(&self) {
        for id in self.machine.queued_sources() {
            let Some(known) = self.pulls.sources.get(&id) else { continue };
            let (source, events) = (known.source.clone(), self.events.clone());
            tokio::spawn(async move {
                if let Ok(demand) = source.demand().await {
                    report(&events, Event::Demand(id, demand)).await;
                }
            });
        }
    }
}

impl Pulls {
    /// Whose turn it is among those that may have jobs, and how many it may give.
    fn turn(&mut self, room: usize, now: Duration) -> Option<(SourceId, usize)> {
        let mut candidates: Vec<SourceId> = Vec::new();
        for (&id, known) in &self.sources {
            let has_budget = known.rate.as_ref().is_none_or(|rate| rate.available(now) > 0);
            if !known.waiting && known.empty_until <= now && known.rest_until <= now && has_budget {
                candidates.push(id);
            }
        }
        let id = self.shares.next(&candidates)?;
        Some((id, self.sources.get_mut(&id)?.granted(room, now)))
    }
}
