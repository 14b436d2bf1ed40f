//! `EnvoyFilter`s of Istio before 1.6, and plans of earlier versions, to the current format.

mod plan;
mod types;

use routing_plan::{
    diagnostic::FieldPath,
    filter_names::{FilterKind, current_name},
    manifests::remove_server_fields,
};
use serde_json::{Map, Value, json};

use crate::{
    diagnostic::FileDiagnostic,
    yaml::{Node, Span, write},
};

/// A document in the current format, and what changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// The whole document.
    pub value: Value,
    /// What changed, and what to review.
    pub notes: Vec<Note>,
}

/// Something that changed, and where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The place in the old document.
    pub span: Span,
    /// What changed.
    pub message: String,
}

impl Migrated {
    /// As YAML text, a document that can follow another one.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write::document(&self.value)
    }
}

/// Converts an `EnvoyFilter`, each one of a list, or a plan to the current format; other documents stay as they are.
///
/// # Errors
///
/// What has no equivalent in the current format.
pub fn migrate(document: &Node) -> Result<Migrated, Vec<FileDiagnostic>> {
    let mut value = document.to_json();
    let kind = value["kind"].as_str().unwrap_or_default();
    if let (true, Some(list)) = (kind.ends_with("List"), document.get("items")) {
        let kind = kind.strip_suffix("List").unwrap_or_default().to_owned();
        let migrated: Vec<_> = list.items().iter().map(|item| migrate_one(item, &kind)).collect();
        let (migrated, failed): (Vec<_>, Vec<_>) = migrated.into_iter().partition(Result::is_ok);
        let diagnostics: Vec<_> = failed.into_iter().filter_map(Result::err).flatten().collect();
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let (items, notes): (Vec<_>, Vec<_>) = migrated.into_iter().flatten().map(|one| (one.value, one.notes)).unzip();
        value["items"] = Value::Array(items);
        return Ok(Migrated { value, notes: notes.into_iter().flatten().collect() });
    }
    migrate_one(document, "")
}

/// Converts a resource. In a typed list it may leave out its kind.
fn migrate_one(document: &Node, kind: &str) -> Result<Migrated, Vec<FileDiagnostic>> {
    let mut value = document.to_json();
    let mut migration = Migration { document, notes: Vec::new(), diagnostics: Vec::new() };
    let kind = value["kind"].as_str().unwrap_or(kind);
    if kind == "RoutingPlan" {
        return migration.plan(value);
    }
    if kind != "EnvoyFilter" {
        migration.note(&FieldPath::default(), format!("left a document of the kind {kind:?} unchanged"));
        return Ok(Migrated { value, notes: migration.notes });
    }
    if value["apiVersion"] != API_VERSION {
        let message = format!("replaced the apiVersion {} by `{API_VERSION}`", value["apiVersion"]);
        migration.note(&FieldPath::default().field("apiVersion"), message);
        value["apiVersion"] = json!(API_VERSION);
        value["kind"] = json!("EnvoyFilter");
    }
    if remove_server_fields(&mut value) {
        migration.note(&FieldPath::default().field("metadata"), "left out what the API server and kubectl had added");
    }
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
    notes: Vec<Note>,
    diagnostics: Vec<FileDiagnostic>,
}

impl Migration<'_> {
    fn spec(&mut self, mut spec: Value) -> Value {
        let Some(fields) = spec.as_object_mut() else {
            self.report(&spec_path(), "missing field `spec`");
            return spec;
        };
        if let Some(labels) = fields.remove("workloadLabels") {
            let path = spec_path().field("workloadLabels");
            if fields.contains_key("workloadSelector") {
                self.report(&path, "expected either `workloadLabels` or `workloadSelector`, found both");
            }
            self.note(&path, "replaced `workloadLabels` by `workloadSelector.labels` (since Istio 1.3)");
            if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
                fields.insert("workloadSelector".into(), json!({ "labels": labels }));
            }
        }
        for (index, patch) in
            fields.get_mut("configPatches").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            self.patch(patch, &spec_path().field("configPatches").index(index));
        }
        if let Some(filters) = fields.remove("filters") {
            let message = "replaced `filters` by `configPatches` (since Istio 1.3, required since 1.6)";
            self.note(&spec_path().field("filters"), message);
            let filters = filters.as_array().cloned().unwrap_or_default();
            let mut patches = Vec::new();
            for (index, filter) in filters.iter().enumerate() {
                let path = spec_path().field("filters").index(index);
                if let Some(mut patch) = self.filter(&path, filter) {
                    self.patch(&mut patch, &path);
                    patches.push(patch);
                }
            }
            match fields.get_mut("configPatches").and_then(Value::as_array_mut) {
                Some(present) => present.extend(patches),
                None => {
                    fields.insert("configPatches".into(), Value::Array(patches));
                }
            }
        }
        spec
    }

    /// An entry of the old `filters`.
    fn filter(&mut self, path: &FieldPath, filter: &Value) -> Option<Value> {
        let at = |field: &'static str| path.clone().field(field);
        match filter["filterType"].as_str() {
            Some("HTTP") => {}
            None => self.note(path, "took the filter for one of the type HTTP (it has no `filterType`)"),
            Some(other) => {
                self.report(&at("filterType"), format!("expected a filter of the type HTTP, found {other}"));
                return None;
            }
        }
        let listener = &filter["listenerMatch"];
        for field in ["address", "portNamePrefix", "listenerProtocol"] {
            let harmless = field == "listenerProtocol" && matches!(listener[field].as_str(), Some("HTTP" | "ALL"));
            if listener.get(field).is_some() && !harmless {
                let message = format!("`{field}` has no equivalent in the current format");
                self.report(&at("listenerMatch").field(field), message);
            }
        }
        let context = match listener["listenerType"].as_str().unwrap_or("ANY") {
            "SIDECAR_INBOUND" => "SIDECAR_INBOUND",
            "SIDECAR_OUTBOUND" => "SIDECAR_OUTBOUND",
            "GATEWAY" => "GATEWAY",
            "ALL" | "ANY" => "ANY",
            other => {
                let location = at("listenerMatch").field("listenerType");
                self.report(&location, format!("expected a type of listener, found `{other}`"));
                return None;
            }
        };
        let (operation, beside) = self.position(path, &filter["insertPosition"])?;
        let mut manager = json!({ "name": "envoy.filters.network.http_connection_manager" });
        if let Some(beside) = beside {
            manager["subFilter"] = json!({ "name": beside });
        }
        let mut listener_match = json!({ "filterChain": { "filter": manager } });
        if let Some(port) = listener["portNumber"].as_u64() {
            listener_match["portNumber"] = json!(port);
        }
        let Some(name) = filter["filterName"].as_str() else {
            self.report(path, "missing field `filterName`");
            return None;
        };
        let value = json!({ "name": name, "config": filter["filterConfig"] });
        Some(json!({
            "applyTo": "HTTP_FILTER",
            "match": { "context": context, "listener": listener_match },
            "patch": { "operation": operation, "value": value },
        }))
    }

    /// The operation, and the filter that it is relative to. No value means `FIRST`. `LAST` appended the filter: in older
    /// versions before Istio added its own filters, in later ones when the router was there already (read: `insertHTTPFilter`
    /// in `pilot/pkg/networking/core/v1alpha3/envoyfilter.go`, and its caller in `listener.go`).
    fn position<'f>(&mut self, path: &FieldPath, position: &'f Value) -> Option<(&'static str, Option<&'f str>)> {
        let at = path.clone().field("insertPosition");
        let relative = |migration: &mut Self, operation| {
            let Some(beside) = position["relativeTo"].as_str() else {
                migration.report(&at, "missing field `relativeTo`");
                return None;
            };
            Some((operation, Some(beside)))
        };
        match position["index"].as_str() {
            None => {
                self.note(&at, "inserted the filter first, as the old Istio did without an `insertPosition.index`");
                Some(("INSERT_FIRST", None))
            }
            Some("FIRST") => Some(("INSERT_FIRST", None)),
            Some("LAST") => {
                let message = "inserted the filter before the router; depending on its version, the old Istio put it after the \
                               router, where no request reaches it, or before its own filters";
                self.note(&at.field("index"), message);
                Some(("INSERT_BEFORE", Some("envoy.filters.http.router")))
            }
            Some("BEFORE") => relative(self, "INSERT_BEFORE"),
            Some("AFTER") => relative(self, "INSERT_AFTER"),
            Some(other) => {
                let message = format!("expected `FIRST`, `LAST`, `BEFORE` or `AFTER`, found `{other}`");
                self.report(&at.field("index"), message);
                None
            }
        }
    }

    /// An entry of `configPatches`, whether it is at this path or was an old filter there.
    fn patch(&mut self, patch: &mut Value, at: &FieldPath) {
        let matches = at.clone().field("match").field("listener");
        let chain = matches.clone().field("filterChain").field("filter");
        for (pointer, kind, at_name) in [
            ("/match/listener/filterChain/filter/name", FilterKind::Network, chain.clone().field("name")),
            (
                "/match/listener/filterChain/filter/subFilter/name",
                FilterKind::Http,
                chain.field("subFilter").field("name"),
            ),
            ("/match/listener/listenerFilter", FilterKind::Listener, matches.field("listenerFilter")),
        ] {
            if let Some(name) = patch.pointer_mut(pointer)
                && let Some(old) = name.as_str().map(str::to_owned)
            {
                *name = json!(self.filter_name(kind, &old, &at_name));
            }
        }
        let kind = match patch["applyTo"].as_str() {
            Some("NETWORK_FILTER") => FilterKind::Network,
            Some("LISTENER_FILTER") => FilterKind::Listener,
            Some("HTTP_FILTER") => FilterKind::Http,
            _ => {
                if let Some(value) = patch.pointer_mut("/patch/value") {
                    self.inner(value, &at.clone().field("patch").field("value"));
                }
                return;
            }
        };
        let Some(value) = patch.pointer_mut("/patch/value") else { return };
        let at = at.clone().field("patch").field("value");
        self.filter_value(value, kind, &at);
        self.inner(value, &at);
    }

    /// A filter and its configuration.
    fn filter_value(&mut self, value: &mut Value, kind: FilterKind, at: &FieldPath) {
        let Some(value) = value.as_object_mut() else { return };
        let Some(old) = value.get("name").and_then(Value::as_str).map(str::to_owned) else { return };
        let name = self.filter_name(kind, &old, &at.clone().field("name"));
        value.insert("name".into(), json!(name));
        if let Some(instead) = types::removed(&name) {
            let message = format!("Envoy no longer has the filter `{name}`");
            let diagnostic = FileDiagnostic::at(self.document.span_at(at), message);
            self.diagnostics.push(diagnostic.with_help(instead));
            return;
        }
        let field = ["typed_config", "typedConfig", "config"].into_iter().find(|field| value.contains_key(*field));
        let mut config = field.and_then(|field| value.remove(field)).filter(|config| !config.is_null());
        let at_config = at.clone().field(field.unwrap_or("typed_config"));
        if let Some(config) = config.get_or_insert_with(|| json!({})).as_object_mut()
            && !config.contains_key("@type")
            && !value.contains_key("config_discovery")
        {
            let known = if name == LUA_FILTER { Some(LUA.to_owned()) } else { types::type_of(&name) };
            if let Some(known) = known {
                let kind = format!("{TYPE_URL}{known}");
                self.note(&at_config, format!("gave the configuration of `{name}` the type `{kind}`"));
                config.insert("@type".into(), json!(kind));
            } else if field.is_some() {
                let message = format!("the configuration of `{name}` needs an `@type`, which is not known here");
                let diagnostic = FileDiagnostic::at(self.document.span_at(&at_config), message);
                let help = "give `typed_config` with the `@type` from Envoy's documentation of the filter";
                self.diagnostics.push(diagnostic.with_help(help));
            }
        }
        if let Some(config) = config.filter(|config| config.as_object().is_none_or(|config| !config.is_empty())) {
            value.insert("typed_config".into(), config);
        }
    }

    /// Converts old types and names anywhere in the configuration of Envoy.
    fn inner(&mut self, value: &mut Value, at: &FieldPath) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.inner(item, &at.clone().index(index));
                }
            }
            Value::Object(fields) => {
                self.typed(fields, at);
                let has_config =
                    ["config", "typed_config", "typedConfig"].iter().any(|name| fields.contains_key(*name));
                if let Some(name) = fields.get("name").and_then(Value::as_str).filter(|_| has_config)
                    && [FilterKind::Http, FilterKind::Network, FilterKind::Listener]
                        .iter()
                        .any(|kind| current_name(*kind, name).is_some())
                {
                    self.report(&at.clone().field("name"), format!("`{name}` within another filter is an old name"));
                }
                for (name, field) in fields.iter_mut() {
                    self.inner(field, &at.clone().field(name.clone()));
                }
            }
            _ => {}
        }
    }

    /// An object that may have a type.
    fn typed(&mut self, fields: &mut Map<String, Value>, at: &FieldPath) {
        let Some(url) = fields.get("@type").and_then(Value::as_str).map(str::to_owned) else { return };
        let name = url.rsplit('/').next().unwrap_or_default();
        let at_type = at.clone().field("@type");
        if types::is_old(name) {
            let Some(current) = types::current_type(name) else {
                let message = format!("`{name}` is a type of Envoy's second API, which ended with Istio 1.9");
                self.report(&at_type, message);
                return;
            };
            let message =
                format!("replaced the type `{name}` by `{current}`: compare its fields with Envoy's documentation");
            self.note(&at_type, message);
            fields.insert("@type".into(), json!(format!("{TYPE_URL}{current}")));
        }
        if fields.get("@type").and_then(Value::as_str) == Some(&format!("{TYPE_URL}{LUA}")) {
            self.lua(fields, at);
        }
    }

    fn lua(&mut self, fields: &mut Map<String, Value>, at: &FieldPath) {
        let Some(field) = ["inline_code", "inlineCode"].into_iter().find(|field| fields.contains_key(*field)) else {
            return;
        };
        let at = at.clone().field(field);
        if fields.contains_key("default_source_code") || fields.contains_key("defaultSourceCode") {
            self.report(&at, format!("expected either `{field}` or `default_source_code`, found both"));
            return;
        }
        if let Some(code) = fields.remove(field) {
            self.note(&at, format!("replaced `{field}` by `default_source_code.inline_string`"));
            fields.insert("default_source_code".into(), json!({ "inline_string": code }));
        }
    }

    /// The current name of a filter.
    fn filter_name(&mut self, kind: FilterKind, old: &str, at: &FieldPath) -> String {
        let Some(new) = current_name(kind, old) else { return old.to_owned() };
        self.note(at, format!("renamed the filter `{old}` to `{new}` (since Envoy 1.14)"));
        new.to_owned()
    }

    fn note(&mut self, at: &FieldPath, message: impl Into<String>) {
        self.notes.push(Note { span: self.document.span_at(at).clone(), message: message.into() });
    }

    fn report(&mut self, location: &FieldPath, message: impl Into<String>) {
        self.diagnostics.push(FileDiagnostic::at(self.document.span_at(location), message));
    }
}

fn spec_path() -> FieldPath {
    FieldPath::default().field("spec")
}

const API_VERSION: &str = "networking.istio.io/v1alpha3";
const LUA_FILTER: &str = "envoy.filters.http.lua";
const LUA: &str = "envoy.extensions.filters.http.lua.v3.Lua";
const TYPE_URL: &str = "type.googleapis.com/";

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
                    }}}},
                    "patch": {"operation": "INSERT_FIRST", "value": {"name": "envoy.filters.http.lua", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                        "default_source_code": {"inline_string": "function envoy_on_request(handle)\nend\n"},
                    }}},
                }],
            })
        );
        let lines: Vec<_> = notes.iter().map(|note| note.span.line).collect();
        assert_eq!(lines, [6, 8, 8, 8, 8, 8], "{notes:?}");
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

    /// The operation, the filter beside it, and whether a note tells of the position.
    fn positioned(position: &str) -> Result<(String, Value, bool), Vec<FileDiagnostic>> {
        let text = format!(
            "kind: EnvoyFilter\nmetadata: {{name: x}}\nspec: {{filters: [{{filterType: HTTP, filterName: envoy.lua, \
             filterConfig: {{inlineCode: x}}{position}}}]}}\n"
        );
        let Migrated { value, notes, .. } = migrated(&text)?;
        let patch = &value["spec"]["configPatches"][0];
        let beside = patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"].clone();
        let is_noted = notes.iter().any(|note| note.message.starts_with("inserted the filter"));
        Ok((patch["patch"]["operation"].as_str().unwrap().to_owned(), beside, is_noted))
    }

    #[test]
    fn a_position_means_what_it_meant() {
        let router = json!("envoy.filters.http.router");
        for (position, operation, beside, is_noted) in [
            ("", "INSERT_FIRST", Value::Null, true),
            (", insertPosition: {}", "INSERT_FIRST", Value::Null, true),
            (", insertPosition: {relativeTo: envoy.cors}", "INSERT_FIRST", Value::Null, true),
            (", insertPosition: {index: FIRST}", "INSERT_FIRST", Value::Null, false),
            (", insertPosition: {index: LAST}", "INSERT_BEFORE", router.clone(), true),
            (", insertPosition: {index: BEFORE, relativeTo: envoy.router}", "INSERT_BEFORE", router, false),
            (
                ", insertPosition: {index: AFTER, relativeTo: envoy.cors}",
                "INSERT_AFTER",
                json!("envoy.filters.http.cors"),
                false,
            ),
        ] {
            assert_eq!(positioned(position).unwrap(), (operation.to_owned(), beside, is_noted), "{position}");
        }
        assert!(positioned(", insertPosition: {index: BEFORE}").is_err());
    }

    /// A patch with this filter, or with what it has instead of a filter.
    fn patch(apply_to: &str, value: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: x}}\nspec:\n  configPatches:\n  \
             - applyTo: {apply_to}\n    patch:\n      operation: MERGE\n      value: {value}\n"
        )
    }

    #[test]
    fn old_types_are_translated_or_reported_at_their_place() {
        let old = "{name: envoy.ext_authz, typed_config: {'@type': type.googleapis.com/envoy.config.filter.http.ext_authz.v2.ExtAuthz}}";
        let Migrated { value, notes } = migrated(&patch("HTTP_FILTER", old)).unwrap();
        let value = &value["spec"]["configPatches"][0]["patch"]["value"];
        assert_eq!(
            value["typed_config"]["@type"],
            "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
        );
        assert_eq!(notes.len(), 2, "{notes:?}");
        for (apply_to, value, place) in [
            (
                "HTTP_FILTER",
                "{name: x, typed_config: {'@type': type.googleapis.com/envoy.config.filter.http.wasm.v2.Wasm}}",
                "type.googleapis.com/envoy.config.filter.http.wasm",
            ),
            (
                "CLUSTER",
                "{transport_socket: {typed_config: {'@type': t/envoy.api.v2.auth.UpstreamTlsContext}}}",
                "t/envoy.api.v2",
            ),
            ("HTTP_FILTER", "{name: envoy.gzip, config: {}}", "{"),
            ("HTTP_FILTER", "{name: mine, config: {a: 1}}", "{"),
            (
                "NETWORK_FILTER",
                "{name: m, typed_config: {'@type': t/m, http_filters: [{name: envoy.lua, config: {}}]}}",
                "envoy.lua",
            ),
        ] {
            let diagnostics = migrated(&patch(apply_to, value)).unwrap_err();
            let [one] = &diagnostics[..] else { panic!("{diagnostics:?}") };
            let span = one.span.as_ref().unwrap();
            assert!(span.line == 9 && span.text().starts_with(place), "{one:?}");
        }
    }

    /// Of the names of one table a name of another one stays as it is.
    #[test]
    fn a_name_depends_on_what_it_names() {
        let named = |apply_to: &str, name: &str| {
            let value = migrated(&patch(apply_to, &format!("{{name: {name}}}"))).unwrap().value;
            value["spec"]["configPatches"][0]["patch"]["value"]["name"].as_str().unwrap().to_owned()
        };
        assert_eq!(named("HTTP_FILTER", "envoy.ext_authz"), "envoy.filters.http.ext_authz");
        assert_eq!(named("NETWORK_FILTER", "envoy.ext_authz"), "envoy.filters.network.ext_authz");
        assert_eq!(named("LISTENER_FILTER", "envoy.listener.tls_inspector"), "envoy.filters.listener.tls_inspector");
        assert_eq!(named("CLUSTER", "envoy.lua"), "envoy.lua");
    }

    #[test]
    fn a_plan_names_the_image_and_its_digest() {
        let plan = |wasm: &str| {
            let text = format!("kind: RoutingPlan\nspec: {{filter: {{wasm: {{{wasm}, failStrategy: FAIL_CLOSE}}}}}}\n");
            migrated(&text).map(|one| (one.value["spec"]["filter"]["wasm"].clone(), one.notes.len()))
        };
        let wanted = json!({"image": "r.example/a:1", "digest": "sha256:12", "failStrategy": "FAIL_CLOSE"});
        for old in ["url: 'oci://r.example/a:1', sha256: '12'", "url: 'oci://r.example/a:1@sha256:12'"] {
            assert_eq!(plan(old), Ok((wanted.clone(), 2)));
        }
        let file = "url: 'https://r.example/a', sha256: '12'";
        assert_eq!(plan(file).unwrap().1, 0);
        let error = &plan("url: 'oci://r.example/a@sha256:12', sha256: '34'").unwrap_err()[0];
        assert!(error.to_string().contains("expected the digest of `url`"), "{error}");
    }

    #[test]
    fn a_plan_has_a_list_of_issuers() {
        let plan = |authentication: &str| {
            let text = format!("kind: RoutingPlan\nspec:\n  authentication: {authentication}\n");
            migrated(&text).map(|one| (one.value["spec"]["authentication"].clone(), one.notes.len())).unwrap()
        };
        let wanted = json!([{"issuer": "a", "jwksUri": "https://a"}]);
        assert_eq!(plan("{issuer: a, jwksUri: 'https://a'}"), (wanted.clone(), 1));
        assert_eq!(plan("[{issuer: a, jwksUri: 'https://a'}]"), (wanted, 0));
    }

    #[test]
    fn items_of_a_list_are_converted() {
        let text = "kind: List\napiVersion: v1\nitems:\n- kind: Service\n  metadata: {name: y}\n- apiVersion: \
                    networking.istio.io/v1alpha3\n  kind: EnvoyFilter\n  metadata: {name: x, uid: u, generation: 1}\n  spec: \
                    {workloadLabels: {a: b}}\n  status: {}\n";
        let Migrated { value, notes } = migrated(text).unwrap();
        assert_eq!(value["items"][1]["spec"], json!({"workloadSelector": {"labels": {"a": "b"}}}));
        assert_eq!(value["items"][1]["metadata"], json!({"name": "x"}));
        let lines: Vec<_> = notes.iter().map(|note| note.span.line).collect();
        assert_eq!(lines, [4, 8, 9], "{notes:?}");
        assert_eq!(migrated(&text.replace("workloadLabels: {a: b}", "filters: [{}]")).unwrap_err().len(), 1);
    }
}
