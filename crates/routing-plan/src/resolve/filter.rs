//! The filter: the engine, what carries it, and which proxies get it.

use std::collections::BTreeMap;

use routing_claims::Policy;

use super::{
    FilterCarrier, FilterEngine, MAX_INLINE_CODE_BYTES, NativeModule, ResolvedFilter, Resolver, raise_version, spec,
};
use crate::{
    diagnostic::{Diagnostic, Location},
    istio::{Capability, IstioVersion},
    names,
    plan::{Engine, FilterResource, ModuleSpec},
};

impl Resolver<'_> {
    pub(super) fn filter(&mut self, istio: IstioVersion) -> Option<ResolvedFilter> {
        let carrier = self.carrier(istio);
        let spec = &self.plan.spec.filter;
        let default = || BTreeMap::from([("routing-claims.dev/router".to_owned(), "enabled".to_owned())]);
        let workloads = spec.workloads.as_ref().map_or_else(default, |selector| selector.match_labels.clone());
        let gateways = spec.gateways.as_ref().map(|selector| selector.match_labels.clone());
        self.labels("workloads", &workloads);
        if let Some(gateways) = &gateways {
            self.labels("gateways", gateways);
            if gateways.is_empty() {
                let location = filter().field("gateways").field("matchLabels");
                let diagnostic = Diagnostic::new(location, "expected at least one label of the gateways, found none");
                self.report(diagnostic.with_help("give one, such as `istio: ingressgateway`"));
            }
        }
        Some(ResolvedFilter { carrier: carrier?, istio, workloads, gateways, verify: spec.verify, location: filter() })
    }

    fn labels(&mut self, field: &'static str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let location = filter().field(field).field("matchLabels").field(key.clone());
            self.check(location.clone(), key, names::label_key);
            self.check(location, value, names::label_value);
        }
    }

    fn carrier(&mut self, istio: IstioVersion) -> Option<FilterCarrier> {
        let spec = &self.plan.spec.filter;
        let resource = spec.resource;
        if resource == FilterResource::TrafficExtension && !istio.has(Capability::TrafficExtension) {
            let since = Capability::TrafficExtension.since();
            let message = format!("TrafficExtension exists since Istio {since}, and `istioVersion` is {istio}");
            let other = if spec.engine == Engine::Wasm { "EnvoyFilter or WasmPlugin" } else { "EnvoyFilter" };
            self.report(Diagnostic::new(filter().field("resource"), message).with_help(raise_version(other)));
        }
        let engine = match spec.engine {
            Engine::Lua => "lua",
            Engine::Wasm => "wasm",
            Engine::Module => "module",
        };
        for (other, given) in [("wasm", spec.wasm.is_some()), ("module", spec.module.is_some())] {
            if given && other != engine {
                let message = format!("`{other}` has no effect with `engine: {engine}`");
                let diagnostic = Diagnostic::new(filter().field(other), message);
                self.report(diagnostic.with_help(format!("remove it, or use `engine: {other}`")));
            }
        }
        match (spec.engine, &spec.wasm) {
            (Engine::Module, _) => self.native(spec.module.as_ref(), istio),
            (Engine::Lua, _) => match resource {
                FilterResource::EnvoyFilter => Some(FilterCarrier::EnvoyFilter(FilterEngine::Lua)),
                FilterResource::TrafficExtension => Some(FilterCarrier::TrafficExtension(FilterEngine::Lua)),
                FilterResource::WasmPlugin => {
                    let diagnostic =
                        Diagnostic::new(filter().field("resource"), "a WasmPlugin can't carry `engine: lua`");
                    self.report(diagnostic.with_help("use EnvoyFilter, or `engine: wasm`"));
                    None
                }
            },
            (Engine::Wasm, Some(wasm)) => self.wasm(wasm, istio),
            (Engine::Wasm, None) => {
                let diagnostic = Diagnostic::new(filter().field("engine"), "`engine: wasm` needs the field `wasm`");
                self.report(diagnostic.with_help("give `wasm: {image: …, digest: …}` or `wasm: {inline: …}`"));
                None
            }
        }
    }

    fn native(&mut self, spec: Option<&ModuleSpec>, istio: IstioVersion) -> Option<FilterCarrier> {
        let resource = self.plan.spec.filter.resource;
        if resource != FilterResource::EnvoyFilter {
            let message = format!("a {resource:?} can't carry `engine: module`");
            let diagnostic = Diagnostic::new(filter().field("resource"), message);
            self.report(diagnostic.with_help("use EnvoyFilter, or `engine: wasm`"));
        }
        if !istio.has(Capability::NativeModule) {
            let since = Capability::NativeModule.since();
            let message = format!("`engine: module` works since Istio {since}, and `istioVersion` is {istio}");
            self.report(Diagnostic::new(filter().field("engine"), message).with_help(raise_version("`engine: wasm`")));
        }
        let Some(spec) = spec else {
            let diagnostic = Diagnostic::new(filter().field("engine"), "`engine: module` needs the field `module`");
            self.report(diagnostic.with_help("give `module: {path: …}` or `module: {url: …, cluster: …, sha256: …}`"));
            return None;
        };
        let module = match (&spec.path, &spec.url, &spec.cluster, &spec.sha256) {
            (Some(path), None, None, None) => {
                if !path.starts_with('/') {
                    let message = format!("expected an absolute path in the proxy's container, found `{path}`");
                    self.report(Diagnostic::new(module().field("path"), message));
                }
                NativeModule::File(path.clone())
            }
            (None, Some(url), Some(cluster), Some(hex)) => {
                if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
                    let message = format!("expected a URL of `http://` or `https://`, found `{url}`");
                    self.report(Diagnostic::new(module().field("url"), message));
                }
                let sha256 = self.sha256(hex, module().field("sha256"));
                NativeModule::Remote { url: url.clone(), cluster: cluster.clone(), sha256 }
            }
            _ => {
                let message = "expected either `path`, or `url`, `cluster` and `sha256`";
                self.report(Diagnostic::new(module(), message));
                return None;
            }
        };
        Some(FilterCarrier::NativeModule(module))
    }

    /// Checks that the script with the policy fits into the resource.
    pub(super) fn script_size(&mut self, policy: Option<&Policy>, resolved: Option<&ResolvedFilter>) {
        let (Some(policy), Some(resolved)) = (policy, resolved) else { return };
        if !matches!(resolved.carrier, FilterCarrier::TrafficExtension(FilterEngine::Lua)) {
            return;
        }
        let bytes = lua_filter::source(policy).len();
        if bytes > MAX_INLINE_CODE_BYTES {
            let message =
                format!("the script has {bytes} bytes, and a TrafficExtension takes at most {MAX_INLINE_CODE_BYTES}");
            let diagnostic = Diagnostic::new(filter().field("resource"), message);
            self.report(diagnostic.with_help(
                "use `resource: EnvoyFilter`, `engine: wasm`, or fewer services (`headerPrefix` in the policy needs none)",
            ));
        }
    }

    /// Reports a file that can't be read.
    pub(super) fn unreadable<T>(&mut self, location: Location, path: &str, why: &str) -> Option<T> {
        self.report(Diagnostic::new(location, format!("can't read {path}: {why}")));
        None
    }
}

/// Of a file that the caller does not have.
pub(super) const NOT_GIVEN: &str = "the file was not given";

pub(super) fn filter() -> Location {
    spec().field("filter")
}

fn module() -> Location {
    filter().field("module")
}
