//! The steps that apply a decision to a request.

use std::{fmt, iter};

use super::Decision;
use crate::outcome::{CarryFault, ClaimFault, Outcome};

/// A step of applying a [`Decision`] to a request in a proxy. [`Decision::steps`] lists them in order.
///
/// Exhaustive, because a front end that ignores a step would let a request pass as it came. `N` is the type of the names that
/// the front end has: text or bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "see above")]
pub enum Step<'s, N: ?Sized = [u8]> {
    /// Remove all lines of this header.
    Remove(&'s N),
    /// Set the header to this value, in place of all its lines.
    Set(&'s str, &'s [u8]),
    /// Clear the route cache (R15), if the proxy does not do so itself when a header changes.
    ClearRouteCache,
    /// Count the outcome of the request.
    CountOutcome(Outcome),
    /// Count this many claims that were skipped for this fault.
    CountFault(ClaimFault, u32),
    /// Count that the choice was not carried.
    CountCarryFault(CarryFault),
}

impl Decision<'_> {
    /// The steps that apply this decision to a request whose header lines have these names, in any case and in any number.
    ///
    /// The request is stripped before anything is set, and its route is recomputed when no header changes any more. Counters
    /// come last: a request whose counter fails is already safe.
    ///
    /// The names must stay valid while headers change. Copy them if they point into the memory of the proxy.
    pub fn steps<'s, N>(&'s self, names: impl IntoIterator<Item = &'s N> + 's) -> impl Iterator<Item = Step<'s, N>>
    where
        N: AsRef<[u8]> + ?Sized + 's,
    {
        let names = self.removes_any().then_some(names).into_iter().flatten();
        let removed = names.filter(|name| self.removes(name.as_ref())).map(Step::Remove);
        let set = self.set_headers().map(|(name, value)| Step::Set(name, value));
        let cleared = self.changes_request().then_some(Step::ClearRouteCache);
        let outcome = iter::once(Step::CountOutcome(self.outcome()));
        let faults = self.faults().map(|(fault, times)| Step::CountFault(fault, times));
        let carry_fault = self.carry_fault().map(Step::CountCarryFault);
        removed.chain(set).chain(cleared).chain(outcome).chain(faults).chain(carry_fault)
    }
}

/// Does not show names and values, which clients choose (R17).
impl<N: ?Sized> fmt::Debug for Step<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(_) => f.write_str("Remove(..)"),
            Self::Set(..) => f.write_str("Set(..)"),
            Self::ClearRouteCache => f.write_str("ClearRouteCache"),
            Self::CountOutcome(outcome) => f.debug_tuple("CountOutcome").field(outcome).finish(),
            Self::CountCarryFault(fault) => f.debug_tuple("CountCarryFault").field(fault).finish(),
            Self::CountFault(fault, times) => f.debug_tuple("CountFault").field(fault).field(times).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decider, Policy};

    fn decider() -> Decider {
        let policy = br#"{"services": [{"name": "A"}, {"name": "b"}]}"#;
        Decider::new(Policy::from_json(policy).unwrap())
    }

    /// The payload is {"A":"1","b":[]}.
    const TOKEN: &[u8] = b"Bearer e30.eyJBIjoiMSIsImIiOltdfQ.";

    #[test]
    fn a_request_is_stripped_then_set_then_routed_then_counted() {
        let mut decider = decider();
        let decision = decider.decide([(&b"authorization"[..], TOKEN), (b"B", b"forged"), (b"host", b"x")], 0);
        let steps: Vec<_> = decision.steps(["authorization", "B", "host"]).collect();
        assert_eq!(
            steps,
            [
                Step::Remove("B"),
                Step::Set("a", b"1"),
                Step::ClearRouteCache,
                Step::CountOutcome(Outcome::Applied),
                Step::CountFault(ClaimFault::InvalidValue, 1),
            ]
        );
        assert_eq!(format!("{:?}", &steps[..3]), "[Remove(..), Set(..), ClearRouteCache]");
    }

    #[test]
    fn a_request_that_does_not_change_is_only_counted() {
        let mut decider = decider();
        let decision = decider.decide([(&b"host"[..], &b"x"[..])], 0);
        assert!(decision.steps([&b"host"[..]]).eq([Step::CountOutcome(Outcome::NoToken)]));
    }
}
