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
    observed::{ObjectName, Observed},
    reconcile::{PlanOutcome, Reconciled, Source, VariantState},
};

/// Publishes what is new, once.
pub(crate) struct Events {
    recorder: Recorder,
    /// What was published last.
    last: Option<Reconciled>,
    budgets: HashMap<String, Budget>,
}

/// What an event says about a variant: what becomes of it, and why.
type Told<'r> = (VariantPhase, Option<&'r str>);

/// An event to publish.
pub(crate) struct News {
    regarding: ObjectReference,
    is_warning: bool,
    reason: &'static str,
    note: String,
}

impl Events {
    pub(crate) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: NAME.into(), instance: Some(instance) };
        Self { recorder: Recorder::new(client, reporter), last: None, budgets: HashMap::new() }
    }

    /// What differs from the last time, as far as the budgets go. The first time, what the status of a plan already says is not
    /// news, nor is what it has no room for.
    pub(crate) fn news(&mut self, reconciled: &Reconciled, observed: &Observed) -> Vec<News> {
        let last: Option<HashMap<_, _>> = self
            .last
            .as_ref()
            .map(|last| states(last).map(|(plan, state)| (subject(plan, state), told(state))).collect());
        let mut news = Vec::new();
        for (plan, state) in states(reconciled) {
            let (before, is_known) = if let Some(last) = &last {
                (last.get(&subject(plan, state)).copied(), false)
            } else {
                let before = in_status(plan, state, observed);
                (before, before.is_none() && has_been_told(plan, observed))
            };
            if !is_known && before != Some(told(state)) {
                news.extend(of_variant(plan, state, before, observed));
            }
        }
        for (name, outcome) in &reconciled.plans {
            let before = match &self.last {
                Some(last) => last.plans.get(name).map(|last| last.faults == outcome.faults),
                None => accepted(name, observed).map(|is_accepted| is_accepted == outcome.faults.is_empty()),
            };
            if before != Some(true) {
                news.extend(of_plan(name, outcome, observed));
            }
        }
        news.retain(|one| {
            let namespace = one.regarding.namespace.clone().unwrap_or_default();
            self.budgets.entry(namespace).or_insert_with(Budget::full).take()
        });
        news
    }

    /// Notes what has been published.
    pub(crate) fn remember(&mut self, reconciled: Reconciled) {
        self.last = Some(reconciled);
    }

    pub(crate) async fn publish(&self, news: Vec<News>) {
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

/// All variants, with the plan of each; strays have none.
fn states(reconciled: &Reconciled) -> impl Iterator<Item = (Option<&ObjectName>, &VariantState)> {
    let of_plans = reconciled.plans.iter();
    let of_plans = of_plans.flat_map(|(name, outcome)| outcome.variants.iter().map(move |state| (Some(name), state)));
    of_plans.chain(reconciled.strays.iter().map(|state| (None, state)))
}

/// What tells a variant from others.
fn subject<'r>(
    plan: Option<&'r ObjectName>,
    state: &'r VariantState,
) -> (Option<&'r ObjectName>, &'r str, &'r str, &'r Source) {
    (plan, &state.service, &state.variant, &state.source)
}

fn told(state: &VariantState) -> Told<'_> {
    (state.phase, state.problem.as_deref())
}

fn of_variant(
    plan: Option<&ObjectName>,
    state: &VariantState,
    before: Option<Told<'_>>,
    observed: &Observed,
) -> Option<News> {
    let regarding = regarding(&state.source, observed)?;
    let version = format!("{}: {}", state.service, state.variant);
    let of_plan = plan.map(|plan| format!(" (plan {plan})")).unwrap_or_default();
    let problem = || state.problem.clone().unwrap_or_default();
    let (is_warning, reason, note) = match state.phase {
        VariantPhase::Routed if before.is_some_and(|(phase, _)| phase == VariantPhase::Routed) => {
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

fn of_plan(name: &ObjectName, outcome: &PlanOutcome, observed: &Observed) -> Option<News> {
    let regarding = reference(PLAN, API_VERSION, name, &observed.plans.get(name)?.identity.uid);
    let (is_warning, reason, note) = if outcome.faults.is_empty() {
        (false, "Accepted", "the plan is in force".to_owned())
    } else {
        (true, "Invalid", outcome.faults.join("; "))
    };
    Some(News { regarding, is_warning, reason, note })
}

/// The object that a variant comes from, if it still exists.
fn regarding(source: &Source, observed: &Observed) -> Option<ObjectReference> {
    Some(match source {
        Source::Plan => return None,
        Source::Variant(name) => reference(VARIANT, API_VERSION, name, &observed.variants.get(name)?.identity.uid),
        Source::Service(name) => reference(SERVICE, "v1", name, &observed.services.get(name)?.identity.uid),
    })
}

/// Whether an earlier run has decided about the plan; about any, for strays.
fn has_been_told(plan: Option<&ObjectName>, observed: &Observed) -> bool {
    let mut plans = observed.plans.iter().filter(|(name, _)| plan.is_none_or(|plan| plan == *name));
    plans.any(|(_, plan)| plan.status.counts.is_some())
}

/// What the plan's status says about a variant.
fn in_status<'o>(plan: Option<&ObjectName>, state: &VariantState, observed: &'o Observed) -> Option<Told<'o>> {
    let source = state.source.to_string();
    let entries = &observed.plans.get(plan?)?.status.variants;
    let entry = entries
        .iter()
        .find(|entry| (&entry.service, &entry.variant, &entry.source) == (&state.service, &state.variant, &source))?;
    Some((entry.state, entry.problem.as_deref()))
}

/// Whether the plan's status says that it is accepted.
fn accepted(plan: &ObjectName, observed: &Observed) -> Option<bool> {
    let conditions = &observed.plans.get(plan)?.status.conditions;
    conditions.iter().find(|one| one.type_ == "Accepted").map(|one| one.status == "True")
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
