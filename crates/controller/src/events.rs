//! Tells people what became of their variants and plans, as Events of Kubernetes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use crate::{
    NAME,
    kinds::{Kind, PLAN, SERVICE, VARIANT},
    objects::VariantPhase,
    observed::{ObjectName, Observed, Plan},
    reconcile::{PlanOutcome, Reconciled, Source, VariantState},
};

/// Publishes what is new, once.
pub(crate) struct Events {
    recorder: Recorder,
    /// What was said last about each variant, by plan, service, variant and source. The plan is empty for strays.
    told: HashMap<Subject, Told>,
    /// Whether each plan was accepted, with the message.
    plans: HashMap<ObjectName, (bool, String)>,
    is_first: bool,
    budgets: HashMap<String, Budget>,
}

type Subject = (Option<ObjectName>, String, String, Source);

#[derive(Clone, PartialEq, Eq)]
struct Told {
    phase: VariantPhase,
    problem: Option<String>,
}

/// An event to publish.
struct News {
    regarding: ObjectReference,
    is_warning: bool,
    reason: &'static str,
    note: String,
}

impl Events {
    pub(crate) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: NAME.into(), instance: Some(instance) };
        Self {
            recorder: Recorder::new(client, reporter),
            told: HashMap::new(),
            plans: HashMap::new(),
            is_first: true,
            budgets: HashMap::new(),
        }
    }

    /// Publishes what differs from the last time. The first time, what the status of a plan already says is not news, nor
    /// is what it has no room for.
    pub(crate) async fn publish(&mut self, reconciled: &Reconciled, references: &References) {
        let mut news = Vec::new();
        let mut told = HashMap::with_capacity(self.told.len());
        let of_plans = reconciled
            .plans
            .iter()
            .flat_map(|(name, outcome)| outcome.variants.iter().map(move |state| (Some(name), state)));
        for (plan, state) in of_plans.chain(reconciled.strays.iter().map(|state| (None, state))) {
            let subject: Subject = (plan.cloned(), state.service.clone(), state.variant.clone(), state.source.clone());
            let now = Told { phase: state.phase, problem: state.problem.clone() };
            let before =
                if self.is_first { references.in_status(plan, state) } else { self.told.get(&subject).cloned() };
            let is_known = self.is_first && before.is_none() && references.has_been_told(plan);
            if !is_known && before.as_ref() != Some(&now) {
                news.extend(of_variant(plan, state, before.as_ref(), references));
            }
            told.insert(subject, now);
        }
        self.told = told;
        for (name, outcome) in &reconciled.plans {
            let now = (outcome.faults.is_empty(), outcome.faults.join("; "));
            let before = self.plans.insert(name.clone(), now.clone());
            let before = before.or_else(|| references.accepted(name).map(|is| (is, now.1.clone())));
            if before.as_ref() != Some(&now) {
                news.extend(of_plan(name, outcome, references));
            }
        }
        self.plans.retain(|name, _| reconciled.plans.contains_key(name));
        self.is_first = false;
        news.retain(|one| {
            let namespace = one.regarding.namespace.clone().unwrap_or_default();
            self.budgets.entry(namespace).or_insert_with(Budget::full).take()
        });
        stream::iter(news).for_each_concurrent(CONCURRENT, |one| self.send(one)).await;
    }

    async fn send(&self, news: News) {
        let event = Event {
            type_: if news.is_warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.to_owned(),
            note: Some(news.note.chars().take(MAX_NOTE_CHARS).collect()),
            action: "Route".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &news.regarding).await {
            warn!(%error, reason = news.reason, "cannot publish an event");
        }
    }
}

fn of_variant(
    plan: Option<&ObjectName>,
    state: &VariantState,
    before: Option<&Told>,
    references: &References,
) -> Option<News> {
    let regarding = references.of(&state.source)?;
    let version = format!("{}: {}", state.service, state.variant);
    let of_plan = plan.map(|plan| format!(" (plan {plan})")).unwrap_or_default();
    let problem = || state.problem.clone().unwrap_or_default();
    let (is_warning, reason, note) = match state.phase {
        VariantPhase::Routed if before.is_some_and(|before| before.phase == VariantPhase::Routed) => {
            let problem = state.problem.clone()?;
            (true, "Conflict", format!("`{version}`: {problem}{of_plan}"))
        }
        VariantPhase::Routed => {
            let host = state.host.clone().unwrap_or_default();
            (false, "Routed", format!("tokens with `{version}` reach {host}{of_plan}"))
        }
        VariantPhase::NotReady => {
            let why = state.problem.clone().unwrap_or_else(|| "no endpoint is ready".into());
            (false, "NotReady", format!("main answers tokens with `{version}`: {why}{of_plan}"))
        }
        VariantPhase::Expired => {
            let end = state.expires_at.map(|end| end.to_string()).unwrap_or_default();
            (false, "Expired", format!("main answers tokens with `{version}`: it expired at {end}{of_plan}"))
        }
        VariantPhase::Deleting => {
            (false, "Deleting", format!("main answers tokens with `{version}`: it is being deleted{of_plan}"))
        }
        VariantPhase::Conflict => (true, "Conflict", format!("`{version}` is not routed here: {}{of_plan}", problem())),
        VariantPhase::Refused => (true, "Refused", format!("`{version}` is not routed: {}{of_plan}", problem())),
    };
    Some(News { regarding, is_warning, reason, note })
}

fn of_plan(name: &ObjectName, outcome: &PlanOutcome, references: &References) -> Option<News> {
    let regarding = references.plans.get(name)?.reference.clone();
    let (is_warning, reason, note) = if outcome.faults.is_empty() {
        (false, "Accepted", "the plan is in force".to_owned())
    } else {
        (true, "Invalid", outcome.faults.join("; "))
    };
    Some(News { regarding, is_warning, reason, note })
}

/// The objects that events are about, as they were when it was decided what becomes of them.
pub(crate) struct References {
    objects: HashMap<Source, ObjectReference>,
    plans: HashMap<ObjectName, PlanReference>,
}

struct PlanReference {
    reference: ObjectReference,
    plan: Plan,
}

impl References {
    pub(crate) fn of_observed(observed: &Observed, reconciled: &Reconciled) -> Self {
        let of_plans = reconciled.plans.values().flat_map(|outcome| &outcome.variants);
        let objects = of_plans.chain(&reconciled.strays).filter_map(|state| {
            let reference = match &state.source {
                Source::Plan => return None,
                Source::Variant(name) => {
                    reference(VARIANT, API_VERSION, name, &observed.variants.get(name)?.identity.uid)
                }
                Source::Service(name) => reference(SERVICE, "v1", name, &observed.services.get(name)?.identity.uid),
            };
            Some((state.source.clone(), reference))
        });
        let plans = observed.plans.iter().map(|(name, plan)| {
            let reference = reference(PLAN, API_VERSION, name, &plan.identity.uid);
            (name.clone(), PlanReference { reference, plan: plan.clone() })
        });
        Self { objects: objects.collect(), plans: plans.collect() }
    }

    fn of(&self, source: &Source) -> Option<ObjectReference> {
        self.objects.get(source).cloned()
    }

    /// Whether an earlier run has decided about the plan; about any, for strays.
    fn has_been_told(&self, plan: Option<&ObjectName>) -> bool {
        let mut plans = self.plans.iter().filter(|(name, _)| plan.is_none_or(|plan| plan == *name));
        plans.any(|(_, one)| one.plan.status.counts.is_some())
    }

    /// Whether the plan's status says that it is accepted.
    fn accepted(&self, plan: &ObjectName) -> Option<bool> {
        let conditions = &self.plans.get(plan)?.plan.status.conditions;
        conditions.iter().find(|one| one.type_ == "Accepted").map(|one| one.status == "True")
    }

    /// What the plan's status says about a variant.
    fn in_status(&self, plan: Option<&ObjectName>, state: &VariantState) -> Option<Told> {
        let source = state.source.to_string();
        let entries = &self.plans.get(plan?)?.plan.status.variants;
        let entry = entries.iter().find(|entry| {
            (&entry.service, &entry.variant, &entry.source) == (&state.service, &state.variant, &source)
        })?;
        Some(Told { phase: entry.state, problem: entry.problem.clone() })
    }
}

fn reference(kind: Kind, api_version: &str, name: &ObjectName, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.kind.to_owned()),
        name: Some(name.name.clone()),
        namespace: Some(name.namespace.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// How many events a namespace may cause: the authors of thousands of Services should not fill the cluster's memory.
struct Budget {
    tokens: f64,
    since: Instant,
}

impl Budget {
    fn full() -> Self {
        Self { tokens: BURST, since: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.since).as_secs_f64() / ONE_EVENT.as_secs_f64();
        self.since = now;
        self.tokens = (self.tokens + earned).min(BURST);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}

const API_VERSION: &str = "routing-claims.dev/v1alpha1";
/// The longest note that Kubernetes takes, in bytes, is 1,024; a character has at most four.
const MAX_NOTE_CHARS: usize = 250;
/// Events that are sent at a time.
const CONCURRENT: usize = 16;
/// Events of a namespace at once.
const BURST: f64 = 50.0;
/// Then one in this time.
const ONE_EVENT: Duration = Duration::from_secs(5);
