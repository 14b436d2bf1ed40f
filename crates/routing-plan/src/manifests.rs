//! Resources read back, generated or hand-written: what lint, explain and diff look at.

use std::collections::BTreeMap;

use routing_claims::{Policy, PolicyConfig};
use serde_json::Value;

use crate::{
    diagnostic::Location,
    resources::{POLICY_ANNOTATION, Resource},
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
    location: Location,
    generated: bool,
}

/// The manifest of a generated resource.
impl From<Resource> for Manifest {
    fn from(resource: Resource) -> Self {
        let Resource { kind, namespace, name, value, origin } = resource;
        Self { kind, namespace, name, value, location: origin, generated: true }
    }
}

impl Manifest {
    /// The manifest at a location, if the value is one: a document without kind or name, such as a Helm chart's values,
    /// is not. A `List` holds several, each of its `items` one.
    #[must_use]
    pub fn new(value: Value, location: Location) -> Option<Self> {
        let kind = value["kind"].as_str()?.to_owned();
        let name = value["metadata"]["name"].as_str()?.to_owned();
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        Some(Self { kind, namespace, name, value, location, generated: false })
    }

    /// Location of a path such as `spec/hosts/0`; of a generated resource, of what it was generated from.
    #[must_use]
    pub fn location(&self, path: &str) -> Location {
        let location = self.location.clone();
        if self.generated {
            return location;
        }
        path.split('/').filter(|step| !step.is_empty()).fold(location, |location, step| match step.parse() {
            Ok(index) => location.index(index),
            Err(_) => location.field(step.to_owned()),
        })
    }

    /// Whether it was generated from the plan just now.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.generated
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
        let annotation = || self.value["metadata"]["annotations"][POLICY_ANNOTATION].as_str().map(str::to_owned);
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
        script.is_none_or(|script| script.trim_end() == lua_filter::source(&self.policy).trim_end())
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
