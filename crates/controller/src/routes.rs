//! What a live or a wanted route matches on, and where it goes: of Istio and of the Gateway API.

use std::collections::BTreeSet;

use serde_json::Value;

/// The names of the headers that a route matches on.
pub(crate) fn matched_headers(route: &Value) -> BTreeSet<&str> {
    let of_istio = list(&route["spec"]["http"]).iter().flat_map(|rule| list(&rule["match"]));
    let of_istio = of_istio.flat_map(|one| one["headers"].as_object().into_iter().flatten());
    let of_gateway_api = list(&route["spec"]["rules"]).iter().flat_map(|rule| list(&rule["matches"]));
    let of_gateway_api = of_gateway_api.flat_map(|one| list(&one["headers"]));
    let names = of_gateway_api.filter_map(|header| header["name"].as_str());
    of_istio.map(|(name, _)| name.as_str()).chain(names).collect()
}

/// The hosts that a route goes to.
pub(crate) fn destinations(route: &Value) -> BTreeSet<String> {
    let of_istio = list(&route["spec"]["http"]).iter().flat_map(|rule| list(&rule["route"]));
    let hosts = of_istio.filter_map(|to| to["destination"]["host"].as_str()).map(str::to_owned);
    let own = &route["metadata"]["namespace"];
    let of_gateway_api = list(&route["spec"]["rules"]).iter().flat_map(|rule| list(&rule["backendRefs"]));
    let services = of_gateway_api.filter_map(|to| {
        let namespace = to["namespace"].as_str().or(own.as_str())?;
        Some(format!("{}.{namespace}.svc.cluster.local", to["name"].as_str()?))
    });
    hosts.chain(services).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
