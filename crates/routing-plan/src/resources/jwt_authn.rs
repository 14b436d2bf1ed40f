//! Envoy's `jwt_authn` in front of a sidecar's filter: it verifies the tokens in the requests that a workload sends.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Resource,
    envoy_filter::{self, HttpUri},
};
use crate::{
    plan::Verify,
    resolve::{FilterCarrier, IssuerKeys, ResolvedIssuer, ResolvedPlan},
    token_source,
};

/// A resource of its own, if the filter's resource has no place for the check.
pub(super) fn generate(plan: &ResolvedPlan) -> Option<Resource> {
    match plan.filter.carrier {
        FilterCarrier::EnvoyFilter(_) | FilterCarrier::NativeModule(_) => None,
        FilterCarrier::WasmPlugin(_) | FilterCarrier::TrafficExtension(_) => {
            JwtAuthn::of(plan).map(|check| envoy_filter::generate_verification(plan, check))
        }
    }
}

/// The filter's configuration. Unlike Istio's, it looks at CORS preflights too.
#[derive(Debug, Serialize)]
pub(super) struct JwtAuthn {
    #[serde(rename = "@type")]
    kind: &'static str,
    providers: BTreeMap<String, Provider>,
    rules: [Rule; 1],
}

impl JwtAuthn {
    /// Of a plan that asks for it.
    pub(super) fn of(plan: &ResolvedPlan) -> Option<Self> {
        if plan.filter.verify != Some(Verify::Outbound) {
            return None;
        }
        let providers: BTreeMap<_, _> =
            plan.issuers.iter().map(|issuer| (issuer.issuer.clone(), provider(plan, issuer))).collect();
        let any = providers.keys().map(|name| Requirement::ProviderName(name.clone()));
        // A request without a good token passes, without a payload.
        let requirements = any.chain([Requirement::AllowMissingOrFailed {}]).collect();
        let rule =
            Rule { matches: PathMatch { prefix: "/" }, requires: Requires { requires_any: AnyOf { requirements } } };
        Some(Self { kind: JWT_AUTHN, providers, rules: [rule] })
    }
}

fn provider(plan: &ResolvedPlan, issuer: &ResolvedIssuer) -> Provider {
    let policy = plan.policy.config();
    let headers = token_source::signed_headers(policy);
    Provider {
        issuer: issuer.issuer.clone(),
        audiences: issuer.audiences.clone(),
        forward: true,
        forward_payload_header: token_source::VERIFIED_PAYLOAD,
        from_headers: headers
            .map(|source| HeaderSource { name: source.name.clone(), value_prefix: source.prefix.clone() })
            .collect(),
        from_cookies: policy.from_cookies.clone(),
        // Envoy takes 0 for 60 seconds. The filter judges the times of the payload again.
        clock_skew_seconds: policy.clock_skew_seconds,
        jwt_cache_config: TokenCache { jwt_cache_size: REMEMBERED_TOKENS },
        keys: match &issuer.keys {
            IssuerKeys::Inline(jwks) => Keys::LocalJwks { inline_string: jwks.clone() },
            IssuerKeys::Remote { uri, cluster } => Keys::RemoteJwks {
                http_uri: HttpUri { cluster: cluster.clone().unwrap_or_default(), timeout: "5s", uri: uri.clone() },
                async_fetch: AsyncFetch { fast_listener: true },
            },
        },
    }
}

#[derive(Debug, Serialize)]
struct Provider {
    issuer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    clock_skew_seconds: u32,
    forward: bool,
    forward_payload_header: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from_headers: Vec<HeaderSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from_cookies: Vec<String>,
    jwt_cache_config: TokenCache,
    #[serde(flatten)]
    keys: Keys,
}

#[derive(Debug, Serialize)]
struct HeaderSource {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value_prefix: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Keys {
    LocalJwks { inline_string: String },
    RemoteJwks { http_uri: HttpUri, async_fetch: AsyncFetch },
}

#[derive(Debug, Serialize)]
struct TokenCache {
    jwt_cache_size: u32,
}

/// Fetches the keys before the first request, without holding the listener back.
#[derive(Debug, Serialize)]
struct AsyncFetch {
    fast_listener: bool,
}

#[derive(Debug, Serialize)]
struct Rule {
    #[serde(rename = "match")]
    matches: PathMatch,
    requires: Requires,
}

#[derive(Debug, Serialize)]
struct PathMatch {
    prefix: &'static str,
}

#[derive(Debug, Serialize)]
struct Requires {
    requires_any: AnyOf,
}

#[derive(Debug, Serialize)]
struct AnyOf {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Requirement {
    ProviderName(String),
    AllowMissingOrFailed {},
}

/// For each worker and listener. Verifying a signature costs several times what the rest costs (`cargo xtask bench envoy`).
const REMEMBERED_TOKENS: u32 = 32;
const JWT_AUTHN: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
