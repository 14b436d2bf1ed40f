//! Delays the deletion of a variant's Service until no proxy routes to it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::{info, warn};

use crate::{
    NAME,
    objects::VariantPhase,
    observed::{Collection, FINALIZER, ObjectName, Observed},
    reconcile::{Reconciled, Source},
    routes::destinations,
};

/// Adds and removes the finalizers of Services.
pub(crate) struct Drain {
    client: Client,
    /// How long a Service stays after its route is gone; zero: finalizers are only removed.
    delay: Duration,
    /// Since when the routes of a Service that is being deleted are gone, by its UID.
    gone: HashMap<String, Instant>,
}

/// A change of a Service's finalizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Add(ObjectName, String),
    Remove(ObjectName, String),
}

impl Drain {
    pub(crate) fn new(client: Client, delay: Duration) -> Self {
        Self { client, delay, gone: HashMap::new() }
    }

    /// The Services to hold, before their routes are written.
    pub(crate) fn services_to_hold(&self, observed: &Observed, reconciled: &Reconciled) -> Vec<Change> {
        if self.delay.is_zero() {
            return Vec::new();
        }
        let routed = variants(reconciled).filter(|(_, phase)| *phase == VariantPhase::Routed);
        let services = routed.filter_map(|(name, _)| Some((name, observed.services.get(name)?)));
        let without = services.filter(|(_, service)| !service.has_finalizer && !service.identity.is_deleting);
        without.map(|(name, service)| Change::Add(name.clone(), service.identity.uid.clone())).collect()
    }

    /// The Services to let go: those that no route has had for a while, and those that are no longer variants.
    pub(crate) fn services_to_release(
        &mut self,
        observed: &Observed,
        reconciled: &Reconciled,
        now: Instant,
    ) -> Vec<Change> {
        let held: BTreeMap<_, _> = observed.services.iter().filter(|(_, service)| service.has_finalizer).collect();
        let uids: HashSet<_> = held.values().map(|service| &service.identity.uid).collect();
        self.gone.retain(|uid, _| uids.contains(uid));
        let wanted: HashSet<_> = variants(reconciled)
            .filter(|(_, phase)| !matches!(phase, VariantPhase::Refused | VariantPhase::Conflict))
            .map(|(name, _)| name)
            .collect();
        let mut changes = Vec::new();
        for (name, service) in held {
            let uid = &service.identity.uid;
            let may_go = if self.delay.is_zero() {
                true
            } else if !service.identity.is_deleting {
                !wanted.contains(name)
            } else if is_routed(name, observed) {
                false
            } else {
                now.duration_since(*self.gone.entry(uid.clone()).or_insert(now)) >= self.delay
            };
            if may_go {
                changes.push(Change::Remove(name.clone(), uid.clone()));
            }
        }
        changes
    }

    /// When the next Service may go.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.gone.values().map(|since| *since + self.delay).min()
    }

    /// Returns whether everything was written.
    pub(crate) async fn write(&self, changes: Vec<Change>) -> bool {
        let writes = stream::iter(changes).map(|change| self.write_one(change)).buffer_unordered(CONCURRENT_WRITES);
        writes.fold(true, async |all, is_written| all && is_written).await
    }

    async fn write_one(&self, change: Change) -> bool {
        let (verb, name, uid, finalizers) = match &change {
            Change::Add(name, uid) => ("hold", name, uid, &[FINALIZER][..]),
            Change::Remove(name, uid) => ("release", name, uid, &[][..]),
        };
        let services: Api<Service> = Api::namespaced(self.client.clone(), &name.namespace);
        // The UID keeps a Service that is gone from being created again.
        let patch = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name.name, "uid": uid, "finalizers": finalizers},
        });
        match services.patch(&name.name, &PatchParams::apply(NAME).force(), &Patch::Apply(&patch)).await {
            Ok(_) => info!(verb, service = %name, "finalizer written"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                warn!(verb, service = %name, %error, "cannot write the finalizer");
                return false;
            }
        }
        true
    }
}

/// Whether a route of the controller in the cluster goes to the Service.
fn is_routed(service: &ObjectName, observed: &Observed) -> bool {
    let host = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
    let all = observed.resources.values().flat_map(Collection::iter);
    all.filter(|(_, object)| object.plan.is_some()).any(|(_, object)| destinations(&object.value).contains(&host))
}

/// The variants that are Services.
fn variants(reconciled: &Reconciled) -> impl Iterator<Item = (&ObjectName, VariantPhase)> {
    let all = reconciled.plans.values().flat_map(|outcome| &outcome.variants);
    all.filter_map(|state| match &state.source {
        Source::Service(name) => Some((name, state.phase)),
        _ => None,
    })
}

const CONCURRENT_WRITES: usize = 16;
