//! A resolved plan to Kubernetes resources: one file for each kind.

mod envoy_filter;
mod http_route;
mod jwt_authn;
mod request_authentication;
mod telemetry;
mod traffic_extension;
mod virtual_service;
mod wasm_plugin;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing_claims::Policy;
use serde::Serialize;
use serde_json::Value;

use crate::{
    diagnostic::Location,
    names,
    plan::{RouteResource, Verify},
    resolve::{FilterCarrier, ResolvedBase, ResolvedPlan, ResolvedService},
};

/// A generated resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Such as `VirtualService`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The whole resource, the fields of each object in order of name.
    pub value: Value,
    /// The field of the plan that it was generated from.
    pub origin: Location,
}

/// Every resource of a plan, in order of namespace, kind and name.
#[must_use]
pub fn generate(plan: &ResolvedPlan) -> Vec<Resource> {
    generate_without(plan, |_| false)
}

/// As [`generate`], but without the routes of some services, for a caller that has them already.
#[must_use]
pub fn generate_without(plan: &ResolvedPlan, is_known: impl Fn(&ResolvedService) -> bool) -> Vec<Resource> {
    let mut resources = filters(plan);
    resources.extend(request_authentication::generate(plan));
    resources.extend(jwt_authn::generate(plan));
    resources.extend(telemetry::generate(plan));
    let mut names = Names::default();
    for service in &plan.services {
        if is_known(service) {
            names.keep(service);
            continue;
        }
        match plan.routes {
            RouteResource::VirtualService => resources.push(virtual_service::generate(plan, service, &mut names)),
            RouteResource::HttpRoute => resources.extend(http_route::generate(plan, service, &mut names)),
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
    fn new(origin: &Location, resource: &KubernetesResource<impl Serialize>) -> Self {
        let ObjectMeta { name, namespace, .. } = &resource.metadata;
        Self {
            kind: resource.kind.to_owned(),
            namespace: namespace.clone().unwrap_or_default(),
            name: name.clone().unwrap_or_default(),
            value: json(resource),
            origin: origin.clone(),
        }
    }
}

fn filters(plan: &ResolvedPlan) -> Vec<Resource> {
    let hops = std::iter::once((Hop::Sidecar, &plan.filter.workloads))
        .chain(plan.filter.gateways.as_ref().map(|labels| (Hop::Gateway, labels)));
    hops.map(|(hop, labels)| match &plan.filter.carrier {
        FilterCarrier::EnvoyFilter(engine) => envoy_filter::generate(plan, engine, hop, labels),
        FilterCarrier::NativeModule(module) => envoy_filter::generate_native(plan, module, hop, labels),
        FilterCarrier::WasmPlugin(engine) => wasm_plugin::generate(plan, engine, hop, labels),
        FilterCarrier::TrafficExtension(engine) => traffic_extension::generate(plan, engine, hop, labels),
    })
    .collect()
}

/// Which requests a filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    /// Those that a workload sends.
    Sidecar,
    /// Those that a gateway receives, after its JWT check.
    Gateway,
}

impl Hop {
    fn name(self, plan: &ResolvedPlan) -> String {
        match self {
            Self::Sidecar => format!("routing-claims-{}", plan.name),
            Self::Gateway => format!("routing-claims-{}-gateway", plan.name),
        }
    }
}

/// A resource of the Kubernetes API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KubernetesResource<S> {
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

fn metadata(plan: &ResolvedPlan, namespace: &str, name: String) -> ObjectMeta {
    ObjectMeta {
        labels: Some(labels(plan)),
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}

/// The policy of a hop: where Envoy verifies tokens before the filter, it reads only what is verified.
fn policy(plan: &ResolvedPlan, hop: Hop) -> &Policy {
    let is_verified = hop == Hop::Gateway || plan.filter.verify == Some(Verify::Outbound);
    plan.verified_policy.as_ref().filter(|_| is_verified).unwrap_or(&plan.policy)
}

/// Metadata of a filter, with the policy: a script does not give it away to tools that read the resource back.
fn filter_metadata(plan: &ResolvedPlan, hop: Hop) -> ObjectMeta {
    let annotations = BTreeMap::from([(POLICY_ANNOTATION.to_owned(), policy_json(plan, hop))]);
    ObjectMeta { annotations: Some(annotations), ..metadata(plan, &plan.namespace, hop.name(plan)) }
}

fn labels(plan: &ResolvedPlan) -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([label(MANAGED_BY_LABEL, MANAGED_BY), label(PLAN_LABEL, &plan.name)])
}

fn policy_json(plan: &ResolvedPlan, hop: Hop) -> String {
    json(policy(plan, hop).config()).to_string()
}

/// Name of a variant's route, which differs from the names of the user's own routes.
fn route_name(service: &ResolvedService, variant: &str) -> String {
    format!("{ROUTE_PREFIX}{}-{variant}", service.claim)
}

/// Names for the routes of services, whose claims may contain characters that a resource name may not.
#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// A name that no other service has.
    fn service(&mut self, service: &ResolvedService) -> String {
        let mut slug = names::slug(&service.claim);
        if slug.is_empty() {
            slug = names::slug(&service.host);
        }
        let name = format!("{ROUTE_PREFIX}{slug}");
        let mut unique = name.clone();
        let mut number = 2;
        // Services are in order of claim, so the numbers do not depend on the order of the plan.
        while !self.0.insert(format!("{}/{unique}", service.namespace)) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        unique
    }

    /// The name of a service whose routes are not generated stays taken.
    fn keep(&mut self, service: &ResolvedService) {
        // The routes in a file keep their name.
        if !matches!(service.base, Some(ResolvedBase::File(_))) {
            self.service(service);
        }
    }
}

/// The value with the fields of all objects in order of name, so that equal values have equal texts.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        scalar => scalar,
    }
}

/// What a type of this crate or a policy is as JSON.
#[expect(clippy::expect_used, reason = "structs of texts, numbers, lists and maps with text keys are always JSON")]
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("is JSON")
}

/// Label that names the program that manages a resource.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value on the resources of a plan.
pub const MANAGED_BY: &str = "routing-claims";
/// Its value on the resources of earlier versions, which belong to their plan as well.
pub const FORMERLY_MANAGED_BY: &str = "manifest-gen";
/// Label with the plan's name.
pub const PLAN_LABEL: &str = "routing-claims.dev/plan";
/// Annotation of a filter with its policy as JSON.
pub const POLICY_ANNOTATION: &str = "routing-claims.dev/policy";
/// Start of the names of routes that are generated.
pub const ROUTE_PREFIX: &str = "routing-claims-";
