//! The columns of the results table: each filter resource with each route resource.

use std::fmt;

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
    pub(crate) fn all() -> Vec<Self> {
        let filters = [
            ("EnvoyFilter", "lua"),
            ("EnvoyFilter", "wasm"),
            ("WasmPlugin", "wasm"),
            ("TrafficExtension", "lua"),
            ("TrafficExtension", "wasm"),
        ];
        let routes = ["VirtualService", "HTTPRoute"];
        routes.into_iter().flat_map(|routes| filters.map(|(filter, engine)| Self { filter, engine, routes })).collect()
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
