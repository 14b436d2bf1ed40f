//! Istio's `RequestAuthentication`.

use routing_claims::{PolicyConfig, TokenFormat};

use super::{
    reader::{Field, Fields, ReadFields},
    selector::{LabelSelector, TargetRef},
};
use crate::diagnostic::FieldPath;

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct RequestAuthentication {
    pub(crate) selector: Field<LabelSelector>,
    pub(crate) target_ref: Field<TargetRef>,
    pub(crate) target_refs: Field<Vec<TargetRef>>,
    pub(crate) jwt_rules: Field<Vec<JwtRule>>,
}

/// How one issuer's tokens are verified.
#[derive(Debug, Clone)]
pub(crate) struct JwtRule {
    pub(crate) forward_original_token: Field<bool>,
    pub(crate) from_headers: Field<Vec<JwtHeader>>,
    pub(crate) from_cookies: Field<Vec<String>>,
    pub(crate) from_params: Field<Vec<String>>,
    pub(crate) output_payload_to_header: Field<String>,
    pub(crate) path: FieldPath,
}

/// A header that can contain the token.
#[derive(Debug, Clone)]
pub(crate) struct JwtHeader {
    pub(crate) name: Field<String>,
}

impl JwtRule {
    /// Whether it may remove the token from the header that it was in.
    pub(crate) fn removes_token(&self) -> bool {
        self.forward_original_token != Field::Known(true)
    }

    /// Why a policy finds no token after this rule has verified it. Envoy removes the token from the header that it was in, but
    /// not from a cookie (`removeJwt` in its `jwt_authn/extractor.cc`, read).
    pub(crate) fn loses_token(&self, policy: &PolicyConfig) -> Option<String> {
        if !matches!(self.forward_original_token, Field::Absent | Field::Known(false)) || self.from_headers.is_wrong() {
            return None;
        }
        let is_default = [
            self.from_headers.items().is_empty(),
            self.from_cookies.items().is_empty(),
            self.from_params.items().is_empty(),
        ];
        let verified: Vec<&str> = if is_default == [true; 3] {
            vec!["authorization"]
        } else {
            self.from_headers.items().iter().filter_map(|header| header.name.text()).collect()
        };
        let reads = |header: &str| policy.from_headers.iter().any(|source| source.name.eq_ignore_ascii_case(header));
        match self.output_payload_to_header.text() {
            Some(output) if reads(output) && policy.format == TokenFormat::Payload => None,
            Some(output) if reads(output) => Some(format!(
                "writes the payload to `{output}`, which the policy reads as a whole token (`format: payload`)"
            )),
            Some(output) if policy.format == TokenFormat::Payload => {
                let read = policy.from_headers.first().map_or("a cookie", |source| &*source.name);
                Some(format!("writes the payload to `{output}`, but the policy reads it from `{read}`"))
            }
            _ => {
                verified.iter().any(|header| reads(header)).then(|| "removes the token after it has verified it".into())
            }
        }
    }
}

impl ReadFields for RequestAuthentication {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            selector: fields.field("selector"),
            target_ref: fields.field("targetRef"),
            target_refs: fields.field("targetRefs"),
            jwt_rules: fields.field("jwtRules"),
        }
    }
}

impl ReadFields for JwtRule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["audiences", "issuer", "jwks", "jwksUri", "jwks_uri"]);
        fields.inert(&["outputClaimToHeaders", "spaceDelimitedClaims", "timeout"]);
        Self {
            forward_original_token: fields.field("forwardOriginalToken"),
            from_headers: fields.field("fromHeaders"),
            from_cookies: fields.field("fromCookies"),
            from_params: fields.field("fromParams"),
            output_payload_to_header: fields.field("outputPayloadToHeader"),
            path: fields.path(),
        }
    }
}

impl ReadFields for JwtHeader {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["prefix"]);
        Self { name: fields.field("name") }
    }
}
