//! What becomes of a request, from the YAML alone: the filter's decision, then the routes as Envoy walks them.

mod http_route;
mod matching;
mod virtual_service;

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use routing_claims::{Decider, TokenFormat};
use serde::Serialize;

use crate::{
    diagnostic::Location,
    manifests::{Filter, Manifest},
    names, token_source,
};

use matching::Verdict;

/// A request as it leaves a workload, or reaches a gateway.
#[derive(Clone)]
pub struct Request {
    /// The host it is for, without port.
    pub host: String,
    /// Path, perhaps with a query.
    pub path: String,
    /// Method.
    pub method: String,
    /// Header lines, names in lower case; the token among them.
    pub headers: Vec<(String, String)>,
    /// The port it is for.
    pub port: Option<u16>,
    /// The gateway that it reaches, `namespace/name`; none: it leaves a workload.
    pub gateway: Option<String>,
    /// Namespace of the workload that sends it, if known.
    pub namespace: Option<String>,
    /// Labels of the workload that sends it, if known.
    pub labels: Option<BTreeMap<String, String>>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The filter that decides; none: it stands not before this request.
    pub filter: Option<String>,
    /// Its outcome code.
    pub outcome: Option<&'static str>,
    /// Why claims were skipped: code and count.
    pub faults: Vec<(&'static str, u32)>,
    /// Headers that the client sent and the filter removes.
    pub removed: Vec<String>,
    /// Headers that the filter sets.
    pub set: Vec<(String, String)>,
    /// The resource that routes the host.
    pub resource: Option<String>,
    /// The rules in the order of their trial, up to the one that matches.
    pub rules: Vec<Rule>,
    /// Where the request goes.
    pub destinations: Vec<Destination>,
    /// What the route does instead of going somewhere.
    pub instead: Option<String>,
    /// What can't be told, and why.
    pub unsure: Vec<String>,
}

/// A rule that was tried.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name or number.
    pub name: String,
    /// Where the rule is.
    #[serde(skip)]
    pub location: Location,
    /// Whether it matches; `null` if that can't be told.
    pub matches: Option<bool>,
    /// Why not.
    pub why: Vec<String>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Its host.
    pub host: String,
    /// Its port, if the route names one.
    pub port: Option<u64>,
    /// Its subset, if the route names one.
    pub subset: Option<String>,
    /// Its share.
    pub weight: Option<u64>,
}

/// Tells what becomes of a request at a time in Unix seconds.
#[must_use]
pub fn explain(manifests: &[Manifest], request: &Request, now: i64) -> Explanation {
    let mut explanation = Explanation {
        filter: None,
        outcome: None,
        faults: Vec::new(),
        removed: Vec::new(),
        set: Vec::new(),
        resource: None,
        rules: Vec::new(),
        destinations: Vec::new(),
        instead: None,
        unsure: Vec::new(),
    };
    let mut request = request.clone();
    if let Some(filter) = choose_filter(manifests, &request, &mut explanation) {
        decide(&filter, &mut request, now, &mut explanation);
    }
    route(manifests, &request, &mut explanation);
    explanation
}

/// The lines of a request that carry the payload as the first source of a policy has it, the signature left out.
#[must_use]
pub fn unverified_header(manifests: &[Manifest], payload: &str) -> Option<(String, String)> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    let payload = BASE64.encode(payload);
    let filter = manifests.iter().find_map(Manifest::filter);
    let config = filter.as_ref().map(|filter| filter.policy.config());
    let token = match config.map(|config| config.format) {
        Some(TokenFormat::Payload) => payload,
        _ => format!("{}.{payload}.", BASE64.encode(r#"{"alg":"none"}"#)),
    };
    header_for(manifests, &token)
}

/// The line of a request that carries a token where the first source of the policy looks for it.
#[must_use]
pub fn header_for(manifests: &[Manifest], token: &str) -> Option<(String, String)> {
    let filter = manifests.iter().find_map(Manifest::filter)?;
    token_source::header_line(filter.policy.config(), token)
}

/// Without the values of headers: one is the token (R17).
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        let mut debug = f.debug_struct("Request");
        debug.field("host", &self.host).field("method", &self.method).field("headers", &names);
        debug.finish_non_exhaustive()
    }
}

impl Request {
    /// The host, a short one as the sender's namespace means it.
    fn full_host(&self) -> String {
        let namespace = self.namespace.as_deref();
        namespace.map_or_else(|| self.host.clone(), |namespace| names::full_host(&self.host, namespace))
    }
}

impl Explanation {
    /// For people.
    #[must_use]
    pub fn to_text(&self, place: &dyn Fn(&Location) -> String) -> String {
        let mut text = String::new();
        let mut line = |head: &str, rest: &str| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{head:<12} {rest}");
        };
        line("filter", self.filter.as_deref().unwrap_or("none stands before this request"));
        if let Some(outcome) = self.outcome {
            let faults: Vec<_> = self.faults.iter().map(|(code, count)| format!("{count} {code}")).collect();
            let faults =
                if faults.is_empty() { String::new() } else { format!(" (claims skipped: {})", faults.join(", ")) };
            line("outcome", &format!("{outcome}{faults}"));
        }
        for name in &self.removed {
            line("removed", name);
        }
        for (name, value) in &self.set {
            line("set", &format!("{name}: {value}"));
        }
        line("routed by", self.resource.as_deref().unwrap_or("no resource: the host's own Service"));
        for Rule { name, location, matches, why } in &self.rules {
            let verdict = match matches {
                Some(true) => "matches",
                Some(false) => "no",
                None => "can't tell",
            };
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
            line("  rule", &format!("{name} ({}) {verdict}{why}", place(location)));
        }
        for Destination { host, port, subset, weight } in &self.destinations {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let subset = subset.as_ref().map(|subset| format!(" subset {subset}")).unwrap_or_default();
            let weight = weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
            line("goes to", &format!("{host}{port}{subset}{weight}"));
        }
        if let Some(instead) = &self.instead {
            line("instead", instead);
        }
        for unsure in &self.unsure {
            line("unsure", unsure);
        }
        text
    }

    fn rule(&mut self, name: String, location: Location, verdict: &Verdict) {
        let (matches, why) = match verdict {
            Verdict::Yes => (Some(true), Vec::new()),
            Verdict::No(why) => (Some(false), why.clone()),
            Verdict::Unknown(why) => (None, vec![why.clone()]),
        };
        self.rules.push(Rule { name, location, matches, why });
    }
}

fn choose_filter<'m>(
    manifests: &'m [Manifest],
    request: &Request,
    explanation: &mut Explanation,
) -> Option<Filter<'m>> {
    let at_gateway = request.gateway.is_some();
    let filters = manifests.iter().filter_map(Manifest::filter);
    let mut filters: Vec<_> = filters
        .filter(|filter| if at_gateway { filter.gateway } else { filter.sidecar })
        .filter(|filter| match &request.labels {
            Some(labels) => filter.selects(request.namespace.as_deref(), labels),
            None => true,
        })
        .collect();
    // Both of a plan's WasmPlugins could stand anywhere; by their name the right one is first.
    filters.sort_by_key(|filter| filter.manifest.name.ends_with("-gateway") != at_gateway);
    if filters.is_empty() {
        return None;
    }
    let filter = filters.remove(0);
    explanation.filter = Some(filter.manifest.id());
    if request.labels.is_none() && !at_gateway {
        explanation.unsure.push("the sender's labels are not given: it is taken to have the filter".into());
    }
    if !filter.script_is_known() {
        let id = filter.manifest.id();
        explanation
            .unsure
            .push(format!("the script in {id} is not what this version writes for the policy in its annotation"));
    }
    Some(filter)
}

/// Does with the request what the filter would.
fn decide(filter: &Filter<'_>, request: &mut Request, now: i64, explanation: &mut Explanation) {
    let mut decider = Decider::new(filter.policy.clone());
    let lines = request.headers.clone();
    let decision = decider.decide(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), now);
    explanation.outcome = Some(decision.outcome().code());
    explanation.faults = decision.faults().map(|(fault, count)| (fault.code(), count)).collect();
    request.headers.retain(|(name, _)| !decision.removes(name.as_bytes()));
    explanation.removed =
        lines.iter().filter(|(name, _)| decision.removes(name.as_bytes())).map(|(name, _)| name.clone()).collect();
    explanation.removed.dedup();
    explanation.set = decision.set_headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    request.headers.extend(explanation.set.iter().cloned());
}

fn route(manifests: &[Manifest], request: &Request, explanation: &mut Explanation) {
    let by_virtual_service = virtual_service::find(manifests, request, explanation);
    let by_http_routes = if request.gateway.is_none() { http_route::find(manifests, request) } else { Vec::new() };
    match (by_virtual_service, by_http_routes.is_empty()) {
        (Some(manifest), true) => virtual_service::walk(manifest, request, explanation),
        (None, false) => http_route::walk(&by_http_routes, request, explanation),
        (None, true) => {
            if request.gateway.is_some() {
                explanation.instead = Some("404: no VirtualService binds this host to the gateway".into());
            } else {
                explanation.destinations = vec![Destination {
                    host: request.host.clone(),
                    port: request.port.map(u64::from),
                    subset: None,
                    weight: None,
                }];
            }
        }
        (Some(manifest), false) => {
            let message = format!("{} and {} are both for this host", manifest.id(), by_http_routes[0].id());
            explanation.unsure.push(message);
        }
    }
}

/// The host in the forms that a resource may name it by: Envoy takes the short ones of a Service too.
fn same_service(named: &str, host: &str) -> bool {
    named == host
        || [".cluster.local", ".svc.cluster.local"]
            .iter()
            .any(|rest| named.strip_suffix(rest) == Some(host) && host.contains('.'))
}
