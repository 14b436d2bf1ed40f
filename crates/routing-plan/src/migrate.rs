//! `EnvoyFilter`s of Istio before 1.6 to today's form.

use serde_json::{Map, Value, json};

use crate::{
    problem::Problem,
    yaml::{Node, write},
};

/// A document in today's form, and what changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// All of it.
    pub value: Value,
    /// What changed, and what to look at.
    pub notes: Vec<String>,
}

impl Migrated {
    /// As YAML text.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write::write(&self.value)
    }
}

/// Brings an `EnvoyFilter` to today's form; other documents stay as they are.
///
/// # Errors
///
/// What has no equal today, with its place.
pub fn migrate(document: &Node) -> Result<Migrated, Vec<Problem>> {
    let mut value = document.to_json();
    let mut notes = Vec::new();
    if value["kind"] != "EnvoyFilter" {
        notes.push(format!("a document of the kind {} is left as it is", value["kind"]));
        return Ok(Migrated { value, notes });
    }
    if value["apiVersion"] != API_VERSION {
        notes.push(format!("apiVersion {} is `{API_VERSION}` today", value["apiVersion"]));
        value["apiVersion"] = json!(API_VERSION);
    }
    let mut migration = Migration { document, notes, problems: Vec::new() };
    let spec = value["spec"].take();
    value["spec"] = migration.spec(spec);
    if migration.problems.is_empty() { Ok(Migrated { value, notes: migration.notes }) } else { Err(migration.problems) }
}

struct Migration<'d> {
    document: &'d Node,
    notes: Vec<String>,
    problems: Vec<Problem>,
}

impl Migration<'_> {
    fn spec(&mut self, mut spec: Value) -> Value {
        let Some(fields) = spec.as_object_mut() else {
            self.problem("spec", "an EnvoyFilter needs a `spec`");
            return spec;
        };
        let labels = fields.remove("workloadLabels");
        if let Some(labels) = labels {
            self.notes.push("`workloadLabels` is `workloadSelector.labels` since Istio 1.3".into());
            if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
                fields.insert("workloadSelector".into(), json!({ "labels": labels }));
            }
        }
        if let Some(filters) = fields.remove("filters") {
            self.notes.push("`filters` are `configPatches` since Istio 1.3, and gone since 1.6".into());
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
        let path = format!("spec/filters/{index}");
        let kind = filter["filterType"].as_str().unwrap_or("HTTP");
        if kind != "HTTP" {
            self.problem(
                &format!("{path}/filterType"),
                &format!("filters of the type {kind} are not migrated, HTTP ones are"),
            );
            return None;
        }
        let listener = &filter["listenerMatch"];
        for field in ["address", "portNamePrefix", "listenerProtocol"] {
            let harmless = field == "listenerProtocol" && matches!(listener[field].as_str(), Some("HTTP" | "ALL"));
            if listener.get(field).is_some() && !harmless {
                self.problem(&format!("{path}/listenerMatch/{field}"), &format!("`{field}` has no equal today"));
            }
        }
        let context = match listener["listenerType"].as_str().unwrap_or("ANY") {
            "SIDECAR_INBOUND" => "SIDECAR_INBOUND",
            "SIDECAR_OUTBOUND" => "SIDECAR_OUTBOUND",
            "GATEWAY" => "GATEWAY",
            "ANY" => "ANY",
            other => {
                self.problem(&format!("{path}/listenerMatch/listenerType"), &format!("found `{other}`"));
                return None;
            }
        };
        let position = &filter["insertPosition"];
        let (operation, beside) = match position["index"].as_str().unwrap_or("LAST") {
            // Last of all was before the router, which ends the request's way.
            "LAST" => ("INSERT_BEFORE", Some("envoy.filters.http.router")),
            "FIRST" => ("INSERT_FIRST", None),
            "BEFORE" => ("INSERT_BEFORE", position["relativeTo"].as_str()),
            "AFTER" => ("INSERT_AFTER", position["relativeTo"].as_str()),
            other => {
                self.problem(&format!("{path}/insertPosition/index"), &format!("found `{other}`"));
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
            self.problem(&path, "the field `filterName` is missing");
            return None;
        };
        let value = json!({ "name": name, "config": filter["filterConfig"] });
        Some(json!({
            "applyTo": "HTTP_FILTER",
            "match": { "context": context, "listener": listener_match },
            "patch": { "operation": operation, "value": value },
        }))
    }

    /// An entry of `configPatches`, of any age.
    fn patch(&mut self, patch: &mut Value) {
        let chain = &mut patch["match"]["listener"]["filterChain"]["filter"];
        for pointer in ["/name", "/subFilter/name"] {
            if let Some(name) = chain.pointer_mut(pointer)
                && let Some(old) = name.as_str()
            {
                *name = json!(self.filter_name(old));
            }
        }
        // Indexing above makes empty ways to what is not there.
        prune(patch);
        let Some(value) = patch.pointer_mut("/patch/value").and_then(Value::as_object_mut) else { return };
        let Some(old) = value.get("name").and_then(Value::as_str).map(str::to_owned) else { return };
        let name = self.filter_name(&old);
        let mut config =
            value.remove("typed_config").or_else(|| value.remove("typedConfig")).or_else(|| value.remove("config"));
        if name == LUA_FILTER {
            let config = config.get_or_insert_with(|| Value::Object(Map::new()));
            if config["@type"] != LUA_TYPE {
                self.notes.push(format!("the configuration of `{name}` has the type `{LUA_TYPE}`"));
                config["@type"] = json!(LUA_TYPE);
            }
            let code = config
                .as_object_mut()
                .and_then(|fields| fields.remove("inline_code").or_else(|| fields.remove("inlineCode")));
            if let Some(code) = code {
                self.notes.push("`inline_code` is `default_source_code.inline_string` today".into());
                config["default_source_code"] = json!({ "inline_string": code });
            }
        } else if config.as_ref().is_some_and(|config| config.get("@type").is_none()) {
            let place = self.document.place_at("spec").clone();
            let problem =
                Problem::at(&place, format!("the configuration of `{name}` needs an `@type`, which is not known here"));
            self.problems.push(
                problem.help("give `typed_config` with the `@type` that Envoy's documentation of the filter has"),
            );
        }
        value.insert("name".into(), json!(name));
        if let Some(config) = config {
            value.insert("typed_config".into(), config);
        }
    }

    /// Today's name of a filter.
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
        let note = format!("the filter `{old}` is `{new}` since Envoy 1.14");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        new.to_owned()
    }

    fn problem(&mut self, path: &str, message: &str) {
        self.problems.push(Problem::at(self.document.place_at(path), message));
    }
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

    fn migrated(text: &str) -> Result<Migrated, Vec<Problem>> {
        migrate(&yaml::read(&Arc::new(File { name: "a.yaml".into(), text: text.into() })).unwrap()[0])
    }

    #[test]
    fn the_form_of_2020_becomes_todays() {
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
    fn a_patch_of_old_names_becomes_todays_and_todays_stays() {
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
    fn what_has_no_equal_is_told_with_its_place() {
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
        let problems = migrated(old).unwrap_err();
        let lines: Vec<_> = problems.iter().map(|problem| problem.place.as_ref().unwrap().line).collect();
        assert_eq!(lines, [7, 9 + 1]);
    }
}
