//! One request for each outcome besides `applied`, and for each fault of a claim.

use serde_json::json;

use crate::{Input, NOW, REFERENCE_PAYLOAD, services, token};

/// The reference token with one fault, as late in the token as possible.
#[must_use]
pub fn faults() -> Vec<Input> {
    let valid = || format!("Bearer {}", token(REFERENCE_PAYLOAD));
    let of_value = |outcome, value: String| Input::new(outcome, services(2), value, outcome);
    let of_payload = |outcome, payload: &str| Input::with_payload(outcome, services(2), payload, outcome);
    // Replaces the closing brace.
    let ending = |end: &str| REFERENCE_PAYLOAD.trim_end_matches('}').to_owned() + end;
    let limited = |outcome, limits| {
        let mut policy = services(2);
        policy["limits"] = limits;
        Input::with_payload(outcome, policy, REFERENCE_PAYLOAD, outcome)
    };
    let of_claim = |name: &str, payload: &str| Input::with_payload(name, services(2), payload, "applied");

    let mut ambiguous = of_value("ambiguous-token", valid());
    ambiguous.lines.insert(0, ambiguous.lines[0].clone());
    let mut invalid_name = of_claim("invalid-name", &format!(r#"{{"r":{}"#, ending(r#","a b":1}}"#)));
    invalid_name.policy = json!({ "claimPath": ["r"], "headerPrefix": "x-route-" });
    vec![
        of_value("no-token", "Basic dGVzdGVyOnNlY3JldA==".to_owned()),
        of_payload("no-routes", &REFERENCE_PAYLOAD.replace("micro", "nano-")),
        ambiguous,
        limited("token-too-large", json!({ "maxPayloadBytes": 266 })),
        // Bits after the last byte: the last digit of the payload segment is not `A`, `Q`, `g` or `w`.
        of_value("malformed-token", format!("Bearer {}", token(&ending(" }")).replacen("fQ.", "fR.", 1))),
        of_payload("malformed-payload", &ending("]")),
        limited("too-deep", json!({ "maxDepth": 1 })).with(&ending(r#","z":[]}"#)),
        of_payload("duplicate-key", &ending(r#","microservice-B":"PR-2"}"#)),
        of_payload("expired", &REFERENCE_PAYLOAD.replace("1800001800", "1799998201")),
        of_payload("not-yet-valid", &ending(&format!(r#","nbf":{}}}"#, NOW + 3600))),
        limited("too-many-routes", json!({ "maxRoutes": 1 })),
        invalid_name,
        of_claim("conflicting-name", &ending(r#","microservice-b":"PR-3"}"#)),
        of_claim("invalid-value", &REFERENCE_PAYLOAD.replace("PR-2", "PR 2")),
    ]
}

impl Input {
    fn with(self, payload: &str) -> Self {
        Self::with_payload(self.name, self.policy, payload, self.outcome)
    }
}
