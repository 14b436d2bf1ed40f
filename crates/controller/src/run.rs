//! The loop: read, decide, write, tell.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use kube_lease_manager::{LeaseManagerBuilder, LeaseParams};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::watch::Receiver, time::sleep};
use tracing::{info, warn};

use crate::{
    NAME,
    apply::{Applied, Applier, difference},
    drain::Drain,
    events::Events,
    kinds::{Kind, PLAN, VARIANT},
    metrics::Metrics,
    observed::ObjectName,
    reconcile::{Reconciled, ValidPlan, deleted_plans, reconcile},
    server::{self, Heartbeat},
    status,
    watch::{self, Shared},
};

/// How the controller runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// Namespace of the lease; none: this is the only replica, and it always writes.
    pub lease_namespace: Option<String>,
    /// Name of this replica.
    pub identity: String,
    /// How long proxies take to have a change.
    pub settle: Duration,
    /// How long a variant's Service stays after its route is gone; none: Services are never written.
    pub drain: Option<Duration>,
}

/// Runs until `stop` completes, then finishes what it is writing and gives up the lease.
///
/// # Errors
///
/// If it cannot listen, or the lease cannot be used.
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()> + Send) -> Result<()> {
    let shared = Arc::new(Shared::default());
    let (heartbeat, metrics) = (Arc::new(Heartbeat::new()), Metrics::new());
    let _server = server::serve(options.listen, Arc::clone(&shared), Arc::clone(&heartbeat), metrics.clone()).await?;
    info!(address = %options.listen, "serving health and metrics");
    let _watches = watch::start(&client, &shared);
    let mut lease = Lease::new(&client, &options).await?;
    let mut controller = Controller::new(client, &options, Arc::clone(&shared), metrics.clone());
    let mut due = true;
    let stop = stop.boxed().shared();
    loop {
        tokio::select! {
            () = stop.clone() => break,
            () = shared.changed.notified() => {
                due = true;
                // Changes come in groups.
                sleep(GROUPING).await;
            }
            () = lease.changed() => {
                due = true;
                metrics.leads(lease.is_held());
                info!(leader = lease.is_held(), "the leader changed");
                controller.forget();
            }
            () = sleep(controller.pause()) => due |= controller.is_due(),
        }
        heartbeat.beat();
        if due && lease.is_held() && shared.is_complete() {
            due = false;
            tokio::select! {
                () = controller.reconcile() => {}
                // What is being written may be written or not: the next replica looks.
                () = stop.clone().then(|()| sleep(FINISH)) => break,
            }
        }
    }
    info!("stopping");
    lease.release().await;
    Ok(())
}

/// What would be written for each plan, as text; empty if nothing.
///
/// # Errors
///
/// If the cluster's objects cannot be read within a minute.
pub async fn dry_run(client: &Client) -> Result<String> {
    let shared = Arc::new(Shared::default());
    let _watches = watch::start(client, &shared);
    let start = Instant::now();
    while !shared.is_complete() {
        ensure!(start.elapsed() < READ_ALL, "the API server did not list all objects within {} s", READ_ALL.as_secs());
        sleep(GROUPING).await;
    }
    let observed = shared.observed();
    let reconciled = reconcile(&observed, &BTreeMap::new(), Timestamp::now());
    // Writing to a string can't fail.
    let mut text = String::new();
    for (name, outcome) in &reconciled.plans {
        for fault in &outcome.faults {
            let _ = writeln!(text, "plan {name} is invalid: {fault}");
        }
        let Some(wanted) = &outcome.wanted else { continue };
        let difference = difference(name, wanted, &observed);
        if !difference.diff.is_empty() {
            let _ = write!(text, "plan {name}\n{}", difference.diff.to_text());
        }
        for foreign in &difference.foreign {
            let _ = writeln!(text, "plan {name}: {foreign}");
        }
    }
    for name in deleted_plans(&observed) {
        let gone = difference(&name, &[], &observed).diff.to_text();
        let _ = write!(text, "plan {name} no longer exists\n{gone}");
    }
    Ok(text)
}

/// The right to write.
struct Lease {
    held: Option<Receiver<bool>>,
    task: Option<tokio::task::JoinHandle<kube_lease_manager::Result<kube_lease_manager::LeaseManager>>>,
}

impl Lease {
    async fn new(client: &Client, options: &Options) -> Result<Self> {
        let Some(namespace) = &options.lease_namespace else { return Ok(Self { held: None, task: None }) };
        let manager = LeaseManagerBuilder::new(client.clone(), NAME)
            .with_namespace(namespace)
            .with_parameters(LeaseParams::new(&options.identity, LEASE_SECONDS, LEASE_GRACE_SECONDS))
            .with_field_manager(NAME)
            .build()
            .await
            .with_context(|| format!("cannot use the lease {namespace}/{NAME}"))?;
        let (held, task) = manager.watch().await;
        Ok(Self { held: Some(held), task: Some(task) })
    }

    fn is_held(&self) -> bool {
        self.held.as_ref().is_none_or(|held| *held.borrow())
    }

    /// Completes when it is won or lost; never without a lease.
    async fn changed(&mut self) {
        let changed = match &mut self.held {
            Some(held) => held.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }

    /// Lets another replica go on at once.
    async fn release(mut self) {
        self.held = None;
        if let Some(task) = self.task {
            tokio::time::timeout(RELEASE, task).await.ok();
        }
    }
}

/// What is kept between two rounds.
struct Controller {
    client: Client,
    shared: Arc<Shared>,
    metrics: Metrics,
    applier: Applier,
    drain: Option<Drain>,
    events: Events,
    last_valid: BTreeMap<ObjectName, ValidPlan>,
    last_time: Timestamp,
    wake_at: Option<Timestamp>,
    /// When the status of a plan may be written again.
    status_after: HashMap<ObjectName, Instant>,
    status_waits: bool,
    /// When what could not be told or held is tried again.
    retry: Option<Instant>,
}

impl Controller {
    fn new(client: Client, options: &Options, shared: Arc<Shared>, metrics: Metrics) -> Self {
        Self {
            applier: Applier::new(client.clone(), metrics.clone(), options.settle),
            drain: options.drain.map(|delay| Drain::new(client.clone(), delay)),
            events: Events::new(client.clone(), options.identity.clone()),
            client,
            shared,
            metrics,
            last_valid: BTreeMap::new(),
            last_time: Timestamp::MIN,
            wake_at: None,
            status_after: HashMap::new(),
            status_waits: false,
            retry: None,
        }
    }

    /// Another replica may have written since.
    fn forget(&mut self) {
        self.status_after.clear();
        self.applier.forget_all();
    }

    /// How long to sleep before the clock is looked at.
    fn pause(&self) -> Duration {
        let next = self.applier.next().map(|next| next.saturating_duration_since(Instant::now()));
        next.map_or(TICK, |next| next.clamp(SHORTEST_TICK, TICK))
    }

    /// Whether there is something to do although no object changed: a variant expires, the clock was set back, or something
    /// waited or failed.
    fn is_due(&self) -> bool {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let deadlines = [self.applier.next(), self.drain.as_ref().and_then(Drain::next), self.retry];
        self.wake_at.is_some_and(|time| time <= clock)
            || clock < self.last_time
            || deadlines.into_iter().flatten().any(|deadline| deadline <= now)
            || (self.status_waits && self.status_after.values().any(|after| *after <= now))
    }

    async fn reconcile(&mut self) {
        let (start, now) = (Instant::now(), Timestamp::now());
        let shared = Arc::clone(&self.shared);
        let (reconciled, hold) = {
            let observed = shared.observed();
            let reconciled = reconcile(&observed, &self.last_valid, now);
            let hold = self.drain.as_ref().map(|drain| drain.services_to_hold(&observed, &reconciled));
            (reconciled, hold)
        };
        self.metrics.reconciled(start.elapsed().as_secs_f64());
        (self.last_time, self.wake_at) = (now, reconciled.wake_at);
        self.remember_valid(&reconciled);
        let mut is_written = match (&self.drain, hold) {
            (Some(drain), Some(changes)) => drain.write(changes).await,
            _ => true,
        };
        let results = self.apply(&reconciled).await;
        is_written &= self.release(&reconciled).await;
        let news = self.events.news(&reconciled, &shared.observed());
        self.events.publish(news).await;
        is_written &= self.write_status(&reconciled, &results, now).await;
        self.events.remember(reconciled);
        self.retry = (!is_written).then(|| Instant::now() + RETRY);
    }

    fn remember_valid(&mut self, reconciled: &Reconciled) {
        for name in self.last_valid.keys().filter(|name| !reconciled.plans.contains_key(*name)) {
            self.metrics.forget(name);
        }
        let valid = reconciled.plans.iter().filter_map(|(name, outcome)| Some((name.clone(), outcome.valid.clone()?)));
        self.last_valid = valid.collect();
    }

    async fn apply(&mut self, reconciled: &Reconciled) -> BTreeMap<ObjectName, Applied> {
        let start = Instant::now();
        let differences: Vec<_> = {
            let observed = self.shared.observed();
            let wanted = reconciled.plans.iter().filter_map(|(name, outcome)| Some((name, outcome.wanted.as_ref()?)));
            let existing = wanted.map(|(name, wanted)| (name.clone(), difference(name, wanted, &observed)));
            let deleted = deleted_plans(&observed);
            let deleted = deleted.into_iter().map(|name| (name.clone(), difference(&name, &[], &observed)));
            existing.chain(deleted).collect()
        };
        let mut results = BTreeMap::new();
        for (name, difference) in differences {
            if !difference.is_empty() {
                info!(plan = %name, changes = difference.len(), "the cluster differs from the plan");
            }
            results.insert(name, self.applier.apply(difference, &self.shared).await);
        }
        self.applier.forget_until(start);
        results
    }

    async fn release(&mut self, reconciled: &Reconciled) -> bool {
        let Some(drain) = &mut self.drain else { return true };
        let changes = drain.services_to_release(&self.shared.observed(), reconciled, Instant::now());
        drain.write(changes).await
    }

    /// Returns whether everything was written.
    async fn write_status(
        &mut self,
        reconciled: &Reconciled,
        results: &BTreeMap<ObjectName, Applied>,
        now: Timestamp,
    ) -> bool {
        let (mut plans, mut variants) = (Vec::new(), Vec::new());
        self.status_waits = false;
        {
            let observed = self.shared.observed();
            for (name, outcome) in &reconciled.plans {
                let applied = results.get(name).cloned().unwrap_or_default();
                let phases: Vec<_> = outcome.variants.iter().map(|state| state.phase).collect();
                self.metrics.plan(name, outcome.faults.is_empty(), applied.is_complete(), &phases);
                let Some(plan) = observed.plans.get(name) else { continue };
                let Some(status) = status::of_plan(plan, outcome, &applied, now) else { continue };
                if self.status_after.get(name).is_some_and(|after| *after > Instant::now()) {
                    self.status_waits = true;
                } else {
                    plans.push((name.clone(), status));
                }
            }
            let of_plans = reconciled.plans.iter();
            let states = of_plans.flat_map(|(name, outcome)| outcome.variants.iter().map(move |state| (name, state)));
            let none = ObjectName::new("", "");
            let states = states.chain(reconciled.strays.iter().map(|state| (&none, state)));
            let states = status::routing_variants(states);
            for (name, variant) in observed.variants.iter() {
                let new = status::of_variant(variant, states.get(name).copied());
                variants.extend(new.map(|status| (name.clone(), status)));
            }
        }
        let mut all_written = true;
        for (name, status) in plans {
            self.status_after.insert(name.clone(), Instant::now() + STATUS_PAUSE);
            let is_written = patch_status(&self.client, &self.shared, PLAN, &name, &status).await;
            all_written &= is_written;
            if is_written && let Some(plan) = self.shared.observed().plans.get_mut(&name) {
                plan.status = status;
            }
        }
        let (client, shared) = (&self.client, &self.shared);
        let mut written = stream::iter(variants)
            .map(|(name, status)| async move {
                let is_written = patch_status(client, shared, VARIANT, &name, &status).await;
                is_written.then_some((name, status))
            })
            .buffer_unordered(CONCURRENT_WRITES);
        while let Some(one) = written.next().await {
            all_written &= one.is_some();
            if let Some((name, status)) = one
                && let Some(variant) = shared.observed().variants.get_mut(&name)
            {
                variant.status = status;
            }
        }
        all_written
    }
}

async fn patch_status(
    client: &Client,
    shared: &Shared,
    kind: Kind,
    name: &ObjectName,
    status: &impl Serialize,
) -> bool {
    let Some(resource) = shared.served(kind) else { return false };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name.namespace, &resource);
    let patch = json!({"apiVersion": resource.api_version, "kind": resource.kind, "status": status});
    match api.patch_status(&name.name, &PatchParams::apply(NAME).force(), &Patch::Apply(&patch)).await {
        Ok(_) => true,
        // It was deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            warn!(kind = kind.kind, %name, %error, "cannot write the status");
            false
        }
    }
}

/// How often it looks at the clock, at least.
const TICK: Duration = Duration::from_millis(500);
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// How long changes are collected before they are looked at together.
const GROUPING: Duration = Duration::from_millis(50);
/// The status of a plan is written at most once in this time: one write costs the API server 0.3 s of CPU time at 1,000 services.
const STATUS_PAUSE: Duration = Duration::from_secs(3);
/// When a status or a finalizer that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a round may go on when the program shall stop: less than the 30 s that Kubernetes gives a pod.
const FINISH: Duration = Duration::from_secs(10);
const READ_ALL: Duration = Duration::from_secs(60);
const CONCURRENT_WRITES: usize = 16;
/// A lease that is not renewed for this long is free.
const LEASE_SECONDS: u64 = 8;
/// It is renewed this long before.
const LEASE_GRACE_SECONDS: u64 = 3;
const RELEASE: Duration = Duration::from_secs(5);
