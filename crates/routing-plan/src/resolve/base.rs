//! A user's own `VirtualService` that a service's variants are woven into.

use serde_json::Value;

use super::{Resolver, filter::NOT_GIVEN, service};
use crate::{
    diagnostic::{Diagnostic, Document, Location},
    manifests::Manifest,
    names,
    plan::ServiceSpec,
    views::{VirtualService, reader::WrongType},
};

impl Resolver<'_> {
    /// The `VirtualService` of a service's `base`, if it can be woven into.
    pub(super) fn base(
        &mut self,
        index: usize,
        path: &str,
        written: &ServiceSpec,
        host: &str,
        header: &str,
    ) -> Option<Value> {
        let location = service(index).field("base");
        let value = match self.files.bases.get(path) {
            Some(Ok(value)) => value,
            Some(Err(error)) => return self.unreadable(location, path, &error.0),
            None => return self.unreadable(location, path, NOT_GIVEN),
        };
        let root = Location::root(Document::Base(index));
        if value["kind"] != "VirtualService" {
            let message = format!("expected a VirtualService, found the kind {}", value["kind"]);
            self.report(Diagnostic::new(root.field("kind"), message));
            return None;
        }
        let Some(manifest) = Manifest::new(value.clone(), root.clone()) else {
            self.report(Diagnostic::new(root.field("metadata"), "missing field `metadata.name`"));
            return None;
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
            return None;
        };
        let is_own = |name: &str| names::same_host(name, &written.namespace, host);
        let spec = root.field("spec");
        if !base.hosts.items().iter().any(|name| is_own(name)) {
            let message = format!("`hosts` does not contain the service's host `{host}`");
            let diagnostic = Diagnostic::new(spec.clone().field("hosts"), message);
            self.report(diagnostic.with_related(location, "the service"));
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
        (self.diagnostics.len() == before).then(|| value.clone())
    }
}
