//! Resources of others on the way of a request, which may change or refuse it.

use super::{ExplainRequest, Explanation, hosts, verification};
use crate::{
    attachment::Attachment,
    diagnostic::FieldPath,
    filter::{Condition, RoutingFilter},
    manifests::Manifest,
    names,
    views::{
        RequestAuthentication, View,
        envoy_filter::{ConfigPatch, ListenerMatch},
        reader::Field,
        request_authentication::JwtRule,
        wasm_plugin::TrafficSelector,
    },
};

/// Notes that each of them is assumed to do nothing. The filter is the one that sees what is left of a verified token.
pub(super) fn name(
    manifests: &[Manifest],
    filter: Option<&RoutingFilter>,
    request: &ExplainRequest,
    explanation: &mut Explanation,
) {
    let labels = request.labels.as_ref().or_else(|| hosts::gateway_labels(manifests, request));
    let at_gateway = request.gateway.is_some();
    // A Gateway may be in another namespace than the proxies that it is for.
    let namespace = request.namespace.as_deref();
    let port = if at_gateway { hosts::gateway_port(manifests, request) } else { request.port };
    for manifest in manifests {
        let Some(attachment) = Attachment::of(manifest.any_view(), &manifest.namespace) else { continue };
        let is_here = attachment.selects(namespace, labels);
        let on_the_way = match manifest.any_view() {
            _ if manifest.filter().is_some() => false,
            View::EnvoyFilter(filter) => {
                let is_lenient = |patch: &ConfigPatch| {
                    let mut checks = filter.verifications();
                    checks.any(|(other, check)| other.path == patch.path && check.lenient_rules().is_some())
                };
                let mut patches = filter.config_patches.items().iter().filter(|patch| !is_lenient(patch));
                is_here && patches.any(|patch| may_patch(patch, port, request, explanation))
            }
            View::WasmPlugin(plugin) => is_here && sends(&plugin.matches),
            View::TrafficExtension(extension) => is_here && sends(&extension.matches),
            View::AuthorizationPolicy(_) => (is_here && at_gateway) || is_at_destination(&attachment, explanation),
            View::RequestAuthentication(authentication) => {
                let verifies =
                    (is_here && at_gateway) || (attachment.has_all() && is_at_destination(&attachment, explanation));
                if verifies {
                    verify(manifest, authentication, filter, request, explanation);
                }
                false
            }
            _ => false,
        };
        if on_the_way {
            let message = format!("{}, which may change this request, does not", manifest.id());
            explanation.assume(message, Some(manifest.location(&FieldPath::default())));
        }
    }
}

/// Whether a patch may change what the request passes; Envoy's bootstrap is not part of that.
fn may_patch(patch: &ConfigPatch, port: Option<u16>, request: &ExplainRequest, explanation: &Explanation) -> bool {
    let Some(matches) = patch.matches.known() else { return !patch.apply_to.is("BOOTSTRAP") };
    let here = if request.gateway.is_some() { "GATEWAY" } else { "SIDECAR_OUTBOUND" };
    let context = matches.context.text().unwrap_or("ANY");
    let version = request.mesh.istio_version.as_deref();
    // Routes are asked for by the port of the gateway's Service.
    let port = if matches.route_configuration.is_absent() { port } else { request.port };
    let is_elsewhere = Condition::of_patch(patch).iter().any(|one| one.holds(port, version) == Some(false));
    (context == here || context == "ANY")
        && !is_elsewhere
        && match patch.apply_to.text().unwrap_or_default() {
            "BOOTSTRAP" => false,
            "CLUSTER" => matches
                .cluster
                .known()
                .and_then(|cluster| cluster.service.text())
                .is_none_or(|service| explanation.destinations.iter().any(|to| to.host == service)),
            "VIRTUAL_HOST" | "HTTP_ROUTE" => {
                let virtual_host = matches.route_configuration.known().and_then(|routes| routes.virtual_host.known());
                virtual_host.and_then(|one| one.name.text()).is_none_or(|name| may_be_of(name, request))
            }
            "HTTP_FILTER" => !matches.listener.known().is_some_and(ListenerMatch::is_beside_old_filter),
            _ => true,
        }
}

/// Whether the virtual host of this name can be the one of the request's host: `host:port`, perhaps with a wildcard.
fn may_be_of(virtual_host: &str, request: &ExplainRequest) -> bool {
    let Some((host, _)) = virtual_host.rsplit_once(':') else { return true };
    host.contains('*') || hosts::same_service(host, &request.full_host()) || host == request.host
}

/// Notes that a request with a token is taken for one whose token is accepted, and what becomes of it.
fn verify(
    manifest: &Manifest,
    authentication: &RequestAuthentication,
    filter: Option<&RoutingFilter>,
    request: &ExplainRequest,
    explanation: &mut Explanation,
) {
    for rule in authentication.jwt_rules.items().iter().filter(|rule| may_find_token(rule, request)) {
        let place = manifest.location(&rule.path);
        explanation
            .assume(format!("{} accepts the token (it answers others with 401)", manifest.id()), Some(place.clone()));
        if rule.removes_token() {
            explanation.changes_headers(manifest, [rule.path.clone()]);
        }
        let policy = filter.and_then(|filter| filter.policy.as_ref());
        if let Some(why) =
            policy.and_then(|policy| rule.loses_token(policy.config())).filter(|_| request.gateway.is_some())
        {
            explanation.leave_open(format!("what the filter decides: {} {why}", manifest.id()), Some(place));
        }
    }
}

/// Whether a request may have a token where a rule looks for one. (`Extractor` in Envoy's `jwt_authn/extractor.cc`.)
fn may_find_token(rule: &JwtRule, request: &ExplainRequest) -> bool {
    rule.is_unclear() || !verification::tokens(rule, request).is_empty()
}

fn sends(matches: &Field<Vec<TrafficSelector>>) -> bool {
    matches.items().is_empty() || matches.items().iter().any(|one| !one.mode.is("SERVER"))
}

/// Whether a workload behind one of the destinations can have the resource.
fn is_at_destination(attachment: &Attachment, explanation: &Explanation) -> bool {
    explanation.destinations.iter().any(|to| {
        let namespace = names::kubernetes_service(&to.host).map(|(_, namespace)| namespace);
        attachment.selects(namespace, None)
    })
}
