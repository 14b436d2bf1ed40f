//! Istio's `EnvoyFilter`, and of Envoy's configuration what this project inserts with it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    reader::{Field, Fields, ReadFields},
    request_authentication::{JwtProvider, JwtRule},
    selector::{Labels, TargetRef},
};
use crate::{
    diagnostic::FieldPath,
    filter_names::{FilterKind, current_name},
};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyFilter {
    pub(crate) workload_selector: Field<WorkloadSelector>,
    pub(crate) target_refs: Field<Vec<TargetRef>>,
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
    pub(crate) path: FieldPath,
}

/// What a patch is applied to.
#[derive(Debug, Clone)]
pub(crate) struct PatchMatch {
    pub(crate) context: Field<String>,
    pub(crate) proxy: Field<ProxyMatch>,
    pub(crate) listener: Field<ListenerMatch>,
    pub(crate) route_configuration: Field<RouteConfigurationMatch>,
    pub(crate) cluster: Field<ClusterMatch>,
    pub(crate) path: FieldPath,
}

/// The proxies that a patch is for.
#[derive(Debug, Clone)]
pub(crate) struct ProxyMatch {
    /// A regular expression.
    pub(crate) version: Field<String>,
    /// Paths of what else only some proxies fulfil.
    pub(crate) narrow: Vec<FieldPath>,
    pub(crate) path: FieldPath,
}

/// Routes.
#[derive(Debug, Clone)]
pub(crate) struct RouteConfigurationMatch {
    pub(crate) port: Field<u64>,
    pub(crate) virtual_host: Field<VirtualHostMatch>,
    pub(crate) path: FieldPath,
}

/// The routes of a host.
#[derive(Debug, Clone)]
pub(crate) struct VirtualHostMatch {
    /// `host:port`.
    pub(crate) name: Field<String>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct ClusterMatch {
    /// A host.
    pub(crate) service: Field<String>,
}

/// A listener and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct ListenerMatch {
    pub(crate) filter_chain: Field<FilterChainMatch>,
    pub(crate) port: Field<u64>,
    /// Paths of what else only some listeners fulfil.
    pub(crate) narrow: Vec<FieldPath>,
    pub(crate) path: FieldPath,
}

/// A chain of a listener and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct FilterChainMatch {
    pub(crate) filter: Field<NetworkFilterMatch>,
    /// Paths of what only some chains fulfil.
    pub(crate) narrow: Vec<FieldPath>,
}

/// A network filter, and an HTTP filter in it.
#[derive(Debug, Clone)]
pub(crate) struct NetworkFilterMatch {
    pub(crate) name: Field<String>,
    pub(crate) sub_filter: Field<SubFilterMatch>,
    pub(crate) path: FieldPath,
}

/// An HTTP filter.
#[derive(Debug, Clone)]
pub(crate) struct SubFilterMatch {
    pub(crate) name: Field<String>,
    pub(crate) path: FieldPath,
}

/// What is done.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    pub(crate) operation: Field<String>,
    pub(crate) value: Field<PatchValue>,
    pub(crate) path: FieldPath,
}

/// The configuration of any object of Envoy.
#[derive(Debug, Clone)]
pub(crate) struct PatchValue {
    pub(crate) name: Field<String>,
    /// Configuration that Envoy gets separately, from a patch of extension configurations.
    pub(crate) config_discovery: Field<Value>,
    pub(crate) typed_config: Field<TypedConfig>,
}

/// The configuration of a filter, read only if it is one of the types that this project inserts.
#[derive(Debug, Clone)]
pub(crate) enum TypedConfig {
    Lua(Lua),
    Wasm(Field<WasmConfig>),
    Native(Native),
    JwtAuthn(JwtAuthn),
    Other,
}

/// Envoy's `jwt_authn`.
#[derive(Debug, Clone)]
pub(crate) struct JwtAuthn {
    providers: Field<BTreeMap<String, JwtProvider>>,
    rules: Field<Value>,
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
    pub(crate) name: Field<String>,
    pub(crate) configuration: Field<Configuration>,
    pub(crate) fail_open: Field<bool>,
    pub(crate) failure_policy: Field<String>,
    pub(crate) vm_config: Field<VmConfig>,
    pub(crate) path: FieldPath,
}

/// Envoy's filter for dynamic modules.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    pub(crate) filter_name: Field<String>,
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
    pub(crate) path: FieldPath,
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

    /// The configurations of the WASM filters and native modules that it inserts, each with the name of the plugin.
    pub(crate) fn configurations(&self) -> impl Iterator<Item = (&Configuration, Option<&str>)> {
        self.typed_configs().filter_map(|config| match config {
            TypedConfig::Wasm(wasm) => {
                wasm.known().and_then(|wasm| Some((wasm.configuration.known()?, wasm.name.text())))
            }
            TypedConfig::Native(native) => Some((native.filter_config.known()?, native.filter_name.text())),
            TypedConfig::Lua(_) | TypedConfig::JwtAuthn(_) | TypedConfig::Other => None,
        })
    }

    /// The native modules that it makes Envoy load.
    pub(crate) fn native(&self) -> impl Iterator<Item = &DynamicModule> {
        self.typed_configs().filter_map(|config| match config {
            TypedConfig::Native(native) => native.dynamic_module_config.known(),
            TypedConfig::Wasm(_) | TypedConfig::Lua(_) | TypedConfig::JwtAuthn(_) | TypedConfig::Other => None,
        })
    }

    /// The configurations of the WASM filters that it inserts.
    pub(crate) fn wasm(&self) -> impl Iterator<Item = &WasmConfig> {
        self.typed_configs().filter_map(|config| match config {
            TypedConfig::Wasm(wasm) => wasm.known(),
            TypedConfig::Lua(_) | TypedConfig::Native(_) | TypedConfig::JwtAuthn(_) | TypedConfig::Other => None,
        })
    }

    /// The script of the first Lua filter that it inserts.
    pub(crate) fn script(&self) -> Option<&str> {
        self.typed_configs().find_map(|config| match config {
            TypedConfig::Lua(Lua { default_source_code, inline_code }) => {
                default_source_code.known().and_then(|code| code.inline_string.text()).or(inline_code.text())
            }
            TypedConfig::Wasm(_) | TypedConfig::Native(_) | TypedConfig::JwtAuthn(_) | TypedConfig::Other => None,
        })
    }

    /// The checks of tokens that it puts before the filters of a sidecar, each with the patch.
    pub(crate) fn verifications(&self) -> impl Iterator<Item = (&ConfigPatch, &JwtAuthn)> {
        let patches = self.config_patches.items().iter().filter(|patch| patch.apply_to.is("HTTP_FILTER"));
        patches.filter_map(|patch| match patch.patch.known()?.value.known()?.typed_config.known()? {
            TypedConfig::JwtAuthn(config) => Some((patch, config)),
            _ => None,
        })
    }

    fn typed_configs(&self) -> impl Iterator<Item = &TypedConfig> {
        let patches = self.config_patches.items().iter().filter_map(|patch| patch.patch.known());
        patches.filter_map(|patch| patch.value.known()).filter_map(|value| value.typed_config.known())
    }
}

impl WasmConfig {
    /// Whether requests pass without the filter if the module can't run.
    pub(crate) fn fails_open(&self) -> bool {
        self.fail_open == Field::Known(true) || self.failure_policy.is("FAIL_OPEN")
    }
}

impl JwtAuthn {
    /// The rules of its providers, if no request is refused: a token that none of them accepts counts as none.
    pub(crate) fn lenient_rules(&self) -> Option<Vec<&JwtRule>> {
        let rules = self.rules.known()?.as_array()?;
        let allows = |rule: &Value| {
            let any = rule["requires"]["requires_any"]["requirements"].as_array();
            any.is_some_and(|any| any.iter().any(|one| one.get("allow_missing_or_failed").is_some()))
        };
        let is_lenient = !rules.is_empty() && rules.iter().all(allows);
        is_lenient.then(|| self.providers().collect())
    }

    /// The rules of its providers.
    pub(crate) fn providers(&self) -> impl Iterator<Item = &JwtRule> {
        self.providers.known().into_iter().flatten().map(|(_, provider)| &provider.0)
    }
}

impl ListenerMatch {
    /// Whether it asks for an HTTP filter by a name that no Envoy has any more.
    pub(crate) fn is_beside_old_filter(&self) -> bool {
        let filter = self.filter_chain.known().and_then(|chain| chain.filter.known());
        let sub_filter = filter.and_then(|filter| filter.sub_filter.known());
        sub_filter.and_then(|one| one.name.text()).is_some_and(|name| current_name(FilterKind::Http, name).is_some())
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
            target_refs: fields.field("targetRefs"),
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
        Self {
            apply_to: fields.field("applyTo"),
            matches: fields.field("match"),
            patch: fields.field("patch"),
            path: fields.path(),
        }
    }
}

impl ReadFields for PatchMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["waypoint"]);
        Self {
            context: fields.field("context"),
            proxy: fields.field("proxy"),
            listener: fields.field("listener"),
            route_configuration: fields.field("routeConfiguration"),
            cluster: fields.field("cluster"),
            path: fields.path(),
        }
    }
}

impl ReadFields for ProxyMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { version: fields.field("proxyVersion"), narrow: narrow(fields, &["metadata"]), path: fields.path() }
    }
}

impl ReadFields for RouteConfigurationMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["gateway", "name", "portName"]);
        Self { port: fields.field("portNumber"), virtual_host: fields.field("vhost"), path: fields.path() }
    }
}

impl ReadFields for VirtualHostMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["domainName", "route"]);
        Self { name: fields.field("name") }
    }
}

impl ReadFields for ClusterMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["name", "portNumber", "subset"]);
        Self { service: fields.field("service") }
    }
}

impl ReadFields for ListenerMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            filter_chain: fields.field("filterChain"),
            port: fields.field("portNumber"),
            narrow: narrow(fields, &["listenerFilter", "name", "portName"]),
            path: fields.path(),
        }
    }
}

impl ReadFields for FilterChainMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        let names = &["applicationProtocols", "destinationPort", "name", "sni", "transportProtocol"];
        Self { filter: fields.field("filter"), narrow: narrow(fields, names) }
    }
}

impl ReadFields for NetworkFilterMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { name: fields.field("name"), sub_filter: fields.field("subFilter"), path: fields.path() }
    }
}

impl ReadFields for SubFilterMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { name: fields.field("name"), path: fields.path() }
    }
}

/// Paths of the fields of these names that are written.
fn narrow(fields: &mut Fields<'_>, names: &[&'static str]) -> Vec<FieldPath> {
    let path = fields.path();
    names.iter().filter(|name| !fields.field::<Value>(name).is_absent()).map(|name| path.clone().field(*name)).collect()
}

impl ReadFields for Patch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["filterClass"]);
        Self { operation: fields.field("operation"), value: fields.field("value"), path: fields.path() }
    }
}

impl ReadFields for PatchValue {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self {
            name: fields.field("name"),
            config_discovery: fields.field("config_discovery"),
            typed_config: fields.field("typed_config"),
        }
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
            Some(NATIVE) => Self::Native(Native {
                filter_name: fields.field("filter_name"),
                filter_config: fields.field("filter_config"),
                dynamic_module_config: fields.field("dynamic_module_config"),
            }),
            Some(JWT_AUTHN) => {
                fields.in_part();
                Self::JwtAuthn(JwtAuthn { providers: fields.field("providers"), rules: fields.field("rules") })
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
        fields.inert(&["root_id"]);
        Self {
            name: fields.field("name"),
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
        Self { value: fields.field("value"), path: fields.path() }
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

const JWT_AUTHN: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
const NATIVE: &str = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
