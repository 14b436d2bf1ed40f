//! Kubernetes resources as types: each manifest is read once, into the view of its kind.
//!
//! A view has a closed list of fields. A field that it knows has a type: a value of another type is a
//! [`WrongType`](reader::WrongType), and the field is neither there nor absent. A field that it does not know is kept by its
//! path. What no command looks at (`status`, the containers of a pod) is not read.

mod authorization_policy;
mod destination_rule;
pub(crate) mod envoy_filter;
pub(crate) mod gateway;
mod grpc_route;
pub(crate) mod http_route;
pub(crate) mod kubernetes_gateway;
pub(crate) mod reader;
pub(crate) mod request_authentication;
pub(crate) mod selector;
mod service;
mod service_entry;
mod sidecar;
mod string_match;
pub(crate) mod traffic_extension;
pub(crate) mod virtual_service;
pub(crate) mod wasm_plugin;
mod workload;

use serde_json::Value;

pub(crate) use self::{
    authorization_policy::AuthorizationPolicy, destination_rule::DestinationRule, envoy_filter::EnvoyFilter,
    gateway::Gateway, http_route::HttpRoute, kubernetes_gateway::KubernetesGateway,
    request_authentication::RequestAuthentication, selector::Labels, service::Service, service_entry::ServiceEntry,
    sidecar::Sidecar, string_match::StringMatch, traffic_extension::TrafficExtension, virtual_service::VirtualService,
    wasm_plugin::WasmPlugin, workload::Workload,
};
use self::{
    grpc_route::GrpcRoute,
    reader::{Read, Reading, read_at},
};

/// A resource as its kind has it.
#[derive(Debug, Clone)]
pub(crate) enum View {
    AuthorizationPolicy(AuthorizationPolicy),
    DestinationRule(DestinationRule),
    EnvoyFilter(EnvoyFilter),
    Gateway(Gateway),
    /// An `HTTPRoute` or a `GRPCRoute`.
    HttpRoute(HttpRoute),
    KubernetesGateway(KubernetesGateway),
    /// A `ReferenceGrant`, of which only its namespace is asked.
    ReferenceGrant,
    RequestAuthentication(RequestAuthentication),
    Service(Service),
    ServiceEntry(ServiceEntry),
    Sidecar(Sidecar),
    TrafficExtension(TrafficExtension),
    VirtualService(VirtualService),
    WasmPlugin(WasmPlugin),
    Workload(Workload),
    /// Of a kind that no command looks into, or without a readable `spec`.
    Other,
}

impl View {
    /// Reads a resource by its kind and the group of its `apiVersion`; without one the kind alone decides.
    pub(crate) fn read(value: &Value, reading: &mut Reading) -> Self {
        let group = value["apiVersion"].as_str().map(|version| version.rsplit_once('/').map_or("", |(group, _)| group));
        let is_of = |expected: &str| group.is_none_or(|group| group == expected);
        let spec = &["spec"];
        match value["kind"].as_str().unwrap_or_default() {
            "DestinationRule" if is_of(NETWORKING) => at(value, spec, reading, Self::DestinationRule),
            "EnvoyFilter" if is_of(NETWORKING) => at(value, spec, reading, Self::EnvoyFilter),
            "Gateway" if is_of(NETWORKING) => at(value, spec, reading, Self::Gateway),
            "ServiceEntry" if is_of(NETWORKING) => at(value, spec, reading, Self::ServiceEntry),
            "Sidecar" if is_of(NETWORKING) => at(value, spec, reading, Self::Sidecar),
            "VirtualService" if is_of(NETWORKING) => at(value, spec, reading, Self::VirtualService),
            "AuthorizationPolicy" if is_of(SECURITY) => at(value, spec, reading, Self::AuthorizationPolicy),
            "RequestAuthentication" if is_of(SECURITY) => at(value, spec, reading, Self::RequestAuthentication),
            "TrafficExtension" if is_of(EXTENSIONS) => at(value, spec, reading, Self::TrafficExtension),
            "WasmPlugin" if is_of(EXTENSIONS) => at(value, spec, reading, Self::WasmPlugin),
            "GRPCRoute" if is_of(GATEWAY_API) => {
                at(value, spec, reading, |route: GrpcRoute| Self::HttpRoute(route.into()))
            }
            "Gateway" if is_of(GATEWAY_API) => at(value, spec, reading, Self::KubernetesGateway),
            "HTTPRoute" if is_of(GATEWAY_API) => at(value, spec, reading, Self::HttpRoute),
            "ReferenceGrant" if is_of(GATEWAY_API) => Self::ReferenceGrant,
            "Service" if is_of(CORE) => {
                // Its name is enough.
                Self::Service(read_at(value, spec, reading).unwrap_or_default())
            }
            "Pod" if is_of(CORE) => at(value, &["metadata"], reading, Self::Workload),
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" if is_of(APPS) => {
                at(value, TEMPLATE, reading, Self::Workload)
            }
            "Job" if is_of(BATCH) => at(value, TEMPLATE, reading, Self::Workload),
            "CronJob" if is_of(BATCH) => at(value, JOB_TEMPLATE, reading, Self::Workload),
            _ => Self::Other,
        }
    }
}

/// A view that one variant of [`View`] holds.
pub(crate) trait Viewed: Sized {
    /// The view, if it is of this kind.
    fn of(view: &View) -> Option<&Self>;
}

macro_rules! viewed {
    ($($kind:ident)*) => {
        $(impl Viewed for $kind {
            fn of(view: &View) -> Option<&Self> {
                if let View::$kind(view) = view { Some(view) } else { None }
            }
        })*
    };
}

viewed! {
    DestinationRule EnvoyFilter Gateway HttpRoute KubernetesGateway RequestAuthentication Service ServiceEntry Sidecar
    TrafficExtension VirtualService WasmPlugin
    Workload
}

fn at<T: Read>(value: &Value, path: &[&'static str], reading: &mut Reading, view: fn(T) -> View) -> View {
    read_at(value, path, reading).map_or(View::Other, view)
}

const TEMPLATE: &[&str] = &["spec", "template", "metadata"];
const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template", "metadata"];

const APPS: &str = "apps";
const BATCH: &str = "batch";
pub(crate) const CORE: &str = "";
const EXTENSIONS: &str = "extensions.istio.io";
pub(crate) const GATEWAY_API: &str = "gateway.networking.k8s.io";
const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
