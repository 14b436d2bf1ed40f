//! Generated resources that install the filter, as `render` writes them or changed. A batch of sets shares them, because
//! they are for proxies, not for hosts.

use anyhow::{Result, anyhow};
use fastrand::Rng;
use routing_plan::{
    plan::RoutingPlan,
    resolve::{Expiry, PlanFiles, resolve},
    resources,
};
use serde_json::{Value, json};

use super::generate::Set;
use crate::scene::REPORT;

/// The resources of the batch with this number: none, the ones of the plan, or changed ones. `module` is the URL of the
/// WebAssembly module.
pub(super) fn generate(batch: u64, module: &str) -> Result<Set> {
    let mut rng = Rng::with_seed(!batch);
    let mut objects = rendered(batch, module)?;
    match rng.u32(..12) {
        0 => objects.clear(),
        1 | 2 => objects.truncate(1),
        _ => {}
    }
    for object in &mut objects {
        if rng.u32(..4) == 0 {
            change(object, &mut rng);
        }
    }
    if rng.u32(..20) == 0 {
        objects.push(foreign(batch));
    }
    Ok(Set { tag: format!("filters-{batch}"), objects, requests: Vec::new() })
}

/// What `render` writes for one kind of resource: the one for workloads, then the one for gateways.
fn rendered(batch: u64, module: &str) -> Result<Vec<Value>> {
    let (resource, engine) = [
        ("EnvoyFilter", "lua"),
        ("TrafficExtension", "lua"),
        ("EnvoyFilter", "lua"),
        ("WasmPlugin", "wasm"),
        ("TrafficExtension", "wasm"),
    ][usize::try_from(batch % 5)?];
    let mut filter = json!({
        "engine": engine,
        "resource": resource,
        "istioVersion": "1.30",
        "gateways": {"matchLabels": {"istio": "ingressgateway"}},
    });
    if engine == "wasm" {
        filter["wasm"] = json!({"url": module});
    }
    let plan: RoutingPlan = serde_json::from_value(json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingPlan",
        "metadata": {"name": format!("qa-{batch}"), "namespace": "istio-system"},
        "spec": {
            "policy": {"reportHeader": REPORT},
            "filter": filter,
            "services": [{"name": "web", "namespace": "none"}, {"name": "other", "namespace": "none"}],
        },
    }))?;
    let plan = resolve(&plan, &[], &PlanFiles::default(), Expiry::Keep).map_err(|faults| anyhow!("{faults:?}"))?;
    let resources = resources::generate(&plan).into_iter();
    let mut filters: Vec<_> = resources.map(|one| one.value).filter(|one| one["kind"] == resource).collect();
    filters.sort_by_key(|one| one["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-gateway")));
    Ok(filters)
}

/// One change that people make, by mistake or on purpose. Envoy accepts the result.
fn change(object: &mut Value, rng: &mut Rng) {
    let selectors = [json!({"app": "client"}), json!({"app": "plain"}), json!({}), json!({"app": "nobody"})];
    let selector = selectors[rng.usize(..selectors.len())].clone();
    let is_envoy_filter = object["kind"] == "EnvoyFilter";
    match (rng.u32(..9), is_envoy_filter) {
        (0 | 1, true) => object["spec"]["workloadSelector"] = json!({"labels": selector}),
        (0 | 1, false) => object["spec"]["selector"] = json!({"matchLabels": selector}),
        (2, _) => object["metadata"]["namespace"] = json!(["client", "microservice-a", "default"][rng.usize(..3)]),
        (3, true) => {
            let contexts = ["ANY", "SIDECAR_INBOUND", "GATEWAY", "SIDECAR_OUTBOUND"];
            object["spec"]["configPatches"][0]["match"]["context"] = json!(contexts[rng.usize(..4)]);
        }
        (3, false) => {
            let modes = ["SERVER", "CLIENT_AND_SERVER", "UNDEFINED"];
            object["spec"]["match"] = json!([{"mode": modes[rng.usize(..3)]}]);
        }
        (4, true) => {
            object["spec"]["configPatches"][0]["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"] =
                json!("envoy.filters.http.rooter");
        }
        (4, false) => object["spec"]["match"] = json!([{"mode": "CLIENT", "ports": [{"number": 9090}]}]),
        (5, true) => object["spec"]["configPatches"][0]["patch"]["operation"] = json!("INSERT_FIRST"),
        (5, false) => object["spec"]["phase"] = json!("AUTHN"),
        (6, true) => {
            let versions = ["^1\\.30.*", "^1\\.31.*", "1\\.31"];
            object["spec"]["configPatches"][0]["match"]["proxy"] = json!({"proxyVersion": versions[rng.usize(..3)]});
        }
        (6, false) => object["spec"]["priority"] = json!(7),
        (7, true) => {
            object["spec"]["configPatches"][0]["match"]["listener"]["portNumber"] = json!([8080, 9090][rng.usize(..2)]);
        }
        (_, true) => object["spec"]["priority"] = json!(-5),
        (_, false) => object["spec"]["match"] = json!([]),
    }
}

/// A filter of another project, which changes a header that routes look at.
fn foreign(batch: u64) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": format!("foreign-{batch}"), "namespace": "client"},
        "spec": {
            "workloadSelector": {"labels": {"app": "client"}},
            "configPatches": [{
                "applyTo": "HTTP_FILTER",
                "match": {
                    "context": "SIDECAR_OUTBOUND",
                    "listener": {"filterChain": {"filter": {
                        "name": "envoy.filters.network.http_connection_manager",
                        "subFilter": {"name": "envoy.filters.http.router"},
                    }}},
                },
                "patch": {
                    "operation": "INSERT_BEFORE",
                    "value": {
                        "name": "foreign.lua",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                            "default_source_code": {
                                "inline_string":
                                    "function envoy_on_request(handle) handle:headers():replace('x-user', 'alice') end",
                            },
                        },
                    },
                },
            }],
        },
    })
}
