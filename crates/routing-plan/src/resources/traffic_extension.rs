//! `TrafficExtension`: what Istio 1.30 has for both engines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Hop, LabelSelector, Manifest, Resource, filter_metadata, lua,
    wasm_plugin::{CLIENT, TrafficSelector, Wasm, wasm},
};
use crate::model::{FilterEngine, Mesh};

pub(super) fn generate(mesh: &Mesh, hop: Hop, labels: &BTreeMap<String, String>) -> Resource {
    let extension = match &mesh.filter.engine {
        FilterEngine::Lua => Extension::Lua(Lua { inline_code: lua::script(&mesh.policy) }),
        FilterEngine::Wasm { .. } => Extension::Wasm(wasm(mesh)),
    };
    Resource::new(
        &mesh.filter.place,
        &Manifest {
            api_version: "extensions.istio.io/v1alpha1",
            kind: "TrafficExtension",
            metadata: filter_metadata(mesh, hop),
            spec: Spec { extension, matches: [CLIENT], selector: LabelSelector::of(labels) },
        },
    )
}

#[derive(Debug, Serialize)]
struct Spec {
    #[serde(flatten)]
    extension: Extension,
    #[serde(rename = "match")]
    matches: [TrafficSelector; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Extension {
    Lua(Lua),
    Wasm(Wasm),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lua {
    inline_code: String,
}
