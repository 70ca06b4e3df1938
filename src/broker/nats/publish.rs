//! Publishing results.

use async_nats::jetstream::message::PublishMessage;

use super::payload::Objects;
use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::trace::TraceParent;
use crate::broker::wire::{self, Encoding};
use crate::result::AnalysisResult;

/// Publishes results.
#[derive(Clone)]
pub struct Publisher {
    broker: Broker,
    objects: Objects,
}

impl Publisher {
    /// With the bucket for what is too large for a message.
    pub fn new(broker: Broker, objects: Objects) -> Self {
        Self { broker, objects }
    }

    /// Publishes a result and waits until its stream has it; whether it is there for the first time. A second result of
    /// the same job (and backfill) is dropped by the server, so that a job worked twice has one.
    pub async fn result(
        &self,
        result: &AnalysisResult,
        encoding: Encoding,
        backfill: Option<&str>,
        trace: &TraceParent,
    ) -> Result<bool, BrokerError> {
        let body = wire::encode_result(result, encoding)
            .map_err(|cause| BrokerError::Request { what: "encoding a result", cause: Box::new(cause) })?;
        let mut message = PublishMessage::build()
            .message_id(names::result_id(&result.job_id, backfill))
            .header(names::CONTENT_TYPE, encoding.content_type())
            .header(names::TRACEPARENT, trace.to_string().as_str());
        if let Some(backfill) = backfill {
            message = message.header(names::BACKFILL, backfill);
        }
        let message = self.objects.with_body(message, body.into()).await?;
        let subject = names::result_subject(&result.restaurant_id);
        let failed = |cause| BrokerError::Request { what: "publishing a result", cause };
        let sent = self.broker.jetstream.send_publish(subject, message).await;
        // Two steps: handed to the connection, then confirmed by the stream.
        let confirmed = sent.map_err(|cause| failed(Box::new(cause)))?.await;
        Ok(!confirmed.map_err(|cause| failed(Box::new(cause)))?.duplicate)
    }
}
