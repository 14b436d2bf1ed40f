//! A run: workers that send batches of requests, each over its own kept connections, without and with the filter.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use testbed::EnvoyBinary;
use tokio::task::JoinSet;

use crate::generate::{Protocol, Request, request, rng};
use crate::health::{self, Health, Memory};
use crate::lane::Lane;
use crate::mesh::Mesh;
use crate::oracle::judge;
use crate::tally::Tally;
use crate::target::{Engine, Target};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The filter under attack.
    pub engine: Engine,
    /// How many requests.
    pub requests: u64,
    /// All choices follow from it.
    pub seed: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// What became of the requests.
    pub tally: Tally,
    /// What Envoy says of its filter.
    pub health: Health,
    /// Envoy's memory.
    pub memory: Memory,
    /// How long it took.
    pub elapsed: Duration,
}

/// Attacks one engine on an Envoy of its own. `progress` is told how many requests are done and how much memory Envoy
/// has. `dir` gets Envoy's configuration and log.
pub async fn run(
    plan: Plan,
    binary: &EnvoyBinary,
    dir: &Path,
    mut progress: impl FnMut(u64, &Memory),
) -> Result<Report> {
    let targets = Target::all()?;
    let mesh = Mesh::start(binary, plan.engine, &targets, dir).await?;
    let begin = Instant::now();
    let run = Arc::new(Run { plan, targets, next: AtomicU64::new(0), done: AtomicU64::new(0) });
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(worker(Arc::clone(&run), Lanes::new(&mesh)));
    }
    let (mut tally, mut memory) = (Tally::default(), Memory::default());
    let mut sample = tokio::time::interval(health::SAMPLE);
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(part) => tally.merge(part??),
                None => break,
            },
            _ = sample.tick() => {
                let done = run.done.load(Ordering::Relaxed);
                #[allow(clippy::cast_precision_loss, reason = "a share of the run")]
                memory.add(done as f64 / plan.requests as f64, health::resident_bytes(mesh.envoy.pid())?);
                progress(done, &memory);
            }
        }
    }
    memory.add(1.0, health::resident_bytes(mesh.envoy.pid())?);
    let health = Health::of(&mesh.envoy, plan.engine).await?;
    Ok(Report { tally, health, memory, elapsed: begin.elapsed() })
}

impl Report {
    /// Whether all is as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.tally.faults.is_empty() && self.health.failures.is_empty() && self.memory.is_flat() && self.counts_agree()
    }

    /// Whether the WASM filter counted each request that reached it: those that were answered, and perhaps those whose
    /// connection ended.
    #[must_use]
    pub fn counts_agree(&self) -> bool {
        let reached = self.tally.outcomes.values().sum::<u64>();
        self.health.counted.is_none_or(|counted| {
            (reached..=reached + self.tally.refused + self.tally.resent).contains(&counted)
                || !self.tally.faults.is_empty()
        })
    }
}

struct Run {
    plan: Plan,
    targets: Vec<Target>,
    next: AtomicU64,
    done: AtomicU64,
}

/// A worker's connections: for each listener, one of each protocol as needed.
struct Lanes {
    plain: Lane,
    filtered: Vec<Lane>,
}

impl Lanes {
    fn new(mesh: &Mesh) -> Self {
        Self { plain: Lane::new(mesh.plain), filtered: mesh.filtered.iter().copied().map(Lane::new).collect() }
    }
}

async fn worker(run: Arc<Run>, mut lanes: Lanes) -> Result<Tally> {
    let Plan { requests, seed, .. } = run.plan;
    let mut tally = Tally::default();
    loop {
        let first = run.next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= requests {
            tally.resent = lanes.filtered.iter().map(|lane| lane.resent).sum();
            return Ok(tally);
        }
        let mut rng = rng(seed ^ BATCHES, first);
        let at = rng.usize(..run.targets.len());
        let (Some(target), Some(lane)) = (run.targets.get(at), lanes.filtered.get_mut(at)) else { continue };
        let protocol = if rng.bool() { Protocol::Http1 } else { Protocol::Http2 };
        let at_once = rng.u8(..4) > 0;

        let from = unix_seconds();
        let batch: Vec<Request> =
            (first..(first + BATCH).min(requests)).map(|index| request(seed, index, target, protocol, from)).collect();
        let (plain, filtered) =
            tokio::try_join!(lanes.plain.send(protocol, &batch, at_once), lane.send(protocol, &batch, at_once))?;
        let until = unix_seconds();

        for ((request, plain), filtered) in batch.iter().zip(&plain).zip(&filtered) {
            let verdict = judge(&[target], request.index, plain, filtered, from..=until);
            tally.add(verdict, || {
                format!(
                    "request {} of seed {seed} over {protocol:?}, policy {}, at {from} to {until}\n  sent     {}\n  \
                     without  {}\n  with     {}",
                    request.index,
                    target.name,
                    request.shown(),
                    plain.shown(),
                    filtered.shown(),
                )
            });
        }
        run.done.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

/// The machine's clock.
#[must_use]
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

/// Requests on their way at the same time: so many workers, each with a batch twice over.
const WORKERS: usize = 12;
const BATCH: u64 = 16;
const BATCHES: u64 = 0x6261_7463 << 16;
