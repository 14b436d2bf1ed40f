//! The decision on a token, as the cache keeps it.

use crate::{
    outcome::{ClaimFault, Outcome},
    time::Validity,
};

/// The part of a decision that depends on the token and the time alone.
#[derive(Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) outcome: Outcome,
    /// The number of claims that were skipped, by [`ClaimFault::index`].
    pub(crate) faults: [u32; ClaimFault::ALL.len()],
    pub(crate) validity: Validity,
}
