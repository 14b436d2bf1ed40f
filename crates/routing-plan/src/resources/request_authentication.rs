//! `RequestAuthentication`: the gateway verifies what the filter only reads.

use serde::Serialize;

use super::{LabelSelector, Manifest, Resource, metadata};
use crate::model::{IstioVersion, Mesh};

pub(super) fn generate(mesh: &Mesh) -> Option<Resource> {
    let authentication = mesh.authentication.as_ref()?;
    let gateways = mesh.filter.gateways.as_ref()?;
    let policy = mesh.policy.config();
    let from_headers: Vec<_> = policy
        .from_headers
        .iter()
        .map(|source| HeaderSource { name: source.name.clone(), prefix: source.prefix.clone() })
        .collect();
    let rule = JwtRule {
        issuer: authentication.issuer.clone(),
        jwks_uri: authentication.jwks_uri.clone(),
        // The filter, and the services that pass it on, need the token after the check.
        forward_original_token: true,
        from_headers,
        from_cookies: policy.from_cookies.clone(),
    };
    let v1 = mesh.filter.istio >= IstioVersion(1, 22);
    Some(Resource::new(
        &mesh.place,
        &Manifest {
            api_version: if v1 { "security.istio.io/v1" } else { "security.istio.io/v1beta1" },
            kind: "RequestAuthentication",
            metadata: metadata(mesh, &mesh.namespace, format!("routing-claims-{}", mesh.name)),
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
