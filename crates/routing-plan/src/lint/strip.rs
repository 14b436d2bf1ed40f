//! Whether every routed header is stripped before a route looks at it: at each workload that calls, and at each gateway.

use super::{Findings, Scope, routes::routes_by_version};
use crate::{
    diagnostic::FieldPath,
    filter::RoutingFilter,
    manifests::Manifest,
    names,
    views::{EnvoyFilter, Gateway, Labels, VirtualService, Workload, virtual_service::MESH},
};

pub(super) fn header_not_stripped(scope: &Scope<'_>, findings: &mut Findings) {
    let routes: Vec<_> = scope.manifests.iter().filter(|manifest| routes_by_version(scope, manifest)).collect();
    if routes.is_empty() {
        return;
    }
    if scope.filters().next().is_none() {
        for manifest in routes {
            let spec = FieldPath::default().field("spec");
            findings.add(manifest, &spec, format!("{} routes by a header that no filter sets", manifest.id()));
        }
        return;
    }
    callers(scope, findings);
    for manifest in routes {
        gateways(scope, manifest, findings);
    }
}

fn callers(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, workload) in scope.all::<Workload>() {
        let none = Labels::new();
        let labels = workload.labels.known().unwrap_or(&none);
        let mut filters = scope.filters();
        let is_selected =
            filters.any(|(_, filter)| filter.is_at_sidecars() && filter.selects(Some(&manifest.namespace), labels));
        // Its selector needs a label of the template: without any, it is a patch of a workload.
        let is_patch = workload.labels.is_absent() && NEEDS_LABELS.contains(&&*manifest.kind);
        if workload.has_sidecar() && !is_selected && !is_patch && !workload.labels.is_wrong() {
            let path = workload.path.clone().field("labels");
            findings.add(manifest, &path, format!("requests that {} sends do not pass the filter", manifest.id()));
        }
    }
}

fn gateways(scope: &Scope<'_>, manifest: &Manifest, findings: &mut Findings) {
    let Some(view) = manifest.view::<VirtualService>() else { return };
    for (index, name) in view.gateways.items().iter().enumerate().filter(|(_, name)| *name != MESH) {
        let mut filters = scope.filters();
        if !filters.any(|(carrier, filter)| filter.is_at_gateways() && is_at(scope, (carrier, filter), manifest, name))
        {
            let path = view.written.path.clone().field("gateways").index(index);
            let message = format!("requests to {} through the gateway `{name}` do not pass the filter", manifest.id());
            findings.add(manifest, &path, message);
        }
    }
}

/// Whether a gateway has the filter; if the Gateway's manifest is not there to tell, any filter for gateways counts.
fn is_at(scope: &Scope<'_>, (carrier, filter): (&Manifest, &RoutingFilter), route: &Manifest, gateway: &str) -> bool {
    let id = names::gateway(gateway, &route.namespace);
    let known = scope.all::<Gateway>().find(|(one, _)| format!("{}/{}", one.namespace, one.name) == id);
    match known {
        Some((_, gateway)) => filter.selects(None, gateway.selector.known().unwrap_or(&Labels::new())),
        // A plugin does not tell where it is, but this project's labels are those of workloads.
        None => carrier.view::<EnvoyFilter>().is_some() || !filter.selects(None, &default_workload_labels()),
    }
}

/// The labels by which workloads have the filter unless the plan says otherwise.
fn default_workload_labels() -> Labels {
    Labels::from([("routing-claims.dev/router".to_owned(), "enabled".to_owned())])
}

/// Kinds that the API server refuses without labels of their pods.
const NEEDS_LABELS: [&str; 4] = ["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"];
