//! Counts of a run.

use std::collections::BTreeMap;

use crate::oracle::{Fault, Verdict};

/// What became of the requests of a run.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests that were judged or refused.
    pub requests: u64,
    /// Requests that Envoy refuses with and without the filter, alike.
    pub refused: u64,
    /// Requests sent again because the connection ended before their answer.
    pub resent: u64,
    /// Outcomes of those that fared as they must.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Each fault; a request may have several.
    pub faults: BTreeMap<Fault, u64>,
    /// The first requests that did not fare as they must, each with what is needed to send it again.
    pub reproducers: Vec<String>,
}

impl Tally {
    /// Adds a request. `reproducer` is asked only for the first that fare wrong.
    pub fn add(&mut self, verdict: Verdict, reproducer: impl FnOnce() -> String) {
        self.requests += 1;
        match verdict {
            Verdict::Right(outcome) => *self.outcomes.entry(outcome).or_default() += 1,
            Verdict::RefusedAlike => self.refused += 1,
            Verdict::Wrong(faults) => {
                if self.reproducers.len() < REPRODUCERS {
                    self.reproducers.push(format!("{faults:?}: {}", reproducer()));
                }
                for fault in faults {
                    *self.faults.entry(fault).or_default() += 1;
                }
            }
        }
    }

    /// Adds the counts of another part of the run.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.resent += other.resent;
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.reproducers.extend(other.reproducers);
        self.reproducers.truncate(REPRODUCERS);
    }

    /// How often a fault was seen.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }
}

/// More tell nothing new.
const REPRODUCERS: usize = 3;
