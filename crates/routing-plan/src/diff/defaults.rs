//! Defaults that the API server writes into routes of the Gateway API.

use serde_json::{Value, json};

/// Removes the fields of a resource that have the value which the API server gives them (the `default`s of the resource
/// definitions of the Gateway API, read).
pub(super) fn remove(value: &mut Value) {
    if !matches!(value["kind"].as_str(), Some("GRPCRoute" | "HTTPRoute")) {
        return;
    }
    let spec = &mut value["spec"];
    for parent in items(spec, "parentRefs") {
        remove_equal(parent, "group", &json!("gateway.networking.k8s.io"));
        remove_equal(parent, "kind", &json!("Gateway"));
    }
    for rule in items(spec, "rules") {
        for backend in items(rule, "backendRefs") {
            remove_equal(backend, "group", &json!(""));
            remove_equal(backend, "kind", &json!("Service"));
            remove_equal(backend, "weight", &json!(1));
        }
        for one in items(rule, "matches") {
            for list in ["headers", "queryParams"] {
                for header in items(one, list) {
                    remove_equal(header, "type", &json!("Exact"));
                }
            }
            remove_equal(one, "path", &json!({"type": "PathPrefix", "value": "/"}));
        }
        remove_equal(rule, "matches", &json!([{}]));
    }
}

fn items<'v>(value: &'v mut Value, list: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn remove_equal(value: &mut Value, field: &str, default: &Value) {
    if let Some(fields) = value.as_object_mut()
        && fields.get(field) == Some(default)
    {
        fields.remove(field);
    }
}
