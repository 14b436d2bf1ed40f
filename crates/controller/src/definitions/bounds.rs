//! How long texts and lists may be. An API server computes from these what its rules can cost, and refuses a definition whose
//! rules could cost too much.

use serde_json::{Value, json};

/// Limits every text, list and map of a schema, which is at a path.
pub(super) fn limit(schema: &mut Value, path: &str) {
    let bound = |default| EXCEPTIONS.iter().find(|(field, _)| *field == path).map_or(default, |(_, bound)| *bound);
    match schema["type"].as_str() {
        Some("string") if schema["enum"].is_null() => schema["maxLength"] = json!(bound(MAX_LENGTH)),
        Some("array") => {
            schema["maxItems"] = json!(bound(MAX_ITEMS));
            limit(&mut schema["items"], &format!("{path}[]"));
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            schema["maxProperties"] = json!(bound(MAX_ITEMS));
            limit(&mut schema["additionalProperties"], &format!("{path}[]"));
        }
        _ => {
            let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
            for (name, field) in properties.into_iter().flatten() {
                limit(field, &format!("{path}.{name}"));
            }
        }
    }
}

/// Characters of a text.
const MAX_LENGTH: u32 = 253;
/// Items of a list, entries of a map.
const MAX_ITEMS: u32 = 16;

/// What has another limit.
const EXCEPTIONS: &[(&str, u32)] = &[
    ("spec.authentication[].audiences[]", 1024),
    ("spec.authentication[].cluster", 512),
    ("spec.authentication[].issuer", 1024),
    ("spec.authentication[].jwks", 65_536),
    ("spec.authentication[].jwksUri", 2048),
    ("spec.filter.istioVersion", 16),
    ("spec.filter.module.cluster", 512),
    ("spec.filter.module.path", 1024),
    ("spec.filter.module.url", 2048),
    ("spec.filter.wasm.image", 512),
    ("spec.filter.wasm.url", 2048),
    ("spec.services", 1000),
    ("spec.services[].allowedNamespaces[]", 63),
    ("spec.services[].base", 1024),
    ("spec.services[].gateways", 8),
    ("spec.services[].gateways[]", 317),
    ("spec.services[].name", 63),
    ("spec.services[].namespace", 63),
    ("spec.services[].variants", 500),
    ("spec.services[].variants[].expiresAt", 40),
    ("spec.services[].variants[].name", 63),
    ("spec.telemetry.namespaces", 1000),
    ("spec.telemetry.namespaces[]", 63),
    ("spec.expiresAt", 40),
    ("spec.service", 63),
    ("spec.variant", 63),
];
