//! A user's own `VirtualService` that a service's variants are woven into.

use serde_json::Value;

use super::{ResolvedBase, Resolver, filter::NOT_GIVEN, service};
use crate::{
    diagnostic::{Diagnostic, Document, Location},
    manifests::Manifest,
    names,
    plan::{BaseRef, ServiceSpec},
    resources::{MANAGED_BY, MANAGED_BY_LABEL},
    views::{VirtualService, reader::WrongType},
};

impl<'p> Resolver<'p> {
    /// The `VirtualService` of a service's `base` or `baseRef`, if it has one that can be woven into.
    pub(super) fn base(
        &mut self,
        index: usize,
        written: &ServiceSpec,
        host: &str,
        header: &str,
    ) -> Option<ResolvedBase> {
        match (&written.base, &written.base_ref) {
            (None, None) => None,
            (Some(path), None) => {
                let value = self.base_file(index, path)?;
                self.is_weavable(index, written, value, host, header).then(|| ResolvedBase::File(value.clone()))
            }
            (None, Some(base_ref)) => {
                let value = self.live_base(index, base_ref, written)?;
                let in_force = is_in_force(value, &written.namespace);
                self.is_weavable(index, written, value, host, header)
                    .then(|| ResolvedBase::Live { value: value.clone(), in_force })
            }
            (Some(_), Some(_)) => {
                let location = service(index).field("baseRef");
                self.report(Diagnostic::new(location, "expected only one of `base` and `baseRef`, found both"));
                None
            }
        }
    }

    fn base_file(&mut self, index: usize, path: &str) -> Option<&'p Value> {
        let location = service(index).field("base");
        match self.files.bases.get(path) {
            Some(Ok(value)) => Some(value),
            Some(Err(error)) => self.unreadable(location, path, &error.0),
            None => self.unreadable(location, path, NOT_GIVEN),
        }
    }

    fn live_base(&mut self, index: usize, base_ref: &BaseRef, written: &ServiceSpec) -> Option<&'p Value> {
        let location = service(index).field("baseRef");
        let BaseRef { name } = base_ref;
        if !self.check(location.clone().field("name"), name, names::host) {
            return None;
        }
        let Some(objects) = &self.files.base_refs else {
            let message = "`baseRef` names an object of a cluster, and here are only files";
            let help = "it is for the controller; without it, give a file with the VirtualService as `base`";
            self.report(Diagnostic::new(location, message).with_help(help));
            return None;
        };
        let namespace = &written.namespace;
        let Some(value) = objects.get(&(namespace.clone(), name.clone())) else {
            let message = format!("the namespace `{namespace}` has no VirtualService `{name}`");
            let diagnostic = Diagnostic::new(location.field("name"), message);
            self.report(diagnostic.with_help("apply it, or remove `baseRef`"));
            return None;
        };
        if value["metadata"]["labels"][MANAGED_BY_LABEL] == MANAGED_BY {
            let message = format!("expected your own VirtualService, found `{name}`, which is generated from a plan");
            self.report(Diagnostic::new(location.field("name"), message));
            return None;
        }
        Some(value)
    }

    /// Checks that a service's variants can be woven into a `VirtualService`.
    fn is_weavable(&mut self, index: usize, written: &ServiceSpec, value: &Value, host: &str, header: &str) -> bool {
        let root = Location::root(Document::Base(index));
        if value["kind"] != "VirtualService" {
            let message = format!("expected a VirtualService, found the kind {}", value["kind"]);
            self.report(Diagnostic::new(root.field("kind"), message));
            return false;
        }
        let Some(manifest) = Manifest::new(value.clone(), root.clone()) else {
            self.report(Diagnostic::new(root.field("metadata"), "missing field `metadata.name`"));
            return false;
        };
        let before = self.diagnostics.len();
        for WrongType { path, expected, found } in manifest.wrong_types() {
            let message = format!("expected {expected}, found {found}");
            self.report(Diagnostic::new(manifest.location(path), message));
        }
        if !value["metadata"]["namespace"].is_null() && manifest.namespace != written.namespace {
            let message =
                format!("expected the service's namespace `{}`, found `{}`", written.namespace, manifest.namespace);
            self.report(Diagnostic::new(root.clone().field("metadata").field("namespace"), message));
        }
        let Some(base) = manifest.view::<VirtualService>() else {
            let message = format!("expected a VirtualService of `networking.istio.io`, found {}", value["apiVersion"]);
            self.report(Diagnostic::new(root.field("apiVersion"), message));
            return false;
        };
        let is_own = |name: &str| names::same_host(name, &written.namespace, host);
        let spec = root.field("spec");
        if !base.hosts.items().iter().any(|name| is_own(name)) {
            let message = format!("`hosts` does not contain the service's host `{host}`");
            let diagnostic = Diagnostic::new(spec.clone().field("hosts"), message);
            self.report(diagnostic.with_related(service(index).field("name"), "the service"));
        }
        for condition in base.http.items().iter().flat_map(|route| route.matches.items()) {
            if condition.headers.known().is_some_and(|headers| headers.contains_key(header)) {
                let path = condition.written.path.clone().field("headers").field(header.to_owned());
                let diagnostic =
                    Diagnostic::new(manifest.location(&path), format!("`{header}` is the header of the variants"));
                self.report(diagnostic.with_help("remove this match: the plan's variants add such routes"));
            }
        }
        let destinations = base.http.items().iter().flat_map(|route| route.route.items());
        let mut hosts = destinations.filter_map(|to| to.destination.known()?.host.text());
        if !hosts.any(is_own) {
            let message = format!("expected an http route to `{host}` to weave the variants into, found none");
            self.report(Diagnostic::new(spec.field("http"), message));
        }
        self.diagnostics.len() == before
    }
}

/// Whether proxies follow a `VirtualService` of a namespace: it is exported to all or to its own. No `exportTo` is all, unless
/// the mesh's configuration says something else.
fn is_in_force(value: &Value, namespace: &str) -> bool {
    let export_to = value["spec"]["exportTo"].as_array().map_or(&[][..], |list| list);
    export_to.is_empty() || export_to.iter().any(|to| *to == "*" || *to == "." || *to == namespace)
}
