//! `VirtualService`: one for each host, since Istio ignores a second one in the mesh.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{KubernetesResource, Names, Resource, labels, metadata, route_name};
use crate::{
    istio::Capability,
    names,
    resolve::{ResolvedBase, ResolvedPlan, ResolvedService, ResolvedVariant},
};

pub(super) fn generate(plan: &ResolvedPlan, service: &ResolvedService, names: &mut Names) -> Resource {
    match &service.base {
        Some(ResolvedBase::File(base)) => in_place(plan, service, base),
        Some(ResolvedBase::Live { value, .. }) => beside(plan, service, value, names),
        None => alone(plan, service, names),
    }
}

fn alone(plan: &ResolvedPlan, service: &ResolvedService, names: &mut Names) -> Resource {
    let mut http: Vec<_> = service
        .variants
        .iter()
        .map(|variant| HttpRoute {
            matches: vec![match_version(service, variant)],
            name: route_name(service, &variant.name),
            route: [to(service, &variant.host)],
        })
        .collect();
    http.push(HttpRoute { matches: Vec::new(), name: DEFAULT_RULE.to_owned(), route: [to(service, &service.host)] });
    Resource::new(
        &service.location,
        &KubernetesResource {
            api_version: api_version(plan),
            kind: "VirtualService",
            metadata: metadata(plan, &service.namespace, names.service(service)),
            spec: Spec { gateways: gateways(service, &[]), hosts: hosts(service, &[]), http },
        },
    )
}

/// The user's own resource with the variants, which takes its place.
fn in_place(plan: &ResolvedPlan, service: &ResolvedService, base: &Value) -> Resource {
    let mut value = base.clone();
    weave(&mut value["spec"], service);
    let metadata = &mut value["metadata"];
    metadata["namespace"] = json!(service.namespace);
    for (key, label) in labels(plan) {
        metadata["labels"][key] = json!(label);
    }
    Resource {
        kind: "VirtualService".into(),
        namespace: service.namespace.clone(),
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        origin: service.location.clone(),
        value,
    }
}

/// A resource of its own with the routes of a live one. Labels and annotations, by which other programs know the objects that
/// are theirs, stay behind; only the label of the revision of Istio decides who follows the resource.
fn beside(plan: &ResolvedPlan, service: &ResolvedService, live: &Value, names: &mut Names) -> Resource {
    let mut spec = live["spec"].clone();
    weave(&mut spec, service);
    // The live object is exported to where no proxy follows it.
    spec.as_object_mut().map(|spec| spec.remove("exportTo"));
    let mut metadata = metadata(plan, &service.namespace, names.service(service));
    if let Some(revision) = live["metadata"]["labels"][REVISION_LABEL].as_str() {
        metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    }
    let resource = KubernetesResource { api_version: api_version(plan), kind: "VirtualService", metadata, spec };
    Resource::new(&service.location, &resource)
}

fn api_version(plan: &ResolvedPlan) -> &'static str {
    let stable = plan.filter.istio.has(Capability::StableApis);
    if stable { "networking.istio.io/v1" } else { "networking.istio.io/v1beta1" }
}

/// Adds a copy for each variant before each route to the service; the rest is unchanged.
fn weave(spec: &mut Value, service: &ResolvedService) {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let own_gateways = texts(&spec["gateways"]);
    spec["gateways"] = json!(gateways(service, &own_gateways));
    spec["hosts"] = json!(hosts(service, &texts(&spec["hosts"])));
    let routes = spec["http"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let mut http = Vec::new();
    for route in routes {
        if goes_to(&route, service) {
            http.extend(service.variants.iter().map(|variant| copy(&route, service, variant)));
        }
        http.push(route);
    }
    spec["http"] = Value::Array(http);
}

/// The same route for one variant: the header added to each match, the variant as the only destination.
fn copy(route: &Value, service: &ResolvedService, variant: &ResolvedVariant) -> Value {
    let mut copy = route.clone();
    let with_header = |mut condition: Value| {
        condition["headers"][&service.header] = json!({ "exact": variant.name });
        condition
    };
    let conditions = route["match"].as_array().filter(|list| !list.is_empty()).cloned();
    let conditions = conditions.unwrap_or_else(|| vec![Value::Object(Map::new())]);
    copy["match"] = conditions.into_iter().map(with_header).collect();
    copy["name"] = json!(route_name(service, &variant.name));
    copy["route"] = json!([to(service, &variant.host)]);
    copy
}

fn goes_to(route: &Value, service: &ResolvedService) -> bool {
    route["route"].as_array().into_iter().flatten().any(|to| {
        let host = to["destination"]["host"].as_str();
        host.is_some_and(|host| names::same_host(host, &service.namespace, &service.host))
    })
}

/// The mesh, the user's own gateways, and the plan's.
fn gateways(service: &ResolvedService, own: &[String]) -> Vec<String> {
    merge("mesh", own, &service.gateways)
}

fn hosts(service: &ResolvedService, own: &[String]) -> Vec<String> {
    let first =
        own.iter().find(|name| names::same_host(name, &service.namespace, &service.host)).unwrap_or(&service.host);
    merge(first, own, &service.public_hosts)
}

fn merge(first: &str, own: &[String], more: &[String]) -> Vec<String> {
    let mut merged = own.to_vec();
    if !merged.iter().any(|item| item == first) {
        merged.insert(0, first.to_owned());
    }
    for item in more {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    merged
}

fn match_version(service: &ResolvedService, variant: &ResolvedVariant) -> Match {
    Match { headers: BTreeMap::from([(service.header.clone(), Exact { exact: variant.name.clone() })]) }
}

fn to(service: &ResolvedService, host: &str) -> Route {
    Route { destination: Destination { host: host.to_owned(), port: service.port.map(|number| Port { number }) } }
}

#[derive(Debug, Serialize)]
struct Spec {
    gateways: Vec<String>,
    hosts: Vec<String>,
    http: Vec<HttpRoute>,
}

#[derive(Debug, Serialize)]
struct HttpRoute {
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
    name: String,
    route: [Route; 1],
}

#[derive(Debug, Serialize)]
struct Match {
    headers: BTreeMap<String, Exact>,
}

#[derive(Debug, Serialize)]
struct Exact {
    exact: String,
}

#[derive(Debug, Serialize)]
struct Route {
    destination: Destination,
}

#[derive(Debug, Serialize)]
struct Destination {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<Port>,
}

#[derive(Debug, Serialize)]
struct Port {
    number: u16,
}

/// Differs from every variant's: those begin with `routing-claims-`.
const DEFAULT_RULE: &str = "default";
/// Label of a resource that only one revision of Istio follows (read: `ObjectInRevision` in `pkg/config/model.go` of Istio).
const REVISION_LABEL: &str = "istio.io/rev";
