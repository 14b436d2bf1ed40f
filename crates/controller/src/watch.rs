//! Keeps what the controller has read up to date: one watch for each kind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::ExponentialBuilder;
use futures_util::{Stream, TryStreamExt as _};
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tracing::{debug, info, warn};

use crate::{
    kinds::{ENDPOINT_SLICE, Kind, PLAN, SERVICE, VARIANT, WORKLOAD_ENTRY, WRITTEN},
    observed::{Collection, ObjectName, Observed},
};

/// What the watches share with the rest.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    observed: Mutex<Observed>,
    kinds: Mutex<BTreeMap<Kind, Served>>,
    /// Something changed that may matter.
    pub(crate) changed: Notify,
}

/// Whether the API server has a kind.
#[derive(Debug, Clone)]
enum Served {
    As(ApiResource),
    Not,
}

impl Shared {
    /// What has been read.
    pub(crate) fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the API server serves a kind, if it does.
    pub(crate) fn served(&self, kind: Kind) -> Option<ApiResource> {
        match self.kinds().get(&kind) {
            Some(Served::As(resource)) => Some(resource.clone()),
            _ => None,
        }
    }

    /// Whether everything that the API server has was read once.
    pub(crate) fn is_complete(&self) -> bool {
        let kinds = self.kinds().clone();
        let is_served = |kind: Kind| matches!(kinds.get(&kind), Some(Served::As(_)));
        let is_known = |kind: Kind| kinds.contains_key(&kind);
        let observed = self.observed();
        let read = |kind: Kind, complete: bool| complete || (is_known(kind) && !is_served(kind));
        let complete = |kind: &Kind| observed.resources.get(kind).is_some_and(Collection::is_complete);
        observed.plans.is_complete()
            && observed.variants.is_complete()
            && observed.services.is_complete()
            && observed.slices.is_complete()
            && read(WORKLOAD_ENTRY, observed.workloads.is_complete())
            && WRITTEN.iter().all(|kind| read(*kind, complete(kind)))
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<Kind, Served>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts all watches. They end when the set is dropped.
pub(crate) fn start(client: &Client, shared: &Arc<Shared>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    let client = || client.clone();
    watches.spawn(typed::<core::Service, _>(client(), Arc::clone(shared), SERVICE, |observed| &mut observed.services));
    watches.spawn(typed::<discovery::EndpointSlice, _>(client(), Arc::clone(shared), ENDPOINT_SLICE, |observed| {
        &mut observed.slices
    }));
    watches.spawn(dynamic(client(), Arc::clone(shared), PLAN, |observed| &mut observed.plans));
    watches.spawn(dynamic(client(), Arc::clone(shared), VARIANT, |observed| &mut observed.variants));
    watches.spawn(dynamic(client(), Arc::clone(shared), WORKLOAD_ENTRY, |observed| &mut observed.workloads));
    for kind in WRITTEN {
        watches.spawn(dynamic(client(), Arc::clone(shared), kind, move |observed| {
            observed.resources.entry(kind).or_default()
        }));
    }
    watches
}

/// Watches a kind that every API server has.
async fn typed<K, T>(
    client: Client,
    shared: Arc<Shared>,
    kind: Kind,
    collection: impl Fn(&mut Observed) -> &mut Collection<T>,
) where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    T: From<K> + PartialEq,
{
    let objects = watcher(Api::<K>::all(client), watcher::Config::default());
    follow(objects, &shared, kind, collection).await;
}

/// Watches a kind that the API server may not have yet.
async fn dynamic<T: From<DynamicObject> + PartialEq>(
    client: Client,
    shared: Arc<Shared>,
    kind: Kind,
    collection: impl Fn(&mut Observed) -> &mut Collection<T>,
) {
    let resource = loop {
        match find(&client, kind).await {
            Ok(Some(resource)) => break resource,
            Ok(None) => {
                if shared.kinds().insert(kind, Served::Not).is_none() {
                    info!(kind = kind.kind, "the API server does not have this kind");
                    shared.changed.notify_one();
                }
            }
            Err(error) => warn!(kind = kind.kind, %error, "cannot ask the API server for its kinds"),
        }
        sleep(LOOK_AGAIN).await;
    };
    shared.kinds().insert(kind, Served::As(resource.clone()));
    let objects = watcher(Api::<DynamicObject>::all_with(client, &resource), watcher::Config::default());
    follow(objects, &shared, kind, collection).await;
}

/// The most stable version of a kind that the API server has. It is not always one that the group prefers: `EnvoyFilter` has no `v1`.
async fn find(client: &Client, kind: Kind) -> Result<Option<ApiResource>, kube::Error> {
    match kube::discovery::group(client, kind.group).await {
        Ok(group) => {
            let mut resources = group.resources_by_stability().into_iter().map(|(resource, _)| resource);
            Ok(resources.find(|resource| resource.kind == kind.kind))
        }
        Err(kube::Error::Discovery(_)) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Applies what a watch says until the end of time: it repairs itself.
async fn follow<K, T>(
    objects: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    shared: &Shared,
    kind: Kind,
    collection: impl Fn(&mut Observed) -> &mut Collection<T>,
) where
    K: kube::Resource,
    T: From<K> + PartialEq,
{
    let objects = objects.backoff(watcher::ExponentialBackoff::from(pauses()));
    tokio::pin!(objects);
    loop {
        let event = match objects.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                warn!(kind = kind.kind, %error, "the watch broke off and will be started again");
                continue;
            }
        };
        let mut observed = shared.observed();
        let collection = collection(&mut observed);
        let changed = match event {
            watcher::Event::Init => {
                collection.begin_list();
                false
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                collection.insert(ObjectName::of(object.meta()), T::from(object))
            }
            watcher::Event::InitDone => collection.end_list(),
            watcher::Event::Delete(object) => {
                debug!(kind = kind.kind, name = object.name_any(), "deleted");
                collection.remove(&ObjectName::of(object.meta()))
            }
        };
        if changed {
            shared.changed.notify_one();
        }
    }
}

/// The pauses after a watch broke off. The default of kube goes up to 30 s, which is how long the routes would then be those of
/// the time before an outage.
fn pauses() -> ExponentialBuilder {
    let builder = ExponentialBuilder::default().with_min_delay(SHORTEST_PAUSE).with_max_delay(LONGEST_PAUSE);
    builder.with_factor(2.0).with_jitter().without_max_times()
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long a kind that is missing is left alone.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
