//! The filter of this project, as an `EnvoyFilter`, a `WasmPlugin` or a `TrafficExtension` inserts it.

use std::collections::BTreeMap;

use routing_claims::{FieldSegment, Policy, PolicyDiagnostic};
use serde_json::Value;

use crate::{
    attachment::Attachment,
    diagnostic::{FieldPath, nearest},
    filter_names::{FilterKind, current_name},
    views::{
        EnvoyFilter, Labels, TrafficExtension, View,
        envoy_filter::{ConfigPatch, Configuration, NetworkFilterMatch, TypedConfig},
        reader::Field,
        wasm_plugin::{TrafficSelector, WasmModule},
    },
};

/// The filter of this project in a resource.
#[derive(Debug, Clone)]
pub(crate) struct RoutingFilter {
    /// Its policy; none if it is not valid.
    pub(crate) policy: Option<Policy>,
    /// Why the policy is not valid.
    pub(crate) policy_faults: Vec<Fault>,
    /// Why the filter does not run where it should.
    pub(crate) position_faults: Vec<Fault>,
    /// What only some proxies and listeners fulfil.
    pub(crate) conditions: Vec<Condition>,
    /// Whether requests that a workload sends pass it.
    pub(crate) sidecar: bool,
    /// Whether requests that reach a gateway pass it.
    pub(crate) gateway: bool,
    /// The proxies that have it.
    pub(crate) attachment: Attachment,
    script: Option<String>,
}

/// Something that a proxy or a listener must fulfil for the filter to be there.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) path: FieldPath,
    /// The listener's port must be one of these; nothing if the condition is about something else.
    ports: Vec<u64>,
}

impl Condition {
    /// Whether it holds for the requests that a workload sends to a port; nothing if that can't be told.
    pub(crate) fn holds(&self, port: Option<u16>) -> Option<bool> {
        port.filter(|_| !self.ports.is_empty()).map(|port| self.ports.contains(&port.into()))
    }
}

/// Something that is wrong at a path of the resource.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) path: FieldPath,
    pub(crate) message: String,
}

impl RoutingFilter {
    /// The filter that a resource inserts. A Lua script does not give its policy away, so the annotation has it.
    pub(crate) fn of(view: &View, namespace: &str, annotation: Option<Annotation<'_>>) -> Option<Self> {
        let attachment = Attachment::of(view, namespace)?;
        let (policy, place, script) = match view {
            View::EnvoyFilter(filter) => {
                let written =
                    filter.configurations().find_map(|(written, name)| WrittenPolicy::of_envoy(written, name));
                (ours(written, annotation)?, Place::of_envoy_filter(filter), filter.script())
            }
            View::WasmPlugin(plugin) => {
                let place = Place::of_plugin(&plugin.matches, Some(&plugin.module));
                (ours(WrittenPolicy::of_module(&plugin.module), annotation)?, place, None)
            }
            View::TrafficExtension(TrafficExtension { matches, wasm, lua, .. }) => {
                let written = wasm.known().and_then(WrittenPolicy::of_module);
                let script = lua.known().and_then(|lua| lua.inline_code.text());
                (ours(written, annotation)?, Place::of_plugin(matches, wasm.known()), script)
            }
            _ => return None,
        };
        let (policy, policy_faults) = policy.read();
        let Place { sidecar, gateway, faults, conditions } = place;
        let script = script.map(str::to_owned);
        Some(Self { policy, policy_faults, position_faults: faults, conditions, sidecar, gateway, attachment, script })
    }

    /// Whether a workload in this namespace with these labels has it; a namespace that is not known may be any.
    pub(crate) fn selects(&self, namespace: Option<&str>, labels: &Labels) -> bool {
        self.attachment.selects(namespace, Some(labels))
    }

    /// Whether a header's value comes from tokens.
    pub(crate) fn is_managed(&self, header: &str) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.is_managed(header.as_bytes()))
    }

    /// Whether its script is what this version writes for the policy.
    pub(crate) fn script_is_known(&self) -> bool {
        let (Some(script), Some(policy)) = (&self.script, &self.policy) else { return true };
        script.trim_end() == lua_filter::source(policy).trim_end()
    }
}

/// The annotation with the policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotation<'a> {
    pub(crate) text: &'a str,
    pub(crate) key: &'static str,
}

/// A policy as it is written.
struct WrittenPolicy {
    json: String,
    path: FieldPath,
    /// Whether a path in the policy is one in the resource, too: it is written as YAML, not as a text.
    has_paths: bool,
    /// Whether nothing but this project's filter would be told this.
    is_ours: bool,
}

/// The policy of a filter of this project; none of another filter.
fn ours(written: Option<WrittenPolicy>, annotation: Option<Annotation<'_>>) -> Option<WrittenPolicy> {
    match (written, annotation) {
        (Some(written), annotation) => (written.is_ours || annotation.is_some()).then_some(written),
        (None, Some(Annotation { text, key })) => {
            let path = FieldPath::default().field("metadata").field("annotations").field(key);
            Some(WrittenPolicy { json: text.to_owned(), path, has_paths: false, is_ours: true })
        }
        (None, None) => None,
    }
}

impl WrittenPolicy {
    fn of_envoy(configuration: &Configuration, name: Option<&str>) -> Option<Self> {
        let json = configuration.value.text()?.to_owned();
        let is_ours = is_policy(&json, name);
        Some(Self { json, path: configuration.path.clone().field("value"), has_paths: false, is_ours })
    }

    fn of_module(module: &WasmModule) -> Option<Self> {
        let empty = BTreeMap::new();
        let config = match &module.plugin_config {
            Field::Known(config) => config,
            Field::Absent => &empty,
            Field::Wrong(_) => return None,
        };
        let json = Value::Object(config.clone().into_iter().collect()).to_string();
        let is_ours = is_policy(&json, module.url.text());
        let path = module.path.clone().field("pluginConfig");
        Some(Self { json, path, has_paths: true, is_ours })
    }

    fn read(&self) -> (Option<Policy>, Vec<Fault>) {
        match Policy::from_json(self.json.as_bytes()) {
            Ok(policy) => (Some(policy), Vec::new()),
            Err(invalid) => (None, invalid.diagnostics().iter().map(|diagnostic| self.fault(diagnostic)).collect()),
        }
    }

    fn fault(&self, diagnostic: &PolicyDiagnostic) -> Fault {
        let path = self.path.clone();
        let segments = if self.has_paths { diagnostic.path.segments() } else { &[] };
        let path = segments.iter().fold(path, |path, segment| match segment {
            FieldSegment::Field(name) => path.field(name.clone()),
            FieldSegment::Index(index) => path.index(*index),
        });
        Fault { path, message: format!("the policy is not valid: {diagnostic}") }
    }
}

/// Whether a configuration is one of this project's filter: by the name of its module, because it is a valid policy, or
/// because it has a field that hardly another module has.
fn is_policy(json: &str, module: Option<&str>) -> bool {
    let has_own_field = || {
        let config: Value = serde_json::from_str(json).unwrap_or_default();
        ["carry", "claimPath", "fromBaggage", "fromCookies", "fromHeaders", "headerPrefix", "reportHeader"]
            .iter()
            .any(|name| config.get(name).is_some())
    };
    module.is_some_and(|module| module.contains(MODULE_NAME))
        || Policy::from_json(json.as_bytes()).is_ok()
        || has_own_field()
}

/// Where a filter runs.
#[derive(Default)]
struct Place {
    sidecar: bool,
    gateway: bool,
    faults: Vec<Fault>,
    conditions: Vec<Condition>,
}

impl Place {
    /// By Istio's `matchMode` (`pilot/pkg/model/extensions.go`, read): a gateway counts as a client.
    fn of_plugin(matches: &Field<Vec<TrafficSelector>>, module: Option<&WasmModule>) -> Self {
        if let Some(module) = module.filter(|module| module.kind.is("NETWORK")) {
            let mut place = Self::default();
            place.fault(&module.path.clone().field("type"), "a plugin of the type `NETWORK` sees no requests");
            return place;
        }
        let clients: Vec<_> = matches.items().iter().filter(|one| !one.mode.is("SERVER")).collect();
        let is_client = matches.items().is_empty() || !clients.is_empty();
        let mut place = Self { sidecar: is_client, gateway: is_client, ..Self::default() };
        if let [first, ..] = clients[..]
            && clients.iter().all(|one| !one.ports.is_absent())
        {
            let ports = clients.iter().flat_map(|one| one.ports.items());
            let ports = ports.filter_map(|port| port.number.known().copied()).collect();
            place.conditions.push(Condition { path: first.path.clone().field("ports"), ports });
        }
        place
    }

    /// By Istio's `patchHTTPFilters` (`pilot/pkg/networking/core/envoyfilter/listener_patch.go`, read).
    fn of_envoy_filter(filter: &EnvoyFilter) -> Self {
        let mut place = Self::default();
        let inserts_own = |patch: &&ConfigPatch| patch.apply_to.is("HTTP_FILTER") && inserts_own(patch);
        let patches: Vec<_> = filter.config_patches.items().iter().filter(inserts_own).collect();
        for patch in &patches {
            place.add(patch);
        }
        if patches.is_empty() && filter.config_patches.known().is_some() {
            let path = FieldPath::default().field("spec").field("configPatches");
            place.fault(&path, "no patch of `HTTP_FILTER` inserts the filter");
        }
        place
    }

    fn add(&mut self, patch: &ConfigPatch) {
        let empty = FieldPath::default();
        let context = patch.matches.known().and_then(|matches| matches.context.text()).unwrap_or("ANY");
        let at = patch.matches.known().map_or(&patch.path, |matches| &matches.path).clone();
        if matches!(context, "ANY" | "SIDECAR_INBOUND") {
            let message = format!("with the context `{context}` the filter runs on inbound requests");
            self.fault(&at.field("context"), message);
        }
        let listener = patch.matches.known().and_then(|matches| matches.listener.known());
        let chain = listener.and_then(|listener| listener.filter_chain.known());
        let network = chain.and_then(|chain| chain.filter.known());
        if let Some(NetworkFilterMatch { name: Field::Known(name), path, .. }) = network
            && name != MANAGER
        {
            self.fault(
                &path.clone().field("name"),
                format!("no proxy has a network filter `{name}`: expected `{MANAGER}`"),
            );
            return;
        }
        let sub = network.and_then(|network| network.sub_filter.known());
        let beside = sub.and_then(|sub| sub.name.text());
        if let (Some(old), Some(sub)) = (beside, sub)
            && let Some(current) = current_name(FilterKind::Http, old)
        {
            let message = format!("no proxy has an HTTP filter `{old}`: expected `{current}`");
            self.fault(&sub.path.clone().field("name"), message);
            return;
        }
        if let (Some(name), Some(sub)) = (beside, sub)
            && !OF_ISTIO.contains(&name)
        {
            let field = sub.path.clone().field("name");
            if let Some(near) = nearest(name, OF_ISTIO.iter().copied()) {
                self.fault(&field, format!("Istio adds no HTTP filter `{name}`: did you mean `{near}`?"));
                return;
            }
            self.condition(field);
        }
        let operation = patch.patch.known().and_then(|patch| patch.operation.text()).unwrap_or("INVALID");
        let operation_path = patch.patch.known().map_or(&empty, |patch| &patch.path).clone().field("operation");
        let first = match (operation, beside) {
            ("INSERT_FIRST", _) | ("INSERT_BEFORE", None) => true,
            ("INSERT_BEFORE", Some(_)) => false,
            ("INSERT_AFTER", Some(name)) if name != ROUTER => false,
            ("INSERT_AFTER" | "ADD", _) => {
                let message = format!("`{operation}` inserts the filter after the router, where Envoy takes none");
                self.fault(&operation_path, message);
                return;
            }
            ("MERGE" | "MERGE_AND_REPLACE_LIST" | "REMOVE" | "REPLACE", _) => {
                self.fault(&operation_path, format!("`{operation}` does not insert the filter"));
                return;
            }
            // An unknown value has a finding of its own.
            _ => return,
        };
        let at_gateway = matches!(context, "ANY" | "GATEWAY");
        if first && at_gateway {
            let message = format!("`{operation}` inserts the filter at the start, before Istio verifies the token");
            let hint = if operation == "INSERT_FIRST" { "" } else { " (there is no `subFilter`)" };
            self.fault(&operation_path, format!("{message}{hint}"));
        }
        self.sidecar |= matches!(context, "ANY" | "SIDECAR_OUTBOUND");
        self.gateway |= at_gateway;
        let proxy = patch.matches.known().filter(|matches| !matches.proxy.is_absent());
        let proxy = proxy.map(|matches| matches.path.clone().field("proxy"));
        let listeners = listener.into_iter().flat_map(|listener| listener.narrow.clone());
        let chains = chain.into_iter().flat_map(|chain| chain.narrow.clone());
        proxy.into_iter().chain(listeners).chain(chains).for_each(|path| self.condition(path));
        if let Some(listener) = listener.filter(|listener| !listener.port.is_absent()) {
            let field = listener.path.clone().field("portNumber");
            let ports = listener.port.known().copied().into_iter().collect();
            self.conditions.push(Condition { path: field, ports });
        }
    }

    /// A condition of which it is not known whether it holds.
    fn condition(&mut self, path: FieldPath) {
        self.conditions.push(Condition { path, ports: Vec::new() });
    }

    fn fault(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.faults.push(Fault { path: path.clone(), message: message.into() });
    }
}

/// Whether a patch is about a filter of a type that this project inserts.
fn inserts_own(patch: &ConfigPatch) -> bool {
    let value = patch.patch.known().and_then(|patch| patch.value.known());
    value.is_some_and(|value| {
        let is_typed = matches!(
            value.typed_config,
            Field::Known(TypedConfig::Lua(_) | TypedConfig::Native(_) | TypedConfig::Wasm(_))
        );
        is_typed || !value.config_discovery.is_absent()
    })
}

/// Part of the names and addresses of the modules and resources of this project.
const MODULE_NAME: &str = "routing-claims";
/// The network filter that contains the HTTP filters.
const MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// The HTTP filters that Istio adds (read: `pilot/pkg/xds/filters/filters.go`, and `pilot/pkg/security` for the others).
const OF_ISTIO: &[&str] = &[
    ROUTER,
    "envoy.filters.http.cors",
    "envoy.filters.http.fault",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.grpc_web",
    "envoy.filters.http.jwt_authn",
    "envoy.filters.http.rbac",
    "istio.alpn",
    "istio.metadata_exchange",
    "istio.stats",
];
/// The last HTTP filter.
const ROUTER: &str = "envoy.filters.http.router";
