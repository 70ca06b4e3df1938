//! Looks a server over, for `maitred doctor`. Changes nothing: see [`checkup`](crate::broker::checkup).

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::context::AccountErrorKind;
use async_nats::{Event, HeaderMap, ServerError, header};
use bytes::Bytes;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::payload::failed;
use super::topology::is_off;
use super::{Broker, BrokerError, connect};
use crate::broker::checkup::{LAST_WORD, NOWHERE, Say, words};
use crate::broker::names;
use crate::broker::topology::Topology;
use crate::checkup::{Account, JetStream, NatsFacts, Obstacle, Right, Skew};
use crate::config::NatsSettings;

/// How we call ourselves to the server.
const NAME: &str = "maitred doctor";
/// Events that wait to be read: more than words are said.
const EVENTS: usize = 256;
/// Round trips of which the fastest counts.
const ROUND_TRIPS: usize = 3;
/// How long the server may take to hear all words; it takes milliseconds.
const HEARING: Duration = Duration::from_secs(3);

/// Looks the server over. Three connections at most, one after the other; nothing stays.
pub async fn check_up(settings: &NatsSettings) -> Result<NatsFacts, Obstacle> {
    let broker = Broker::connect(settings, NAME).await.map_err(|error| obstacle(&error))?;
    let info = broker.client.try_server_info().ok_or_else(|| obstacle(&BrokerError::Away))?;
    // First: what is forbidden is not answered, and waiting for each answer would take minutes.
    let rights = Box::pin(rights(settings)).await;
    let may = |part: &str| {
        rights.as_ref().is_ok_and(|rights| rights.iter().all(|r| r.allowed || !r.name.contains(part)))
    };
    let jetstream = if may(LAST_WORD) {
        broker.account().await
    } else {
        JetStream::Unknown("this login may not ask".to_owned())
    };
    let is_off = jetstream == JetStream::Off;
    let plan = if is_off || !may(".INFO.") {
        Err("this login may not look at streams and consumers".to_owned())
    } else {
        broker.plan(&Topology::desired(settings)).await.map_err(|error| error.to_string())
    };
    let asks = matches!(jetstream, JetStream::On(_));
    Ok(NatsFacts {
        address: format!("{}:{}", info.host, info.port),
        is_supported: broker.require_version().is_ok(),
        version: info.version,
        max_payload: info.max_payload as u64,
        round_trip: if asks { fastest_round_trip(&broker).await } else { None },
        skew: if !is_off && may(".INFO.") { broker.skew().await } else { None },
        rights: rights.map_err(|error| error.to_string()),
        plan,
        jetstream,
    })
}

/// Of a few, as with Redis: one alone may have met a busy moment of this machine, and that is not the server's.
async fn fastest_round_trip(broker: &Broker) -> Option<Duration> {
    let mut fastest: Option<Duration> = None;
    for _ in 0..ROUND_TRIPS {
        let took = broker.round_trip().await.ok();
        fastest = [fastest, took].into_iter().flatten().min();
    }
    fastest
}

/// In the terms of whoever has to do something about it.
fn obstacle(error: &BrokerError) -> Obstacle {
    let told = error.to_string();
    match error {
        BrokerError::Connect { .. } | BrokerError::Away | BrokerError::Request { .. } => {
            Obstacle::Unreachable(told)
        }
        BrokerError::Refused { .. } => Obstacle::Refused(told),
        BrokerError::Tls { .. } => Obstacle::Untrusted(told),
        _ => Obstacle::Settings(told),
    }
}

impl Broker {
    async fn account(&self) -> JetStream {
        let some = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
        match self.jetstream.query_account().await {
            Ok(found) => JetStream::On(Account {
                storage: found.storage,
                max_storage: some(found.limits.max_storage),
                streams: found.streams as u64,
                max_streams: some(found.limits.max_streams),
                max_consumers: some(found.limits.max_consumers),
            }),
            Err(error) => match error.kind() {
                AccountErrorKind::JetStreamUnavailable => JetStream::Off,
                AccountErrorKind::JetStream(told) if is_off(&told) => JetStream::Off,
                _ => JetStream::Unknown(error.to_string()),
            },
        }
    }

    /// The server's clock, which it tells with what it says of a stream.
    async fn skew(&self) -> Option<Skew> {
        #[derive(Deserialize)]
        struct Told {
            #[serde(with = "time::serde::rfc3339")]
            ts: OffsetDateTime,
        }
        let asked = OffsetDateTime::now_utc();
        let told: Told =
            self.jetstream.request(format!("STREAM.INFO.{}", names::JOBS_STREAM), &()).await.ok()?;
        Some(Skew::of(told.ts, asked, OffsetDateTime::now_utc()))
    }
}

/// Says all that a worker says, over a connection of its own, and notes what of it the server forbids.
///
/// The server handles what a connection says in its order, and a refusal is on its way before the answer to what was
/// said later. So when the last word is answered, or refused, all refusals are here; the end of the connection, which
/// the client library tells in the same queue, comes behind them.
async fn rights(settings: &NatsSettings) -> Result<Vec<Right>, BrokerError> {
    let (heard, mut events) = mpsc::channel(EVENTS);
    let hear = move |event| drop(heard.try_send(event));
    let client = connect::client(settings, NAME, false, hear).await?;
    let words = words();
    for word in &words {
        let subject = word.subject.clone();
        let said = match &word.say {
            Say::Ask(body) => client.publish(subject, Bytes::from(body.clone())).await,
            Say::Store => client.publish_with_headers(subject, nowhere(), Bytes::new()).await,
            Say::Hear => {
                // Dropped at once, which ends it.
                client.subscribe(subject).await.map(drop).map_err(failed("cannot subscribe"))?;
                Ok(())
            }
        };
        said.map_err(failed("cannot publish"))?;
    }
    let mut refused = BTreeSet::new();
    let hearing = async {
        let answer = client.request(LAST_WORD, Bytes::new());
        tokio::pin!(answer);
        loop {
            tokio::select! {
                _ = &mut answer => return,
                event = events.recv() => match event {
                    None => return,
                    Some(event) => {
                        let subject = refusal(&event);
                        let is_last = subject.as_deref() == Some(LAST_WORD);
                        refused.extend(subject);
                        if is_last {
                            return;
                        }
                    }
                },
            }
        }
    };
    let in_time = timeout(HEARING, hearing).await;
    let closing = async {
        client.drain().await.ok()?;
        loop {
            let event = events.recv().await?;
            refused.extend(refusal(&event));
            if matches!(event, Event::Closed) {
                return Some(());
            }
        }
    };
    let closed = timeout(HEARING, closing).await;
    in_time.and(closed).map_err(failed("the server does not say what this login may do"))?;
    let last = (LAST_WORD.to_owned(), "look at JetStream");
    let said = words.into_iter().map(|word| (word.subject, word.what)).chain([last]);
    let right = |(name, what): (String, &str)| Right {
        what: what.to_owned(),
        allowed: !refused.contains(&name),
        name,
    };
    Ok(said.map(right).collect())
}

/// The subject that the server forbids, if that is what it says.
fn refusal(event: &Event) -> Option<String> {
    let Event::ServerError(ServerError::Other(told)) = event else { return None };
    let (_, rest) = told
        .split_once("Permissions Violation for ")
        .or_else(|| told.split_once("permissions violation for "))?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// So that no stream takes it.
fn nowhere() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, NOWHERE);
    headers
}
