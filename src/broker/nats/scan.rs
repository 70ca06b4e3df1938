//! Reading a stream from some place to its present end.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, stream::Stream};
use futures_util::StreamExt;

use super::records::{failed, not_there_or};
use super::{Broker, BrokerError};

/// Messages in one request.
const BATCH: usize = 256;
/// The server forgets a scan that was broken off after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Which messages of a stream are read.
pub(super) struct Scan<'s> {
    pub(super) stream: &'s Stream,
    /// Subjects, wildcards allowed.
    pub(super) subjects: &'s str,
    pub(super) from: DeliverPolicy,
    /// Without their bodies: a header `Nats-Msg-Size` says how long they are.
    pub(super) headers_only: bool,
}

impl Scan<'_> {
    /// Shows `visit` each message in its order, until it breaks or those are seen that are there now.
    pub(super) async fn each<B>(
        self,
        mut visit: impl FnMut(&jetstream::Message) -> ControlFlow<B>,
    ) -> Result<Option<B>, BrokerError> {
        let config = pull::Config {
            description: Some("maitred reads a stream".to_owned()),
            deliver_policy: self.from,
            ack_policy: AckPolicy::None,
            filter_subject: self.subjects.to_owned(),
            headers_only: self.headers_only,
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await.map_err(failed("cannot read a stream"))?;
        let found = walk(&consumer, &mut visit).await;
        // If this fails, the server does it by itself a little later.
        let _ = self.stream.delete_consumer(&consumer.cached_info().name).await;
        found
    }
}

async fn walk<B>(
    consumer: &jetstream::consumer::Consumer<pull::Config>,
    visit: &mut impl FnMut(&jetstream::Message) -> ControlFlow<B>,
) -> Result<Option<B>, BrokerError> {
    let mut left = consumer.cached_info().num_pending;
    while left > 0 {
        let batch = consumer.fetch().max_messages(BATCH).messages().await;
        let mut batch = batch.map_err(failed("cannot read a stream"))?;
        let before = left;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|cause| BrokerError::request("cannot read a stream")(cause))?;
            left = left.saturating_sub(1);
            if let ControlFlow::Break(found) = visit(&message) {
                return Ok(Some(found));
            }
        }
        if left == before {
            // What was counted has been deleted meanwhile.
            return Ok(None);
        }
    }
    Ok(None)
}

impl Broker {
    /// A stream, with its present state.
    pub(super) async fn stream(&self, name: &str) -> Result<Stream, BrokerError> {
        let found = self.jetstream.get_stream(name).await;
        found.map_err(|error| not_there_or(&format!("the stream {name}"), "cannot open a stream", error))
    }
}
