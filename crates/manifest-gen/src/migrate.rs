//! `EnvoyFilter`s of Istio before 1.6 to the current format.

use routing_plan::diagnostic::FieldPath;
use serde_json::{Map, Value, json};

use crate::{
    diagnostic::FileDiagnostic,
    yaml::{Node, write},
};

/// A document in the current format, and what changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// The whole document.
    pub value: Value,
    /// What changed, and what to review.
    pub notes: Vec<String>,
}

impl Migrated {
    /// As YAML text.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write::write(&self.value)
    }
}

/// Converts an `EnvoyFilter` to the current format; other documents stay as they are.
///
/// # Errors
///
/// What has no equivalent in the current format.
pub fn migrate(document: &Node) -> Result<Migrated, Vec<FileDiagnostic>> {
    let mut value = document.to_json();
    let mut notes = Vec::new();
    if value["kind"] != "EnvoyFilter" {
        notes.push(format!("left a document of the kind {} unchanged", value["kind"]));
        return Ok(Migrated { value, notes });
    }
    if value["apiVersion"] != API_VERSION {
        notes.push(format!("replaced the apiVersion {} by `{API_VERSION}`", value["apiVersion"]));
        value["apiVersion"] = json!(API_VERSION);
    }
    let mut migration = Migration { document, notes, diagnostics: Vec::new() };
    let spec = value["spec"].take();
    value["spec"] = migration.spec(spec);
    if migration.diagnostics.is_empty() {
        Ok(Migrated { value, notes: migration.notes })
    } else {
        Err(migration.diagnostics)
    }
}

struct Migration<'d> {
    document: &'d Node,
    notes: Vec<String>,
    diagnostics: Vec<FileDiagnostic>,
}

impl Migration<'_> {
    fn spec(&mut self, mut spec: Value) -> Value {
        let Some(fields) = spec.as_object_mut() else {
            self.report(&spec_path(), "missing field `spec`");
            return spec;
        };
        let labels = fields.remove("workloadLabels");
        if let Some(labels) = labels {
            self.notes.push("replaced `workloadLabels` by `workloadSelector.labels` (since Istio 1.3)".into());
            if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
                fields.insert("workloadSelector".into(), json!({ "labels": labels }));
            }
        }
        if let Some(filters) = fields.remove("filters") {
            self.notes.push("replaced `filters` by `configPatches` (since Istio 1.3, required since 1.6)".into());
            let filters = filters.as_array().cloned().unwrap_or_default();
            let patches: Vec<_> =
                filters.iter().enumerate().filter_map(|(index, filter)| self.filter(index, filter)).collect();
            match fields.get_mut("configPatches").and_then(Value::as_array_mut) {
                Some(present) => present.extend(patches),
                None => {
                    fields.insert("configPatches".into(), Value::Array(patches));
                }
            }
        }
        for patch in fields.get_mut("configPatches").and_then(Value::as_array_mut).into_iter().flatten() {
            self.patch(patch);
        }
        spec
    }

    /// An entry of the old `filters`.
    fn filter(&mut self, index: usize, filter: &Value) -> Option<Value> {
        let path = || spec_path().field("filters").index(index);
        let kind = filter["filterType"].as_str().unwrap_or("HTTP");
        if kind != "HTTP" {
            self.report(&path().field("filterType"), format!("expected a filter of the type HTTP, found {kind}"));
            return None;
        }
        let listener = &filter["listenerMatch"];
        for field in ["address", "portNamePrefix", "listenerProtocol"] {
            let harmless = field == "listenerProtocol" && matches!(listener[field].as_str(), Some("HTTP" | "ALL"));
            if listener.get(field).is_some() && !harmless {
                let location = path().field("listenerMatch").field(field);
                self.report(&location, format!("`{field}` has no equivalent in the current format"));
            }
        }
        let context = match listener["listenerType"].as_str().unwrap_or("ANY") {
            "SIDECAR_INBOUND" => "SIDECAR_INBOUND",
            "SIDECAR_OUTBOUND" => "SIDECAR_OUTBOUND",
            "GATEWAY" => "GATEWAY",
            "ANY" => "ANY",
            other => {
                let location = path().field("listenerMatch").field("listenerType");
                self.report(&location, format!("expected a type of listener, found `{other}`"));
                return None;
            }
        };
        let position = &filter["insertPosition"];
        let (operation, beside) = match position["index"].as_str().unwrap_or("LAST") {
            // The last filter was inserted before the router, which ends the chain.
            "LAST" => ("INSERT_BEFORE", Some("envoy.filters.http.router")),
            "FIRST" => ("INSERT_FIRST", None),
            "BEFORE" => ("INSERT_BEFORE", position["relativeTo"].as_str()),
            "AFTER" => ("INSERT_AFTER", position["relativeTo"].as_str()),
            other => {
                let location = path().field("insertPosition").field("index");
                self.report(&location, format!("expected `FIRST`, `LAST`, `BEFORE` or `AFTER`, found `{other}`"));
                return None;
            }
        };
        let mut manager = json!({ "name": "envoy.filters.network.http_connection_manager" });
        if let Some(beside) = beside {
            manager["subFilter"] = json!({ "name": self.filter_name(beside) });
        }
        let mut listener_match = json!({ "filterChain": { "filter": manager } });
        if let Some(port) = listener["portNumber"].as_u64() {
            listener_match["portNumber"] = json!(port);
        }
        let Some(name) = filter["filterName"].as_str() else {
            self.report(&path(), "missing field `filterName`");
            return None;
        };
        let value = json!({ "name": name, "config": filter["filterConfig"] });
        Some(json!({
            "applyTo": "HTTP_FILTER",
            "match": { "context": context, "listener": listener_match },
            "patch": { "operation": operation, "value": value },
        }))
    }

    /// An entry of `configPatches`, old or current.
    fn patch(&mut self, patch: &mut Value) {
        let chain = &mut patch["match"]["listener"]["filterChain"]["filter"];
        for pointer in ["/name", "/subFilter/name"] {
            if let Some(name) = chain.pointer_mut(pointer)
                && let Some(old) = name.as_str()
            {
                *name = json!(self.filter_name(old));
            }
        }
        // Indexing above adds empty objects on the way to fields that do not exist.
        prune(patch);
        let Some(value) = patch.pointer_mut("/patch/value").and_then(Value::as_object_mut) else { return };
        let Some(old) = value.get("name").and_then(Value::as_str).map(str::to_owned) else { return };
        let name = self.filter_name(&old);
        let mut config =
            value.remove("typed_config").or_else(|| value.remove("typedConfig")).or_else(|| value.remove("config"));
        if name == LUA_FILTER {
            let config = config.get_or_insert_with(|| Value::Object(Map::new()));
            if config["@type"] != LUA_TYPE {
                self.notes.push(format!("gave the configuration of `{name}` the type `{LUA_TYPE}`"));
                config["@type"] = json!(LUA_TYPE);
            }
            let code = config
                .as_object_mut()
                .and_then(|fields| fields.remove("inline_code").or_else(|| fields.remove("inlineCode")));
            if let Some(code) = code {
                self.notes.push("replaced `inline_code` by `default_source_code.inline_string`".into());
                config["default_source_code"] = json!({ "inline_string": code });
            }
        } else if config.as_ref().is_some_and(|config| config.get("@type").is_none()) {
            let message = format!("the configuration of `{name}` needs an `@type`, which is not known here");
            let diagnostic = FileDiagnostic::at(self.document.span_at(&spec_path()), message);
            self.diagnostics.push(
                diagnostic.with_help("give `typed_config` with the `@type` from Envoy's documentation of the filter"),
            );
        }
        value.insert("name".into(), json!(name));
        if let Some(config) = config {
            value.insert("typed_config".into(), config);
        }
    }

    /// The current name of a filter.
    fn filter_name(&mut self, old: &str) -> String {
        let new = match old {
            "envoy.lua" => LUA_FILTER,
            "envoy.router" => "envoy.filters.http.router",
            "envoy.http_connection_manager" => "envoy.filters.network.http_connection_manager",
            "envoy.cors" => "envoy.filters.http.cors",
            "envoy.fault" => "envoy.filters.http.fault",
            "envoy.ext_authz" => "envoy.filters.http.ext_authz",
            "envoy.grpc_web" => "envoy.filters.http.grpc_web",
            "envoy.gzip" => "envoy.filters.http.compressor",
            same => return same.to_owned(),
        };
        let note = format!("renamed the filter `{old}` to `{new}` (since Envoy 1.14)");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        new.to_owned()
    }

    fn report(&mut self, location: &FieldPath, message: impl Into<String>) {
        self.diagnostics.push(FileDiagnostic::at(self.document.span_at(location), message));
    }
}

fn spec_path() -> FieldPath {
    FieldPath::default().field("spec")
}

fn prune(patch: &mut Value) {
    if patch["match"]["listener"]["filterChain"]["filter"].is_null()
        && let Some(condition) = patch["match"].as_object_mut()
    {
        let empty = condition.get("listener").is_none_or(|listener| {
            listener.as_object().is_none_or(|fields| fields.len() == 1 && fields.contains_key("filterChain"))
        });
        if empty {
            condition.remove("listener");
        }
    }
}

const API_VERSION: &str = "networking.istio.io/v1alpha3";
const LUA_FILTER: &str = "envoy.filters.http.lua";
const LUA_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::yaml::{self, File};

    fn migrated(text: &str) -> Result<Migrated, Vec<FileDiagnostic>> {
        migrate(&yaml::read(&Arc::new(File { name: "a.yaml".into(), text: text.into() })).unwrap()[0])
    }

    #[test]
    fn the_format_of_2020_becomes_the_current_one() {
        let old = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: routing, namespace: a}
spec:
  workloadLabels: {app: a}
  filters:
  - listenerMatch: {listenerType: SIDECAR_OUTBOUND, listenerProtocol: HTTP}
    filterName: envoy.lua
    filterType: HTTP
    filterConfig:
      inlineCode: |
        function envoy_on_request(handle)
        end
";
        let Migrated { value, notes } = migrated(old).unwrap();
        assert_eq!(
            value["spec"],
            json!({
                "workloadSelector": {"labels": {"app": "a"}},
                "configPatches": [{
                    "applyTo": "HTTP_FILTER",
                    "match": {"context": "SIDECAR_OUTBOUND", "listener": {"filterChain": {"filter": {
                        "name": "envoy.filters.network.http_connection_manager",
                        "subFilter": {"name": "envoy.filters.http.router"},
                    }}}},
                    "patch": {"operation": "INSERT_BEFORE", "value": {"name": "envoy.filters.http.lua", "typed_config": {
                        "@type": LUA_TYPE,
                        "default_source_code": {"inline_string": "function envoy_on_request(handle)\nend\n"},
                    }}},
                }],
            })
        );
        assert_eq!(notes.len(), 5, "{notes:?}");
    }

    #[test]
    fn a_patch_with_old_names_is_converted_once() {
        let old = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: routing}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.http_connection_manager, subFilter: {name: envoy.router}}}}}
    patch: {operation: INSERT_BEFORE, value: {name: envoy.lua, config: {inlineCode: x}}}
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND}
    patch: {operation: MERGE, value: {connect_timeout: 1s}}
";
        let once = migrated(old).unwrap();
        assert_eq!(once.value["spec"]["configPatches"][1]["match"], json!({"context": "SIDECAR_OUTBOUND"}));
        let twice = migrated(&once.to_yaml()).unwrap();
        assert_eq!((twice.value, twice.notes), (once.value, Vec::new()));
    }

    #[test]
    fn what_has_no_equivalent_is_an_error_with_its_span() {
        let old = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: x}
spec:
  filters:
  - listenerMatch: {listenerType: GATEWAY, portNamePrefix: http}
    filterName: envoy.lua
  - filterName: x
    filterType: NETWORK
";
        let diagnostics = migrated(old).unwrap_err();
        let lines: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.span.as_ref().unwrap().line).collect();
        assert_eq!(lines, [7, 9 + 1]);
    }
}
