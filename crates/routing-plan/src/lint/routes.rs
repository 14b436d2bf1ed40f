//! The routes of `VirtualService`s and `HTTPRoute`s.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Scope};
use crate::{
    diagnostic::FieldPath,
    explain::is_claim,
    manifests::Manifest,
    names,
    re2::{Pattern, PatternError},
    resources::ROUTE_PREFIX,
    views::{
        HttpRoute, StringMatch, View, VirtualService, http_route,
        reader::Field,
        virtual_service::{self, IstioRoute, MESH, RouteMatch},
    },
};

pub(super) fn duplicate_host(scope: &Scope<'_>, findings: &mut Findings) {
    let mut hosts: BTreeMap<String, Vec<HostOwner<'_>>> = BTreeMap::new();
    for (manifest, view) in scope.all::<VirtualService>().filter(|(_, view)| view.is_for_mesh()) {
        for (index, host) in view.hosts.items().iter().enumerate() {
            let path = view.written.path.clone().field("hosts").index(index);
            let audience = audience(view, &manifest.namespace);
            let others = hosts.entry(names::full_host(host, &manifest.namespace)).or_default();
            let is_rival =
                |other: &&HostOwner<'_>| !other.audience.is_disjoint(&audience) && share_a_caller(other.view, view);
            match others.iter().find(is_rival) {
                None => others.push(HostOwner { manifest, view, path, audience }),
                Some(first) if first.manifest.id() == manifest.id() => {}
                Some(first) => {
                    let message = format!("{} and {} have the same host `{host}`", first.manifest.id(), manifest.id());
                    findings.add_related((manifest, &path), (first.manifest, &first.path), message);
                }
            }
        }
    }
}

/// A `VirtualService` that has a host.
struct HostOwner<'s> {
    manifest: &'s Manifest,
    view: &'s VirtualService,
    path: FieldPath,
    audience: BTreeSet<Audience<'s>>,
}

/// Whether some caller has routes of both. A caller that has none of one follows the other.
fn share_a_caller(one: &VirtualService, other: &VirtualService) -> bool {
    let (ones, others) = (guards(one), guards(other));
    ones.iter().any(|one| others.iter().any(|other| meet(*one, *other)))
}

/// The matches in the mesh, none for a route without.
fn guards(view: &VirtualService) -> Vec<Option<&RouteMatch>> {
    let is_for_mesh = |one: &&RouteMatch| {
        let gateways = one.gateways.items();
        gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH)
    };
    let routes = view.http.items().iter();
    let guards = routes.flat_map(|route| match route.matches.items() {
        [] => vec![None],
        matches => matches.iter().filter(is_for_mesh).map(Some).collect(),
    });
    guards.collect()
}

/// Whether a caller can be meant by both. Beside `gateways` the caller does not count.
fn meet(one: Option<&RouteMatch>, other: Option<&RouteMatch>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    let differ = |one: Option<&String>, other: Option<&String>| matches!((one, other), (Some(a), Some(b)) if a != b);
    let ports = (one.port.known(), other.port.known());
    if matches!(ports, (Some(one), Some(other)) if one != other) {
        return false;
    }
    if [one, other].iter().any(|guard| !guard.gateways.items().is_empty()) {
        return true;
    }
    let labels = |guard: &RouteMatch| guard.source_labels.known().cloned().unwrap_or_default();
    let others = labels(other);
    !differ(one.source_namespace.known(), other.source_namespace.known())
        && !labels(one).iter().any(|(key, value)| differ(Some(value), others.get(key)))
}

/// Who a `VirtualService` is exported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Audience<'v> {
    All,
    /// Its own namespace, where it goes before those that are exported to it.
    Own(&'v str),
    /// Another namespace, where it goes before those for all.
    Other(&'v str),
}

fn audience<'v>(view: &'v VirtualService, namespace: &'v str) -> BTreeSet<Audience<'v>> {
    let of = |name: &'v String| match &**name {
        "*" => Some(Audience::All),
        "~" => None,
        "." => Some(Audience::Own(namespace)),
        name if name == namespace => Some(Audience::Own(namespace)),
        name => Some(Audience::Other(name)),
    };
    match &view.export_to {
        Field::Known(names) if names.iter().any(|name| name == "*") => BTreeSet::from([Audience::All]),
        Field::Known(names) if !names.is_empty() => names.iter().filter_map(of).collect(),
        Field::Absent | Field::Known(_) => BTreeSet::from([Audience::All]),
        Field::Wrong(_) => BTreeSet::new(),
    }
}

pub(super) fn default_missing(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>().filter(|(_, view)| !view.is_delegate()) {
        // What a delegate that is not there takes is not known.
        let Some(delegates) = delegates(scope, manifest, view) else { continue };
        let by_version = routes_by_version(scope, manifest)
            || delegates.iter().any(|delegate| routes_by_version(scope, delegate.manifest));
        // The API server removes an unknown field, and a route without its condition may be the default.
        let is_complete = manifest.unknown_under(&view.written.path).next().is_none();
        if !by_version || !is_complete {
            continue;
        }
        let is_without = |gateway: &String| {
            let takes_all = |(manifest, view): (&Manifest, &VirtualService)| {
                view.http.items().iter().any(|route| route.takes_all_at(gateway, &manifest.namespace))
            };
            let by_delegate = |one: &Delegate<'_>| one.root.has_catch_all() && takes_all((one.manifest, one.view));
            // A gateway merges the VirtualServices of a host.
            let shares = |(other, others): &(&Manifest, &VirtualService)| {
                gateway != MESH
                    && others.gateways(&other.namespace).contains(gateway)
                    && shares_a_host((manifest, view), (other, others))
            };
            !takes_all((manifest, view))
                && !delegates.iter().any(by_delegate)
                && !scope.all::<VirtualService>().filter(shares).any(takes_all)
        };
        if view.gateways(&manifest.namespace).iter().any(is_without) {
            let http = view.written.path.clone().field("http");
            findings.add(manifest, &http, format!("{} has no default route", manifest.id()));
        }
    }
    for routes in by_service(scope).values() {
        let mut versions = rules(routes).filter(|(_, rule)| rule_by_version(scope, rule));
        let has_default = rules(routes).any(|(_, rule)| rule.takes_all());
        if let Some((manifest, _)) = versions.next().filter(|_| !has_default) {
            let message = format!("{} and the HTTPRoutes with the same parent have no default rule", manifest.id());
            findings.add(manifest, &spec_rules(), message);
        }
    }
}

/// A `VirtualService` whose routes take the place of a route of another.
struct Delegate<'s> {
    root: &'s IstioRoute,
    manifest: &'s Manifest,
    view: &'s VirtualService,
}

/// The delegates of a `VirtualService`, if the manifests have all of them.
fn delegates<'s>(scope: &Scope<'s>, manifest: &Manifest, view: &'s VirtualService) -> Option<Vec<Delegate<'s>>> {
    let roots = view.http.items().iter().filter_map(|root| Some((root, root.delegate.known()?)));
    let delegates = roots.map(|(root, to)| {
        let namespace = to.namespace.text().unwrap_or(&manifest.namespace);
        let mut all = scope.all::<VirtualService>().filter(|(_, view)| view.is_delegate());
        let (manifest, view) = all.find(|(other, _)| to.name.is(&other.name) && other.namespace == namespace)?;
        Some(Delegate { root, manifest, view })
    });
    delegates.collect()
}

fn shares_a_host((one, view): (&Manifest, &VirtualService), (other, others): (&Manifest, &VirtualService)) -> bool {
    let hosts = |manifest: &Manifest, view: &VirtualService| -> BTreeSet<String> {
        view.hosts.items().iter().map(|host| names::full_host(host, &manifest.namespace)).collect()
    };
    !hosts(one, view).is_disjoint(&hosts(other, others))
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
    for routes in by_service(scope).values() {
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

pub(super) fn rule_unreachable(scope: &Scope<'_>, findings: &mut Findings) {
    for routes in by_service(scope).values() {
        let takes_all = |rule: &http_route::Rule| {
            rule.matches.is_absent() || rule.matches.items().iter().any(|one| one.takes_all() && !has_regex_path(one))
        };
        if !routes.iter().any(|(_, view)| !view.is_grpc && view.rules.items().iter().any(takes_all)) {
            continue;
        }
        for (manifest, rule) in rules(routes) {
            for condition in rule.matches.items().iter().filter(|condition| has_regex_path(condition)) {
                let path = condition.written.path.clone().field("path");
                findings.add(
                    manifest,
                    &path,
                    "no request reaches the regular expression: another rule takes all first",
                );
            }
        }
    }
}

fn has_regex_path(condition: &http_route::RuleMatch) -> bool {
    condition.path.known().is_some_and(|path| path.kind.is("RegularExpression"))
}

pub(super) fn value_never_matches(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        for condition in view.http.items().iter().flat_map(|route| route.matches.items()) {
            for (name, wanted) in condition.headers.known().into_iter().flatten() {
                let path = condition.written.path.clone().field("headers").field(name.clone());
                if let Field::Known(StringMatch::Exact(value)) = wanted
                    && !is_claim(name)
                    && is_never(scope, name, value)
                {
                    findings.add(manifest, &path, format!("`{name}` is never `{value}`"));
                }
            }
            for (name, unwanted) in condition.without_headers.known().into_iter().flatten() {
                if let Field::Known(StringMatch::Regex(regex)) = unwanted
                    && matches!(&**regex, ".*" | "^.*$")
                {
                    let path = condition.written.path.clone().field("withoutHeaders").field(name.clone());
                    let message =
                        format!("`{regex}` excludes an absent `{name}` too: to ask for absence, write `{{}}`");
                    findings.add(manifest, &path, message);
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

pub(super) fn refused_match(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        for condition in view.http.items().iter().flat_map(|route| route.matches.items()) {
            let texts = [
                ("authority", &condition.authority),
                ("method", &condition.method),
                ("scheme", &condition.scheme),
                ("uri", &condition.uri),
            ];
            let texts = texts.into_iter().filter_map(|(field, text)| {
                Some((condition.written.path.clone().field(field), text.known()?, field == "uri", false))
            });
            let maps = [
                ("headers", &condition.headers),
                ("queryParams", &condition.query_params),
                ("withoutHeaders", &condition.without_headers),
            ];
            let maps = maps.into_iter().flat_map(|(field, map)| {
                let path = condition.written.path.clone().field(field);
                map.known().into_iter().flatten().filter_map(move |(name, text)| {
                    Some((path.clone().field(name.clone()), text.known()?, false, field == "withoutHeaders"))
                })
            });
            for (path, text, is_uri, takes_star) in texts.chain(maps) {
                let why = match text {
                    StringMatch::Prefix(prefix) if prefix.is_empty() && !is_uri => "the prefix is empty".to_owned(),
                    StringMatch::Regex(regex) if regex == "*" && takes_star => continue,
                    StringMatch::Regex(regex) => match refused_regex(regex) {
                        Some(why) => why,
                        None => continue,
                    },
                    _ => continue,
                };
                findings.add(manifest, &path, why);
            }
            for (field, map) in [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)] {
                for (name, text) in map.known().into_iter().flatten().filter(|(name, _)| is_claim(name)) {
                    if *text == Field::Known(StringMatch::Present) {
                        let path = condition.written.path.clone().field(field).field(name.clone());
                        findings.add(manifest, &path, "a claim without a text: expected `exact`, `prefix` or `regex`");
                    }
                }
            }
        }
    }
    for (manifest, view) in scope.all::<HttpRoute>() {
        for condition in view.rules.items().iter().flat_map(|rule| rule.matches.items()) {
            let path = condition.path.known().map(|path| (&path.kind, &path.value, &path.written.path));
            let named = condition.headers.items().iter().chain(condition.query_params.items());
            let named = named.map(|one| (&one.kind, &one.value, &one.written.path));
            for (_, value, path) in path.into_iter().chain(named).filter(|(kind, ..)| kind.is("RegularExpression")) {
                if let Some(why) = value.text().and_then(refused_regex) {
                    findings.add(manifest, path, why);
                }
            }
        }
    }
}

/// Why Istio refuses a regular expression. (`validateStringMatchRegexp` in Istio's `validation.go`.)
fn refused_regex(regex: &str) -> Option<String> {
    if regex.is_empty() {
        return Some("the regular expression is empty".to_owned());
    }
    if regex.len() > MAX_REGEX {
        return Some(format!("the regular expression has {} bytes, expected at most {MAX_REGEX}", regex.len()));
    }
    match Pattern::new(regex) {
        Err(PatternError::Refused(why)) => Some(format!("RE2 refuses `{regex}`: {why}")),
        Ok(_) | Err(PatternError::Unclear(_)) => None,
    }
}

pub(super) fn unsupported_parent(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<HttpRoute>() {
        for parent in view.parent_refs.items() {
            if let Some(why) = parent.unsupported(&manifest.namespace) {
                findings.add(manifest, &parent.written.path, why);
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
    is_generated(&route.name)
        || headers.flat_map(BTreeMap::keys).any(|header| scope.is_managed(&header.to_ascii_lowercase()))
}

fn rule_by_version(scope: &Scope<'_>, rule: &http_route::Rule) -> bool {
    let headers = rule.matches.items().iter().flat_map(|condition| condition.headers.items());
    is_generated(&rule.name) || headers.filter_map(|header| header.name.text()).any(|header| scope.is_managed(header))
}

fn is_generated(name: &Field<String>) -> bool {
    name.text().is_some_and(|name| name.starts_with(ROUTE_PREFIX))
}

fn is_never(scope: &Scope<'_>, header: &str, value: &str) -> bool {
    scope.is_managed(&header.to_ascii_lowercase()) && names::version(value).is_err()
}

/// Host of the Service, port of it, namespace of the routes.
type MergeKey<'s> = (String, Option<u64>, &'s str);

/// Istio merges the routes of one namespace that are for one Service, and for the same of its ports.
fn by_service<'s>(scope: &Scope<'s>) -> BTreeMap<MergeKey<'s>, Vec<(&'s Manifest, &'s HttpRoute)>> {
    let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (manifest, view) in scope.all::<HttpRoute>() {
        for (host, port) in view.services(&manifest.namespace) {
            services.entry((host, port, &*manifest.namespace)).or_default().push((manifest, view));
        }
    }
    services
}

fn rules<'r>(
    routes: &'r [(&'r Manifest, &'r HttpRoute)],
) -> impl Iterator<Item = (&'r Manifest, &'r http_route::Rule)> {
    routes.iter().flat_map(|(manifest, view)| view.rules.items().iter().map(move |rule| (*manifest, rule)))
}

fn spec_rules() -> FieldPath {
    FieldPath::default().field("spec").field("rules")
}

/// Istio's limit on the length of a regular expression.
const MAX_REGEX: usize = 1024;
