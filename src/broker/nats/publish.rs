//! Publishing results.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;

use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::wire::{self, Encoding};
use crate::result::AnalysisResult;
use crate::telemetry::trace::TraceContext;

impl Broker {
    /// Publishes a result and waits until its stream has it; whether it is there for the first time. A second result of
    /// the same job (and backfill) is dropped by the server, so that a job worked twice has one.
    pub async fn publish_result(
        &self,
        result: &AnalysisResult,
        encoding: Encoding,
        backfill: Option<&str>,
        trace: TraceContext,
    ) -> Result<bool, BrokerError> {
        let body = wire::encode_result(result, encoding)
            .map_err(|cause| BrokerError::Request { what: "encoding a result", cause: Box::new(cause) })?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, names::result_id(&result.job_id, backfill));
        headers.insert(names::CONTENT_TYPE, encoding.content_type());
        headers.insert(names::TRACEPARENT, trace.to_string());
        if let Some(backfill) = backfill {
            headers.insert(names::BACKFILL, backfill);
        }
        let confirmed = self.publish(names::result_subject(&result.restaurant_id), headers, body).await?;
        Ok(!confirmed.duplicate)
    }
}
