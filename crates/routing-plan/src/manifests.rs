//! Resources read back, generated or hand-written: what lint, explain and diff look at.

use std::{collections::BTreeMap, sync::Arc};

use routing_claims::{Policy, PolicyConfig};
use serde_json::Value;

use crate::{
    problem::Problem,
    resources::{POLICY, Resource, lua},
    yaml::{self, File, Node, Place},
};

/// A Kubernetes resource, whoever wrote it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Such as `VirtualService`.
    pub kind: String,
    /// Its namespace, `default` if it names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All of it.
    pub value: Value,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// A file, with the places of everything in it.
    Document(Box<Node>),
    /// The plan, with the place of what it was made from.
    Plan(Place),
}

/// Reads every resource of the files. Documents that are none, such as a Helm chart's values, are passed over.
///
/// # Errors
///
/// As [`yaml::read`].
pub fn read(files: &[Arc<File>]) -> Result<Vec<Manifest>, Vec<Problem>> {
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match yaml::read(file) {
            Ok(documents) => documents.into_iter().for_each(|node| push(node, &mut manifests)),
            Err(errors) => problems.extend(errors),
        }
    }
    if problems.is_empty() { Ok(manifests) } else { Err(problems) }
}

fn push(node: Node, manifests: &mut Vec<Manifest>) {
    if node.get("kind").and_then(Node::text).is_some_and(|kind| kind == "List") {
        let items = node.get("items").map(|items| items.items().to_vec()).unwrap_or_default();
        for item in items {
            push(item, manifests);
        }
        return;
    }
    let value = node.to_json();
    let (Some(kind), Some(name)) = (value["kind"].as_str(), value["metadata"]["name"].as_str()) else { return };
    manifests.push(Manifest {
        kind: kind.to_owned(),
        namespace: value["metadata"]["namespace"].as_str().unwrap_or("default").to_owned(),
        name: name.to_owned(),
        source: Source::Document(Box::new(node)),
        value,
    });
}

impl From<Resource> for Manifest {
    fn from(resource: Resource) -> Self {
        let Resource { kind, namespace, name, value, origin } = resource;
        Self { kind, namespace, name, value, source: Source::Plan(origin) }
    }
}

impl Manifest {
    /// Where what stands at a path such as `spec/hosts/0` was written; of a generated resource, what it was made from.
    #[must_use]
    pub fn place(&self, path: &str) -> &Place {
        match &self.source {
            Source::Document(node) => node.place_at(path),
            Source::Plan(place) => place,
        }
    }

    /// Whether it was generated from the plan just now.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        matches!(self.source, Source::Plan(_))
    }

    /// Kind, namespace and name.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    pub(crate) fn spec(&self) -> &Value {
        &self.value["spec"]
    }

    pub(crate) fn list(&self, pointer: &str) -> impl Iterator<Item = &Value> {
        items(self.value.pointer(pointer).unwrap_or(&Value::Null))
    }

    /// The filter that it inserts, if it is one of this project.
    pub(crate) fn filter(&self) -> Option<Filter<'_>> {
        let spec = self.spec();
        let (labels, sidecar, gateway) = match &*self.kind {
            "EnvoyFilter" => {
                let contexts: Vec<_> = items(&spec["configPatches"]).map(|patch| &patch["match"]["context"]).collect();
                let has = |name: &str| {
                    contexts.iter().any(|context| *context == name || **context == "ANY" || context.is_null())
                };
                (&spec["workloadSelector"]["labels"], has("SIDECAR_OUTBOUND"), has("GATEWAY"))
            }
            "WasmPlugin" | "TrafficExtension" => (&spec["selector"]["matchLabels"], true, true),
            _ => return None,
        };
        let policy = Policy::new(self.policy()?).ok()?;
        Some(Filter { manifest: self, policy, labels: texts(labels), sidecar, gateway })
    }

    /// The policy as its engine gets it; a Lua script does not give it away, so the annotation has it.
    fn policy(&self) -> Option<PolicyConfig> {
        let spec = self.spec();
        let annotation = || self.value["metadata"]["annotations"][POLICY].as_str().map(str::to_owned);
        let json = match &*self.kind {
            "WasmPlugin" => spec["pluginConfig"].to_string(),
            "TrafficExtension" if spec["wasm"].is_object() => spec["wasm"]["pluginConfig"].to_string(),
            _ => items(&spec["configPatches"])
                .find_map(|patch| {
                    let config = &patch["patch"]["value"]["typed_config"]["config"];
                    config["configuration"]["value"].as_str().map(str::to_owned)
                })
                .or_else(annotation)?,
        };
        serde_json::from_str(&json).ok()
    }
}

/// A filter of this project, as a resource has it.
pub(crate) struct Filter<'m> {
    pub(crate) manifest: &'m Manifest,
    pub(crate) policy: Policy,
    labels: BTreeMap<String, String>,
    /// It may stand before what a workload sends.
    pub(crate) sidecar: bool,
    /// It may stand at a gateway.
    pub(crate) gateway: bool,
}

impl Filter<'_> {
    /// Whether a workload with these labels has it.
    pub(crate) fn selects(&self, namespace: Option<&str>, labels: &BTreeMap<String, String>) -> bool {
        let own = &*self.manifest.namespace;
        let in_scope = own == ROOT_NAMESPACE || namespace.is_none_or(|namespace| namespace == own);
        in_scope && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether its script is what this version writes for the policy it states.
    pub(crate) fn script_is_known(&self) -> bool {
        let spec = self.manifest.spec();
        let script = match &*self.manifest.kind {
            "TrafficExtension" => spec["lua"]["inlineCode"].as_str(),
            _ => items(&spec["configPatches"]).find_map(|patch| {
                let config = &patch["patch"]["value"]["typed_config"];
                config["default_source_code"]["inline_string"].as_str().or(config["inline_code"].as_str())
            }),
        };
        script.is_none_or(|script| script.trim_end() == lua::script(&self.policy).trim_end())
    }
}

/// The items of a list, none if it is no list.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a map such as labels.
pub(crate) fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Istio's root namespace, where a resource is for the whole mesh.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";
