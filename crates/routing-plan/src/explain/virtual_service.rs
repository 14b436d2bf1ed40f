//! `VirtualService`: the first route that matches wins.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Destination, ExplainRequest, Explanation,
    matching::{Doubt, Matched, compare, compare_header},
    same_service,
};
use crate::{
    manifests::Manifest,
    names,
    views::{
        Labels, StringMatch, VirtualService,
        reader::{Field, UnusableField},
        virtual_service::{IstioRoute, MESH, RouteMatch, WeightedDestination},
    },
};

/// The one that Envoy's routes have for the host: an exact host before a wildcard, a longer one before a shorter.
pub(super) fn find<'m>(
    manifests: &'m [Manifest],
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> Option<(&'m Manifest, &'m VirtualService)> {
    let mut found: Vec<(usize, &Manifest, &VirtualService)> = Vec::new();
    for manifest in manifests {
        let Some(view) = manifest.view::<VirtualService>() else { continue };
        match view.is_bound(&manifest.namespace, request) {
            Matched::Yes => {
                let ranks = view.hosts.items().iter().filter_map(|host| rank(host, &manifest.namespace, request));
                found.extend(ranks.max().map(|rank| (rank, manifest, view)));
            }
            Matched::No(_) => {}
            Matched::Unknown(Doubt { why, path }) => {
                let location = path.map(|path| manifest.location(&path));
                explanation.assume(format!("{} is not for this request ({why})", manifest.id()), location);
            }
        }
    }
    found.sort_by_key(|(rank, ..)| Reverse(*rank));
    if let [(first, one, _), (second, other, _), ..] = &found[..]
        && first == second
    {
        let (one, other) = (one.id(), other.id());
        explanation.leave_open(format!("which of {one} and {other} Istio follows: both are for this host"), None);
    }
    found.first().map(|(_, manifest, view)| (*manifest, *view))
}

pub(super) fn walk(
    manifest: &Manifest,
    view: &VirtualService,
    request: &ExplainRequest,
    explanation: &mut Explanation,
) {
    explanation.resource = Some(manifest.id());
    explanation.assume_without(manifest, view.written.unknown_paths());
    let routes = match view.http.optional() {
        Ok(routes) => routes.map_or(&[][..], Vec::as_slice),
        Err(field) => return explanation.leave_open_at(manifest, "where the request goes", &field.into()),
    };
    for (index, route) in routes.iter().enumerate() {
        let matched = route.matches(request);
        let name = route.name.text().map_or_else(|| format!("{}", index + 1), str::to_owned);
        explanation.tried(name, manifest.location(&route.written.path), &matched);
        match matched {
            Matched::Yes => return follow(manifest, route, explanation),
            Matched::No(_) => {}
            Matched::Unknown(doubt) => {
                let what = format!("whether rule {} matches, so where the request goes", index + 1);
                return explanation.leave_open_at(manifest, &what, &doubt);
            }
        }
    }
    explanation.instead = Some("404: no rule matches".into());
}

fn follow(manifest: &Manifest, route: &IstioRoute, explanation: &mut Explanation) {
    explanation.assume_without(manifest, route.written.unknown_paths());
    let destinations = route.written.path.clone().field("route");
    explanation.assume_without(manifest, manifest.unknown_under(&destinations).cloned());
    explanation.send_to(manifest, &route.route, |to| to.resolve(&manifest.namespace));
    let elsewhere = [
        (&route.redirect, "a redirect"),
        (&route.direct_response, "a response of the proxy itself"),
        (&route.delegate, "another VirtualService, which is not followed here"),
    ];
    for (field, what) in elsewhere {
        if let Some(value) = field.known() {
            explanation.instead = Some(format!("{what}: {value}"));
        }
    }
    if !route.fault.is_absent() {
        let fault = manifest.location(&route.written.path.clone().field("fault"));
        explanation.leave_open("which requests the route's `fault` delays or aborts", Some(fault));
    }
}

impl VirtualService {
    /// Whether its `gateways` let the request in.
    fn is_bound(&self, namespace: &str, request: &ExplainRequest) -> Matched {
        let qualified = |name: &String| {
            if name == MESH || name.contains('/') { name.clone() } else { format!("{namespace}/{name}") }
        };
        let gateways = match &self.gateways {
            Field::Absent => Matched::of(request.gateway.is_none(), || "it is for the mesh only".into()),
            gateways => {
                Matched::stated(gateways, |names| is_through(&names.iter().map(qualified).collect::<Vec<_>>(), request))
            }
        };
        Matched::all([gateways, Matched::stated(&self.hosts, |_| Matched::Yes)])
    }
}

impl IstioRoute {
    /// Whether it takes the request: without a `match` it does.
    fn matches(&self, request: &ExplainRequest) -> Matched {
        Matched::stated(&self.matches, |entries| match &entries[..] {
            [] => Matched::Yes,
            entries => Matched::any(entries.iter().map(|entry| entry.matches(request))),
        })
    }
}

impl RouteMatch {
    /// Whether all of its conditions hold.
    fn matches(&self, request: &ExplainRequest) -> Matched {
        Matched::all([
            Matched::stated(&self.authority, |authority| string("authority", authority, &request.host)),
            Matched::stated(&self.gateways, |gateways| is_through(gateways, request)),
            each(&self.headers, |name, wanted| header(name, wanted, request)),
            Matched::stated(&self.method, |method| string("method", method, &request.method)),
            Matched::stated(&self.port, |port| has_port(*port, request)),
            each(&self.query_params, |name, wanted| query_param(name, wanted, request)),
            Matched::stated(&self.scheme, |scheme| string("scheme", scheme, "http")),
            Matched::stated(&self.source_labels, |labels| has_labels(labels, request)),
            Matched::stated(&self.source_namespace, |namespace| is_from(namespace, request)),
            self.has_uri(request),
            each(&self.without_headers, |name, unwanted| lacks_header(name, unwanted, request)),
            Matched::unknown_fields(&self.written),
        ])
    }

    fn has_uri(&self, request: &ExplainRequest) -> Matched {
        let path = request.path_without_query();
        Matched::stated(&self.uri, |uri| match self.ignore_uri_case.optional() {
            Ok(Some(true)) => string("uri", &uri.to_lowercase(), &path.to_lowercase()),
            Ok(Some(false) | None) => string("uri", uri, path),
            Err(field) => Matched::Unknown(field.into()),
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
        })
    }
}

fn rank(host: &str, namespace: &str, request: &ExplainRequest) -> Option<usize> {
    let named = names::full_host(host, namespace);
    let asked = request.full_host();
    match named.strip_prefix('*') {
        Some(rest) => (asked.len() > rest.len() && asked.ends_with(rest)).then_some(named.len()),
        None => same_service(&named, &asked).then_some(usize::MAX),
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
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Matched::No(vec![format!("the header name `{name}` has upper-case letters: it never matches")]);
    }
    match name {
        ":authority" => compare(name, wanted, &[&request.host]),
        ":method" => compare(name, wanted, &[&request.method]),
        ":path" => compare(name, wanted, &[&request.path]),
        _ => compare_header(name, wanted, request),
    }
}

fn lacks_header(name: &str, unwanted: &StringMatch, request: &ExplainRequest) -> Matched {
    match header(name, unwanted, request) {
        Matched::Yes => Matched::No(vec![format!("the header `{name}` is as `withoutHeaders` excludes it")]),
        Matched::No(_) => Matched::Yes,
        unknown @ Matched::Unknown(_) => unknown,
    }
}

fn query_param(name: &str, wanted: &StringMatch, request: &ExplainRequest) -> Matched {
    match wanted {
        StringMatch::Present => Matched::Yes,
        wanted => compare(&format!("query parameter {name}"), wanted, &Vec::from_iter(request.query(name))),
    }
}

fn is_through(gateways: &[String], request: &ExplainRequest) -> Matched {
    let here = request.gateway.as_deref().unwrap_or(MESH);
    Matched::of(gateways.iter().any(|gateway| gateway == here), || {
        format!("it is for {}, not {here}", gateways.join(", "))
    })
}

fn has_port(wanted: u64, request: &ExplainRequest) -> Matched {
    match request.port {
        Some(port) => Matched::of(wanted == u64::from(port), || format!("port is `{port}`, expected `{wanted}`")),
        None => Matched::not_given("it depends on the port, which is not known (--port)"),
    }
}

fn has_labels(wanted: &Labels, request: &ExplainRequest) -> Matched {
    match (&request.labels, &request.gateway) {
        (_, Some(_)) => Matched::not_given("`sourceLabels` at a gateway can't be judged from here"),
        (Some(labels), None) => Matched::all(wanted.iter().map(|(key, value)| {
            Matched::of(labels.get(key) == Some(value), || format!("the caller does not have the label {key}: {value}"))
        })),
        (None, None) => Matched::not_given("it depends on the caller's labels, which are not known (--from-labels)"),
    }
}

fn is_from(wanted: &str, request: &ExplainRequest) -> Matched {
    match &request.namespace {
        Some(namespace) => {
            Matched::of(wanted == namespace, || format!("the caller's namespace is `{namespace}`, expected `{wanted}`"))
        }
        None => Matched::not_given("it depends on the caller's namespace, which is not known (--from-namespace)"),
    }
}
