//! `RequestAuthentication`: the gateway verifies the tokens, and the filter reads what it has verified.

use serde::Serialize;

use super::{KubernetesResource, LabelSelector, Resource, metadata};
use crate::{
    diagnostic::{Document, Location},
    istio::Capability,
    resolve::{IssuerKeys, ResolvedIssuer, ResolvedPlan},
    token_source,
};

pub(super) fn generate(plan: &ResolvedPlan) -> Option<Resource> {
    let gateways = plan.filter.gateways.as_ref()?;
    if plan.issuers.is_empty() {
        return None;
    }
    let stable = plan.filter.istio.has(Capability::StableApis);
    Some(Resource::new(
        &Location::root(Document::Plan).field("spec").field("authentication"),
        &KubernetesResource {
            api_version: if stable { "security.istio.io/v1" } else { "security.istio.io/v1beta1" },
            kind: "RequestAuthentication",
            metadata: metadata(plan, &plan.namespace, format!("routing-claims-{}", plan.name)),
            spec: Spec {
                jwt_rules: plan.issuers.iter().map(|issuer| rule(plan, issuer)).collect(),
                selector: LabelSelector::of(gateways),
            },
        },
    ))
}

/// Every rule has every source. Istio lets a request pass whose tokens satisfy one rule, whatever another rule would say of
/// tokens in places of its own (`convertToEnvoyJwtConfig` in `pilot/pkg/security/authn/policy_applier.go`, read).
fn rule(plan: &ResolvedPlan, issuer: &ResolvedIssuer) -> JwtRule {
    let policy = plan.policy.config();
    let headers = token_source::signed_headers(policy);
    let (jwks, jwks_uri) = match &issuer.keys {
        IssuerKeys::Inline(jwks) => (Some(jwks.clone()), None),
        IssuerKeys::Remote { uri, .. } => (None, Some(uri.clone())),
    };
    JwtRule {
        issuer: issuer.issuer.clone(),
        audiences: issuer.audiences.clone(),
        jwks,
        jwks_uri,
        // Later hops need the token.
        forward_original_token: true,
        from_headers: headers
            .map(|source| HeaderSource { name: source.name.clone(), prefix: source.prefix.clone() })
            .collect(),
        from_cookies: policy.from_cookies.clone(),
        output_payload_to_header: token_source::VERIFIED_PAYLOAD,
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    jwt_rules: Vec<JwtRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JwtRule {
    issuer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    forward_original_token: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from_headers: Vec<HeaderSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from_cookies: Vec<String>,
    output_payload_to_header: &'static str,
}

#[derive(Debug, Serialize)]
struct HeaderSource {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    prefix: String,
}
