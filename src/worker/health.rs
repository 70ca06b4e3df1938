//! `/livez`, `/readyz`, `/status` and `/metrics` over HTTP.
//!
//! Live means: do not restart me. Ready means: I take jobs. A worker whose servers are away is live and not ready.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use tokio::net::TcpListener;

use super::vitals::SharedVitals;
use crate::telemetry::Telemetry;

/// The text format of Prometheus.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens; says where. The server runs until the runtime ends: it must tell of a drain to its very end.
pub async fn serve(
    listen: SocketAddr,
    vitals: SharedVitals,
    telemetry: Telemetry,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let at = listener.local_addr()?;
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(vitals)
        .merge(Router::new().route("/metrics", get(metrics)).with_state(telemetry));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health is not served any more");
        }
    });
    Ok(at)
}

async fn live(State(vitals): State<SharedVitals>) -> impl IntoResponse {
    if vitals.read().is_alive() {
        (StatusCode::OK, "live\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the engine is stuck: restart me\n")
    }
}

async fn ready(State(vitals): State<SharedVitals>) -> impl IntoResponse {
    let obstacles = vitals.read().obstacles();
    if obstacles.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n")
    }
}

/// Gathered off the threads that renew leases: it takes a moment.
async fn metrics(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let plain = |code, text: &str| (code, [(header::CONTENT_TYPE, PROMETHEUS)], text.to_owned());
    match tokio::task::spawn_blocking(move || telemetry.render()).await {
        Ok(Some(Ok(text))) => (StatusCode::OK, [(header::CONTENT_TYPE, PROMETHEUS)], text),
        Ok(None) => plain(StatusCode::NOT_FOUND, "telemetry.enabled is false\n"),
        Ok(Some(Err(error))) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

async fn status(State(vitals): State<SharedVitals>) -> impl IntoResponse {
    Json(vitals.read())
}
