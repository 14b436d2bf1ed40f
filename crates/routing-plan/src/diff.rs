//! What changes between two renders, route by route, and the order in which it is safe to apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde_json::{Value, json};

use crate::{
    lint::service_parent,
    manifests::{Manifest, items},
    names,
};

/// What changes between two renders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Route by route, in order of host.
    pub changes: Vec<Change>,
    /// Resources in the order to apply and delete them.
    pub steps: Vec<Step>,
}

/// One route that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The host that is routed.
    pub host: String,
    /// The condition, such as `microservice-a: PR-1`.
    pub condition: String,
    /// Where it went.
    pub from: Option<String>,
    /// Where it goes.
    pub to: Option<String>,
}

/// One step of applying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `apply`, `delete`, or `wait` until the proxies have what was done so far.
    pub verb: &'static str,
    /// Kind, namespace and name; of `wait`: for whom.
    pub resource: String,
    /// Why here.
    pub why: &'static str,
}

/// Compares two renders.
#[must_use]
pub fn diff(old: &[Manifest], new: &[Manifest]) -> Diff {
    let (before, after) = (routes(old), routes(new));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changes = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(|key| Change {
        host: key.0.clone(),
        condition: key.1.clone(),
        from: before.get(key).cloned(),
        to: after.get(key).cloned(),
    });
    Diff { changes: changes.collect(), steps: steps(old, new) }
}

impl Diff {
    /// Whether nothing changes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.steps.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut host = "";
        // Writing to a string can't fail.
        for change in &self.changes {
            if change.host != host {
                host = &change.host;
                let _ = writeln!(text, "{host}");
            }
            let condition = &change.condition;
            let _ = match (&change.from, &change.to) {
                (Some(from), Some(to)) => writeln!(text, "  ~ {condition} -> {to} (was {from})"),
                (Some(from), None) => writeln!(text, "  - {condition} -> {from}"),
                (None, Some(to)) => writeln!(text, "  + {condition} -> {to}"),
                (None, None) => Ok(()),
            };
        }
        if !self.steps.is_empty() {
            let _ = writeln!(text, "{}in this order:", if self.changes.is_empty() { "" } else { "\n" });
        }
        for (number, Step { verb, resource, why }) in (1..).zip(&self.steps) {
            let _ = writeln!(text, "  {number}. {verb} {resource}   # {why}");
        }
        text
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let changes = self.changes.iter().map(|Change { host, condition, from, to }| {
            json!({"host": host, "condition": condition, "from": from, "to": to})
        });
        let steps = self
            .steps
            .iter()
            .map(|Step { verb, resource, why }| json!({"verb": verb, "resource": resource, "why": why}));
        json!({"changes": changes.collect::<Value>(), "steps": steps.collect::<Value>()})
    }
}

/// Host and condition to destination.
fn routes(manifests: &[Manifest]) -> BTreeMap<(String, String), String> {
    let mut routes = BTreeMap::new();
    for manifest in manifests {
        let (hosts, rules): (Vec<String>, _) = match &*manifest.kind {
            "VirtualService" => {
                let hosts = manifest.list("/spec/hosts").filter_map(Value::as_str);
                (hosts.map(|host| names::full_host(host, &manifest.namespace)).collect(), "/spec/http")
            }
            "HTTPRoute" => (service_parent(manifest).into_iter().collect(), "/spec/rules"),
            _ => continue,
        };
        for rule in manifest.list(rules) {
            let mut conditions: Vec<_> = items(&rule["match"]).chain(items(&rule["matches"])).map(condition).collect();
            if conditions.is_empty() {
                conditions.push("default".into());
            }
            for (host, condition) in hosts.iter().flat_map(|host| conditions.iter().map(move |one| (host, one))) {
                // The first rule of a condition is the one that is followed.
                routes.entry((host.clone(), condition.clone())).or_insert_with(|| target(manifest, rule));
            }
        }
    }
    routes
}

fn condition(condition: &Value) -> String {
    let mut parts = Vec::new();
    for (field, value) in condition.as_object().into_iter().flatten() {
        match (&**field, value) {
            ("headers", Value::Object(headers)) => {
                parts.extend(headers.iter().map(|(name, value)| format!("{name}: {}", short(value, "exact"))));
            }
            ("headers", Value::Array(headers)) => {
                let name = |header: &Value| header["name"].as_str().unwrap_or_default().to_owned();
                parts.extend(headers.iter().map(|header| format!("{}: {}", name(header), short(header, "value"))));
            }
            _ => parts.push(format!("{field} {value}")),
        }
    }
    parts.sort();
    if parts.is_empty() { "default".into() } else { parts.join(", ") }
}

/// The text of the only field that there mostly is, else all of it.
fn short(value: &Value, field: &str) -> String {
    value[field].as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn target(manifest: &Manifest, rule: &Value) -> String {
    let mut targets: Vec<String> = items(&rule["route"])
        .map(|to| {
            let host = names::full_host(to["destination"]["host"].as_str().unwrap_or_default(), &manifest.namespace);
            let port = to["destination"]["port"]["number"].as_u64().map(|port| format!(":{port}")).unwrap_or_default();
            let subset =
                to["destination"]["subset"].as_str().map(|subset| format!(" subset {subset}")).unwrap_or_default();
            let weight = to["weight"].as_u64().map(|weight| format!(" weight {weight}")).unwrap_or_default();
            format!("{host}{port}{subset}{weight}")
        })
        .collect();
    targets.extend(items(&rule["backendRefs"]).map(|backend| {
        let namespace = backend["namespace"].as_str().unwrap_or(&manifest.namespace);
        let host = names::full_host(backend["name"].as_str().unwrap_or_default(), namespace);
        format!("{host}{}", backend["port"].as_u64().map(|port| format!(":{port}")).unwrap_or_default())
    }));
    // What else a rule does counts as well: a timeout that changes is a change of the route.
    let mut rest = rule.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.retain(|field, _| !matches!(&**field, "match" | "matches" | "route" | "backendRefs" | "name"));
    }
    let rest =
        if rest.as_object().is_none_or(serde_json::Map::is_empty) { String::new() } else { format!(" with {rest}") };
    format!("{}{rest}", targets.join(" + "))
}

fn steps(old: &[Manifest], new: &[Manifest]) -> Vec<Step> {
    // Of two resources with one name the last one stays, as when they are applied.
    fn by_id(list: &[Manifest]) -> BTreeMap<String, &Manifest> {
        list.iter().map(|one| (one.id(), one)).collect()
    }
    let (old, new) = (by_id(old), by_id(new));
    let changed = new.iter().filter(|(id, one)| old.get(*id).is_none_or(|before| before.value != one.value));
    let removed = old.iter().filter(|(id, _)| !new.contains_key(*id));
    let mut steps: Vec<(u8, Step)> = changed
        .map(|(id, one)| {
            let (order, why) = match rank(one) {
                Rank::Target => (0, "what routes go to comes before them"),
                Rank::Filter => (1, "the filter strips a header before any route looks at it"),
                Rank::Route => (2, "its destinations are there by now"),
            };
            (order, Step { verb: "apply", resource: id.clone(), why })
        })
        .chain(removed.map(|(id, one)| {
            let (order, why) = match rank(one) {
                Rank::Route => (3, "no route of it is needed any more"),
                Rank::Filter => (4, "no route looks at its headers any more"),
                Rank::Target => (5, "no route goes to it any more"),
            };
            (order, Step { verb: "delete", resource: id.clone(), why })
        }))
        .collect();
    steps.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.resource.cmp(&other.resource)));
    let mut waiting: Vec<Step> = Vec::new();
    let mut last = None;
    for (order, step) in steps {
        // Istiod watches each kind of resource by itself: without a wait a proxy may learn of a later step first.
        let why = match (last, order) {
            (Some(0 | 1), 2) => Some("a route before its Service gives 5xx, before its filter it can be forged"),
            (Some(2 | 3), 4 | 5) => Some("what a route needs goes after it"),
            _ => None,
        };
        waiting.extend(why.map(|why| Step { verb: "wait", resource: "for every proxy".to_owned(), why }));
        waiting.push(step);
        last = Some(order);
    }
    waiting
}

enum Rank {
    /// What routes go to, and all else that is there for itself.
    Target,
    Filter,
    Route,
}

fn rank(manifest: &Manifest) -> Rank {
    match &*manifest.kind {
        "VirtualService" | "HTTPRoute" => Rank::Route,
        "EnvoyFilter" | "WasmPlugin" | "TrafficExtension" => Rank::Filter,
        _ => Rank::Target,
    }
}
