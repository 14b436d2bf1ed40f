//! Istio's `RequestAuthentication`.

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
