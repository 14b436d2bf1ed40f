//! Health, readiness and metrics over HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{metrics::Metrics, watch::Shared};

/// When the loop was last alive.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    start: Instant,
    last: AtomicU64,
}

impl Heartbeat {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }

    pub(crate) fn beat(&self) {
        self.last.store(self.start.elapsed().as_secs(), Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        self.start.elapsed().as_secs().saturating_sub(self.last.load(Ordering::Relaxed)) < STUCK_SECONDS
    }
}

#[derive(Clone)]
struct Status {
    shared: Arc<Shared>,
    heartbeat: Arc<Heartbeat>,
    metrics: Metrics,
}

/// Serves until it is dropped.
pub(crate) async fn serve(
    addr: SocketAddr,
    shared: Arc<Shared>,
    heartbeat: Arc<Heartbeat>,
    metrics: Metrics,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))?;
    let router = Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Status { shared, heartbeat, metrics });
    Ok(tokio::spawn(async move { axum::serve(listener, router).await }))
}

async fn healthy(State(status): State<Status>) -> impl IntoResponse {
    if status.heartbeat.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck\n")
    }
}

async fn ready(State(status): State<Status>) -> impl IntoResponse {
    if status.shared.is_complete() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the objects of the cluster have not all been read\n")
    }
}

async fn metrics_text(State(status): State<Status>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], status.metrics.text())
}

/// Longer than any write may take: the client gives up on an answer before.
const STUCK_SECONDS: u64 = 300;
