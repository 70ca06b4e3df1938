//! Asks the server how the fleet is.

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::stream::{self, DirectGetErrorKind};
use time::OffsetDateTime;

use super::backfills::Backfills;
use super::presence::Presence;
use super::records::{failed, not_there_or};
use super::{Broker, BrokerError};
use crate::broker::backfill::Backfill;
use crate::broker::names;
use crate::broker::status::{LaneStatus, Load, Running, Server, Status, Stream, Waiting, alarms};
use crate::scheduler::Lane;

/// The streams that are shown, that of jobs first.
const STREAMS: [&str; 4] =
    [names::JOBS_STREAM, names::RESULTS_STREAM, names::DEAD_LETTERS_STREAM, names::ADVISORIES_STREAM];

/// What waits in the lanes and in backfills, and what waits to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The lanes, the most urgent first.
    pub lanes: Vec<LaneStatus>,
    /// The running backfills together.
    pub replays: Load,
    /// Dead letters in their stream.
    pub dead_letters: u64,
}

impl Broker {
    /// What waits, in these backfills too. Fewer requests than for a whole [`Status`]: for who asks again and again.
    pub async fn backlog(&self, running: &[Backfill]) -> Result<Backlog, BrokerError> {
        let (jobs, letters) =
            tokio::try_join!(self.stream(names::JOBS_STREAM), self.stream(names::DEAD_LETTERS_STREAM))?;
        let lanes = self.lanes_of(&jobs).await?;
        let replays = self.replays(running).await?;
        Ok(Backlog { lanes, replays, dead_letters: letters.cached_info().state.messages })
    }

    /// Jobs of these backfills that are not settled. One whose consumer is gone has nothing to give.
    pub(super) async fn replays(&self, running: &[Backfill]) -> Result<Load, BrokerError> {
        let backfills = Backfills::new(self);
        let mut loads = Vec::new();
        for backfill in running {
            if let Some(at) = backfills.position(backfill).await? {
                loads.push(Load { pending: backfill.pending(at), in_flight: at.in_flight });
            }
        }
        Ok(loads.into_iter().sum())
    }

    /// How the fleet is. Several requests: under load the parts may be of slightly different moments.
    pub async fn status(&self, now: OffsetDateTime) -> Result<Status, BrokerError> {
        let server = self.server()?;
        let [jobs, results, letters, advisories] = STREAMS.map(|name| self.stream(name));
        let (jobs, results, letters, advisories) = tokio::try_join!(jobs, results, letters, advisories)?;
        let lanes = self.lanes_of(&jobs).await?;
        let workers = Presence::new(self).live_workers().await?;
        let backfills = self.running_backfills(now).await?;
        let dead_letters = letters.cached_info().state.messages;
        let streams = [jobs, results, letters, advisories].map(|stream| stream_status(stream.cached_info()));
        let alarms = alarms(&streams[0], &lanes, &workers, &backfills, now);
        let streams = streams.into();
        Ok(Status { at: now, server, streams, lanes, workers, backfills, dead_letters, alarms })
    }

    async fn lanes_of(&self, jobs: &stream::Stream) -> Result<Vec<LaneStatus>, BrokerError> {
        let mut lanes = Vec::new();
        for lane in Lane::ALL {
            lanes.push(self.lane_status(lane, jobs).await?);
        }
        Ok(lanes)
    }

    fn server(&self) -> Result<Server, BrokerError> {
        let info = self.client.try_server_info().ok_or(BrokerError::Away)?;
        let address = format!("{}:{}", info.host, info.port);
        Ok(Server { version: info.version, name: info.server_name, address })
    }

    async fn lane_status(&self, lane: Lane, jobs: &stream::Stream) -> Result<LaneStatus, BrokerError> {
        let name = names::lane_consumer(lane);
        let found: Result<Consumer<pull::Config>, _> =
            self.jetstream.get_consumer_from_stream(&name, names::JOBS_STREAM).await;
        let found = found.map_err(|error| {
            not_there_or(&format!("the consumer {name}"), "cannot read a consumer", error)
        })?;
        let info = found.cached_info();
        let ack_floor = info.ack_floor.stream_sequence;
        let (pending, in_flight) = (info.num_pending, info.num_ack_pending as u64);
        let oldest = if pending + in_flight > 0 { oldest(jobs, lane, ack_floor + 1).await? } else { None };
        Ok(LaneStatus {
            lane,
            pending,
            in_flight,
            redelivered: info.num_redelivered as u64,
            waiting: info.num_waiting as u64,
            ack_floor,
            oldest,
        })
    }

    async fn running_backfills(&self, now: OffsetDateTime) -> Result<Vec<Running>, BrokerError> {
        let backfills = Backfills::new(self);
        let mut running = Vec::new();
        for backfill in backfills.list().await?.into_iter().filter(Backfill::is_running) {
            let at = backfills.position(&backfill).await?;
            running.push(Running { progress: backfill.progress(at, now), lost: at.is_none(), backfill });
        }
        Ok(running)
    }
}

/// The lane's first job from a sequence on: behind the ack floor, the first that is not settled.
async fn oldest(jobs: &stream::Stream, lane: Lane, from: u64) -> Result<Option<Waiting>, BrokerError> {
    match jobs.direct_get_next_for_subject(names::lane_subjects(lane), Some(from)).await {
        Ok(message) => Ok(Some(Waiting { sequence: message.sequence, since: message.time })),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read a job")(error)),
    }
}

fn stream_status(info: &stream::Info) -> Stream {
    let state = &info.state;
    Stream {
        name: info.config.name.clone(),
        messages: state.messages,
        bytes: state.bytes,
        max_bytes: u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0),
        max_age_seconds: info.config.max_age.as_secs(),
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        oldest: (state.messages > 0).then_some(state.first_timestamp),
    }
}
