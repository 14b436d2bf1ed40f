//! The filter for proxies that run WebAssembly (Envoy, Istio's `WasmPlugin` and `TrafficExtension`).
//!
//! It decides nothing: it hands a request's headers to `routing-claims` and applies the decision. Its configuration is
//! the policy as JSON; a policy that is not valid is refused, and the log says why. For each outcome and claim fault it
//! counts in `routing_claims.<code>`, with `_` for `-`.

mod host;

use routing_claims::{ClaimFault, Decider, Outcome, Policy};

/// The filter in one of its configurations.
struct Filter {
    decider: Decider,
    outcomes: Vec<host::Counter>,
    faults: Vec<host::Counter>,
}

impl Filter {
    fn configure(policy: &[u8]) -> Result<Self, String> {
        let policy = Policy::from_json(policy).map_err(|error| format!("the policy is not valid: {error}"))?;
        let counter = |code: &str| host::Counter::define(&format!("routing_claims.{}", code.replace('-', "_")));
        Ok(Self {
            decider: Decider::new(policy),
            outcomes: Outcome::ALL.iter().map(|outcome| counter(outcome.code())).collect::<Result<_, _>>()?,
            faults: ClaimFault::ALL.iter().map(|fault| counter(fault.code())).collect::<Result<_, _>>()?,
        })
    }

    fn handle_request(&mut self) {
        let headers = host::RequestHeaders::read();
        let decision = self.decider.decide(headers.iter(), host::unix_seconds());
        if decision.removes_any() {
            for (name, _) in headers.iter().filter(|(name, _)| decision.removes(name)) {
                host::remove_request_header(name);
            }
        }
        for (name, value) in decision.set_headers() {
            host::set_request_header(name, value);
        }
        self.outcomes.get(decision.outcome().index()).inspect(|counter| counter.add(1));
        for (fault, count) in decision.faults() {
            self.faults.get(fault.index()).inspect(|counter| counter.add(count));
        }
    }
}
