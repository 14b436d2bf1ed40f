//! `HTTPRoute`: the most specific match of all routes of a Service wins.

use std::cmp::Reverse;

use serde_json::Value;

use super::{
    Destination, Explanation, Request,
    matching::{Verdict, compare, compare_header, path, query},
    same_service,
};
use crate::{
    lint::service_parent,
    manifests::{Manifest, items},
    names,
};

/// All whose parent is the Service of the host.
pub(super) fn find<'m>(manifests: &'m [Manifest], request: &Request) -> Vec<&'m Manifest> {
    let asked = request.full_host();
    let routes = manifests.iter().filter(|manifest| manifest.kind == "HTTPRoute");
    routes.filter(|manifest| service_parent(manifest).is_some_and(|host| same_service(&host, &asked))).collect()
}

pub(super) fn walk(manifests: &[&Manifest], request: &Request, explanation: &mut Explanation) {
    let names: Vec<_> = manifests.iter().map(|manifest| manifest.id()).collect();
    explanation.resource = Some(names.join(" and "));
    for Candidate { manifest, index, rule, condition, .. } in candidates(manifests) {
        let verdict = condition.map_or(Verdict::Yes, |condition| gateway_api(condition, request));
        let location = manifest.location(&format!("spec/rules/{index}"));
        explanation.rule(format!("{} rule {}", manifest.name, index + 1), location, &verdict);
        match verdict {
            Verdict::Yes => {
                let backends = items(&rule["backendRefs"]);
                explanation.destinations = backends.map(|backend| destination(manifest, backend)).collect();
                if items(&rule["filters"]).any(|filter| filter["type"] == "RequestRedirect") {
                    explanation.instead = Some("a redirect".into());
                }
                return;
            }
            Verdict::No(_) => {}
            Verdict::Unknown(why) => return explanation.unsure.push(why),
        }
    }
    explanation.instead = Some("404: no rule matches".into());
}

struct Candidate<'m> {
    manifest: &'m Manifest,
    index: usize,
    rule: &'m Value,
    condition: Option<&'m Value>,
    rank: Rank,
}

/// The Gateway API's precedence, the first that differs decides: an exact path, the longest prefix, a method, the most
/// headers, the most query parameters; then names and order. (Creation times, which come before names, are not known.)
type Rank = (Reverse<bool>, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

fn candidates<'m>(manifests: &[&'m Manifest]) -> Vec<Candidate<'m>> {
    let mut candidates = Vec::new();
    for manifest in manifests.iter().copied() {
        for (index, rule) in manifest.list("/spec/rules").enumerate() {
            let mut conditions: Vec<_> = items(&rule["matches"]).map(Some).collect();
            if conditions.is_empty() {
                conditions.push(None);
            }
            candidates.extend(conditions.into_iter().map(|condition| {
                let rank = rank(condition.unwrap_or(&Value::Null));
                Candidate { manifest, index, rule, condition, rank }
            }));
        }
    }
    let id = |one: &Candidate<'m>| (&one.manifest.namespace, &one.manifest.name, one.index);
    candidates.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| id(a).cmp(&id(b))));
    candidates
}

fn rank(condition: &Value) -> Rank {
    let path = &condition["path"];
    (
        Reverse(path["type"] == "Exact"),
        Reverse(path["value"].as_str().map_or(1, str::len)),
        Reverse(condition["method"].is_string()),
        Reverse(items(&condition["headers"]).count()),
        Reverse(items(&condition["queryParams"]).count()),
    )
}

/// How a header or a query parameter must be, and to what.
fn wanted(condition: &Value) -> (&str, &str) {
    let kind = if condition["type"] == "RegularExpression" { "regex" } else { "exact" };
    (kind, condition["value"].as_str().unwrap_or_default())
}

fn gateway_api(condition: &Value, request: &Request) -> Verdict {
    let path = match (condition["path"]["type"].as_str().unwrap_or("PathPrefix"), condition["path"]["value"].as_str()) {
        (_, None) => Verdict::Yes,
        ("PathPrefix", Some(prefix)) => {
            let prefix = prefix.trim_end_matches('/');
            let rest = path(request).strip_prefix(prefix);
            let holds = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            Verdict::of(holds, || format!("the path is `{}`, not under `{prefix}`", path(request)))
        }
        ("RegularExpression", Some(regex)) => compare("path", "regex", regex, &[path(request)]),
        (_, Some(exact)) => compare("path", "exact", exact, &[path(request)]),
    };
    let headers = items(&condition["headers"]).map(|one| {
        let name = one["name"].as_str().unwrap_or_default().to_ascii_lowercase();
        let values = request.headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| &**value);
        let (kind, wanted) = wanted(one);
        compare_header(&name, kind, wanted, &values.collect::<Vec<_>>())
    });
    let queries = items(&condition["queryParams"]).map(|one| {
        let name = one["name"].as_str().unwrap_or_default();
        let (kind, wanted) = wanted(one);
        compare(&format!("query parameter {name}"), kind, wanted, &Vec::from_iter(query(request, name)))
    });
    let method = condition["method"].as_str().map(|method| compare("method", "exact", method, &[&request.method]));
    Verdict::all(std::iter::once(path).chain(method).chain(headers).chain(queries))
}

fn destination(manifest: &Manifest, backend: &Value) -> Destination {
    let namespace = backend["namespace"].as_str().unwrap_or(&manifest.namespace);
    Destination {
        host: names::full_host(backend["name"].as_str().unwrap_or_default(), namespace),
        port: backend["port"].as_u64(),
        subset: None,
        weight: backend["weight"].as_u64(),
    }
}
