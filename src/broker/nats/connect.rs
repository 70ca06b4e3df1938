//! Opening the connection.
//!
//! Once it stands it comes back by itself, for ever, and [`Link`](super::Link) tells how it is. Two ways to open it:
//! [`Broker::connect`] for a command that a person waits for, [`Broker::connect_patiently`] for a worker, which may be
//! started before its servers.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::ContextBuilder;
use async_nats::{AuthError, Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, rustls};

use super::identity::{self, Identity};
use super::link::Listener;
use super::{Broker, BrokerError};
use crate::config::{NatsSettings, Secret, SecretError};

/// Oldest server that works: earlier ones lose streams when they crash (2.10.20 to 2.10.22), or ignore settings that we
/// rely on without a word.
const OLDEST: (u64, u64, u64) = (2, 10, 25);

/// First bound on the wait between attempts to connect; it doubles.
const DELAY: Duration = Duration::from_millis(50);
/// Last bound on it.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// A request to JetStream that is not answered by then has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// A publish that is not confirmed by then frees its place among those in flight.
const ACK_LIMIT: Duration = Duration::from_secs(10);
/// Publishes that wait for their confirmation. More of them wait for a place, as the client library does by default
/// (its documentation says otherwise), but with a bound of thousands.
const MAX_IN_FLIGHT: usize = 256;
/// A server that does not answer by then is not well.
const ROUND_TRIP_LIMIT: Duration = Duration::from_secs(2);

/// Makes TLS of those who do not choose (an HTTP client) the same as here. Done twice, the second time does nothing.
pub fn provide_tls() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Broker {
    /// Connects as `name`, or says at once why not.
    pub async fn connect(settings: &NatsSettings, name: &str) -> Result<Self, BrokerError> {
        Self::open(settings, name, false).await
    }

    /// Connects as `name` when the servers are there: the caller learns of it by [`Broker::link`]. Fails only for what
    /// waiting cannot mend: settings, and files that they name.
    pub async fn connect_patiently(settings: &NatsSettings, name: &str) -> Result<Self, BrokerError> {
        match Self::open(settings, name, false).await {
            // Said here, because attempts in the background only tell the kind of error.
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "no connection to nats yet; trying on");
                Self::open(settings, name, true).await
            }
            opened => opened,
        }
    }

    async fn open(settings: &NatsSettings, name: &str, patiently: bool) -> Result<Self, BrokerError> {
        let (listener, link) = Listener::new(Instant::now());
        let listener = Arc::new(listener);
        let heard = Arc::clone(&listener);
        let hear = move |event| heard.hear(&event, Instant::now());
        let client = client(settings, name, patiently, hear).await?;
        if !patiently {
            // The event is on its way; who asks for the link now must not be told that there is none.
            listener.hear(&Event::Connected, Instant::now());
        }
        let jetstream = ContextBuilder::new()
            .timeout(REQUEST_LIMIT)
            .ack_timeout(ACK_LIMIT)
            .max_ack_inflight(MAX_IN_FLIGHT)
            .build(client.clone());
        Ok(Self { client, jetstream, link })
    }

    /// Refuses a server that lacks what we need.
    pub fn require_version(&self) -> Result<(), BrokerError> {
        let found = self.client.try_server_info().ok_or(BrokerError::Away)?.version;
        if is_supported(&found) { Ok(()) } else { Err(BrokerError::Version { found }) }
    }

    /// Asks JetStream how it is: how long the answer took.
    pub async fn round_trip(&self) -> Result<Duration, BrokerError> {
        const WHAT: &str = "asking jetstream how it is";
        let start = Instant::now();
        match tokio::time::timeout(ROUND_TRIP_LIMIT, self.jetstream.query_account()).await {
            Ok(Ok(_)) => Ok(start.elapsed()),
            Ok(Err(cause)) => Err(BrokerError::Request { what: WHAT, cause: Box::new(cause) }),
            Err(late) => Err(BrokerError::Request { what: WHAT, cause: Box::new(late) }),
        }
    }
}

/// A connection as `name`; `hear` is told all that happens to it.
pub(super) async fn client(
    settings: &NatsSettings,
    name: &str,
    patiently: bool,
    hear: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, BrokerError> {
    let identity::Address { servers, inbox } = identity::address(settings)?;
    let identity = Arc::new(Identity::new(settings));
    identity.answer(&[])?;
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let identity = Arc::clone(&identity);
        async move { identity.answer(&nonce).map_err(AuthError::new) }
    })
    .name(name)
    .custom_inbox_prefix(inbox)
    .ping_interval(settings.ping_interval)
    .max_reconnects(None)
    .reconnect_delay_callback(|attempt| delay(attempt, fastrand::f64()))
    .event_callback(move |event| {
        hear(event);
        std::future::ready(())
    });
    let options = with_tls(options, settings)?;
    let options = if patiently { options.retry_on_initial_connect() } else { options };
    options.connect(servers).await.map_err(|cause| refused(settings, cause))
}

/// With a certificate authority or a certificate of our own, nothing is said in the clear.
fn with_tls(mut options: ConnectOptions, settings: &NatsSettings) -> Result<ConnectOptions, BrokerError> {
    if let Some(authority) = &settings.tls_ca {
        readable("nats.tls_ca", authority)?;
        options = options.add_root_certificates(authority.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &settings.tls_identity {
        readable("nats.tls_cert", certificate)?;
        readable("nats.tls_key", key)?;
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}

/// The client library opens these files itself, at each connect, but does not say which one it could not.
fn readable(key: &'static str, path: &Path) -> Result<(), SecretError> {
    let opened = std::fs::File::open(path);
    opened.map(drop).map_err(|cause| SecretError::Read { key, path: path.to_owned(), cause })
}

fn refused(settings: &NatsSettings, cause: ConnectError) -> BrokerError {
    let url = match &settings.url {
        Secret::Value(url) => url.to_string(),
        Secret::File(path) => path.display().to_string(),
    };
    match cause.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            BrokerError::Refused { url, cause }
        }
        _ if concerns_tls(&cause) => BrokerError::Tls { url, cause },
        _ => BrokerError::Connect { url, cause },
    }
}

/// What the TLS layer says comes wrapped in errors of reading and writing.
fn concerns_tls(error: &ConnectError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if inner.or_else(|| error.downcast_ref()).is_some() {
            return true;
        }
        cause = error.source();
    }
    error.kind() == ConnectErrorKind::Tls
}

/// How long to wait before an attempt to connect: a random `share` of a bound that doubles, so that clients that lost
/// the same server do not all come back in the same moment.
fn delay(attempt: usize, share: f64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    DELAY.saturating_mul(1 << doublings).min(MAX_DELAY).mul_f64(share.clamp(0.0, 1.0))
}

/// A version is three numbers; what follows them (`-beta.1`) is ignored.
fn is_supported(version: &str) -> bool {
    let numbers = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    matches!((next(), next(), next()), (Some(major), Some(minor), Some(patch)) if (major, minor, patch) >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_from_2_10_25_on_are_taken_and_older_ones_refused() {
        for version in
            ["2.10.25", "2.10.29", "2.11.0", "2.14.6", "2.15.1", "3.0.0", "v2.12.0", "2.14.0-beta.2"]
        {
            assert!(is_supported(version), "{version}");
        }
        for version in
            ["2.9.10", "2.10.24", "2.10.20", "2.2.99", "1.99.99", "0.0.0", "", "2", "2.14", "dev", "2.x.1"]
        {
            assert!(!is_supported(version), "{version}");
        }
    }

    #[test]
    fn an_old_server_is_named_with_what_is_needed() {
        let told = BrokerError::Version { found: "2.9.10".to_owned() }.to_string();
        assert!(told.contains("2.9.10") && told.contains("2.10.25"), "{told}");
    }

    proptest! {
        #[test]
        fn the_wait_before_an_attempt_grows_and_is_bounded(attempt in any::<usize>(), share in 0.0f64..=1.0) {
            let most = delay(attempt, 1.0);
            prop_assert!(delay(attempt, share) <= most && most <= MAX_DELAY);
            prop_assert!(most >= delay(attempt.saturating_sub(1), 1.0));
        }
    }
}
