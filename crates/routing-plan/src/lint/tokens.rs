//! Whether the filter gets tokens, and only verified ones.

use std::collections::BTreeSet;

use routing_claims::{HeaderSourceConfig, Policy, PolicyConfig};

use super::{Findings, Scope};
use crate::{
    attachment::Attachment,
    diagnostic::FieldPath,
    filter::RoutingFilter,
    manifests::Manifest,
    token_source::VERIFIED_PAYLOAD,
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
            if let Some(why) = policies.find_map(|policy| rule.loses_token(policy)) {
                findings.add(manifest, &rule.path, format!("{} {why}", manifest.id()));
            }
        }
    }
}

/// Whether a gateway or workload has both a resource and the filter. What no manifest tells is not assumed, except where
/// the resource is for all proxies that the filter is for, or the reverse.
fn shares_proxies(scope: &Scope<'_>, attachment: &Attachment, filter: &RoutingFilter) -> bool {
    if are_together(attachment, filter) {
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

/// Whether the filter is at a gateway of which a manifest tells: itself, or a `RequestAuthentication` that is only there.
pub(super) fn is_at_a_gateway(scope: &Scope<'_>, filter: &RoutingFilter) -> bool {
    let mut gateways = scope.all::<Gateway>().filter_map(|(_, gateway)| gateway.selector.known());
    let mut authentications = scope.all::<RequestAuthentication>().filter_map(|(manifest, _)| {
        Attachment::of(manifest.any_view(), &manifest.namespace).filter(|attachment| !attachment.has_all())
    });
    gateways.any(|labels| filter.selects(None, labels))
        || authentications.any(|attachment| shares_proxies(scope, &attachment, filter))
}

pub(super) fn token_not_verified(scope: &Scope<'_>, findings: &mut Findings) {
    let is_at_gateway = |manifest: &Manifest| manifest.view::<EnvoyFilter>().is_some();
    for (manifest, filter) in
        scope.filters().filter(|(manifest, filter)| is_at_gateway(manifest) && filter.is_at_gateways())
    {
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

pub(super) fn source_not_verified(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, filter) in scope.filters() {
        let Some(policy) = filter.policy.as_ref().map(Policy::config) else { continue };
        let unverified = if filter.is_at_gateways() && is_at_a_gateway(scope, filter) {
            let rules: Vec<_> = verifiers(scope, |attachment| are_together(attachment, filter)).collect();
            // Without any, `token-not-verified` says it.
            if rules.is_empty() || rules.iter().any(|rule| rule.is_unclear()) {
                continue;
            }
            unverified_sources(policy, &rules)
        } else {
            payload_of_nobody(scope, filter, policy)
        };
        for source in unverified {
            let message = format!("{} reads {source}, where not every token is verified", manifest.id());
            findings.add(manifest, &FieldPath::default().field("spec"), message);
        }
    }
}

/// The sources of a policy in which a rule does not look for a token. Istio lets a request pass that satisfies one rule, whatever
/// the others say, so all rules must look there.
fn unverified_sources(policy: &PolicyConfig, rules: &[&JwtRule]) -> Vec<String> {
    let is_written = |rule: &JwtRule, header: &HeaderSourceConfig| {
        let output = rule.output_payload_to_header.text();
        rule.writes_for(policy) && output.is_some_and(|output| output.eq_ignore_ascii_case(&header.name))
    };
    let is_read = |rule: &JwtRule, header: &HeaderSourceConfig| {
        rule.headers().iter().any(|(name, prefix)| {
            name.eq_ignore_ascii_case(&header.name)
                && (prefix.is_empty() || prefix.eq_ignore_ascii_case(&header.prefix))
        })
    };
    let is_verified = |header: &&HeaderSourceConfig| {
        rules.iter().all(|rule| is_written(rule, header)) || rules.iter().all(|rule| is_read(rule, header))
    };
    let headers = policy.from_headers.iter().filter(|header| !is_verified(header));
    let headers = headers.map(|header| format!("the header `{}`", header.name));
    let has_cookie = |cookie: &&String| rules.iter().all(|rule| rule.from_cookies.items().contains(cookie));
    let cookies = policy.from_cookies.iter().filter(|cookie| !has_cookie(cookie));
    let cookies = cookies.map(|cookie| format!("the cookie `{cookie}`"));
    let baggage = policy.from_baggage.iter().map(|key| format!("`{key}` in `baggage`"));
    headers.chain(cookies).chain(baggage).collect()
}

/// The header for verified payloads, if the proxies of the filter have no check that writes it.
fn payload_of_nobody(scope: &Scope<'_>, filter: &RoutingFilter, policy: &PolicyConfig) -> Vec<String> {
    let is_written = scope.all::<EnvoyFilter>().any(|(manifest, view)| {
        let attachment = Attachment::of(manifest.any_view(), &manifest.namespace);
        attachment.is_some_and(|attachment| attachment.includes(&filter.attachment))
            && view.verifications().any(|(_, check)| check.providers().any(|rule| rule.writes_for(policy)))
    });
    let reads = policy.from_headers.iter().any(|header| header.name == VERIFIED_PAYLOAD);
    if reads && !is_written { vec![format!("the header `{VERIFIED_PAYLOAD}`")] } else { Vec::new() }
}

pub(super) fn issuer_unknown(scope: &Scope<'_>, findings: &mut Findings) {
    let at_gateways: Vec<_> = scope
        .filters()
        .filter(|(_, filter)| filter.is_at_gateways() && is_at_a_gateway(scope, filter))
        .map(|(_, filter)| filter)
        .collect();
    let is_at_gateway = |attachment: &Attachment| at_gateways.iter().any(|filter| are_together(attachment, filter));
    for (manifest, view) in scope.all::<RequestAuthentication>() {
        let Some(here) = Attachment::of(manifest.any_view(), &manifest.namespace) else { continue };
        if is_at_gateway(&here) {
            continue;
        }
        let known: BTreeSet<_> =
            verifiers(scope, |other| !is_at_gateway(other) && other.meets(&here)).map(issuer).collect();
        for rule in view.jwt_rules.items().iter().filter(|rule| !rule.is_unclear()) {
            let passed = verifiers(scope, is_at_gateway)
                .filter(|other| other.forward_original_token == Field::Known(true) && shares_place(rule, other));
            for unknown in passed.map(issuer).filter(|one| !known.contains(one) && !known.contains("")) {
                let message = format!(
                    "{} refuses tokens of `{unknown}`, which the gateway lets pass in the same place",
                    manifest.id()
                );
                findings.add(manifest, &rule.path, message);
            }
        }
    }
}

/// Whether all proxies of a resource have the filter, or the reverse.
fn are_together(attachment: &Attachment, filter: &RoutingFilter) -> bool {
    attachment.includes(&filter.attachment) || filter.attachment.includes(attachment)
}

/// The rules of every `RequestAuthentication` that is for some proxies.
fn verifiers<'s, F: Fn(&Attachment) -> bool>(
    scope: &Scope<'s>,
    is_for: F,
) -> impl Iterator<Item = &'s JwtRule> + use<'s, F> {
    scope
        .all::<RequestAuthentication>()
        .filter(move |(manifest, _)| {
            Attachment::of(manifest.any_view(), &manifest.namespace).is_some_and(|attachment| is_for(&attachment))
        })
        .flat_map(|(_, view)| view.jwt_rules.items())
}

/// Empty: any issuer.
fn issuer(rule: &JwtRule) -> &str {
    rule.issuer.text().unwrap_or_default()
}

/// Whether both rules look for tokens in one header or cookie.
fn shares_place(one: &JwtRule, other: &JwtRule) -> bool {
    let others = other.headers();
    one.headers().iter().any(|(name, _)| others.iter().any(|(other, _)| name == other))
        || one.from_cookies.items().iter().any(|cookie| other.from_cookies.items().contains(cookie))
}
