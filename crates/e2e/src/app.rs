//! The services of the mesh. They know nothing about routing; they forward `Authorization`, or what OpenTelemetry's SDKs forward.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, HeaderMap},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::tungstenite::Message;

use crate::Propagator;

/// One version of one service. Dropping it stops the server.
#[derive(Debug)]
pub struct App {
    serving: JoinHandle<()>,
}

/// Another service that each request calls.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its host.
    pub host: String,
    /// The outbound listener of the caller's sidecar.
    pub sidecar: SocketAddr,
    /// What the caller forwards. The calls of several services can share it.
    pub forwarding: Forwarding,
}

/// What services forward of the requests that they receive. Its clones change together.
#[derive(Clone, Debug, Default)]
pub struct Forwarding(Arc<Mutex<Option<Arc<Propagator>>>>);

impl Forwarding {
    /// From now on, only what this SDK forwards; none: `Authorization`.
    pub fn set(&self, sdk: Option<Arc<Propagator>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sdk;
    }

    async fn lines(&self, received: &HeaderMap) -> Result<Vec<(String, String)>> {
        let sdk = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match sdk {
            Some(sdk) => sdk.forward(received).await,
            None => Ok(lines(received).into_iter().filter(|(name, _)| name == AUTHORIZATION.as_str()).collect()),
        }
    }
}

impl App {
    /// An HTTP/1.1 and HTTP/2 server that answers with a JSON object: its `service` and `version`, the `path` and `headers`
    /// that it received, and under `called` the headers that it forwarded (`sent`), the `status` and the body (`said`) of the service
    /// that it calls.
    ///
    /// `/slow` takes 2 s. `/flaky` fails with 503 on the first request with each query.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn http(addr: SocketAddr, service: &str, version: &str, call: Option<Call>) -> Result<Self> {
        let seen_before = Arc::new(Mutex::new(BTreeSet::new()));
        let app = Arc::new(Http { service: service.to_owned(), version: version.to_owned(), call, seen_before });
        serve(addr, move |stream| {
            let app = Arc::clone(&app);
            async move {
                let answer = service_fn(move |request| {
                    let app = Arc::clone(&app);
                    async move { app.answer(request).await }
                });
                let server = auto::Builder::new(TokioExecutor::new());
                // Envoy reports broken connections.
                drop(server.serve_connection(TokioIo::new(stream), answer).await);
            }
        })
        .await
    }

    /// An HTTP server that answers every request with the same JSON.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn json(addr: SocketAddr, body: Value) -> Result<Self> {
        let body = Bytes::from(body.to_string());
        Self::answering(addr, move |_| std::future::ready(Ok(Response::new(Full::new(body.clone()))))).await
    }

    /// An HTTP server that answers every request with what the bytes are at that time.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn bytes(addr: SocketAddr, bytes: Arc<Mutex<Vec<u8>>>) -> Result<Self> {
        Self::answering(addr, move |_| {
            let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            std::future::ready(Ok(Response::new(Full::from(bytes))))
        })
        .await
    }

    /// An HTTP server that answers with a function.
    pub(crate) async fn answering<F>(
        addr: SocketAddr,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Response<Full<Bytes>>>> + Send + 'static,
    {
        serve(addr, move |stream| {
            let answer = answer.clone();
            async move {
                drop(
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await,
                );
            }
        })
        .await
    }

    /// A gRPC server: the health service, which reports only the name of the version as serving.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn grpc(addr: SocketAddr, version: &str) -> Result<Self> {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status(version, tonic_health::ServingStatus::Serving).await;
        let incoming = tonic::transport::server::TcpIncoming::bind(addr)?;
        let server = tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming);
        Ok(Self { serving: tokio::spawn(async { drop(server.await) }) })
    }

    /// A WebSocket server that answers each message with its version, a space, and the message.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn websocket(addr: SocketAddr, version: &str) -> Result<Self> {
        let version = version.to_owned();
        serve(addr, move |stream| {
            let version = version.clone();
            async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(Message::Text(text))) = socket.next().await {
                    if socket.send(Message::text(format!("{version} {text}"))).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve<F>(addr: SocketAddr, connection: impl Fn(TcpStream) -> F + Send + 'static) -> Result<App>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))?;
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream));
            // Frees the connections that have ended.
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(App { serving })
}

struct Http {
    service: String,
    version: String,
    call: Option<Call>,
    seen_before: Arc<Mutex<BTreeSet<String>>>,
}

impl Http {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let mut status = StatusCode::OK;
        if path.starts_with("/slow") {
            tokio::time::sleep(SLOW).await;
        }
        if path.starts_with("/flaky")
            && self.seen_before.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone())
        {
            status = StatusCode::SERVICE_UNAVAILABLE;
        }
        let mut said = json!({
            "service": self.service,
            "version": self.version,
            "path": path,
            "headers": lines(request.headers()),
        });
        if let Some(call) = &self.call {
            said["called"] = call
                .send(&path, request.headers())
                .await
                .unwrap_or_else(|error| json!({"status": 0, "said": format!("{error:#}")}));
        }
        let mut response = Response::new(Full::new(Bytes::from(said.to_string())));
        *response.status_mut() = status;
        Ok(response)
    }
}

impl Call {
    async fn send(&self, path: &str, headers: &HeaderMap) -> Result<Value> {
        let sent = self.forwarding.lines(headers).await?;
        let lines: Vec<_> = sent.iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect();
        let response = Http1::connect(self.sidecar).await?.get(&self.host, path, &lines).await?;
        let said = serde_json::from_slice(&response.body).unwrap_or_else(|_| Value::from(response.text()));
        Ok(json!({"sent": sent, "status": response.status, "said": said}))
    }
}

/// Names and values, in order. Bytes that are not UTF-8 are replaced.
fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

const SLOW: Duration = Duration::from_secs(2);
