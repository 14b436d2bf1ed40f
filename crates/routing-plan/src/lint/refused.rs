//! Routes that the API server refuses, by the rules of the resource's schema, or Istio's admission webhook.

use super::{Findings, Scope};
use crate::views::{
    CORE, GATEWAY_API, HttpRoute, VirtualService,
    http_route::{NamedMatch, ParentRef, PathMatch, RuleMatch},
    reader::Field,
    virtual_service::WeightedDestination,
};

pub(super) fn refused_route(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<VirtualService>() {
        for route in view.http.items() {
            if let destinations @ [_, _, ..] = route.route.items()
                && destinations.iter().all(has_no_weight)
            {
                let path = route.written.path.clone().field("route");
                findings.add(manifest, &path, "several destinations, and the sum of their weights is 0");
            }
        }
    }
    for (manifest, view) in scope.all::<HttpRoute>() {
        for (parent, others) in before_each(view.parent_refs.items()) {
            if others.iter().any(|other| are_the_same(other, parent)) {
                let message = "the same parent as one before it: expected a `sectionName` of its own in each";
                findings.add(manifest, &parent.written.path, message);
            }
        }
        for rule in view.rules.items() {
            for backend in rule.backend_refs.items() {
                let is_service = is_or_absent(&backend.group, CORE) && is_or_absent(&backend.kind, "Service");
                if is_service && backend.port.is_absent() {
                    findings.add(manifest, &backend.path, "a Service without `port`");
                }
            }
            for condition in rule.matches.items() {
                let path = condition.path.known().filter(|_| !view.is_grpc);
                if let Some((path, why)) = path.and_then(|path| Some((path, refused_path(path)?))) {
                    findings.add(manifest, &path.written.path, why);
                }
                if let Some(why) = refused_method(condition) {
                    findings.add(manifest, &condition.written.path.clone().field("method"), why);
                }
                for named in [&condition.headers, &condition.query_params] {
                    for (one, others) in before_each(named.items()) {
                        if others.iter().any(|other| have_the_same_name(other, one)) {
                            let name = one.name.text().unwrap_or_default();
                            findings.add(manifest, &one.written.path, format!("a second condition on `{name}`"));
                        }
                    }
                }
            }
        }
    }
}

/// Each item with those before it.
fn before_each<T>(items: &[T]) -> impl Iterator<Item = (&T, &[T])> {
    items.iter().enumerate().map(|(index, item)| (item, items.get(..index).unwrap_or_default()))
}

fn has_no_weight(destination: &WeightedDestination) -> bool {
    matches!(destination.weight, Field::Absent | Field::Known(0))
}

/// By the rule "sectionName must be unique" of the schema.
fn are_the_same(one: &ParentRef, other: &ParentRef) -> bool {
    let key = |parent: &ParentRef| {
        let text = |field: &Field<String>, default: &str| field.text().unwrap_or(default).to_owned();
        let kind = [text(&parent.group, GATEWAY_API), text(&parent.kind, "Gateway")];
        (kind, text(&parent.namespace, ""), text(&parent.name, ""))
    };
    let section = |parent: &ParentRef| parent.section_name.text().unwrap_or_default().to_owned();
    key(one) == key(other) && (section(one) == section(other) || section(one).is_empty() || section(other).is_empty())
}

fn have_the_same_name(one: &NamedMatch, other: &NamedMatch) -> bool {
    one.name.text().is_some() && one.name.text() == other.name.text()
}

fn is_or_absent(field: &Field<String>, value: &str) -> bool {
    field.is_absent() || field.is(value)
}

fn refused_path(path: &PathMatch) -> Option<String> {
    if !is_or_absent(&path.kind, "PathPrefix") && !path.kind.is("Exact") {
        return None;
    }
    let value = path.value.text()?;
    if !value.starts_with('/') {
        return Some(format!("the path `{value}` does not start with `/`"));
    }
    let part = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|part| value.contains(part));
    let part = part.or_else(|| ["/..", "/."].into_iter().find(|end| value.ends_with(end)))?;
    Some(format!("a path of the type `Exact` or `PathPrefix` with `{part}`"))
}

fn refused_method(condition: &RuleMatch) -> Option<String> {
    let method = condition.method.text().filter(|method| !METHODS.contains(method))?;
    Some(format!("expected one of {}, found `{method}`", METHODS.join(", ")))
}

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
