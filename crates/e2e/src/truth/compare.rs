//! What `explain` says about a request, held to what happened to it.

use e2e::Proxy;
use routing_plan::{
    explain::{Destination, ExplainRequest, Explanation, MeshFacts},
    manifests::Manifest,
};

use crate::scene::REPORT;

use super::{
    generate::{Caller, Request},
    mesh::Answer,
};

/// What a comparison shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Agree,
    /// `explain` leaves something open, for this reason.
    Unknown(String),
    /// `explain` is certain, and wrong.
    Disagree,
}

/// The request, as `explain` takes it.
pub(super) fn question(request: &Request, proxy: &Proxy) -> ExplainRequest {
    ExplainRequest {
        host: request.host.clone(),
        path: request.path.clone(),
        method: request.method.to_owned(),
        headers: request.headers.clone(),
        port: Some(request.port),
        scheme: Some("http".to_owned()),
        gateway: if let Caller::Gateway(name) = &request.from { Some(name.clone()) } else { None },
        namespace: Some(proxy.namespace.clone()),
        labels: Some(proxy.labels.iter().cloned().collect()),
        mesh: MeshFacts {
            istio_version: Some(proxy.istio_version.clone()),
            is_complete: true,
            default_export_to: Vec::new(),
        },
    }
}

/// Compares an explanation with what happened. The manifests tell which destinations have workloads.
pub(super) fn compare(
    explanation: &Explanation,
    answer: &Answer,
    manifests: &[Manifest],
    request: &Request,
) -> Verdict {
    if let Some(caveat) = explanation.unknown.iter().chain(&explanation.assumed).next() {
        return Verdict::Unknown(kind_of(&caveat.message));
    }
    let agree = match (&explanation.instead, answer) {
        (Some(instead), Answer::Proxy { status, location, body }) => {
            is_as_said(instead, *status, location.as_deref(), body)
        }
        (Some(_), Answer::Service { .. }) => false,
        (None, answer) => explanation.destinations.iter().any(|to| went_to(to, answer, manifests, request)),
    };
    let headers_agree = match answer {
        Answer::Service { headers, .. } => received(explanation, headers),
        Answer::Proxy { .. } => true,
    };
    if agree && headers_agree { Verdict::Agree } else { Verdict::Disagree }
}

/// Whether each destination that gets a third of the requests or more has got one.
pub(super) fn are_all_seen(
    explanation: &Explanation,
    answers: &[Answer],
    manifests: &[Manifest],
    request: &Request,
) -> bool {
    let weight = |to: &Destination| to.weight.unwrap_or(1);
    let sum: u64 = explanation.destinations.iter().map(weight).sum();
    let mut often = explanation.destinations.iter().filter(|to| weight(to) * 3 >= sum);
    often.all(|to| answers.iter().any(|answer| went_to(to, answer, manifests, request)))
}

/// Whether the proxy's answer is the one that `explain` predicts in words: `404: …`, `302: a redirect to …`, or
/// `418: a response of the proxy itself, "…"`.
fn is_as_said(instead: &str, status: u16, location: Option<&str>, body: &str) -> bool {
    let Some((code, what)) = instead.split_once(": ") else { return false };
    let is_redirect = what.strip_prefix("a redirect to ").is_none_or(|wanted| location == Some(wanted));
    let own = what.strip_prefix("a response of the proxy itself");
    let is_response = own.is_none_or(|own| match own.strip_prefix(", ") {
        None => body.is_empty(),
        Some(quoted) => serde_json::from_str::<String>(quoted).is_ok_and(|wanted| wanted == body),
    });
    code == status.to_string() && is_redirect && is_response
}

/// Whether the answer is that of a destination; one that has no workload is answered with 5xx by the proxy.
fn went_to(destination: &Destination, answer: &Answer, manifests: &[Manifest], request: &Request) -> bool {
    let named = destination.host.strip_suffix(&format!(":{}", request.port)).unwrap_or(&destination.host);
    match answer {
        Answer::Service { host, port, .. } if destination.status.is_none() => {
            let forms =
                [host.as_str(), host.trim_end_matches(".cluster.local"), host.trim_end_matches(".svc.cluster.local")];
            forms.contains(&named) && destination.port.is_none_or(|wanted| wanted == u64::from(*port))
        }
        Answer::Service { .. } => false,
        Answer::Proxy { status, .. } => match destination.status {
            Some(wanted) => *status == wanted,
            None => matches!(status, 500 | 502 | 503) && !has_workload(named, destination, manifests, request),
        },
    }
}

/// Whether the destination is a Service with a workload at its port.
fn has_workload(named: &str, destination: &Destination, manifests: &[Manifest], request: &Request) -> bool {
    let service = manifests.iter().filter(|manifest| manifest.kind == "Service").find(|service| {
        let short = format!("{}.{}", service.name, service.namespace);
        [short.clone(), format!("{short}.svc"), format!("{short}.svc.cluster.local")].iter().any(|form| form == named)
    });
    service.is_some_and(|service| {
        let spec = &service.value["spec"];
        let ports: Vec<_> =
            spec["ports"].as_array().into_iter().flatten().filter_map(|port| port["port"].as_u64()).collect();
        let port = match (destination.port, &ports[..]) {
            (Some(port), _) => port,
            (None, [only]) => *only,
            (None, _) => u64::from(request.port),
        };
        let subset_has_workload = destination.subset.as_deref().is_none_or(|subset| {
            let rules = manifests.iter().filter(|manifest| manifest.kind == "DestinationRule");
            // Only `v1` has workloads.
            subset == "v1"
                && rules.into_iter().any(|rule| {
                    let host = rule.value["spec"]["host"].as_str().unwrap_or_default();
                    named == host || named.starts_with(&format!("{host}.{}.", rule.namespace))
                })
        });
        ports.contains(&port) && spec["selector"]["app"] == *service.name && subset_has_workload
    })
}

/// Whether the filter did with the headers what `explain` says.
fn received(explanation: &Explanation, headers: &[(String, String)]) -> bool {
    let values =
        |name: &str| headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect();
    let set = explanation.set.iter().all(|(name, value)| {
        let values: Vec<_> = values(name);
        values == [value.clone()]
    });
    let is_set = |name: &String| explanation.set.iter().any(|(other, _)| other == name);
    let mut removed = explanation.removed.iter().filter(|name| !is_set(name));
    let reported = headers.iter().find(|(name, _)| name == REPORT).and_then(|(_, report)| report.split(' ').next());
    reported == explanation.outcome
        && set
        && removed.all(|name| {
            let values: Vec<String> = values(name);
            values.is_empty()
        })
}

/// A reason without the names that differ between sets.
fn kind_of(message: &str) -> String {
    let mut kind = String::new();
    for (index, part) in message.split('`').enumerate() {
        kind.push_str(if index % 2 == 0 { part } else { "…" });
    }
    let words = kind
        .split(' ')
        .map(|word| if word.contains("set-") || word.bytes().any(|byte| byte.is_ascii_digit()) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
