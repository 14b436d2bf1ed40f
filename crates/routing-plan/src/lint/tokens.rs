//! Whether the filter gets tokens, and only verified ones.

use routing_claims::Policy;

use super::{Findings, Scope};
use crate::{
    attachment::Attachment,
    diagnostic::FieldPath,
    filter::RoutingFilter,
    manifests::Manifest,
    views::{EnvoyFilter, Gateway, Labels, RequestAuthentication, Workload},
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
