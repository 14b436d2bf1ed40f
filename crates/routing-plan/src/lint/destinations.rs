//! What routes go to.

use std::collections::BTreeSet;

use super::{Findings, Scope};
use crate::{
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    views::{DestinationRule, HttpRoute, ServiceEntry, View, VirtualService},
};

pub(super) fn missing_service(scope: &Scope<'_>, findings: &mut Findings) {
    let is_service = |manifest: &&Manifest| matches!(manifest.any_view(), View::Service(_));
    let services = scope.manifests.iter().filter(is_service);
    // As long as no manifest has a Service, none is worth a word.
    if services.clone().all(Manifest::is_generated) {
        return;
    }
    let entries = scope.all::<ServiceEntry>().flat_map(|(_, entry)| entry.hosts.items()).cloned();
    let hosts: BTreeSet<String> =
        services.map(|service| names::full_host(&service.name, &service.namespace)).chain(entries).collect();
    let namespaces: BTreeSet<&str> = scope.manifests.iter().map(|manifest| &*manifest.namespace).collect();
    for RoutedHost { manifest, path, route, host } in destinations(scope) {
        if hosts.contains(&host) {
            continue;
        }
        if names::kubernetes_service(&host).is_some() {
            findings.add(manifest, &path, format!("{route} goes to `{host}`, which no manifest has"));
        } else if let Some((_, namespace)) = host.split_once('.')
            && namespaces.contains(namespace)
        {
            let message = format!(
                "{route} goes to `{host}`, which Istio takes for a whole host: write `{host}.svc.cluster.local`"
            );
            findings.add(manifest, &path, message);
        }
    }
}

pub(super) fn subset_missing(scope: &Scope<'_>, findings: &mut Findings) {
    let mut subsets: BTreeSet<(String, &str)> = BTreeSet::new();
    // As long as no manifest has a DestinationRule of a host, none of its subsets is worth a word.
    let mut hosts: BTreeSet<String> = BTreeSet::new();
    for (manifest, rule) in scope.all::<DestinationRule>() {
        let host = names::full_host(rule.host.text().unwrap_or_default(), &manifest.namespace);
        let names = rule.subsets.items().iter().filter_map(|subset| subset.name.text());
        subsets.extend(names.map(|name| (host.clone(), name)));
        hosts.insert(host);
    }
    for (manifest, view) in scope.all::<VirtualService>() {
        for (index, route) in view.http.items().iter().enumerate() {
            for to in route.route.items().iter().filter_map(|to| to.destination.known()) {
                let (Some(host), Some(subset)) = (to.host.text(), to.subset.text()) else { continue };
                let host = names::full_host(host, &manifest.namespace);
                if hosts.contains(&host) && !subsets.contains(&(host.clone(), subset)) {
                    let message = format!("{} goes to the subset `{subset}` of `{host}`", route.title(index));
                    findings.add(manifest, &to.path.clone().field("subset"), message);
                }
            }
        }
    }
}

pub(super) fn cross_namespace_backend(scope: &Scope<'_>, findings: &mut Findings) {
    let grants = scope.manifests.iter().filter(|manifest| matches!(manifest.any_view(), View::ReferenceGrant));
    let grants: BTreeSet<&str> = grants.map(|grant| &*grant.namespace).collect();
    let at_gateways = scope.all::<HttpRoute>().filter(|(manifest, view)| view.has_gateway(&manifest.namespace));
    for (manifest, view) in at_gateways {
        for (index, rule) in view.rules.items().iter().enumerate() {
            for backend in rule.backend_refs.items() {
                let foreign = backend.namespace.text().filter(|namespace| *namespace != manifest.namespace);
                if let Some(namespace) = foreign.filter(|namespace| !grants.contains(namespace)) {
                    let message =
                        format!("rule {} of {} goes to the namespace `{namespace}`", index + 1, manifest.id());
                    findings.add(manifest, &backend.path, message);
                }
            }
        }
    }
}

/// A destination of a route.
struct RoutedHost<'s> {
    manifest: &'s Manifest,
    path: FieldPath,
    /// The route, as messages name it.
    route: String,
    host: String,
}

fn destinations<'s>(scope: &Scope<'s>) -> Vec<RoutedHost<'s>> {
    let mut found = Vec::new();
    for (manifest, view) in scope.all::<VirtualService>() {
        for (index, route) in view.http.items().iter().enumerate() {
            let to = route.route.items().iter().filter_map(|to| to.destination.known());
            found.extend(to.filter_map(|to| {
                let host = names::full_host(to.host.text()?, &manifest.namespace);
                Some(RoutedHost { manifest, path: to.path.clone().field("host"), route: route.title(index), host })
            }));
        }
    }
    for (manifest, view) in scope.all::<HttpRoute>() {
        for (index, rule) in view.rules.items().iter().enumerate() {
            found.extend(rule.backend_refs.items().iter().filter_map(|backend| {
                let (route, host) = (format!("rule {}", index + 1), backend.host(&manifest.namespace)?);
                Some(RoutedHost { manifest, path: backend.path.clone(), route, host })
            }));
        }
    }
    found
}
