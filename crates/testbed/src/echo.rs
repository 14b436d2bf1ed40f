//! An upstream that answers with the request it got.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::Headers;
use crate::wire::{self, Wire};

/// A running echo upstream; dropping it closes its connections.
#[derive(Debug)]
pub struct Echo {
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Starts an HTTP/1.1 upstream on a free port of loopback.
///
/// It answers each request with status 200, `x-upstream: <label>` and, as the body, the bytes of the request's head as
/// they arrived. [`Seen::from_body`] reads them.
///
/// # Errors
///
/// If no port can be bound.
pub async fn serve(label: &str) -> Result<Echo> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    let label = label.to_owned();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream, label.clone()));
            // Frees the connections that have ended.
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(Echo { addr, accepting })
}

impl Echo {
    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A request as the upstream saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// All header lines, in order, with the white space around each value removed.
    pub headers: Headers,
}

impl Seen {
    /// Reads the body of an echo's response.
    ///
    /// # Errors
    ///
    /// If the body does not come from an echo.
    pub fn from_body(body: &[u8]) -> Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; wire::MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(body).context("expected the head of a request")?.is_partial() {
            bail!("the head of a request is incomplete");
        }
        Ok(Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().to_owned(),
            headers: wire::owned(request.headers),
        })
    }

    /// The values of all lines of that name, in order.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| &value[..])
            .collect()
    }
}

async fn answer(stream: TcpStream, label: String) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(head) = wire.head().await? {
        let seen = Seen::from_body(&head)?;
        if let Some(len) = wire::content_length(&seen.headers)? {
            wire.take(len).await?;
        } else if wire::is_chunked(&seen.headers) {
            wire.take_chunked().await?;
        }
        let mut response =
            format!("HTTP/1.1 200 OK\r\nx-upstream: {label}\r\ncontent-length: {}\r\n\r\n", head.len()).into_bytes();
        response.extend(head);
        wire.write(&response).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Http1;

    #[tokio::test]
    async fn every_byte_and_line_comes_back() {
        let echo = serve("it").await.unwrap();
        let mut client = Http1::connect(echo.addr()).await.unwrap();
        for path in ["/first", "/kept?alive"] {
            let lines: Headers = vec![
                (b"X-Mixed".to_vec(), b"\xff\x80 \xc3(".to_vec()),
                (b"x-mixed".to_vec(), b"again".to_vec()),
                (b"x-empty".to_vec(), b"".to_vec()),
            ];
            let response = client.get("host.example", path, &lines).await.unwrap();
            assert_eq!((response.status, response.header("x-upstream")), (200, Some(&b"it"[..])));
            let seen = Seen::from_body(&response.body).unwrap();
            assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", path));
            assert_eq!(seen.headers[0], (b"host".to_vec(), b"host.example".to_vec()));
            assert_eq!(seen.headers[1..], lines);
        }
    }

    #[tokio::test]
    async fn a_body_is_skipped() {
        let echo = serve("it").await.unwrap();
        let mut wire = Wire::new(TcpStream::connect(echo.addr()).await.unwrap()).unwrap();
        wire.write(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET /GET /next HTTP/1.1\r\n\r\n").await.unwrap();
        for expected in ["/", "/next"] {
            let head = wire.head().await.unwrap().unwrap();
            let length = String::from_utf8(head).unwrap();
            let length = length.split("content-length: ").nth(1).unwrap().trim().parse().unwrap();
            assert_eq!(Seen::from_body(&wire.take(length).await.unwrap()).unwrap().path, expected);
        }
    }
}
