//! What `explain` says about a request, held to what happened to it.

use routing_plan::{
    explain::{Destination, ExplainRequest, Explanation},
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
pub(super) fn question(request: &Request, namespace: &str, labels: &[(String, String)]) -> ExplainRequest {
    ExplainRequest {
        host: request.host.clone(),
        path: request.path.clone(),
        method: request.method.to_owned(),
        headers: request.headers.clone(),
        port: Some(request.port),
        scheme: Some("http".to_owned()),
        gateway: if let Caller::Gateway(name) = &request.from { Some(name.clone()) } else { None },
        namespace: Some(namespace.to_owned()),
        labels: Some(labels.iter().cloned().collect()),
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
        (Some(instead), Answer::Proxy(status)) => is_status(instead, *status),
        (Some(_), Answer::Service { .. }) => false,
        (None, answer) => {
            let receive = |one: &&Destination| one.weight != Some(0) || explanation.destinations.len() == 1;
            let mut possible = explanation.destinations.iter().filter(receive);
            possible.any(|destination| went_to(destination, answer, manifests, request))
        }
    };
    let headers_agree = match answer {
        Answer::Service { headers, .. } => received(explanation, headers),
        Answer::Proxy(_) => true,
    };
    if agree && headers_agree { Verdict::Agree } else { Verdict::Disagree }
}

/// Whether a status is the one that `explain` predicts in words: `404: …`, a redirect, or a response of the proxy.
fn is_status(instead: &str, status: u16) -> bool {
    let (what, rest) = instead.split_once(':').unwrap_or((instead, ""));
    let number = |key: &str, default: u16| {
        let value: serde_json::Value = serde_json::from_str(rest.trim()).unwrap_or_default();
        value[key].as_u64().map_or(default, |number| u16::try_from(number).unwrap_or_default())
    };
    match what {
        _ if what.parse::<u16>().is_ok() => what == status.to_string(),
        "a redirect" if rest.is_empty() => (300..400).contains(&status),
        "a redirect" => number("redirectCode", 301) == status,
        "a response of the proxy itself" => number("status", 0) == status,
        _ => false,
    }
}

/// Whether the answer is that of a destination; one that has no workload is answered with 5xx by the proxy.
fn went_to(destination: &Destination, answer: &Answer, manifests: &[Manifest], request: &Request) -> bool {
    let named = destination.host.strip_suffix(&format!(":{}", request.port)).unwrap_or(&destination.host);
    match answer {
        Answer::Service { host, port, .. } => {
            let forms =
                [host.as_str(), host.trim_end_matches(".cluster.local"), host.trim_end_matches(".svc.cluster.local")];
            forms.contains(&named) && destination.port.is_none_or(|wanted| wanted == u64::from(*port))
        }
        Answer::Proxy(status) => {
            matches!(status, 500 | 502 | 503) && !has_workload(named, destination, manifests, request)
        }
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
