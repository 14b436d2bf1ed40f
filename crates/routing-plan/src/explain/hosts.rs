//! Which host a resource's name of one is.

use super::{ExplainRequest, Explanation, table::EXACT};
use crate::{
    manifests::Manifest,
    names,
    views::{
        Gateway, KubernetesGateway, Labels, Service, ServiceEntry, Viewed, Workload, gateway::Server,
        reader::UnusableField,
    },
};

/// How exactly a host that a resource names is the one of a request to the mesh, if it is.
pub(super) fn rank_in_mesh(
    manifests: &[Manifest],
    named: &str,
    namespace: &str,
    request: &ExplainRequest,
) -> Option<usize> {
    let named = names::full_host(named, namespace).to_ascii_lowercase();
    // A wildcard is for the Service, so for its short names too.
    let asked = service(manifests, request).map_or_else(|| request.full_host(), |(manifest, _)| host_of(manifest));
    if named.starts_with('*') { rank(&named, &asked) } else { same_service(&named, &asked).then_some(EXACT) }
}

/// How exactly a host, perhaps with a wildcard, is another one, if it is.
pub(super) fn rank(named: &str, host: &str) -> Option<usize> {
    match named.strip_prefix('*') {
        Some(rest) => (host.len() > rest.len() && host.ends_with(rest)).then_some(named.len()),
        None => (named == host).then_some(EXACT),
    }
}

/// The host in the forms that a resource may name it by: Envoy takes the short ones of a Service too.
pub(super) fn same_service(named: &str, host: &str) -> bool {
    named == host
        || [".cluster.local", ".svc.cluster.local"]
            .iter()
            .any(|rest| named.strip_suffix(rest) == Some(host) && host.contains('.'))
}

/// Whether the mesh has a Service or `ServiceEntry` for the host, as far as the manifests and the name tell.
pub(super) fn is_service(manifests: &[Manifest], request: &ExplainRequest) -> bool {
    let may_exist = !request.mesh.is_complete && names::kubernetes_service(&request.full_host()).is_some();
    may_exist || is_known(manifests, request)
}

/// Whether a manifest has a Service or `ServiceEntry` for the host.
pub(super) fn is_known(manifests: &[Manifest], request: &ExplainRequest) -> bool {
    let asked = request.full_host();
    known(manifests).any(|host| same_service(&host, &asked))
}

/// The Service that the request names, if a manifest has it.
fn service<'m>(manifests: &'m [Manifest], request: &ExplainRequest) -> Option<(&'m Manifest, &'m Service)> {
    let asked = request.full_host();
    services(manifests).find(|(manifest, _)| same_service(&host_of(manifest), &asked))
}

/// Whether the request names a Service of a manifest by a short name with a dot, which can be a host of its own.
pub(super) fn is_short_name(manifests: &[Manifest], request: &ExplainRequest) -> bool {
    request.host.contains('.')
        && service(manifests, request).is_some_and(|(manifest, _)| host_of(manifest) != request.host)
}

/// The Service that the request names, if it does not have the request's port: no proxy has routes for it there.
/// (`BuildSidecarOutboundVirtualHosts` in Istio's `httproute.go`.)
pub(super) fn without_port<'m>(manifests: &'m [Manifest], request: &ExplainRequest) -> Option<&'m Manifest> {
    let port = request.port?;
    let (manifest, service) = service(manifests, request)?;
    let mut entries = manifests.iter().filter_map(Manifest::view::<ServiceEntry>).flat_map(|entry| entry.hosts.items());
    let is_lacking = !service.has_port(port) && !entries.any(|host| *host == host_of(manifest));
    is_lacking.then_some(manifest)
}

/// Whether a manifest has the Service of this host, without this port.
pub(super) fn lacks_port(manifests: &[Manifest], host: &str, port: u16) -> bool {
    services(manifests).any(|(manifest, service)| host_of(manifest) == host && !service.has_port(port))
}

/// The port on which the proxy of a gateway listens for requests to the request's port: the target port of the proxy's
/// Service that has it. (`resolvePorts` in Istio's `gateway.go`.)
pub(super) fn gateway_port(manifests: &[Manifest], request: &ExplainRequest) -> Option<u16> {
    let port = request.port?;
    let labels = request.labels.as_ref().or_else(|| gateway_labels(manifests, request))?;
    let is_own = |manifest: &Manifest, service: &Service| {
        request.namespace.as_ref().is_none_or(|namespace| *namespace == manifest.namespace) && service.selects(labels)
    };
    let own = services(manifests).filter(|(manifest, service)| is_own(manifest, service));
    let mut targets: Vec<_> = own.flat_map(|(_, service)| service.targets_of(port)).collect();
    targets.dedup();
    match &targets[..] {
        [] => request.mesh.is_complete.then_some(port),
        [target] => u16::try_from(target.as_u64()?).ok(),
        _ => None,
    }
}

/// The labels by which the gateway of the request selects its workloads.
pub(super) fn gateway_labels<'m>(manifests: &'m [Manifest], request: &ExplainRequest) -> Option<&'m Labels> {
    let (_, view) = gateway(manifests, request.gateway.as_deref()?)?;
    view.selector.known()
}

/// Istio's `Gateway` of this `namespace/name`.
pub(super) fn gateway<'m>(manifests: &'m [Manifest], id: &str) -> Option<(&'m Manifest, &'m Gateway)> {
    of_id(manifests, id)
}

/// The Gateway API's `Gateway` of this `namespace/name`.
pub(super) fn kubernetes_gateway<'m>(manifests: &'m [Manifest], id: &str) -> Option<&'m KubernetesGateway> {
    of_id(manifests, id).map(|(_, view)| view)
}

fn of_id<'m, V: Viewed>(manifests: &'m [Manifest], id: &str) -> Option<(&'m Manifest, &'m V)> {
    let (namespace, name) = id.split_once('/')?;
    let mut named = manifests.iter().filter(|manifest| manifest.namespace == namespace && manifest.name == name);
    named.find_map(|manifest| Some((manifest, manifest.view::<V>()?)))
}

/// Whether a Service with the request's port is among the hosts of a resource. A sidecar then has the resource's routes
/// at that port, for the other hosts too. (`buildSidecarVirtualHostsForVirtualService` in Istio's `route.go`.)
pub(super) fn any_has_port(
    manifests: &[Manifest],
    hosts: &[String],
    namespace: &str,
    request: &ExplainRequest,
) -> bool {
    let is_named = |manifest: &Manifest| {
        hosts.iter().any(|host| rank(&names::full_host(host, namespace), &host_of(manifest)).is_some())
    };
    request
        .port
        .is_none_or(|port| services(manifests).any(|(manifest, service)| service.has_port(port) && is_named(manifest)))
}

fn services(manifests: &[Manifest]) -> impl Iterator<Item = (&Manifest, &Service)> {
    manifests.iter().filter_map(|manifest| Some((manifest, manifest.view::<Service>()?)))
}

fn host_of(service: &Manifest) -> String {
    names::full_host(&service.name, &service.namespace)
}

/// The labels of the workloads behind a host, if the manifests have them and all are the same.
pub(super) fn labels_behind(manifests: &[Manifest], host: &str) -> Option<Labels> {
    let (service, view) = services(manifests).find(|(manifest, _)| host_of(manifest) == host)?;
    let workloads = manifests.iter().filter(|manifest| manifest.namespace == service.namespace);
    let labels = workloads.filter_map(|manifest| manifest.view::<Workload>()?.labels.known());
    let mut behind = labels.filter(|labels| view.selects(labels));
    let first = behind.next()?;
    behind.all(|other| other == first).then(|| first.clone())
}

/// The hosts of Services and `ServiceEntry`s.
pub(super) fn known(manifests: &[Manifest]) -> impl Iterator<Item = String> {
    let entries = manifests.iter().filter_map(Manifest::view::<ServiceEntry>).flat_map(|entry| entry.hosts.items());
    services(manifests).map(|(service, _)| host_of(service)).chain(entries.cloned())
}

/// What a gateway listens for.
pub(super) struct Listeners<'m> {
    /// Its servers of HTTP; none: no manifest has the gateway.
    servers: Option<Vec<&'m Server>>,
    namespace: &'m str,
}

impl<'m> Listeners<'m> {
    /// Those of the request's gateway on the request's port.
    pub(super) fn of(manifests: &'m [Manifest], request: &ExplainRequest) -> Result<Self, UnusableField> {
        let found = request.gateway.as_deref().and_then(|id| gateway(manifests, id));
        let Some((manifest, view)) = found else { return Ok(Self { servers: None, namespace: "" }) };
        let servers = view.servers.optional()?.map_or(&[][..], Vec::as_slice);
        let is_on = |server: &&Server| {
            let number = server.port.known().and_then(|port| port.number.known()).copied();
            request.port.is_none_or(|port| number.is_none_or(|number| number == u64::from(port)))
        };
        let servers = servers.iter().filter(|server| server.is_http()).filter(is_on).collect();
        Ok(Self { servers: Some(servers), namespace: &manifest.namespace })
    }

    /// Whether a manifest has the gateway.
    pub(super) fn are_known(&self) -> bool {
        self.servers.is_some()
    }

    /// How exactly a route's host is the one of the request, if the gateway listens for it on behalf of the namespace: the
    /// narrower of the route's and the server's host counts.
    pub(super) fn rank(&self, named: &str, namespace: &str, request: &ExplainRequest) -> Option<usize> {
        let named = names::full_host(named, namespace).to_ascii_lowercase();
        let own = rank(&named, &request.host)?;
        match &self.servers {
            None => Some(own),
            Some(servers) => {
                let hosts = servers.iter().flat_map(|server| server.hosts.items());
                let ranks = hosts.filter_map(|host| self.rank_of(host, namespace, request));
                ranks.max().map(|rank| rank.max(own))
            }
        }
    }

    /// Whether it answers the request with a redirect to HTTPS.
    pub(super) fn redirect(&self, request: &ExplainRequest, explanation: &mut Explanation) -> bool {
        if request.scheme.as_deref() == Some("https") {
            return false;
        }
        let is_for = |server: &&Server| {
            let mut hosts = server.hosts.items().iter();
            hosts.any(|host| rank(host.rsplit('/').next().unwrap_or(host), &request.host).is_some())
        };
        let (redirecting, others): (Vec<&Server>, Vec<&Server>) =
            self.servers.iter().flatten().copied().filter(is_for).partition(|server| server.redirects());
        if !redirecting.is_empty() && !others.is_empty() {
            explanation.assume("the request is HTTPS: the gateway redirects others (--scheme)", None);
        }
        !redirecting.is_empty() && others.is_empty()
    }

    /// A server's host may have the namespace of the routes that it is for.
    fn rank_of(&self, host: &str, namespace: &str, request: &ExplainRequest) -> Option<usize> {
        let (of, host) = host.split_once('/').unwrap_or(("*", host));
        let is_for = of == "*" || of == namespace || of == "." && self.namespace == namespace;
        is_for.then(|| rank(&host.to_ascii_lowercase(), &request.host)).flatten()
    }
}
