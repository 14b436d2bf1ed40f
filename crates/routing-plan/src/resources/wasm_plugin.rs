//! `WasmPlugin`: Istio fetches the module and inserts the filter.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Hop, KubernetesResource, LabelSelector, Resource, filter_metadata, json, policy};
use crate::{
    plan::{FailStrategy, PullPolicy},
    resolve::{RemoteModule, ResolvedPlan, WasmEngine},
};

pub(super) fn generate(
    plan: &ResolvedPlan,
    engine: &WasmEngine<RemoteModule>,
    hop: Hop,
    labels: &BTreeMap<String, String>,
) -> Resource {
    Resource::new(
        &plan.filter.location,
        &KubernetesResource {
            api_version: "extensions.istio.io/v1alpha1",
            kind: "WasmPlugin",
            metadata: filter_metadata(plan, hop),
            // No phase: after authentication and authorization.
            spec: Spec { matches: [CLIENT], selector: LabelSelector::of(labels), wasm: wasm(plan, hop, engine) },
        },
    )
}

/// The module and its configuration, in the form that a `TrafficExtension` has too.
pub(super) fn wasm(plan: &ResolvedPlan, hop: Hop, engine: &WasmEngine<RemoteModule>) -> Wasm {
    let WasmEngine { module: RemoteModule { url, sha256, pull_secret, pull_policy }, fail_strategy } = engine.clone();
    Wasm {
        fail_strategy,
        image_pull_policy: pull_policy,
        image_pull_secret: pull_secret,
        plugin_config: json(policy(plan, hop).config()),
        sha256,
        url,
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    image_pull_policy: Option<PullPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_pull_secret: Option<String>,
    plugin_config: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    url: String,
}

/// Requests that a workload or gateway sends; by default the filter would see those that it receives too.
pub(super) const CLIENT: TrafficSelector = TrafficSelector { mode: "CLIENT" };
