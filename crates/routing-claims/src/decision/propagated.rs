//! Decisions under a policy whose choices come from other hops or go to them (R19).

use super::{Decider, Decision, lines};
use crate::{
    cache::{Bucket, Entry},
    judgement::{Carry, Judgement, Reading},
    outcome::{CarryFault, Outcome},
    propagator::Propagator,
    source::{Found, Source},
    time::Validity,
};

impl Decider {
    /// Decides on a request, and on its carrier.
    #[inline(never)]
    pub(super) fn decide_propagated(&mut self, request: &Found<'_>, now: i64) -> Decision<'_> {
        let reading = Propagator::reading(&self.policy, request.rank);
        let (mut judgement, mut cached) = self.judge_source(request.token, reading, now);
        if judgement.carried.is_ok_and(|length| !self.propagator.has_room(length)) {
            let reading = Reading { carry: Carry::NoRoom, ..reading };
            (judgement, cached) = self.judge_source(request.token, reading, now);
        }
        let lines = cached.map_or(&*self.lines, |entry| self.cache.lines(&entry));
        let (lines, choice) = lines.split_at(lines.len() - judgement.carried.map_or(0, usize::from));
        let carrier = self.propagator.inject(&self.policy, request.rank, judgement.outcome, choice);
        Decision { policy: &self.policy, managed: request.managed, judgement, lines, carrier }
    }

    /// Decides on what the request has for a token. If the decision is in the cache, gives its entry.
    fn judge_source(&mut self, source: Source<'_>, reading: Reading, now: i64) -> (Judgement, Option<Entry>) {
        let fault = match source {
            Source::One(token) => {
                let bucket = Bucket::of(token).for_reading(reading);
                let cached = self.cache.find(bucket, token, reading, now);
                let judgement = cached.map(|entry| entry.judgement);
                return (judgement.unwrap_or_else(|| self.judge_and_remember(bucket, token, reading, now)), cached);
            }
            Source::None => Outcome::NoToken,
            Source::Ambiguous => Outcome::AmbiguousToken,
        };
        self.lines.clear();
        self.report(fault, None);
        (Judgement::of(fault, Validity::ALWAYS), None)
    }

    /// Writes the choice of the routing headers. Returns its length.
    pub(super) fn carry(&mut self, carry: Carry, exp: Option<i64>) -> Result<u16, CarryFault> {
        match carry {
            Carry::No => Ok(0),
            Carry::Yes => self.propagator.write(&self.policy, exp, lines(&self.lines)),
            Carry::NoRoom => Err(CarryFault::TooLarge),
        }
    }
}
