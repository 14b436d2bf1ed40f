//! Whether a Gateway of the Gateway API takes a route for a request.
//! (`referenceAllowed` and `hostnameAllowedByIsolation` in Istio's `conversion.go`.)

use super::{ExplainRequest, hosts::rank};
use crate::{
    manifests::Manifest,
    views::{
        KubernetesGateway,
        http_route::ParentRef,
        kubernetes_gateway::{AllowedRoutes, Listener},
        reader::Field,
    },
};

/// Whether a route is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Admission {
    No,
    /// It depends on the labels of its namespace, or no manifest has the Gateway.
    Unknown,
    Yes,
}

/// Whether the gateway of the request admits a route through this parent, for the host of the request.
pub(super) fn admits(
    manifests: &[Manifest],
    (gateway_namespace, name): (&str, &str),
    parent: &ParentRef,
    route: &Manifest,
    request: &ExplainRequest,
) -> Admission {
    let found = manifests.iter().find_map(|manifest| {
        let view = manifest.view::<KubernetesGateway>()?;
        (manifest.namespace == gateway_namespace && manifest.name == name).then_some(view)
    });
    let Some(Field::Known(listeners)) = found.map(|view| &view.listeners) else { return Admission::Unknown };
    let here: Vec<(usize, &Listener)> = listeners
        .iter()
        .filter(|listener| matches!(listener.protocol.text(), Some("HTTP" | "HTTPS")))
        .filter(|listener| request.port.is_none_or(|port| listener.port.known() == Some(&u64::from(port))))
        .filter_map(|listener| Some((host_rank(listener, &request.host)?, listener)))
        .collect();
    // A request belongs to the listener that names its host best.
    let best = here.iter().map(|(rank, _)| *rank).max();
    let own = here.iter().filter(|(rank, _)| Some(*rank) == best).map(|(_, listener)| listener);
    own.filter(|listener| parent.section_name.text().is_none_or(|name| listener.name.is(name)))
        .filter(|listener| parent.port.known().is_none_or(|port| listener.port.known() == Some(port)))
        .map(|listener| listener.allows(gateway_namespace, route))
        .max()
        .unwrap_or(Admission::No)
}

fn host_rank(listener: &Listener, host: &str) -> Option<usize> {
    match listener.hostname.text() {
        None | Some("") => Some(0),
        Some(hostname) => rank(&hostname.to_ascii_lowercase(), host),
    }
}

impl Listener {
    fn allows(&self, own: &str, route: &Manifest) -> Admission {
        let (namespaces, kinds) = match &self.allowed_routes {
            Field::Known(AllowedRoutes { namespaces, kinds }) => (namespaces.known(), kinds.items()),
            Field::Absent => (None, &[][..]),
            Field::Wrong(_) => return Admission::Unknown,
        };
        if !kinds.is_empty() && !kinds.iter().any(|one| one.kind.is(&route.kind)) {
            return Admission::No;
        }
        match namespaces.and_then(|namespaces| namespaces.from.text()).unwrap_or("Same") {
            "All" => Admission::Yes,
            "Same" if route.namespace == own => Admission::Yes,
            "Same" | "None" => Admission::No,
            _ => Admission::Unknown,
        }
    }
}
