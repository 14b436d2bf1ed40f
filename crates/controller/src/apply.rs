//! Writes the difference between what should be in the cluster and what is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use routing_plan::{
    diagnostic::{Document, FieldPath, Location},
    diff::{Diff, diff},
    manifests::Manifest,
    resources::{PLAN_LABEL, Resource},
};
use serde_json::Value;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    NAME,
    kinds::{Kind, WRITTEN},
    metrics::Metrics,
    observed::{OWNER_LABEL, ObjectName, Observed},
    reconcile::APPLIED_ANNOTATION,
    routes::{destinations, matched_headers},
    watch::Shared,
};

/// An object of a kind that plans become.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectId {
    kind: Kind,
    name: ObjectName,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.kind, self.name)
    }
}

/// What a plan wants that the cluster does not have.
pub(crate) struct Difference {
    /// In the order to write it.
    steps: Vec<Step>,
    /// For people.
    pub(crate) diff: Diff,
    /// Objects that the plan wants to write, but that are not its own.
    pub(crate) foreign: Vec<String>,
    /// Fields that others have added to objects of the plan.
    additions: Vec<String>,
    /// Routes that get a new destination, whose endpoints istiod may not know yet.
    arrivals: HashSet<ObjectId>,
}

enum Step {
    Apply(ObjectId, Value, &'static str),
    Delete(ObjectId, &'static str),
    /// Until every proxy has what was done so far.
    Wait,
}

/// Compares what a plan wants with what it owns in the cluster.
pub(crate) fn difference(plan: &ObjectName, wanted: &[Arc<Resource>], observed: &Observed) -> Difference {
    let mut changes = Changes::default();
    let (mut foreign, mut additions) = (Vec::new(), Vec::new());
    let mut kept = BTreeSet::new();
    for resource in wanted {
        let Some(id) = id_of(resource) else { continue };
        match observed.resources.get(&id.kind).and_then(|objects| objects.get(&id.name)) {
            Some(live) if live.plan.as_ref() != Some(plan) => foreign.push(format!(
                "{id} exists and is not the plan's: delete it, or hand it over with the labels \
                 `{OWNER_LABEL}={}` and `{PLAN_LABEL}={}`",
                plan.namespace, plan.name
            )),
            Some(live) if is_current(&resource.value, &live.value) => {
                // Seldom: the path costs more than the question.
                let is_more = !contains(&resource.value["spec"], &live.value["spec"]);
                let added = is_more.then(|| added_field(&live.value, &resource.value, &FieldPath::default())).flatten();
                additions
                    .extend(added.map(|path| format!("{id}: somebody added `{path}`, which the plan does not have")));
            }
            live => changes.apply(&id, resource, live.map(|live| &live.value)),
        }
        kept.insert(id);
    }
    for (kind, objects) in &observed.resources {
        for (name, object) in objects.iter().filter(|(_, object)| object.plan.as_ref() == Some(plan)) {
            let id = ObjectId { kind: *kind, name: name.clone() };
            if !kept.contains(&id) {
                changes.delete(id, &object.value);
            }
        }
    }
    Difference { foreign, additions, ..changes.into_difference() }
}

/// What has to be written, before it is in order.
#[derive(Default)]
struct Changes {
    old: Vec<Manifest>,
    new: Vec<Manifest>,
    /// Routes that match on no header on which they do not match today. The filter strips their headers already, so they wait
    /// for nothing.
    independent: Vec<Manifest>,
    arrivals: HashSet<ObjectId>,
    values: BTreeMap<String, (ObjectId, Value)>,
}

impl Changes {
    fn apply(&mut self, id: &ObjectId, resource: &Resource, live: Option<&Value>) {
        let manifest = Manifest::from(resource.clone());
        self.values.insert(manifest.id(), (id.clone(), resource.value.clone()));
        if live.is_some_and(|live| !destinations(&resource.value).is_subset(&destinations(live))) {
            self.arrivals.insert(id.clone());
        }
        let headers = matched_headers(&resource.value);
        if !headers.is_empty() && live.is_some_and(|live| headers.is_subset(&matched_headers(live))) {
            self.independent.push(manifest.clone());
        } else {
            self.new.push(manifest);
        }
        self.old.extend(live.and_then(manifest_of));
    }

    fn delete(&mut self, id: ObjectId, live: &Value) {
        if let Some(manifest) = manifest_of(live) {
            self.values.insert(manifest.id(), (id, Value::Null));
            self.old.push(manifest);
        }
    }

    fn into_difference(self) -> Difference {
        let Self { old, new, independent, arrivals, mut values } = self;
        let of_independent: HashSet<_> = independent.iter().map(Manifest::id).collect();
        let rest: Vec<_> = old.iter().filter(|one| !of_independent.contains(&one.id())).cloned().collect();
        let steps = diff(&[], &independent).steps.into_iter().chain(diff(&rest, &new).steps);
        let steps = steps.filter_map(|step| match step.verb {
            "wait" => Some(Step::Wait),
            verb => values.remove(&step.resource).map(|(id, value)| match verb {
                "delete" => Step::Delete(id, step.why),
                _ => Step::Apply(id, value, step.why),
            }),
        });
        let steps = steps.collect();
        let all: Vec<_> = new.into_iter().chain(independent).collect();
        Difference { steps, diff: diff(&old, &all), foreign: Vec::new(), additions: Vec::new(), arrivals }
    }
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many objects it changes.
    pub(crate) fn len(&self) -> usize {
        self.steps.iter().filter(|step| !matches!(step, Step::Wait)).count()
    }
}

fn id_of(resource: &Resource) -> Option<ObjectId> {
    let kind = WRITTEN.into_iter().find(|kind| kind.kind == resource.kind)?;
    Some(ObjectId { kind, name: ObjectName::new(&resource.namespace, &resource.name) })
}

fn manifest_of(value: &Value) -> Option<Manifest> {
    Manifest::new(value.clone(), Location::root(Document::Manifest(0)))
}

/// Whether a live object is what was wanted when it was applied, and nobody has changed that since.
fn is_current(wanted: &Value, live: &Value) -> bool {
    let hash = |value: &Value| value["metadata"]["annotations"][APPLIED_ANNOTATION].clone();
    let without_version = wanted.as_object().into_iter().flatten().filter(|(field, _)| *field != "apiVersion");
    hash(wanted) == hash(live) && without_version.into_iter().all(|(field, value)| contains(&live[field], value))
}

/// Whether a value has everything that another one has. The API server adds defaults, and others may add fields.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| live.get(field).is_some_and(|live| contains(live, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// The first field of the `spec` that nobody wanted. Routes of the Gateway API have many, which the API server adds.
fn added_field(live: &Value, wanted: &Value, path: &FieldPath) -> Option<FieldPath> {
    if wanted["kind"] == "HTTPRoute" {
        return None;
    }
    let is_root = path.segments().is_empty();
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            live.iter().filter(|(field, _)| !is_root || *field == "spec").find_map(|(field, value)| {
                let path = path.clone().field(field.clone());
                match wanted.get(field) {
                    Some(wanted) => added_field(value, wanted, &path),
                    None => Some(path),
                }
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            let items = live.iter().zip(wanted).enumerate();
            items.into_iter().find_map(|(index, (live, wanted))| added_field(live, wanted, &path.clone().index(index)))
        }
        _ => None,
    }
}

/// Writes, and remembers what has to wait.
pub(crate) struct Applier {
    client: Client,
    metrics: Metrics,
    /// How long proxies take to have a change.
    settle: Duration,
    /// Objects that must not change before proxies have an earlier change.
    held: HashMap<ObjectId, Instant>,
    /// Routes with a new destination, and when they are written.
    arriving: HashMap<ObjectId, Instant>,
    failed: HashMap<ObjectId, Failure>,
}

/// An object that could not be written.
struct Failure {
    message: String,
    attempts: u32,
    next: Instant,
}

/// What became of a plan's difference.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Objects that could not be written, and why.
    pub(crate) failures: Vec<String>,
    /// Fields that others have added, which may change what the objects do.
    pub(crate) additions: Vec<String>,
    /// How many objects wait for proxies to have an earlier change.
    pub(crate) waiting: usize,
}

impl Applied {
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty() && self.waiting == 0
    }
}

impl Applier {
    pub(crate) fn new(client: Client, metrics: Metrics, settle: Duration) -> Self {
        Self { client, metrics, settle, held: HashMap::new(), arriving: HashMap::new(), failed: HashMap::new() }
    }

    /// When something that waits may be written, or is tried again.
    pub(crate) fn next(&self) -> Option<Instant> {
        let waiting = self.held.values().chain(self.arriving.values()).copied();
        waiting.chain(self.failed.values().map(|failure| failure.next)).min()
    }

    /// Writes as much of a difference as may be written now.
    pub(crate) async fn apply(&mut self, difference: Difference, shared: &Shared) -> Applied {
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
        let Difference { steps, foreign, additions, arrivals, .. } = difference;
        let mut applied = Applied { failures: foreign, additions, waiting: 0 };
        let mut steps = steps.into_iter().peekable();
        let mut blocked = false;
        while let Some(step) = steps.next() {
            let why = match &step {
                Step::Wait => {
                    blocked = true;
                    continue;
                }
                Step::Apply(_, _, why) | Step::Delete(_, why) => *why,
            };
            let mut group = vec![step];
            while let Some(Step::Apply(_, _, of) | Step::Delete(_, of)) = steps.peek()
                && *of == why
            {
                group.extend(steps.next());
            }
            if blocked {
                self.hold(&group, now + self.settle);
                applied.waiting += group.len();
                continue;
            }
            group.retain(|step| !step.id().is_some_and(|id| arrivals.contains(id) && self.arrives_later(id, now)));
            let (ready, waiting): (Vec<_>, Vec<_>) = group.into_iter().partition(|step| self.may(step, now));
            for step in &waiting {
                if let Some(failure) = step.id().and_then(|id| self.failed.get(id)) {
                    applied.failures.push(failure.message.clone());
                } else {
                    applied.waiting += 1;
                }
            }
            self.write(ready, shared, &mut applied).await;
        }
        applied
    }

    fn hold(&mut self, steps: &[Step], until: Instant) {
        for id in steps.iter().filter_map(Step::id) {
            self.held.entry(id.clone()).or_insert(until);
        }
    }

    /// Istiod hears of a new endpoint and of its route separately. The endpoint gets a head start, so that no proxy has the
    /// route first.
    fn arrives_later(&mut self, id: &ObjectId, now: Instant) -> bool {
        *self.arriving.entry(id.clone()).or_insert(now + HEAD_START) > now
    }

    fn may(&self, step: &Step, now: Instant) -> bool {
        let Some(id) = step.id() else { return true };
        !self.held.contains_key(id) && self.failed.get(id).is_none_or(|failure| failure.next <= now)
    }

    /// Writes objects side by side.
    async fn write(&mut self, steps: Vec<Step>, shared: &Shared, applied: &mut Applied) {
        let client = &self.client;
        let mut results = stream::iter(steps)
            .map(|step| async move {
                let result = timeout(WRITE_TIMEOUT, write(client, &step, shared)).await;
                let result = result.unwrap_or(Err(WriteError::NoAnswer));
                (step, result)
            })
            .buffer_unordered(CONCURRENT_WRITES);
        while let Some((step, result)) = results.next().await {
            let (Some(id), verb) = (step.id(), step.verb()) else { continue };
            self.metrics.wrote(id.kind.kind, verb, result.is_ok());
            match result {
                Ok(()) => {
                    info!(verb, object = %id, "written");
                    self.failed.remove(id);
                    self.arriving.remove(id);
                }
                Err(error) => {
                    let message = format!("cannot {verb} {id}: {error}");
                    warn!(verb, object = %id, %error, "failed");
                    let attempts = self.failed.get(id).map_or(0, |failure| failure.attempts);
                    let pause = FIRST_RETRY * 2u32.saturating_pow(attempts.min(MAX_DOUBLINGS));
                    let failure =
                        Failure { message: message.clone(), attempts: attempts + 1, next: Instant::now() + pause };
                    self.failed.insert(id.clone(), failure);
                    applied.failures.push(message);
                }
            }
        }
    }

    /// Forgets everything that waits or failed: another replica writes.
    pub(crate) fn forget_all(&mut self) {
        self.held.clear();
        self.arriving.clear();
        self.failed.clear();
    }

    /// Forgets what was due before a round and is still here after it: nobody wants it written any more.
    pub(crate) fn forget_until(&mut self, round: Instant) {
        self.held.retain(|_, until| *until > round);
        self.arriving.retain(|_, due| *due > round);
        self.failed.retain(|_, failure| failure.next > round);
    }
}

impl Step {
    fn id(&self) -> Option<&ObjectId> {
        match self {
            Self::Apply(id, ..) | Self::Delete(id, _) => Some(id),
            Self::Wait => None,
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Apply(..) => "apply",
            Self::Delete(..) => "delete",
            Self::Wait => "wait",
        }
    }
}

/// Writes one object, and notes the result as read, so that it is not written again before the watch tells.
async fn write(client: &Client, step: &Step, shared: &Shared) -> Result<(), WriteError> {
    let Some(id) = step.id() else { return Ok(()) };
    let resource = shared.served(id.kind).ok_or(WriteError::NoSuchKind(id.kind.kind))?;
    match step {
        Step::Wait => {}
        Step::Apply(_, value, _) => {
            // The version that the plan's Istio surely has; others are the same objects.
            let mut resource = resource;
            let version = value["apiVersion"].as_str().unwrap_or_default();
            resource.version = version.rsplit('/').next().unwrap_or_default().to_owned();
            version.clone_into(&mut resource.api_version);
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.name.namespace, &resource);
            let params = PatchParams::apply(NAME).force();
            let written = api.patch(&id.name.name, &params, &Patch::Apply(value)).await?;
            shared.observed().resources.entry(id.kind).or_default().insert(id.name.clone(), written.into());
        }
        Step::Delete(..) => {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.name.namespace, &resource);
            match api.delete(&id.name.name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => {
                    result?;
                }
            }
            shared.observed().resources.entry(id.kind).or_default().remove(&id.name);
        }
    }
    Ok(())
}

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("the API server has no {0}: install its definition")]
    NoSuchKind(&'static str),
    #[error("the API server did not answer within {} s", WRITE_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// Several times what istiod needs to hear of an endpoint.
const HEAD_START: Duration = Duration::from_millis(300);
const CONCURRENT_WRITES: usize = 16;
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause is a minute.
const MAX_DOUBLINGS: u32 = 6;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observed;

    fn plan() -> ObjectName {
        ObjectName::new("istio-system", "qa")
    }

    /// What a plan wants, with a hash that depends on the `spec` alone.
    fn wanted(kind: &str, name: &str, spec: &Value) -> Resource {
        let value = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": {OWNER_LABEL: "istio-system", PLAN_LABEL: "qa"},
                "annotations": {APPLIED_ANNOTATION: spec.to_string()},
            },
            "spec": spec,
        });
        let origin = Location::root(Document::Plan);
        Resource { kind: kind.into(), namespace: "shop".into(), name: name.into(), value, origin }
    }

    fn route(headers: &[&str]) -> Value {
        let rules = headers.iter().map(|header| {
            json!({"match": [{"headers": {*header: {"exact": "PR-1"}}}], "route": [{"destination": {"host": "pr-1"}}]})
        });
        json!({"hosts": ["cart"], "http": rules.collect::<Value>()})
    }

    /// A cluster that has these objects.
    fn observed(objects: &[&Resource]) -> Observed {
        let mut observed = Observed::default();
        for one in objects {
            let id = id_of(one).unwrap();
            let object: DynamicObject = serde_json::from_value(one.value.clone()).unwrap();
            observed.resources.entry(id.kind).or_default().insert(id.name, observed::Resource::from(object));
        }
        observed
    }

    /// The steps as text.
    fn steps(wanted: &[&Resource], live: &[&Resource]) -> Vec<String> {
        let wanted: Vec<_> = wanted.iter().map(|one| Arc::new((*one).clone())).collect();
        let steps = difference(&plan(), &wanted, &observed(live)).steps;
        steps
            .iter()
            .map(|step| format!("{} {}", step.verb(), step.id().map(|id| &*id.name.name).unwrap_or_default()))
            .collect()
    }

    #[test]
    fn what_is_current_is_not_written() {
        let route = wanted("VirtualService", "cart", &route(&["cart"]));
        assert_eq!(steps(&[&route], &[&route]), Vec::<String>::new());
        let mut with_defaults = route.clone();
        with_defaults.value["spec"]["more"] = json!("a default");
        with_defaults.value["apiVersion"] = json!("networking.istio.io/v1beta1");
        assert_eq!(steps(&[&route], &[&with_defaults]), Vec::<String>::new());
        let mut edited = route.clone();
        edited.value["spec"]["http"][0]["route"] = json!([]);
        assert_eq!(steps(&[&route], &[&edited]), ["apply cart"]);
        // A field that is no longer wanted is seen by the hash alone.
        let more = wanted(
            "VirtualService",
            "cart",
            &json!({"hosts": ["cart"], "http": route.value["spec"]["http"], "old": 1}),
        );
        assert_eq!(steps(&[&route], &[&more]), ["apply cart"]);
    }

    #[test]
    fn a_route_waits_for_the_filter_only_if_it_matches_on_a_new_header() {
        let filter = wanted("EnvoyFilter", "filter", &json!({"configPatches": []}));
        let cart = wanted("VirtualService", "cart", &route(&["cart"]));
        let stock = wanted("VirtualService", "stock", &route(&["stock"]));
        assert_eq!(steps(&[&filter, &cart], &[]), ["apply filter", "wait ", "apply cart"]);
        let mut old = cart.clone();
        old.value["spec"] = route(&["cart", "cart"]);
        let all = [&filter, &cart, &stock];
        assert_eq!(steps(&all, &[&old]), ["apply cart", "apply filter", "wait ", "apply stock"]);
        let renamed = wanted("VirtualService", "cart", &route(&["basket"]));
        assert_eq!(steps(&[&filter, &renamed], &[&cart]), ["apply filter", "wait ", "apply cart"]);
    }

    #[test]
    fn what_is_no_longer_wanted_goes_in_order() {
        let filter = wanted("EnvoyFilter", "filter", &json!({"configPatches": []}));
        let cart = wanted("VirtualService", "cart", &route(&["cart"]));
        assert_eq!(steps(&[], &[&filter, &cart]), ["delete cart", "wait ", "delete filter"]);
    }

    #[test]
    fn the_objects_of_others_are_left_alone() {
        let cart = wanted("VirtualService", "cart", &route(&["cart"]));
        for labels in [json!({}), json!({OWNER_LABEL: "elsewhere", PLAN_LABEL: "qa"}), json!({PLAN_LABEL: "qa"})] {
            let mut other = cart.clone();
            other.value["metadata"]["labels"] = labels;
            let difference = difference(&plan(), &[Arc::new(cart.clone())], &observed(&[&other]));
            assert!(difference.is_empty());
            let told = "VirtualService shop/cart exists and is not the plan's: delete it, or hand it over with the labels \
                        `routing-claims.dev/plan-namespace=istio-system` and `routing-claims.dev/plan=qa`";
            assert_eq!(difference.foreign, [told]);
            assert!(steps(&[], &[&other]).is_empty(), "and not deleted");
        }
    }

    #[test]
    fn what_others_added_is_named() {
        let cart = wanted("VirtualService", "cart", &route(&["cart"]));
        let mut live = cart.clone();
        live.value["spec"]["http"][0]["fault"] = json!({});
        let difference = difference(&plan(), &[Arc::new(cart)], &observed(&[&live]));
        assert!(difference.is_empty());
        let told = "VirtualService shop/cart: somebody added `spec.http[0].fault`, which the plan does not have";
        assert_eq!(difference.additions, [told]);
    }
}
