//! The decision on a token, as the cache keeps it.

use crate::{
    limits,
    outcome::{CarryFault, ClaimFault, Outcome},
    time::Validity,
};

/// What a decision depends on besides the policy, the token and the time (R16).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The token tells its format itself (R5).
    pub(crate) tells_format: bool,
    pub(crate) carry: Carry,
}

impl Reading {
    /// Of a token in the policy's format whose choice is not carried.
    pub(crate) const PLAIN: Self = Self { tells_format: false, carry: Carry::No };
}

/// Whether the choice of a token is carried (R19).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    /// The policy does not carry, or the token comes from the carrier.
    No,
    Yes,
    /// `baggage` has no room for the choice.
    NoRoom,
}

const _: () = assert!(limits::CACHE_ENTRIES > Carry::NoRoom as usize, "a reading selects a bucket");

/// The part of a decision that depends on the token, its reading and the time alone.
#[derive(Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) outcome: Outcome,
    /// The number of claims that were skipped, by [`ClaimFault::index`].
    pub(crate) faults: [u32; ClaimFault::ALL.len()],
    pub(crate) validity: Validity,
    /// The number of bytes that are carried, which is 0 if nothing is, or why they are not.
    pub(crate) carried: Result<u16, CarryFault>,
}

impl Judgement {
    /// Of a request without claim faults and without a carrier.
    pub(crate) fn of(outcome: Outcome, validity: Validity) -> Self {
        Self { outcome, faults: Default::default(), validity, carried: Ok(0) }
    }
}
