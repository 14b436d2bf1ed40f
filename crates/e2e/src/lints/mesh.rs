//! Fixtures on the mesh: applies them one at a time, and looks what happens.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use e2e::{Cluster, Proxy, app::App, settle};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use manifest_gen::{
    documents::Documents,
    token::{self, Signature},
    yaml::File,
};
use routing_claims::Policy;
use routing_plan::resolve::Expiry;
use serde_json::{Map, Value, json};
use testbed::client::Http1;
use tokio::process::Command;

use super::table::{From, Probe, Proof, Request, Token};
use crate::{
    scene::values,
    world::{PORT, World, key_set},
};

/// The mesh, with the services that the fixtures name.
pub(super) struct Mesh<'w> {
    world: &'w World,
    /// What the last fixture brought.
    applied: Vec<Value>,
    /// Whether a proxy refused it.
    is_refused: bool,
    trap: PathBuf,
    _apps: Vec<App>,
}

impl<'w> Mesh<'w> {
    /// Starts the services.
    pub(super) async fn start(world: &'w World, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let trap = dir.join("trap.wasm");
        fs::write(&trap, wat::parse_str(TRAP)?)?;
        let mut apps = vec![App::http((world.client.ip, INBOUND_APP).into(), "client", "main", None).await?];
        for (index, (_, name)) in SERVICES.iter().enumerate() {
            apps.push(App::http(world.net.addr(APPS, app_port(index)), name, "main", None).await?);
        }
        let mesh = Self { world, applied: Vec::new(), is_refused: false, trap, _apps: apps };
        mesh.put(mesh.own()).await?;
        mesh.put(services()).await?;
        Ok(mesh)
    }

    /// Leaves the mesh as it was, for the other scenarios.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.clear().await?;
        let (changed, added): (Vec<_>, Vec<_>) =
            self.own().into_iter().partition(|one| self.world.cluster.applied(&Cluster::id(one)).is_some());
        let before = changed.iter().filter_map(|one| self.world.cluster.applied(&Cluster::id(one)));
        self.put(before.collect()).await?;
        let is_namespace = |one: &Value| one["kind"] == "Namespace";
        self.delete(added.into_iter().chain(services()).filter(|one| !is_namespace(one)).collect()).await?;
        settle(&self.world.cluster, &self.world.proxies()).await
    }

    /// What happens with a fixture.
    pub(super) async fn observe(&mut self, proof: &Proof, fixture: &str) -> Result<String> {
        let file = path(proof.lint, fixture);
        match proof.probe {
            Probe::Refused => self.refusal(&file).await,
            Probe::Rendered => rendered(&file),
            Probe::Stored => {
                self.clear().await?;
                for document in read(&file)? {
                    let applied = self.world.cluster.apply_unrecorded(&document).await?;
                    self.applied.push(document);
                    if applied.is_err() {
                        return Ok("the API server refuses it".to_owned());
                    }
                }
                Ok("stored".to_owned())
            }
            Probe::Order => self.order(&read(&file)?).await,
            Probe::Requests(requests) => {
                let is_refused = self.apply(proof.lint, &file, None).await?;
                let answers = self.send_all(requests, &file).await?;
                Ok(if is_refused { "Envoy refuses it; ".to_owned() + &answers } else { answers })
            }
            Probe::Unvalidated(requests) => {
                self.clear().await?;
                for document in read(&file)? {
                    let bound = self.bound(&document, None);
                    let created = self.world.cluster.create_unrecorded(&bound).await?;
                    created.map_err(|why| anyhow!("{}: {why}", Cluster::id(&bound)))?;
                    self.applied.push(bound);
                }
                ensure!(!self.settle().await?, "a proxy refuses it");
                self.send_all(requests, &file).await
            }
            Probe::Pulled => bail!("this mesh pulls nothing"),
            Probe::AfterTrap(request) => {
                self.apply(proof.lint, &file, Some(&self.trap.clone())).await?;
                self.send_all(&[request.with(&[("x-trap", "1")]), request], &file).await
            }
        }
    }

    /// Replaces the last fixture, and waits until the proxies have this one. Returns whether a proxy
    /// refuses it.
    async fn apply(&mut self, lint: &str, file: &Path, module: Option<&Path>) -> Result<bool> {
        self.clear().await?;
        let before = path(lint, "before");
        if before.is_file() {
            self.put_fixture(&read(&before)?, module).await?;
            ensure!(!self.settle().await?, "a proxy refuses {}", before.display());
        }
        self.put_fixture(&read(file)?, module).await?;
        self.is_refused = self.settle().await?;
        Ok(self.is_refused)
    }

    /// Deletes the last fixture. The proxies notice with the next one.
    async fn clear(&mut self) -> Result<()> {
        let applied = std::mem::take(&mut self.applied);
        let had_services = applied.iter().any(is_service);
        self.delete(applied).await?;
        if had_services {
            self.put(services()).await?;
        }
        if std::mem::take(&mut self.is_refused) {
            settle(&self.world.cluster, &self.world.proxies()).await?;
        }
        Ok(())
    }

    /// Applies a fixture, except for what the mesh has already.
    async fn put_fixture(&mut self, documents: &[Value], module: Option<&Path>) -> Result<()> {
        if documents.iter().any(is_service) {
            // A fixture with Services says which ones exist.
            let exists = |one: &Value| documents.iter().any(|other| Cluster::id(other) == Cluster::id(one));
            self.delete(services().into_iter().filter(|one| !exists(one)).collect()).await?;
        }
        for document in documents {
            // A resource of that name which the mesh has already is what the fixture stands for.
            if self.world.cluster.applied(&Cluster::id(document)).is_none() {
                let bound = self.bound(document, module);
                self.applied.push(bound.clone());
                self.put(vec![bound]).await?;
            }
        }
        Ok(())
    }

    /// Waits until all proxies have everything, or one has refused something: whether one did.
    async fn settle(&self) -> Result<bool> {
        let proxies = self.world.proxies();
        let before = refused(&proxies).await?;
        let refusal = async {
            while refused(&proxies).await? == before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            settled = settle(&self.world.cluster, &proxies) => settled?,
            refusal = refusal => refusal?,
        }
        Ok(refused(&proxies).await? != before)
    }

    /// A resource as this mesh needs it: the filter's code is the one that was built, and the issuer's key is known.
    fn bound(&self, resource: &Value, module: Option<&Path>) -> Value {
        let built = self.world.dist.join("routing-claims.wasm");
        let module = module.unwrap_or(&built);
        let policy = resource["metadata"]["annotations"]["routing-claims.dev/policy"].as_str();
        let policy = policy.and_then(|policy| Policy::from_json(policy.as_bytes()).ok());
        let script = policy.map(|policy| lua_filter::source(&policy));
        let mut bound = resource.clone();
        replace(&mut bound, &|key, value| match key {
            "inlineCode" | "inline_string" => script.as_ref().map(|script| json!(script)),
            "filename" => (Path::new(value.as_str()?).extension()? == "wasm").then(|| json!(module)),
            _ => None,
        });
        for plugin in ["/spec", "/spec/wasm"] {
            if let Some(plugin) = bound.pointer_mut(plugin).filter(|plugin| plugin["url"].is_string()) {
                plugin["url"] = json!(format!("file://{}", module.display()));
                // The digest is that of an image.
                plugin["sha256"] = json!("");
            }
        }
        for rule in bound.pointer_mut("/spec/jwtRules").and_then(Value::as_array_mut).into_iter().flatten() {
            rule["jwks"] = json!(key_set(&self.world.issuer).to_string());
        }
        bound
    }

    /// Whether the API server or Istio's webhook refuses a fixture.
    async fn refusal(&mut self, file: &Path) -> Result<String> {
        // What exists can't be created.
        self.clear().await?;
        for document in read(file)? {
            if self.world.cluster.refusal(&document).await?.is_some() {
                return Ok("the API server refuses it".to_owned());
            }
        }
        // The webhook does not run here; `istioctl validate` runs the same code.
        let mut command = Command::new(&self.world.istioctl);
        let output = command.arg("validate").arg("-f").arg(file).stdin(Stdio::null()).output().await?;
        let word = if output.status.success() { "accepted" } else { "Istio refuses it" };
        Ok(word.to_owned())
    }

    /// Whether the order of two filters depends on which resource is older.
    async fn order(&mut self, documents: &[Value]) -> Result<String> {
        let mut orders = Vec::new();
        let reversed: Vec<_> = documents.iter().rev().cloned().collect();
        for documents in [documents, &reversed] {
            self.clear().await?;
            for (index, document) in documents.iter().enumerate() {
                if index > 0 {
                    // Resources of the same second have the same age.
                    tokio::time::sleep(Duration::from_millis(1100)).await;
                }
                self.put_fixture(std::slice::from_ref(document), None).await?;
            }
            ensure!(!self.settle().await?, "a proxy refuses a filter");
            let is_of_fixture = |name: &String| documents.iter().any(|one| one["metadata"]["name"] == **name);
            let listeners = self.world.client.http_filters().await?;
            let filters = listeners.into_iter().next().context("no listener")?.names;
            orders.push(filters.into_iter().filter(is_of_fixture).collect::<Vec<_>>());
        }
        ensure!(orders.iter().all(|order| order.len() == documents.len()), "a filter is not there: {orders:?}");
        Ok(if orders[0] == orders[1] { "always the same order" } else { "the older one is first" }.to_owned())
    }

    async fn send_all(&self, requests: &[Request], file: &Path) -> Result<String> {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(self.send(request, file).await?);
        }
        Ok(answers.join("; "))
    }

    /// Sends a request on a connection of its own. The answer is the name of a service, with what it received, or a status.
    async fn send(&self, request: &Request, file: &Path) -> Result<String> {
        let addr = match request.from {
            From::Client => self.world.client.addr(PORT),
            From::Plain => self.world.plain.addr(PORT),
            From::Gateway => self.world.gateway.addr(PORT),
            From::Entry => self.world.gateway.addr(entry_port()),
            From::AnotherProxy => self.world.client.addr(INBOUND),
            From::Deployment => self.workload(file)?.addr(PORT),
        };
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n", request.method, request.path, request.host);
        text.extend(request.headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]));
        let token = request.token.map(|token| self.token(token)).transpose()?;
        if let Some(token) = &token {
            text.extend(["authorization: Bearer ", token, "\r\n"]);
        }
        text.push_str("\r\n");
        let mut connection = Http1::connect(addr).await?;
        connection.write(text.as_bytes()).await?;
        let response = connection.read().await?;
        let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let Some(service) = said["service"].as_str() else { return Ok(response.status.to_string()) };
        let received = request.shows.iter().map(|name| match values(&said, name).collect::<Vec<_>>()[..] {
            [] => format!(" without {name}"),
            ref lines => format!(" with {name}: {}", lines.join(", ")),
        });
        let received: String = received.collect();
        Ok(service.to_owned() + &token.map_or(received.clone(), |token| received.replace(&token, "TOKEN")))
    }

    /// The workload that the fixture's first Deployment stands for.
    fn workload(&self, file: &Path) -> Result<&Proxy> {
        let documents = read(file)?;
        let deployment = documents.iter().find(|one| one["kind"] == "Deployment").context("no Deployment")?;
        let labels: Vec<(String, String)> = serde_json::from_value::<std::collections::BTreeMap<_, _>>(
            deployment["spec"]["template"]["metadata"]["labels"].clone(),
        )?
        .into_iter()
        .collect();
        let namespace = &deployment["metadata"]["namespace"];
        let is = |proxy: &&Proxy| *namespace == *proxy.namespace && labels == proxy.labels;
        self.world.proxies().into_iter().find(is).with_context(|| format!("no workload has the labels {labels:?}"))
    }

    fn token(&self, token: Token) -> Result<String> {
        let payload = json!({
            "iss": "https://issuer.example",
            "exp": Timestamp::now().as_second() + 3600,
            "microservice-A": token.version,
            "team": "beta",
        });
        let payload: Map<_, _> = serde_json::from_value(payload)?;
        if token.is_signed {
            let key = self.world.issuer.serialize_pem();
            Ok(token::sign(&payload, Signature::Es256, key.as_bytes(), Some("e2e"))?)
        } else {
            Ok(token::unsigned(&payload))
        }
    }

    async fn put(&self, resources: Vec<Value>) -> Result<()> {
        for resource in resources {
            let applied = self.world.cluster.apply_unrecorded(&resource).await?;
            applied.map_err(|why| anyhow!("{}: {why}", Cluster::id(&resource)))?;
        }
        Ok(())
    }

    async fn delete(&self, resources: Vec<Value>) -> Result<()> {
        stream::iter(resources)
            .map(async |resource| self.world.cluster.delete_unrecorded(&resource).await)
            .buffer_unordered(8)
            .try_collect()
            .await
    }

    /// What the mesh has beside all fixtures: namespaces, the workloads of the services, a host at the gateway, a gateway of
    /// the Gateway API, and an inbound listener.
    fn own(&self) -> Vec<Value> {
        let namespaces = ["core", "edge", "payments", "previews", "shop"];
        let namespaces =
            namespaces.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        let workloads = SERVICES.iter().enumerate().map(|(index, (namespace, name))| {
            json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadEntry",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "address": self.world.net.ip(APPS).to_string(),
                    "labels": {"app": name, "version": "v1"},
                    "ports": {"http": app_port(index)},
                },
            })
        });
        let at_gateway = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "at-gateway", "namespace": "shop"},
            "spec": {
                "hosts": [AT_GATEWAY],
                "gateways": ["istio-system/public"],
                "http": [{"route": [{"destination": {"host": "microservice-a"}}]}],
            },
        });
        let mut sidecar = self.world.cluster.applied("Sidecar client/client").unwrap_or_default();
        sidecar["spec"]["ingress"] = json!([{
            "bind": self.world.client.ip.to_string(),
            "port": {"number": INBOUND, "protocol": "HTTP", "name": "http-inbound"},
            "captureMode": "NONE",
            "defaultEndpoint": format!("0.0.0.0:{INBOUND_APP}"),
        }]);
        let entry = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "entry", "namespace": "istio-system"},
            "spec": {
                "gatewayClassName": "istio",
                // Without it, istiod would deploy a gateway.
                "addresses": [{"type": "Hostname", "value": "entry.istio-system.svc.cluster.local"}],
                "listeners": [{
                    "name": "http",
                    "port": entry_port(),
                    "protocol": "HTTP",
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }],
            },
        });
        let of_entry = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "entry", "namespace": "istio-system"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "ports": [{"name": "http-entry", "port": entry_port(), "targetPort": entry_port()}],
            },
        });
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "istio"},
            "spec": {"controllerName": "istio.io/gateway-controller"},
        });
        // The proxies have no certificates.
        let plain_text = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "plain-text", "namespace": "client"},
            "spec": {"mtls": {"mode": "DISABLE"}},
        });
        namespaces
            .into_iter()
            .chain(workloads)
            .chain([at_gateway, class, entry, of_entry, plain_text, sidecar])
            .collect()
    }
}

/// The file of a fixture.
pub(crate) fn path(lint: &str, fixture: &str) -> PathBuf {
    testbed::workspace_dir().join("crates/manifest-gen/tests/lints").join(lint).join(format!("{fixture}.yaml"))
}

fn read(file: &Path) -> Result<Vec<Value>> {
    Cluster::documents(&fs::read_to_string(file)?)
}

/// One Service for each of the workloads.
fn services() -> Vec<Value> {
    let one = |(namespace, name): &(&str, &str)| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
        })
    };
    SERVICES.iter().map(one).collect()
}

/// Whether `render` takes the fixture's plan.
fn rendered(file: &Path) -> Result<String> {
    let plan = file.with_extension("plan.yaml");
    let plan = Arc::new(File { name: "plan.yaml".to_owned(), text: fs::read_to_string(plan)? });
    let mut documents = Documents::default();
    let refused = |what: &str| anyhow!("{what} refuses the plan");
    let no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let input = documents.read_plan(&[plan], &no_files).map_err(|_| refused("the reader"))?;
    let now = "2026-01-01T00:00:00Z".parse()?;
    Ok(match documents.resolve(&input, Expiry::Refuse(now)) {
        Ok(_) => "rendered".to_owned(),
        Err(_) => "`render` refuses it".to_owned(),
    })
}

/// How often proxies have refused something.
async fn refused(proxies: &[&Proxy]) -> Result<u64> {
    stream::iter(proxies).then(async |proxy| proxy.refused().await).try_fold(0, async |sum, one| Ok(sum + one)).await
}

fn is_service(resource: &Value) -> bool {
    resource["kind"] == "Service"
}

/// Replaces members at any depth.
fn replace(value: &mut Value, new: &impl Fn(&str, &Value) -> Option<Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, new)),
        Value::Object(members) => {
            for (key, member) in members {
                match new(key, member) {
                    Some(value) => *member = value,
                    None => replace(member, new),
                }
            }
        }
        _ => {}
    }
}

/// The port of the Gateway API's gateway. It listens on every address, so each run has its own, below those that Linux gives to
/// clients (from 32,768 on).
fn entry_port() -> u16 {
    30_000 + u16::try_from(std::process::id() % 2_700).unwrap_or_default()
}

fn app_port(index: usize) -> u16 {
    FIRST_PORT + u16::try_from(index).unwrap_or_default()
}

/// Namespace and name of each Service that a fixture can name.
const SERVICES: [(&str, &str); 11] = [
    ("shop", "microservice-a"),
    ("shop", "microservice-a-pr-1"),
    ("core", "api"),
    ("core", "details"),
    ("core", "orders"),
    ("core", "orders-beta"),
    ("core", "orders-canary"),
    ("core", "orders-pr-1"),
    ("core", "orders-public"),
    ("previews", "microservice-a"),
    ("previews", "orders-canary"),
];
/// The host at the gateway that leads to `microservice-a`, whatever the headers are.
pub(super) const AT_GATEWAY: &str = "shop.example";
/// A module that traps on a request with the header `x-trap`.
const TRAP: &str = include_str!("../../../hostile/tests/envoy/trap.wat");
/// The last byte of the address of all services.
const APPS: u8 = 71;
const FIRST_PORT: u16 = 21_000;
/// The port of the inbound listener, and of the workload behind it.
const INBOUND: u16 = 8089;
const INBOUND_APP: u16 = 8090;
