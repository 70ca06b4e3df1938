//! How much work there is for a worker, here or elsewhere: what a watchdog asks before it stops one.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::stream::DirectGetErrorKind;
use futures_util::{StreamExt, TryStreamExt};
use time::OffsetDateTime;

use super::records::{failed, not_there_or};
use super::{Broker, BrokerError};
use crate::broker::backfill::Backfill;
use crate::broker::names;
use crate::scheduler::Lane;

/// Jobs that are looked up at the same time. Each comes with its body.
const READERS: usize = 4;

impl Broker {
    /// Jobs of all lanes and of these backfills that wait or that some worker holds. What cannot be asked is an error:
    /// a part of the answer would look like less work than there is.
    pub async fn lag(&self, running: &[Backfill]) -> Result<u64, BrokerError> {
        let mut lag = self.replays(running).await?.jobs();
        for lane in Lane::ALL {
            lag += self.consumer_lag(&names::lane_consumer(lane)).await?;
        }
        Ok(lag)
    }

    async fn consumer_lag(&self, name: &str) -> Result<u64, BrokerError> {
        let found: Result<Consumer<pull::Config>, _> =
            self.jetstream.get_consumer_from_stream(name, names::JOBS_STREAM).await;
        let found = found.map_err(|error| {
            not_there_or(&format!("the consumer {name}"), "cannot read a consumer", error)
        })?;
        let info = found.cached_info();
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    /// The pauses between the last so many jobs that were published, the oldest first.
    pub async fn pauses(&self, jobs: usize) -> Result<Vec<Duration>, BrokerError> {
        let stream = self.stream(names::JOBS_STREAM).await?;
        let state = &stream.cached_info().state;
        let first = state.first_sequence.max((state.last_sequence + 1).saturating_sub(jobs as u64)).max(1);
        let published = async |sequence| match stream.direct_get(sequence).await {
            Ok(message) => Ok(Some(message.time)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read a job")(error)),
        };
        let times = futures_util::stream::iter(first..=state.last_sequence).map(published).buffered(READERS);
        let times: Vec<Option<OffsetDateTime>> = times.try_collect().await?;
        let times: Vec<OffsetDateTime> = times.into_iter().flatten().collect();
        Ok(times.windows(2).map(|pair| (pair[1] - pair[0]).try_into().unwrap_or_default()).collect())
    }
}
