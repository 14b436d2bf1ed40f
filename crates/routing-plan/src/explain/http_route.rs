//! `HTTPRoute` and `GRPCRoute`: the most specific match of all routes of one namespace wins.
//! (`route_collections.go` and `conversion.go` of Istio's Gateway API controller.)

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Destination, ExplainRequest, Explanation, answer, hosts,
    listeners::{self, Admission},
    matching::{Doubt, Matched, compare, compare_header},
    table::{Action, Candidate, EXACT, Source, Visibility},
};
use crate::{
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    views::{
        HttpRoute, ServiceEntry, StringMatch,
        http_route::{BackendRef, NamedMatch, Parent, ParentRef, PathMatch, Rule, RuleMatch},
        reader::{Field, UnusableField},
    },
};

/// What decides between two matches: the kind of the path, its length, a method, the number of headers, then of query
/// parameters. Then the older resource wins, then the order in it. (`sortHTTPRoutes`.)
pub(super) type Precedence = (Reverse<PathRank>, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

/// A regular expression comes after a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathRank {
    /// Without any condition, which a `GRPCRoute` allows. Such a rule is behind every other.
    Nothing,
    Any,
    RegularExpression,
    Prefix,
    Exact,
}

/// Routes that Istio merges: those of one namespace and parent, in the mesh also of one `port` of the parent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group<'m> {
    namespace: &'m str,
    port: Option<u64>,
    /// At a gateway: the host as the routes name it.
    host: String,
}

/// A route and the parent that makes it one for the request.
struct Attached<'m> {
    manifest: &'m Manifest,
    view: &'m HttpRoute,
    parent: &'m ParentRef,
    rank: usize,
    /// Whether it is for the proxy.
    is_for: Matched,
    /// Whether the Gateway admits it.
    admission: Admission,
}

/// Every group of routes that has the host of the request.
pub(super) fn sources<'m>(
    manifests: &'m [Manifest],
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> Vec<Source<'m>> {
    let mut groups = groups(manifests, request, explanation);
    // A route for one port is meant for the requests to it.
    let mut ports: Vec<_> =
        groups.values().flatten().filter_map(|route| Some((route.parent.port.known()?, route))).collect();
    ports.sort_by_key(|(port, _)| **port);
    ports.dedup_by_key(|(port, _)| **port);
    if let (None, [(port, route)]) = (request.port, &ports[..])
        && let Ok(number) = u16::try_from(**port)
    {
        let location = route.manifest.location(&route.parent.written.path.clone().field("port"));
        explanation.assume(format!("the request is for port {port} (--port)"), Some(location));
        let request = ExplainRequest { port: Some(number), ..request.clone() };
        groups = self::groups(manifests, &request, explanation);
    }
    groups.into_iter().map(|(group, routes)| source(&group, routes, request, explanation)).collect()
}

fn groups<'m>(
    manifests: &'m [Manifest],
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> BTreeMap<Group<'m>, Vec<Attached<'m>>> {
    let mut groups: BTreeMap<Group<'m>, Vec<Attached<'m>>> = BTreeMap::new();
    for manifest in manifests {
        let Some(view) = manifest.view::<HttpRoute>() else { continue };
        note_unsupported(manifest, view, request, explanation);
        if let Err(field) = view.parent_refs.optional().map(drop).and(view.hostnames.optional().map(drop)) {
            let message = format!("{} is not for this request ({field})", manifest.id());
            explanation.assume(message, Some(manifest.location(field.path())));
            continue;
        }
        for parent in view.parent_refs.items() {
            let Some((group, attached)) = attach(manifests, manifest, view, parent, request) else { continue };
            let routes = groups.entry(group).or_default();
            // One route may name a parent twice, by different sections.
            if !routes.iter().any(|other| std::ptr::eq(other.manifest, manifest)) {
                routes.push(attached);
            }
        }
    }
    groups
}

fn attach<'m>(
    manifests: &'m [Manifest],
    manifest: &'m Manifest,
    view: &'m HttpRoute,
    parent: &'m ParentRef,
    request: &ExplainRequest,
) -> Option<(Group<'m>, Attached<'m>)> {
    let namespace = &*manifest.namespace;
    let port = parent.port.known().copied();
    let target = parent.target(namespace)?;
    let (of, hosts) = match (target, &request.gateway) {
        (Parent::Service(of, name), None) => (of, vec![names::full_host(name, of)]),
        (Parent::ServiceEntry(of, name), None) => {
            let entry = manifests.iter().find(|entry| entry.name == name && entry.namespace == of);
            (of, entry?.view::<ServiceEntry>()?.hosts.items().to_vec())
        }
        (Parent::Gateway(of, name), Some(gateway)) if *gateway == format!("{of}/{name}") => {
            // Istio's own Gateway of that name is not the parent.
            if hosts::gateway(manifests, gateway).is_some() && hosts::kubernetes_gateway(manifests, gateway).is_none() {
                return None;
            }
            (of, view.hostnames.known().cloned().unwrap_or_else(|| vec!["*".to_owned()]))
        }
        _ => return None,
    };
    let admission = match target {
        Parent::Gateway(of, name) => listeners::admits(manifests, (of, name), parent, manifest, request),
        _ => Admission::Yes,
    };
    if admission == Admission::No {
        return None;
    }
    let ranks = hosts.into_iter().filter_map(|host| match &request.gateway {
        None => Some((hosts::rank_in_mesh(manifests, &host, of, request)?, String::new())),
        Some(_) => Some((hosts::rank(&host.to_ascii_lowercase(), &request.host)?, host)),
    });
    let (rank, host) = ranks.max()?;
    let on_port = match (port, request.port) {
        (None, _) => Matched::Yes,
        (Some(wanted), Some(port)) => {
            Matched::of(wanted == u64::from(port), || format!("the route is for port `{wanted}`, not `{port}`"))
        }
        (Some(_), None) => Matched::Unknown(Doubt {
            why: "it depends on the port, which is not known (--port)".to_owned(),
            path: Some(parent.written.path.clone().field("port")),
        }),
    };
    let is_for_caller = if request.gateway.is_some() || of == namespace {
        Matched::Yes
    } else {
        match &request.namespace {
            Some(caller) => Matched::of(caller == namespace, || {
                format!("a route in another namespace than its Service is for callers in `{namespace}` only")
            }),
            None => Matched::Unknown(Doubt {
                why: "it depends on the caller's namespace, which is not known (--from-namespace)".to_owned(),
                path: Some(parent.written.path.clone().field("namespace")),
            }),
        }
    };
    let is_usable = match parent.port.optional() {
        Ok(_) => Matched::unknown_fields(&parent.written),
        Err(field) => Matched::Unknown(field.into()),
    };
    let is_for = Matched::all([on_port, is_for_caller, is_usable]);
    // In the mesh the port is a part of the key, at a gateway it chooses the listener.
    let port = port.filter(|_| request.gateway.is_none());
    let namespace = if request.gateway.is_none() { namespace } else { "" };
    Some((Group { namespace, port, host }, Attached { manifest, view, parent, rank, is_for, admission }))
}

/// Notes a parent of the request's name that Istio does not know.
fn note_unsupported(manifest: &Manifest, view: &HttpRoute, request: &ExplainRequest, explanation: &mut Explanation) {
    for parent in view.parent_refs.items() {
        let namespace = parent.namespace.text().unwrap_or(&manifest.namespace);
        let is_asked = |name: &str| match &request.gateway {
            None => hosts::same_service(&names::full_host(name, namespace), &request.full_host()),
            Some(gateway) => *gateway == format!("{namespace}/{name}"),
        };
        if let Some(why) = parent.unsupported(&manifest.namespace)
            && parent.name.text().is_some_and(is_asked)
        {
            let location = manifest.location(&parent.written.path);
            explanation.tried(manifest.name.clone(), location, &Matched::No(vec![why]));
        }
    }
}

/// Istio's one resource for a group.
fn source<'m>(
    group: &Group<'m>,
    mut routes: Vec<Attached<'m>>,
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> Source<'m> {
    let age = |route: &Attached<'m>| {
        let manifest = route.manifest;
        (manifest.created(), &*manifest.namespace, &*manifest.name)
    };
    routes.sort_by(|a, b| age(a).cmp(&age(b)));
    let mut candidates = Vec::new();
    for route in &routes {
        let Attached { manifest, view, parent, is_for, admission, .. } = route;
        explanation.assume_without(manifest, view.written.unknown_paths());
        if *admission == Admission::Unknown && !matches!(is_for, Matched::No(_)) {
            let parent = manifest.location(&parent.written.path);
            let message = format!("the Gateway has a listener for {} that admits it", manifest.id());
            explanation.assume(message, Some(parent));
        }
        candidates.extend(candidates_of(route, request));
    }
    candidates.sort_by_key(|candidate| candidate.precedence);
    // Nothing comes after one that takes every request.
    let last = candidates.iter().position(|candidate| candidate.catches_all && candidate.in_proxy == Matched::Yes);
    candidates.truncate(last.map_or(candidates.len(), |last| last + 1));
    let rank = routes.iter().map(|route| route.rank).max().unwrap_or(EXACT);
    let is_own = request.gateway.is_none() && request.namespace.as_deref() == Some(group.namespace);
    let visibility = if is_own { Visibility::OwnRoute } else { Visibility::Public };
    let port = group.port.map(|port| format!("~{port}")).unwrap_or_default();
    let name = (format!("{}{port}~{}", group.namespace, request.full_host()), group.namespace.to_owned());
    let manifests = routes.iter().map(|route| route.manifest).collect();
    let may_be_own = request.gateway.is_none() && request.namespace.is_none();
    Source { manifests, rank, visibility, may_be_own, name, candidates }
}

/// Its rules, one for each match.
fn candidates_of<'m>(route: &Attached<'m>, request: &ExplainRequest) -> Vec<Candidate<'m>> {
    let Attached { manifest, view, is_for, .. } = route;
    let (manifest, view) = (*manifest, *view);
    let rules = match view.rules.optional() {
        Ok(rules) => rules.map_or(&[][..], Vec::as_slice),
        Err(field) => return vec![in_doubt(manifest, view, field.into())],
    };
    if let Some((path, why)) = rules.iter().find_map(Rule::refused) {
        // Istio drops the whole route.
        let why = format!("Istio ignores {}: {why}", manifest.id());
        let candidate = in_doubt(manifest, view, Doubt { why: why.clone(), path: Some(path) });
        return vec![Candidate { in_proxy: Matched::No(vec![why]), ..candidate }];
    }
    let mut candidates = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let conditions: Vec<_> = match &rule.matches {
            Field::Known(matches) if !matches.is_empty() => matches.iter().map(Some).collect(),
            Field::Known(_) | Field::Absent => vec![None],
            Field::Wrong(path) => {
                let doubt = Doubt::from(UnusableField::WrongType(path.clone()));
                candidates.push(in_doubt(manifest, view, doubt));
                continue;
            }
        };
        candidates.extend(conditions.into_iter().map(|condition| Candidate {
            manifest,
            name: format!("{} rule {}", manifest.name, index + 1),
            path: rule.written.path.clone(),
            in_proxy: is_for.clone(),
            takes: condition.map_or(Matched::Yes, |condition| condition.takes(request)),
            catches_all: condition.is_none_or(RuleMatch::takes_all),
            precedence: Some(precedence(condition, rule.matches.is_absent() && !view.is_grpc, view.is_grpc)),
            action: Action::HttpRoute(rule),
        }));
    }
    candidates
}

/// Something that may be before every other match.
fn in_doubt<'m>(manifest: &'m Manifest, view: &HttpRoute, doubt: Doubt) -> Candidate<'m> {
    let candidate = Candidate::unknown(manifest, manifest.name.clone(), view.written.path.clone(), doubt);
    Candidate { precedence: Some(BEFORE_ALL), ..candidate }
}

/// An `HTTPRoute` without `matches`, or without a path in them, has the prefix `/`.
fn precedence(condition: Option<&RuleMatch>, has_default: bool, is_grpc: bool) -> Precedence {
    let Some(condition) = condition else {
        let path = if has_default { (PathRank::Prefix, 1) } else { (PathRank::Nothing, 0) };
        return (Reverse(path.0), Reverse(path.1), Reverse(false), Reverse(0), Reverse(0));
    };
    if condition.is_in_doubt() {
        return BEFORE_ALL;
    }
    let (kind, length) = match condition.path.known() {
        None if is_grpc => (PathRank::Any, 0),
        None => (PathRank::Prefix, 1),
        Some(path) => {
            let value = path.value.text().unwrap_or("/");
            match path.kind.text() {
                Some("Exact") => (PathRank::Exact, value.len()),
                Some("RegularExpression") => (PathRank::RegularExpression, value.len()),
                // Istio drops the `/` at the end of an HTTPRoute's prefix, and has one in a GRPCRoute's.
                _ if is_grpc || value == "/" => (PathRank::Prefix, value.len()),
                _ => (PathRank::Prefix, value.strip_suffix('/').unwrap_or(value).len()),
            }
        }
    };
    (
        Reverse(kind),
        Reverse(length),
        Reverse(condition.method.known().is_some()),
        Reverse(names_in(&condition.headers)),
        Reverse(names_in(&condition.query_params)),
    )
}

/// Istio counts each name once.
fn names_in(conditions: &Field<Vec<NamedMatch>>) -> usize {
    let names: std::collections::BTreeSet<_> = conditions.items().iter().filter_map(|one| one.name.text()).collect();
    names.len()
}

pub(super) fn follow(manifest: &Manifest, rule: &Rule, request: &ExplainRequest, explanation: &mut Explanation) {
    explanation.assume_without(manifest, rule.written.unknown_paths());
    let backends = rule.written.path.clone().field("backendRefs");
    explanation.assume_without(manifest, manifest.unknown_under(&backends).cloned());
    let filters = rule.filters.items().iter().chain(rule.backend_refs.items().iter().flat_map(|to| to.filters.items()));
    explanation.changes_headers(manifest, filters.map(|filter| filter.path.clone().field("requestHeaderModifier")));
    if let Some(filter) = rule.filters.items().iter().find(|filter| filter.kind.is("RequestRedirect")) {
        let redirect = match filter.request_redirect.required(&filter.path, "requestRedirect") {
            Ok(redirect) if !redirect.path.is_absent() && redirect.full_path().is_none() => {
                // The new path depends on the one that matched.
                Ok(format!("{}: a redirect", redirect.status_code.known().unwrap_or(&302)))
            }
            Ok(redirect) => answer::redirect(&redirect.to_istio(), request),
            Err(field) => Err(field),
        };
        return explanation.answer(manifest, redirect);
    }
    let weighs = |backend: &&BackendRef| !matches!(backend.weight, Field::Known(0));
    if !rule.backend_refs.is_wrong() && rule.backend_refs.items().iter().filter(weighs).count() == 0 {
        // `convertHTTPRoute` in `pilot/pkg/config/kube/gateway/conversion.go`: the two branches of Istio differ.
        let is_1_30 = request.mesh.istio_version.as_deref().is_some_and(|version| version.starts_with("1.30."));
        let answer = match (rule.backend_refs.items().is_empty(), is_1_30) {
            (true, true) => "404: the rule has no backend",
            (true, false) => "500: the rule has no backend (404 on Istio 1.30)",
            (false, _) => "500: the rule has no backend with a weight",
        };
        explanation.instead = Some(answer.into());
        return;
    }
    for backend in rule.backend_refs.items() {
        let foreign = backend.namespace.text().filter(|namespace| *namespace != manifest.namespace);
        if let Some(namespace) = foreign.filter(|_| request.gateway.is_some()) {
            let message = format!("a ReferenceGrant in `{namespace}` admits the reference (without one: 500)");
            explanation.assume(message, Some(manifest.location(&backend.path)));
        }
    }
    explanation.send_to(manifest, &rule.backend_refs, |backend| backend.resolve(&manifest.namespace));
    explanation.destinations.retain(|to| to.weight != Some(0));
    explanation.status_of_missing = 500;
}

impl Rule {
    /// A field for which Istio ignores the whole route, and why. (`convertHTTPRoute`, `convertGRPCRoute`.)
    fn refused(&self) -> Option<(FieldPath, String)> {
        let filters = self.filters.items().iter();
        let unsupported = filters.filter(|filter| filter.kind.text().is_some_and(|kind| !FILTERS.contains(&kind)));
        // Those without weight are not looked at.
        let backends: Vec<_> = self.backend_refs.items().iter().filter(|one| one.weight != Field::Known(0)).collect();
        let named = backends
            .iter()
            .find(|backend| backend.is_service() && backend.name.text().is_some_and(|name| name.contains('.')));
        let portless = backends.iter().find(|backend| backend.is_service() && backend.port.is_absent());
        let in_backend = backends.iter().flat_map(|backend| backend.filters.items());
        let unsupported_there =
            in_backend.filter(|filter| filter.kind.text().is_some_and(|kind| !FILTERS_OF_BACKENDS.contains(&kind)));
        if let Some(filter) = unsupported.chain(unsupported_there).next() {
            let kind = filter.kind.text().unwrap_or_default();
            return Some((filter.path.clone(), format!("it does not support the filter `{kind}`")));
        }
        if let Some(backend) = named {
            return Some((backend.path.clone(), "a backend is named by a host instead of a Service".to_owned()));
        }
        portless.map(|backend| (backend.path.clone(), "a backend has no port".to_owned()))
    }
}

impl RuleMatch {
    /// Whether something in it is not understood, so that it may be before any other.
    fn is_in_doubt(&self) -> bool {
        let is_odd =
            |path: &PathMatch| path.kind.is_wrong() || path.value.is_wrong() || !path.written.unknown.is_empty();
        self.path.is_wrong()
            || self.path.known().is_some_and(is_odd)
            || self.method.is_wrong()
            || [&self.headers, &self.query_params].iter().any(|named| named.is_wrong())
            || !self.written.unknown.is_empty()
    }

    /// Whether all of its conditions hold.
    fn takes(&self, request: &ExplainRequest) -> Matched {
        Matched::all([
            Matched::stated(&self.path, |path| path.matches(request)),
            Matched::stated(&self.method, |method| {
                compare("method", &StringMatch::Exact(method.clone()), &[&request.method])
            }),
            each(&self.headers, |name, wanted| compare_header(&name.to_ascii_lowercase(), wanted, request)),
            each(&self.query_params, |name, wanted| {
                compare(&format!("query parameter {name}"), wanted, &Vec::from_iter(request.query(name)))
            }),
            Matched::unknown_fields(&self.written),
        ])
    }
}

impl PathMatch {
    /// Whether the path is as wanted: a prefix, unless it says otherwise.
    fn matches(&self, request: &ExplainRequest) -> Matched {
        let path = request.path_without_query();
        let value = Matched::stated(&self.value, |value| match self.kind.text().unwrap_or("PathPrefix") {
            "PathPrefix" => {
                let prefix = value.strip_suffix('/').unwrap_or(value);
                let rest = path.strip_prefix(prefix);
                let holds = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                Matched::of(holds, || format!("path is `{path}`, expected one under `{prefix}`"))
            }
            "Exact" => compare("path", &StringMatch::Exact(value.clone()), &[path]),
            "RegularExpression" => compare("path", &StringMatch::Regex(value.clone()), &[path]),
            other => Matched::not_given(format!("the type `{other}` of a path is not understood")),
        });
        Matched::all([Matched::stated(&self.kind, |_| Matched::Yes), value, Matched::unknown_fields(&self.written)])
    }
}

impl NamedMatch {
    /// Whether the header or query parameter is as wanted: an exact value, unless it says otherwise.
    fn matches(&self, judge: impl Fn(&str, &StringMatch) -> Matched) -> Matched {
        let object = &self.written.path;
        let matched = match (self.name.required(object, "name"), self.value.required(object, "value")) {
            (Ok(name), Ok(value)) => match self.kind.text().unwrap_or("Exact") {
                "Exact" => judge(name, &StringMatch::Exact(value.clone())),
                "RegularExpression" => judge(name, &StringMatch::Regex(value.clone())),
                other => Matched::not_given(format!("the type `{other}` of a match is not understood")),
            },
            (Err(field), _) | (_, Err(field)) => Matched::Unknown(field.into()),
        };
        Matched::all([Matched::stated(&self.kind, |_| Matched::Yes), matched, Matched::unknown_fields(&self.written)])
    }
}

impl BackendRef {
    fn is_service(&self) -> bool {
        self.group.text().unwrap_or_default().is_empty() && self.kind.text().unwrap_or("Service") == "Service"
    }

    /// Where it goes, as a resource of the namespace means it.
    fn resolve(&self, namespace: &str) -> Result<Destination, UnusableField> {
        let own = self.namespace.optional()?.map_or(namespace, String::as_str);
        self.group.optional()?;
        let kind = self.kind.optional()?;
        let name = self.name.required(&self.path, "name")?;
        let host = match (self.group.text().unwrap_or_default(), kind.map_or("Service", String::as_str)) {
            ("", "Service") => names::full_host(name, own),
            ("networking.istio.io", "Hostname") => name.clone(),
            _ => return Err(UnusableField::NotUnderstood(self.path.clone().field("kind"))),
        };
        let port = self.port.optional()?.copied();
        Ok(Destination { host, port, subset: None, weight: self.weight.optional()?.copied(), status: None })
    }
}

fn each(conditions: &Field<Vec<NamedMatch>>, judge: impl Fn(&str, &StringMatch) -> Matched) -> Matched {
    Matched::stated(conditions, |conditions| {
        // Of two conditions on one name, Istio keeps the last.
        let last: BTreeMap<_, _> = conditions.iter().map(|one| (one.name.text(), one)).collect();
        Matched::all(last.into_values().map(|one| one.matches(&judge)))
    })
}

const BEFORE_ALL: Precedence =
    (Reverse(PathRank::Exact), Reverse(usize::MAX), Reverse(true), Reverse(usize::MAX), Reverse(usize::MAX));

const FILTERS: [&str; 6] =
    ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "RequestMirror", "URLRewrite", "CORS"];

const FILTERS_OF_BACKENDS: [&str; 2] = ["RequestHeaderModifier", "ResponseHeaderModifier"];
