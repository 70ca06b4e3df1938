//! Requests not to work a job any more, as other programs send them.

use tokio::sync::{mpsc, oneshot};

/// What is said to whoever cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelReply {
    /// It was waiting here, and ends as cancelled.
    Queued,
    /// It was running, and is stopped.
    Running,
}

/// Requests that have come: the job's token, and where the answer goes. A request for a job that is not here is not
/// answered.
pub(super) struct Cancels(mpsc::Receiver<(String, oneshot::Sender<CancelReply>)>);

impl Cancels {
    /// From a channel that the broker's side fills.
    pub(super) fn new(requests: mpsc::Receiver<(String, oneshot::Sender<CancelReply>)>) -> Self {
        Self(requests)
    }

    /// The next one; `None` once nobody listens any more.
    pub(super) async fn next(&mut self) -> Option<(String, oneshot::Sender<CancelReply>)> {
        self.0.recv().await
    }
}
