//! Opening the connection and watching it.

use std::time::Instant;

use async_nats::jetstream;
use tokio::sync::watch;

use super::{Broker, BrokerError};
use crate::config::NatsSettings;

/// The connection as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub connected: bool,
    /// Since when it is so.
    pub since: Instant,
}

impl Broker {
    /// Connects as `name`.
    pub async fn connect(settings: &NatsSettings, name: &str) -> Result<Self, BrokerError> {
        let url = settings.url.read("nats.url_file")?;
        let (told, link) = watch::channel(Link { connected: true, since: Instant::now() });
        let options = async_nats::ConnectOptions::new()
            .name(name)
            .ping_interval(settings.ping_interval)
            .event_callback(move |event| {
                let told = told.clone();
                async move {
                    let connected = match event {
                        async_nats::Event::Connected => true,
                        async_nats::Event::Disconnected => false,
                        _ => return,
                    };
                    told.send_replace(Link { connected, since: Instant::now() });
                }
            });
        let client = options
            .connect(url.expose())
            .await
            .map_err(|cause| BrokerError::Connect { url: url.to_string(), cause })?;
        let jetstream = jetstream::new(client.clone());
        Ok(Self { client, jetstream, link })
    }
}
