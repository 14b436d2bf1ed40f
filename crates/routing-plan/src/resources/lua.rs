//! The one place that asks for the filter's script.

use routing_claims::Policy;

/// The script with the policy in it.
pub(crate) fn script(policy: &Policy) -> String {
    lua_filter::source(policy)
}
