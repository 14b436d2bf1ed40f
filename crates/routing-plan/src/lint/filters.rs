//! Findings in filters, and where one is missing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    FAIL_OPEN, FILTER_PRIORITY, HEADER_NOT_STRIPPED, PLUGIN_MODE, Report, TOKEN_NOT_FORWARDED, TOKEN_NOT_VERIFIED,
    WASM_UNPINNED, World, routes::routes_by_version,
};
use crate::manifests::{Filter, Manifest, ROOT_NAMESPACE, items, texts};

pub(super) fn check(world: &World<'_>, report: &mut Report) {
    for filter in &world.filters {
        filter_itself(filter.manifest, report);
    }
    priorities(world, report);
    for manifest in world.of_kind("RequestAuthentication") {
        for (index, rule) in manifest.list("/spec/jwtRules").enumerate() {
            if rule["forwardOriginalToken"] != true {
                let message = format!("{} removes the token after the check", manifest.id());
                report.add(&TOKEN_NOT_FORWARDED, manifest, &format!("spec/jwtRules/{index}"), message);
            }
        }
    }
    let gateway = world.filters.iter().find(|filter| filter.manifest.kind == "EnvoyFilter" && filter.gateway);
    if let Some(filter) = gateway
        && world.of_kind("RequestAuthentication").next().is_none()
    {
        let message = format!("no RequestAuthentication stands before {}", filter.manifest.id());
        report.add(&TOKEN_NOT_VERIFIED, filter.manifest, "spec", message);
    }
    stripping(world, report);
}

fn filter_itself(manifest: &Manifest, report: &mut Report) {
    let spec = manifest.spec();
    if manifest.kind != "EnvoyFilter" {
        let client = items(&spec["match"]).next().is_some() && items(&spec["match"]).all(|one| one["mode"] == "CLIENT");
        if !client {
            report.add(
                &PLUGIN_MODE,
                manifest,
                "spec/match",
                format!("{} stands before inbound requests too", manifest.id()),
            );
        }
        let (wasm, path) =
            if manifest.kind == "TrafficExtension" { (&spec["wasm"], "spec/wasm") } else { (spec, "spec") };
        if wasm["failStrategy"] == "FAIL_OPEN" {
            let message = format!("{} lets requests pass unfiltered after a crash", manifest.id());
            report.add(&FAIL_OPEN, manifest, &format!("{path}/failStrategy"), message);
        }
        let url = wasm["url"].as_str().unwrap_or("file://");
        unpinned(manifest, &format!("{path}/url"), url, &wasm["sha256"], report);
        return;
    }
    for (index, patch) in items(&spec["configPatches"]).enumerate() {
        let config = &patch["patch"]["value"]["typed_config"]["config"];
        let path = format!("spec/configPatches/{index}/patch/value/typed_config/config");
        if config["fail_open"] == true || config["failure_policy"] == "FAIL_OPEN" {
            let message = format!("{} lets requests pass unfiltered after a crash", manifest.id());
            report.add(&FAIL_OPEN, manifest, &path, message);
        }
        let remote = &config["vm_config"]["code"]["remote"];
        if let Some(url) = remote["http_uri"]["uri"].as_str() {
            unpinned(manifest, &format!("{path}/vm_config/code/remote"), url, &remote["sha256"], report);
        }
    }
}

fn unpinned(manifest: &Manifest, path: &str, url: &str, sha256: &Value, report: &mut Report) {
    let pinned = sha256.as_str().is_some_and(|hex| !hex.is_empty()) || url.contains("@sha256:");
    if !pinned && !url.starts_with("file://") {
        report.add(&WASM_UNPINNED, manifest, path, format!("`{url}` can be changed without notice"));
    }
}

fn priorities(world: &World<'_>, report: &mut Report) {
    let mut spots: BTreeMap<String, Vec<&Manifest>> = BTreeMap::new();
    for manifest in world.of_kind("EnvoyFilter") {
        for patch in manifest.list("/spec/configPatches").filter(|patch| patch["applyTo"] == "HTTP_FILTER") {
            let spot = format!("{} {}", patch["match"], patch["patch"]["operation"]);
            let manifests = spots.entry(spot).or_default();
            if !manifests.iter().any(|other| other.id() == manifest.id()) {
                manifests.push(manifest);
            }
        }
    }
    for manifests in spots.values() {
        for (index, manifest) in manifests.iter().enumerate() {
            let other = manifests.iter().enumerate().find(|(at, other)| *at != index && overlap(manifest, other));
            if let Some((_, other)) = other
                && manifest.spec()["priority"].as_i64().unwrap_or(0) == 0
            {
                let message =
                    format!("{} has no `priority`, and {} inserts at the same spot", manifest.id(), other.id());
                report.add_pair(&FILTER_PRIORITY, (manifest, "spec"), (other, "spec"), message);
            }
        }
    }
}

/// Whether one workload can have both.
fn overlap(a: &Manifest, b: &Manifest) -> bool {
    let labels = |manifest: &Manifest| texts(&manifest.spec()["workloadSelector"]["labels"]);
    let b_labels = labels(b);
    let namespaces = a.namespace == b.namespace || [a, b].iter().any(|one| one.namespace == ROOT_NAMESPACE);
    namespaces && labels(a).iter().all(|(key, value)| b_labels.get(key).is_none_or(|other| other == value))
}

/// Every routed header must be stripped before the route is chosen: at each workload that calls, and at each gateway.
fn stripping(world: &World<'_>, report: &mut Report) {
    let kinds = ["VirtualService", "HTTPRoute"];
    let routes: Vec<_> = kinds
        .into_iter()
        .flat_map(|kind| world.of_kind(kind))
        .filter(|manifest| routes_by_version(world, manifest))
        .collect();
    if routes.is_empty() {
        return;
    }
    if world.filters.is_empty() {
        for manifest in routes {
            report.add(
                &HEADER_NOT_STRIPPED,
                manifest,
                "spec",
                format!("{} routes by a header that no filter sets", manifest.id()),
            );
        }
        return;
    }
    for manifest in world.manifests {
        let Some(pod) = pod_metadata(manifest) else { continue };
        let labels = texts(&pod["labels"]);
        let sidecar = pod["annotations"]["sidecar.istio.io/inject"] != "false"
            && labels.get("sidecar.istio.io/inject").is_none_or(|inject| inject != "false");
        let selected = world.filters.iter().any(|filter| filter.selects(Some(&manifest.namespace), &labels));
        if sidecar && !selected {
            let message = format!("no filter stands before what {} sends", manifest.id());
            report.add(&HEADER_NOT_STRIPPED, manifest, "spec/template/metadata/labels", message);
        }
    }
    for manifest in routes {
        for (index, gateway) in manifest.list("/spec/gateways").enumerate() {
            let Some(name) = gateway.as_str().filter(|name| *name != "mesh") else { continue };
            if !world.filters.iter().any(|filter| filter.gateway && stands_at(world, filter, manifest, name)) {
                let message = format!("{} is reached through `{name}`, where no filter stands", manifest.id());
                report.add(&HEADER_NOT_STRIPPED, manifest, &format!("spec/gateways/{index}"), message);
            }
        }
    }
}

/// Whether the filter stands at a gateway; if the Gateway's manifest is not there to tell, any filter for gateways does.
fn stands_at(world: &World<'_>, filter: &Filter<'_>, route: &Manifest, gateway: &str) -> bool {
    let (namespace, name) = gateway.split_once('/').unwrap_or((&route.namespace, gateway));
    match world.of_kind("Gateway").find(|one| one.namespace == namespace && one.name == name) {
        Some(gateway) => filter.selects(None, &texts(&gateway.spec()["selector"])),
        // A plugin does not say where it stands, but this project's labels are those of workloads.
        None => filter.manifest.kind == "EnvoyFilter" || !filter.selects(None, &routers()),
    }
}

/// The labels by which workloads have the filter unless the plan says otherwise.
fn routers() -> BTreeMap<String, String> {
    BTreeMap::from([("routing-claims.dev/router".to_owned(), "enabled".to_owned())])
}

/// Labels and annotations of the pods that a workload makes.
fn pod_metadata(manifest: &Manifest) -> Option<&Value> {
    match &*manifest.kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
            Some(&manifest.spec()["template"]["metadata"])
        }
        "CronJob" => Some(&manifest.spec()["jobTemplate"]["spec"]["template"]["metadata"]),
        "Pod" => Some(&manifest.value["metadata"]),
        _ => None,
    }
}
