//! The pieces of an Envoy configuration that the tests and the demo share.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

/// A bootstrap for [`Envoy::start`](crate::Envoy::start).
#[must_use]
pub fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

/// A listener on a free port of loopback that accepts HTTP/1.1 and HTTP/2. `filters` run before the router.
///
/// `routes` is a `RouteConfiguration`.
#[must_use]
pub fn listener(name: &str, filters: &[Value], routes: &Value) -> Value {
    let last = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<&Value> = filters.iter().chain([&last]).collect();
    json!({
        "name": name,
        "address": address((Ipv4Addr::LOCALHOST, 0).into()),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3\
                          .HttpConnectionManager",
                "stat_prefix": name,
                "route_config": routes,
                "http_filters": filters,
            },
        }]}],
    })
}

/// A route configuration that sends everything to one cluster.
#[must_use]
pub fn route_all(cluster: &str) -> Value {
    json!({"virtual_hosts": [{
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
    }]})
}

/// A cluster of one HTTP/1.1 endpoint.
#[must_use]
pub fn cluster(name: &str, endpoint: SocketAddr) -> Value {
    json!({
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}],
        },
    })
}

/// The WASM filter with its policy, as Istio's `WasmPlugin` configures it.
#[must_use]
pub fn wasm_filter(module: &Path, policy: &Value) -> Value {
    json!({
        "name": "routing-claims",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "routing-claims",
                "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": policy.to_string(),
                },
            },
        },
    })
}

/// The native module with its policy. Its counters have the same names as those of the WASM filter.
#[must_use]
pub fn module_filter(module: &Path, policy: &Value) -> Value {
    json!({
        "name": "routing-claims",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {
                "module": {"local": {"filename": module}},
                "do_not_close": true,
                "metrics_namespace": "wasmcustom",
            },
            "filter_name": "routing-claims",
            "filter_config": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": policy.to_string(),
            },
        },
    })
}

/// Envoy's Lua filter with a script. Envoy clears the route cache itself when the script edits headers.
#[must_use]
pub fn lua_filter(script: &str) -> Value {
    json!({
        "name": "routing-claims",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    })
}

fn address(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}})
}
