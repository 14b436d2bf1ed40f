//! `VirtualService`: the first route that matches wins.

use std::cmp::Reverse;

use serde_json::Value;

use super::{
    Destination, Explanation, Request,
    matching::{Verdict, gateways, istio},
    same_service,
};
use crate::{
    manifests::{Manifest, items},
    names,
};

/// The one that Envoy's routes have for the host: an exact host before a wildcard, a longer one before a shorter.
pub(super) fn find<'m>(
    manifests: &'m [Manifest],
    request: &Request,
    explanation: &mut Explanation,
) -> Option<&'m Manifest> {
    let mut found: Vec<(usize, &Manifest)> = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.kind == "VirtualService") {
        if bound(manifest, request) {
            let hosts = manifest.list("/spec/hosts").filter_map(Value::as_str);
            let best = hosts.filter_map(|host| rank(host, manifest, request)).max();
            found.extend(best.map(|rank| (rank, manifest)));
        }
    }
    found.sort_by_key(|(rank, _)| Reverse(*rank));
    if let [(first, one), (second, other), ..] = &found[..]
        && first == second
    {
        explanation.unsure.push(format!("{} and {} are both for this host: Istio follows one", one.id(), other.id()));
    }
    found.first().map(|(_, manifest)| *manifest)
}

pub(super) fn walk(manifest: &Manifest, request: &Request, explanation: &mut Explanation) {
    explanation.resource = Some(manifest.id());
    for (index, route) in manifest.list("/spec/http").enumerate() {
        let conditions: Vec<_> = items(&route["match"]).collect();
        let verdict = if conditions.is_empty() {
            Verdict::Yes
        } else {
            Verdict::any(conditions.into_iter().map(|condition| istio(condition, request)))
        };
        let name = route["name"].as_str().map_or_else(|| format!("{}", index + 1), str::to_owned);
        explanation.rule(name, manifest.location(&format!("spec/http/{index}")), &verdict);
        match verdict {
            Verdict::Yes => return destinations(manifest, route, explanation),
            Verdict::No(_) => {}
            Verdict::Unknown(_) => {
                explanation.unsure.push(format!("whether rule {} matches, so where the request goes", index + 1));
                return;
            }
        }
    }
    explanation.instead = Some("404: no rule matches".into());
}

fn destinations(manifest: &Manifest, route: &Value, explanation: &mut Explanation) {
    explanation.destinations = items(&route["route"])
        .map(|to| Destination {
            host: names::full_host(to["destination"]["host"].as_str().unwrap_or_default(), &manifest.namespace),
            port: to["destination"]["port"]["number"].as_u64(),
            subset: to["destination"]["subset"].as_str().map(str::to_owned),
            weight: to["weight"].as_u64(),
        })
        .collect();
    let elsewhere = [
        ("redirect", "a redirect"),
        ("directResponse", "an answer of the proxy"),
        ("delegate", "another VirtualService, which is not followed here"),
    ];
    for (field, what) in elsewhere {
        if route.get(field).is_some() {
            explanation.instead = Some(format!("{what}: {}", route[field]));
        }
    }
    if route["fault"].is_object() {
        explanation.unsure.push("the route injects faults".into());
    }
}

fn bound(manifest: &Manifest, request: &Request) -> bool {
    let own = &manifest.spec()["gateways"];
    if !own.is_array() {
        return request.gateway.is_none();
    }
    let qualified = |name: &str| {
        if name == "mesh" || name.contains('/') { name.to_owned() } else { format!("{}/{name}", manifest.namespace) }
    };
    let names: Value = items(own).filter_map(Value::as_str).map(qualified).collect();
    gateways(&names, request) == Verdict::Yes
}

fn rank(host: &str, manifest: &Manifest, request: &Request) -> Option<usize> {
    let named = names::full_host(host, &manifest.namespace);
    let asked = request.full_host();
    match named.strip_prefix('*') {
        Some(rest) => (asked.len() > rest.len() && asked.ends_with(rest)).then_some(named.len()),
        None => same_service(&named, &asked).then_some(usize::MAX),
    }
}
