//! The issuer whose tokens the gateway verifies.

use routing_claims::TokenFormat;

use super::{ResolvedAuthentication, Resolver, spec};
use crate::{
    diagnostic::Diagnostic,
    istio::{Capability, IstioVersion},
    plan::AuthenticationSpec,
};

impl Resolver<'_> {
    pub(super) fn authentication(
        &mut self,
        authentication: &AuthenticationSpec,
        istio: Option<IstioVersion>,
    ) -> ResolvedAuthentication {
        let AuthenticationSpec { issuer, jwks_uri } = authentication;
        let at = || spec().field("authentication");
        let policy = &self.plan.spec.policy;
        if self.plan.spec.filter.gateways.is_none() {
            let diagnostic = Diagnostic::new(at(), "`authentication` is for the gateways, and the filter has none");
            self.report(diagnostic.with_help("give `filter.gateways`, such as {matchLabels: {istio: ingressgateway}}"));
        }
        if policy.format == TokenFormat::Payload {
            self.report(Diagnostic::new(at(), "a gateway can't verify a bare payload (`policy.format: payload`)"));
        }
        if !(jwks_uri.starts_with("https://") || jwks_uri.starts_with("http://")) {
            let message = format!("expected a URL of `https://` or `http://`, found `{jwks_uri}`");
            self.report(Diagnostic::new(at().field("jwksUri"), message));
        }
        if issuer.is_empty() {
            self.report(Diagnostic::new(at().field("issuer"), "expected the token's `iss`, found nothing"));
        }
        if !policy.from_cookies.is_empty()
            && let Some(istio) = istio.filter(|istio| !istio.has(Capability::TokensInCookies))
        {
            let since = Capability::TokensInCookies.since();
            let message = format!("Istio verifies tokens in cookies since {since}, and `istioVersion` is {istio}");
            self.report(Diagnostic::new(spec().field("policy").field("fromCookies"), message));
        }
        ResolvedAuthentication { issuer: issuer.clone(), jwks_uri: jwks_uri.clone() }
    }
}
