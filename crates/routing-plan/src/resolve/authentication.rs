//! The issuers whose tokens Envoy verifies, and the policy of a filter that reads only what is verified.

use std::collections::BTreeSet;

use routing_claims::{HeaderSourceConfig, Policy, PolicyConfig, TokenFormat};
use serde_json::Value;

use super::{IssuerKeys, ResolvedIssuer, Resolver, filter::filter, spec};
use crate::{
    diagnostic::{Diagnostic, Location},
    istio::{Capability, IstioVersion},
    plan::{AuthenticationSpec, IssuerSpec},
    token_source,
};

impl Resolver<'_> {
    pub(super) fn authentication(
        &mut self,
        authentication: &AuthenticationSpec,
        istio: Option<IstioVersion>,
    ) -> Vec<ResolvedIssuer> {
        let filter = &self.plan.spec.filter;
        if filter.gateways.is_none() && filter.verify.is_none() {
            let diagnostic = Diagnostic::new(at(), "`authentication` is for the gateways, and the filter has none");
            self.report(diagnostic.with_help("give `filter.gateways`, such as {matchLabels: {istio: ingressgateway}}"));
        }
        self.sources(istio);
        let mut issuers: Vec<ResolvedIssuer> = Vec::new();
        let mut names = BTreeSet::new();
        if authentication.issuers().is_empty() {
            self.report(Diagnostic::new(at(), "expected at least one issuer, found none"));
        }
        for (index, issuer) in authentication.issuers().iter().enumerate() {
            let at = match authentication {
                AuthenticationSpec::Issuers(_) => at().index(index),
                AuthenticationSpec::Issuer(_) => at(),
            };
            let name = at.clone().field("issuer");
            if issuer.issuer.is_empty() {
                self.report(Diagnostic::new(name, "expected the token's `iss`, found nothing"));
            } else if !names.insert(&issuer.issuer) {
                let diagnostic = Diagnostic::new(name, format!("duplicate issuer `{}`", issuer.issuer));
                self.report(diagnostic.with_help("give all of its `audiences` and keys in one entry"));
            }
            let keys = self.keys(issuer, &at);
            issuers.extend(keys.map(|keys| ResolvedIssuer {
                issuer: issuer.issuer.clone(),
                audiences: issuer.audiences.clone(),
                keys,
            }));
        }
        issuers.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        issuers
    }

    /// Checks that Envoy can verify where the policy reads.
    fn sources(&mut self, istio: Option<IstioVersion>) {
        let config = &self.plan.spec.policy;
        let policy = || spec().field("policy");
        if config.format == TokenFormat::Payload {
            let message = "a bare payload (`policy.format: payload`) has no signature that could be verified";
            self.report(Diagnostic::new(at(), message));
        }
        if token_source::signed_headers(config).next().is_none() && config.from_cookies.is_empty() {
            let message = "expected a header or cookie with a token, which `authentication` verifies, found none";
            let diagnostic = Diagnostic::new(policy().field("fromHeaders"), message);
            self.report(diagnostic.with_help("name it in `fromHeaders` or `fromCookies`, or remove `authentication`"));
        }
        if !config.from_cookies.is_empty()
            && let Some(istio) = istio.filter(|istio| !istio.has(Capability::TokensInCookies))
        {
            let since = Capability::TokensInCookies.since();
            let message = format!("Istio verifies tokens in cookies since {since}, and `istioVersion` is {istio}");
            self.report(Diagnostic::new(policy().field("fromCookies"), message));
        }
    }

    fn keys(&mut self, issuer: &IssuerSpec, at: &Location) -> Option<IssuerKeys> {
        let verifies_outbound = self.plan.spec.filter.verify.is_some();
        match (&issuer.jwks_uri, &issuer.jwks) {
            (Some(uri), None) => {
                if !(uri.starts_with("https://") || uri.starts_with("http://")) {
                    let message = format!("expected a URL of `https://` or `http://`, found `{uri}`");
                    self.report(Diagnostic::new(at.clone().field("jwksUri"), message));
                }
                if issuer.cluster.is_none() && verifies_outbound {
                    let message =
                        "with `filter.verify` the proxies fetch the keys, and `cluster` does not say from where";
                    let diagnostic = Diagnostic::new(at.clone().field("jwksUri"), message);
                    self.report(diagnostic.with_help("give the `cluster`, or the keys in `jwks`"));
                }
                Some(IssuerKeys::Remote { uri: uri.clone(), cluster: issuer.cluster.clone() })
            }
            (None, Some(jwks)) => {
                if issuer.cluster.is_some() {
                    let message = "`cluster` has no effect with `jwks`";
                    self.report(Diagnostic::new(at.clone().field("cluster"), message).with_help("remove it"));
                }
                if let Err(message) = check_public_keys(jwks) {
                    let diagnostic = Diagnostic::new(at.clone().field("jwks"), message);
                    self.report(diagnostic.with_help("copy what the issuer serves at its `jwks_uri`"));
                }
                Some(IssuerKeys::Inline(jwks.clone()))
            }
            _ => {
                self.report(Diagnostic::new(at.clone(), "expected exactly one of `jwksUri` and `jwks`"));
                None
            }
        }
    }

    /// Checks that `filter.verify` can hold what it promises.
    pub(super) fn verify(&mut self) {
        let plan = &self.plan.spec;
        if plan.filter.verify.is_none() {
            return;
        }
        if plan.authentication.is_none() {
            let diagnostic =
                Diagnostic::new(filter().field("verify"), "`verify` needs the issuers in `authentication`");
            self.report(diagnostic.with_help("give `spec.authentication`"));
        }
        let unsigned = [("fromBaggage", !plan.policy.from_baggage.is_empty()), ("carry", plan.policy.carry.is_some())];
        for (field, _) in unsigned.into_iter().filter(|(_, is_given)| *is_given) {
            let message = format!("`{field}` can't be with `filter.verify`: a choice that travels is not signed");
            let diagnostic = Diagnostic::new(spec().field("policy").field(field), message);
            self.report(diagnostic.with_help("remove one of the two; services must forward the token for `verify`"));
        }
    }

    /// The policy of a filter that reads only the payloads that Envoy has verified, not what the request says in the same
    /// places, and no carrier, which is not signed.
    pub(super) fn verified_policy(&mut self, policy: &Policy) -> Option<Policy> {
        let verified = HeaderSourceConfig { name: token_source::VERIFIED_PAYLOAD.to_owned(), prefix: String::new() };
        let config = PolicyConfig {
            from_headers: vec![verified],
            from_cookies: Vec::new(),
            from_baggage: Vec::new(),
            format: TokenFormat::Payload,
            ..policy.config().clone()
        };
        Policy::new(config)
            .map_err(|invalid| self.report(Diagnostic::new(spec().field("policy"), invalid.to_string())))
            .ok()
    }
}

/// Checks that a text is a JSON Web Key Set that everybody may read.
fn check_public_keys(jwks: &str) -> Result<(), String> {
    let set: Value = serde_json::from_str(jwks).map_err(|error| format!("expected a JSON Web Key Set: {error}"))?;
    let keys = set["keys"].as_array().filter(|keys| !keys.is_empty());
    for key in keys.ok_or("expected a JSON Web Key Set with at least one of `keys`, found none")? {
        match key["kty"].as_str() {
            // Private keys of RFC 7518, sections 6.2.2 and 6.3.2, and of RFC 8037.
            Some(_) if key.get("d").is_some() => return Err("expected public keys, found a private one (`d`)".into()),
            Some("oct") => return Err("expected public keys, found a symmetric one (`kty: oct`)".into()),
            Some(_) => {}
            None => return Err("expected a `kty` in each of `keys`, found a key without".into()),
        }
    }
    Ok(())
}

fn at() -> Location {
    spec().field("authentication")
}
