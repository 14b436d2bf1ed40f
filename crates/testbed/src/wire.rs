//! HTTP/1.1 messages byte for byte. An HTTP library would normalize what the tests check.

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Headers;

/// A connection, and the bytes that were read beyond the current message.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// The head of the next message, with the empty line that ends it. `None` if the peer closed the connection before it.
    pub(crate) async fn head(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                return Ok(Some(self.ahead.drain(..end + 4).collect()));
            }
            if self.ahead.len() > MAX_HEAD {
                bail!("expected a message head of at most {MAX_HEAD} bytes");
            }
            if !self.fill().await? {
                if self.ahead.is_empty() {
                    return Ok(None);
                }
                bail!("the connection was closed within a message head");
            }
        }
    }

    /// The next `len` bytes.
    pub(crate) async fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        while self.ahead.len() < len {
            if !self.fill().await? {
                bail!("the connection was closed within a body");
            }
        }
        Ok(self.ahead.drain(..len).collect())
    }

    /// A chunked body. Trailers are dropped.
    pub(crate) async fn take_chunked(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&line) else {
                bail!("expected a chunk size, found {:?}", String::from_utf8_lossy(&line));
            };
            if size == 0 {
                while self.line().await? != b"\r\n" {}
                return Ok(body);
            }
            body.extend(self.take(usize::try_from(size)?).await?);
            if self.line().await? != b"\r\n" {
                bail!("a chunk is longer than its size");
            }
        }
    }

    /// All bytes until the peer closes the connection.
    pub(crate) async fn take_rest(&mut self) -> Result<Vec<u8>> {
        while self.fill().await? {}
        Ok(std::mem::take(&mut self.ahead))
    }

    async fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                return Ok(self.ahead.drain(..end + 2).collect());
            }
            if !self.fill().await? {
                bail!("the connection was closed within a body");
            }
        }
    }

    async fn fill(&mut self) -> Result<bool> {
        Ok(self.stream.read_buf(&mut self.ahead).await? > 0)
    }
}

pub(crate) fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    headers.iter().map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec())).collect()
}

/// The first value of that name, compared case-insensitively (ASCII).
pub(crate) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| &value[..])
}

pub(crate) fn content_length(headers: &Headers) -> Result<Option<usize>> {
    value(headers, "content-length")
        .map(|value| {
            std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).context("invalid content-length")
        })
        .transpose()
}

pub(crate) fn is_chunked(headers: &Headers) -> bool {
    value(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// More than the lines that Envoy accepts (100 by default) and adds.
pub(crate) const MAX_HEADERS: usize = 512;

const MAX_HEAD: usize = 1 << 20;
