//! `/healthz` (the process answers), `/readyz` (it leads or stands by to lead, and the webhook can answer), and `/metrics`.

use super::metrics::{CONTENT_TYPE, Metrics};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the health server tells.
#[derive(Debug, Clone)]
pub(super) struct Health {
    /// How many of its parts are not ready yet.
    starting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Of an operator with so many parts.
    pub(super) fn of(parts: usize) -> Self {
        Self { starting: Arc::new(AtomicUsize::new(parts)), metrics: Arc::default() }
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// One of its parts is ready.
    pub(super) fn ready(&self) {
        self.starting.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn serve(listener: TcpListener, health: Health, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(error = &error as &dyn std::error::Error, "the health server ended");
    }
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.starting.load(Ordering::Relaxed) == 0 {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    match health.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
