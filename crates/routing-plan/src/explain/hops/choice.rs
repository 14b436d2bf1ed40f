//! Why a choice is lost on the way, and what helps.

use std::collections::BTreeSet;

use routing_claims::{CarryConfig, CarryFault, Outcome, PolicyConfig};

use super::{Call, Choice};
use crate::explain::{Explanation, Trace};

/// The choice at the first hop, which may be a gateway.
pub(super) fn at_first(passed: &Trace<'_>, is_gateway: bool) -> Choice {
    let without_filter = if is_gateway {
        "give the gateway the filter: `filter.gateways` of the plan selects it"
    } else {
        "give the workload that sends the request the label that selects the filter"
    };
    match outcome(&passed.explanation, 1, without_filter.to_owned()) {
        Err(other) => other,
        Ok(Outcome::Applied) => Choice::Applied,
        Ok(outcome) => {
            let remedies = vec![outcome.description().remedy.to_owned()];
            Choice::Lost { hop: 1, why: because(outcome, &passed.explanation), remedies }
        }
    }
}

/// The choice of a request that does not reach a service that is known.
pub(super) fn without_service(explanation: &Explanation, hop: usize) -> Choice {
    let missing = explanation.destinations.first().and_then(|to| Some((to.status?, &to.host)));
    let missing = missing.map(|(status, host)| format!("{status}: the proxy does not know {host}"));
    match explanation.instead.clone().or(missing) {
        Some(instead) => {
            Choice::Lost { hop, why: format!("the request reaches no service: {instead}"), remedies: Vec::new() }
        }
        None => Choice::Unknown { hop, why: "it is not known which service the request reaches".into() },
    }
}

/// Two hops, and the service between them.
pub(super) struct Link<'l, 'm> {
    pub(super) call: &'l Call,
    /// The host of the service.
    pub(super) host: &'l str,
    pub(super) before: &'l Trace<'m>,
    pub(super) after: &'l Trace<'m>,
    /// The later hop, if the service made this call instead.
    pub(super) instead: &'l dyn Fn(&Call) -> Trace<'m>,
}

impl Link<'_, '_> {
    /// The choice at the later hop, if the earlier one has applied it.
    pub(super) fn choice(&self, hop: usize) -> Choice {
        let without_filter = format!("give the workload of {} the label that selects the filter", self.host);
        let outcome = match outcome(&self.after.explanation, hop, without_filter) {
            Err(other) => return other,
            Ok(_) if self.is_kept(self.after) => return Choice::Applied,
            Ok(outcome) => outcome,
        };
        let why = match (outcome, &self.call.forwards[..]) {
            _ if self.own_token_hides_choice() => {
                format!("{} sends a token of its own, which comes first and names no version", self.host)
            }
            (Outcome::Applied, _) => format!("{} forwards another choice, which the filter applies instead", self.host),
            (Outcome::NoToken, []) => format!("{} forwards nothing", self.host),
            (Outcome::NoToken, names) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("{} forwards only {}, and the filter finds no token there", self.host, names.join(", "))
            }
            _ => because(outcome, &self.after.explanation),
        };
        let mut remedies = self.about_the_service();
        remedies.extend(self.about_the_carrier());
        if remedies.is_empty() && outcome != Outcome::Applied {
            remedies.push(outcome.description().remedy.to_owned());
        }
        Choice::Lost { hop, why, remedies }
    }

    /// What the service can do with the request that it received.
    fn about_the_service(&self) -> Vec<String> {
        let Call { forwards, .. } = self.call;
        let host = self.host;
        let mut remedies = Vec::new();
        if self.own_token_hides_choice() {
            remedies.push("take `authorization` out of the policy's `fromHeaders`".to_owned());
        }
        let received: BTreeSet<_> = self.before.sent.iter().map(|(name, _)| name).collect();
        for name in received.into_iter().filter(|name| !forwards.contains(name)) {
            let more = [&forwards[..], std::slice::from_ref(name)].concat();
            if self.keeps(&Call { forwards: more, ..self.call.clone() }) {
                remedies.push(format!("let {host} forward `{name}`"));
            }
        }
        remedies
    }

    fn own_token_hides_choice(&self) -> bool {
        self.keeps(&Call { has_own_token: false, ..self.call.clone() })
    }

    /// What the policies can do.
    fn about_the_carrier(&self) -> Option<String> {
        let fault = CarryFault::TooLarge;
        if self.before.explanation.faults.iter().any(|(code, _)| *code == fault.code()) {
            let remedy = fault.description().remedy;
            return Some(format!("the filter before {} reports `{fault}`, so nothing is carried. {remedy}", self.host));
        }
        let Some(carry) = self.before.policy.and_then(|policy| policy.config().carry.as_ref()) else {
            let text = "set `carry` in the policy: the filter then writes the choice to `baggage`, which OpenTelemetry forwards";
            return Some(text.to_owned());
        };
        let is_read = self.after.policy.is_none_or(|policy| reads(policy.config(), carry));
        (!is_read).then(|| match (&carry.baggage, &carry.header) {
            (Some(key), _) => {
                format!("add `{key}` to `fromBaggage` of the policy: there the filter before it writes the choice")
            }
            (None, header) => {
                let header = header.as_deref().unwrap_or_default();
                format!("add `{header}` to `fromHeaders` of the policy: there the filter before it writes the choice")
            }
        })
    }

    fn keeps(&self, call: &Call) -> bool {
        self.is_kept(&(self.instead)(call))
    }

    /// Whether the later filter applies the same versions, as far as both know the services.
    fn is_kept(&self, after: &Trace<'_>) -> bool {
        let is_applied = after.explanation.outcome == Some(Outcome::Applied.code());
        is_applied && routes(self.before, after).eq(routes(after, self.before))
    }
}

/// The routing headers that one filter sets and that both manage.
fn routes<'t>(one: &'t Trace<'_>, other: &'t Trace<'_>) -> impl Iterator<Item = &'t (String, String)> {
    let is_managed =
        |trace: &Trace<'_>, name: &str| trace.policy.is_some_and(|policy| policy.is_managed(name.as_bytes()));
    let is_report = |trace: &Trace<'_>, name: &str| {
        trace.policy.and_then(|policy| policy.config().report_header.as_deref()) == Some(name)
    };
    let is_route = move |trace: &Trace<'_>, name: &str| is_managed(trace, name) && !is_report(trace, name);
    one.explanation.set.iter().filter(move |(name, _)| is_route(one, name) && is_route(other, name))
}

/// Whether a policy reads what is carried.
fn reads(policy: &PolicyConfig, carry: &CarryConfig) -> bool {
    match (&carry.baggage, &carry.header) {
        (Some(key), _) => policy.from_baggage.contains(key),
        (None, header) => policy.from_headers.iter().any(|source| Some(&source.name) == header.as_ref()),
    }
}

/// The outcome at a hop, else what that means for the choice. Without a filter, `remedy` helps.
fn outcome(explanation: &Explanation, hop: usize, remedy: String) -> Result<Outcome, Choice> {
    if explanation.filter.is_none() {
        let why = "the request passes no filter of this project".to_owned();
        return Err(Choice::Lost { hop, why, remedies: vec![remedy] });
    }
    let outcome = Outcome::ALL.iter().copied().find(|outcome| Some(outcome.code()) == explanation.outcome);
    outcome.ok_or_else(|| match explanation.instead {
        Some(_) => without_service(explanation, hop),
        None => Choice::Unknown { hop, why: "the policy of the filter is not valid".to_owned() },
    })
}

fn because(outcome: Outcome, explanation: &Explanation) -> String {
    match &explanation.causes[..] {
        [] => format!("the outcome is `{outcome}`"),
        causes => format!("the outcome is `{outcome}`: {}", causes.join("; ")),
    }
}
