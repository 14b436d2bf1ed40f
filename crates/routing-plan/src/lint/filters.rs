//! Resources that insert the filter.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{Findings, Scope, tokens};
use crate::{
    attachment::Attachment,
    diagnostic::FieldPath,
    filter::{Fault, Stage},
    manifests::Manifest,
    views::{
        EnvoyFilter, View,
        envoy_filter::{ConfigPatch, Patch, WasmConfig},
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
            (Some(filter), _) => filter.wasm().filter(|wasm| wasm.fails_open()).map(|wasm| wasm.path.clone()).collect(),
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
    for (manifest, Pulled { url, sha256, path, .. }) in pulled(scope) {
        if !is_image(url) && sha256.is_none() {
            findings.add(manifest, &path, format!("the module at `{url}` can change without notice"));
        }
    }
}

pub(super) fn tag_moves(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, Pulled { url, sha256, path, .. }) in pulled(scope) {
        if is_image(url) && digest(url).is_none() {
            let then = if sha256.is_none() {
                "and then proxies run different modules"
            } else {
                "and `sha256`, which must be the digest of the image's manifest, is then wrong"
            };
            findings.add(manifest, &path, format!("the tag of `{url}` can move, {then}"));
        }
    }
}

pub(super) fn oci_sha256(scope: &Scope<'_>, findings: &mut Findings) {
    let is_file = |hex: &str| scope.module.is_some_and(|module| hex.eq_ignore_ascii_case(module));
    for (manifest, Pulled { url, sha256, path, .. }) in pulled(scope).filter(|(_, pulled)| is_image(pulled.url)) {
        let digest = digest(url);
        let message = match (digest, sha256) {
            (Some(digest), _) if is_file(digest) => {
                format!("the digest in the URL is {digest}, the checksum of the module's file")
            }
            (_, Some(sha256)) if is_file(sha256) => format!("`sha256` is {sha256}, the checksum of the module's file"),
            (Some(digest), Some(sha256)) if digest != sha256 => {
                format!("`sha256` is {sha256}, and the digest in the URL is {digest}")
            }
            _ => continue,
        };
        findings.add(manifest, &path, message);
    }
}

pub(super) fn pull_can_deny(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, Pulled { url, fails_open, path, .. }) in pulled(scope) {
        if !fails_open && !is_in_cluster(url) {
            findings.add(manifest, &path, format!("a proxy that can't pull `{url}` denies every request"));
        }
    }
}

pub(super) fn policy_invalid(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, filter) in scope.filters() {
        for Fault { path, message } in &filter.policy_faults {
            findings.add(manifest, path, message);
        }
    }
}

pub(super) fn filter_position(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, filter) in scope.filters() {
        for Fault { path, message } in &filter.position_faults {
            findings.add(manifest, path, message);
        }
        let is_plugin = manifest.view::<EnvoyFilter>().is_none();
        let is_early = filter.insertions_at(true).any(|insertion| insertion.stage == Stage::BeforeAuthn);
        if is_plugin && is_early && tokens::is_at_a_gateway(scope, filter) {
            let path = FieldPath::default().field("spec").field("phase");
            findings.add(manifest, &path, "in the phase `AUTHN` the filter runs before Istio verifies the token");
        }
    }
}

/// In the order in which Istio applies them: `EnvoyFilters` in `pilot/pkg/model/push_context.go` (read).
pub(super) fn filter_priority(scope: &Scope<'_>, findings: &mut Findings) {
    for at_position in by_position(scope).values() {
        for (index, one) in at_position.iter().enumerate() {
            let others = at_position.get(..index).unwrap_or_default();
            if let Some(other) = others.iter().find(|other| one.order(other).is_none() && one.meets(other)) {
                let message = format!(
                    "{} and {} have the same priority {} and insert at the same position",
                    other.manifest.id(),
                    one.manifest.id(),
                    one.priority()
                );
                findings.add_related((one.manifest, &one.place()), (other.manifest, &other.place()), message);
            }
        }
    }
}

pub(super) fn filter_overridden(scope: &Scope<'_>, findings: &mut Findings) {
    let all: Vec<_> = scope.all::<EnvoyFilter>().filter_map(|(manifest, view)| Applied::of(manifest, view)).collect();
    for own in all.iter().filter(|one| one.manifest.filter().is_some()) {
        for other in all.iter().filter(|other| other.manifest.filter().is_none() && other.meets(own)) {
            for patch in other.view.config_patches.items() {
                if let Some((path, why)) = breaks_patches(other.manifest, patch) {
                    let message = format!("{why}: istiod drops the filter that {} inserts, too", own.manifest.id());
                    findings.add_related((other.manifest, &path), (own.manifest, &own.place()), message);
                    continue;
                }
                let Some((path, operation)) = overrides(patch, &own.names()) else { continue };
                // What is merged is merged after all filters are inserted.
                let comes_later = operation.starts_with("MERGE") || own.order(other) != Some(Ordering::Greater);
                if comes_later {
                    let message = format!("`{operation}` changes the filter that {} inserts", own.manifest.id());
                    findings.add_related((other.manifest, &path), (own.manifest, &own.place()), message);
                }
            }
        }
    }
}

/// An `EnvoyFilter` as Istio applies it.
struct Applied<'s> {
    manifest: &'s Manifest,
    view: &'s EnvoyFilter,
    attachment: Attachment,
}

impl<'s> Applied<'s> {
    fn of(manifest: &'s Manifest, view: &'s EnvoyFilter) -> Option<Self> {
        let attachment = Attachment::of(manifest.any_view(), &manifest.namespace)?;
        (!view.priority.is_wrong()).then_some(Self { manifest, view, attachment })
    }

    fn priority(&self) -> i64 {
        self.view.priority.known().copied().unwrap_or_default()
    }

    /// Which one is applied first: by priority, then those of the root namespace. Without a difference in these it is the
    /// older one, which no manifest tells.
    fn order(&self, other: &Self) -> Option<Ordering> {
        let key = |one: &Self| (one.priority(), !one.attachment.is_root());
        Some(key(self).cmp(&key(other))).filter(|order| order.is_ne())
    }

    fn meets(&self, other: &Self) -> bool {
        self.attachment.meets(&other.attachment)
    }

    /// Names of the HTTP filters that it inserts.
    fn names(&self) -> Vec<&str> {
        let patches = self.view.config_patches.items().iter().filter(|patch| patch.apply_to.is("HTTP_FILTER"));
        patches.filter_map(|patch| patch.patch.known()?.value.known()?.name.text()).collect()
    }

    fn place(&self) -> FieldPath {
        let spec = FieldPath::default().field("spec");
        if self.view.priority.is_absent() { spec } else { spec.field("priority") }
    }
}

/// Path and operation of a patch that changes an HTTP filter of one of these names, or a filter whatever its name.
fn overrides<'p>(patch: &'p ConfigPatch, names: &[&str]) -> Option<(FieldPath, &'p str)> {
    let Patch { operation, path, .. } = patch.patch.known()?;
    let operation = operation.text()?;
    if !patch.apply_to.is("HTTP_FILTER") || !matches!(operation, "MERGE" | "REMOVE" | "REPLACE") {
        return None;
    }
    let network = || patch.matches.known()?.listener.known()?.filter_chain.known()?.filter.known();
    match network().and_then(|network| network.sub_filter.known()) {
        Some(sub) => sub.name.text().is_some_and(|name| names.contains(&name)),
        // Without a `subFilter`, only what is merged finds a filter.
        None => operation == "MERGE",
    }
    .then(|| (path.clone().field("operation"), operation))
}

/// Path of a patch that merges the configuration of one HTTP filter into another, and what it does. istiod panics then, and
/// drops every patch of the listener (`MergeAnyWithAny` in `pilot/pkg/networking/util/util.go`).
fn breaks_patches(manifest: &Manifest, patch: &ConfigPatch) -> Option<(FieldPath, String)> {
    let Patch { operation, path, .. } = patch.patch.known()?;
    let network = patch.matches.known()?.listener.known()?.filter_chain.known()?.filter.known()?;
    let into = network.sub_filter.known()?.name.text()?;
    let kind = path.clone().field("value").field("typed_config").field("@type");
    let merged =
        manifest.value_at(&kind)?.as_str()?.strip_prefix("type.googleapis.com/envoy.extensions.filters.http.")?;
    let is_other = |name: &str| !merged.starts_with(&format!("{name}.v"));
    let is_merge = patch.apply_to.is("HTTP_FILTER") && operation.is("MERGE");
    (is_merge && into.strip_prefix("envoy.filters.http.").is_some_and(is_other))
        .then(|| (kind, format!("`{merged}` is not a configuration of `{into}`")))
}

/// The resources that insert an HTTP filter, by where they insert it.
fn by_position<'s>(scope: &Scope<'s>) -> BTreeMap<String, Vec<Applied<'s>>> {
    let mut positions: BTreeMap<String, Vec<Applied<'_>>> = BTreeMap::new();
    for (manifest, view) in scope.all::<EnvoyFilter>() {
        for patch in view.config_patches.items().iter().filter(|patch| patch.apply_to.is("HTTP_FILTER")) {
            let matches = patch.matches.known().and_then(|matches| manifest.value_at(&matches.path));
            let operation = patch.patch.known().and_then(|patch| patch.operation.text());
            let at_position = positions.entry(format!("{matches:?} {operation:?}")).or_default();
            if at_position.iter().all(|other| other.manifest.id() != manifest.id()) {
                at_position.extend(Applied::of(manifest, view));
            }
        }
    }
    positions
}

/// A WebAssembly module that Istio's agent pulls.
struct Pulled<'s> {
    url: &'s str,
    /// A text that is not empty.
    sha256: Option<&'s str>,
    /// Whether requests pass without the filter if it can't be pulled.
    fails_open: bool,
    /// Path of the URL or of what contains it.
    path: FieldPath,
}

fn pulled<'s>(scope: &Scope<'s>) -> impl Iterator<Item = (&'s Manifest, Pulled<'s>)> + use<'s> {
    let text = |field: &'s Field<String>| field.text().filter(|text| !text.is_empty());
    let of_envoy_filter = move |wasm: &'s WasmConfig| {
        let remote = wasm.vm_config.known()?.code.known()?.remote.known()?;
        (!remote.sha256.is_wrong()).then_some(Pulled {
            url: remote.url()?,
            sha256: text(&remote.sha256),
            fails_open: wasm.fails_open(),
            path: remote.path.clone(),
        })
    };
    let of_plugin = move |module: &'s WasmModule| {
        (!module.sha256.is_wrong()).then_some(Pulled {
            url: module.url.text()?,
            sha256: text(&module.sha256),
            fails_open: module.fail_strategy.is("FAIL_OPEN"),
            path: module.path.clone().field("url"),
        })
    };
    scope.filters().flat_map(move |(manifest, _)| {
        let wasm = manifest.view::<EnvoyFilter>().into_iter().flat_map(EnvoyFilter::wasm).filter_map(of_envoy_filter);
        let pulled = wasm.chain(module(manifest).and_then(of_plugin)).filter(|one| !one.url.starts_with("file://"));
        pulled.map(move |one| (manifest, one)).collect::<Vec<_>>()
    })
}

/// Whether Istio takes a URL for that of an image: also one without a scheme.
fn is_image(url: &str) -> bool {
    url.starts_with("oci://") || !url.contains("://")
}

/// The digest in the URL of an image, in hexadecimal.
fn digest(url: &str) -> Option<&str> {
    url.rsplit_once("@sha256:").map(|(_, hex)| hex)
}

/// Whether the host of a URL is a Service.
fn is_in_cluster(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    matches!(host.rsplit('.').collect::<Vec<_>>()[..], ["svc", ..] | ["local", "cluster", ..])
}

fn module(manifest: &Manifest) -> Option<&WasmModule> {
    match manifest.any_view() {
        View::WasmPlugin(plugin) => Some(&plugin.module),
        View::TrafficExtension(extension) => extension.wasm.known(),
        _ => None,
    }
}
