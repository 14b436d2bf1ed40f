//! Fields that the API server refuses, or drops because it does not know them.

use super::{Findings, Scope};
use crate::{
    diagnostic::{FieldPath, Segment, nearest},
    manifests::Manifest,
    resolve::MAX_INLINE_CODE_BYTES,
    views::{
        EnvoyFilter, View,
        reader::Field,
        wasm_plugin::{TrafficSelector, WasmModule},
    },
};

/// Of the kinds that are not Kubernetes' own: their schema takes no null. (Seen on an API server: `POST` removes the field,
/// a server-side apply is refused.)
pub(super) fn null_field(scope: &Scope<'_>, findings: &mut Findings) {
    let is_custom = |manifest: &&Manifest| {
        !matches!(manifest.any_view(), View::Service(_) | View::Workload(_) | View::ReferenceGrant | View::Other)
    };
    for manifest in scope.manifests.iter().filter(is_custom) {
        let is_finding = |path: &&FieldPath| match path.segments() {
            // The only one that may be null.
            [_, Segment::Field(name)] if name == "priority" => false,
            [Segment::Field(first), ..] => first == "spec" && !is_of_envoy(path),
            _ => false,
        };
        for path in manifest.null_fields().iter().filter(is_finding) {
            findings.add(manifest, path, format!("`{path}` is null"));
        }
    }
}

/// Of the kinds whose views are complete.
pub(super) fn unknown_field(scope: &Scope<'_>, findings: &mut Findings) {
    let is_complete = |manifest: &&Manifest| {
        matches!(
            manifest.any_view(),
            View::DestinationRule(_)
                | View::EnvoyFilter(_)
                | View::Gateway(_)
                | View::HttpRoute(_)
                | View::RequestAuthentication(_)
                | View::ServiceEntry(_)
                | View::TrafficExtension(_)
                | View::VirtualService(_)
                | View::WasmPlugin(_)
        )
    };
    for manifest in scope.manifests.iter().filter(is_complete) {
        // A kind of match that does not exist makes the match one of a wrong type.
        let is_told = |path: &FieldPath| {
            manifest.wrong_types().iter().any(|wrong| path.segments().starts_with(wrong.path.segments()))
        };
        let is_finding = |path: &&FieldPath| !is_of_envoy(path) && !is_told(path);
        for path in manifest.unknown_under(&FieldPath::default()).filter(is_finding) {
            let effect = match path.segments() {
                [.., Segment::Field(parent), _] if parent == "workloadSelector" => selects_all("labels"),
                [.., Segment::Field(parent), _] if parent == "selector" => selects_all("matchLabels"),
                [_, Segment::Field(name)] if name == "filters" || name == "workloadLabels" => {
                    ": `manifest-gen migrate` converts it".into()
                }
                _ => String::new(),
            };
            findings.add(manifest, path, format!("unknown field `{path}`{effect}"));
        }
    }
}

fn selects_all(expected: &str) -> String {
    format!(": expected `{expected}`; without it, every workload is selected")
}

/// Whether a path is in the configuration of Envoy, which the API server does not look into.
fn is_of_envoy(path: &FieldPath) -> bool {
    let is_value = |pair: &[Segment]| matches!(pair, [Segment::Field(object), Segment::Field(field)] if object == "patch" && field == "value");
    path.segments().windows(2).any(is_value)
}

pub(super) fn invalid_value(scope: &Scope<'_>, findings: &mut Findings) {
    for manifest in scope.manifests {
        let mut check = Check { manifest, findings };
        match manifest.any_view() {
            View::EnvoyFilter(filter) => check.envoy_filter(filter),
            View::WasmPlugin(plugin) => {
                check.modes(&plugin.matches);
                check.module(&plugin.module);
            }
            View::TrafficExtension(extension) => {
                check.modes(&extension.matches);
                if let Some(module) = extension.wasm.known() {
                    check.module(module);
                }
                if let Some(lua) = extension.lua.known() {
                    let bytes = lua.inline_code.text().unwrap_or_default().len();
                    if bytes > MAX_INLINE_CODE_BYTES {
                        let message = format!("expected at most {MAX_INLINE_CODE_BYTES} bytes, found {bytes}");
                        check.report(&lua.path.clone().field("inlineCode"), message);
                    }
                }
            }
            _ => {}
        }
    }
}

struct Check<'c, 's> {
    manifest: &'s Manifest,
    findings: &'c mut Findings,
}

impl Check<'_, '_> {
    fn envoy_filter(&mut self, filter: &EnvoyFilter) {
        for patch in filter.config_patches.items() {
            self.one_of(&patch.apply_to, &patch.path.clone().field("applyTo"), APPLY_TO);
            if let Some(matches) = patch.matches.known() {
                self.one_of(&matches.context, &matches.path.clone().field("context"), CONTEXTS);
            }
            if let Some(patch) = patch.patch.known() {
                self.one_of(&patch.operation, &patch.path.clone().field("operation"), OPERATIONS);
            }
        }
    }

    fn modes(&mut self, matches: &Field<Vec<TrafficSelector>>) {
        for one in matches.items() {
            self.one_of(&one.mode, &one.path.clone().field("mode"), MODES);
        }
    }

    fn module(&mut self, module: &WasmModule) {
        let at = |name| module.path.clone().field(name);
        self.one_of(&module.fail_strategy, &at("failStrategy"), FAIL_STRATEGIES);
        self.one_of(&module.kind, &at("type"), PLUGIN_TYPES);
        let is_digest = |text: &str| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.is_empty() || (text.len() == 64 && text.bytes().all(is_hex))
        };
        if let Some(found) = module.sha256.text().filter(|text| !is_digest(text)) {
            self.report(&at("sha256"), format!("expected 64 digits of `0-9 a-f`, found `{found}`"));
        }
    }

    fn one_of(&mut self, field: &Field<String>, path: &FieldPath, allowed: &[&str]) {
        let Some(found) = field.text().filter(|text| !allowed.contains(text)) else { return };
        let near = nearest(found, allowed.iter().copied()).map(|near| format!(" (did you mean `{near}`?)"));
        self.report(
            path,
            format!("expected one of {}, found `{found}`{}", allowed.join(", "), near.unwrap_or_default()),
        );
    }

    fn report(&mut self, path: &FieldPath, message: String) {
        self.findings.add(self.manifest, path, message);
    }
}

// The values of Istio's resource definitions (`manifests/charts/base/files/crd-all.gen.yaml`, read), without those that
// Istio refuses itself.
const APPLY_TO: &[&str] = &[
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
];
const CONTEXTS: &[&str] = &["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"];
const OPERATIONS: &[&str] =
    &["MERGE", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE", "MERGE_AND_REPLACE_LIST"];
const MODES: &[&str] = &["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"];
const FAIL_STRATEGIES: &[&str] = &["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"];
const PLUGIN_TYPES: &[&str] = &["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"];
