//! Where a policy looks for a token.

use routing_claims::PolicyConfig;

/// The header line (name, value) that carries a token where the policy looks first; none if it looks nowhere.
#[must_use]
pub fn header_line(policy: &PolicyConfig, token: &str) -> Option<(String, String)> {
    if let Some(source) = policy.from_headers.first() {
        return Some((source.name.clone(), format!("{}{token}", source.prefix)));
    }
    let cookie = policy.from_cookies.first().map(|name| ("cookie".into(), format!("{name}={token}")));
    cookie.or_else(|| policy.from_baggage.first().map(|key| ("baggage".into(), format!("{key}={token}"))))
}
