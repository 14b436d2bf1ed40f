//! The counts of a run.

use std::collections::BTreeMap;

use crate::oracle::{Verdict, Violation};

/// The results of the requests of a run.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// All requests.
    pub requests: u64,
    /// Requests that Envoy rejects in the same way with and without the filter.
    pub refused: u64,
    /// Requests that were sent again because the connection ended before their answer.
    pub resent: u64,
    /// The outcomes of requests with the expected result.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// The violations. A request can have several.
    pub violations: BTreeMap<Violation, u64>,
    /// The first requests with a violation, each with what is needed to send it again.
    pub reproducers: Vec<String>,
}

impl Tally {
    /// Adds a request. `reproducer` is called only for the first requests with a violation.
    pub fn add(&mut self, verdict: Verdict, reproducer: impl FnOnce() -> String) {
        self.requests += 1;
        match verdict {
            Verdict::Right(outcome) => *self.outcomes.entry(outcome).or_default() += 1,
            Verdict::RefusedAlike => self.refused += 1,
            Verdict::Wrong(violations) => {
                if self.reproducers.len() < REPRODUCERS {
                    self.reproducers.push(format!("{violations:?}: {}", reproducer()));
                }
                for violation in violations {
                    *self.violations.entry(violation).or_default() += 1;
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
        for (violation, count) in other.violations {
            *self.violations.entry(violation).or_default() += count;
        }
        self.reproducers.extend(other.reproducers);
        self.reproducers.truncate(REPRODUCERS);
    }

    /// The number of requests with a violation.
    #[must_use]
    pub fn count(&self, violation: Violation) -> u64 {
        self.violations.get(&violation).copied().unwrap_or_default()
    }
}

/// More than these add no information.
const REPRODUCERS: usize = 3;
