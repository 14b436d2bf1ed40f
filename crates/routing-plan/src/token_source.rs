//! Where a policy looks for a token.

use routing_claims::{HeaderSourceConfig, PolicyConfig};

/// The header line (name, value) that carries a token where the policy looks first; none if it looks nowhere.
#[must_use]
pub fn header_line(policy: &PolicyConfig, token: &str) -> Option<(String, String)> {
    if let Some(source) = policy.from_headers.first() {
        return Some((source.name.clone(), format!("{}{token}", source.prefix)));
    }
    let cookie = policy.from_cookies.first().map(|name| ("cookie".into(), format!("{name}={token}")));
    cookie.or_else(|| policy.from_baggage.first().map(|key| ("baggage".into(), format!("{key}={token}"))))
}

/// The headers with a token that can have a signature: not the carrier, whose choice has none.
pub(crate) fn signed_headers(policy: &PolicyConfig) -> impl Iterator<Item = &HeaderSourceConfig> {
    let carrier = policy.carry.as_ref().and_then(|carry| carry.header.as_ref());
    policy
        .from_headers
        .iter()
        .filter(move |source| !carrier.is_some_and(|name| name.eq_ignore_ascii_case(&source.name)))
}

/// The header with the payload of a token that Envoy has verified. Envoy removes what a client sends there.
pub const VERIFIED_PAYLOAD: &str = "routing-claims-payload";
