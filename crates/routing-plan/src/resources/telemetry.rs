//! `Telemetry`: the filter's report in the access logs of gateways and workloads.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Hop, KubernetesResource, LabelSelector, Resource, metadata};
use crate::{
    diagnostic::{Document, Location},
    istio::Capability,
    resolve::{ResolvedPlan, ResolvedTelemetry},
};

/// One resource for each namespace with workloads, because a `Telemetry` with a selector applies only in its own namespace, and
/// one for the gateways.
pub(super) fn generate(plan: &ResolvedPlan) -> Vec<Resource> {
    let Some(telemetry) = &plan.telemetry else { return Vec::new() };
    let workloads = telemetry
        .namespaces
        .iter()
        .map(|namespace| resource(plan, telemetry, Hop::Sidecar, namespace, &plan.filter.workloads));
    let gateways = plan.filter.gateways.as_ref();
    let gateways = gateways.map(|labels| resource(plan, telemetry, Hop::Gateway, &plan.namespace, labels));
    workloads.chain(gateways).collect()
}

fn resource(
    plan: &ResolvedPlan,
    telemetry: &ResolvedTelemetry,
    hop: Hop,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Resource {
    let provider = Provider { name: telemetry.access_log_provider.clone() };
    let stable = plan.filter.istio.has(Capability::StableApis);
    Resource::new(
        &Location::root(Document::Plan).field("spec").field("telemetry"),
        &KubernetesResource {
            api_version: if stable { "telemetry.istio.io/v1" } else { "telemetry.istio.io/v1alpha1" },
            kind: "Telemetry",
            metadata: metadata(plan, namespace, hop.name(plan)),
            spec: Spec {
                access_logging: [
                    // Without it, received requests would lose the mesh's own access log: Istio takes the providers of the mesh
                    // only for a mode that the list has (`mergeLogs` in `pilot/pkg/model/telemetry.go`).
                    AccessLogging { r#match: Match { mode: "SERVER" }, providers: Vec::new() },
                    AccessLogging { r#match: Match { mode: "CLIENT" }, providers: vec![provider] },
                ],
                selector: LabelSelector::of(labels),
            },
        },
    )
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    access_logging: [AccessLogging; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
}

#[derive(Debug, Serialize)]
struct AccessLogging {
    r#match: Match,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    providers: Vec<Provider>,
}

/// Requests that the proxy receives for its workload (`SERVER`), or that it sends (`CLIENT`), also at a gateway.
#[derive(Debug, Serialize)]
struct Match {
    mode: &'static str,
}

#[derive(Debug, Serialize)]
struct Provider {
    name: String,
}
