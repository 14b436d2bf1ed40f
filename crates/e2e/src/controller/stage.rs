//! The mesh with the controller: what is applied, what the controller makes of it, and the load meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use controller::definitions;
use e2e::{
    Audit, Cluster, Forwarder, Load, Program, Readiness, RunningController, Steady, Tally, installation, load::Allowed,
    tools, until,
};
use serde_json::{Value, json};
use testbed::client::Http1;

use crate::{
    column::Column,
    scene::{self, PUBLIC_HOST, bearer},
    world::{PORT, Proxies, World},
};

pub(crate) struct Stage {
    pub(super) world: World,
    /// The controller's way to the API.
    pub(super) way: Forwarder,
    pub(super) audit: Audit,
    /// How the controller runs.
    pub(super) program: Program,
    pub(super) controller: Option<RunningController>,
    /// The plan that each part starts with, as applied.
    pub(super) plan: Value,
    /// The variants besides it.
    pub(super) variants: Vec<Value>,
    /// What the running part applied besides.
    brought: BTreeMap<String, Value>,
    /// Whether faults last as long as real ones.
    pub(super) long: bool,
    /// Whether no part is left out.
    pub(super) all_parts: bool,
    pub(super) under_load: u64,
    pub(super) dir: PathBuf,
}

impl Stage {
    /// Installs the controller and the plan, and waits until its routes are in force.
    pub(super) async fn set(world: World, long: bool, all_parts: bool, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let (net, plane) = (world.net, &world.plane);
        let way = Forwarder::start(net.addr(WAY, 6443), plane.api()).await?;
        let program =
            Program { path: tools::controller().await?, api: way.addr, arguments: Vec::new(), environment: Vec::new() };
        let audit = Audit::of(&plane.audit_log);
        let (plan, fragments) = scene::plan(&world, COLUMN, dir);
        let variants = fragments.into_values().map(|mut variant| {
            variant["metadata"]["namespace"] = json!("istio-system");
            variant
        });
        let mut stage = Self {
            world,
            way,
            audit,
            program,
            controller: None,
            plan,
            variants: variants.collect(),
            brought: BTreeMap::new(),
            long,
            all_parts,
            under_load: 0,
            dir: dir.to_owned(),
        };
        for definition in definitions::all() {
            stage.cluster().define_one(&definition).await?;
        }
        for resource in installation() {
            stage.cluster().apply(&resource).await?;
        }
        stage.reset().await?;
        Ok(stage)
    }

    /// Restores the plan, the controller and the resources that each part starts with.
    pub(super) async fn reset(&mut self) -> Result<()> {
        self.way.open();
        self.take_back().await?;
        for resource in [&self.plan].into_iter().chain(&self.variants) {
            self.cluster().apply(resource).await?;
        }
        if self.controller.is_none() || !self.program.arguments.is_empty() || !self.program.environment.is_empty() {
            self.restart(&[]).await?;
        }
        for service in ["a", "b", "c", "d"] {
            let wanted: &[&str] = match service {
                "a" => &["PR-1", "PR-2", "PR-3"],
                "b" => &["PR-1", "PR-2"],
                _ => &["PR-1"],
            };
            self.until_routed(service, wanted).await?;
        }
        self.world.settle().await
    }

    /// Deletes what the part applied.
    pub(super) async fn take_back(&mut self) -> Result<()> {
        for (_, resource) in std::mem::take(&mut self.brought) {
            self.cluster().delete_unrecorded(&resource).await?;
        }
        Ok(())
    }

    pub(super) fn running(&self) -> Result<&RunningController> {
        self.controller.as_ref().context("the controller does not run")
    }

    /// Stops the controller if it runs, and starts it with these arguments besides the usual ones.
    pub(super) async fn restart(&mut self, arguments: &[&str]) -> Result<()> {
        if let Some(running) = self.controller.take() {
            running.stop().await?;
        }
        self.program.environment.clear();
        self.program.arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        let mut controller = self.another(8080).await?;
        controller.ready().await?;
        self.controller = Some(controller);
        Ok(())
    }

    /// Starts a controller besides the running one.
    pub(super) async fn another(&self, port: u16) -> Result<RunningController> {
        let mut program = self.program.clone();
        if !program.arguments.iter().any(|argument| argument == "--settle-seconds") {
            program.arguments.extend(["--settle-seconds".to_owned(), "1".to_owned()]);
        }
        RunningController::spawn(&program, self.cluster(), self.world.net.addr(WAY, port), &self.dir).await
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.world.cluster
    }

    /// Applies a resource until the end of the part. A namespace stays: nothing here empties and deletes it.
    pub(super) async fn apply(&mut self, resource: &Value) -> Result<()> {
        self.cluster().apply_unrecorded(resource).await?.map_err(anyhow::Error::msg)?;
        if resource["kind"] == "Namespace" {
            return Ok(());
        }
        self.brought.insert(Cluster::id(resource), resource.clone());
        Ok(())
    }

    /// Deletes a resource without waiting until it is gone.
    pub(super) async fn delete(&self, resource: &Value) -> Result<()> {
        self.cluster().delete_unrecorded(resource).await
    }

    /// Applies the plan with a change.
    pub(super) async fn change_plan(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut plan = self.plan.clone();
        change(&mut plan["spec"]);
        self.cluster().apply(&plan).await
    }

    /// Waits until a condition of the plan has a status.
    pub(super) async fn until_condition(&self, kind: &str, status: &str) -> Result<()> {
        until(&format!("{kind}: {status}"), PATIENCE, async || {
            let plan = self.live_plan().await?;
            let conditions = plan["status"]["conditions"].as_array().into_iter().flatten();
            let mut of_kind = conditions.filter(|one| one["type"] == kind);
            Ok(Readiness::of(of_kind.any(|one| one["status"] == status), || plan["status"].to_string()))
        })
        .await
    }

    /// The plan as the API has it, with its status.
    pub(super) async fn live_plan(&self) -> Result<Value> {
        self.cluster().get(&self.plan).await?.context("the plan does not exist")
    }

    /// Waits until a service (`a`) has routes for exactly these variants, in any order.
    pub(super) async fn until_routed(&self, service: &str, wanted: &[&str]) -> Result<()> {
        let wanted: BTreeSet<_> = wanted.iter().map(|one| (*one).to_owned()).collect();
        until(&format!("routes of {service} for {wanted:?}"), PATIENCE, async || {
            let found = self.routed(service).await?;
            Ok(Readiness::of(found == wanted, || format!("found {found:?}\n{}", self.log_tail())))
        })
        .await
    }

    /// The variants that a service (`a`) has routes for.
    pub(super) async fn routed(&self, service: &str) -> Result<BTreeSet<String>> {
        let routes = self.cluster().get(&routes_of(service)).await?.unwrap_or_default();
        let header = format!("microservice-{service}");
        let rules = routes["spec"]["http"].as_array().into_iter().flatten();
        let matches = rules.filter_map(|rule| rule["match"].as_array()).flatten();
        let variants = matches.filter_map(|one| one["headers"][&header]["exact"].as_str());
        Ok(variants.map(str::to_owned).collect())
    }

    /// Waits until a resource does not exist.
    pub(super) async fn until_gone(&self, resource: &Value) -> Result<()> {
        until(&format!("deletion of {}", Cluster::id(resource)), PATIENCE, async || {
            Ok(Readiness::of(self.cluster().get(resource).await?.is_none(), || self.log_tail()))
        })
        .await
    }

    /// Waits until the controller has written nothing for a while. Returns the number of its writes since `begin`.
    pub(super) async fn quiet_since(&self, begin: usize) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut since) = (self.writes(begin)?, Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let writes = self.writes(begin)?;
            if writes != last {
                (last, since) = (writes, Instant::now());
            }
            ensure!(Instant::now() < deadline, "the controller does not stop writing: {last} writes");
        }
        Ok(last)
    }

    pub(super) async fn quiet(&self) -> Result<()> {
        self.quiet_since(self.audit.now()?).await.map(drop)
    }

    fn writes(&self, begin: usize) -> Result<usize> {
        Ok(self.audit.since(begin)?.iter().filter(|entry| entry.writes()).count())
    }

    /// Waits until the plan's status, its Events or those of a resource contain a text.
    pub(super) async fn until_told(&self, about: &Value, text: &str) -> Result<()> {
        until(&format!("a word about {}: {text}", Cluster::id(about)), PATIENCE, async || {
            let told = self.told(about).await?;
            Ok(Readiness::of(told.contains(text), || format!("{told}\n{}", self.log_tail())))
        })
        .await
    }

    /// The status of a resource and the Events about it, as text.
    pub(super) async fn told(&self, about: &Value) -> Result<String> {
        let live = self.cluster().get(about).await?.unwrap_or_default();
        let mut told = live["status"].to_string();
        for event in self.cluster().list("events.k8s.io/v1", "Event", None).await? {
            let regarding = &event["regarding"];
            let fields = ["kind", "name", "namespace"].map(|field| match field {
                "kind" => regarding["kind"] == about["kind"],
                _ => regarding[field] == about["metadata"][field],
            });
            if fields == [true; 3] {
                let note = event["note"].as_str().unwrap_or_default();
                told.extend(["\n", note]);
            }
        }
        Ok(told)
    }

    /// Starts a load of requests for A through the gateway.
    pub(super) fn load(&self, requests: &[(Option<Value>, Allowed)]) -> Load {
        let steady = requests.iter().map(|(claims, allowed)| Steady {
            host: PUBLIC_HOST.to_owned(),
            headers: claims.iter().map(|claims| ("authorization".into(), bearer(claims).into())).collect(),
            allowed: allowed.clone(),
        });
        Load::start(self.world.gateway.addr(PORT), steady.collect())
    }

    /// The requests that no change of a part affects.
    pub(super) fn steady(&self) -> Load {
        let always = |versions: &str| [(); 3].map(|()| vec![versions.to_owned()]);
        self.load(&[
            (None, always("main>main")),
            (Some(json!({"microservice-A": "PR-1", "microservice-B": "PR-2"})), always("PR-1>PR-2")),
            (Some(json!({"microservice-A": "PR-2"})), always("PR-2>main")),
        ])
    }

    /// Stops a load. No request may have failed. Returns the number of requests.
    pub(super) async fn unload(&mut self, load: Load) -> Result<u64> {
        let tally = load.stop().await;
        self.under_load += tally.sent;
        let Tally { sent, failed, misrouted, first, .. } = &tally;
        if failed + misrouted > 0 {
            let first = first.as_deref().unwrap_or("?");
            bail!(
                "of {sent} requests, {failed} failed and {misrouted} were misrouted in {:?}: {first}\n{}",
                tally.lost(),
                self.log_tail()
            );
        }
        ensure!(*sent > 2, "expected more than 2 requests during the change, found {sent}");
        Ok(*sent)
    }

    /// The versions that answer a token, through the gateway.
    pub(super) async fn answer(&self, claims: &Value) -> Result<String> {
        let token = ("authorization".into(), bearer(claims).into());
        let answer = Http1::connect(self.world.gateway.addr(PORT)).await?.get(PUBLIC_HOST, "/", &[token]).await?;
        let said: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
        Ok(e2e::load::versions(&said))
    }

    pub(super) fn log_tail(&self) -> String {
        self.controller.as_ref().map(RunningController::log_tail).unwrap_or_default()
    }

    /// The address of the app of another instance of pull request 4.
    pub(super) fn second_instance(&self) -> SocketAddr {
        self.world.net.addr(SECOND_INSTANCE, PORT)
    }
}

/// The generated `VirtualService` of a service (`a`).
pub(super) fn routes_of(service: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": format!("routing-claims-microservice-{service}"), "namespace": format!("microservice-{service}")},
    })
}

/// A Service of a pull request, which claims a variant of a service (`microservice-A`).
pub(super) fn claim(namespace: &str, name: &str, service: &str, variant: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"routing-claims.dev/service": service, "routing-claims.dev/variant": variant},
        },
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    })
}

/// A workload behind the Services that select this app.
pub(super) fn workload(namespace: &str, name: &str, app: &str, address: std::net::IpAddr) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"address": address, "labels": {"app": app}, "ports": {"http": PORT}},
    })
}

pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

const COLUMN: Column =
    Column { filter: "EnvoyFilter", engine: "lua", routes: "VirtualService", proxies: Proxies::Bare };
/// The last byte of the address of the controllers, and of their way to the API.
const WAY: u8 = 6;
const SECOND_INSTANCE: u8 = 15;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(600);
