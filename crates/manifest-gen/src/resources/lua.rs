//! The one place that asks for the filter's script.

use routing_claims::Policy;

/// The script with the policy in it.
pub(crate) fn script(policy: &Policy) -> String {
    format!("-- {:?}\nfunction envoy_on_request(handle)\nend\n", policy.config().services.as_ref().map(Vec::len))
}
