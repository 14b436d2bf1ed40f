//! `WasmPlugin`: Istio fetches the module and inserts the filter.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Hop, LabelSelector, Manifest, Resource, filter_metadata};
use crate::{
    model::{FilterEngine, Mesh, WasmCode},
    plan::FailStrategy,
};

pub(super) fn generate(mesh: &Mesh, hop: Hop, labels: &BTreeMap<String, String>) -> Resource {
    Resource::new(
        &mesh.filter.place,
        &Manifest {
            api_version: "extensions.istio.io/v1alpha1",
            kind: "WasmPlugin",
            metadata: filter_metadata(mesh, hop),
            // No phase: after authentication and authorization.
            spec: Spec { matches: [CLIENT], selector: LabelSelector::of(labels), wasm: wasm(mesh) },
        },
    )
}

/// The module and what it is told, in the form that a `TrafficExtension` has too.
pub(super) fn wasm(mesh: &Mesh) -> Wasm {
    let (url, sha256, fail_strategy) = match &mesh.filter.engine {
        FilterEngine::Wasm { code: WasmCode::Url { url, sha256 }, fail_strategy } => {
            (url.clone(), sha256.clone(), *fail_strategy)
        }
        // The model refuses both: these resources carry addresses only.
        FilterEngine::Wasm { code: WasmCode::Inline(_), .. } | FilterEngine::Lua => {
            (String::new(), None, FailStrategy::FailClose)
        }
    };
    let plugin_config = serde_json::to_value(mesh.policy.config()).unwrap_or_default();
    Wasm { fail_strategy, plugin_config, sha256, url }
}

#[derive(Debug, Serialize)]
struct Spec {
    #[serde(rename = "match")]
    matches: [TrafficSelector; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
    #[serde(flatten)]
    wasm: Wasm,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct TrafficSelector {
    mode: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wasm {
    fail_strategy: FailStrategy,
    plugin_config: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    url: String,
}

/// Requests that a workload or gateway sends; the default would filter those it receives too.
pub(super) const CLIENT: TrafficSelector = TrafficSelector { mode: "CLIENT" };
