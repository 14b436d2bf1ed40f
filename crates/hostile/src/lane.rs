//! Sends batches of requests over a kept connection to one listener.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use testbed::client::{Http1, Http2, Response};
use testbed::echo::Seen;
use tokio::task::JoinSet;

use crate::generate::{AUTHORITY, HostileRequest, Protocol, path, shown};

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It arrived at an upstream.
    Upstream {
        /// The cluster of the upstream.
        cluster: String,
        /// The request as it arrived.
        seen: Seen,
    },
    /// Envoy itself answered, with this status.
    Refused(u16),
    /// The connection or stream ended without a response, even when the request was sent alone.
    Broken,
}

/// One connection at a time, reopened after it ends.
#[derive(Debug)]
pub struct Lane {
    address: SocketAddr,
    http1: Option<Http1>,
    http2: Option<Arc<Http2>>,
    /// The number of requests that were sent twice, because the connection ended before they were answered.
    pub resent: u64,
}

impl Lane {
    /// A lane to this listener. It connects when it sends the first request.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, http1: None, http2: None, resent: 0 }
    }

    /// Sends requests, either `at_once` or each after the answer to the previous one. Returns one answer for each.
    pub async fn send(&mut self, protocol: Protocol, requests: &[HostileRequest], at_once: bool) -> Result<Vec<Reply>> {
        let mut answers = Vec::with_capacity(requests.len());
        // If a connection ends early, the next request may be the cause: it is sent alone, over a new connection.
        let mut alone = false;
        while let Some(rest) = requests.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let count = if at_once && !alone { rest.len() } else { 1 };
            let burst = rest.get(..count).unwrap_or(rest);
            let answered = match protocol {
                Protocol::Http1 => self.http1(burst).await?,
                Protocol::Http2 => self.http2(burst).await?,
            };
            // Streams can end in any order. Requests after the first gap are sent again.
            let whole = answered.iter().position(Option::is_none).unwrap_or(answered.len());
            let broken = whole < burst.len();
            answers.extend(answered.into_iter().take(whole).flatten());
            if broken && alone {
                answers.push(Reply::Broken);
            } else if broken {
                self.resent += u64::try_from(burst.len() - whole)?;
            }
            alone = broken && !alone;
            if broken {
                (self.http1, self.http2) = (None, None);
            }
        }
        Ok(answers)
    }

    /// Writes all requests and reads the answers until the connection ends.
    async fn http1(&mut self, burst: &[HostileRequest]) -> Result<Vec<Option<Reply>>> {
        let connection = match &mut self.http1 {
            Some(connection) => connection,
            none => none.insert(Http1::connect(self.address).await?),
        };
        let bytes: Vec<u8> = burst.iter().flat_map(|request| &request.bytes).copied().collect();
        // Envoy may close the connection while we write. Answers sent before that are still read below.
        connection.write(&bytes).await.ok();
        let mut open = true;
        let mut answers = Vec::with_capacity(burst.len());
        for _ in burst {
            let answer = if open { connection.read().await.ok() } else { None };
            open = answer.as_ref().is_some_and(|answer| !closes(answer));
            answers.push(answer.as_ref().map(Reply::of).transpose()?);
        }
        if !open {
            self.http1 = None;
        }
        Ok(answers)
    }

    /// Sends all requests at the same time, each on a stream of its own.
    async fn http2(&mut self, burst: &[HostileRequest]) -> Result<Vec<Option<Reply>>> {
        let connection = match &self.http2 {
            Some(connection) => Arc::clone(connection),
            None => Arc::clone(self.http2.insert(Arc::new(Http2::connect(self.address).await?))),
        };
        let mut answers = vec![None; burst.len()];
        let mut streams = JoinSet::new();
        for (place, HostileRequest { index, lines, .. }) in burst.iter().enumerate() {
            let (connection, path, lines) = (Arc::clone(&connection), path(*index), lines.clone());
            streams.spawn(async move { (place, connection.get(AUTHORITY, &path, &lines).await.ok()) });
        }
        while let Some(done) = streams.join_next().await {
            let (place, answer) = done?;
            answers[place] = answer.as_ref().map(Reply::of).transpose()?;
        }
        Ok(answers)
    }
}

impl Reply {
    /// The answer as one line of text.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Upstream { cluster, seen } => format!("{cluster} got {} {}", seen.path, shown(&seen.headers)),
            Self::Refused(status) => format!("Envoy answered {status}"),
            Self::Broken => "no answer".into(),
        }
    }

    fn of(response: &Response) -> Result<Self> {
        match response.header("x-upstream") {
            Some(cluster) => Ok(Self::Upstream {
                cluster: String::from_utf8_lossy(cluster).into_owned(),
                seen: Seen::from_body(&response.body)?,
            }),
            None => Ok(Self::Refused(response.status)),
        }
    }
}

fn closes(response: &Response) -> bool {
    response.header("connection") == Some(b"close")
}
