//! One column's plan: changes it, renders it, rolls it out, and sends requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use e2e::{Cluster, Load, Proxy, Steady, Tally, load};
use jiff::Timestamp;
use routing_plan::explain::{
    self, ExplainRequest, Explanation,
    hops::{self, Call, Choice},
};
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::process::Command;

use crate::{
    column::Column,
    world::{A, B, PORT, World, host, module},
};

/// A plan with its variant files, and the resources that are in force.
pub(crate) struct Scene<'w> {
    pub(crate) world: &'w mut World,
    pub(crate) column: Column,
    /// The desired plan.
    pub(crate) plan: Value,
    /// The variant files: file name to content.
    pub(crate) fragments: BTreeMap<String, Value>,
    /// What pull requests add besides their variant files: Services and workloads.
    pub(crate) brought: Vec<Value>,
    /// The resources that this scene applied.
    mine: BTreeSet<String>,
    dir: PathBuf,
}

/// Where a request starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Outside the mesh, through the gateway.
    Outside,
    /// The workload with the router label.
    Client,
    /// The workload without the router label.
    Plain,
}

/// A response.
#[derive(Debug)]
pub(crate) struct MeshResponse {
    pub(crate) status: u16,
    /// The body of the first service.
    pub(crate) said: Value,
    /// The versions of the chain that answered, such as `PR-1>main`.
    pub(crate) versions: String,
}

impl<'w> Scene<'w> {
    /// Writes the column's plan into a folder and rolls it out.
    pub(crate) async fn set(world: &'w mut World, column: Column, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("routing-claims.wasm"), module(&world.dist)?)?;
        if column.engine == "module" {
            fs::copy(testbed::module_path()?, dir.join("routing-claims.so"))?;
        }
        let (plan, fragments) = plan(world, column, dir);
        let mut scene =
            Self { world, column, plan, fragments, brought: Vec::new(), mine: BTreeSet::new(), dir: dir.to_owned() };
        scene.roll_out().await?;
        Ok(scene)
    }

    /// Restores the plan that the column started with.
    pub(crate) async fn reset(&mut self) -> Result<()> {
        (self.plan, self.fragments) = plan(self.world, self.column, &self.dir);
        self.brought.clear();
        self.roll_out().await
    }

    /// Removes everything that the scene applied.
    pub(crate) async fn clear(mut self) -> Result<()> {
        self.apply(BTreeMap::new()).await
    }

    /// Renders the plan and applies the difference to the mesh. Returns when the result is in force everywhere.
    pub(crate) async fn roll_out(&mut self) -> Result<()> {
        let rendered = self.render().await?;
        let new = rendered.into_iter().chain(self.brought.iter().cloned());
        self.apply(new.map(|resource| (Cluster::id(&resource), resource)).collect()).await
    }

    /// What `manifest-gen render` writes for the current plan.
    pub(crate) async fn render(&self) -> Result<Vec<Value>> {
        let variants = self.path("variants");
        fs::remove_dir_all(&variants).ok();
        fs::create_dir_all(&variants)?;
        for (name, fragment) in &self.fragments {
            fs::write(variants.join(name), fragment.to_string())?;
        }
        fs::write(self.path("plan.yaml"), self.plan.to_string())?;
        self.manifest_gen(&["render", "-f", "plan.yaml", "-f", "variants/", "-o", "rendered/"]).await?;
        let mut rendered = Vec::new();
        for file in fs::read_dir(self.path("rendered"))? {
            rendered.extend(Cluster::documents(&fs::read_to_string(file?.path())?)?);
        }
        Ok(rendered)
    }

    /// Runs the `manifest-gen` that ships, in the plan's folder, and returns its standard output. Exit code 1 means
    /// findings, not an error.
    pub(crate) async fn manifest_gen(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.world.dist.join("manifest-gen"));
        let output = command.args(arguments).current_dir(&self.dir).stdin(Stdio::null()).output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 1)), "manifest-gen {}: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Changes the mesh from what the scene applied to the desired resources.
    async fn apply(&mut self, new: BTreeMap<String, Value>) -> Result<()> {
        let cluster = self.world.cluster.clone();
        let old: Vec<_> = self.mine.iter().filter_map(|id| cluster.applied(id)).collect();
        let write = |name: &str, resources: &mut dyn Iterator<Item = &Value>| {
            fs::write(self.path(name), resources.map(Value::to_string).collect::<Vec<_>>().join("\n---\n"))
        };
        write("old.yaml", &mut old.iter())?;
        write("new.yaml", &mut new.values())?;
        let diff = self.manifest_gen(&["diff", "old.yaml", "new.yaml", "--format", "json"]).await?;
        let diff: Value = serde_json::from_str(&diff)?;
        let steps: Vec<_> = diff["steps"].as_array().context("`diff` has no steps")?.iter().collect();
        if steps.is_empty() {
            return Ok(());
        }
        for step in steps {
            let id = step["resource"].as_str().context("a step without a resource")?;
            match step["verb"].as_str().unwrap_or_default() {
                "apply" => {
                    cluster
                        .apply(new.get(id).with_context(|| format!("`diff` names {id}, which is not rendered"))?)
                        .await?;
                    self.mine.insert(id.to_owned());
                }
                "delete" => {
                    cluster.delete(id).await?;
                    self.mine.remove(id);
                }
                "wait" => self.world.settle().await?,
                _ => bail!("`diff` has an unknown step: {step}"),
            }
        }
        self.world.settle().await
    }

    pub(crate) fn proxy(&self, from: From) -> &Proxy {
        match from {
            From::Outside => &self.world.gateway,
            From::Client => &self.world.client,
            From::Plain => &self.world.plain,
        }
    }

    /// Where requests for A enter: through the gateway if the plan has routes for it, else through the client's sidecar.
    pub(crate) fn entry(&self) -> (From, String) {
        if self.column.has_gateway() { (From::Outside, PUBLIC_HOST.to_owned()) } else { (From::Client, host(A, A)) }
    }

    /// Sends a request for A through its entry.
    pub(crate) async fn enter(&mut self, headers: &[(&str, &str)]) -> Result<MeshResponse> {
        let (from, host) = self.entry();
        self.ask(from, &host, "/", headers).await
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(
        &self,
        from: From,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<MeshResponse> {
        let lines: Vec<_> = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let response = Http1::connect(self.proxy(from).addr(PORT)).await?.get(host, path, &lines).await?;
        let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        Ok(MeshResponse { status: response.status, versions: load::versions(&said), said })
    }

    /// Sends a request, and compares each hop with `explain` on the applied manifests.
    pub(crate) async fn ask(
        &mut self,
        from: From,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<MeshResponse> {
        let answer = self.send(from, host, path, headers).await?;
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let first = question(self.proxy(from), from == From::Outside, host, path, headers);
        if answer.said["service"].is_string() {
            self.compare(&first, &answer.said)
                .with_context(|| format!("`explain` and the mesh differ: {host}{path}, {}", answer.said))?;
            self.world.explained += 1;
        }
        let called = &answer.said["called"];
        if called["said"]["service"].is_string() {
            let path = answer.said["path"].as_str().unwrap_or_default();
            let sent: Vec<(String, String)> = serde_json::from_value(called["sent"].clone())?;
            let second = question(&self.world.sidecar_a, false, &self::host(B, B), path, sent.clone());
            self.compare(&second, &called["said"])
                .with_context(|| format!("`explain` and the mesh differ at the second hop: {}", called["said"]))?;
            // An SDK can change what it forwards.
            if sent.iter().all(|(name, value)| values(&answer.said, name).any(|received| received == value)) {
                self.compare_hops(&first, &second, &sent, &answer.said)?;
            }
            self.world.explained += 1;
        }
        Ok(answer)
    }

    /// Whether a service received what `explain` predicts.
    fn compare(&self, request: &ExplainRequest, said: &Value) -> Result<()> {
        let explanation = explain::explain(&self.world.cluster.manifests(), request, Timestamp::now().as_second());
        agree(&explanation, said).with_context(|| explanation.to_text(&|location| location.path.to_string()))
    }

    /// Whether both services received what `explain` predicts from the first request and what A forwards.
    fn compare_hops(
        &self,
        first: &ExplainRequest,
        second: &ExplainRequest,
        sent: &[(String, String)],
        said: &Value,
    ) -> Result<()> {
        let call = Call {
            host: second.host.clone(),
            port: second.port,
            path: second.path.clone(),
            forwards: sent.iter().map(|(name, _)| name.clone()).collect(),
            has_own_token: false,
        };
        let journey = hops::follow(&self.world.cluster.manifests(), first, &[call], Timestamp::now().as_second());
        let text = || journey.to_text(&|location| location.path.to_string());
        let answers = [said, &said["called"]["said"]];
        ensure!(journey.hops.len() == answers.len(), "{}", text());
        for (hop, said) in journey.hops.iter().zip(answers) {
            agree(&hop.explanation, said).with_context(text)?;
        }
        let is_applied =
            |said: &&Value| values(said, REPORT).next().is_some_and(|report| report.starts_with("applied"));
        let lost = answers.iter().position(|said| !is_applied(said)).map(|index| index + 1);
        let told = match &journey.choice {
            Choice::Applied => None,
            Choice::Lost { hop, .. } | Choice::Unknown { hop, .. } => Some(*hop),
        };
        ensure!(told == lost, "the mesh lost the choice at hop {lost:?}: {}", text());
        Ok(())
    }

    /// Starts a load of requests for A through its entry.
    pub(crate) fn load(&self, requests: &[(Option<&Value>, load::Allowed)]) -> Load {
        let (from, host) = self.entry();
        let steady = requests.iter().map(|(claims, allowed)| Steady {
            host: host.clone(),
            headers: claims.map(|claims| ("authorization".into(), bearer(claims).into())).into_iter().collect(),
            allowed: allowed.clone(),
        });
        Load::start(self.proxy(from).addr(PORT), steady.collect())
    }

    /// Stops a load. No request may have failed.
    pub(crate) async fn unload(&mut self, load: Load) -> Result<Tally> {
        let tally = load.stop().await;
        self.world.under_load += tally.sent;
        let Tally { sent, failed, misrouted, first, .. } = &tally;
        if failed + misrouted > 0 {
            bail!(
                "of {sent} requests, {failed} failed and {misrouted} were misrouted: {}",
                first.as_deref().unwrap_or("?")
            );
        }
        ensure!(*sent > 100, "expected more than 100 requests during the change, found {sent}");
        Ok(tally)
    }
}

/// A request, as `explain` takes it.
fn question(
    sender: &Proxy,
    at_gateway: bool,
    host: &str,
    path: &str,
    headers: Vec<(String, String)>,
) -> ExplainRequest {
    ExplainRequest {
        host: host.to_owned(),
        path: path.to_owned(),
        method: "GET".to_owned(),
        headers,
        port: Some(PORT),
        scheme: Some("http".to_owned()),
        gateway: at_gateway.then(|| "istio-system/public".to_owned()),
        namespace: Some(sender.namespace.clone()),
        labels: Some(sender.labels.iter().cloned().collect()),
        mesh: explain::MeshFacts::default(),
    }
}

/// Whether the service that answered is one of the destinations, and received the headers that `explain` predicts.
fn agree(explanation: &Explanation, said: &Value) -> Result<()> {
    // A service answered, so the token was accepted. That A's proxy has the filter is not in the manifests of a mesh without pods.
    let is_known = |message: &str| message.contains(" accepts the token (") || message.ends_with("has its workload)");
    let mut assumed = explanation.assumed.iter().filter(|one| !is_known(&one.message));
    ensure!(
        assumed.next().is_none() && explanation.unknown.is_empty() && explanation.instead.is_none(),
        "`explain` cannot tell"
    );
    let text = |name: &str| said[name].as_str().unwrap_or_default();
    let (service, version) = (text("service"), text("version"));
    let answered = if version == "main" { host(service, service) } else { host(service, &version.to_lowercase()) };
    ensure!(explanation.destinations.iter().any(|one| one.host == answered), "{answered} answered");
    for (name, value) in &explanation.set {
        // `explain` does not show the members of others in `baggage`.
        let is_as_shown = |received: &str| match value.strip_prefix('…') {
            Some(own) => received.ends_with(own),
            None => received == value,
        };
        ensure!(values(said, name).map(is_as_shown).eq([true]), "{name} is not {value}");
    }
    for name in explanation.removed.iter().filter(|name| explanation.set.iter().all(|(set, _)| set != *name)) {
        ensure!(values(said, name).next().is_none(), "{name} was not removed");
    }
    let reported = values(said, REPORT).next().and_then(|report| report.split(' ').next());
    ensure!(reported == explanation.outcome, "the filter reports {reported:?}");
    Ok(())
}

/// The values of a header that a service received.
pub(crate) fn values<'a>(said: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = said["headers"].as_array().into_iter().flatten();
    lines.filter(move |line| line[0] == name).filter_map(|line| line[1].as_str())
}

/// The value of an `Authorization` header with a token of these claims, unsigned.
pub(crate) fn bearer(claims: &Value) -> String {
    bearer_of(&claims.to_string())
}

/// The same for a payload that a JSON value can't be, such as one with a key twice.
pub(crate) fn bearer_of(payload: &str) -> String {
    format!("Bearer e30.{}.", BASE64.encode(payload))
}

/// The plan that a column starts with, and its variant files.
pub(crate) fn plan(world: &World, column: Column, dir: &Path) -> (Value, BTreeMap<String, Value>) {
    let mut filter = json!({
        "engine": column.engine,
        "resource": column.filter,
        "istioVersion": if column.engine == "module" { "1.31" } else { "1.30" },
        "gateways": {"matchLabels": {"istio": "ingressgateway"}},
    });
    if column.engine == "wasm" {
        filter["wasm"] = match &world.agents {
            Some(agents) => agents.wasm.clone(),
            None if column.filter == "EnvoyFilter" => json!({"inline": "routing-claims.wasm"}),
            None => json!({"url": format!("file://{}", dir.join("routing-claims.wasm").display())}),
        };
    }
    if column.engine == "module" {
        filter["module"] = json!({"path": dir.join("routing-claims.so")});
    }
    let services: Vec<_> = ["A", "B", "C", "D"]
        .into_iter()
        .map(|letter| {
            let mut service = json!({
                "name": format!("microservice-{letter}"),
                "namespace": format!("microservice-{}", letter.to_lowercase()),
                "port": PORT,
                "variants": [{"name": "PR-1"}],
            });
            if letter == "A" && column.has_gateway() {
                service["gateways"] = json!(["istio-system/public"]);
                service["hosts"] = json!([PUBLIC_HOST]);
            }
            service
        })
        .collect();
    let plan = json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingPlan",
        "metadata": {"name": "qa", "namespace": "istio-system"},
        "spec": {
            "policy": {
                "fromCookies": [KEY],
                "fromBaggage": [KEY],
                "carry": {"baggage": KEY},
                "reportHeader": REPORT,
            },
            "filter": filter,
            "routes": {"resource": column.routes},
            "services": services,
        },
    });
    let fragments = [("microservice-A", "PR-2"), ("microservice-A", "PR-3"), ("microservice-B", "PR-2")];
    (plan, fragments.into_iter().map(|(service, variant)| fragment(service, variant)).collect())
}

/// A variant file: its name and content.
pub(crate) fn fragment(service: &str, variant: &str) -> (String, Value) {
    let name = format!("{service}-{variant}").to_lowercase();
    let text = json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingVariant",
        "metadata": {"name": name},
        "spec": {"service": service, "variant": variant},
    });
    (format!("{name}.yaml"), text)
}

/// The host of A outside the mesh.
pub(crate) const PUBLIC_HOST: &str = "a.qa.example";
pub(crate) const REPORT: &str = "x-routing-report";
/// The cookie that has the token, and the member of `baggage` that carries the choice.
pub(crate) const KEY: &str = "qa";
