//! Reads what another hop sent (R3), and writes what goes to the next one (R19). As OpenTelemetry's propagators, it extracts from a
//! carrier and injects into one.

use crate::{
    baggage::{self, Member},
    carry::Choice,
    judgement::{Carry, Reading},
    outcome::{CarryFault, Outcome},
    policy::Policy,
    source::{Found, equal, same},
};

/// The memory for it, and what it found in the request.
pub(crate) struct Propagator {
    choice: Choice,
    /// If the policy carries in `baggage`, the members of others.
    others: baggage::Line,
    /// The request has the header of the carrier.
    has_header: bool,
    /// The client sent something in the carrier.
    has_carrier: bool,
}

/// What becomes of the header of the carrier (R19). By default, it does not change.
#[derive(Clone, Copy, Default)]
pub(crate) struct CarrierChange<'d> {
    /// The request has the header, and it is removed.
    pub(crate) removed: bool,
    /// What the header is set to. Empty if it is not set.
    pub(crate) value: &'d [u8],
}

impl Propagator {
    /// For a policy that propagates.
    pub(crate) fn new(policy: &Policy) -> Self {
        let carries_in_baggage = policy.carrier().is_some_and(|carrier| carrier.key.is_some());
        let others = baggage::Line::new(carries_in_baggage);
        Self { choice: Choice::new(policy), others, has_header: false, has_carrier: false }
    }

    /// Forgets what it found.
    pub(crate) fn clear(&mut self) {
        self.others.clear();
        (self.has_header, self.has_carrier) = (false, false);
    }

    /// Reads a header line. What was found is passed by value: a policy that does not propagate keeps it in registers.
    #[inline(never)]
    pub(crate) fn extract<'h>(
        &mut self,
        policy: &Policy,
        name: &[u8],
        value: &'h [u8],
        mut found: Found<'h>,
    ) -> Found<'h> {
        let carrier = policy.carrier();
        if carrier.is_some_and(|carrier| same(name, carrier.header.as_bytes())) {
            self.has_header = true;
            self.has_carrier |= carrier.is_some_and(|carrier| carrier.key.is_none());
        }
        if !policy.reads_baggage() || !same(name, b"baggage") {
            return found;
        }
        let own_key = carrier.and_then(|carrier| carrier.key.as_deref()).map(str::as_bytes);
        for Member { whole, key, value } in baggage::members(value) {
            let source = policy.config().from_baggage.iter().position(|source| equal(source.as_bytes(), key));
            if let Some(index) = source {
                found.offer(policy.first_baggage() + index, value);
            }
            match own_key {
                Some(own_key) if equal(own_key, key) => self.has_carrier = true,
                Some(_) => self.others.push(whole),
                None => {}
            }
        }
        found
    }

    /// How a token from the source of this rank is read.
    pub(crate) fn reading(policy: &Policy, rank: usize) -> Reading {
        let source = policy.carrier().map(|carrier| carrier.source);
        let carry = if source.is_some_and(|source| source != Some(rank)) { Carry::Yes } else { Carry::No };
        Reading { tells_format: rank >= policy.first_baggage() || source == Some(Some(rank)), carry }
    }

    /// Writes the choice of these routing headers. Returns its length.
    pub(crate) fn write<'r>(
        &mut self,
        policy: &Policy,
        exp: Option<i64>,
        routes: impl Iterator<Item = (&'r str, &'r [u8])>,
    ) -> Result<u16, CarryFault> {
        let length = policy.carrier().map(|carrier| self.choice.write(policy, carrier, exp, routes));
        length.unwrap_or(Some(0)).ok_or(CarryFault::TooLarge)
    }

    /// The choice that was written last.
    pub(crate) fn choice(&self) -> &[u8] {
        self.choice.text()
    }

    /// Whether a choice of this length fits beside the members of others.
    pub(crate) fn has_room(&self, length: u16) -> bool {
        length == 0 || self.others.has_room(usize::from(length))
    }

    /// What becomes of the carrier, given the rank of the token's source and the outcome. The choice is empty if none is carried.
    pub(crate) fn inject<'d>(
        &'d mut self,
        policy: &Policy,
        rank: usize,
        outcome: Outcome,
        choice: &'d [u8],
    ) -> CarrierChange<'d> {
        let Some(carrier) = policy.carrier() else { return CarrierChange::default() };
        let stays = carrier.source.is_some_and(|source| source == rank || outcome != Outcome::Applied);
        if choice.is_empty() && (stays || !self.has_carrier) {
            return CarrierChange::default();
        }
        let value = if carrier.key.is_none() {
            choice
        } else {
            if !choice.is_empty() {
                self.others.push(choice);
            }
            self.others.text()
        };
        CarrierChange { removed: self.has_header, value }
    }
}
