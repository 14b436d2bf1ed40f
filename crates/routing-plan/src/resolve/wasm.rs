//! The WebAssembly module: where the proxy gets it, and what the proxy does when it traps.

use std::sync::Arc;

use super::{
    FilterCarrier, FilterEngine, ModuleSource, RemoteModule, Resolver, WasmEngine,
    filter::{NOT_GIVEN, filter},
    raise_version,
};
use crate::{
    diagnostic::{Diagnostic, Location},
    istio::{Capability, IstioVersion},
    names,
    plan::{FailStrategy, FilterResource, WasmSpec},
};

impl Resolver<'_> {
    pub(super) fn wasm(&mut self, spec: &WasmSpec, istio: IstioVersion) -> Option<FilterCarrier> {
        let fail_strategy = self.fail_strategy(spec, istio);
        let module = self.module_source(spec)?;
        match (self.plan.spec.filter.resource, module) {
            (FilterResource::EnvoyFilter, module) => {
                Some(FilterCarrier::EnvoyFilter(FilterEngine::Wasm(WasmEngine { module, fail_strategy })))
            }
            (FilterResource::WasmPlugin, ModuleSource::Remote(module)) => {
                Some(FilterCarrier::WasmPlugin(WasmEngine { module, fail_strategy }))
            }
            (FilterResource::TrafficExtension, ModuleSource::Remote(module)) => {
                Some(FilterCarrier::TrafficExtension(FilterEngine::Wasm(WasmEngine { module, fail_strategy })))
            }
            (resource, ModuleSource::Inline(_)) => {
                let message = format!("a {resource:?} can't carry the module itself");
                let diagnostic = Diagnostic::new(wasm("inline"), message);
                self.report(diagnostic.with_help("give an `image`, or use `resource: EnvoyFilter`"));
                None
            }
        }
    }

    fn module_source(&mut self, spec: &WasmSpec) -> Option<ModuleSource> {
        self.fields_of_another_source(spec);
        match (&spec.image, &spec.url, &spec.inline) {
            (Some(image), None, None) => self.image(image, spec).map(ModuleSource::Remote),
            (None, Some(url), None) => self.url(url, spec.sha256.as_deref()).map(ModuleSource::Remote),
            (None, None, Some(path)) => self.inline(path),
            (None, None, None) => {
                self.report(Diagnostic::new(location(), "expected `image`, `url` or `inline`, found none of them"));
                None
            }
            _ => {
                let message = "expected only one of `image`, `url` and `inline`, found more";
                self.report(Diagnostic::new(location(), message));
                None
            }
        }
    }

    /// Reports fields that say something about a source which the module does not have.
    fn fields_of_another_source(&mut self, spec: &WasmSpec) {
        if spec.url.is_none() && spec.sha256.is_some() {
            let diagnostic = Diagnostic::new(wasm("sha256"), "expected `sha256` beside a `url`, found no `url`");
            self.report(diagnostic.with_help(if spec.image.is_some() {
                "give the `digest` of the image's manifest, which `crane digest IMAGE` prints, not the checksum of the file"
            } else {
                "remove it"
            }));
        }
        if spec.image.is_none() {
            let fields = [
                ("digest", spec.digest.is_some()),
                ("pullSecret", spec.pull_secret.is_some()),
                ("pullPolicy", spec.pull_policy.is_some()),
            ];
            for (field, _) in fields.into_iter().filter(|(_, given)| *given) {
                let message = format!("expected `{field}` beside an `image`, found no `image`");
                self.report(Diagnostic::new(wasm(field), message).with_help("remove it, or give an `image`"));
            }
        }
    }

    /// An image in a registry. Its digest becomes part of the URL, where nothing takes it for the checksum of a file. Istio
    /// ignores a tag before a digest (read: `NewDigest` in `pkg/name` of go-containerregistry); it is for people.
    fn image(&mut self, image: &str, spec: &WasmSpec) -> Option<RemoteModule> {
        let digest = spec.digest.as_deref().map(|digest| self.digest(digest));
        self.pull(spec);
        if let Some(reference) = image.strip_prefix("oci://") {
            let diagnostic = Diagnostic::new(wasm("image"), format!("expected `registry/name:tag`, found `{image}`"));
            self.report(diagnostic.with_help(format!("remove `oci://`: write `{reference}`")));
            return None;
        }
        if let Some((name, digest)) = image.split_once('@') {
            let message = format!("expected `registry/name:tag`, found a digest too: `{image}`");
            let help = format!("give `image: {name}` and `digest: {digest}`");
            self.report(Diagnostic::new(wasm("image"), message).with_help(help));
            return None;
        }
        let (registry, path) = image.split_once('/').unwrap_or(("", image));
        if !registry.contains(['.', ':']) && registry != "localhost" {
            let diagnostic = Diagnostic::new(wasm("image"), format!("expected a registry in `{image}`, found none"));
            self.report(diagnostic.with_help(format!("write `docker.io/{image}` if it is on Docker Hub")));
            return None;
        }
        let (name, tag) = path.split_once(':').map_or((path, None), |(name, tag)| (name, Some(tag)));
        self.check(wasm("image"), name, names::repository);
        match (tag, &digest) {
            (Some(tag), _) => _ = self.check(wasm("image"), tag, names::tag),
            (None, Some(_)) => {}
            (None, None) => {
                let diagnostic = Diagnostic::new(wasm("image"), format!("expected a tag in `{image}`, or a `digest`"));
                self.report(diagnostic.with_help("give the `digest`: Istio would pull the tag `latest`"));
            }
        }
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        Some(RemoteModule {
            url: format!("oci://{image}{digest}"),
            sha256: None,
            pull_secret: spec.pull_secret.clone(),
            pull_policy: spec.pull_policy,
        })
    }

    fn digest(&mut self, digest: &str) -> String {
        let hex = digest.strip_prefix("sha256:").filter(|hex| is_sha256(hex));
        if hex.is_none() {
            let message = format!("expected `sha256:` and 64 hex digits, found `{digest}`");
            self.report(Diagnostic::new(wasm("digest"), message));
        }
        digest.to_lowercase()
    }

    fn pull(&mut self, spec: &WasmSpec) {
        if let Some(secret) = &spec.pull_secret {
            self.check(wasm("pullSecret"), secret, names::host);
        }
        let fields = [("pullSecret", spec.pull_secret.is_some()), ("pullPolicy", spec.pull_policy.is_some())];
        for (field, _) in fields.into_iter().filter(|(_, given)| *given) {
            // Read: `referencedSecrets` in `pilot/pkg/xds/ecds.go` of Istio.
            if self.plan.spec.filter.resource == FilterResource::EnvoyFilter {
                let diagnostic = Diagnostic::new(wasm(field), format!("an EnvoyFilter can't carry `{field}`"));
                self.report(diagnostic.with_help("use `resource: TrafficExtension` or `resource: WasmPlugin`"));
            }
        }
        // Read: `getEntry` in `pkg/wasm/cache.go` of Istio.
        if spec.pull_policy.is_some() && spec.digest.is_some() {
            let message = "`pullPolicy` has no effect with `digest`, which always names the same image";
            self.report(Diagnostic::new(wasm("pullPolicy"), message).with_help("remove it"));
        }
    }

    fn url(&mut self, url: &str, sha256: Option<&str>) -> Option<RemoteModule> {
        if let Some(image) = url.strip_prefix("oci://") {
            let name = image.split('@').next().unwrap_or_default();
            let message = format!("expected a URL of `https://`, `http://` or `file://`, found `{url}`");
            let help = format!(
                "give `image: {name}` and `digest: sha256:…`, the digest of the image's manifest (`crane digest {name}`)"
            );
            self.report(Diagnostic::new(wasm("url"), message).with_help(help));
            return None;
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("http" | "https" | "file")) {
            let message = format!("expected a URL of `https://`, `http://` or `file://`, found `{url}`");
            self.report(Diagnostic::new(wasm("url"), message));
        }
        let sha256 = sha256.map(|hex| self.sha256(hex, wasm("sha256")));
        Some(RemoteModule { url: url.to_owned(), sha256, pull_secret: None, pull_policy: None })
    }

    /// The SHA-256 of a file.
    pub(super) fn sha256(&mut self, hex: &str, location: Location) -> String {
        if !is_sha256(hex) {
            self.report(Diagnostic::new(location, format!("expected 64 hex digits, found `{hex}`")));
        }
        hex.to_lowercase()
    }

    fn inline(&mut self, path: &str) -> Option<ModuleSource> {
        let location = wasm("inline");
        if self.plan.spec.filter.resource != FilterResource::EnvoyFilter {
            // The file is not needed to say that it can't be carried.
            return Some(ModuleSource::Inline(Arc::default()));
        }
        let bytes = match self.files.modules.get(path) {
            Some(Ok(bytes)) => Arc::clone(bytes),
            Some(Err(error)) => return self.unreadable(location, path, &error.0),
            None => return self.unreadable(location, path, NOT_GIVEN),
        };
        if !bytes.starts_with(b"\0asm") {
            let message = format!("expected a WebAssembly module, found something else in {path}");
            self.report(Diagnostic::new(location, message));
            return None;
        }
        Some(ModuleSource::Inline(bytes))
    }

    fn fail_strategy(&mut self, spec: &WasmSpec, istio: IstioVersion) -> FailStrategy {
        let resource = self.plan.spec.filter.resource;
        let reload = match resource {
            FilterResource::EnvoyFilter => Capability::EnvoyFailurePolicy,
            FilterResource::WasmPlugin | FilterResource::TrafficExtension => Capability::PluginFailReload,
        };
        if spec.fail_strategy == Some(FailStrategy::FailReload) && !istio.has(reload) {
            let message = format!(
                "with `resource: {resource:?}` FAIL_RELOAD exists since Istio {}, and `istioVersion` is {istio}",
                reload.since()
            );
            let diagnostic = Diagnostic::new(wasm("failStrategy"), message);
            self.report(diagnostic.with_help(raise_version("FAIL_CLOSE")));
        }
        let default = if istio.has(reload) { FailStrategy::FailReload } else { FailStrategy::FailClose };
        spec.fail_strategy.unwrap_or(default)
    }
}

fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn location() -> Location {
    filter().field("wasm")
}

/// A field of `wasm`.
fn wasm(field: &'static str) -> Location {
    location().field(field)
}
