//! A user's own `VirtualService` that a service's variants are woven into.

use serde_json::Value;

use super::{Resolver, filter::NOT_GIVEN, service};
use crate::{
    diagnostic::{Diagnostic, Document, Location},
    names,
    plan::ServiceSpec,
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
        let root = || Location::root(Document::Base(index));
        if value["kind"] != "VirtualService" {
            let message = format!("expected a VirtualService, found the kind {}", value["kind"]);
            self.report(Diagnostic::new(root().field("kind"), message));
            return None;
        }
        let before = self.diagnostics.len();
        if !value["metadata"]["name"].is_string() {
            self.report(Diagnostic::new(root().field("metadata"), "missing field `metadata.name`"));
        }
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or(&written.namespace);
        if namespace != written.namespace {
            let message = format!("expected the service's namespace `{}`, found `{namespace}`", written.namespace);
            self.report(Diagnostic::new(root().field("metadata").field("namespace"), message));
        }
        let own = |name: &Value| name.as_str().is_some_and(|name| names::same_host(name, namespace, host));
        if !items(&value["spec"]["hosts"]).any(own) {
            let message = format!("`hosts` does not contain the service's host `{host}`");
            let diagnostic = Diagnostic::new(root().field("spec").field("hosts"), message);
            self.report(diagnostic.with_related(location, "the service"));
        }
        self.base_routes(&root, &value["spec"]["http"], header);
        let goes_here = |route: &Value| items(&route["route"]).any(|to| own(&to["destination"]["host"]));
        if value["spec"]["http"].is_array() && !items(&value["spec"]["http"]).any(goes_here) {
            let message = format!("no http route goes to `{host}`, so the variants have no place");
            self.report(Diagnostic::new(root().field("spec").field("http"), message));
        }
        (self.diagnostics.len() == before).then(|| value.clone())
    }

    fn base_routes(&mut self, root: &dyn Fn() -> Location, http: &Value, header: &str) {
        if !http.is_array() {
            let diagnostic = Diagnostic::new(root().field("spec"), "missing field `http`");
            self.report(diagnostic.with_help("give at least one http route to the service"));
        }
        for (index, route) in items(http).enumerate() {
            let at = || root().field("spec").field("http").index(index);
            if !route.is_object() {
                self.report(Diagnostic::new(at(), "expected a mapping"));
            }
            for (item, condition) in items(&route["match"]).enumerate() {
                if condition["headers"].get(header).is_some() {
                    let location = at().field("match").index(item).field("headers").field(header.to_owned());
                    let diagnostic = Diagnostic::new(location, format!("`{header}` is the header of the variants"));
                    self.report(diagnostic.with_help("remove this match: the plan's variants add such routes"));
                }
            }
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
