//! The columns of the results table: each filter resource with each route resource.

use std::fmt;

use e2e::tools::Istio;

/// A filter resource with an engine, and a route resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Kind of the resource that installs the filter.
    pub(crate) filter: &'static str,
    /// The engine that runs in the proxy, as written in the plan.
    pub(crate) engine: &'static str,
    /// Kind of the resource that routes.
    pub(crate) routes: &'static str,
}

impl Column {
    /// The columns of a version of Istio.
    pub(crate) fn all(istio: Istio) -> Vec<Self> {
        let filters = [
            ("EnvoyFilter", "lua"),
            ("EnvoyFilter", "wasm"),
            ("WasmPlugin", "wasm"),
            ("TrafficExtension", "lua"),
            ("TrafficExtension", "wasm"),
        ];
        let routes = ["VirtualService", "HTTPRoute"];
        let both =
            routes.into_iter().flat_map(|routes| filters.map(|(filter, engine)| Self { filter, engine, routes }));
        // How a request is routed does not depend on the engine, so one kind of routes is enough.
        let native = Self { filter: "EnvoyFilter", engine: "module", routes: "VirtualService" };
        both.chain((istio == Istio::V1_31).then_some(native)).collect()
    }

    /// Whether requests enter through the gateway. The plan binds only `VirtualService`s to a gateway.
    pub(crate) fn has_gateway(self) -> bool {
        self.routes == "VirtualService"
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} + {}", self.filter, self.engine, self.routes)
    }
}
