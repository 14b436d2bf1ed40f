//! Which host a resource's name of one is.

use super::{ExplainRequest, Explanation, table::EXACT};
use crate::{
    manifests::Manifest,
    names,
    views::{Gateway, ServiceEntry, View, gateway::Server, reader::UnusableField},
};

/// How exactly a host that a resource names is the one of a request to the mesh, if it is.
pub(super) fn rank_in_mesh(named: &str, namespace: &str, request: &ExplainRequest) -> Option<usize> {
    let named = names::full_host(named, namespace).to_ascii_lowercase();
    let asked = request.full_host();
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
    let asked = request.full_host();
    names::kubernetes_service(&asked).is_some() || known(manifests).any(|host| same_service(&host, &asked))
}

/// The hosts of Services and `ServiceEntry`s.
pub(super) fn known(manifests: &[Manifest]) -> impl Iterator<Item = String> {
    let services = manifests.iter().filter(|manifest| matches!(manifest.any_view(), View::Service));
    let entries = manifests.iter().filter_map(Manifest::view::<ServiceEntry>).flat_map(|entry| entry.hosts.items());
    services.map(|service| names::full_host(&service.name, &service.namespace)).chain(entries.cloned())
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
        let found = manifests.iter().find_map(|manifest| {
            let view = manifest.view::<Gateway>()?;
            let id = format!("{}/{}", manifest.namespace, manifest.name);
            (request.gateway.as_ref() == Some(&id)).then_some((manifest, view))
        });
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
