//! Routes to resources: one file for each kind, typed, then as YAML.

mod envoy_filter;
mod http_route;
pub(crate) mod lua;
mod request_authentication;
mod traffic_extension;
mod virtual_service;
mod wasm_plugin;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use crate::{
    model::{Mesh, Service},
    names,
    plan::{FilterResource, RouteResource},
    yaml::{Place, sorted, write},
};

/// A resource that is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Such as `VirtualService`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All of it.
    pub value: Value,
    /// What in the plan it comes from.
    pub origin: Place,
}

/// Every resource of the mesh, in order of namespace, kind and name.
#[must_use]
pub fn generate(mesh: &Mesh) -> Vec<Resource> {
    let mut resources = filters(mesh);
    resources.extend(request_authentication::generate(mesh));
    let mut names = Names::default();
    for service in &mesh.services {
        match mesh.routes {
            RouteResource::VirtualService => resources.push(virtual_service::generate(mesh, service, &mut names)),
            RouteResource::HttpRoute => resources.extend(http_route::generate(mesh, service, &mut names)),
        }
    }
    for resource in &mut resources {
        resource.value = sorted(std::mem::take(&mut resource.value));
    }
    let key = |resource: &Resource| (resource.namespace.clone(), resource.kind.clone(), resource.name.clone());
    resources.sort_by_cached_key(key);
    resources
}

impl Resource {
    /// As YAML text.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write::write(&self.value)
    }

    /// Name of the file that holds it. Neither a namespace nor a kind has a dot, so no two resources share one.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{}.{}.yaml", self.namespace, self.kind.to_ascii_lowercase(), self.name)
    }

    fn new(origin: &Place, resource: &Manifest<impl Serialize>) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            kind: resource.kind.to_owned(),
            namespace: text(&resource.metadata.namespace),
            name: text(&resource.metadata.name),
            // Types of texts, lists and maps with text keys: these are always JSON.
            value: serde_json::to_value(resource).unwrap_or_default(),
            origin: origin.clone(),
        }
    }
}

fn filters(mesh: &Mesh) -> Vec<Resource> {
    let hops = std::iter::once((Hop::Sidecar, &mesh.filter.workloads))
        .chain(mesh.filter.gateways.as_ref().map(|labels| (Hop::Gateway, labels)));
    hops.map(|(hop, labels)| match mesh.filter.resource {
        FilterResource::EnvoyFilter => envoy_filter::generate(mesh, hop, labels),
        FilterResource::WasmPlugin => wasm_plugin::generate(mesh, hop, labels),
        FilterResource::TrafficExtension => traffic_extension::generate(mesh, hop, labels),
    })
    .collect()
}

/// Where a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    /// Before the request leaves a workload.
    Sidecar,
    /// At a gateway, after its JWT check.
    Gateway,
}

impl Hop {
    fn name(self, mesh: &Mesh) -> String {
        match self {
            Self::Sidecar => format!("routing-claims-{}", mesh.name),
            Self::Gateway => format!("routing-claims-{}-gateway", mesh.name),
        }
    }
}

/// What every Kubernetes resource has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<S> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    spec: S,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LabelSelector {
    match_labels: BTreeMap<String, String>,
}

impl LabelSelector {
    /// None for no labels, which selects everything.
    fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        (!labels.is_empty()).then(|| Self { match_labels: labels.clone() })
    }
}

fn metadata(mesh: &Mesh, namespace: &str, name: String) -> ObjectMeta {
    ObjectMeta {
        labels: Some(labels(mesh)),
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Of a filter: with the policy, for tools that read it back, since a script does not give it away.
fn filter_metadata(mesh: &Mesh, hop: Hop) -> ObjectMeta {
    let annotations = BTreeMap::from([(POLICY.to_owned(), policy_json(mesh))]);
    ObjectMeta { annotations: Some(annotations), ..metadata(mesh, &mesh.namespace, hop.name(mesh)) }
}

fn labels(mesh: &Mesh) -> BTreeMap<String, String> {
    BTreeMap::from([(MANAGED_BY.to_owned(), SELF.to_owned()), (PLAN.to_owned(), mesh.name.clone())])
}

fn policy_json(mesh: &Mesh) -> String {
    serde_json::to_string(mesh.policy.config()).unwrap_or_default()
}

/// Name of a route's rule, by which it can be told from the user's own.
fn rule_name(service: &Service, variant: &str) -> String {
    format!("{RULE_PREFIX}{}-{variant}", service.claim)
}

/// Names of resources that are made from texts which allow more than such a name.
#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// A name for the service's routes that no other service has.
    fn service(&mut self, service: &Service) -> String {
        let mut slug = names::slug(&service.claim);
        if slug.is_empty() {
            slug = names::slug(&service.host);
        }
        let name = format!("{RULE_PREFIX}{slug}");
        let mut unique = name.clone();
        let mut number = 2;
        // Services come in order of claim, so the numbers do not depend on the order of the files.
        while !self.0.insert(format!("{}/{unique}", service.namespace)) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        unique
    }
}

/// Label that says who wrote a resource.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value on resources that this crate writes.
pub const SELF: &str = "manifest-gen";
/// Label with the plan's name.
pub const PLAN: &str = "routing-claims.dev/plan";
/// Annotation of a filter with its policy as JSON.
pub const POLICY: &str = "routing-claims.dev/policy";
/// Start of the names of routes that this crate writes.
pub const RULE_PREFIX: &str = "routing-claims-";
