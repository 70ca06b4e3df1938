//! Everything that talks to a NATS server. Nothing outside this folder knows async-nats.

pub mod attempts;
mod backfills;
mod cancel;
mod cancels;
pub mod checkup;
mod connect;
mod dead_letters;
mod identity;
mod lag;
mod link;
mod payload;
mod presence;
mod records;
mod results;
mod scan;
pub mod source;
mod status;
mod submit;
mod sweeper;
mod topology;

use std::path::PathBuf;

use async_nats::jetstream;

pub use self::backfills::{Backfills, BackfillsError, Order};
pub use self::cancel::{CANCELLED, CancelError, CancelReply, CancelRequest, Cancelled, Held, cancelled};
pub use self::cancels::CancelWish;
pub use self::connect::provide_tls;
pub use self::dead_letters::{DeadLetterError, DeadLetters, Replayed, Written};
pub use self::link::Link;
pub use self::payload::{PayloadError, SendError};
pub use self::presence::Presence;
pub use self::results::{Ending, Endings, Found, Results, Since, Wanted};
pub use self::status::Backlog;
pub use self::submit::{Stored, Submitted, message_id};
pub use self::sweeper::{Sweeper, Swept};
pub use self::topology::possible;
use super::topology::{Difference, Object};
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
    /// A secret or certificate cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file of credentials can be read, but is none.
    #[error("`{path}` holds no usable credentials; replace the file or correct `{key}`")]
    Credentials {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The URL cannot be used.
    #[error("`nats.url` ({url}) cannot be used: {what}; write for example nats://127.0.0.1:4222")]
    Url {
        /// The URL, secrets hidden.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The servers are not there.
    #[error("cannot connect to nats at {url}: {cause}; start it, or correct `nats.url`")]
    Connect {
        /// The servers, secrets hidden.
        url: String,
        /// What happened.
        cause: async_nats::ConnectError,
    },
    /// The servers do not take our credentials.
    #[error(
        "nats at {url} refuses the credentials: {cause}; correct those in `nats.url`, `nats.creds_file` or `nats.nkey_file`"
    )]
    Refused {
        /// The servers, secrets hidden.
        url: String,
        /// What happened.
        cause: async_nats::ConnectError,
    },
    /// We do not trust the servers' certificate, or they do not trust ours.
    #[error(
        "no trusted connection to nats at {url}: {cause}; correct `nats.tls_ca`, `nats.tls_cert` and `nats.tls_key`"
    )]
    Tls {
        /// The servers, secrets hidden.
        url: String,
        /// What happened.
        cause: async_nats::ConnectError,
    },
    /// There was no connection yet.
    #[error("not connected to nats yet")]
    Away,
    /// The server lacks what we need.
    #[error("the nats server is {found}; 2.10.25 or newer is needed, 2.14 recommended")]
    Version {
        /// What it is.
        found: String,
    },
    /// Nobody answers requests to JetStream.
    #[error(
        "the nats server runs without JetStream, or this login has none; switch it on (deploy/nats/nats.conf)"
    )]
    NoJetStream,
    /// Something that `maitred init` makes is not there.
    #[error("{what} is missing on the server; run `maitred init`")]
    Missing {
        /// What.
        what: String,
    },
    /// Something is not as the settings say. It is never corrected by the way: others may rely on it.
    #[error("the server differs from the settings; correct these, or run `maitred init`:\n  {}", lines(.0))]
    Drift(Vec<Difference>),
    /// Something cannot become what the settings say.
    #[error(
        "the server cannot change this in what exists; correct the settings, or delete the {0} with all that it \
         holds and run `maitred init` again:\n  {found}",
        found = lines(.1)
    )]
    Fixed(Object, Vec<Difference>),
    /// Settings were written, and are not there.
    #[error("the server took these settings and did not keep them; a newer server is needed:\n  {}", lines(.0))]
    Ignored(Vec<Difference>),
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

    /// Whether it may go away while one waits: the servers' state, not our settings.
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Refused { .. }
                | Self::Tls { .. }
                | Self::Away
                | Self::Request { .. }
        )
    }
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join("\n  ")
}

impl Broker {
    /// Sends what is still to be sent, as the last thing before the end.
    pub async fn flush(&self) {
        if let Err(error) = self.client.flush().await {
            tracing::debug!(%error, "not everything was sent");
        }
    }

    /// Whether there is a connection, and since when.
    pub fn link(&self) -> tokio::sync::watch::Receiver<Link> {
        self.link.clone()
    }

    /// Bytes of one message that the server takes; before the first connection, the usual number.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }
}
