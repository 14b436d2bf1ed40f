//! Clients that send header lines byte for byte. Each keeps one connection; reconnecting is up to the caller.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::Headers;
use crate::wire::{self, Wire};

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All header lines, in order.
    pub headers: Headers,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of that name, compared case-insensitively (ASCII).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        wire::value(&self.headers, name)
    }

    /// The body as text. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An HTTP/1.1 connection that writes exactly what it is given.
#[derive(Debug)]
pub struct Http1 {
    wire: Wire,
}

impl Http1 {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        Ok(Self { wire: Wire::new(connect(addr).await?)? })
    }

    /// Sends `GET path` with `host: authority` and then the given lines, each as `name: value`, byte for byte.
    ///
    /// # Errors
    ///
    /// If no complete response arrives in time. The connection is unusable then.
    pub async fn get(&mut self, authority: &str, path: &str, headers: &[(Vec<u8>, Vec<u8>)]) -> Result<Response> {
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
        for (name, value) in headers {
            request.extend_from_slice(name);
            request.extend_from_slice(b": ");
            request.extend_from_slice(value);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        self.write(&request).await?;
        self.read().await
    }

    /// Sends bytes as they are: one request, or several at once, which are answered in order.
    ///
    /// # Errors
    ///
    /// If the bytes are not accepted in time. The connection is unusable then.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        in_time(self.wire.write(bytes)).await
    }

    /// Reads the next response.
    ///
    /// # Errors
    ///
    /// If no complete response arrives in time. The connection is unusable then.
    pub async fn read(&mut self) -> Result<Response> {
        in_time(self.response()).await
    }

    async fn response(&mut self) -> Result<Response> {
        let head = self.wire.head().await?.context("the connection was closed without a response")?;
        let (status, headers) = {
            let mut headers = [httparse::EMPTY_HEADER; wire::MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            response.parse(&head)?;
            (response.code.context("no status code")?, wire::owned(response.headers))
        };
        let body = if status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if wire::is_chunked(&headers) {
            self.wire.take_chunked().await?
        } else if let Some(len) = wire::content_length(&headers)? {
            self.wire.take(len).await?
        } else {
            self.wire.take_rest().await?
        };
        Ok(Response { status, headers, body })
    }
}

/// An HTTP/2 connection with prior knowledge (no TLS, no upgrade).
#[derive(Debug)]
pub struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Http2 {
    /// Connects and completes the handshake.
    ///
    /// # Errors
    ///
    /// If the connection or the handshake fails.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = connect(addr).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = in_time(async { Ok(h2::client::handshake(stream).await?) }).await?;
        // Errors of the connection surface in its requests.
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    /// Sends `GET path` with the given lines: names in lower case, as HTTP/2 requires, and values byte for byte. Lines of
    /// one name stay in order; the order of different names may change. Calls can run concurrently, because each has a
    /// stream of its own.
    ///
    /// # Errors
    ///
    /// If HTTP/2 cannot express a line, or no complete response arrives in time.
    pub async fn get(&self, authority: &str, path: &str, headers: &[(Vec<u8>, Vec<u8>)]) -> Result<Response> {
        let mut request = Request::get(format!("http://{authority}{path}")).body(())?;
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
        }
        in_time(async {
            let mut requests = self.requests.clone().ready().await?;
            let (response, _) = requests.send_request(request, true)?;
            let (head, mut stream) = response.await?.into_parts();
            let mut body = Vec::new();
            while let Some(data) = stream.data().await {
                let data = data?;
                stream.flow_control().release_capacity(data.len())?;
                body.extend_from_slice(&data);
            }
            let headers = head.headers.iter().map(|(n, v)| (n.as_str().into(), v.as_bytes().to_vec())).collect();
            Ok(Response { status: head.status.as_u16(), headers, body })
        })
        .await
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    in_time(async { TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}")) }).await
}

/// Limits the time of `work`, because a test that hangs reports nothing.
async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => bail!("no response within {TIMEOUT:?}"),
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);
