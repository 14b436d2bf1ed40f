//! `VirtualService`: the first route that matches wins.

use std::collections::BTreeMap;

use super::{
    Destination, ExplainRequest, Explanation, answer, delegates,
    hosts::{self, Listeners},
    injection::Injection,
    matching::{Doubt, Matched, compare, compare_header},
    table::{Action, Candidate, EXACT, Source, Visibility},
};
use crate::{
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    views::{
        Labels, StringMatch, VirtualService,
        reader::{Field, UnusableField},
        virtual_service::{IstioRoute, MESH, RouteMatch, WeightedDestination},
    },
};

/// Every one that has the host of the request.
pub(super) fn sources<'m>(
    manifests: &'m [Manifest],
    listeners: &Listeners<'m>,
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> Vec<Source<'m>> {
    let here = request.gateway.as_deref().unwrap_or(MESH);
    let is_mesh = request.gateway.is_none();
    let mut sources = Vec::new();
    for manifest in manifests {
        let Some(view) = manifest.view::<VirtualService>() else { continue };
        let namespace = &manifest.namespace;
        let usable =
            [&view.hosts, &view.gateways, &view.export_to].into_iter().try_for_each(|field| field.optional().map(drop));
        if let Err(field) = usable {
            let message = format!("{} is not for this request ({field})", manifest.id());
            explanation.assume(message, Some(manifest.location(field.path())));
            continue;
        }
        if !view.gateways(namespace).iter().any(|gateway| gateway == here) {
            continue;
        }
        let ranks = view.hosts.items().iter().filter_map(|host| match &request.gateway {
            Some(_) => listeners.rank(host, namespace, request),
            None => hosts::rank_in_mesh(manifests, host, namespace, request),
        });
        let Some(rank) = ranks.max() else { continue };
        // A host that is named as it is is there at the ports of the other hosts too.
        let is_elsewhere = rank == EXACT && hosts::any_has_port(manifests, view.hosts.items(), namespace, request);
        let needs_other = hosts::without_port(manifests, request).is_some()
            || (request.mesh.is_complete && request.port != Some(80) && !hosts::is_known(manifests, request));
        if is_mesh && !is_elsewhere && needs_other {
            continue;
        }
        if !is_mesh && !listeners.are_known() {
            // A VirtualService is not for a Gateway of the Gateway API.
            if hosts::kubernetes_gateway(manifests, here).is_some() {
                continue;
            }
            let message =
                format!("the gateway `{here}` listens for the host on behalf of {namespace} (no manifest has it)");
            explanation.assume(message, None);
        }
        let (visibility, is_visible) = visibility(view, manifest, request);
        if matches!(is_visible, Matched::No(_)) {
            continue;
        }
        explanation.assume_without(manifest, view.written.unknown_paths());
        let mut candidates = candidates(manifests, manifest, view, request);
        for candidate in &mut candidates {
            candidate.in_proxy = Matched::all([is_visible.clone(), candidate.in_proxy.clone()]);
        }
        let name = (manifest.name.clone(), namespace.clone());
        sources.push(Source { manifests: vec![manifest], rank, visibility, may_be_own: false, name, candidates });
    }
    sources
}

/// Whether `exportTo` shows it to the proxy, and among which others.
fn visibility(view: &VirtualService, manifest: &Manifest, request: &ExplainRequest) -> (Visibility, Matched) {
    let own_list = view.export_to.items();
    let namespaces = if own_list.is_empty() { &request.mesh.default_export_to } else { own_list };
    let has = |name: &str| namespaces.iter().any(|namespace| namespace == name);
    if namespaces.is_empty() || has("*") {
        return (Visibility::Public, Matched::Yes);
    }
    let own = &manifest.namespace;
    let no = || Matched::No(vec![format!("{} is exported to {} only", manifest.id(), namespaces.join(", "))]);
    if has("~") {
        return (Visibility::Public, no());
    }
    let path = view.written.path.clone().field("exportTo");
    match &request.namespace {
        None => {
            let why = "it depends on the namespace of the caller or gateway, which is not known (--from-namespace)";
            (Visibility::Private, Matched::Unknown(Doubt { why: why.to_owned(), path: Some(path) }))
        }
        Some(proxy) if proxy == own && (has(".") || has(own)) => (Visibility::Private, Matched::Yes),
        Some(proxy) if proxy != own && has(proxy) => (Visibility::Exported, Matched::Yes),
        Some(_) => (Visibility::Public, no()),
    }
}

/// Its routes, up to the first that takes every request.
/// (`BuildHTTPRoutesForVirtualService` in Istio's `route.go`.)
fn candidates<'m>(
    manifests: &'m [Manifest],
    manifest: &'m Manifest,
    view: &'m VirtualService,
    request: &ExplainRequest,
) -> Vec<Candidate<'m>> {
    let routes = match view.http.optional() {
        Ok(routes) => routes.map_or(&[][..], Vec::as_slice),
        Err(field) => {
            let path = view.written.path.clone();
            return vec![Candidate::unknown(manifest, "1".to_owned(), path, field.into())];
        }
    };
    let mut candidates: Vec<Candidate<'m>> = Vec::new();
    // A route that takes every request, if the proxy has it.
    let mut perhaps_last: Option<Doubt> = None;
    for merged in delegates::expand(manifests, manifest, routes, &request.mesh) {
        let delegates::Merged { manifest, index, route } = merged;
        let number = (index + 1).to_string();
        let route = match route {
            Ok(route) => route,
            Err((root, doubt)) => {
                let name = root.name.text().map_or(number, str::to_owned);
                let path = root.written.path.clone();
                let takes = Matched::all([root.matches(manifest, request), Matched::Unknown(doubt.clone())]);
                candidates.push(Candidate { takes, ..Candidate::unknown(manifest, name, path, doubt) });
                continue;
            }
        };
        let name = route.name.text().map_or(number, str::to_owned);
        let path = route.written.path.clone();
        for Taken { mut in_proxy, takes, catches_all } in route.split(&manifest.namespace, request) {
            if let Some(doubt) = &perhaps_last {
                in_proxy = Matched::all([in_proxy, Matched::Unknown(doubt.clone())]);
            }
            let is_last = catches_all && in_proxy == Matched::Yes;
            if let (true, Matched::Unknown(doubt)) = (catches_all, &in_proxy) {
                perhaps_last = Some(doubt.clone());
            }
            let action = Action::VirtualService(route.clone());
            let (name, path) = (name.clone(), path.clone());
            candidates.push(Candidate { manifest, name, path, in_proxy, takes, catches_all, precedence: None, action });
            if is_last {
                return candidates;
            }
        }
    }
    candidates
}

pub(super) fn follow(manifest: &Manifest, route: &IstioRoute, request: &ExplainRequest, explanation: &mut Explanation) {
    explanation.assume_without(manifest, route.written.unknown_paths());
    let destinations = route.written.path.clone().field("route");
    explanation.assume_without(manifest, manifest.unknown_under(&destinations).cloned());
    let each = (0..route.route.items().len()).map(|index| destinations.clone().index(index));
    let requests = |path: FieldPath| path.field("headers").field("request");
    explanation.changes_headers(manifest, [route.written.path.clone()].into_iter().chain(each).map(requests));
    let to = match (route.redirect.optional(), route.direct_response.optional()) {
        (Ok(Some(redirect)), _) => Some(answer::redirect(redirect, request)),
        (Ok(None), Ok(Some(response))) => Some(answer::direct_response(response)),
        (Ok(None), Ok(None)) => None,
        (Err(field), _) | (_, Err(field)) => Some(Err(field)),
    };
    match to {
        Some(answer) => explanation.answer(manifest, answer),
        None if route.route.items().is_empty() && !route.route.is_wrong() => {
            let why = "the route has no `route`, `redirect` or `directResponse`, which Istio refuses";
            let location = manifest.location(&route.written.path);
            explanation.leave_open(format!("where the request goes: {why}"), Some(location));
        }
        None => explanation.send_to(manifest, &route.route, |to| to.resolve(&manifest.namespace)),
    }
    if explanation.destinations.len() > 1 {
        // Of several, one without weight gets nothing (`applyHTTPRouteDestination` in Istio's `route.go`).
        explanation.destinations.retain(|to| to.weight.unwrap_or_default() > 0);
    }
    explanation.injection = Some(Injection::of(manifest, route));
    explanation.status_of_missing = 503;
}

/// Matches of a route that Istio keeps together.
struct Taken {
    in_proxy: Matched,
    takes: Matched,
    catches_all: bool,
}

impl IstioRoute {
    /// Whether it takes the request, wherever it is: without a `match` it does.
    fn matches(&self, manifest: &Manifest, request: &ExplainRequest) -> Matched {
        let namespace = &manifest.namespace;
        Matched::stated(&self.matches, |entries| match &entries[..] {
            [] => Matched::Yes,
            entries => Matched::any(
                entries.iter().map(|entry| Matched::all([entry.in_proxy(namespace, request), entry.takes(request)])),
            ),
        })
    }

    /// Its matches, those that take every request apart: a gateway has them last, and no match after them.
    fn split(&self, namespace: &str, request: &ExplainRequest) -> Vec<Taken> {
        let entries = match self.matches.optional() {
            Ok(entries) => entries.map_or(&[][..], Vec::as_slice),
            Err(field) => {
                let doubt = Matched::Unknown(field.into());
                return vec![Taken { in_proxy: Matched::Yes, takes: doubt, catches_all: false }];
            }
        };
        if entries.is_empty() {
            return vec![Taken { in_proxy: Matched::Yes, takes: Matched::Yes, catches_all: true }];
        }
        let mut apart = Vec::new();
        let mut others = Vec::new();
        for entry in entries {
            let (in_proxy, holds) = (entry.in_proxy(namespace, request), entry.takes(request));
            if !entry.is_catch_all() || matches!(in_proxy, Matched::No(_)) {
                others.push((in_proxy, holds));
                continue;
            }
            let is_last = in_proxy == Matched::Yes;
            apart.push(Taken { in_proxy, takes: holds, catches_all: true });
            if is_last {
                break;
            }
        }
        if !others.is_empty() {
            let in_proxy = Matched::any(others.iter().map(|(in_proxy, _)| in_proxy.clone()));
            let takes = Matched::any(others.into_iter().map(|(in_proxy, holds)| Matched::all([in_proxy, holds])));
            apart.insert(0, Taken { in_proxy, takes, catches_all: false });
        }
        apart
    }
}

impl RouteMatch {
    /// Whether istiod gives it to the proxy. (`TranslateRoute` and `sourceMatchHTTP` in Istio's `route.go`.)
    fn in_proxy(&self, namespace: &str, request: &ExplainRequest) -> Matched {
        let source = match self.gateways.optional() {
            // Beside gateways the caller does not count.
            Ok(Some(gateways)) if !gateways.is_empty() => is_through(gateways, namespace, request),
            Ok(_) => Matched::all([
                Matched::stated(&self.source_labels, |labels| has_labels(labels, request)),
                Matched::stated(&self.source_namespace, |namespace| is_from(namespace, request)),
            ]),
            Err(field) => Matched::Unknown(field.into()),
        };
        Matched::all([Matched::stated(&self.port, |port| has_port(*port, request)), source])
    }

    /// Whether its conditions on the request hold.
    fn takes(&self, request: &ExplainRequest) -> Matched {
        Matched::all([
            Matched::stated(&self.authority, |authority| string("authority", authority, &request.host)),
            each(&self.headers, |name, wanted| header(name, wanted, request)),
            Matched::stated(&self.method, |method| string("method", method, &request.method)),
            each(&self.query_params, |name, wanted| query_param(name, wanted, request)),
            Matched::stated(&self.scheme, |scheme| has_scheme(scheme, request)),
            self.has_uri(request),
            each(&self.without_headers, |name, unwanted| lacks_header(name, unwanted, request)),
            Matched::unknown_fields(&self.written),
        ])
    }

    fn has_uri(&self, request: &ExplainRequest) -> Matched {
        let path = request.path_without_query();
        Matched::stated(&self.uri, |uri| match (self.ignore_uri_case.optional(), uri) {
            (Ok(Some(true)), StringMatch::Exact(_) | StringMatch::Prefix(_)) => {
                string("uri", &uri.to_lowercase(), &path.to_lowercase())
            }
            (Ok(_), uri) => string("uri", uri, path),
            (Err(field), _) => Matched::Unknown(field.into()),
        })
    }
}

impl WeightedDestination {
    /// Where it goes, as a resource of the namespace means it.
    fn resolve(&self, namespace: &str) -> Result<Destination, UnusableField> {
        let to = self.destination.required(&self.path, "destination")?;
        let port = to.port.optional()?.map(|port| port.number.optional()).transpose()?.flatten();
        Ok(Destination {
            host: names::full_host(to.host.required(&to.path, "host")?, namespace),
            port: port.copied(),
            subset: to.subset.optional()?.cloned(),
            weight: self.weight.optional()?.copied(),
            status: None,
        })
    }
}

fn each(
    conditions: &Field<BTreeMap<String, Field<StringMatch>>>,
    judge: impl Fn(&str, &StringMatch) -> Matched,
) -> Matched {
    Matched::stated(conditions, |conditions| {
        Matched::all(conditions.iter().map(|(name, field)| Matched::stated(field, |wanted| judge(name, wanted))))
    })
}

/// A text that every request has.
fn string(what: &str, wanted: &StringMatch, value: &str) -> Matched {
    compare(what, wanted, &[value])
}

fn header(name: &str, wanted: &StringMatch, request: &ExplainRequest) -> Matched {
    if is_claim(name) {
        return match request.gateway {
            None => {
                Matched::No(vec![format!("`{name}` is about a token that was verified, which is so at gateways only")])
            }
            Some(_) => Matched::not_given(format!("`{name}` is about the claims of a verified token")),
        };
    }
    // Envoy looks headers up without regard to case.
    match &*name.to_ascii_lowercase() {
        ":authority" | "host" => compare(name, wanted, &[&request.host]),
        ":method" => compare(name, wanted, &[&request.method]),
        ":path" => compare(name, wanted, &[&request.path]),
        ":scheme" => has_scheme(wanted, request),
        name => compare_header(name, wanted, request),
    }
}

/// Whether a name is not one of a header but of a claim of the verified token. (`ToRoutingClaim` in Istio's `pkg/jwt`.)
pub(crate) fn is_claim(name: &str) -> bool {
    name.get(..CLAIMS.len()).is_some_and(|start| start.eq_ignore_ascii_case(CLAIMS))
}

fn lacks_header(name: &str, unwanted: &StringMatch, request: &ExplainRequest) -> Matched {
    let is_absent = !is_claim(name) && !name.starts_with(':') && request.header(&name.to_ascii_lowercase()).is_empty();
    if is_absent && !unwanted.is_present() && !name.eq_ignore_ascii_case("host") {
        // Envoy takes an absent header for an empty one.
        return match unwanted.matches("") {
            Some(excluded) => Matched::of(!excluded, || {
                format!("`withoutHeaders` also excludes an absent `{name}`: {unwanted} matches an empty text")
            }),
            None => Matched::not_given(format!("whether {unwanted} matches the absent header `{name}`")),
        };
    }
    match header(name, unwanted, request) {
        Matched::Yes => Matched::No(vec![format!("the header `{name}` is as `withoutHeaders` excludes it")]),
        Matched::No(_) => Matched::Yes,
        unknown @ Matched::Unknown(_) => unknown,
    }
}

fn query_param(name: &str, wanted: &StringMatch, request: &ExplainRequest) -> Matched {
    compare(&format!("query parameter {name}"), wanted, &Vec::from_iter(request.query(name)))
}

fn has_scheme(wanted: &StringMatch, request: &ExplainRequest) -> Matched {
    match &request.scheme {
        Some(scheme) => string("scheme", wanted, scheme),
        None => Matched::not_given("it depends on the scheme, which is not known (--scheme)"),
    }
}

fn is_through(gateways: &[String], namespace: &str, request: &ExplainRequest) -> Matched {
    let here = request.gateway.as_deref().unwrap_or(MESH);
    Matched::of(gateways.iter().any(|gateway| names::gateway(gateway, namespace) == here), || {
        format!("it is for {}, not {here}", gateways.join(", "))
    })
}

fn has_port(wanted: u64, request: &ExplainRequest) -> Matched {
    match request.port {
        _ if wanted == 0 => Matched::Yes,
        Some(port) => Matched::of(wanted == u64::from(port), || format!("port is `{port}`, expected `{wanted}`")),
        None => Matched::not_given("it depends on the port, which is not known (--port)"),
    }
}

/// Of the caller, or at a gateway of the gateway itself.
fn has_labels(wanted: &Labels, request: &ExplainRequest) -> Matched {
    let who = if request.gateway.is_some() { "gateway" } else { "caller" };
    match &request.labels {
        _ if wanted.is_empty() => Matched::Yes,
        Some(labels) => Matched::all(wanted.iter().map(|(key, value)| {
            Matched::of(labels.get(key) == Some(value), || format!("the {who} does not have the label {key}: {value}"))
        })),
        None => Matched::not_given(format!("it depends on the {who}'s labels, which are not known (--from-labels)")),
    }
}

fn is_from(wanted: &str, request: &ExplainRequest) -> Matched {
    let who = if request.gateway.is_some() { "gateway" } else { "caller" };
    match &request.namespace {
        _ if wanted.is_empty() => Matched::Yes,
        Some(namespace) => {
            Matched::of(wanted == namespace, || format!("the {who}'s namespace is `{namespace}`, expected `{wanted}`"))
        }
        None => {
            Matched::not_given(format!("it depends on the {who}'s namespace, which is not known (--from-namespace)"))
        }
    }
}

const CLAIMS: &str = "@request.auth.claims";
