//! Everything that talks to a NATS server. Nothing outside this folder knows async-nats.

mod cancel;
mod connect;
mod payload;
mod results;
mod submit;

use async_nats::jetstream;

pub use self::cancel::{CANCELLED, CancelError, CancelReply, CancelRequest, Cancelled, Held, cancelled};
pub use self::connect::Link;
pub use self::payload::{PayloadError, SendError};
pub use self::results::{Ending, Endings, Found, Results, Since, Wanted};
pub use self::submit::{Stored, Submitted, message_id};
use crate::config::SecretError;

/// A connection to the servers. Clones share it.
#[derive(Clone)]
pub struct Broker {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    link: tokio::sync::watch::Receiver<Link>,
}

/// Why the broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A secret or certificate cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The servers are not there, or refuse us.
    #[error("cannot connect to nats at {url}: {cause}; start it, or correct `nats.url` and its credentials")]
    Connect {
        /// The servers, secrets hidden.
        url: String,
        /// What happened.
        cause: async_nats::ConnectError,
    },
    /// The server lacks what we need.
    #[error("the nats server is {found}; 2.10.25 or newer is needed, 2.14 recommended")]
    Version {
        /// What it is.
        found: String,
    },
    /// Something that `maitred init` makes is not there.
    #[error("{what} is missing on the server; run `maitred init`")]
    Missing {
        /// What.
        what: String,
    },
    /// A request failed: it may be tried again.
    #[error("{what}: {cause}")]
    Request {
        /// What was asked for.
        what: &'static str,
        /// What happened.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BrokerError {
    /// Wraps the error of a request; `what` says what was asked for.
    pub(super) fn request(
        what: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |cause| Self::Request { what, cause }
    }
}

impl Broker {
    /// Whether there is a connection, and since when.
    pub fn link(&self) -> tokio::sync::watch::Receiver<Link> {
        self.link.clone()
    }

    /// Bytes of one message that the server takes.
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }
}
