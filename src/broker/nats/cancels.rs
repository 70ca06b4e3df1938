//! The worker's side of cancelling: requests on `ctl.cancel.<token>`, answered by whoever holds the job.

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Broker, BrokerError, CancelReply, Held};
use crate::broker::names;

/// Requests that may wait for the dispatcher.
const WAITING: usize = 64;

/// A request: the job's token, and where the answer goes. Dropping it says nothing: the job is not here.
pub type CancelWish = (String, oneshot::Sender<Held>);

impl Broker {
    /// Requests as they come, until `ended`.
    pub async fn cancel_requests(
        &self,
        ended: CancellationToken,
    ) -> Result<mpsc::Receiver<CancelWish>, BrokerError> {
        let (sender, requests) = mpsc::channel(WAITING);
        let subscribed = self.client.subscribe(format!("{}.*", names::CANCEL_PREFIX)).await;
        let mut messages = subscribed.map_err(|cause| BrokerError::Request {
            what: "listening for cancels",
            cause: Box::new(cause),
        })?;
        let client = self.client.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = ended.cancelled() => return,
                    message = messages.next() => message,
                };
                let Some(message) = message else { return };
                let token = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
                let (reply, answer) = oneshot::channel();
                if sender.send((token, reply)).await.is_err() {
                    return;
                }
                let client = client.clone();
                tokio::spawn(async move {
                    let (Ok(state), Some(to)) = (answer.await, message.reply) else { return };
                    // A small enum of ours always encodes; whoever asked may have gone.
                    let body = serde_json::to_vec(&CancelReply { state }).unwrap_or_default();
                    let _ = client.publish(to, body.into()).await;
                });
            }
        });
        Ok(requests)
    }
}
