//! Where a policy looks for a token.

use routing_claims::PolicyConfig;

/// The header line (name, value) that carries a token where the policy looks first; none if it looks nowhere.
#[must_use]
pub fn header_line(policy: &PolicyConfig, token: &str) -> Option<(String, String)> {
    match (policy.from_headers.first(), policy.from_cookies.first()) {
        (Some(source), _) => Some((source.name.clone(), format!("{}{token}", source.prefix))),
        (None, Some(cookie)) => Some(("cookie".into(), format!("{cookie}={token}"))),
        (None, None) => None,
    }
}
