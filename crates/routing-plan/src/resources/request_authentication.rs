//! `RequestAuthentication`: the gateway verifies the tokens that the filter only reads.

use serde::Serialize;

use super::{KubernetesResource, LabelSelector, Resource, metadata};
use crate::{
    diagnostic::{Document, Location},
    istio::Capability,
    resolve::ResolvedPlan,
};

pub(super) fn generate(plan: &ResolvedPlan) -> Option<Resource> {
    let authentication = plan.authentication.as_ref()?;
    let gateways = plan.filter.gateways.as_ref()?;
    let policy = plan.policy.config();
    // Istio would refuse a choice, which is not signed.
    let carrier = policy.carry.as_ref().and_then(|carry| carry.header.as_ref());
    let from_headers: Vec<_> = policy
        .from_headers
        .iter()
        .filter(|source| Some(&source.name) != carrier)
        .map(|source| HeaderSource { name: source.name.clone(), prefix: source.prefix.clone() })
        .collect();
    let rule = JwtRule {
        issuer: authentication.issuer.clone(),
        jwks_uri: authentication.jwks_uri.clone(),
        // The filter needs the token after the check, and so do services that forward it.
        forward_original_token: true,
        from_headers,
        from_cookies: policy.from_cookies.clone(),
    };
    let stable = plan.filter.istio.has(Capability::StableApis);
    Some(Resource::new(
        &Location::root(Document::Plan).field("spec").field("authentication"),
        &KubernetesResource {
            api_version: if stable { "security.istio.io/v1" } else { "security.istio.io/v1beta1" },
            kind: "RequestAuthentication",
            metadata: metadata(plan, &plan.namespace, format!("routing-claims-{}", plan.name)),
            spec: Spec { jwt_rules: [rule], selector: LabelSelector::of(gateways) },
        },
    ))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    jwt_rules: [JwtRule; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JwtRule {
    issuer: String,
    jwks_uri: String,
    forward_original_token: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from_headers: Vec<HeaderSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from_cookies: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HeaderSource {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    prefix: String,
}
