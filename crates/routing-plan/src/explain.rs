//! What happens to a request, from the resources alone: the filter's decision, then the routes in the order of Envoy.

mod answer;
mod bystanders;
mod delegates;
pub mod hops;
mod hosts;
mod http_route;
mod injection;
mod listeners;
mod matching;
mod table;
mod verification;
mod virtual_service;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use routing_claims::{CarryConfig, Decider, Policy, PolicyConfig, TokenFormat};
use serde::Serialize;

pub(crate) use self::virtual_service::is_claim;
use self::{
    hosts::Listeners,
    injection::Injection,
    matching::{Doubt, Matched},
};
use crate::{
    attachment::ROOT_NAMESPACE,
    diagnosis,
    diagnostic::{FieldPath, Location},
    filter::{Condition, Insertion, RoutingFilter, Stage},
    manifests::Manifest,
    names, token_source,
    views::{
        Service, Sidecar, VirtualService,
        reader::{Field, UnusableField},
    },
};

/// A request as it leaves a workload or reaches a gateway.
#[derive(Clone)]
pub struct ExplainRequest {
    /// The host, without a port.
    pub host: String,
    /// Path, perhaps with a query.
    pub path: String,
    /// Method.
    pub method: String,
    /// Header lines, names in lower case, the token among them.
    pub headers: Vec<(String, String)>,
    /// The port that it is sent to.
    pub port: Option<u16>,
    /// `http` or `https`, if known.
    pub scheme: Option<String>,
    /// The gateway that it reaches, `namespace/name`; none: it leaves a workload.
    pub gateway: Option<String>,
    /// Namespace of the workload that sends it, or of the gateway's workload, if known.
    pub namespace: Option<String>,
    /// Labels of the workload that sends it, or of the gateway's workload, if known.
    pub labels: Option<BTreeMap<String, String>>,
    /// The mesh.
    pub mesh: MeshFacts,
}

/// What is known of a mesh beside its resources.
#[derive(Debug, Clone, Default)]
pub struct MeshFacts {
    /// Version of the proxy that has the request, such as `1.31.0`, if known.
    pub istio_version: Option<String>,
    /// Whether the manifests have all of its resources: a Service or a delegate that they do not have does not exist.
    pub is_complete: bool,
    /// `defaultVirtualServiceExportTo` of the mesh's configuration; empty: all namespaces.
    pub default_export_to: Vec<String>,
}

/// What happens to a request.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The filter that decides; none: the request passes no filter.
    pub filter: Option<String>,
    /// The filter's outcome code.
    pub outcome: Option<&'static str>,
    /// Why it has this outcome, with the place and the numbers.
    pub causes: Vec<String>,
    /// Why claims were skipped: code and count.
    pub faults: Vec<(&'static str, u32)>,
    /// Headers that the client sent and the filter removes.
    pub removed: Vec<String>,
    /// Headers that the filter sets. `…` in `baggage` are the members of others, which may be secret.
    pub set: Vec<(String, String)>,
    /// The choice that the filter writes to the carrier for the next hop, as JSON.
    pub carried: Option<String>,
    /// The resource that routes the host.
    pub resource: Option<String>,
    /// The rules in the order in which they are tried, up to the one that matches.
    pub rules: Vec<TriedRule>,
    /// Where the request goes.
    pub destinations: Vec<Destination>,
    /// What the route does instead of sending the request somewhere.
    pub instead: Option<String>,
    /// What the answer takes for granted.
    pub assumed: Vec<Caveat>,
    /// What the answer leaves open.
    pub unknown: Vec<Caveat>,
    /// The `fault` of the route that takes the request.
    #[serde(skip)]
    injection: Option<Injection>,
    /// What else may change the headers on the way to the service: the resource, and the field that says so.
    #[serde(skip)]
    header_changes: Vec<(String, Location)>,
    /// The status of a request to a host that the mesh does not have, by the kind of the resource.
    #[serde(skip)]
    status_of_missing: u16,
}

/// A limit of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caveat {
    /// What is assumed or unknown.
    pub message: String,
    /// The field that makes it so, if it is one of a resource. Not serialized, as the one of [`TriedRule`] is not.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// A rule that was tried.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedRule {
    /// Its name or number.
    pub name: String,
    /// Where it is. Only the caller knows the documents by name, so this is not serialized.
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
    /// The status of the answer, if the proxy does not know the destination.
    pub status: Option<u16>,
}

/// Tells what happens to a request at a time in Unix seconds.
#[must_use]
pub fn explain(manifests: &[Manifest], request: &ExplainRequest, now: i64) -> Explanation {
    trace(manifests, request, now).explanation
}

/// What happens to a request, and what comes out of the proxy.
struct Trace<'m> {
    explanation: Explanation,
    /// The header lines after the filter.
    sent: Vec<(String, String)>,
    /// The policy of the filter that the request passes.
    policy: Option<&'m Policy>,
}

fn trace<'m>(manifests: &'m [Manifest], unchanged: &ExplainRequest, now: i64) -> Trace<'m> {
    let mut explanation = Explanation::default();
    let mut request = unchanged.clone();
    let mut first_injection = None;
    let chosen = choose_filter(manifests, unchanged, &mut explanation);
    let is_verified = chosen.as_ref().is_none_or(|chosen| chosen.insertion.stage != Stage::BeforeAuthn);
    if is_verified && !verification::verify(manifests, &mut request, now, &mut explanation) {
        return Trace { explanation, sent: Vec::new(), policy: None };
    }
    if let Some(chosen) = &chosen {
        if chosen.insertion.stage == Stage::AfterFault {
            first_injection = injection::of_unchanged(manifests, unchanged, &mut explanation);
        }
        decide(chosen.filter, &mut request, now, &mut explanation);
    }
    route(manifests, &request, first_injection, &mut explanation);
    let filter = chosen.as_ref().map(|chosen| chosen.filter);
    let reader = chosen.filter(|chosen| chosen.insertion.stage != Stage::BeforeAuthn).map(|chosen| chosen.filter);
    bystanders::name(manifests, reader, unchanged, &mut explanation);
    Trace { explanation, sent: request.headers, policy: filter.and_then(|filter| filter.policy.as_ref()) }
}

/// The header line of a request that carries the payload, unsigned, where a token is looked for first. An issuer that is accepted
/// there is added to a payload without one.
#[must_use]
pub fn unverified_header(manifests: &[Manifest], payload: &str) -> Option<(String, String)> {
    let policy = policy_config(manifests)?;
    let rule = verification::before(manifests, policy);
    if rule.is_none() && policy.format == TokenFormat::Payload {
        return token_source::header_line(policy, &BASE64.encode(payload));
    }
    let payload = rule.map_or_else(|| payload.to_owned(), |rule| verification::acceptable(rule, payload));
    header_for(manifests, &format!("{}.{}.", BASE64.encode(r#"{"alg":"none"}"#), BASE64.encode(payload)))
}

/// The header line of a request that carries a token where one is looked for first: by the check of tokens, if the policy reads
/// what that writes.
#[must_use]
pub fn header_for(manifests: &[Manifest], token: &str) -> Option<(String, String)> {
    let policy = policy_config(manifests)?;
    match verification::before(manifests, policy) {
        Some(rule) => verification::header_line(rule, token),
        None => token_source::header_line(policy, token),
    }
}

/// The first policy that is valid.
fn policy_config(manifests: &[Manifest]) -> Option<&PolicyConfig> {
    manifests.iter().filter_map(Manifest::filter).find_map(|filter| filter.policy.as_ref()).map(Policy::config)
}

/// Without the values of headers: one is the token (R17).
impl fmt::Debug for ExplainRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        let mut debug = f.debug_struct("ExplainRequest");
        debug.field("host", &self.host).field("method", &self.method).field("headers", &names);
        debug.finish_non_exhaustive()
    }
}

impl ExplainRequest {
    /// The host, a short one as the caller's namespace means it.
    fn full_host(&self) -> String {
        let namespace = self.namespace.as_deref();
        namespace.map_or_else(|| self.host.clone(), |namespace| names::full_host(&self.host, namespace))
    }

    fn path_without_query(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }

    /// The first value of a query parameter.
    fn query(&self, name: &str) -> Option<&str> {
        let query = self.path.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The values of a header.
    fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    }
}

impl Explanation {
    /// For people. `place` tells how the reader knows a location.
    #[must_use]
    pub fn to_text(&self, place: &dyn Fn(&Location) -> String) -> String {
        let mut text = String::new();
        let mut line = |head: &str, rest: &str| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{head:<12} {rest}");
        };
        line("filter", self.filter.as_deref().unwrap_or("none: the request passes no filter of this project"));
        if let Some(outcome) = self.outcome {
            let faults: Vec<_> = self.faults.iter().map(|(code, count)| format!("{count} {code}")).collect();
            let faults =
                if faults.is_empty() { String::new() } else { format!(" (claims skipped: {})", faults.join(", ")) };
            line("outcome", &format!("{outcome}{faults}"));
        }
        for cause in &self.causes {
            line("because", cause);
        }
        for name in &self.removed {
            line("removed", name);
        }
        for (name, value) in &self.set {
            line("set", &format!("{name}: {value}"));
        }
        if let Some(carried) = &self.carried {
            line("carried", carried);
        }
        let own = if self.destinations.is_empty() { "no resource" } else { "no resource: the host's own Service" };
        line("routed by", self.resource.as_deref().unwrap_or(own));
        for TriedRule { name, location, matches, why } in &self.rules {
            let matches = match matches {
                Some(true) => "matches",
                Some(false) => "does not match",
                None => "unknown",
            };
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
            line("  rule", &format!("{name} ({}) {matches}{why}", place(location)));
        }
        for Destination { host, port, subset, weight, status } in &self.destinations {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let subset = subset.as_ref().map(|subset| format!(" subset {subset}")).unwrap_or_default();
            let weight = weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
            let status = status.map(|status| format!(" ({status}: the proxy does not know it)")).unwrap_or_default();
            line("goes to", &format!("{host}{port}{subset}{weight}{status}"));
        }
        if let Some(instead) = &self.instead {
            line("instead", instead);
        }
        for (head, caveats) in [("assumed", &self.assumed), ("unknown", &self.unknown)] {
            for Caveat { message, location } in caveats {
                let place = location.as_ref().map(|location| format!(" ({})", place(location))).unwrap_or_default();
                line(head, &format!("{message}{place}"));
            }
        }
        text
    }

    fn tried(&mut self, name: String, location: Location, outcome: &Matched) {
        let (matches, why) = match outcome {
            Matched::Yes => (Some(true), Vec::new()),
            Matched::No(why) => (Some(false), why.clone()),
            Matched::Unknown(doubt) => (None, vec![doubt.why.clone()]),
        };
        self.rules.push(TriedRule { name, location, matches, why });
    }

    fn assume(&mut self, message: impl Into<String>, location: Option<Location>) {
        let caveat = Caveat { message: message.into(), location };
        if !self.assumed.contains(&caveat) {
            self.assumed.push(caveat);
        }
    }

    /// Notes that fields of a resource are assumed to change nothing.
    fn assume_without(&mut self, manifest: &Manifest, fields: impl Iterator<Item = FieldPath>) {
        for path in fields {
            let message = format!("`{path}` changes nothing (explain does not understand the field)");
            self.assume(message, Some(manifest.location(&path)));
        }
    }

    fn leave_open(&mut self, message: impl Into<String>, location: Option<Location>) {
        self.unknown.push(Caveat { message: message.into(), location });
    }

    /// Notes fields that change the headers of the request, if the resource has them.
    fn changes_headers(&mut self, manifest: &Manifest, fields: impl IntoIterator<Item = FieldPath>) {
        let written = fields.into_iter().filter(|path| manifest.value_at(path).is_some());
        self.header_changes.extend(written.map(|path| (manifest.id(), manifest.location(&path))));
    }

    /// Notes what a doubt about a resource leaves open.
    fn leave_open_at(&mut self, manifest: &Manifest, what: &str, doubt: &Doubt) {
        let location = doubt.path.as_ref().map(|path| manifest.location(path));
        self.leave_open(format!("{what}: {}", doubt.why), location);
    }

    /// Notes the answer of the proxy itself, or that it can't be told.
    fn answer(&mut self, manifest: &Manifest, answer: Result<String, UnusableField>) {
        match answer {
            Ok(answer) => self.instead = Some(answer),
            Err(field) => self.leave_open_at(manifest, "what the proxy answers", &field.into()),
        }
    }

    /// Notes destinations that the proxy can't send the request to, each with the status and why.
    fn miss(&mut self, is_missing: impl Fn(&Destination) -> bool, status: impl Fn(&mut Destination) -> (u16, String)) {
        let is_only = self.destinations.len() == 1;
        for to in self.destinations.iter_mut().filter(|to| is_missing(to)) {
            let (number, why) = status(to);
            to.status = Some(number);
            if is_only {
                self.instead = Some(format!("{number}: {why}"));
            }
        }
        if self.instead.is_some() {
            self.destinations.clear();
        }
    }

    /// Notes where the request goes, or that it can't be told.
    fn send_to<T>(
        &mut self,
        manifest: &Manifest,
        to: &Field<Vec<T>>,
        resolve: impl Fn(&T) -> Result<Destination, UnusableField>,
    ) {
        let destinations = to.optional().and_then(|to| to.into_iter().flatten().map(resolve).collect());
        match destinations {
            Ok(destinations) => self.destinations = destinations,
            Err(field) => self.leave_open_at(manifest, "where the request goes", &field.into()),
        }
    }
}

/// The filter that a request passes, and where it is.
struct ChosenFilter<'m> {
    manifest: &'m Manifest,
    filter: &'m RoutingFilter,
    insertion: &'m Insertion,
    /// Conditions of which it is not known whether they hold.
    open: Vec<&'m Condition>,
}

impl<'m> ChosenFilter<'m> {
    /// The place where the request passes the filter, if there is one: rather one that is certain.
    fn of(
        manifest: &'m Manifest,
        filter: &'m RoutingFilter,
        port: Option<u16>,
        request: &ExplainRequest,
    ) -> Option<Self> {
        let version = request.mesh.istio_version.as_deref();
        let places = filter.insertions_at(request.gateway.is_some()).filter_map(|insertion| {
            let holds = |one: &&Condition| one.holds(port, version);
            let is_elsewhere = insertion.conditions.iter().any(|one| holds(&one) == Some(false));
            let open = insertion.conditions.iter().filter(|one| holds(one).is_none()).collect();
            (!is_elsewhere).then_some(Self { manifest, filter, insertion, open })
        });
        places.min_by_key(|place| place.open.len())
    }
}

fn choose_filter<'m>(
    manifests: &'m [Manifest],
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> Option<ChosenFilter<'m>> {
    let at_gateway = request.gateway.is_some();
    let port = if at_gateway { hosts::gateway_port(manifests, request) } else { request.port };
    let filters = manifests.iter().filter_map(|manifest| Some((manifest, manifest.filter()?)));
    let mut places: Vec<_> = filters
        .filter(|(_, filter)| match &request.labels {
            Some(labels) => filter.selects(request.namespace.as_deref(), labels),
            None => true,
        })
        .filter_map(|(manifest, filter)| ChosenFilter::of(manifest, filter, port, request))
        .collect();
    // Both of a plan's WasmPlugins can be at either; their names tell which is meant.
    places.sort_by_key(|place| place.manifest.name.ends_with("-gateway") != at_gateway);
    let chosen = places.into_iter().next()?;
    let ChosenFilter { manifest, filter, open, .. } = &chosen;
    explanation.filter = Some(manifest.id());
    if request.labels.is_none() && !at_gateway {
        explanation.assume(CALLER_HAS_FILTER, None);
    }
    if !filter.script_is_known() {
        let id = manifest.id();
        let message =
            format!("the script in {id} follows its policy annotation (it is not the script of this version)");
        explanation.assume(message, Some(manifest.location(&FieldPath::default())));
    }
    explanation.assume_without(manifest, manifest.unknown_under(&FieldPath::default()).cloned());
    for condition in open {
        let path = &condition.path;
        let option = condition.option().map(|option| format!(" ({option})")).unwrap_or_default();
        explanation.assume(format!("`{path}` holds for this request{option}"), Some(manifest.location(path)));
    }
    if filter.policy.is_none() {
        let path = filter.policy_faults.first().map_or_else(FieldPath::default, |fault| fault.path.clone());
        let message = format!("what {} decides: its policy is not valid", manifest.id());
        explanation.leave_open(message, Some(manifest.location(&path)));
    }
    Some(chosen)
}

/// Does with the request what the filter would.
fn decide(filter: &RoutingFilter, request: &mut ExplainRequest, now: i64, explanation: &mut Explanation) {
    let Some(policy) = &filter.policy else { return };
    let mut decider = Decider::new(policy.clone());
    let lines = request.headers.clone();
    let decision = decider.decide(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), now);
    explanation.outcome = Some(decision.outcome().code());
    explanation.causes.extend(diagnosis::causes(policy, &lines, decision.outcome(), now));
    let claim_faults = decision.faults().map(|(fault, count)| (fault.code(), count));
    explanation.faults = claim_faults.chain(decision.carry_fault().map(|fault| (fault.code(), 1))).collect();
    request.headers.retain(|(name, _)| !decision.removes(name.as_bytes()));
    explanation.removed =
        lines.iter().filter(|(name, _)| decision.removes(name.as_bytes())).map(|(name, _)| name.clone()).collect();
    explanation.removed.dedup();
    let set: Vec<(String, String)> = (decision.set_headers())
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let carrier = policy.config().carry.as_ref();
    explanation.carried = carrier.and_then(|carrier| carried(carrier, &set));
    explanation.set = set.iter().map(|(name, value)| (name.clone(), without_others(name, value, carrier))).collect();
    request.headers.extend(set);
}

/// The choice in the headers that a filter sets (R19): the value of the header, or of its member of `baggage`.
fn carried(carrier: &CarryConfig, set: &[(String, String)]) -> Option<String> {
    let value_of = |wanted: &str| set.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let written = match &carrier.header {
        Some(header) => value_of(header)?,
        None => own_member(carrier, value_of(BAGGAGE)?)?.split_once('=')?.1,
    };
    String::from_utf8(BASE64.decode(written).ok()?).ok()
}

/// The value of a header that a filter sets, without the members of others in `baggage`: one of them may be a token (R17).
fn without_others(name: &str, value: &str, carrier: Option<&CarryConfig>) -> String {
    if name != BAGGAGE {
        return value.to_owned();
    }
    match carrier.and_then(|carrier| own_member(carrier, value)) {
        Some(own) if own == value => own.to_owned(),
        Some(own) => format!("…,{own}"),
        None => "…".to_owned(),
    }
}

/// The member that a filter writes after all others in `baggage`.
fn own_member<'v>(carrier: &CarryConfig, baggage: &'v str) -> Option<&'v str> {
    let last = baggage.rsplit(',').next()?;
    let is_own = last.split_once('=').is_some_and(|(key, _)| Some(key) == carrier.baggage.as_deref());
    is_own.then_some(last)
}

/// Routes a request. If the `fault` of the route that it had before the filter is known, that one counts.
fn route(
    manifests: &[Manifest],
    request: &ExplainRequest,
    first_injection: Option<Injection>,
    explanation: &mut Explanation,
) {
    choose_route(manifests, request, explanation);
    let injection = first_injection.or(explanation.injection.take());
    let is_aborted = injection.is_some_and(|injection| injection.inject(explanation));
    if explanation.resource.is_some() && !is_aborted {
        if let (None, Some(port)) = (&request.gateway, request.port) {
            check_ports(manifests, port, explanation);
        }
        check_destinations(manifests, request, explanation);
    }
}

/// Finds the route that takes the request, and what it does.
fn choose_route(manifests: &[Manifest], request: &ExplainRequest, explanation: &mut Explanation) {
    if request.gateway.is_none() && request.namespace.is_none() && !request.host.contains('.') {
        let message =
            format!("which Service `{}` is: it depends on the caller's namespace (--from-namespace)", request.host);
        return explanation.leave_open(message, None);
    }
    if ["/.", "\\", "%"].iter().any(|odd| request.path_without_query().contains(odd)) {
        explanation.assume("the proxy does not normalize the path", None);
    }
    let listeners = match Listeners::of(manifests, request) {
        Ok(listeners) => listeners,
        Err(field) => return explanation.leave_open(format!("what the gateway listens for: {field}"), None),
    };
    let mut sources = virtual_service::sources(manifests, &listeners, request, explanation);
    let is_mesh = request.gateway.is_none();
    let without_port = hosts::without_port(manifests, request).filter(|_| is_mesh);
    let is_missing = is_mesh && !hosts::is_service(manifests, request);
    if without_port.is_none() && !(is_missing && request.mesh.is_complete) {
        sources.extend(http_route::sources(manifests, request, explanation));
    }
    if let (Some(service), true) = (without_port, sources.is_empty()) {
        let port = request.port.unwrap_or_default();
        let id = service.id();
        explanation.instead =
            Some(format!("503: {id} has no port {port}, so no proxy knows it there (502 with `REGISTRY_ONLY`)"));
    } else if is_mesh {
        sidecars(manifests, request, explanation);
        short_names(manifests, request, explanation);
        table::in_mesh(sources, !is_missing, request, explanation);
    } else if listeners.redirect(request, explanation) {
        explanation.instead = Some("301: the gateway redirects to HTTPS".into());
    } else {
        table::at_gateway(sources, request, explanation);
    }
    // At port 80 a sidecar has the routes of a VirtualService even if no Service has the host.
    if explanation.resource.is_some() && is_mesh && request.port != Some(80) {
        check_host(manifests, request, explanation);
    }
}

/// A Sidecar can hide resources from its proxies.
fn sidecars(manifests: &[Manifest], request: &ExplainRequest, explanation: &mut Explanation) {
    let is_for = |manifest: &&Manifest| {
        let caller = request.namespace.as_deref();
        manifest.namespace == ROOT_NAMESPACE || caller.is_none_or(|caller| caller == manifest.namespace)
    };
    for manifest in manifests.iter().filter(is_for) {
        let Some(sidecar) = manifest.view::<Sidecar>() else { continue };
        if sidecar.may_select(request.labels.as_ref()) && !sidecar.shows_all() {
            let message = format!("{} lets the caller see the host and its routes", manifest.id());
            explanation.assume(message, Some(manifest.location(&FieldPath::default())));
        }
    }
}

/// A `VirtualService` can take a short name of a Service for a whole host: `name.namespace`. A sidecar may then have its routes for
/// that name, beside those of the Service for its other names.
fn short_names(manifests: &[Manifest], request: &ExplainRequest, explanation: &mut Explanation) {
    if !hosts::is_short_name(manifests, request) {
        return;
    }
    for manifest in manifests {
        let Some(view) = manifest.view::<VirtualService>().filter(|view| view.is_for_mesh()) else { continue };
        let hosts = view.hosts.items();
        let Some(index) = hosts.iter().position(|host| *host == request.host) else {
            continue;
        };
        let is_at_port = matches!(request.port, None | Some(80))
            || hosts::any_has_port(manifests, hosts, &manifest.namespace, request);
        if is_at_port {
            let message = format!("whether {} counts: `{}` is a whole host there", manifest.id(), request.host);
            let path = view.written.path.clone().field("hosts").index(index);
            explanation.leave_open(message, Some(manifest.location(&path)));
        }
    }
}

/// Whether the manifests have Services at all: then one that they don't have is a question.
fn has_services(manifests: &[Manifest]) -> bool {
    manifests.iter().any(|manifest| manifest.view::<Service>().is_some() && !manifest.is_generated())
}

/// A sidecar sends a request to the port that it was sent to, if the route names none, whatever ports the destination has.
/// (`GetDestinationCluster` in Istio's `route.go`, which there knows only Services with that port.)
fn check_ports(manifests: &[Manifest], port: u16, explanation: &mut Explanation) {
    let is_lacking = |to: &Destination| to.port.is_none() && hosts::lacks_port(manifests, &to.host, port);
    explanation.miss(is_lacking, |to| {
        let host = to.host.clone();
        to.port = Some(port.into());
        (503, format!("`{host}` has no port {port}, and the route names no other"))
    });
}

/// Whether the mesh knows the host, where the manifests have Services at all. Otherwise no resource has routes for it.
fn check_host(manifests: &[Manifest], request: &ExplainRequest, explanation: &mut Explanation) {
    if has_services(manifests) && !request.mesh.is_complete && !hosts::is_known(manifests, request) {
        let asked = request.full_host();
        let message = format!("the mesh has the host `{asked}`, which no manifest has (without it: 503; --complete)");
        explanation.assume(message, None);
    }
}

/// Whether the mesh knows the hosts that the request goes to, where the manifests have Services at all.
fn check_destinations(manifests: &[Manifest], request: &ExplainRequest, explanation: &mut Explanation) {
    if !has_services(manifests) && !request.mesh.is_complete {
        return;
    }
    let known: BTreeSet<String> = hosts::known(manifests).collect();
    let is_short = |host: &str| known.contains(&format!("{host}.svc.cluster.local"));
    let is_missing = |to: &Destination| to.status.is_none() && !known.contains(&to.host);
    explanation.miss(
        |to| is_missing(to) && is_short(&to.host),
        |to| (503, format!("Istio takes `{}` for a whole host, which no Service has", to.host)),
    );
    if request.mesh.is_complete {
        let status = explanation.status_of_missing;
        return explanation.miss(is_missing, |to| (status, format!("no Service or ServiceEntry has `{}`", to.host)));
    }
    let missing = explanation.destinations.iter().filter(|to| is_missing(to));
    let missing: Vec<_> = missing.map(|to| to.host.clone()).collect();
    for host in missing.iter().filter(|host| names::kubernetes_service(host).is_some()) {
        let message = format!(
            "the mesh has the host `{host}`, which no manifest has (without it: {}; --complete)",
            explanation.status_of_missing
        );
        explanation.assume(message, None);
    }
}

/// What is assumed of a caller without known labels.
const CALLER_HAS_FILTER: &str = "the caller has the filter (its labels are not known: --from-labels)";
const BAGGAGE: &str = "baggage";
