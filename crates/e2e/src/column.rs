//! The columns of the results table: each filter resource with each route resource on bare Envoys, and those that pull a module
//! with Istio's agents.

use std::fmt;

use e2e::tools::Istio;

use crate::world::Proxies;

/// A filter resource with an engine, and a route resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Kind of the resource that installs the filter.
    pub(crate) filter: &'static str,
    /// The engine that runs in the proxy, as written in the plan.
    pub(crate) engine: &'static str,
    /// Kind of the resource that routes.
    pub(crate) routes: &'static str,
    /// What runs the proxies. Only agents pull a module from a registry.
    pub(crate) proxies: Proxies,
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
        let column = |(filter, engine), routes, proxies| Self { filter, engine, routes, proxies };
        let both = routes.into_iter().flat_map(|routes| filters.map(|filter| column(filter, routes, Proxies::Bare)));
        // How a request is routed does not depend on the engine, so one kind of routes is enough.
        let native = column(("EnvoyFilter", "module"), "VirtualService", Proxies::Bare);
        // Nor does it depend on the resource that makes an agent pull the module.
        let agents = [("WasmPlugin", "VirtualService"), ("TrafficExtension", "HTTPRoute")]
            .map(|(filter, routes)| column((filter, "wasm"), routes, Proxies::Agents));
        both.chain((istio == Istio::V1_31).then_some(native)).chain(agents).collect()
    }

    /// Whether requests enter through the gateway. The plan binds only `VirtualService`s to a gateway.
    pub(crate) fn has_gateway(self) -> bool {
        self.routes == "VirtualService"
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} + {}", self.filter, self.engine, self.routes)?;
        match self.proxies {
            Proxies::Bare => Ok(()),
            Proxies::Agents => f.write_str(" + agents"),
        }
    }
}
