//! The routes of `VirtualService`s and `HTTPRoute`s.

use std::collections::BTreeMap;

use super::{Findings, Scope};
use crate::{
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    resources::ROUTE_PREFIX,
    views::{HttpRoute, StringMatch, View, VirtualService, http_route, reader::Field, virtual_service},
};

pub(super) fn duplicate_host(scope: &Scope<'_>, findings: &mut Findings) {
    let mut hosts: BTreeMap<String, (&Manifest, FieldPath)> = BTreeMap::new();
    for (manifest, view) in scope.all::<VirtualService>().filter(|(_, view)| view.is_for_mesh()) {
        for (index, host) in view.hosts.items().iter().enumerate() {
            let host = names::full_host(host, &manifest.namespace);
            let path = view.written.path.clone().field("hosts").index(index);
            match hosts.get(&host) {
                None => {
                    hosts.insert(host, (manifest, path));
                }
                Some((first, _)) if first.id() == manifest.id() => {}
                Some((first, first_path)) => {
                    let message = format!("{} and {} have the same host `{host}`", first.id(), manifest.id());
                    findings.add_related((manifest, &path), (first, first_path), message);
                }
            }
        }
    }
}

pub(super) fn default_missing(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        let has_default = view.http.items().iter().any(virtual_service::IstioRoute::takes_all);
        if routes_by_version(scope, manifest) && !has_default {
            let http = view.written.path.clone().field("http");
            findings.add(manifest, &http, format!("{} has no default route", manifest.id()));
        }
    }
    for routes in by_parent(scope).values() {
        let mut versions = rules(routes).filter(|(_, rule)| rule_by_version(scope, rule));
        let has_default = rules(routes).any(|(_, rule)| rule.takes_all());
        if let Some((manifest, _)) = versions.next().filter(|_| !has_default) {
            let message = format!("{} and the HTTPRoutes with the same parent have no default rule", manifest.id());
            findings.add(manifest, &spec_rules(), message);
        }
    }
}

pub(super) fn default_not_last(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        let routes = view.http.items();
        let before_others = routes.iter().enumerate().take(routes.len().saturating_sub(1));
        for (index, route) in before_others.filter(|(_, route)| route.takes_all()) {
            let message = format!("no request reaches the routes after {}", route.title(index));
            findings.add(manifest, &route.written.path, message);
        }
    }
}

pub(super) fn variant_is_default(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        let routes = view.http.items();
        let target = |route: &virtual_service::IstioRoute| {
            manifest.value_at(&route.route.items().first()?.destination.known()?.path)
        };
        let Some(default) = routes.iter().find(|route| route.takes_all()).and_then(target) else { continue };
        for (index, route) in routes.iter().enumerate().filter(|(_, route)| route_by_version(scope, route)) {
            if target(route) == Some(default) {
                let message = format!("{} has the same destination as the default route", route.title(index));
                findings.add(manifest, &route.written.path.clone().field("route"), message);
            }
        }
    }
    for routes in by_parent(scope).values() {
        let target = |(manifest, rule): (&'_ Manifest, &http_route::Rule)| {
            manifest.value_at(&rule.written.path.clone().field("backendRefs")).cloned()
        };
        let Some(default) = rules(routes).find(|(_, rule)| rule.takes_all()).map(target) else { continue };
        for (manifest, rule) in rules(routes).filter(|(_, rule)| rule_by_version(scope, rule)) {
            if target((manifest, rule)) == default {
                let mut headers = rule.matches.items().iter().flat_map(|one| one.headers.items());
                let version = headers.next().and_then(|header| header.value.text()).unwrap_or_default();
                let message = format!("the rule for `{version}` has the same destination as the default rule");
                findings.add(manifest, &spec_rules(), message);
            }
        }
    }
}

pub(super) fn header_key_case(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        for condition in view.http.items().iter().flat_map(|route| route.matches.items()) {
            for (field, headers) in [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)] {
                for name in headers.known().into_iter().flat_map(BTreeMap::keys).filter(|name| has_upper_case(name)) {
                    let path = condition.written.path.clone().field(field).field(name.clone());
                    findings.add(manifest, &path, format!("the condition on `{name}` never matches"));
                }
            }
        }
    }
}

pub(super) fn value_never_matches(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        for condition in view.http.items().iter().flat_map(|route| route.matches.items()) {
            for (name, wanted) in condition.headers.known().into_iter().flatten() {
                if let Field::Known(StringMatch::Exact(value)) = wanted
                    && !has_upper_case(name)
                    && is_never(scope, name, value)
                {
                    let path = condition.written.path.clone().field("headers").field(name.clone());
                    findings.add(manifest, &path, format!("`{name}` is never `{value}`"));
                }
            }
        }
    }
    for (manifest, view) in scope.all::<HttpRoute>() {
        let conditions = view.rules.items().iter().flat_map(|rule| rule.matches.items());
        for header in conditions.flat_map(|condition| condition.headers.items()) {
            let (Some(name), Some(value)) = (header.name.text(), header.value.text()) else { continue };
            let is_exact = header.kind.is_absent() || header.kind.is("Exact");
            if is_exact && is_never(scope, name, value) {
                findings.add(manifest, &header.written.path, format!("`{name}` is never `{value}`"));
            }
        }
    }
}

/// Whether a rule of the resource looks at a header that tokens decide.
pub(super) fn routes_by_version(scope: &Scope<'_>, manifest: &Manifest) -> bool {
    match manifest.any_view() {
        View::VirtualService(view) => view.http.items().iter().any(|route| route_by_version(scope, route)),
        View::HttpRoute(view) => view.rules.items().iter().any(|rule| rule_by_version(scope, rule)),
        _ => false,
    }
}

fn route_by_version(scope: &Scope<'_>, route: &virtual_service::IstioRoute) -> bool {
    let headers = route.matches.items().iter().filter_map(|condition| condition.headers.known());
    is_generated(&route.name) || headers.flat_map(BTreeMap::keys).any(|header| scope.is_managed(header))
}

fn rule_by_version(scope: &Scope<'_>, rule: &http_route::Rule) -> bool {
    let headers = rule.matches.items().iter().flat_map(|condition| condition.headers.items());
    is_generated(&rule.name) || headers.filter_map(|header| header.name.text()).any(|header| scope.is_managed(header))
}

fn is_generated(name: &Field<String>) -> bool {
    name.text().is_some_and(|name| name.starts_with(ROUTE_PREFIX))
}

fn is_never(scope: &Scope<'_>, header: &str, value: &str) -> bool {
    scope.is_managed(header) && names::version(value).is_err()
}

fn has_upper_case(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Istio merges the routes of one Service.
fn by_parent<'s>(scope: &Scope<'s>) -> BTreeMap<String, Vec<(&'s Manifest, &'s HttpRoute)>> {
    let mut parents: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (manifest, view) in scope.all::<HttpRoute>() {
        if let Some(parent) = view.service_parent(&manifest.namespace) {
            parents.entry(parent).or_default().push((manifest, view));
        }
    }
    parents
}

fn rules<'r>(
    routes: &'r [(&'r Manifest, &'r HttpRoute)],
) -> impl Iterator<Item = (&'r Manifest, &'r http_route::Rule)> {
    routes.iter().flat_map(|(manifest, view)| view.rules.items().iter().map(move |rule| (*manifest, rule)))
}

fn spec_rules() -> FieldPath {
    FieldPath::default().field("spec").field("rules")
}
