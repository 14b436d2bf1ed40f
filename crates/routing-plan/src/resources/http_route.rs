//! `HTTPRoute` of the Gateway API with the Service as parent. Istio merges those of one parent.
//!
//! The types are our own: the crate that defines them depends on a whole Kubernetes client, and five fields are needed.

use serde::Serialize;

use super::{KubernetesResource, Names, Resource, metadata};
use crate::{
    names,
    resolve::{ResolvedPlan, ResolvedService},
};

/// As many resources as the Gateway API's limits require: the variants in order, then the default rule.
pub(super) fn generate(plan: &ResolvedPlan, service: &ResolvedService, names: &mut Names) -> Vec<Resource> {
    let rule = |version: Option<&str>, host: &str| Rule {
        backend_refs: [backend(service, host)],
        matches: version.into_iter().map(|version| match_version(service, version)).collect(),
    };
    let mut rules: Vec<_> = service.variants.iter().map(|variant| rule(Some(&variant.name), &variant.host)).collect();
    rules.push(rule(None, &service.host));
    let name = names.service(service);
    let mut resources = Vec::new();
    while !rules.is_empty() {
        let rest = rules.split_off(rules.len().min(MAX_RULES));
        let number = resources.len() + 1;
        let name = if number == 1 { name.clone() } else { format!("{name}-part-{number}") };
        let spec = Spec { parent_refs: [parent(service)], rules: std::mem::replace(&mut rules, rest) };
        let metadata = metadata(plan, &service.namespace, name);
        let resource =
            KubernetesResource { api_version: "gateway.networking.k8s.io/v1", kind: "HTTPRoute", metadata, spec };
        resources.push(Resource::new(&service.location, &resource));
    }
    resources
}

fn parent(service: &ResolvedService) -> ParentRef {
    let (name, namespace) = kubernetes_service(&service.host);
    ParentRef {
        group: "",
        kind: "Service",
        name: name.to_owned(),
        namespace: (namespace != service.namespace).then(|| namespace.to_owned()),
        port: service.port,
    }
}

fn backend(service: &ResolvedService, host: &str) -> BackendRef {
    let (name, namespace) = kubernetes_service(host);
    BackendRef {
        name: name.to_owned(),
        namespace: (namespace != service.namespace).then(|| namespace.to_owned()),
        port: service.port,
    }
}

/// Name and namespace of a host of a plan with `HTTPRoute`s.
fn kubernetes_service(host: &str) -> (&str, &str) {
    let Some(service) = names::kubernetes_service(host) else {
        unreachable!("a plan with HTTPRoutes resolves only if `{host}` is a Kubernetes Service")
    };
    service
}

fn match_version(service: &ResolvedService, version: &str) -> Match {
    Match { headers: [HeaderMatch { name: service.header.clone(), value: version.to_owned() }] }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    parent_refs: [ParentRef; 1],
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
struct ParentRef {
    group: &'static str,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    backend_refs: [BackendRef; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
}

#[derive(Debug, Serialize)]
struct BackendRef {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Match {
    headers: [HeaderMatch; 1],
}

#[derive(Debug, Serialize)]
struct HeaderMatch {
    name: String,
    value: String,
}

/// Rules of one `HTTPRoute`. Its other limits (64 matches of a rule, 128 in all) can't be reached with one match a rule.
const MAX_RULES: usize = 16;
