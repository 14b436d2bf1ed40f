//! What changes between two renders, route by route, and a safe order to apply it in.

mod defaults;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde_json::{Map, Value, json};

use crate::{
    diagnostic::FieldPath,
    manifests::{Manifest, remove_server_fields},
    names,
    views::{
        StringMatch, View,
        http_route::{BackendRef, NamedMatch, Rule, RuleMatch},
        reader::Field,
        virtual_service::{IstioRoute, RouteMatch, WeightedDestination},
    },
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
    let (old, new): (Vec<_>, Vec<_>) = (old.iter().map(authored).collect(), new.iter().map(authored).collect());
    let (before, after) = (routes(&old), routes(&new));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changes = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(|key| Change {
        host: key.0.clone(),
        condition: key.1.clone(),
        from: before.get(key).cloned(),
        to: after.get(key).cloned(),
    });
    Diff { changes: changes.collect(), steps: steps(&old, &new) }
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
        let (hosts, rules) = match manifest.any_view() {
            View::VirtualService(view) => {
                let hosts = view.hosts.items().iter().map(|host| names::full_host(host, &manifest.namespace));
                let rules = view.http.items().iter().map(|route| of_virtual_service(manifest, route));
                (hosts.collect::<Vec<_>>(), rules.collect::<Vec<_>>())
            }
            View::HttpRoute(view) => {
                let rules = view.rules.items().iter().map(|rule| of_http_route(manifest, rule));
                (view.services(&manifest.namespace).into_iter().map(|(host, _)| host).collect(), rules.collect())
            }
            _ => continue,
        };
        for ComparedRule { mut conditions, target } in rules {
            if conditions.is_empty() {
                conditions.push("default".into());
            }
            for (host, condition) in hosts.iter().flat_map(|host| conditions.iter().map(move |one| (host, one))) {
                // Of several rules with the same condition the first one wins.
                routes.entry((host.clone(), condition.clone())).or_insert_with(|| target.clone());
            }
        }
    }
    routes
}

/// A rule as it is compared and shown.
struct ComparedRule {
    conditions: Vec<String>,
    target: String,
}

fn of_virtual_service(manifest: &Manifest, route: &IstioRoute) -> ComparedRule {
    let condition = |one: &RouteMatch| {
        let headers = one.headers.known().into_iter().flatten().map(|(name, wanted)| match wanted {
            Field::Known(StringMatch::Exact(text)) => format!("{name}: {text}"),
            _ => {
                format!("{name}: {}", json_at(manifest, &one.written.path.clone().field("headers").field(name.clone())))
            }
        });
        condition(manifest, &one.written.path, headers.collect())
    };
    let targets = route.route.items().iter().map(|to: &WeightedDestination| {
        let destination = to.destination.known();
        let host = destination.and_then(|to| to.host.text()).unwrap_or_default();
        let port = destination.and_then(|to| to.port.known()?.number.known());
        let subset = destination.and_then(|to| to.subset.text());
        let subset = subset.map(|subset| format!(" subset {subset}")).unwrap_or_default();
        let weight = to.weight.known().map(|weight| format!(" weight {weight}")).unwrap_or_default();
        format!("{}{}{subset}{weight}", names::full_host(host, &manifest.namespace), colon(port))
    });
    ComparedRule {
        conditions: or_raw(manifest, &route.matches, route.matches.items().iter().map(condition)),
        target: target(manifest, &route.written.path, &or_raw(manifest, &route.route, targets)),
    }
}

fn of_http_route(manifest: &Manifest, rule: &Rule) -> ComparedRule {
    let condition = |one: &RuleMatch| {
        let headers = one.headers.items().iter().map(|header: &NamedMatch| {
            let name = header.name.text().unwrap_or_default();
            match header.value.text() {
                Some(value) => format!("{name}: {value}"),
                None => format!("{name}: {}", json_at(manifest, &header.written.path)),
            }
        });
        condition(manifest, &one.written.path, headers.collect())
    };
    let targets = rule.backend_refs.items().iter().map(|backend: &BackendRef| {
        let weight = backend.weight.known().map(|weight| format!(" weight {weight}")).unwrap_or_default();
        format!("{}{}{weight}", backend.host(&manifest.namespace).unwrap_or_default(), colon(backend.port.known()))
    });
    ComparedRule {
        conditions: or_raw(manifest, &rule.matches, rule.matches.items().iter().map(condition)),
        target: target(manifest, &rule.written.path, &or_raw(manifest, &rule.backend_refs, targets)),
    }
}

fn colon(port: Option<&u64>) -> String {
    port.map(|port| format!(":{port}")).unwrap_or_default()
}

/// The headers, and all else that a condition has as it is written.
fn condition(manifest: &Manifest, path: &FieldPath, headers: Vec<String>) -> String {
    let fields = manifest.value_at(path).and_then(Value::as_object).into_iter().flatten();
    let others = fields.filter(|(field, _)| *field != "headers").map(|(field, value)| format!("{field} {value}"));
    let mut parts: Vec<_> = headers.into_iter().chain(others).collect();
    parts.sort();
    if parts.is_empty() { "default".into() } else { parts.join(", ") }
}

/// The destinations, and what else a rule does: a timeout that changes is a change of the route.
fn target(manifest: &Manifest, path: &FieldPath, targets: &[String]) -> String {
    let shown = ["match", "matches", "route", "backendRefs", "name"];
    let fields = manifest.value_at(path).and_then(Value::as_object).into_iter().flatten();
    let rest = fields.filter(|(field, _)| !shown.contains(&field.as_str()));
    let rest: Map<_, _> = rest.map(|(field, value)| (field.clone(), value.clone())).collect();
    let rest = if rest.is_empty() { String::new() } else { format!(" with {}", Value::Object(rest)) };
    format!("{}{rest}", targets.join(" + "))
}

/// The texts of a list, the JSON of what is written there if it has the wrong type.
fn or_raw<T>(manifest: &Manifest, list: &Field<T>, texts: impl Iterator<Item = String>) -> Vec<String> {
    match list {
        Field::Wrong(path) => vec![json_at(manifest, path)],
        Field::Absent | Field::Known(_) => texts.collect(),
    }
}

fn json_at(manifest: &Manifest, path: &FieldPath) -> String {
    manifest.value_at(path).map(Value::to_string).unwrap_or_default()
}

fn steps(old: &[Manifest], new: &[Manifest]) -> Vec<Step> {
    // Of two resources with the same name the last one wins, as when they are applied.
    fn by_id(list: &[Manifest]) -> BTreeMap<String, &Manifest> {
        list.iter().map(|one| (one.id(), one)).collect()
    }
    let (old, new) = (by_id(old), by_id(new));
    let changed = new.iter().filter(|(id, one)| old.get(*id).is_none_or(|before| before.value != one.value));
    let removed = old.iter().filter(|(id, _)| !new.contains_key(*id));
    let mut steps: Vec<(u8, Step)> = changed
        .map(|(id, one)| {
            let (order, why) = match rank(one) {
                Rank::Target => (0, "a destination must exist before the routes to it"),
                Rank::Check => (1, "tokens must be verified before the filter reads what is verified"),
                Rank::Filter => (2, "the filter must strip a header before a route matches on it"),
                Rank::Route => (3, "its destinations exist by now"),
            };
            (order, Step { verb: "apply", resource: id.clone(), why })
        })
        .chain(removed.map(|(id, one)| {
            let (order, why) = match rank(one) {
                Rank::Route => (4, "its routes are no longer needed"),
                Rank::Filter => (5, "no route matches on its headers any longer"),
                Rank::Check => (6, "no filter reads what it has verified any longer"),
                Rank::Target => (7, "no route goes to it any longer"),
            };
            (order, Step { verb: "delete", resource: id.clone(), why })
        }))
        .collect();
    steps.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.resource.cmp(&other.resource)));
    let mut waiting: Vec<Step> = Vec::new();
    let mut last = None;
    for (order, step) in steps {
        // Istiod watches each kind of resource separately: without a wait, a proxy can get a later step first.
        let why = match (last, order) {
            (Some(1), 2) | (Some(2 | 5), 6) => Some("a filter without the check before it believes forged payloads"),
            (Some(0..=2), 3) => Some(
                "a route without its Service answers 503 or 500, and without the filter clients can forge its header",
            ),
            (Some(3 | 4), 5..) => Some("proxies must drop a route before what it needs is gone"),
            _ => None,
        };
        waiting.extend(why.map(|why| Step { verb: "wait", resource: "for every proxy".to_owned(), why }));
        waiting.push(step);
        last = Some(order);
    }
    waiting
}

/// What the author of a resource has written, with its namespace, which an author may leave to kubectl.
fn authored(manifest: &Manifest) -> Manifest {
    let mut value = manifest.value.clone();
    remove_server_fields(&mut value);
    defaults::remove(&mut value);
    value["metadata"]["namespace"] = manifest.namespace.clone().into();
    let root = manifest.location(&FieldPath::default());
    Manifest::new(value, root).unwrap_or_else(|| manifest.clone())
}

enum Rank {
    /// What routes go to, and all else that is there for itself.
    Target,
    /// What verifies tokens, if nothing else is in the resource.
    Check,
    Filter,
    Route,
}

fn rank(manifest: &Manifest) -> Rank {
    match manifest.any_view() {
        View::VirtualService(_) | View::HttpRoute(_) => Rank::Route,
        View::RequestAuthentication(_) => Rank::Check,
        View::EnvoyFilter(filter) if manifest.filter().is_none() && filter.verifications().next().is_some() => {
            Rank::Check
        }
        View::EnvoyFilter(_) | View::WasmPlugin(_) | View::TrafficExtension(_) => Rank::Filter,
        _ => Rank::Target,
    }
}
