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

/// How one issuer's tokens are verified: a rule of Istio, or a provider of Envoy's `jwt_authn`.
#[derive(Debug, Clone)]
pub(crate) struct JwtRule {
    pub(crate) issuer: Field<String>,
    pub(crate) audiences: Field<Vec<String>>,
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
    pub(crate) prefix: Field<String>,
}

/// A provider of Envoy's `jwt_authn`.
#[derive(Debug, Clone)]
pub(crate) struct JwtProvider(pub(crate) JwtRule);

/// A header of a provider.
struct ProviderHeader(JwtHeader);

impl JwtRule {
    /// Whether it may remove the token from the header that it was in.
    pub(crate) fn removes_token(&self) -> bool {
        self.forward_original_token != Field::Known(true)
    }

    /// Whether a field is of the wrong type, so that it is not known which tokens it is for, or where it looks for them.
    pub(crate) fn is_unclear(&self) -> bool {
        self.from_headers.is_wrong()
            || [&self.from_cookies, &self.from_params, &self.audiences].iter().any(|field| field.is_wrong())
            || self.issuer.is_wrong()
    }

    /// The headers (name in lower case, prefix) in which it looks for tokens. Without any place it takes Envoy's default.
    pub(crate) fn headers(&self) -> Vec<(String, &str)> {
        let headers = self.from_headers.items().iter();
        let headers = headers
            .filter_map(|one| Some((one.name.text()?.to_ascii_lowercase(), one.prefix.text().unwrap_or_default())));
        if self.has_default_places() { vec![("authorization".into(), "Bearer ")] } else { headers.collect() }
    }

    /// The query parameters in which it looks for tokens.
    pub(crate) fn params(&self) -> Vec<&str> {
        let params = self.from_params.items().iter().map(String::as_str);
        if self.has_default_places() { vec!["access_token"] } else { params.collect() }
    }

    /// Whether it writes the payload of a token to a header in which the policy expects one.
    pub(crate) fn writes_for(&self, policy: &PolicyConfig) -> bool {
        let output = self.output_payload_to_header.text();
        let reads = |header: &str| policy.from_headers.iter().any(|source| source.name.eq_ignore_ascii_case(header));
        policy.format == TokenFormat::Payload && output.is_some_and(reads)
    }

    fn has_default_places(&self) -> bool {
        self.from_headers.items().is_empty()
            && self.from_cookies.items().is_empty()
            && self.from_params.items().is_empty()
    }

    /// Why a policy finds no token after this rule has verified it. Envoy removes the token from the header that it was in, but
    /// not from a cookie (`removeJwt` in its `jwt_authn/extractor.cc`, read).
    pub(crate) fn loses_token(&self, policy: &PolicyConfig) -> Option<String> {
        if !matches!(self.forward_original_token, Field::Absent | Field::Known(false)) || self.from_headers.is_wrong() {
            return None;
        }
        let verified = self.headers();
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
            _ => verified
                .iter()
                .any(|(header, _)| reads(header))
                .then(|| "removes the token after it has verified it".into()),
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
        fields.inert(&["jwks", "jwksUri", "jwks_uri"]);
        fields.inert(&["outputClaimToHeaders", "spaceDelimitedClaims", "timeout"]);
        Self {
            issuer: fields.field("issuer"),
            audiences: fields.field("audiences"),
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
        Self { name: fields.field("name"), prefix: fields.field("prefix") }
    }
}

impl ReadFields for JwtProvider {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        let headers: Field<Vec<ProviderHeader>> = fields.field("from_headers");
        Self(JwtRule {
            issuer: fields.field("issuer"),
            audiences: fields.field("audiences"),
            forward_original_token: fields.field("forward"),
            from_headers: headers.map(|all| all.into_iter().map(|one| one.0).collect()),
            from_cookies: fields.field("from_cookies"),
            from_params: fields.field("from_params"),
            output_payload_to_header: fields.field("forward_payload_header"),
            path: fields.path(),
        })
    }
}

impl ReadFields for ProviderHeader {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self(JwtHeader { name: fields.field("name"), prefix: fields.field("value_prefix") })
    }
}
