//! What is written into the status of plans and variants.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    apply::Applied,
    objects::{Counts, PlanStatus, VariantEntry, VariantPhase, VariantStatus},
    observed::{ObjectName, Plan, Variant},
    reconcile::{PlanOutcome, Source, VariantState},
};

/// The status of a plan, or none if it is what the cluster has.
pub(crate) fn of_plan(plan: &Plan, outcome: &PlanOutcome, applied: &Applied, now: Timestamp) -> Option<PlanStatus> {
    let mut listed: Vec<_> = outcome.variants.iter().collect();
    listed.sort_by_key(|state| (order(state), &state.service, &state.variant, &state.source));
    let omitted = listed.len().saturating_sub(MAX_LISTED);
    listed.truncate(MAX_LISTED);
    let problems = outcome.variants.iter().filter(|state| has_problem(state)).count()
        + outcome.faults.len()
        + outcome.warnings.len()
        + applied.additions.len()
        + applied.failures.len();
    let services = outcome.valid.as_ref().map_or(0, |valid| valid.spec.services.len());
    let routed = outcome.variants.iter().filter(|state| state.phase == VariantPhase::Routed).count();
    let mut conditions = vec![accepted(outcome), in_cluster(outcome, applied)];
    conditions.extend(warned(outcome, applied));
    let status = PlanStatus {
        observed_generation: Some(plan.generation),
        conditions: conditions.into_iter().map(|new| new.into_condition(plan, now)).collect(),
        counts: Some(Counts {
            services: count(services),
            variants: count(outcome.variants.len()),
            routed: count(routed),
            problems: count(problems),
        }),
        variants: listed.into_iter().map(entry).collect(),
        variants_omitted: (omitted > 0).then(|| count(omitted)),
    };
    (status != plan.status).then_some(status)
}

/// The status of a `RoutingVariant`, or none if it is what the cluster has.
pub(crate) fn of_variant(variant: &Variant, state: Option<(&ObjectName, &VariantState)>) -> Option<VariantStatus> {
    let status = match (state, &variant.spec) {
        (_, Err(fault)) => VariantStatus {
            state: Some(VariantPhase::Refused),
            problem: Some(fault.clone()),
            ..VariantStatus::default()
        },
        (Some((plan, state)), Ok(_)) => VariantStatus {
            plan: (!plan.name.is_empty()).then(|| plan.to_string()),
            state: Some(state.phase),
            ready_endpoints: state.ready_endpoints,
            problem: state.problem.clone(),
            ..VariantStatus::default()
        },
        (None, Ok(_)) => return None,
    };
    let status = VariantStatus { observed_generation: Some(variant.generation), ..status };
    (status != variant.status).then_some(status)
}

/// The `RoutingVariants` among the variants of all plans, with the plan of each.
pub(crate) fn routing_variants<'r>(
    states: impl Iterator<Item = (&'r ObjectName, &'r VariantState)>,
) -> BTreeMap<&'r ObjectName, (&'r ObjectName, &'r VariantState)> {
    states
        .filter_map(|(plan, state)| match &state.source {
            Source::Variant(name) => Some((name, (plan, state))),
            _ => None,
        })
        .collect()
}

/// Problems first; those of namespaces without permission at the end, because their authors could hide all others otherwise.
fn order(state: &VariantState) -> u8 {
    match (has_problem(state), state.is_allowed) {
        (true, true) => 0,
        (false, _) => 1,
        (true, false) => 2,
    }
}

fn has_problem(state: &VariantState) -> bool {
    state.problem.is_some()
}

fn entry(state: &VariantState) -> VariantEntry {
    VariantEntry {
        service: state.service.clone(),
        variant: state.variant.clone(),
        host: state.host.clone(),
        source: state.source.to_string(),
        state: state.phase,
        ready_endpoints: state.ready_endpoints,
        expires_at: state.expires_at.map(|end| end.to_string()),
        problem: state.problem.clone(),
    }
}

/// A condition that may be new.
struct NewCondition {
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
}

impl NewCondition {
    /// The time of the last transition stays while the status does.
    fn into_condition(self, plan: &Plan, now: Timestamp) -> Condition {
        let status = if self.is_true { "True" } else { "False" };
        let before = plan.status.conditions.iter().find(|one| one.type_ == self.kind && one.status == status);
        let whole_seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Condition {
            last_transition_time: before.map_or(Time(whole_seconds), |before| before.last_transition_time.clone()),
            message: self.message,
            observed_generation: Some(plan.generation),
            reason: self.reason.to_owned(),
            status: status.to_owned(),
            type_: self.kind.to_owned(),
        }
    }
}

fn accepted(outcome: &PlanOutcome) -> NewCondition {
    if outcome.faults.is_empty() {
        return NewCondition {
            kind: "Accepted",
            is_true: true,
            reason: "Valid",
            message: "the plan is in force".into(),
        };
    }
    let consequence = if outcome.wanted.is_some() {
        "the last valid plan stays in force"
    } else {
        "nothing is changed until the plan is valid"
    };
    let message = format!("{consequence}: {}", list(&outcome.faults));
    NewCondition { kind: "Accepted", is_true: false, reason: "Invalid", message }
}

fn in_cluster(outcome: &PlanOutcome, applied: &Applied) -> NewCondition {
    let (is_true, reason, message) = if outcome.wanted.is_none() {
        (false, "Invalid", "the plan has never been valid while this controller ran".to_owned())
    } else if !applied.failures.is_empty() {
        (false, "Failed", list(&applied.failures))
    } else if applied.waiting > 0 {
        (false, "Waiting", format!("{} objects wait until the proxies have earlier changes", applied.waiting))
    } else {
        (true, "UpToDate", "all objects of the plan are in the cluster".to_owned())
    };
    NewCondition { kind: "Applied", is_true, reason, message }
}

/// Only if there is something to warn of.
fn warned(outcome: &PlanOutcome, applied: &Applied) -> Option<NewCondition> {
    let reason = if outcome.warnings.is_empty() { "ChangedByOthers" } else { "BaseInForce" };
    let warnings = [&*outcome.warnings, &applied.additions].concat();
    let message = list(&warnings);
    (!warnings.is_empty()).then_some(NewCondition { kind: "Effective", is_true: false, reason, message })
}

fn list(texts: &[String]) -> String {
    let mut shown = texts.iter().take(MAX_MESSAGES).cloned().collect::<Vec<_>>().join("; ");
    if texts.len() > MAX_MESSAGES {
        shown = format!("{shown}; and {} more", texts.len() - MAX_MESSAGES);
    }
    // Kubernetes' limit for the message of a condition is 32,768 characters.
    shown.chars().take(MAX_MESSAGE_CHARS).collect()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The variants that a plan's status lists: an object of the API has at most 1.5 MB.
pub(crate) const MAX_LISTED: usize = 256;
const MAX_MESSAGES: usize = 10;
const MAX_MESSAGE_CHARS: usize = 8_192;
