//! A chain of calls: what each service forwards decides what the next filter finds.

mod choice;

use std::{collections::BTreeSet, fmt::Write};

use serde::Serialize;

use self::choice::Link;
use super::{CALLER_HAS_FILTER, ExplainRequest, Explanation, Trace, hosts, trace};
use crate::{diagnostic::Location, manifests::Manifest, names, views::Labels};

/// What a service that received a request sends to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The host that it calls, without a port.
    pub host: String,
    /// The port that it calls.
    pub port: Option<u16>,
    /// Path, perhaps with a query.
    pub path: String,
    /// Names of the headers that it forwards as it received them, in lower case.
    pub forwards: Vec<String>,
    /// Whether it sends a bearer token of its own, which names no version.
    pub has_own_token: bool,
}

/// What happens to a request and to the calls that follow from it.
#[derive(Debug, Clone, Serialize)]
pub struct Journey {
    /// From the first proxy on, as far as the request gets.
    pub hops: Vec<Hop>,
    /// What becomes of the choice.
    pub choice: Choice,
}

/// A request from one workload to the next.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The host of the service that sends it, or the gateway; none: any workload.
    pub from: Option<String>,
    /// The host that it is for.
    pub to: String,
    /// Names of the headers that it has when it reaches the proxy of its sender.
    pub has: Vec<String>,
    /// What happens to it.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// What becomes of the choice on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "status")]
pub enum Choice {
    /// The filter applies it at every hop: the same versions, of the services that the policies of both filters have.
    Applied,
    /// It is lost.
    Lost {
        /// Number of the first hop without it, from 1.
        hop: usize,
        /// Why.
        why: String,
        /// What helps, each on its own.
        remedies: Vec<String>,
    },
    /// That can't be told.
    Unknown {
        /// Number of the first hop where it can't be told, from 1.
        hop: usize,
        /// Why not.
        why: String,
    },
}

/// Tells what happens to a request, and to the calls that the services make one after the other, at a time in Unix seconds.
#[must_use]
pub fn follow(manifests: &[Manifest], first: &ExplainRequest, calls: &[Call], now: i64) -> Journey {
    let mut passed = trace(manifests, first, now);
    let mut choice = choice::at_first(&passed, first.gateway.is_some());
    let mut hops = vec![Hop::new(first, first.gateway.clone().map(|name| format!("gateway {name}")), &passed)];
    for (number, call) in (2..).zip(calls) {
        let Some(caller) = Caller::behind(manifests, &passed.explanation) else {
            if choice == Choice::Applied {
                choice = choice::without_service(&passed.explanation, number - 1);
            }
            break;
        };
        let send = |call: &Call| {
            let request = caller.calls(call, first, &passed.sent);
            let passed = trace(manifests, &request, now);
            (request, passed)
        };
        let (request, mut next) = send(call);
        caller.assume(&passed, &mut next);
        if choice == Choice::Applied {
            let instead = |call: &Call| send(call).1;
            choice = Link { call, host: &caller.host, before: &passed, after: &next, instead: &instead }.choice(number);
        }
        hops.push(Hop::new(&request, Some(caller.host), &next));
        passed = next;
    }
    Journey { hops, choice }
}

impl Call {
    /// The header lines that it has, of those that the service received.
    fn headers(&self, received: &[(String, String)]) -> Vec<(String, String)> {
        let own = self.has_own_token.then(|| ("authorization".to_owned(), OWN_TOKEN.to_owned()));
        received.iter().filter(|(name, _)| self.forwards.contains(name)).cloned().chain(own).collect()
    }
}

impl Journey {
    /// For people. `place` tells how the reader knows a location.
    #[must_use]
    pub fn to_text(&self, place: &dyn Fn(&Location) -> String) -> String {
        let mut text = String::new();
        for (index, hop) in self.hops.iter().enumerate() {
            let from = hop.from.as_deref().unwrap_or("a workload");
            let has = if hop.has.is_empty() { "no header".into() } else { hop.has.join(", ") };
            // Writing to a string can't fail.
            let _ = writeln!(text, "hop {:<8} {from} -> {}", index + 1, hop.to);
            let _ = writeln!(text, "{:<12} {has}", "has");
            text += &hop.explanation.to_text(place);
            text.push('\n');
        }
        let (said, remedies) = match &self.choice {
            Choice::Applied => ("applied at every hop".into(), &[][..]),
            Choice::Lost { hop, why, remedies } => (format!("lost at hop {hop}: {why}"), &remedies[..]),
            Choice::Unknown { hop, why } => (format!("unknown from hop {hop} on: {why}"), &[][..]),
        };
        let _ = writeln!(text, "{:<12} {said}", "choice");
        for remedy in remedies {
            let _ = writeln!(text, "{:<12} {remedy}", "help");
        }
        text
    }
}

impl Hop {
    fn new(request: &ExplainRequest, from: Option<String>, passed: &Trace<'_>) -> Self {
        let names: BTreeSet<_> = request.headers.iter().map(|(name, _)| name.clone()).collect();
        Self {
            from,
            to: request.host.clone(),
            has: names.into_iter().collect(),
            explanation: passed.explanation.clone(),
        }
    }
}

/// The service that a request has reached, as the sender of the next one.
struct Caller {
    host: String,
    namespace: Option<String>,
    labels: Option<Labels>,
}

impl Caller {
    /// Of several destinations, those in the first one's namespace are taken for the same service.
    fn behind(manifests: &[Manifest], explanation: &Explanation) -> Option<Self> {
        let to = explanation.destinations.iter().find(|to| to.status.is_none())?;
        let namespace = names::kubernetes_service(&to.host).map(|(_, namespace)| namespace.to_owned());
        Some(Self { labels: hosts::labels_behind(manifests, &to.host), host: to.host.clone(), namespace })
    }

    fn calls(&self, call: &Call, first: &ExplainRequest, received: &[(String, String)]) -> ExplainRequest {
        ExplainRequest {
            host: call.host.clone(),
            path: call.path.clone(),
            method: "GET".into(),
            headers: call.headers(received),
            port: call.port,
            // A filter sees nothing of HTTPS that a service sends itself.
            scheme: Some("http".into()),
            gateway: None,
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            mesh: first.mesh.clone(),
        }
    }

    /// What is taken for granted between the proxy before the service and the one after it.
    fn assume(&self, before: &Trace<'_>, after: &mut Trace<'_>) {
        for caveat in &mut after.explanation.assumed {
            if caveat.message == CALLER_HAS_FILTER {
                caveat.message = format!("{} has the filter (no manifest has its workload)", self.host);
            }
        }
        if before.explanation.destinations.len() > 1 {
            after.explanation.assume(format!("{} received the request, one of several destinations", self.host), None);
        }
        for (id, location) in &before.explanation.header_changes {
            let message = format!("{id}, which changes headers, leaves those that {} forwards", self.host);
            after.explanation.assume(message, Some(location.clone()));
        }
    }
}

/// A JWT without claims.
const OWN_TOKEN: &str = "Bearer e30.e30.";
