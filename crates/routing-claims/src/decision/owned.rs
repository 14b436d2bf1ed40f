//! A decision that outlives its decider.

use std::fmt;

use super::Decision;
use crate::{judgement::Judgement, policy::Policy, propagator::CarrierChange};

/// A [`Decision`] that borrows nothing. It can be sent to another task, or kept until the headers can be changed.
///
/// [`Decision::to_owned`] creates it, and [`OwnedDecision::as_decision`] returns the decision.
#[derive(Clone)]
pub struct OwnedDecision {
    policy: Policy,
    managed: bool,
    judgement: Judgement,
    lines: Box<[u8]>,
    carrier_removed: bool,
    carrier_value: Box<[u8]>,
}

impl OwnedDecision {
    /// The decision, for reading and applying it.
    #[must_use]
    pub fn as_decision(&self) -> Decision<'_> {
        let Self { policy, managed, judgement, lines, carrier_removed, carrier_value } = self;
        let carrier = CarrierChange { removed: *carrier_removed, value: carrier_value };
        Decision { policy, managed: *managed, judgement: *judgement, lines, carrier }
    }
}

impl Decision<'_> {
    /// A copy that borrows nothing. It takes two allocations of at most a few kilobytes.
    #[must_use]
    pub fn to_owned(&self) -> OwnedDecision {
        OwnedDecision {
            policy: self.policy.clone(),
            managed: self.managed,
            judgement: self.judgement,
            lines: self.lines.into(),
            carrier_removed: self.carrier.removed,
            carrier_value: self.carrier.value.into(),
        }
    }
}

/// Shows no versions, like `Debug` of the decision (R17).
impl fmt::Debug for OwnedDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedDecision").field("outcome", &self.judgement.outcome).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Decider, Policy};

    #[test]
    fn an_owned_decision_says_the_same_after_its_decider_has_gone() {
        let policy = br#"{"services": [{"name": "a"}, {"name": "b"}], "reportHeader": "x-report"}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        // The payload is {"a":"secret","b":[]}.
        let request = [(&b"authorization"[..], &b"Bearer e30.eyJhIjoic2VjcmV0IiwiYiI6W119."[..]), (b"B", b"forged")];
        let decision = decider.decide(request, 0);
        let owned = decision.to_owned();
        let said: Vec<_> =
            decision.set_headers().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect();
        assert_eq!(said, ["a: secret", "x-report: applied a=secret b!invalid-value"]);
        let (outcome, faults) = (decision.outcome(), decision.faults().collect::<Vec<_>>());
        decider.decide([], 0);
        drop(decider);

        let again = owned.as_decision();
        assert!(again.set_headers().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).eq(said));
        assert!(again.outcome() == outcome && again.faults().eq(faults));
        assert!(again.removes_any() && again.removes(b"B") && !again.removes(b"c") && again.changes_request());
        assert_eq!(format!("{owned:?}"), "OwnedDecision { outcome: Applied, .. }");
    }
}
