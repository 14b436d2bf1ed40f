//! The filter of this project, as an `EnvoyFilter`, a `WasmPlugin` or a `TrafficExtension` inserts it.

use routing_claims::{Policy, PolicyConfig};

use crate::views::{Labels, View, reader::Field, selector::LabelSelector, wasm_plugin::WasmModule};

/// A filter with a valid policy.
#[derive(Debug, Clone)]
pub(crate) struct RoutingFilter {
    pub(crate) policy: Policy,
    /// Whether requests that a workload sends pass it.
    pub(crate) sidecar: bool,
    /// Whether requests that reach a gateway pass it.
    pub(crate) gateway: bool,
    namespace: String,
    labels: Labels,
    script: Option<String>,
}

impl RoutingFilter {
    /// The filter that a resource inserts. A Lua script does not give its policy away, so the annotation has it.
    pub(crate) fn of(view: &View, namespace: &str, annotation: Option<&str>) -> Option<Self> {
        let (config, labels, script, [sidecar, gateway]) = match view {
            View::EnvoyFilter(filter) => {
                let config = filter.policy().or(annotation)?;
                let contexts = ["SIDECAR_OUTBOUND", "GATEWAY"].map(|context| filter.has_context(context));
                (config.to_owned(), filter.labels(), filter.script(), contexts)
            }
            View::WasmPlugin(plugin) => (config_of(&plugin.module)?, labels_of(&plugin.selector), None, [true; 2]),
            View::TrafficExtension(extension) => {
                let config = match &extension.wasm {
                    Field::Known(module) => config_of(module)?,
                    Field::Absent | Field::Wrong(_) => annotation?.to_owned(),
                };
                let script = extension.lua.known().and_then(|lua| lua.inline_code.text());
                (config, labels_of(&extension.selector), script, [true; 2])
            }
            _ => return None,
        };
        let config: PolicyConfig = serde_json::from_str(&config).ok()?;
        Some(Self {
            policy: Policy::new(config).ok()?,
            sidecar,
            gateway,
            namespace: namespace.to_owned(),
            labels: labels.cloned().unwrap_or_default(),
            script: script.map(str::to_owned),
        })
    }

    /// Whether a workload in this namespace with these labels has it; a namespace that is not known may be any.
    pub(crate) fn selects(&self, namespace: Option<&str>, labels: &Labels) -> bool {
        let in_scope =
            self.namespace == ROOT_NAMESPACE || namespace.is_none_or(|namespace| namespace == self.namespace);
        in_scope && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether its script is what this version writes for the policy.
    pub(crate) fn script_is_known(&self) -> bool {
        let script = self.script.as_ref();
        script.is_none_or(|script| script.trim_end() == lua_filter::source(&self.policy).trim_end())
    }
}

fn config_of(module: &WasmModule) -> Option<String> {
    module.plugin_config.known().map(ToString::to_string)
}

fn labels_of(selector: &Field<LabelSelector>) -> Option<&Labels> {
    selector.known()?.match_labels.known()
}

/// Istio's root namespace, whose resources are for the whole mesh.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";
