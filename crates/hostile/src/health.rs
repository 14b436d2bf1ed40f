//! Failures of the filter itself, and Envoy's memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testbed::Envoy;

use crate::target::Engine;

/// Envoy's memory during a run.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The time (as a share of the run, 0 to 1) and the bytes of each sample.
    samples: Vec<(f64, u64)>,
}

/// What Envoy reports about its filter after a run.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Errors of scripts, VMs and native modules that Envoy counted or logged, as text.
    pub failures: Vec<String>,
    /// The number of requests that the filter counted, if it can count.
    pub counted: Option<u64>,
}

impl Memory {
    /// Adds a sample.
    pub fn add(&mut self, done: f64, bytes: u64) {
        self.samples.push((done, bytes));
    }

    /// The maximum in bytes during the [`WARM_UP`] of the run.
    #[must_use]
    pub fn warm(&self) -> u64 {
        self.most(|done| done <= WARM_UP)
    }

    /// The maximum in bytes after the [`WARM_UP`].
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.most(|done| done > WARM_UP)
    }

    /// The limit in bytes for the peak.
    #[must_use]
    pub fn bound(&self) -> u64 {
        self.warm() + self.warm() / 10 + SLACK
    }

    /// Whether memory stayed flat.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        self.peak() <= self.bound()
    }

    /// The maximum in bytes in each of `parts` equal parts of the run.
    #[must_use]
    pub fn course(&self, parts: u32) -> Vec<u64> {
        let part = |n: u32| f64::from(n) / f64::from(parts);
        (0..parts).map(|n| self.most(|done| part(n) <= done && done < part(n + 1))).collect()
    }

    /// The last sample in bytes.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.samples.last().map(|(_, bytes)| *bytes).unwrap_or_default()
    }

    fn most(&self, when: impl Fn(f64) -> bool) -> u64 {
        self.samples.iter().filter(|(done, _)| when(*done)).map(|(_, bytes)| *bytes).max().unwrap_or_default()
    }
}

impl Health {
    /// Reads Envoy's counters and log.
    pub async fn of(envoy: &Envoy, engine: Engine) -> Result<Self> {
        let counters = envoy.counters("").await?;
        let mut failures: Vec<_> = counters
            .iter()
            .filter(|(name, count)| **count > 0 && is_failure(name))
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        let log = envoy.log()?;
        failures.extend(log.lines().filter(|line| is_complaint(line)).map(str::to_owned));
        let outcomes = routing_claims::Outcome::ALL.iter().map(|outcome| outcome.code().replace('-', "_"));
        let counted = outcomes.filter_map(|code| counters.get(&format!("wasmcustom.routing_claims.{code}"))).sum();
        Ok(Self { failures, counted: engine.counts().then_some(counted) })
    }
}

/// The resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map(|kib: u64| kib * 1024).context("cannot read `VmRSS` of Envoy from /proc")
}

/// Whether a counter stays at zero as long as no script, VM or native module fails.
fn is_failure(counter: &str) -> bool {
    let of_filter = counter.contains(".lua.") || counter.starts_with("wasm.") || counter.contains("routing-claims");
    let bad = ["error", "fail", "reload", "crash"];
    (of_filter && bad.iter().any(|word| counter.contains(word))) || counter.ends_with("routing_claims.traps")
}

/// Whether a line of the log reports a failing filter, or something worse.
fn is_complaint(line: &str) -> bool {
    let level = |name: &str| line.contains(&format!("][{name}]["));
    level("critical") || level("error") || (level("warning") && (line.contains("][wasm]") || line.contains("][lua]")))
}

/// The time between two samples of the memory.
pub const SAMPLE: Duration = Duration::from_millis(250);

/// The share of a run in which caches and connections fill up.
pub const WARM_UP: f64 = 0.3;

const SLACK: u64 = 8 << 20;
