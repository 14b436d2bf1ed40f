//! Changes at a steady rate, and how long each takes until its route is in the API.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use e2e::{Cluster, Readiness, until};
use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::task::JoinSet;

use crate::inventory::{Inventory, Variant, service};

/// The changes of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// In order of duration: from the request that changes the cluster until the `VirtualService` has changed.
    pub(crate) latencies: Vec<Duration>,
}

/// The kinds of changes. In this order, each undoes an earlier one, so that nothing is left.
const KINDS: [(&str, Kind); 4] = [
    ("the last endpoint becomes unready", Kind::Unready),
    ("an endpoint becomes ready", Kind::Ready),
    ("a Service is deleted", Kind::Deleted),
    ("a labelled Service is created", Kind::Created),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unready,
    Ready,
    Deleted,
    Created,
}

/// Makes so many changes of each kind.
pub(crate) async fn measure(cluster: &Cluster, inventory: Inventory, count: u32) -> Result<Vec<Phase>> {
    let routes = Routes::watch(cluster);
    let mut phases = Vec::new();
    for (name, kind) in KINDS {
        let latencies = phase(cluster, &routes, kind, (0..count).map(|index| inventory.variant(index))).await?;
        println!("  {name}: {count} changes, p99 {:.2?}", quantile(&latencies, 0.99));
        phases.push(Phase { name, latencies });
    }
    Ok(phases)
}

/// Makes one change after the other, without waiting for its effect. Returns the sorted durations.
async fn phase(
    cluster: &Cluster,
    routes: &Routes,
    kind: Kind,
    variants: impl Iterator<Item = Variant>,
) -> Result<Vec<Duration>> {
    let mut changes = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    for variant in variants {
        tick.tick().await;
        let cluster = cluster.clone();
        changes.spawn(async move {
            let begin = Instant::now();
            change(&cluster, kind, variant).await.map(|()| (variant, begin))
        });
    }
    let begun: Vec<(Variant, Instant)> = changes.join_all().await.into_iter().collect::<Result<_>>()?;
    let is_routed = matches!(kind, Kind::Ready | Kind::Created);
    let ends =
        || begun.iter().map(|(variant, begin)| Some(routes.first(*variant, is_routed, *begin)?.duration_since(*begin)));
    until("the routes of all changes", PATIENCE, async || {
        let missing = ends().filter(Option::is_none).count();
        Ok(Readiness::of(missing == 0, || format!("{missing} are missing")))
    })
    .await?;
    let mut latencies: Vec<_> = ends().flatten().collect();
    ensure!(latencies.len() == begun.len(), "a route is missing");
    latencies.sort();
    Ok(latencies)
}

/// Makes a change that makes a route appear or disappear.
async fn change(cluster: &Cluster, kind: Kind, variant: Variant) -> Result<()> {
    let refused = |why: String| anyhow!(why);
    match kind {
        Kind::Unready => set_ready(cluster, variant, false).await,
        Kind::Ready => set_ready(cluster, variant, true).await,
        Kind::Deleted => cluster.delete_unrecorded(&variant.object()).await,
        Kind::Created => cluster.create_unrecorded(&variant.object()).await?.map_err(refused),
    }
}

/// Changes whether the only endpoint of a variant is ready.
pub(crate) async fn set_ready(cluster: &Cluster, variant: Variant, is_ready: bool) -> Result<()> {
    let slice = variant.slice(is_ready);
    let change = serde_json::json!({"endpoints": slice["endpoints"]});
    cluster.merge(&slice, &change).await?.map_err(|why| anyhow!(why))
}

/// What a watch has said about the generated `VirtualServices`.
struct Routes {
    seen: Arc<Mutex<Vec<Seen>>>,
    _watch: JoinSet<()>,
}

/// The routed versions of a service at some time.
struct Seen {
    at: Instant,
    service: String,
    versions: BTreeSet<String>,
}

impl Routes {
    fn watch(cluster: &Cluster) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"));
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let mut watch = JoinSet::new();
        let writer = Arc::clone(&seen);
        watch.spawn(async move {
            let objects = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            let objects = objects.into_stream();
            tokio::pin!(objects);
            while let Some(object) = objects.next().await {
                if let Ok(object) = object {
                    let at = Instant::now();
                    writer.lock().unwrap_or_else(PoisonError::into_inner).push(Seen::of(&object, at));
                }
            }
        });
        Self { seen, _watch: watch }
    }

    /// When a variant was first seen in that state, from some time on.
    fn first(&self, variant: Variant, is_routed: bool, from: Instant) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let name = service(variant.service);
        let mut of_service = seen.iter().filter(|one| one.at >= from && one.service == name);
        Some(of_service.find(|one| one.versions.contains(&variant.version()) == is_routed)?.at)
    }
}

impl Seen {
    fn of(object: &DynamicObject, at: Instant) -> Self {
        let rules = object.data["spec"]["http"].as_array().into_iter().flatten();
        let headers = rules.filter_map(|rule| rule["match"][0]["headers"].as_object()).flatten();
        let headers: Vec<_> = headers.collect();
        let name = object.metadata.name.clone().unwrap_or_default();
        Self {
            at,
            service: name.trim_start_matches("routing-claims-").to_owned(),
            versions: headers.iter().filter_map(|(_, value)| value["exact"].as_str().map(str::to_owned)).collect(),
        }
    }
}

/// The value below which that part of the sorted values lies.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

/// Changes a second.
pub(crate) const PER_SECOND: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);
