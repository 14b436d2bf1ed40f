//! Istio's `EnvoyFilter`, and of Envoy's configuration what this project inserts with it.

use super::{
    reader::{Field, Fields, ReadFields},
    selector::Labels,
};
use crate::diagnostic::FieldPath;

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyFilter {
    pub(crate) workload_selector: Field<WorkloadSelector>,
    pub(crate) priority: Field<i64>,
    pub(crate) config_patches: Field<Vec<ConfigPatch>>,
}

/// The workloads that it is for.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadSelector {
    pub(crate) labels: Field<Labels>,
}

/// An entry of `configPatches`.
#[derive(Debug, Clone)]
pub(crate) struct ConfigPatch {
    pub(crate) apply_to: Field<String>,
    pub(crate) matches: Field<PatchMatch>,
    pub(crate) patch: Field<Patch>,
}

/// What a patch is applied to.
#[derive(Debug, Clone)]
pub(crate) struct PatchMatch {
    pub(crate) context: Field<String>,
    pub(crate) path: FieldPath,
}

/// What is done.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    pub(crate) operation: Field<String>,
    pub(crate) value: Field<PatchValue>,
}

/// The configuration of any object of Envoy.
#[derive(Debug, Clone)]
pub(crate) struct PatchValue {
    pub(crate) typed_config: Field<TypedConfig>,
}

/// The configuration of a filter, read only if it is one of the types that this project inserts.
#[derive(Debug, Clone)]
pub(crate) enum TypedConfig {
    Lua(Lua),
    Wasm(Field<WasmConfig>),
    Native(Native),
    Other,
}

/// Envoy's Lua filter.
#[derive(Debug, Clone)]
pub(crate) struct Lua {
    pub(crate) default_source_code: Field<SourceCode>,
    /// The form before Envoy 1.20.
    pub(crate) inline_code: Field<String>,
}

/// A script.
#[derive(Debug, Clone)]
pub(crate) struct SourceCode {
    pub(crate) inline_string: Field<String>,
}

/// `config` of Envoy's WASM filter.
#[derive(Debug, Clone)]
pub(crate) struct WasmConfig {
    pub(crate) configuration: Field<Configuration>,
    pub(crate) fail_open: Field<bool>,
    pub(crate) failure_policy: Field<String>,
    pub(crate) vm_config: Field<VmConfig>,
    pub(crate) path: FieldPath,
}

/// Envoy's filter for dynamic modules.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    pub(crate) filter_config: Field<Configuration>,
    pub(crate) dynamic_module_config: Field<DynamicModule>,
}

/// A dynamic module.
#[derive(Debug, Clone)]
pub(crate) struct DynamicModule {
    pub(crate) module: Field<Code>,
    pub(crate) nack_on_cache_miss: Field<bool>,
    pub(crate) path: FieldPath,
}

/// What the module is told.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) value: Field<String>,
}

/// The VM of a module.
#[derive(Debug, Clone)]
pub(crate) struct VmConfig {
    pub(crate) code: Field<Code>,
}

/// Where the module is.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) remote: Field<RemoteCode>,
}

/// A module to fetch.
#[derive(Debug, Clone)]
pub(crate) struct RemoteCode {
    pub(crate) http_uri: Field<HttpUri>,
    pub(crate) sha256: Field<String>,
    pub(crate) path: FieldPath,
}

/// An address.
#[derive(Debug, Clone)]
pub(crate) struct HttpUri {
    pub(crate) uri: Field<String>,
}

impl EnvoyFilter {
    /// The labels of the workloads that it is for.
    pub(crate) fn labels(&self) -> Option<&Labels> {
        self.workload_selector.known()?.labels.known()
    }

    /// Whether a patch of it is for proxies of this context.
    pub(crate) fn has_context(&self, context: &str) -> bool {
        self.config_patches.items().iter().any(|patch| {
            let found = patch.matches.known().and_then(|matches| matches.context.text());
            found.is_none_or(|found| found == context || found == "ANY")
        })
    }

    /// The policy of the first WASM filter or native module that it inserts, as JSON.
    pub(crate) fn policy(&self) -> Option<&str> {
        let mut configurations = self.typed_configs().filter_map(|config| match config {
            TypedConfig::Wasm(wasm) => wasm.known()?.configuration.known(),
            TypedConfig::Native(native) => native.filter_config.known(),
            TypedConfig::Lua(_) | TypedConfig::Other => None,
        });
        configurations.find_map(|configuration| configuration.value.text())
    }

    /// The native modules that it makes Envoy load.
    pub(crate) fn native(&self) -> impl Iterator<Item = &DynamicModule> {
        self.typed_configs().filter_map(|config| match config {
            TypedConfig::Native(native) => native.dynamic_module_config.known(),
            TypedConfig::Wasm(_) | TypedConfig::Lua(_) | TypedConfig::Other => None,
        })
    }

    /// The configurations of the WASM filters that it inserts.
    pub(crate) fn wasm(&self) -> impl Iterator<Item = &WasmConfig> {
        self.typed_configs().filter_map(|config| match config {
            TypedConfig::Wasm(wasm) => wasm.known(),
            TypedConfig::Lua(_) | TypedConfig::Native(_) | TypedConfig::Other => None,
        })
    }

    /// The modules that it makes Envoy fetch.
    pub(crate) fn remote_code(&self) -> impl Iterator<Item = &RemoteCode> {
        self.wasm().filter_map(|wasm| wasm.vm_config.known()?.code.known()?.remote.known())
    }

    /// The script of the first Lua filter that it inserts.
    pub(crate) fn script(&self) -> Option<&str> {
        self.typed_configs().find_map(|config| match config {
            TypedConfig::Lua(Lua { default_source_code, inline_code }) => {
                default_source_code.known().and_then(|code| code.inline_string.text()).or(inline_code.text())
            }
            TypedConfig::Wasm(_) | TypedConfig::Native(_) | TypedConfig::Other => None,
        })
    }

    fn typed_configs(&self) -> impl Iterator<Item = &TypedConfig> {
        let patches = self.config_patches.items().iter().filter_map(|patch| patch.patch.known());
        patches.filter_map(|patch| patch.value.known()).filter_map(|value| value.typed_config.known())
    }
}

impl RemoteCode {
    /// Its address.
    pub(crate) fn url(&self) -> Option<&str> {
        self.http_uri.known()?.uri.text()
    }
}

impl ReadFields for EnvoyFilter {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            workload_selector: fields.field("workloadSelector"),
            priority: fields.field("priority"),
            config_patches: fields.field("configPatches"),
        }
    }
}

impl ReadFields for WorkloadSelector {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { labels: fields.field("labels") }
    }
}

impl ReadFields for ConfigPatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { apply_to: fields.field("applyTo"), matches: fields.field("match"), patch: fields.field("patch") }
    }
}

impl ReadFields for PatchMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["cluster", "listener", "proxy", "routeConfiguration"]);
        Self { context: fields.field("context"), path: fields.path() }
    }
}

impl ReadFields for Patch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["filterClass"]);
        Self { operation: fields.field("operation"), value: fields.field("value") }
    }
}

impl ReadFields for PatchValue {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { typed_config: fields.field("typed_config") }
    }
}

impl ReadFields for TypedConfig {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        match fields.field::<String>("@type").text() {
            Some(LUA) => Self::Lua(Lua {
                default_source_code: fields.field("default_source_code"),
                inline_code: fields.field("inline_code"),
            }),
            Some(WASM) => Self::Wasm(fields.field("config")),
            Some(NATIVE) => {
                fields.inert(&["filter_name"]);
                Self::Native(Native {
                    filter_config: fields.field("filter_config"),
                    dynamic_module_config: fields.field("dynamic_module_config"),
                })
            }
            _ => {
                fields.in_part();
                Self::Other
            }
        }
    }
}

impl ReadFields for SourceCode {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { inline_string: fields.field("inline_string") }
    }
}

impl ReadFields for WasmConfig {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["name", "root_id"]);
        Self {
            configuration: fields.field("configuration"),
            fail_open: fields.field("fail_open"),
            failure_policy: fields.field("failure_policy"),
            vm_config: fields.field("vm_config"),
            path: fields.path(),
        }
    }
}

impl ReadFields for DynamicModule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["do_not_close", "load_globally", "metrics_namespace", "name"]);
        Self {
            module: fields.field("module"),
            nack_on_cache_miss: fields.field("nack_on_cache_miss"),
            path: fields.path(),
        }
    }
}

impl ReadFields for Configuration {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["@type"]);
        Self { value: fields.field("value") }
    }
}

impl ReadFields for VmConfig {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["runtime", "vm_id"]);
        Self { code: fields.field("code") }
    }
}

impl ReadFields for Code {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["local"]);
        Self { remote: fields.field("remote") }
    }
}

impl ReadFields for RemoteCode {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { http_uri: fields.field("http_uri"), sha256: fields.field("sha256"), path: fields.path() }
    }
}

impl ReadFields for HttpUri {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["cluster", "timeout"]);
        Self { uri: fields.field("uri") }
    }
}

const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
const NATIVE: &str = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
