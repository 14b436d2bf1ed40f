//! `EnvoyFilter`: inserts the filter before Envoy's router, in any version of Istio.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{Hop, KubernetesResource, Resource, filter_metadata, jwt_authn::JwtAuthn, metadata, policy, policy_json};
use crate::{
    istio::Capability,
    plan::FailStrategy,
    resolve::{FilterEngine, ModuleSource, NativeModule, RemoteModule, ResolvedPlan, WasmEngine},
};

pub(super) fn generate(
    plan: &ResolvedPlan,
    engine: &FilterEngine<ModuleSource>,
    hop: Hop,
    labels: &BTreeMap<String, String>,
) -> Resource {
    let name = hop.name(plan);
    let config_patches = match engine {
        FilterEngine::Lua => {
            let lua =
                Lua { kind: LUA, default_source_code: Inline { inline_string: lua_filter::source(policy(plan, hop)) } };
            vec![insert(
                hop,
                HttpFilter {
                    name: "envoy.filters.http.lua".into(),
                    config: Config::Here { typed_config: TypedConfig::Lua(lua) },
                },
            )]
        }
        FilterEngine::Wasm(engine) => {
            let wasm = TypedConfig::Wasm(Box::new(wasm(plan, hop, &name, engine)));
            match &engine.module {
                ModuleSource::Remote(RemoteModule { url, .. }) if !url.starts_with("file://") => {
                    discovered(hop, &name, wasm)
                }
                _ => vec![insert(hop, HttpFilter { name, config: Config::Here { typed_config: wasm } })],
            }
        }
    };
    envoy_filter(plan, hop, labels, config_patches)
}

/// An `EnvoyFilter` with the native module.
pub(super) fn generate_native(
    plan: &ResolvedPlan,
    module: &NativeModule,
    hop: Hop,
    labels: &BTreeMap<String, String>,
) -> Resource {
    let (module, nack_on_cache_miss) = match module {
        NativeModule::File(path) => (Code::Local(Source::Filename(path.clone())), None),
        NativeModule::Remote { url, cluster, sha256 } => {
            let http_uri = HttpUri { cluster: cluster.clone(), timeout: "30s", uri: url.clone() };
            // Otherwise Envoy runs without the filter until it has the file.
            (Code::Remote { http_uri, sha256: sha256.clone() }, Some(true))
        }
    };
    let native = TypedConfig::Native(Box::new(Native {
        kind: NATIVE,
        dynamic_module_config: DynamicModuleConfig {
            do_not_close: true,
            metrics_namespace: "wasmcustom",
            module,
            nack_on_cache_miss,
        },
        filter_config: StringValue { kind: STRING, value: policy_json(plan, hop) },
        filter_name: "routing-claims",
    }));
    let filter = HttpFilter { name: hop.name(plan), config: Config::Here { typed_config: native } };
    envoy_filter(plan, hop, labels, vec![insert(hop, filter)])
}

fn envoy_filter(
    plan: &ResolvedPlan,
    hop: Hop,
    labels: &BTreeMap<String, String>,
    mut config_patches: Vec<ConfigPatch>,
) -> Resource {
    // In one resource with the filter, which must not be there without the check.
    if let (Hop::Sidecar, Some(check)) = (hop, JwtAuthn::of(plan)) {
        config_patches.insert(0, verification(check));
    }
    resource(plan, filter_metadata(plan, hop), labels, config_patches)
}

/// The check of tokens beside a filter that another resource inserts.
pub(super) fn generate_verification(plan: &ResolvedPlan, check: JwtAuthn) -> Resource {
    let metadata = metadata(plan, &plan.namespace, format!("{}-verification", Hop::Sidecar.name(plan)));
    resource(plan, metadata, &plan.filter.workloads, vec![verification(check)])
}

fn resource(
    plan: &ResolvedPlan,
    metadata: ObjectMeta,
    labels: &BTreeMap<String, String>,
    config_patches: Vec<ConfigPatch>,
) -> Resource {
    Resource::new(
        &plan.filter.location,
        &KubernetesResource {
            api_version: "networking.istio.io/v1alpha3",
            kind: "EnvoyFilter",
            metadata,
            spec: Spec {
                config_patches,
                priority: PRIORITY,
                workload_selector: (!labels.is_empty()).then(|| WorkloadSelector { labels: labels.clone() }),
            },
        },
    )
}

/// At the start, so also before what a plugin inserts.
fn verification(check: JwtAuthn) -> ConfigPatch {
    let config = Config::Here { typed_config: TypedConfig::JwtAuthn(Box::new(check)) };
    let filter = HttpFilter { name: "envoy.filters.http.jwt_authn".into(), config };
    patch(Hop::Sidecar, "INSERT_FIRST", None, filter)
}

/// Istio's agent fetches a module only for a filter that is discovered, and rewrites its address to a local file.
fn discovered(hop: Hop, name: &str, wasm: TypedConfig) -> Vec<ConfigPatch> {
    let config = ConfigPatch {
        apply_to: "EXTENSION_CONFIG",
        matches: Match { context: context(hop), listener: None },
        patch: Patch {
            operation: "ADD",
            value: HttpFilter { name: name.to_owned(), config: Config::Here { typed_config: wasm } },
        },
    };
    let discovery = Discovery {
        config_source: ConfigSource { ads: Empty {}, initial_fetch_timeout: "0s" },
        type_urls: vec![WASM, "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"],
    };
    vec![
        config,
        insert(hop, HttpFilter { name: name.to_owned(), config: Config::There { config_discovery: discovery } }),
    ]
}

fn insert(hop: Hop, value: HttpFilter) -> ConfigPatch {
    patch(hop, "INSERT_BEFORE", Some(SubFilter { name: "envoy.filters.http.router" }), value)
}

fn patch(hop: Hop, operation: &'static str, sub_filter: Option<SubFilter>, value: HttpFilter) -> ConfigPatch {
    let manager = NetworkFilter { name: "envoy.filters.network.http_connection_manager", sub_filter };
    let listener = Some(Listener { filter_chain: FilterChain { filter: manager } });
    ConfigPatch {
        apply_to: "HTTP_FILTER",
        matches: Match { context: context(hop), listener },
        patch: Patch { operation, value },
    }
}

fn context(hop: Hop) -> &'static str {
    match hop {
        Hop::Sidecar => "SIDECAR_OUTBOUND",
        Hop::Gateway => "GATEWAY",
    }
}

fn wasm(plan: &ResolvedPlan, hop: Hop, name: &str, engine: &WasmEngine<ModuleSource>) -> Wasm {
    let code = match &engine.module {
        ModuleSource::Inline(bytes) => Code::Local(Source::InlineBytes(STANDARD.encode(bytes))),
        ModuleSource::Remote(RemoteModule { url, sha256, .. }) => match url.strip_prefix("file://") {
            Some(path) => Code::Local(Source::Filename(path.to_owned())),
            None => Code::Remote {
                // Istio's agent fetches by the address alone; Envoy requires the other fields.
                http_uri: HttpUri { cluster: "_".into(), timeout: "30s", uri: url.clone() },
                sha256: sha256.clone().unwrap_or_default(),
            },
        },
    };
    let has_policy = plan.filter.istio.has(Capability::EnvoyFailurePolicy);
    Wasm {
        kind: WASM,
        config: PluginConfig {
            configuration: StringValue { kind: STRING, value: policy_json(plan, hop) },
            fail_open: (!has_policy && engine.fail_strategy == FailStrategy::FailOpen).then_some(true),
            failure_policy: has_policy.then_some(match engine.fail_strategy {
                FailStrategy::FailClose => "FAIL_CLOSED",
                FailStrategy::FailOpen => "FAIL_OPEN",
                FailStrategy::FailReload => "FAIL_RELOAD",
            }),
            name: name.to_owned(),
            vm_config: VmConfig { code, runtime: "envoy.wasm.runtime.v8", vm_id: name.to_owned() },
        },
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    config_patches: Vec<ConfigPatch>,
    priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload_selector: Option<WorkloadSelector>,
}

#[derive(Debug, Serialize)]
struct WorkloadSelector {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigPatch {
    apply_to: &'static str,
    #[serde(rename = "match")]
    matches: Match,
    patch: Patch,
}

#[derive(Debug, Serialize)]
struct Match {
    context: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<Listener>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listener {
    filter_chain: FilterChain,
}

#[derive(Debug, Serialize)]
struct FilterChain {
    filter: NetworkFilter,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkFilter {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_filter: Option<SubFilter>,
}

#[derive(Debug, Serialize)]
struct SubFilter {
    name: &'static str,
}

#[derive(Debug, Serialize)]
struct Patch {
    operation: &'static str,
    value: HttpFilter,
}

// From here on: Envoy's types, whose fields are in snake case.

#[derive(Debug, Serialize)]
struct HttpFilter {
    name: String,
    #[serde(flatten)]
    config: Config,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Config {
    Here { typed_config: TypedConfig },
    There { config_discovery: Discovery },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum TypedConfig {
    Lua(Lua),
    Wasm(Box<Wasm>),
    Native(Box<Native>),
    JwtAuthn(Box<JwtAuthn>),
}

#[derive(Debug, Serialize)]
struct Lua {
    #[serde(rename = "@type")]
    kind: &'static str,
    default_source_code: Inline,
}

#[derive(Debug, Serialize)]
struct Inline {
    inline_string: String,
}

#[derive(Debug, Serialize)]
struct Discovery {
    config_source: ConfigSource,
    type_urls: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct ConfigSource {
    ads: Empty,
    initial_fetch_timeout: &'static str,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
struct Wasm {
    #[serde(rename = "@type")]
    kind: &'static str,
    config: PluginConfig,
}

#[derive(Debug, Serialize)]
struct Native {
    #[serde(rename = "@type")]
    kind: &'static str,
    dynamic_module_config: DynamicModuleConfig,
    filter_config: StringValue,
    filter_name: &'static str,
}

#[derive(Debug, Serialize)]
struct DynamicModuleConfig {
    do_not_close: bool,
    metrics_namespace: &'static str,
    module: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    nack_on_cache_miss: Option<bool>,
}

#[derive(Debug, Serialize)]
struct PluginConfig {
    configuration: StringValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_open: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_policy: Option<&'static str>,
    name: String,
    vm_config: VmConfig,
}

#[derive(Debug, Serialize)]
struct StringValue {
    #[serde(rename = "@type")]
    kind: &'static str,
    value: String,
}

#[derive(Debug, Serialize)]
struct VmConfig {
    code: Code,
    runtime: &'static str,
    vm_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Code {
    Local(Source),
    Remote {
        http_uri: HttpUri,
        #[serde(skip_serializing_if = "String::is_empty")]
        sha256: String,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Filename(String),
    InlineBytes(String),
}

#[derive(Debug, Serialize)]
pub(super) struct HttpUri {
    pub(super) cluster: String,
    pub(super) timeout: &'static str,
    pub(super) uri: String,
}

/// After the filters of other `EnvoyFilter`s, whose default is 0, so that this filter is the nearest to the router.
const PRIORITY: i32 = 10;
const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
const NATIVE: &str = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
