//! The routes of a `VirtualService` with those of its delegates in their places.
//! (`mergeVirtualServices` and `MergeHTTPRoutes` in Istio's `virtualservice_controller.go` and `virtualservice.go`.)

use std::{collections::BTreeMap, rc::Rc};

use super::{MeshFacts, matching::Doubt};
use crate::{
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    views::{
        StringMatch, VirtualService,
        reader::{Field, UnusableField},
        virtual_service::{DelegateRef, IstioRoute, RouteMatch},
    },
};

/// A route, and the resource that it is from.
pub(super) struct Merged<'m> {
    pub(super) manifest: &'m Manifest,
    /// Its number in that resource, from 0.
    pub(super) index: usize,
    /// The route; a doubt, if it depends on a delegate of which something is not known.
    pub(super) route: Result<Rc<IstioRoute>, (&'m IstioRoute, Doubt)>,
}

/// The routes in order.
pub(super) fn expand<'m>(
    manifests: &'m [Manifest],
    manifest: &'m Manifest,
    routes: &'m [IstioRoute],
    mesh: &MeshFacts,
) -> Vec<Merged<'m>> {
    let mut expanded = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        match route.delegate.optional() {
            Ok(None) => expanded.push(Merged { manifest, index, route: Ok(Rc::new(route.clone())) }),
            Ok(Some(delegate)) => match merge(manifests, manifest, route, delegate, mesh) {
                Ok(merged) => expanded.extend(merged),
                Err(doubt) => expanded.push(Merged { manifest, index, route: Err((route, doubt)) }),
            },
            Err(field) => expanded.push(Merged { manifest, index, route: Err((route, field.into())) }),
        }
    }
    expanded
}

fn merge<'m>(
    manifests: &'m [Manifest],
    manifest: &'m Manifest,
    root: &'m IstioRoute,
    delegate: &'m DelegateRef,
    mesh: &MeshFacts,
) -> Result<Vec<Merged<'m>>, Doubt> {
    let name = delegate.name.required(&delegate.path, "name").map_err(Doubt::from)?;
    let namespace = delegate.namespace.optional()?.unwrap_or(&manifest.namespace);
    let doubt = |why: String| Doubt { why, path: Some(delegate.path.clone()) };
    let found = manifests.iter().find_map(|other| {
        let view = other.view::<VirtualService>()?;
        (other.name == *name && other.namespace == *namespace).then_some((other, view))
    });
    let Some((owner, view)) = found else {
        // No namespace has such a name, also not `.`.
        if mesh.is_complete || names::label(namespace).is_err() {
            return Ok(Vec::new());
        }
        return Err(doubt(format!("no manifest has its delegate, the VirtualService {namespace}/{name} (--complete)")));
    };
    // Istio ignores the route: only a VirtualService without hosts can be a delegate, and it must be visible.
    if !view.is_delegate() || !is_visible(view, &owner.namespace, &manifest.namespace, mesh)? {
        return Ok(Vec::new());
    }
    is_understood(manifest, &root.written.path)?;
    if let Err(doubt) = is_understood(owner, &view.written.path) {
        let why = format!("{} of {}", doubt.why, owner.id());
        return Err(Doubt { why, path: Some(delegate.path.clone()) });
    }
    let routes = view.http.items().iter().enumerate();
    let merged = routes.filter_map(|(index, route)| {
        Some(Merged { manifest: owner, index, route: Ok(Rc::new(merge_route(root, route)?)) })
    });
    Ok(merged.collect())
}

/// Two routes are merged field by field only if every field of them is understood.
fn is_understood(manifest: &Manifest, path: &FieldPath) -> Result<(), Doubt> {
    let under = |field: &&FieldPath| field.segments().starts_with(path.segments());
    let wrong = manifest.wrong_types().iter().map(|wrong| &wrong.path).find(under);
    match wrong.or_else(|| manifest.unknown_under(path).next()) {
        Some(field) => Err(Doubt { why: format!("the field `{field}` is not understood"), path: Some(field.clone()) }),
        None => Ok(()),
    }
}

fn is_visible(delegate: &VirtualService, own: &str, root: &str, mesh: &MeshFacts) -> Result<bool, UnusableField> {
    let namespaces = delegate.export_to.optional()?.filter(|list| !list.is_empty()).unwrap_or(&mesh.default_export_to);
    let is_root = |name: &String| name == "*" || name == root || name == "." && own == root;
    Ok(namespaces.is_empty() || namespaces.iter().any(is_root))
}

/// The delegate's route with what the root's adds to it; none if they contradict each other.
fn merge_route(root: &IstioRoute, delegate: &IstioRoute) -> Option<IstioRoute> {
    let name = match (root.name.text(), delegate.name.text()) {
        (Some(root), Some(delegate)) => Field::Known(format!("{root}-{delegate}")),
        (Some(_), None) => root.name.clone(),
        (None, _) => delegate.name.clone(),
    };
    Some(IstioRoute {
        name,
        matches: merge_matches(root.matches.items(), delegate.matches.items())?,
        direct_response: or(&delegate.direct_response, &root.direct_response),
        fault: or(&delegate.fault, &root.fault),
        ..delegate.clone()
    })
}

fn merge_matches(root: &[RouteMatch], delegate: &[RouteMatch]) -> Option<Field<Vec<RouteMatch>>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(Field::Known(if root.is_empty() { delegate } else { root }.to_vec()));
    }
    let mut merged = Vec::new();
    for leaf in delegate {
        let compatible = root.iter().filter(|root| !contradicts(root, leaf)).map(|root| merge_match(root, leaf));
        let before = merged.len();
        merged.extend(compatible);
        if merged.len() == before {
            return None;
        }
    }
    Some(Field::Known(merged))
}

fn merge_match(root: &RouteMatch, leaf: &RouteMatch) -> RouteMatch {
    RouteMatch {
        authority: or(&leaf.authority, &root.authority),
        gateways: if leaf.gateways.items().is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        headers: both(&root.headers, &leaf.headers),
        ignore_uri_case: leaf.ignore_uri_case.clone(),
        method: or(&leaf.method, &root.method),
        port: or(&leaf.port, &root.port),
        query_params: both(&root.query_params, &leaf.query_params),
        scheme: or(&leaf.scheme, &root.scheme),
        source_labels: both(&root.source_labels, &leaf.source_labels),
        source_namespace: or(&leaf.source_namespace, &root.source_namespace),
        uri: or(&leaf.uri, &root.uri),
        without_headers: both(&root.without_headers, &leaf.without_headers),
        written: leaf.written.clone(),
    }
}

fn or<T: Clone>(one: &Field<T>, other: &Field<T>) -> Field<T> {
    if one.is_absent() { other.clone() } else { one.clone() }
}

fn both<T: Clone>(root: &Field<BTreeMap<String, T>>, leaf: &Field<BTreeMap<String, T>>) -> Field<BTreeMap<String, T>> {
    match (root.known(), leaf.known()) {
        (Some(root), Some(leaf)) => Field::Known(root.clone().into_iter().chain(leaf.clone()).collect()),
        _ => or(leaf, root),
    }
}

/// Whether the delegate's condition is not a part of the root's. (`hasConflict` in Istio's `virtualservice.go`.)
fn contradicts(root: &RouteMatch, leaf: &RouteMatch) -> bool {
    let texts = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let labels = |one: &RouteMatch| one.source_labels.known().cloned().unwrap_or_default();
    let (root_labels, port) = (labels(root), |one: &RouteMatch| one.port.known().copied().filter(|port| *port > 0));
    let namespace = root.source_namespace.text().filter(|namespace| !namespace.is_empty());
    let (root_gateways, leaf_gateways) = (root.gateways.items(), leaf.gateways.items());
    texts.iter().any(|(root, leaf)| text_contradicts(root.known(), leaf.known()))
        || maps.iter().any(|(root, leaf)| map_contradicts(root, leaf))
        || (root.ignore_uri_case == Field::Known(true)) != (leaf.ignore_uri_case == Field::Known(true))
        || matches!((port(root), port(leaf)), (Some(root), Some(leaf)) if root != leaf)
        || namespace.is_some_and(|namespace| !leaf.source_namespace.is(namespace))
        || labels(leaf).iter().any(|(key, value)| root_labels.get(key).is_some_and(|other| other != value))
        || (!root_gateways.is_empty()
            && (leaf_gateways.len() > root_gateways.len()
                || leaf_gateways.iter().any(|name| !root_gateways.contains(name))))
}

type Conditions = Field<BTreeMap<String, Field<StringMatch>>>;

fn map_contradicts(root: &Conditions, leaf: &Conditions) -> bool {
    leaf.known().into_iter().flatten().any(|(name, leaf)| {
        let root = root.known().and_then(|root| root.get(name)).and_then(Field::known);
        text_contradicts(root, leaf.known())
    })
}

/// Istio compares the texts, not what they mean. (`stringMatchConflict`.)
fn text_contradicts(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    match (root, leaf) {
        (StringMatch::Exact(root), StringMatch::Exact(leaf)) if !root.is_empty() => leaf != root,
        (StringMatch::Prefix(root), StringMatch::Prefix(leaf) | StringMatch::Exact(leaf))
            if !root.is_empty() && !leaf.is_empty() =>
        {
            !leaf.starts_with(root.as_str())
        }
        _ => true,
    }
}
