//! `TrafficExtension`: Istio inserts either engine, and fetches the module.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Hop, KubernetesResource, LabelSelector, Resource, filter_metadata, policy,
    wasm_plugin::{CLIENT, TrafficSelector, Wasm, wasm},
};
use crate::resolve::{FilterEngine, RemoteModule, ResolvedPlan};

pub(super) fn generate(
    plan: &ResolvedPlan,
    engine: &FilterEngine<RemoteModule>,
    hop: Hop,
    labels: &BTreeMap<String, String>,
) -> Resource {
    let extension = match engine {
        FilterEngine::Lua => Extension::Lua(Lua { inline_code: lua_filter::source(policy(plan, hop)) }),
        FilterEngine::Wasm(engine) => Extension::Wasm(wasm(plan, hop, engine)),
    };
    Resource::new(
        &plan.filter.location,
        &KubernetesResource {
            api_version: "extensions.istio.io/v1alpha1",
            kind: "TrafficExtension",
            metadata: filter_metadata(plan, hop),
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
