//! A run: workers send batches of requests, each over its own kept connections, without and with the filter.

use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use testbed::EnvoyBinary;
use tokio::task::JoinSet;

use crate::envoy::EnvoyUnderTest;
use crate::generate::{HostileRequest, Protocol, request, rng};
use crate::health::{self, Health, Memory};
use crate::lane::Lane;
use crate::oracle::judge;
use crate::tally::Tally;
use crate::target::{Engine, Target};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct AttackPlan {
    /// The filter under attack.
    pub engine: Engine,
    /// The length of the run.
    pub length: Length,
    /// The seed of all choices.
    pub seed: u64,
    /// The number of the first request, a multiple of [`BATCH`].
    pub first: u64,
}

/// The length of a run.
#[derive(Debug, Clone, Copy)]
pub enum Length {
    /// This many requests, as fast as possible.
    Requests(u64),
    /// A steady load, while every policy is repeatedly swapped for another and back.
    Soak {
        /// The length of the run.
        time: Duration,
        /// Requests per second.
        rate: u32,
    },
}

/// The result of a run.
#[derive(Debug)]
pub struct AttackResult {
    /// The results of the requests.
    pub tally: Tally,
    /// What Envoy reports about its filter.
    pub health: Health,
    /// Envoy's memory.
    pub memory: Memory,
    /// The duration of the run.
    pub elapsed: Duration,
    /// The number of policies that were swapped.
    pub swaps: u64,
}

/// Attacks one engine on an Envoy of its own. Calls `progress` with the number of requests done so far and Envoy's memory.
/// Writes Envoy's configuration and log to `dir`.
pub async fn run(
    plan: AttackPlan,
    binary: &EnvoyBinary,
    dir: &Path,
    mut progress: impl FnMut(u64, &Memory),
) -> Result<AttackResult> {
    let targets = Target::all()?;
    let soak = matches!(plan.length, Length::Soak { .. });
    let under_test = EnvoyUnderTest::start(binary, plan.engine, &targets, soak, dir).await?;
    let targets = targets.into_iter().map(|target| Ok([target.other()?, target])).collect::<Result<Vec<_>>>()?;
    let changes = targets.iter().map(|_| AtomicU64::new(0)).collect();
    let begin = Instant::now();
    let run =
        Arc::new(Run { plan, targets, changes, begin, next: AtomicU64::new(plan.first), done: AtomicU64::new(0) });
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(worker(Arc::clone(&run), Lanes::new(&under_test)));
    }
    let (mut tally, mut memory) = (Tally::default(), Memory::default());
    let mut sample = tokio::time::interval(health::SAMPLE);
    let mut swaps = pin!(swap(&run, &under_test));
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(part) => tally.merge(part??),
                None => break,
            },
            // Swaps for as long as the run lasts; it ends only with an error.
            failed = &mut swaps => return Err(failed?),
            _ = sample.tick() => {
                memory.add(run.share(), health::resident_bytes(under_test.envoy.pid())?);
                progress(run.done.load(Ordering::Relaxed), &memory);
            }
        }
    }
    memory.add(1.0, health::resident_bytes(under_test.envoy.pid())?);
    let health = Health::of(&under_test.envoy, plan.engine).await?;
    Ok(AttackResult { tally, health, memory, elapsed: begin.elapsed(), swaps: under_test.swaps() })
}

impl AttackResult {
    /// Whether every check passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.tally.violations.is_empty()
            && self.health.failures.is_empty()
            && self.memory.is_flat()
            && self.counts_agree()
    }

    /// Whether a filter that counts counted every request that reached it: those that were answered, and possibly those whose
    /// connection ended.
    #[must_use]
    pub fn counts_agree(&self) -> bool {
        let reached = self.tally.outcomes.values().sum::<u64>();
        self.health.counted.is_none_or(|counted| {
            (reached..=reached + self.tally.refused + self.tally.resent).contains(&counted)
                || !self.tally.violations.is_empty()
        })
    }
}

struct Run {
    plan: AttackPlan,
    /// Each target, after the one that it is swapped for.
    targets: Vec<[Target; 2]>,
    /// The number of changes of each target, two for each swap. It is even while exactly one of the two policies can
    /// answer, and a multiple of four while that is the original one.
    changes: Vec<AtomicU64>,
    begin: Instant,
    next: AtomicU64,
    done: AtomicU64,
}

impl Run {
    /// The numbers of the requests in the next batch, if there is one.
    fn next_batch(&self) -> Option<Range<u64>> {
        let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
        let last = match self.plan.length {
            Length::Requests(requests) => self.plan.first + requests,
            Length::Soak { time, .. } if self.begin.elapsed() < time => u64::MAX,
            Length::Soak { .. } => 0,
        };
        (first < last).then(|| first..last.min(first + BATCH))
    }

    /// The share of the run that is done, from 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a share of the run")]
    fn share(&self) -> f64 {
        match self.plan.length {
            Length::Requests(requests) => self.done.load(Ordering::Relaxed) as f64 / requests as f64,
            Length::Soak { time, .. } => self.begin.elapsed().as_secs_f64() / time.as_secs_f64(),
        }
    }

    fn changes(&self, target: usize) -> u64 {
        self.changes.get(target).map_or(0, |changes| changes.load(Ordering::SeqCst))
    }
}

/// Swaps one policy after the other, in a soak test.
async fn swap(run: &Run, under_test: &EnvoyUnderTest) -> Result<anyhow::Error> {
    if let Length::Requests(_) = run.plan.length {
        return std::future::pending().await;
    }
    // Starts with the policy that the target is swapped for.
    for next in (0..2_usize).cycle() {
        for (at, (pair, changes)) in run.targets.iter().zip(&run.changes).enumerate() {
            tokio::time::sleep(SWAP_EVERY).await;
            changes.fetch_add(1, Ordering::SeqCst);
            let filter = pair.get(next).context("no such policy")?.filter(run.plan.engine)?;
            under_test.offer(at, &filter).await?;
            // Envoy's workers get the policy a moment after the main thread.
            tokio::time::sleep(SETTLE).await;
            changes.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(anyhow::anyhow!("the rounds ended"))
}

/// The connections of a worker: for each listener, one of each protocol, opened when needed.
struct Lanes {
    plain: Lane,
    filtered: Vec<Lane>,
}

impl Lanes {
    fn new(under_test: &EnvoyUnderTest) -> Self {
        Self {
            plain: Lane::new(under_test.plain),
            filtered: under_test.filtered.iter().copied().map(Lane::new).collect(),
        }
    }
}

async fn worker(run: Arc<Run>, mut lanes: Lanes) -> Result<Tally> {
    let AttackPlan { seed, length, .. } = run.plan;
    let mut tally = Tally::default();
    let mut pace = match length {
        Length::Requests(_) => None,
        Length::Soak { rate, .. } => Some(tokio::time::interval(BATCH_TIME / rate.max(1))),
    };
    while let Some(batch) = run.next_batch() {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let mut rng = rng(seed ^ BATCHES, batch.start);
        let at = rng.usize(..run.targets.len());
        let (Some([other, target]), Some(lane)) = (run.targets.get(at), lanes.filtered.get_mut(at)) else { continue };
        let protocol = if rng.bool() { Protocol::Http1 } else { Protocol::Http2 };
        let at_once = rng.u8(..4) > 0;

        let (from, before) = (unix_seconds(), run.changes(at));
        let batch: Vec<HostileRequest> = batch.map(|index| request(seed, index, target, protocol, from)).collect();
        let (plain, filtered) =
            tokio::try_join!(lanes.plain.send(protocol, &batch, at_once), lane.send(protocol, &batch, at_once))?;
        let (until, after) = (unix_seconds(), run.changes(at));

        let policies: &[&Target] = match after % 4 {
            0 if before == after => &[target],
            2 if before == after => &[other],
            _ => &[target, other],
        };
        for ((request, plain), filtered) in batch.iter().zip(&plain).zip(&filtered) {
            let verdict = judge(policies, request.index, plain, filtered, from..=until);
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
    tally.resent = lanes.filtered.iter().map(|lane| lane.resent).sum();
    Ok(tally)
}

/// The machine's clock, in Unix seconds.
#[must_use]
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

/// The number of requests in a batch, which share one connection.
pub const BATCH: u64 = 16;
/// The number of workers. Each sends one batch at a time, with and without the filter.
const WORKERS: usize = 12;
/// The time between two batches of a worker at a rate of one request per second for all workers together.
const BATCH_TIME: Duration = Duration::from_secs(BATCH * WORKERS as u64);
/// The time between two swaps, one policy after the other.
const SWAP_EVERY: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_millis(500);
const BATCHES: u64 = 0x6261_7463 << 16;
