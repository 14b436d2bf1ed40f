//! Resources that insert the filter.

use std::collections::BTreeMap;

use super::{Findings, Scope};
use crate::{
    diagnostic::FieldPath,
    filter::ROOT_NAMESPACE,
    manifests::Manifest,
    views::{
        EnvoyFilter, View,
        reader::Field,
        wasm_plugin::{TrafficSelector, WasmModule},
    },
};

pub(super) fn plugin_mode(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, _) in scope.filters() {
        let matches = match manifest.any_view() {
            View::WasmPlugin(plugin) => &plugin.matches,
            View::TrafficExtension(extension) => &extension.matches,
            _ => continue,
        };
        let is_client = |one: &TrafficSelector| one.mode.is("CLIENT") || one.mode.is_wrong();
        let only_client = !matches.items().is_empty() && matches.items().iter().all(is_client);
        if !only_client && !matches.is_wrong() {
            let path = FieldPath::default().field("spec").field("match");
            findings.add(manifest, &path, format!("{} also runs on inbound requests", manifest.id()));
        }
    }
}

pub(super) fn fail_open(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, _) in scope.filters() {
        let paths: Vec<FieldPath> = match (manifest.view::<EnvoyFilter>(), module(manifest)) {
            (Some(filter), _) => {
                let open = filter
                    .wasm()
                    .filter(|wasm| wasm.fail_open == Field::Known(true) || wasm.failure_policy.is("FAIL_OPEN"));
                open.map(|wasm| wasm.path.clone()).collect()
            }
            (None, Some(module)) if module.fail_strategy.is("FAIL_OPEN") => {
                vec![module.path.clone().field("failStrategy")]
            }
            (None, _) => Vec::new(),
        };
        for path in paths {
            findings.add(
                manifest,
                &path,
                format!("{} lets requests pass without the filter after a trap", manifest.id()),
            );
        }
    }
}

pub(super) fn module_fails_open(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, _) in scope.filters() {
        for module in manifest.view::<EnvoyFilter>().into_iter().flat_map(EnvoyFilter::native) {
            let fetched = module.module.known().is_some_and(|code| code.remote.known().is_some());
            if fetched && matches!(module.nack_on_cache_miss, Field::Absent | Field::Known(false)) {
                let message = format!("{} lets requests pass until Envoy has fetched the module", manifest.id());
                findings.add(manifest, &module.path, message);
            }
        }
    }
}

pub(super) fn wasm_unpinned(scope: &Scope<'_>, findings: &mut Findings) {
    let is_pinned = |url: &str, sha256: &Field<String>| {
        let pinned = sha256.is_wrong() || sha256.text().is_some_and(|hex| !hex.is_empty());
        pinned || url.contains("@sha256:") || url.starts_with("file://")
    };
    for (manifest, _) in scope.filters() {
        let remote = manifest.view::<EnvoyFilter>().into_iter().flat_map(EnvoyFilter::remote_code);
        let remote = remote.filter_map(|remote| Some((remote.url()?, &remote.sha256, remote.path.clone())));
        let module = module(manifest).into_iter();
        let module =
            module.filter_map(|module| Some((module.url.text()?, &module.sha256, module.path.clone().field("url"))));
        for (url, sha256, path) in remote.chain(module) {
            if !is_pinned(url, sha256) {
                findings.add(manifest, &path, format!("the module at `{url}` can change without notice"));
            }
        }
    }
}

pub(super) fn filter_priority(scope: &Scope<'_>, findings: &mut Findings) {
    for at_position in by_position(scope).values() {
        for (manifest, filter) in at_position {
            let mut others = at_position.iter().filter(|(other, _)| other.id() != manifest.id());
            let other = others.find(|(other, view)| can_meet((manifest, filter), (other, view)));
            if let Some((other, _)) = other
                && matches!(filter.priority, Field::Absent | Field::Known(0))
            {
                let spec = FieldPath::default().field("spec");
                let message =
                    format!("{} has no `priority`, and {} inserts at the same position", manifest.id(), other.id());
                findings.add_related((manifest, &spec), (other, &spec), message);
            }
        }
    }
}

/// The resources that insert an HTTP filter, by where they insert it.
fn by_position<'s>(scope: &Scope<'s>) -> BTreeMap<String, Vec<(&'s Manifest, &'s EnvoyFilter)>> {
    let mut positions: BTreeMap<String, Vec<(&Manifest, &EnvoyFilter)>> = BTreeMap::new();
    for (manifest, filter) in scope.all::<EnvoyFilter>() {
        for patch in filter.config_patches.items().iter().filter(|patch| patch.apply_to.is("HTTP_FILTER")) {
            let matches = patch.matches.known().and_then(|matches| manifest.value_at(&matches.path));
            let operation = patch.patch.known().and_then(|patch| patch.operation.text());
            let position = format!("{matches:?} {operation:?}");
            let at_position = positions.entry(position).or_default();
            if !at_position.iter().any(|(other, _)| other.id() == manifest.id()) {
                at_position.push((manifest, filter));
            }
        }
    }
    positions
}

/// Whether one workload can have both.
fn can_meet((a, a_view): (&Manifest, &EnvoyFilter), (b, b_view): (&Manifest, &EnvoyFilter)) -> bool {
    let in_scope = a.namespace == b.namespace || [a, b].iter().any(|one| one.namespace == ROOT_NAMESPACE);
    let mut labels = a_view.labels().into_iter().flatten();
    let others = b_view.labels();
    in_scope && labels.all(|(key, value)| others.and_then(|others| others.get(key)).is_none_or(|other| other == value))
}

fn module(manifest: &Manifest) -> Option<&WasmModule> {
    match manifest.any_view() {
        View::WasmPlugin(plugin) => Some(&plugin.module),
        View::TrafficExtension(extension) => extension.wasm.known(),
        _ => None,
    }
}
