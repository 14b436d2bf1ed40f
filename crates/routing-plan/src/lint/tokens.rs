//! Whether the filter gets tokens, and only verified ones.

use routing_claims::{Policy, PolicyConfig, TokenFormat};

use super::{Findings, Scope};
use crate::{
    attachment::Attachment,
    diagnostic::FieldPath,
    filter::RoutingFilter,
    manifests::Manifest,
    views::{
        EnvoyFilter, Gateway, Labels, RequestAuthentication, Workload, reader::Field, request_authentication::JwtRule,
    },
};

pub(super) fn token_not_forwarded(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<RequestAuthentication>() {
        let Some(attachment) = Attachment::of(manifest.any_view(), &manifest.namespace) else { continue };
        let filters = scope.filters().map(|(_, filter)| filter);
        let readers: Vec<_> = filters.filter(|filter| shares_proxies(scope, &attachment, filter)).collect();
        for rule in view.jwt_rules.items() {
            let mut policies = readers.iter().filter_map(|filter| filter.policy.as_ref()).map(Policy::config);
            if let Some(why) = policies.find_map(|policy| loses_token(rule, policy)) {
                findings.add(manifest, &rule.path, format!("{} {why}", manifest.id()));
            }
        }
    }
}

/// Why a policy finds no token after a rule has verified it. Envoy removes the token from the header that it was in, but
/// not from cookies and parameters (`removeJwt` in its `jwt_authn/extractor.cc`, read).
fn loses_token(rule: &JwtRule, policy: &PolicyConfig) -> Option<String> {
    if !matches!(rule.forward_original_token, Field::Absent | Field::Known(false)) || rule.from_headers.is_wrong() {
        return None;
    }
    let is_default = [
        rule.from_headers.items().is_empty(),
        rule.from_cookies.items().is_empty(),
        rule.from_params.items().is_empty(),
    ];
    let verified: Vec<&str> = if is_default == [true; 3] {
        vec!["authorization"]
    } else {
        rule.from_headers.items().iter().filter_map(|header| header.name.text()).collect()
    };
    let reads = |header: &str| policy.from_headers.iter().any(|source| source.name.eq_ignore_ascii_case(header));
    match rule.output_payload_to_header.text() {
        Some(output) if reads(output) && policy.format == TokenFormat::Payload => None,
        Some(output) if reads(output) => Some(format!(
            "writes the payload to `{output}`, which the policy reads as a whole token (`format: payload`)"
        )),
        Some(output) if policy.format == TokenFormat::Payload => {
            let read = policy.from_headers.first().map_or("a cookie", |source| &*source.name);
            Some(format!("writes the payload to `{output}`, but the policy reads it from `{read}`"))
        }
        _ => verified.iter().any(|header| reads(header)).then(|| "removes the token after it has verified it".into()),
    }
}

/// Whether a gateway or workload has both a resource and the filter. What no manifest tells is not assumed, except where
/// the resource is for all proxies that the filter is for, or the reverse.
fn shares_proxies(scope: &Scope<'_>, attachment: &Attachment, filter: &RoutingFilter) -> bool {
    if attachment.includes(&filter.attachment) || filter.attachment.includes(attachment) {
        return true;
    }
    let both = |namespace: Option<&str>, labels: &Labels| {
        attachment.selects(namespace, Some(labels)) && filter.selects(namespace, labels)
    };
    let workloads = scope.all::<Workload>().filter_map(|(manifest, one)| Some((manifest, one.labels.known()?)));
    let gateways = scope.all::<Gateway>().filter_map(|(_, gateway)| gateway.selector.known());
    workloads.into_iter().any(|(manifest, labels)| both(Some(&manifest.namespace), labels))
        || gateways.into_iter().any(|labels| both(None, labels))
}

pub(super) fn token_not_verified(scope: &Scope<'_>, findings: &mut Findings) {
    let is_at_gateway = |manifest: &Manifest| manifest.view::<EnvoyFilter>().is_some();
    for (manifest, filter) in scope.filters().filter(|(manifest, filter)| is_at_gateway(manifest) && filter.gateway) {
        let mut verifiers = scope.all::<RequestAuthentication>();
        let is_verified = verifiers.any(|(one, _)| {
            let attachment = Attachment::of(one.any_view(), &one.namespace);
            attachment.is_some_and(|attachment| attachment.meets(&filter.attachment))
        });
        if !is_verified {
            let spec = FieldPath::default().field("spec");
            let message = format!("no RequestAuthentication verifies the tokens that {} reads", manifest.id());
            findings.add(manifest, &spec, message);
        }
    }
}
