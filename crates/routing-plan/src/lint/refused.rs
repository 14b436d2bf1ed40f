//! Routes that the API server refuses, by the rules of the resource's schema, or Istio's admission webhook.

use super::{Findings, Scope};
use crate::{
    diagnostic::FieldPath,
    explain::is_claim,
    names,
    views::{
        CORE, GATEWAY_API, HttpRoute, VirtualService,
        http_route::{NamedMatch, ParentRef, PathMatch, RuleMatch},
        reader::Field,
        virtual_service::{IstioRoute, WeightedDestination},
    },
};

pub(super) fn refused_route(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        for (path, why) in refused_virtual_service(&manifest.namespace, view) {
            findings.add(manifest, &path, why);
        }
    }
    for (manifest, view) in scope.all::<HttpRoute>() {
        for (parent, others) in before_each(view.parent_refs.items()) {
            if others.iter().any(|other| are_the_same(other, parent)) {
                let message = "the same parent as one before it: expected a `sectionName` of its own in each";
                findings.add(manifest, &parent.written.path, message);
            }
        }
        for rule in view.rules.items() {
            for backend in rule.backend_refs.items() {
                let is_service = is_or_absent(&backend.group, CORE) && is_or_absent(&backend.kind, "Service");
                if is_service && backend.port.is_absent() {
                    findings.add(manifest, &backend.path, "a Service without `port`");
                }
            }
            for condition in rule.matches.items() {
                if let Some((path, why)) = condition.path.known().and_then(|path| refused_path(path, view.is_grpc)) {
                    findings.add(manifest, &path, why);
                }
                if let Some(why) = refused_method(condition) {
                    findings.add(manifest, &condition.written.path.clone().field("method"), why);
                }
                for named in [&condition.headers, &condition.query_params] {
                    for (one, others) in before_each(named.items()) {
                        if others.iter().any(|other| have_the_same_name(other, one)) {
                            let name = one.name.text().unwrap_or_default();
                            findings.add(manifest, &one.written.path, format!("a second condition on `{name}`"));
                        }
                    }
                }
            }
        }
    }
}

/// What Istio's webhook refuses, and why. (`ValidateVirtualService` and `validateHTTPRouteConflict` in Istio's
/// `pkg/config/validation`.)
fn refused_virtual_service(namespace: &str, view: &VirtualService) -> Vec<(FieldPath, String)> {
    let at = |name: &'static str| view.written.path.clone().field(name);
    let mut refused = Vec::new();
    if view.is_delegate() && !view.gateways.items().is_empty() {
        refused.push((at("gateways"), "a delegate (without `hosts`) has no gateways of its own".to_owned()));
    }
    let hosts = view.hosts.items();
    for (index, host) in hosts.iter().enumerate() {
        let path = at("hosts").index(index);
        if host == "*" && view.is_for_mesh() {
            refused.push((path.clone(), "the host `*` in the mesh: expected gateways only".to_owned()));
        }
        if let Some(other) = hosts.iter().take(index).find(|other| hosts_meet(other, host)) {
            refused.push((path, format!("the host `{host}` is a part of `{other}`, or the reverse")));
        }
    }
    refused.extend(refused_gateway(&view.gateways).map(|(index, why)| (at("gateways").index(index), why)));
    refused.extend(refused_export(&view.export_to, namespace).map(|(index, why)| (at("exportTo").index(index), why)));
    for route in view.http.items() {
        let at = |name: &'static str| route.written.path.clone().field(name);
        let destinations = route.route.items();
        if destinations.len() > 1 && destinations.iter().all(has_no_weight) {
            refused.push((at("route"), "several destinations, and the sum of their weights is 0".to_owned()));
        }
        refused.extend(conflict(view, route).map(|why| (route.written.path.clone(), why.to_owned())));
        refused.extend(refused_shares(route));
        refused.extend(refused_statuses(route));
        for condition in route.matches.items() {
            let gateways = refused_gateway(&condition.gateways);
            let path = condition.written.path.clone();
            refused.extend(gateways.map(|(index, why)| (path.clone().field("gateways").index(index), why)));
            // A VirtualService without gateways is one for the mesh.
            for (field, map) in [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)] {
                let claims = map.known().into_iter().flatten().filter(|(name, _)| view.is_for_mesh() && is_claim(name));
                refused.extend(claims.map(|(name, _)| {
                    let why = format!("`{name}` is about a verified token: expected gateways only, without `mesh`");
                    (path.clone().field(field).field(name.clone()), why)
                }));
            }
        }
    }
    refused
}

/// Shares of requests that a fault is for. (`validatePercentage`.)
fn refused_shares(route: &IstioRoute) -> impl Iterator<Item = (FieldPath, String)> {
    let fault = route.fault.known();
    let shares = fault.into_iter().flat_map(|fault| {
        let abort = fault.abort.known().and_then(|abort| abort.percentage.known());
        abort.into_iter().chain(fault.delay.known().and_then(|delay| delay.percentage.known()))
    });
    shares.filter_map(|share| {
        let value = share.value.known().copied()?;
        let is_fine = value == 0.0 || (0.0001..=100.0).contains(&value);
        (!is_fine).then(|| (share.path.clone().field("value"), format!("expected 0, or 0.0001 to 100, found {value}")))
    })
}

/// Statuses of answers of the proxy itself. (`validateHTTPStatus`.)
fn refused_statuses(route: &IstioRoute) -> impl Iterator<Item = (FieldPath, String)> {
    let abort = route.fault.known().and_then(|fault| fault.abort.known());
    let abort =
        abort.and_then(|abort| Some((abort.written.path.clone().field("httpStatus"), *abort.http_status.known()?)));
    let response = route.direct_response.known();
    let response = response.and_then(|one| Some((one.path.clone().field("status"), *one.status.known()?)));
    let is_refused = |(_, status): &(FieldPath, u64)| !(200..=600).contains(status);
    abort
        .into_iter()
        .chain(response)
        .filter(is_refused)
        .map(|(path, status)| (path, format!("expected a status from 200 to 599, found {status}")))
}

/// Whether a host is covered by another, in whatever order. (`Matches` in Istio's `pkg/config/host`.)
fn hosts_meet(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
        (Some(rest), None) => other.ends_with(rest),
        (None, Some(rest)) => one.ends_with(rest),
        (None, None) => one == other,
    }
}

/// The number of a gateway's name, and what is wrong with it. Istio does not look at those after one without a namespace.
fn refused_gateway(names: &Field<Vec<String>>) -> Option<(usize, String)> {
    let names = names.items().iter().enumerate();
    let with_namespace = names.map_while(|(index, name)| Some((index, name, name.split_once('/')?)));
    with_namespace.into_iter().find_map(|(index, name, (namespace, own))| {
        let is_fine = names::label(namespace).is_ok() && names::label(own).is_ok();
        (!is_fine).then(|| (index, format!("expected `namespace/name` or `name` of a gateway, found `{name}`")))
    })
}

/// The number of a namespace in `exportTo`, and what is wrong with it. (`validateExportTo`.)
fn refused_export(export_to: &Field<Vec<String>>, own: &str) -> Option<(usize, String)> {
    let all = export_to.items();
    let meant = |name: &String| if name == "." { own.to_owned() } else { name.clone() };
    all.iter().enumerate().find_map(|(index, name)| {
        let is_second = all.iter().take(index).any(|other| meant(other) == meant(name));
        let why = match &**name {
            "*" if all.len() > 1 => "`*` beside other namespaces".to_owned(),
            _ if is_second => format!("the namespace `{}` a second time", meant(name)),
            "*" | "." => return None,
            name if names::label(name).is_ok() => return None,
            name => format!("expected a namespace, `.` or `*`, found `{name}`"),
        };
        Some((index, why))
    })
}

/// Fields of a route that exclude each other.
fn conflict(view: &VirtualService, route: &IstioRoute) -> Option<&'static str> {
    let has_redirect = !route.redirect.is_absent();
    let has_response = !route.direct_response.is_absent();
    let has_route = route.route.is_wrong() || !route.route.items().is_empty();
    if !route.delegate.is_absent() {
        return if view.is_delegate() {
            Some("a delegate delegates to another")
        } else {
            (has_route || has_redirect).then_some("`delegate` beside `route` or `redirect`")
        };
    }
    if [has_route, has_redirect, has_response].into_iter().filter(|has| *has).count() > 1 {
        return Some("more than one of `route`, `redirect` and `directResponse`");
    }
    if !has_route && !has_redirect && !has_response {
        return Some("expected `route`, `redirect`, `directResponse` or `delegate`");
    }
    (!has_route && !route.fault.is_absent()).then_some("`fault` beside `redirect` or `directResponse`")
}

/// Each item with those before it.
fn before_each<T>(items: &[T]) -> impl Iterator<Item = (&T, &[T])> {
    items.iter().enumerate().map(|(index, item)| (item, items.get(..index).unwrap_or_default()))
}

fn has_no_weight(destination: &WeightedDestination) -> bool {
    matches!(destination.weight, Field::Absent | Field::Known(0))
}

/// By the rule "sectionName must be unique" of the schema.
fn are_the_same(one: &ParentRef, other: &ParentRef) -> bool {
    let key = |parent: &ParentRef| {
        let text = |field: &Field<String>, default: &str| field.text().unwrap_or(default).to_owned();
        let kind = [text(&parent.group, GATEWAY_API), text(&parent.kind, "Gateway")];
        (kind, text(&parent.namespace, ""), text(&parent.name, ""))
    };
    let section = |parent: &ParentRef| parent.section_name.text().unwrap_or_default().to_owned();
    key(one) == key(other) && (section(one) == section(other) || section(one).is_empty() || section(other).is_empty())
}

fn have_the_same_name(one: &NamedMatch, other: &NamedMatch) -> bool {
    one.name.text().is_some() && one.name.text() == other.name.text()
}

fn is_or_absent(field: &Field<String>, value: &str) -> bool {
    field.is_absent() || field.is(value)
}

/// What the schema refuses. The path of a `GRPCRoute` is made of its `method`.
fn refused_path(path: &PathMatch, is_grpc: bool) -> Option<(FieldPath, String)> {
    let at = path.written.path.clone();
    if is_grpc {
        return path.is_empty_method.then(|| (at, "expected `service` or `method`, or both".to_owned()));
    }
    if !is_or_absent(&path.kind, "PathPrefix") && !path.kind.is("Exact") {
        return None;
    }
    let value = path.value.text()?;
    if !value.starts_with('/') {
        return Some((at, format!("the path `{value}` does not start with `/`")));
    }
    let part = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|part| value.contains(part));
    let part = part.or_else(|| ["/..", "/."].into_iter().find(|end| value.ends_with(end)))?;
    Some((at, format!("a path of the type `Exact` or `PathPrefix` with `{part}`")))
}

fn refused_method(condition: &RuleMatch) -> Option<String> {
    let method = condition.method.text().filter(|method| !METHODS.contains(method))?;
    Some(format!("expected one of {}, found `{method}`", METHODS.join(", ")))
}

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
