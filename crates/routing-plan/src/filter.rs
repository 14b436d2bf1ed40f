//! The filter of this project, as an `EnvoyFilter`, a `WasmPlugin` or a `TrafficExtension` inserts it.

use std::collections::BTreeMap;

use routing_claims::{FieldSegment, Policy, PolicyDiagnostic};
use serde_json::Value;

use crate::{
    attachment::Attachment,
    diagnostic::{FieldPath, nearest},
    filter_names::{FilterKind, current_name},
    re2::Pattern,
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
    insertions: Vec<Insertion>,
    /// The proxies that have it.
    pub(crate) attachment: Attachment,
    script: Option<String>,
}

/// A place in the proxies where the filter is inserted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Insertion {
    sidecar: bool,
    gateway: bool,
    pub(crate) stage: Stage,
    /// What only some proxies and listeners fulfil.
    pub(crate) conditions: Vec<Condition>,
}

/// Where a filter is among those of Istio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before `jwt_authn`, which verifies tokens, and perhaps removes them.
    BeforeAuthn,
    #[default]
    BeforeFault,
    /// After `fault`, which then has judged the route of the unchanged request.
    AfterFault,
}

impl Insertion {
    fn is_at(&self, gateway: bool) -> bool {
        if gateway { self.gateway } else { self.sidecar }
    }

    fn condition(&mut self, path: FieldPath, about: About) {
        self.conditions.push(Condition { path, about });
    }
}

/// Something that a proxy or a listener must fulfil for the filter to be there.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) path: FieldPath,
    about: About,
}

/// What a condition is about.
#[derive(Debug, Clone)]
enum About {
    /// The listener's port: one of these.
    Ports(Vec<u64>),
    /// The proxy's version, by a regular expression.
    Version(String),
    /// Something else.
    Other,
}

impl Condition {
    /// Those of a patch, by what it is applied to. (`commonConditionMatch`, `listenerMatch`, `filterChainMatch` and
    /// `routeConfigurationMatch` in Istio's `pilot/pkg/networking/core/envoyfilter`.)
    pub(crate) fn of_patch(patch: &ConfigPatch) -> Vec<Self> {
        let Some(wanted) = patch.matches.known() else { return Vec::new() };
        let mut all = Vec::new();
        let mut add = |path: FieldPath, about| all.push(Self { path, about });
        if let Some(proxy) = wanted.proxy.known() {
            if let Some(regex) = proxy.version.text().filter(|regex| !regex.is_empty()) {
                add(proxy.path.clone().field("proxyVersion"), About::Version(regex.to_owned()));
            }
            proxy.narrow.iter().for_each(|path| add(path.clone(), About::Other));
        }
        let is_of_routes =
            ["ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"].iter().any(|one| patch.apply_to.is(one));
        let (port, object) = match (&wanted.listener, &wanted.route_configuration) {
            (_, Field::Known(routes)) if is_of_routes => (&routes.port, &routes.path),
            (Field::Known(listener), _) if !is_of_routes && !patch.apply_to.is("CLUSTER") => {
                let chain = listener.filter_chain.known().into_iter().flat_map(|chain| &chain.narrow);
                listener.narrow.iter().chain(chain).for_each(|path| add(path.clone(), About::Other));
                (&listener.port, &listener.path)
            }
            _ => return all,
        };
        match port.known() {
            None | Some(0) => {}
            // All requests that a workload sends come through this listener.
            Some(&VIRTUAL_OUTBOUND) => add(object.clone().field("portNumber"), About::Other),
            Some(port) => add(object.clone().field("portNumber"), About::Ports(vec![*port])),
        }
        all
    }

    /// Whether it holds for a listener on a port, in a proxy of a version; nothing if that can't be told.
    pub(crate) fn holds(&self, port: Option<u16>, version: Option<&str>) -> Option<bool> {
        match &self.about {
            About::Ports(ports) => port.map(|port| ports.contains(&port.into())),
            About::Version(regex) => Pattern::anywhere(regex).ok()?.is_match(version?),
            About::Other => None,
        }
    }

    /// The option that would tell whether it holds.
    pub(crate) fn option(&self) -> Option<&'static str> {
        match self.about {
            About::Ports(_) => Some("--port"),
            About::Version(_) => Some("--istio-version"),
            About::Other => None,
        }
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
                let place = Place::of_plugin(&plugin.matches, &plugin.phase, Some(&plugin.module));
                (ours(WrittenPolicy::of_module(&plugin.module), annotation)?, place, None)
            }
            View::TrafficExtension(TrafficExtension { matches, phase, wasm, lua, .. }) => {
                let written = wasm.known().and_then(WrittenPolicy::of_module);
                let script = lua.known().and_then(|lua| lua.inline_code.text());
                (ours(written, annotation)?, Place::of_plugin(matches, phase, wasm.known()), script)
            }
            _ => return None,
        };
        let (policy, policy_faults) = policy.read();
        let Place { insertions, faults: position_faults } = place;
        let script = script.map(str::to_owned);
        Some(Self { policy, policy_faults, position_faults, insertions, attachment, script })
    }

    /// Whether requests that reach a gateway pass it.
    pub(crate) fn is_at_gateways(&self) -> bool {
        self.insertions_at(true).next().is_some()
    }

    /// Whether requests that a workload sends pass it.
    pub(crate) fn is_at_sidecars(&self) -> bool {
        self.insertions_at(false).next().is_some()
    }

    /// The places where requests that reach a gateway, or that a workload sends, pass it.
    pub(crate) fn insertions_at(&self, gateway: bool) -> impl Iterator<Item = &Insertion> {
        self.insertions.iter().filter(move |one| one.is_at(gateway))
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
    insertions: Vec<Insertion>,
    faults: Vec<Fault>,
}

impl Place {
    /// By Istio's `matchMode` (`pilot/pkg/model/extensions.go`, read): a gateway counts as a client.
    fn of_plugin(matches: &Field<Vec<TrafficSelector>>, phase: &Field<String>, module: Option<&WasmModule>) -> Self {
        let mut place = Self::default();
        if let Some(module) = module.filter(|module| module.kind.is("NETWORK")) {
            place.fault(&module.path.clone().field("type"), "a plugin of the type `NETWORK` sees no requests");
            return place;
        }
        let clients: Vec<_> = matches.items().iter().filter(|one| !one.mode.is("SERVER")).collect();
        if clients.is_empty() && !matches.items().is_empty() {
            return place;
        }
        let stage = if phase.is("AUTHN") { Stage::BeforeAuthn } else { Stage::BeforeFault };
        let mut insertion = Insertion { sidecar: true, gateway: true, stage, ..Insertion::default() };
        if let [first, ..] = clients[..]
            && clients.iter().all(|one| !one.ports.items().is_empty())
        {
            let ports = clients.iter().flat_map(|one| one.ports.items());
            let ports = ports.filter_map(|port| port.number.known().copied()).collect();
            insertion.condition(first.path.clone().field("ports"), About::Ports(ports));
        }
        place.insertions.push(insertion);
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
        let mut insertion = Insertion::default();
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
            insertion.condition(field, About::Other);
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
        insertion.sidecar = matches!(context, "ANY" | "SIDECAR_OUTBOUND");
        insertion.gateway = at_gateway;
        insertion.stage = match (operation, beside.unwrap_or_default()) {
            _ if first => Stage::BeforeAuthn,
            ("INSERT_AFTER", FAULT) => Stage::AfterFault,
            (_, name) if AFTER_FAULT.contains(&name) => Stage::AfterFault,
            _ => Stage::BeforeFault,
        };
        insertion.conditions.extend(Condition::of_patch(patch));
        self.insertions.push(insertion);
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
    FAULT,
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.grpc_web",
    "envoy.filters.http.jwt_authn",
    "envoy.filters.http.rbac",
    "istio.alpn",
    "istio.metadata_exchange",
    "istio.stats",
];
/// Those that come after `fault`.
const AFTER_FAULT: &[&str] = &[ROUTER, "envoy.filters.http.cors", "istio.stats"];
const FAULT: &str = "envoy.filters.http.fault";
/// The port of the listener that hands requests to the others.
const VIRTUAL_OUTBOUND: u64 = 15001;
/// The last HTTP filter.
const ROUTER: &str = "envoy.filters.http.router";
