//! Findings in `VirtualService`s and `HTTPRoute`s.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    CROSS_NAMESPACE_BACKEND, DEFAULT_MISSING, DEFAULT_NOT_LAST, DUPLICATE_HOST, HEADER_KEY_CASE, HTTP_ROUTE_LIMITS,
    MISSING_SERVICE, OBJECT_SIZE, Report, SUBSET_MISSING, VALUE_NEVER_MATCHES, VARIANT_IS_DEFAULT, World,
};
use crate::{
    manifests::{Manifest, items},
    names,
    resources::ROUTE_PREFIX,
};

pub(super) fn check(world: &World<'_>, report: &mut Report) {
    let destinations = Destinations::of(world);
    duplicate_hosts(world, report);
    for manifest in world.of_kind("VirtualService") {
        virtual_service(world, &destinations, manifest, report);
    }
    let mut parents: BTreeMap<String, Vec<&Manifest>> = BTreeMap::new();
    for manifest in world.of_kind("HTTPRoute") {
        http_route(world, &destinations, manifest, report);
        if let Some(parent) = service_parent(manifest) {
            parents.entry(parent).or_default().push(manifest);
        }
    }
    for routes in parents.values() {
        http_routes_of_parent(world, routes, report);
    }
    for manifest in world.manifests {
        let bytes = manifest.value.to_string().len();
        if bytes > 1 << 20 {
            report.add(&OBJECT_SIZE, manifest, "kind", format!("{} has {bytes} bytes", manifest.id()));
        }
    }
}

/// Whether a rule of the resource looks at a header that tokens decide.
pub(super) fn routes_by_version(world: &World<'_>, manifest: &Manifest) -> bool {
    manifest.list("/spec/http").chain(manifest.list("/spec/rules")).any(|route| by_version(world, route))
}

/// Host of the Service that an `HTTPRoute` is for.
pub(crate) fn service_parent(manifest: &Manifest) -> Option<String> {
    let parent = manifest.list("/spec/parentRefs").find(|parent| parent["kind"] == "Service")?;
    let namespace = parent["namespace"].as_str().unwrap_or(&manifest.namespace);
    Some(names::full_host(parent["name"].as_str()?, namespace))
}

fn by_version(world: &World<'_>, route: &Value) -> bool {
    route["name"].as_str().is_some_and(|name| name.starts_with(ROUTE_PREFIX))
        || items(&route["match"])
            .filter_map(|condition| condition["headers"].as_object())
            .any(|headers| headers.keys().any(|header| world.is_managed(header)))
        || items(&route["matches"])
            .flat_map(|condition| items(&condition["headers"]))
            .filter_map(|header| header["name"].as_str())
            .any(|header| world.is_managed(header))
}

fn duplicate_hosts(world: &World<'_>, report: &mut Report) {
    let mut hosts: BTreeMap<String, (&Manifest, usize)> = BTreeMap::new();
    for manifest in world.of_kind("VirtualService") {
        let gateways = &manifest.spec()["gateways"];
        if gateways.is_array() && !items(gateways).any(|gateway| gateway == "mesh") {
            continue;
        }
        for (index, host) in manifest.list("/spec/hosts").enumerate() {
            let host = names::full_host(host.as_str().unwrap_or_default(), &manifest.namespace);
            let Some((first, first_index)) = hosts.get(&host) else {
                hosts.insert(host, (manifest, index));
                continue;
            };
            if first.id() == manifest.id() {
                continue;
            }
            let message = format!("{} and {} are both for `{host}`", first.id(), manifest.id());
            let here = (manifest, &*format!("spec/hosts/{index}"));
            report.add_pair(&DUPLICATE_HOST, here, (first, &format!("spec/hosts/{first_index}")), message);
        }
    }
}

fn virtual_service(world: &World<'_>, destinations: &Destinations, manifest: &Manifest, report: &mut Report) {
    let routes: Vec<_> = manifest.list("/spec/http").collect();
    for (index, route) in routes.iter().enumerate() {
        let path = format!("spec/http/{index}");
        if takes_all(route) && index + 1 < routes.len() {
            let message = format!("the routes after {} are never reached", named(route, index));
            report.add(&DEFAULT_NOT_LAST, manifest, &path, message);
        }
        for (item, condition) in items(&route["match"]).enumerate() {
            headers(world, manifest, &format!("{path}/match/{item}"), condition, report);
        }
        for (item, to) in items(&route["route"]).enumerate() {
            let to = &to["destination"];
            let place = format!("{path}/route/{item}/destination");
            let host = names::full_host(to["host"].as_str().unwrap_or_default(), &manifest.namespace);
            destinations.check(manifest, &format!("{place}/host"), &host, &named(route, index), report);
            if let Some(subset) = to["subset"].as_str()
                && destinations.others
                && !destinations.subsets.contains(&(host.clone(), subset.to_owned()))
            {
                let message = format!("{} goes to the subset `{subset}` of `{host}`", named(route, index));
                report.add(&SUBSET_MISSING, manifest, &format!("{place}/subset"), message);
            }
        }
    }
    if !routes_by_version(world, manifest) {
        return;
    }
    match routes.iter().find(|route| takes_all(route)) {
        None => report.add(&DEFAULT_MISSING, manifest, "spec/http", format!("{} has no default route", manifest.id())),
        Some(default) => {
            for (index, route) in routes.iter().enumerate().filter(|(_, route)| by_version(world, route)) {
                if default["route"][0]["destination"] == route["route"][0]["destination"]
                    && default["route"][0].is_object()
                {
                    let message = format!("{} goes where the default goes", named(route, index));
                    report.add(&VARIANT_IS_DEFAULT, manifest, &format!("spec/http/{index}/route"), message);
                }
            }
        }
    }
}

fn headers(world: &World<'_>, manifest: &Manifest, path: &str, condition: &Value, report: &mut Report) {
    for field in ["headers", "withoutHeaders"] {
        for (header, value) in condition[field].as_object().into_iter().flatten() {
            let path = format!("{path}/{field}/{header}");
            if header.bytes().any(|byte| byte.is_ascii_uppercase()) {
                report.add(&HEADER_KEY_CASE, manifest, &path, format!("`{header}` never matches"));
            } else if field == "headers" && world.is_managed(header) {
                value_can_match(manifest, &path, header, value["exact"].as_str(), report);
            }
        }
    }
}

fn value_can_match(manifest: &Manifest, path: &str, header: &str, exact: Option<&str>, report: &mut Report) {
    if let Some(exact) = exact.filter(|exact| names::version(exact).is_err()) {
        report.add(&VALUE_NEVER_MATCHES, manifest, path, format!("`{header}` never is `{exact}`"));
    }
}

fn http_route(world: &World<'_>, destinations: &Destinations, manifest: &Manifest, report: &mut Report) {
    let rules: Vec<_> = manifest.list("/spec/rules").collect();
    let mut all = 0;
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec/rules/{index}");
        let matches = items(&rule["matches"]).count();
        all += matches.max(1);
        if matches > 64 {
            report.add(&HTTP_ROUTE_LIMITS, manifest, &path, format!("the rule has {matches} matches, allowed are 64"));
        }
        for (item, condition) in items(&rule["matches"]).enumerate() {
            for (at, header) in items(&condition["headers"]).enumerate() {
                let name = header["name"].as_str().unwrap_or_default();
                let exact = header["type"].as_str().is_none_or(|kind| kind == "Exact");
                if exact && world.is_managed(name) {
                    let path = format!("{path}/matches/{item}/headers/{at}");
                    value_can_match(manifest, &path, name, header["value"].as_str(), report);
                }
            }
        }
        for (item, backend) in items(&rule["backendRefs"]).enumerate() {
            let namespace = backend["namespace"].as_str().unwrap_or(&manifest.namespace);
            let host = names::full_host(backend["name"].as_str().unwrap_or_default(), namespace);
            let place = format!("{path}/backendRefs/{item}");
            destinations.check(manifest, &place, &host, &format!("rule {}", index + 1), report);
            if namespace != manifest.namespace && !destinations.grants.contains(namespace) {
                let message = format!("rule {} of {} goes to the namespace `{namespace}`", index + 1, manifest.id());
                report.add(&CROSS_NAMESPACE_BACKEND, manifest, &place, message);
            }
        }
    }
    for (found, allowed, what) in [(rules.len(), 16, "rules"), (all, 128, "matches")] {
        if found > allowed {
            let message = format!("{} has {found} {what}, allowed are {allowed}", manifest.id());
            report.add(&HTTP_ROUTE_LIMITS, manifest, "spec/rules", message);
        }
    }
}

fn http_routes_of_parent(world: &World<'_>, routes: &[&Manifest], report: &mut Report) {
    let rules = || routes.iter().flat_map(|manifest| manifest.list("/spec/rules").map(move |rule| (*manifest, rule)));
    let versions: Vec<_> = rules().filter(|(_, rule)| by_version(world, rule)).collect();
    let default = rules().find(|(_, rule)| takes_all_http(rule));
    match (versions.first(), default) {
        (Some((manifest, _)), None) => {
            let message = format!("{} and what is merged with it has no default rule", manifest.id());
            report.add(&DEFAULT_MISSING, manifest, "spec/rules", message);
        }
        (Some(_), Some((_, default))) => {
            for (manifest, rule) in versions {
                if rule["backendRefs"] == default["backendRefs"] {
                    let version = items(&rule["matches"]).flat_map(|one| items(&one["headers"])).next();
                    let version = version.and_then(|header| header["value"].as_str()).unwrap_or_default();
                    let message = format!("the rule for `{version}` goes where the default goes");
                    report.add(&VARIANT_IS_DEFAULT, manifest, "spec/rules", message);
                }
            }
        }
        (None, _) => {}
    }
}

fn takes_all(route: &Value) -> bool {
    let takes_all = |condition: &Value| {
        condition.as_object().is_some_and(|fields| {
            fields.iter().all(|(field, value)| field == "name" || field == "uri" && value["prefix"] == "/")
        })
    };
    items(&route["match"]).next().is_none() || items(&route["match"]).any(takes_all)
}

fn takes_all_http(rule: &Value) -> bool {
    let any_path = |path: &Value| path.is_null() || path["value"] == "/" && path["type"] != "Exact";
    let takes_all = |condition: &Value| {
        let only_path = condition.as_object().is_some_and(|fields| fields.keys().all(|field| field == "path"));
        only_path && any_path(&condition["path"])
    };
    items(&rule["matches"]).next().is_none() || items(&rule["matches"]).any(takes_all)
}

fn named(route: &Value, index: usize) -> String {
    route["name"].as_str().map_or_else(|| format!("route {}", index + 1), |name| format!("`{name}`"))
}

/// What routes can go to.
struct Destinations {
    /// Hosts of `Service`s and `ServiceEntry`s.
    hosts: BTreeSet<String>,
    /// Hosts and subsets of `DestinationRule`s.
    subsets: BTreeSet<(String, String)>,
    /// Namespaces with a `ReferenceGrant`.
    grants: BTreeSet<String>,
    /// Whether Services are known at all.
    services: bool,
    /// Whether anything besides the plan is.
    others: bool,
}

impl Destinations {
    fn of(world: &World<'_>) -> Self {
        let services = world.of_kind("Service").map(|service| names::full_host(&service.name, &service.namespace));
        let entries = world.of_kind("ServiceEntry").flat_map(|entry| entry.list("/spec/hosts"));
        let entries = entries.filter_map(Value::as_str).map(str::to_owned);
        let subsets = world.of_kind("DestinationRule").flat_map(|rule| {
            let host = names::full_host(rule.spec()["host"].as_str().unwrap_or_default(), &rule.namespace);
            let names = rule.list("/spec/subsets").filter_map(|subset| subset["name"].as_str());
            names.map(move |name| (host.clone(), name.to_owned())).collect::<Vec<_>>()
        });
        Self {
            hosts: services.chain(entries).collect(),
            subsets: subsets.collect(),
            grants: world.of_kind("ReferenceGrant").map(|grant| grant.namespace.clone()).collect(),
            services: world.has_others("Service"),
            others: world.manifests.iter().any(|manifest| !manifest.is_generated()),
        }
    }

    fn check(&self, manifest: &Manifest, path: &str, host: &str, route: &str, report: &mut Report) {
        if self.services && names::kubernetes_service(host).is_some() && !self.hosts.contains(host) {
            report.add(&MISSING_SERVICE, manifest, path, format!("{route} goes to `{host}`, which no manifest has"));
        }
    }
}
