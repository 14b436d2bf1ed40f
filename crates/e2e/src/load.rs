//! A steady stream of requests while something changes. Each response is checked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use testbed::{Headers, client::Http1};
use tokio::task::JoinSet;

/// A kind of request, and the versions that may answer it.
#[derive(Clone, Debug)]
pub struct Steady {
    /// Its host.
    pub host: String,
    /// Its header lines.
    pub headers: Headers,
    /// The versions that may answer before, during and after the change.
    pub allowed: Allowed,
}

/// The versions that may answer before, during and after the change. Each is a chain such as `PR-1>main`.
pub type Allowed = [Vec<String>; 3];

/// The state of the change.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// It has not begun.
    Before = 0,
    /// It is in progress.
    During = 1,
    /// It is in force everywhere.
    After = 2,
}

/// A load that runs until [`stop`](Self::stop).
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Tally>,
}

/// The counts of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Requests without a response, or with a status other than 200.
    pub failed: u64,
    /// Requests that were answered by a version that may not.
    pub misrouted: u64,
    /// The first failure.
    pub first: Option<String>,
    /// When the first and the last of these were answered.
    pub window: Option<(Instant, Instant)>,
}

impl Tally {
    /// The time from the first failure to the last.
    #[must_use]
    pub fn lost(&self) -> Duration {
        self.window.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.misrouted += other.misrouted;
        self.first = self.first.take().or(other.first);
        self.window = match (self.window, other.window) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }
}

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    stopped: AtomicBool,
}

impl Load {
    /// Starts one client for each kind of request. A client keeps its connection and sends one request at a time.
    #[must_use]
    pub fn start(to: SocketAddr, requests: Vec<Steady>) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for request in requests {
            clients.spawn(client(to, request, Arc::clone(&shared)));
        }
        Self { shared, clients }
    }

    /// Sets the state of the change.
    pub fn phase(&self, phase: Phase) {
        self.shared.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// Stops the load and returns the sum of all counts.
    pub async fn stop(self) -> Tally {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let mut sum = Tally::default();
        for tally in self.clients.join_all().await {
            sum.add(tally);
        }
        sum
    }
}

async fn client(to: SocketAddr, request: Steady, shared: Arc<Shared>) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !shared.stopped.load(Ordering::SeqCst) {
        let begin = shared.phase.load(Ordering::SeqCst);
        let answer = send(to, &request, &mut connection).await;
        let end = shared.phase.load(Ordering::SeqCst);
        tally.sent += 1;
        let wrong = match answer {
            Ok((200, versions)) => {
                let mut allowed = (begin..=end).flat_map(|phase| &request.allowed[usize::from(phase)]);
                if allowed.any(|one| *one == versions) {
                    continue;
                }
                tally.misrouted += 1;
                format!("{versions} answered (phase {begin}..{end}), not {:?}", request.allowed)
            }
            Ok((status, said)) => {
                tally.failed += 1;
                format!("status {status} (phase {begin}..{end}): {said}")
            }
            Err(error) => {
                tally.failed += 1;
                connection = None;
                format!("no answer (phase {begin}..{end}): {error:#}")
            }
        };
        tally.first.get_or_insert(wrong);
        let now = Instant::now();
        tally.window = Some((tally.window.map_or(now, |(first, _)| first), now));
    }
    tally
}

/// The status, and the versions that answered.
async fn send(to: SocketAddr, request: &Steady, kept: &mut Option<Http1>) -> Result<(u16, String)> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Http1::connect(to).await?,
    };
    let response = connection.get(&request.host, "/", &request.headers).await?;
    if response.header("connection") != Some(b"close") {
        *kept = Some(connection);
    }
    if response.status != 200 {
        return Ok((response.status, response.text()));
    }
    let said: Value = serde_json::from_slice(&response.body)?;
    let called = &said["called"];
    Ok(match called["status"].as_u64() {
        Some(status) if status != 200 => (u16::try_from(status)?, called["said"].to_string()),
        _ => (200, versions(&said)),
    })
}

/// The versions of the chain that answered, such as `PR-1>main`.
#[must_use]
pub fn versions(said: &Value) -> String {
    let version = said["version"].as_str().unwrap_or("?");
    match &said["called"] {
        Value::Null => version.to_owned(),
        called => format!("{version}>{}", versions(&called["said"])),
    }
}
