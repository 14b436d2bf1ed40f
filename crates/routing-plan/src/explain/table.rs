//! The routes that a proxy has for a host: which resources they come from, in which order, and which of them wins.
//!
//! In the mesh one resource wins a host (`BuildSidecarOutboundVirtualHosts` in Istio's `httproute.go`); a gateway has the
//! routes of all, those that take every request last (`buildGatewayHTTPRouteConfig` in `gateway.go`).

use std::{cmp::Ordering, rc::Rc};

use super::{
    Destination, ExplainRequest, Explanation, http_route,
    matching::{Doubt, Matched},
    virtual_service,
};
use crate::{
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    views::{http_route::Rule, virtual_service::IstioRoute},
};

/// What has routes for the host of a request: a `VirtualService`, or the `HTTPRoute`s that Istio merges into one.
pub(super) struct Source<'m> {
    pub(super) manifests: Vec<&'m Manifest>,
    /// How exactly it names the host: [`EXACT`], or the length of the wildcard.
    pub(super) rank: usize,
    pub(super) visibility: Visibility,
    /// Whether it may be an [`Visibility::OwnRoute`]: the namespace of the caller is not known.
    pub(super) may_be_own: bool,
    /// Its name and namespace, or those that Istio gives it.
    pub(super) name: (String, String),
    pub(super) candidates: Vec<Candidate<'m>>,
}

/// The order in which Istio looks at resources of different visibility.
/// (`SelectVirtualServices` and `VirtualServicesForGateway` in Istio's `virtualservice.go` and `push_context.go`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Visibility {
    /// Exported to its own namespace, which is the one of the proxy.
    Private,
    /// Exported to the namespace of the proxy.
    Exported,
    /// An `HTTPRoute` in the namespace of the proxy.
    OwnRoute,
    Public,
}

/// A route, or those of its matches that Istio does not move.
pub(super) struct Candidate<'m> {
    pub(super) manifest: &'m Manifest,
    pub(super) name: String,
    pub(super) path: FieldPath,
    /// Whether the proxy has it.
    pub(super) in_proxy: Matched,
    /// Whether it takes the request, if the proxy has it.
    pub(super) takes: Matched,
    /// Whether Istio takes it for a route that takes every request.
    pub(super) catches_all: bool,
    /// Of an `HTTPRoute`: what decides between two that match.
    pub(super) precedence: Option<http_route::Precedence>,
    pub(super) action: Action<'m>,
}

/// What a route does.
pub(super) enum Action<'m> {
    VirtualService(Rc<IstioRoute>),
    HttpRoute(&'m Rule),
    /// Nothing that can be told: what it is matched by is unknown.
    Unknown,
}

/// The rank of a host that is named as it is.
pub(super) const EXACT: usize = usize::MAX;

/// The sidecar's answer.
pub(super) fn in_mesh(
    mut sources: Vec<Source<'_>>,
    is_service: bool,
    request: &ExplainRequest,
    explanation: &mut Explanation,
) {
    if !is_service {
        // A Service keeps the routes of the resource that names it best, even if none is left for this proxy.
        sources.retain(|source| !source.is_out());
        // Istio has routes for a host that is not one of a Service on this port only.
        match (sources.first(), request.port) {
            (Some(_), None) => explanation.assume("the request is for port 80 (--port)", None),
            (Some(source), Some(port)) if port != 80 && !request.mesh.is_complete => {
                let message = format!(
                    "whether {} counts on port {port}: no manifest has a ServiceEntry for the host",
                    source.id()
                );
                return explanation.leave_open(message, None);
            }
            _ => {}
        }
    }
    let best = sources.iter().map(|source| source.rank).max().unwrap_or_default();
    sources.retain(|source| source.rank == best);
    sources.sort_by(|a, b| a.order(b).unwrap_or(a.visibility.cmp(&b.visibility)));
    for source in &sources {
        let is_out = source.is_out();
        let mut rivals = sources.iter().filter(|other| source.order(other).is_none() && !other.is_out());
        if let Some(rival) = rivals.next().filter(|_| !is_out || best != EXACT) {
            return leave_order_open(source, rival, explanation);
        }
        if !is_out {
            explanation.resource = Some(source.id());
            let candidates: Vec<_> = source.candidates.iter().map(|candidate| (source, candidate)).collect();
            return walk(&candidates, request, explanation);
        }
        for candidate in &source.candidates {
            candidate.note(explanation);
        }
        if best != EXACT {
            // The routes of the next wildcard are not for the Service.
            break;
        }
    }
    let host = request.full_host();
    if !is_service && names::kubernetes_service(&host).is_some() {
        let why = format!("no Service or ServiceEntry has `{host}`, so no proxy knows it");
        explanation.instead = Some(format!("503: {why} (502 with `REGISTRY_ONLY`)"));
        return;
    }
    let port = request.port.map(u64::from);
    explanation.destinations = vec![Destination { host, port, subset: None, weight: None, status: None }];
}

/// The gateway's answer.
pub(super) fn at_gateway(mut sources: Vec<Source<'_>>, request: &ExplainRequest, explanation: &mut Explanation) {
    sources.retain(|source| !source.is_out());
    let Some(first) = sources.first() else {
        explanation.instead = Some("404: no route binds this host to the gateway".into());
        return;
    };
    if let Some(other) = sources.iter().find(|other| other.is_gateway_api() != first.is_gateway_api()) {
        let what = "Gateway of that name the request reaches: one of Istio, or one of the Gateway API";
        return explanation.leave_open(format!("which {what} ({} or {})", first.id(), other.id()), None);
    }
    let best = sources.iter().map(|source| source.rank).max().unwrap_or_default();
    sources.retain(|source| source.rank == best);
    sources.sort_by(|a, b| a.order(b).unwrap_or(a.visibility.cmp(&b.visibility)));
    explanation.resource = Some(sources.iter().map(Source::id).collect::<Vec<_>>().join(" and "));
    let all = sources.iter().flat_map(|source| source.candidates.iter().map(move |candidate| (source, candidate)));
    let (last, first): (Vec<_>, Vec<_>) = all.partition(|(_, candidate)| candidate.catches_all);
    walk(&first.into_iter().chain(last).collect::<Vec<_>>(), request, explanation);
}

/// The first route that takes the request wins.
fn walk(candidates: &[(&Source<'_>, &Candidate<'_>)], request: &ExplainRequest, explanation: &mut Explanation) {
    for (index, (source, candidate)) in candidates.iter().enumerate() {
        match candidate.note(explanation) {
            Matched::No(_) => {}
            Matched::Unknown(doubt) => {
                let what = format!("whether rule {} matches, so where the request goes", candidate.name);
                return explanation.leave_open_at(candidate.manifest, &what, &doubt);
            }
            Matched::Yes => {
                let rest = candidates.iter().skip(index + 1);
                let mut rivals = rest.filter(|(_, other)| !matches!(other.outcome(), Matched::No(_)));
                if let Some((_, rival)) = rivals.find(|other| is_rival((source, candidate), **other)) {
                    let (one, other) = (candidate.place(), rival.place());
                    let why = "the older resource's, whose age is not known";
                    return explanation.leave_open(format!("which of {one} and {other} comes first: {why}"), None);
                }
                return candidate.follow(request, explanation);
            }
        }
    }
    match candidates.iter().find_map(|(_, candidate)| candidate.doubt()) {
        Some((manifest, doubt)) => {
            let instead = if request.gateway.is_none() { "the host's own Service answers" } else { "another host's" };
            let what = format!("whether no rule matches (404) or none is left for the caller ({instead})");
            explanation.leave_open_at(manifest, &what, doubt);
        }
        None => explanation.instead = Some("404: no rule matches".into()),
    }
}

/// Whether the order of two routes is not known.
fn is_rival(
    (source, candidate): (&Source<'_>, &Candidate<'_>),
    (other_source, other): (&Source<'_>, &Candidate<'_>),
) -> bool {
    if std::ptr::eq(source, other_source) {
        let ages = (candidate.manifest.created(), other.manifest.created());
        return candidate.precedence.is_some()
            && candidate.precedence == other.precedence
            && !std::ptr::eq(candidate.manifest, other.manifest)
            && !matches!(ages, (Some(_), Some(_)));
    }
    candidate.catches_all == other.catches_all && source.order(other_source).is_none()
}

/// Istio follows one of two, and which is not known.
fn leave_order_open(one: &Source<'_>, other: &Source<'_>, explanation: &mut Explanation) {
    let what = format!("which of {} and {} Istio follows: both are for this host", one.id(), other.id());
    match one.candidates.iter().chain(&other.candidates).find_map(Candidate::doubt) {
        Some((manifest, doubt)) => explanation.leave_open_at(manifest, &what, doubt),
        None => explanation.leave_open(format!("{what}, and the older one wins"), None),
    }
}

impl Source<'_> {
    /// Kind, namespace and name of each of its resources.
    pub(super) fn id(&self) -> String {
        self.manifests.iter().map(|manifest| manifest.id()).collect::<Vec<_>>().join(" and ")
    }

    /// Whether the proxy has no route of it.
    fn is_out(&self) -> bool {
        self.candidates.iter().all(|candidate| matches!(candidate.in_proxy, Matched::No(_)))
    }

    fn is_gateway_api(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.precedence.is_some())
    }

    /// Which of two comes first, if it can be told: the older one, then by name (`configCompareByCreationTime` in Istio's
    /// `config.go`).
    fn order(&self, other: &Self) -> Option<Ordering> {
        match self.visibility.cmp(&other.visibility) {
            Ordering::Equal => {}
            order => return Some(order),
        }
        if std::ptr::eq(self, other) {
            return Some(Ordering::Equal);
        }
        if self.may_be_own || other.may_be_own {
            return None;
        }
        Some(self.created()?.cmp(other.created()?).then_with(|| self.name.cmp(&other.name)))
    }

    fn created(&self) -> Option<&str> {
        let created: Option<Vec<_>> = self.manifests.iter().map(|manifest| manifest.created()).collect();
        created?.into_iter().min()
    }
}

impl<'m> Candidate<'m> {
    /// A route of which only a doubt can be told.
    pub(super) fn unknown(manifest: &'m Manifest, name: String, path: FieldPath, doubt: Doubt) -> Self {
        let (in_proxy, takes) = (Matched::Unknown(doubt.clone()), Matched::Unknown(doubt));
        let action = Action::Unknown;
        Self { manifest, name, path, in_proxy, takes, catches_all: false, precedence: None, action }
    }

    /// Why it is not known whether the proxy has it.
    fn doubt(&self) -> Option<(&'m Manifest, &Doubt)> {
        match &self.in_proxy {
            Matched::Unknown(doubt) => Some((self.manifest, doubt)),
            Matched::Yes | Matched::No(_) => None,
        }
    }

    fn outcome(&self) -> Matched {
        Matched::all([self.in_proxy.clone(), self.takes.clone()])
    }

    fn note(&self, explanation: &mut Explanation) -> Matched {
        let outcome = self.outcome();
        explanation.tried(self.name.clone(), self.manifest.location(&self.path), &outcome);
        outcome
    }

    /// As messages name it.
    fn place(&self) -> String {
        format!("rule {} of {}", self.name, self.manifest.id())
    }

    fn follow(&self, request: &ExplainRequest, explanation: &mut Explanation) {
        if let Some(wrong) = self.manifest.wrong_types().first() {
            let message = format!("the cluster has {}, though `{}` has the wrong type", self.manifest.id(), wrong.path);
            explanation.assume(message, Some(self.manifest.location(&wrong.path)));
        }
        match &self.action {
            Action::VirtualService(route) => virtual_service::follow(self.manifest, route, request, explanation),
            Action::HttpRoute(rule) => http_route::follow(self.manifest, rule, request, explanation),
            Action::Unknown => {}
        }
    }
}
