//! Istio's `RequestAuthentication`.

use super::reader::{Field, Fields, ReadFields};
use crate::diagnostic::FieldPath;

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct RequestAuthentication {
    pub(crate) jwt_rules: Field<Vec<JwtRule>>,
}

/// How one issuer's tokens are verified.
#[derive(Debug, Clone)]
pub(crate) struct JwtRule {
    pub(crate) forward_original_token: Field<bool>,
    pub(crate) path: FieldPath,
}

impl ReadFields for RequestAuthentication {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["selector", "targetRef", "targetRefs"]);
        Self { jwt_rules: fields.field("jwtRules") }
    }
}

impl ReadFields for JwtRule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["audiences", "fromCookies", "fromHeaders", "fromParams", "issuer", "jwks", "jwksUri"]);
        fields.inert(&["outputClaimToHeaders", "outputPayloadToHeader", "spaceDelimitedClaims", "timeout"]);
        Self { forward_original_token: fields.field("forwardOriginalToken"), path: fields.path() }
    }
}
