//! How the WASM module reaches the proxies: from a registry, through Istio's agent. Each situation runs on nine sidecars, one
//! for each filter resource with each `failStrategy`.

mod fixtures;
mod published;
mod situations;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use e2e::{
    Cluster, Image, Kind, PasswordGate, Proxy, Readiness, Registry, Steady, Workload, load, load::Load, settle,
    tools::Tools, until,
};
use futures_util::future::try_join_all;
use package::layout::digest;
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::process::Command;

use crate::{
    lints::{self, Which},
    scene::{REPORT, bearer, values},
    world::{B, PORT, ROUTER, World, host, module, module_bill, service_account, sidecar},
};

use situations::{
    At, Build, Change, Module, Outcome, PUSHED, Reference, SITUATIONS, Secret, Situation, Sum, by_digest,
};

/// Runs all situations, one after the other, each on all sidecars at the same time, and the proofs of the lints about pulls.
pub(crate) async fn run(world: &World, tools: &Tools, which: Which<'_>, dir: PathBuf) -> Result<String> {
    let mut mesh = Mesh::start(world, tools, dir).await?;
    let (mut cells, mut failed) = (0, Vec::new());
    for situation in &SITUATIONS {
        if let Err(error) = mesh.run(situation).await {
            failed.push(format!("{} {error:#}", situation.name));
        }
        cells += mesh.sidecars.iter().filter(|sidecar| sidecar.is_for(situation.change)).count();
    }
    if let Err(error) = mesh.pulled_back().await {
        failed.push(format!("What is pushed is pulled back. {error:#}"));
    }
    let proofs: Vec<_> = lints::pulled(which).collect();
    if let Err(error) = mesh.prove(&proofs).await {
        failed.push(format!("{error:#}"));
    }
    let sent = mesh.under_load;
    mesh.clear().await?;
    ensure!(failed.is_empty(), "\n{}", failed.join("\n"));
    let (situations, fixtures) = (SITUATIONS.len(), 2 * proofs.len());
    Ok(format!("{situations} situations, {cells} outcomes, {fixtures} fixtures, {sent} requests under load, 0 failed"))
}

struct Mesh<'w> {
    world: &'w World,
    tools: &'w Tools,
    dir: PathBuf,
    modules: [Vec<u8>; 3],
    images: [Image; 3],
    registry: Option<Registry>,
    /// The same registry behind a password, with both kinds of challenges.
    gates: [PasswordGate; 2],
    sidecars: Vec<Sidecar>,
    /// The routes, which all sidecars share.
    routes: Vec<Value>,
    /// The desired module and the policy's clock skew in seconds.
    module: Module,
    clock_skew: u64,
    under_load: u64,
}

/// A sidecar, and the resource that installs its filter.
struct Sidecar {
    kind: &'static str,
    /// The index into [`STRATEGIES`].
    strategy: usize,
    namespace: String,
    ip: Ipv4Addr,
    proxy: Proxy,
    resource: Option<Value>,
}

impl<'w> Mesh<'w> {
    async fn start(world: &'w World, tools: &'w Tools, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let shipped = module(&world.dist)?;
        let modules = [Build::First, Build::Second, Build::Third].map(|build| match build {
            Build::First => shipped.clone(),
            _ => with_custom_section(&shipped, &format!("{build:?}")),
        });
        let bill = module_bill(&world.dist)?;
        let images: Result<Vec<_>> = modules.iter().map(|module| Image::module(module, &bill)).collect();
        let images = images?.try_into().ok().context("three images")?;
        let registry = world.net.addr(REGISTRY, 5000);
        let gate =
            async |ip, realm| PasswordGate::start(world.net.addr(ip, 5000), registry, (USER, PASSWORD), realm).await;
        let gates = [gate(4, "https://registry.example").await?, gate(5, "Registry Realm").await?];

        let combinations = KINDS.iter().flat_map(|kind| (0..STRATEGIES.len()).map(move |strategy| (*kind, strategy)));
        let starting = combinations.zip(FIRST_SIDECAR..).map(async |((kind, strategy), ip)| {
            let namespace = format!("{kind}-{}", STRATEGIES[strategy]).to_lowercase().replace('_', "-");
            let ip = world.net.ip(ip);
            let resources = [
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
                service_account(&namespace, NAME),
                sidecar(&namespace, NAME, &ip.to_string(), &[]),
                pull_secret(&namespace, &gates),
            ];
            for resource in &resources {
                world.cluster.apply(resource).await?;
            }
            let proxy = start_proxy(world, &namespace, ip, &dir).await?;
            anyhow::Ok(Sidecar { kind, strategy, namespace, ip, proxy, resource: None })
        });
        let sidecars = try_join_all(starting).await?;
        let mut mesh = Self {
            world,
            tools,
            dir,
            modules,
            images,
            registry: None,
            gates,
            sidecars,
            routes: Vec::new(),
            module: by_digest("pinned", Build::First),
            clock_skew: 60,
            under_load: 0,
        };
        mesh.set_registry(At::Up).await?;
        for resource in mesh.render(&mesh.sidecars[0]).await? {
            if resource["kind"] == "VirtualService" {
                world.cluster.apply(&resource).await?;
                mesh.routes.push(resource);
            }
        }
        Ok(mesh)
    }

    async fn run(&mut self, situation: &Situation) -> Result<()> {
        self.set_registry(situation.registry).await?;
        if situation.fresh {
            self.clear_filters().await?;
            self.settle().await?;
        }
        let load = match situation.change {
            Change::UnderLoad(_) => Some(self.sidecars.iter().map(steady).collect::<Vec<_>>()),
            _ => None,
        };
        match situation.change {
            Change::Nothing => {}
            Change::Tag(tag, build) => _ = self.registry()?.push(&self.images[build as usize], tag).await?,
            Change::Restart => self.restart().await?,
            Change::Policy => {
                self.clock_skew += 1;
                self.roll_out(situation.change).await?;
            }
            Change::Module(module) | Change::UnderLoad(module) => {
                self.module = module;
                self.roll_out(situation.change).await?;
            }
        }
        self.settle().await?;
        // Once to see the change, and once more to see that it stays.
        for patience in [PATIENCE, Duration::ZERO] {
            for sidecar in self.sidecars.iter().filter(|sidecar| sidecar.is_for(situation.change)) {
                let wanted = situation.outcomes[sidecar.strategy];
                until(&format!("{wanted} in {}", sidecar.namespace), patience, async || {
                    let found = self.outcome(sidecar).await?;
                    let is = found.as_ref().is_ok_and(|found| *found == wanted);
                    Ok(Readiness::of(is, || match found {
                        Ok(found) => format!("found {found}"),
                        Err(other) => other,
                    }))
                })
                .await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        for sidecar in self.sidecars.iter().filter(|sidecar| sidecar.is_for(situation.change)) {
            if !matches!(situation.outcomes[sidecar.strategy], Outcome::Filtered(_)) {
                sidecar.reports_the_failure().await?;
            }
        }
        for load in load.into_iter().flatten() {
            let tally = load.stop().await;
            self.under_load += tally.sent;
            ensure!(tally.failed + tally.misrouted == 0 && tally.sent > 0, "requests under load: {tally:?}");
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        let (world, dir) = (self.world, &self.dir);
        let starting = std::mem::take(&mut self.sidecars).into_iter().map(async |sidecar| {
            let Sidecar { kind, strategy, namespace, ip, proxy, resource } = sidecar;
            // Two proxies cannot have the same address.
            drop(proxy);
            let proxy = start_proxy(world, &namespace, ip, dir).await?;
            anyhow::Ok(Sidecar { kind, strategy, namespace, ip, proxy, resource })
        });
        self.sidecars = try_join_all(starting).await?;
        Ok(())
    }

    /// Renders and applies the filter's resource of each sidecar.
    async fn roll_out(&mut self, change: Change) -> Result<()> {
        let rendered = self.sidecars.iter().map(async |sidecar| {
            if !sidecar.is_for(change) {
                return Ok(None);
            }
            let resource = self.render(sidecar).await?.into_iter().find(|one| one["kind"] == sidecar.kind);
            let mut resource = resource.with_context(|| format!("no {} is rendered", sidecar.kind))?;
            if let Some(sum) = self.module.sha256 {
                // A plan cannot say this.
                *sha256(&mut resource) = json!(self.sum(sum).trim_start_matches("sha256:"));
            }
            self.world.cluster.apply(&resource).await?;
            anyhow::Ok(Some(resource))
        });
        let rendered = try_join_all(rendered).await?;
        for (sidecar, resource) in self.sidecars.iter_mut().zip(rendered) {
            sidecar.resource = resource;
        }
        Ok(())
    }

    /// What happens to the requests of a sidecar, or a description if it is none of the known outcomes.
    async fn outcome(&self, sidecar: &Sidecar) -> Result<Result<Outcome, String>> {
        let installed = sidecar.proxy.config("ecds_filters").await?;
        // Envoy also lists those that it no longer uses.
        let is_ours =
            |one: &&Value| one["ecds_filter"]["name"].as_str().is_some_and(|name| name.contains("routing-claims"));
        let newest = installed.iter().filter(is_ours).max_by_key(|one| one["last_updated"].as_str());
        let config = newest.map(|one| one["ecds_filter"]["typed_config"].clone()).unwrap_or_default();
        let file = config["config"]["vm_config"]["code"]["local"]["filename"].as_str();
        // The agent names what it has pulled by the sum with which it has compared it.
        let build = [Build::First, Build::Second, Build::Third].into_iter().find(|build| {
            let sums = [Sum::Manifest(*build), Sum::File(*build)].map(|sum| self.sum(sum));
            file.is_some_and(|file| sums.iter().any(|sum| file.contains(sum.trim_start_matches("sha256:"))))
        });
        let forged = sidecar.send(&[("microservice-b", "PR-1")]).await?;
        let token = sidecar.send(&[("authorization", &bearer(&json!({"microservice-B": "PR-1"})))]).await?;
        let denies = config["rules_stat_prefix"] == "wasm-default-deny";
        let allows = config["rules_stat_prefix"] == "wasm-default-allow";
        let answers = (&*forged, &*token);
        Ok(match build {
            Some(build) if answers == ("main", "PR-1 applied") => Ok(Outcome::Filtered(build)),
            None if denies && answers == (DENIED, DENIED) => Ok(Outcome::Denied),
            None if allows && answers == ("PR-1", "main") => Ok(Outcome::Unfiltered),
            _ => Err(format!("a forged header gets {forged}, a token {token}; the proxy has {config}")),
        })
    }

    /// What `manifest-gen` renders for the plan of a sidecar.
    async fn render(&self, sidecar: &Sidecar) -> Result<Vec<Value>> {
        let dir = self.dir.join(&sidecar.namespace);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("plan.yaml"), self.plan(sidecar).to_string())?;
        let mut command = Command::new(self.world.dist.join("manifest-gen"));
        let command = command.args(["render", "-f", "plan.yaml"]).current_dir(&dir).stdin(Stdio::null());
        let output = command.output().await?;
        ensure!(output.status.success(), "manifest-gen: {}", String::from_utf8_lossy(&output.stderr));
        Cluster::documents(&String::from_utf8(output.stdout)?)
    }

    fn plan(&self, sidecar: &Sidecar) -> Value {
        let Module { repository, reference, secret, sha256: _ } = self.module;
        let address = match secret {
            Secret::NotNeeded => self.world.net.addr(REGISTRY, 5000),
            Secret::Missing | Secret::Unknown | Secret::Given => self.gates[0].addr,
            Secret::GivenToRealm => self.gates[1].addr,
        };
        let mut wasm = json!({
            "image": format!("{address}/{repository}"),
            "failStrategy": STRATEGIES[sidecar.strategy],
        });
        match reference {
            Reference::Digest(build) => wasm["digest"] = json!(self.images[build as usize].digest),
            Reference::WrongDigest => wasm["digest"] = json!(format!("sha256:{}", "0".repeat(64))),
            Reference::Tag(tag) => wasm["image"] = json!(format!("{address}/{repository}:{tag}")),
        }
        match secret {
            Secret::NotNeeded | Secret::Missing => {}
            Secret::Unknown => wasm["pullSecret"] = json!("no-such-secret"),
            Secret::Given | Secret::GivenToRealm => wasm["pullSecret"] = json!(PULL_SECRET),
        }
        json!({
            "apiVersion": "routing-claims.dev/v1alpha1",
            "kind": "RoutingPlan",
            "metadata": {"name": "qa", "namespace": sidecar.namespace},
            "spec": {
                "policy": {"reportHeader": REPORT, "clockSkewSeconds": self.clock_skew},
                "filter": {"engine": "wasm", "resource": sidecar.kind, "istioVersion": "1.30", "wasm": wasm},
                "services": [{
                    "name": "microservice-B", "namespace": B, "port": PORT, "variants": [{"name": "PR-1"}],
                }],
            },
        })
    }

    fn sum(&self, sum: Sum) -> String {
        match sum {
            Sum::Manifest(build) => self.images[build as usize].digest.clone(),
            Sum::File(build) => digest(&self.modules[build as usize]),
        }
    }

    async fn set_registry(&mut self, at: At) -> Result<()> {
        match at {
            At::Down => self.registry = None,
            At::Up if self.registry.is_some() => {}
            At::Up => {
                let registry = Registry::start(self.tools, self.world.net.addr(REGISTRY, 5000), &self.dir).await?;
                for (image, name) in PUSHED {
                    registry.push(&self.images[image as usize], name).await?;
                }
                self.registry = Some(registry);
            }
        }
        Ok(())
    }

    fn registry(&self) -> Result<&Registry> {
        self.registry.as_ref().context("the registry is down")
    }

    async fn settle(&self) -> Result<()> {
        settle(&self.world.cluster, &self.sidecars.iter().map(|sidecar| &sidecar.proxy).collect::<Vec<_>>()).await
    }

    async fn clear_filters(&mut self) -> Result<()> {
        for sidecar in &mut self.sidecars {
            if let Some(resource) = sidecar.resource.take() {
                self.world.cluster.delete(&Cluster::id(&resource)).await?;
            }
        }
        Ok(())
    }

    async fn clear(mut self) -> Result<()> {
        self.clear_filters().await?;
        for resource in &self.routes {
            self.world.cluster.delete(&Cluster::id(resource)).await?;
        }
        Ok(())
    }
}

impl Sidecar {
    /// An `EnvoyFilter` has no pull secret.
    fn is_for(&self, change: Change) -> bool {
        match change {
            Change::Module(module) => {
                self.kind != "EnvoyFilter" || matches!(module.secret, Secret::NotNeeded | Secret::Missing)
            }
            _ => true,
        }
    }

    /// The agent counts pulls that fail, for Prometheus.
    async fn reports_the_failure(&self) -> Result<()> {
        let metrics = self.proxy.agent().context("no agent")?.metrics().await?;
        let counted = metrics.lines().any(|line| line.starts_with(FETCH_FAILURES));
        let similar = || metrics.lines().filter(|line| line.contains("wasm")).collect::<Vec<_>>().join("\n");
        ensure!(counted, "{}: the metrics have no {FETCH_FAILURES}, but\n{}", self.namespace, similar());
        Ok(())
    }

    /// The version of B that answers, with the filter's report; else the status and the body.
    async fn send(&self, headers: &[(&str, &str)]) -> Result<String> {
        let lines: Vec<_> = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let response = Http1::connect(self.proxy.addr(PORT)).await?.get(&host(B, B), "/", &lines).await?;
        if response.status != 200 {
            return Ok(format!("{} {}", response.status, response.text()));
        }
        let said: Value = serde_json::from_slice(&response.body)?;
        let version = said["version"].as_str().context("no version")?.to_owned();
        let report = values(&said, REPORT).next().and_then(|report| report.split(' ').next());
        Ok(match report {
            Some("applied") => format!("{version} applied"),
            _ => version,
        })
    }
}

async fn start_proxy(world: &World, namespace: &str, ip: Ipv4Addr, dir: &Path) -> Result<Proxy> {
    let agents = world.agents.as_ref().context("expected a mesh of agents")?;
    let labels = &[("app", NAME), ROUTER];
    let workload = Workload { kind: Kind::Sidecar, namespace, name: NAME, labels, ip };
    Proxy::start_with_agent(&world.plane, &agents.program, workload, dir).await
}

/// The `sha256` beside the URL in a filter's resource.
fn sha256(resource: &mut Value) -> &mut Value {
    let kind = resource["kind"].as_str().unwrap_or_default().to_owned();
    let spec = &mut resource["spec"];
    match &*kind {
        "WasmPlugin" => &mut spec["sha256"],
        "TrafficExtension" => &mut spec["wasm"]["sha256"],
        _ => {
            let wasm = &mut spec["configPatches"][0]["patch"]["value"]["typed_config"]["config"];
            &mut wasm["vm_config"]["code"]["remote"]["sha256"]
        }
    }
}

/// A load of requests with a token.
fn steady(sidecar: &Sidecar) -> Load {
    let token = bearer(&json!({"microservice-B": "PR-1"}));
    let allowed: load::Allowed = std::array::from_fn(|_| vec!["PR-1".to_owned()]);
    let request = Steady { host: host(B, B), headers: vec![("authorization".into(), token.into())], allowed };
    Load::start(sidecar.proxy.addr(PORT), vec![request])
}

fn pull_secret(namespace: &str, gates: &[PasswordGate; 2]) -> Value {
    let login = json!({"username": USER, "password": PASSWORD});
    let [one, other] = gates.each_ref().map(|gate| gate.addr.to_string());
    let login = json!({"auths": {one: login, other: login}});
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": PULL_SECRET, "namespace": namespace},
        "data": {".dockerconfigjson": BASE64.encode(login.to_string())},
    })
}

/// The module with a custom section, which changes its bytes and nothing else.
fn with_custom_section(module: &[u8], name: &str) -> Vec<u8> {
    // Both lengths are LEB128 numbers, which are one byte up to 127.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX).min(126);
    [module, &[0, length + 1, length], &name.as_bytes()[..length.into()]].concat()
}

const KINDS: [&str; 3] = ["EnvoyFilter", "WasmPlugin", "TrafficExtension"];
const STRATEGIES: [&str; 3] = ["FAIL_CLOSE", "FAIL_RELOAD", "FAIL_OPEN"];
const NAME: &str = "caller";
const FETCH_FAILURES: &str = "istio_agent_wasm_config_conversion_count{result=\"fetch_failure\"}";
const DENIED: &str = "403 RBAC: access denied";
const PULL_SECRET: &str = "registry-login";
const USER: &str = "puller";
const PASSWORD: &str = "not-a-secret";
const REGISTRY: u8 = 3;
const FIRST_SIDECAR: u8 = 120;
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(300);
