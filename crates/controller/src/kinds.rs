//! The kinds of objects that the controller reads and writes.

/// A kind of the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Its group, empty for the core.
    pub group: &'static str,
    /// Such as `VirtualService`.
    pub kind: &'static str,
    /// Its name in URLs and roles, such as `virtualservices`.
    pub plural: &'static str,
}

/// Plans.
pub const PLAN: Kind = kind("routing-claims.dev", "RoutingPlan", "routingplans");
/// Variants as objects.
pub const VARIANT: Kind = kind("routing-claims.dev", "RoutingVariant", "routingvariants");
/// Services, some of which are variants.
pub const SERVICE: Kind = kind("", "Service", "services");
/// The endpoints of Services.
pub const ENDPOINT_SLICE: Kind = kind("discovery.k8s.io", "EndpointSlice", "endpointslices");
/// Istio's workloads without pods, which have no endpoint slices.
pub const WORKLOAD_ENTRY: Kind = kind("networking.istio.io", "WorkloadEntry", "workloadentries");

/// What a plan becomes. A cluster may lack some of these kinds: an older Istio, or no Gateway API.
pub const WRITTEN: [Kind; 7] = [
    kind("networking.istio.io", "EnvoyFilter", "envoyfilters"),
    kind("networking.istio.io", "VirtualService", "virtualservices"),
    kind("gateway.networking.k8s.io", "HTTPRoute", "httproutes"),
    kind("security.istio.io", "RequestAuthentication", "requestauthentications"),
    kind("telemetry.istio.io", "Telemetry", "telemetries"),
    kind("extensions.istio.io", "TrafficExtension", "trafficextensions"),
    kind("extensions.istio.io", "WasmPlugin", "wasmplugins"),
];

const fn kind(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, kind, plural }
}
