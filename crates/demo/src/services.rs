//! The services: small HTTP servers that know nothing about routing. They forward `Authorization`, and `baggage` as OpenTelemetry
//! does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// One version of one service. Dropping it stops the server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Another service that each request calls.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) host: String,
    /// The outbound listener of the caller's sidecar, which calls go through as in a real mesh. Set when the sidecar runs.
    pub(crate) sidecar: Arc<OnceLock<SocketAddr>>,
}

impl Server {
    /// Starts a server on a free port. It answers with its service, its version, and the answer of the service that it calls.
    pub(crate) async fn start(service: &'static str, version: &'static str, call: Option<Call>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, service, version, call.clone()));
            }
        });
        Ok(Self { addr, accepting })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, service: &'static str, version: &'static str, call: Option<Call>) {
    let answer = service_fn(|request| {
        let call = call.clone();
        async move {
            let mut said = json!({"service": service, "version": version});
            if let Some(call) = call {
                said["called"] =
                    call.send(&request).await.unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
            }
            anyhow::Ok(Response::new(Full::new(Bytes::from(said.to_string() + "\n"))))
        }
    });
    // Envoy reports broken connections.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
}

impl Call {
    async fn send(&self, request: &Request<Incoming>) -> Result<Value> {
        let sidecar = *self.sidecar.get().context("the sidecar does not run yet")?;
        let is_forwarded = |name: &str| FORWARDED.contains(&name);
        let forwarded = request.headers().iter().filter(|(name, _)| is_forwarded(name.as_str()));
        let lines: Vec<_> = forwarded.map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())).collect();
        let response = Http1::connect(sidecar).await?.get(&self.host, "/", &lines).await?;
        serde_json::from_slice(&response.body)
            .with_context(|| format!("status {}: {}", response.status, response.text()))
    }
}

const FORWARDED: [&str; 2] = ["authorization", "baggage"];
