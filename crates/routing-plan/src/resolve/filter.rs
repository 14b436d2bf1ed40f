//! The filter: the engine, what carries it, and which proxies get it.

use std::{collections::BTreeMap, sync::Arc};

use routing_claims::Policy;

use super::{
    FilterCarrier, FilterEngine, MAX_INLINE_CODE_BYTES, ModuleSource, RemoteModule, ResolvedFilter, Resolver,
    WasmEngine, raise_version, spec,
};
use crate::{
    diagnostic::{Diagnostic, Location},
    istio::{Capability, IstioVersion},
    names,
    plan::{Engine, FailStrategy, FilterResource, WasmSpec},
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
        Some(ResolvedFilter { carrier: carrier?, istio, workloads, gateways, location: filter() })
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
        match (spec.engine, &spec.wasm) {
            (Engine::Lua, wasm) => {
                if wasm.is_some() {
                    let diagnostic = Diagnostic::new(filter().field("wasm"), "`wasm` has no effect with `engine: lua`");
                    self.report(diagnostic.with_help("remove it, or use `engine: wasm`"));
                }
                match resource {
                    FilterResource::EnvoyFilter => Some(FilterCarrier::EnvoyFilter(FilterEngine::Lua)),
                    FilterResource::TrafficExtension => Some(FilterCarrier::TrafficExtension(FilterEngine::Lua)),
                    FilterResource::WasmPlugin => {
                        let diagnostic =
                            Diagnostic::new(filter().field("resource"), "a WasmPlugin can't carry `engine: lua`");
                        self.report(diagnostic.with_help("use EnvoyFilter, or `engine: wasm`"));
                        None
                    }
                }
            }
            (Engine::Wasm, Some(wasm)) => self.wasm(wasm, istio),
            (Engine::Wasm, None) => {
                let diagnostic = Diagnostic::new(filter().field("engine"), "`engine: wasm` needs the field `wasm`");
                self.report(diagnostic.with_help("give `wasm: {url: …, sha256: …}` or `wasm: {inline: …}`"));
                None
            }
        }
    }

    fn wasm(&mut self, spec: &WasmSpec, istio: IstioVersion) -> Option<FilterCarrier> {
        let sha256 = self.sha256(spec);
        let fail_strategy = self.fail_strategy(spec, istio);
        let module = match (&spec.url, &spec.inline) {
            (Some(url), None) => ModuleSource::Remote(RemoteModule { url: self.url(url), sha256 }),
            (None, Some(path)) => self.inline(path)?,
            (Some(_), Some(_)) => {
                self.report(Diagnostic::new(wasm().field("inline"), "expected either `url` or `inline`, found both"));
                return None;
            }
            (None, None) => {
                self.report(Diagnostic::new(wasm(), "expected `url` or `inline`, found neither"));
                return None;
            }
        };
        match (self.plan.spec.filter.resource, module) {
            (FilterResource::EnvoyFilter, module) => {
                Some(FilterCarrier::EnvoyFilter(FilterEngine::Wasm(WasmEngine { module, fail_strategy })))
            }
            (FilterResource::WasmPlugin, ModuleSource::Remote(module)) => {
                Some(FilterCarrier::WasmPlugin(WasmEngine { module, fail_strategy }))
            }
            (FilterResource::TrafficExtension, ModuleSource::Remote(module)) => {
                Some(FilterCarrier::TrafficExtension(FilterEngine::Wasm(WasmEngine { module, fail_strategy })))
            }
            (resource, ModuleSource::Inline(_)) => {
                let message = format!("a {resource:?} can't carry the module itself");
                let diagnostic = Diagnostic::new(wasm().field("inline"), message);
                self.report(diagnostic.with_help("give a `url`, or use `resource: EnvoyFilter`"));
                None
            }
        }
    }

    fn sha256(&mut self, spec: &WasmSpec) -> Option<String> {
        let hex = spec.sha256.as_ref()?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.report(Diagnostic::new(wasm().field("sha256"), format!("expected 64 hex digits, found `{hex}`")));
        }
        Some(hex.to_lowercase())
    }

    fn fail_strategy(&mut self, spec: &WasmSpec, istio: IstioVersion) -> FailStrategy {
        let resource = self.plan.spec.filter.resource;
        let reload = match resource {
            FilterResource::EnvoyFilter => Capability::EnvoyFailurePolicy,
            FilterResource::WasmPlugin | FilterResource::TrafficExtension => Capability::PluginFailReload,
        };
        if spec.fail_strategy == Some(FailStrategy::FailReload) && !istio.has(reload) {
            let message = format!(
                "with `resource: {resource:?}` FAIL_RELOAD exists since Istio {}, and `istioVersion` is {istio}",
                reload.since()
            );
            let diagnostic = Diagnostic::new(wasm().field("failStrategy"), message);
            self.report(diagnostic.with_help(raise_version("FAIL_CLOSE")));
        }
        let default = if istio.has(reload) { FailStrategy::FailReload } else { FailStrategy::FailClose };
        spec.fail_strategy.unwrap_or(default)
    }

    fn url(&mut self, url: &str) -> String {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("oci" | "http" | "https" | "file")) {
            let message = format!("expected a URL of `oci://`, `https://`, `http://` or `file://`, found `{url}`");
            self.report(Diagnostic::new(wasm().field("url"), message));
        }
        url.to_owned()
    }

    fn inline(&mut self, path: &str) -> Option<ModuleSource> {
        let location = wasm().field("inline");
        if self.plan.spec.filter.resource != FilterResource::EnvoyFilter {
            // The file is not needed to say that it can't be carried.
            return Some(ModuleSource::Inline(Arc::default()));
        }
        let bytes = match self.files.modules.get(path) {
            Some(Ok(bytes)) => Arc::clone(bytes),
            Some(Err(error)) => return self.unreadable(location, path, &error.0),
            None => return self.unreadable(location, path, NOT_GIVEN),
        };
        if !bytes.starts_with(b"\0asm") {
            let message = format!("expected a WebAssembly module, found something else in {path}");
            self.report(Diagnostic::new(location, message));
            return None;
        }
        Some(ModuleSource::Inline(bytes))
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

fn filter() -> Location {
    spec().field("filter")
}

fn wasm() -> Location {
    filter().field("wasm")
}
