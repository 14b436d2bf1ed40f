//! What the chart installs, upgrades, rolls back and leaves behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Program, Readiness, RunningController, tools, until};
use serde_json::{Value, json};
use testbed::client::Http1;

use super::{
    NAMESPACE, RELEASE, chart, definitions,
    helm::{Helm, Kubectl},
    of_kind,
};
use crate::{
    scene::bearer,
    world::{A, PORT, World, host},
};

/// From `install` to `uninstall`.
pub(super) async fn lifecycle(world: &World, helm: &Helm, kubectl: &Kubectl, dir: &Path) -> Result<()> {
    let cluster = &world.cluster;
    let image = ["--set", "image.repository=127.0.0.1:5000/routing-claims-controller", "--set", DIGEST];
    helm.release("install", &chart(), &image).await?;
    let objects = helm.template(&image).await?;
    exist(cluster, &objects).await?;
    let deployment = cluster.get(of_kind(&objects, "Deployment")?).await?.context("no Deployment")?;
    pods_are_secure(cluster, &deployment).await?;
    runs(world, &deployment, dir).await?;

    let changes = ["--reuse-values", "--set", "replicas=3,drainSeconds=30"];
    helm.release("upgrade", &chart(), &changes).await?;
    ensure!(state(cluster, &objects).await? == (json!(3), true), "the upgrade changes nothing");
    helm.run(&["rollback", RELEASE, "1", "--namespace", NAMESPACE]).await?;
    ensure!(state(cluster, &objects).await? == (json!(2), false), "the rollback does not restore what was");
    definitions_are_upgraded(cluster, helm, kubectl, dir).await?;

    helm.run(&["uninstall", RELEASE, "--namespace", NAMESPACE]).await?;
    for object in &objects {
        ensure!(cluster.get(object).await?.is_none(), "{} is left", Cluster::id(object));
    }
    exist(cluster, &read_definitions(&definitions())?).await
}

async fn exist(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    for object in objects {
        ensure!(cluster.get(object).await?.is_some(), "{} does not exist", Cluster::id(object));
    }
    Ok(())
}

/// The number of replicas, and whether the controller may write Services and is told to.
async fn state(cluster: &Cluster, objects: &[Value]) -> Result<(Value, bool)> {
    let deployment = cluster.get(of_kind(objects, "Deployment")?).await?.context("no Deployment")?;
    let role = cluster.get(of_kind(objects, "ClusterRole")?).await?.context("no ClusterRole")?;
    let drains = command(&deployment)?.iter().any(|argument| argument == "--drain-seconds=30");
    let rules = role["rules"].as_array().context("no rules")?;
    let may = rules.iter().any(|rule| rule["resources"] == json!(["services"]) && rule["verbs"] == json!(["patch"]));
    ensure!(drains == may, "told to drain: {drains}, allowed: {may}");
    Ok((deployment["spec"]["replicas"].clone(), drains))
}

/// The API server's pod security takes the Deployment's pods, and none with a weaker setting.
async fn pods_are_secure(cluster: &Cluster, deployment: &Value) -> Result<()> {
    let template = &deployment["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = "controller".into();
    pod["metadata"]["namespace"] = NAMESPACE.into();
    let refusal = cluster.refusal(&pod).await?;
    ensure!(refusal.is_none(), "the pod is refused: {refusal:?}");
    for (path, value) in [
        ("/spec/securityContext/runAsNonRoot", json!(false)),
        ("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"})),
        ("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/spec/containers/0/securityContext/capabilities", json!({})),
    ] {
        let mut weaker = pod.clone();
        *weaker.pointer_mut(path).with_context(|| format!("the pod has no {path}"))? = value;
        let refusal = cluster.refusal(&weaker).await?.unwrap_or_default();
        ensure!(refusal.contains("violates PodSecurity"), "a pod with another {path}: {refusal:?}");
    }
    Ok(())
}

/// The controller with the arguments of the Deployment and the permissions of its service account: a labelled Service becomes a
/// version that a token chooses, until the plan is deleted.
async fn runs(world: &World, deployment: &Value, dir: &Path) -> Result<()> {
    let cluster = &world.cluster;
    let command = command(deployment)?;
    let (name, arguments) = command.split_first().context("no command")?;
    let path = tools::controller().await?;
    // The image has it at the root.
    ensure!(Path::new(name).file_name() == path.file_name(), "the Deployment runs {name}");
    let program = Program {
        path,
        api: world.plane.api(),
        arguments: arguments.iter().filter(|one| !one.starts_with("--listen=")).cloned().collect(),
        environment: Vec::new(),
    };
    let mut controller = RunningController::spawn(&program, cluster, world.net.addr(CONTROLLER, 8080), dir).await?;
    controller.ready().await?;

    let plan = plan();
    cluster.apply(&plan).await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": A, "name": "pr-1"}});
    let labels = json!({"routing-claims.dev/service": "microservice-A", "routing-claims.dev/variant": "PR-1"});
    label(cluster, &service, &labels).await?;
    let written = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": A, "name": "routing-claims-microservice-a"},
    });
    until("the route", PATIENCE, async || {
        let route = cluster.get(&written).await?.unwrap_or_default().to_string();
        Ok(Readiness::of(route.contains("\"PR-1\""), || format!("found {route}\n{}", controller.log_tail())))
    })
    .await?;
    world.settle().await?;
    let answers = [version(world, &json!({})).await?, version(world, &json!({"microservice-A": "PR-1"})).await?];
    ensure!(answers == ["main", "PR-1"], "without and with a claim, {answers:?} answer");
    let metrics = shown_metrics(&controller.get("/metrics").await?.1);

    cluster.delete(&Cluster::id(&plan)).await?;
    until("the deletion of the route", PATIENCE, async || {
        Ok(Readiness::of(cluster.get(&written).await?.is_none(), || controller.log_tail()))
    })
    .await?;
    label(cluster, &service, &json!({"routing-claims.dev/service": null, "routing-claims.dev/variant": null})).await?;
    controller.stop().await?;
    let missing: Vec<_> = named_in_rules()?.difference(&metrics).cloned().collect();
    ensure!(missing.is_empty(), "the alerts ask for {missing:?}, which the controller does not show: {metrics:?}");
    Ok(())
}

async fn label(cluster: &Cluster, service: &Value, labels: &Value) -> Result<()> {
    let change = cluster.merge(service, &json!({"metadata": {"labels": labels}})).await?;
    change.map_err(|refusal| anyhow::anyhow!("{} cannot be labelled: {refusal}", Cluster::id(service)))
}

/// The version of A that answers a request with these claims, sent through the client's sidecar.
async fn version(world: &World, claims: &Value) -> Result<String> {
    let token = ("authorization".into(), bearer(claims).into());
    let answer = Http1::connect(world.client.addr(PORT)).await?.get(&host(A, A), "/", &[token]).await?;
    let said: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
    Ok(said["version"].as_str().unwrap_or_default().to_owned())
}

/// The names of the metrics in Prometheus' text format, without what a histogram adds.
fn shown_metrics(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.split(['{', ' ']).next());
    names.filter(|name| name.starts_with(METRICS)).map(str::to_owned).collect()
}

/// The metrics of the controller that its alerts ask for.
fn named_in_rules() -> Result<BTreeSet<String>> {
    let rules = fs::read_to_string(Path::new(&chart()).join("files/controller-rules.yaml"))?;
    let words = rules.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    Ok(words.filter(|word| word.starts_with(METRICS)).map(str::to_owned).collect())
}

/// Helm leaves the definitions as they are, and the command of the notes upgrades them.
async fn definitions_are_upgraded(cluster: &Cluster, helm: &Helm, kubectl: &Kubectl, dir: &Path) -> Result<()> {
    let newer = dir.join(format!("chart-{}", helm.version));
    copy(Path::new(&chart()), &newer)?;
    let file = newer.join("crds/routingplans.yaml");
    let mut definition = read_definitions(&file.display().to_string())?.pop().context("no definition")?;
    definition["spec"]["names"]["categories"] = json!(["newer"]);
    fs::write(&file, definition.to_string())?;
    let newer = newer.display().to_string();
    let categories = async || -> Result<Value> {
        let live = cluster.get(&definition).await?.context("no definition")?;
        Ok(live["spec"]["names"]["categories"].clone())
    };
    let before = categories().await?;
    helm.release("upgrade", &newer, &["--reuse-values"]).await?;
    ensure!(categories().await? == before, "Helm upgrades definitions");
    let shown = helm.run(&["show", "crds", &newer]).await?;
    let apply = ["apply", "--server-side", "-f", "-"];
    let conflict = kubectl.error(&apply, &shown).await?;
    ensure!(conflict.contains("conflict"), "expected a conflict with what Helm wrote, found {conflict}");
    kubectl.run(&[&apply[..], &["--force-conflicts"]].concat(), &shown).await?;
    ensure!(categories().await? == json!(["newer"]), "the command does not upgrade the definition");
    let shown = helm.run(&["show", "crds", &chart()]).await?;
    kubectl.run(&[&apply[..], &["--force-conflicts"]].concat(), &shown).await?;
    ensure!(categories().await? == before, "the command does not restore the definition");
    Ok(())
}

/// The resource definitions of a file or a folder.
fn read_definitions(path: &str) -> Result<Vec<Value>> {
    let path = Path::new(path);
    let files: Vec<PathBuf> = if path.is_dir() {
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?
    } else {
        vec![path.to_owned()]
    };
    let mut definitions = Vec::new();
    for file in files {
        definitions.extend(Cluster::documents(&fs::read_to_string(file)?)?);
    }
    definitions.retain(|one| one["kind"] == "CustomResourceDefinition");
    ensure!(!definitions.is_empty(), "no definition in {}", path.display());
    Ok(definitions)
}

fn command(deployment: &Value) -> Result<Vec<String>> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let words = ["command", "args"].into_iter().filter_map(|name| container[name].as_array()).flatten();
    words.map(|word| word.as_str().map(str::to_owned).context("an argument is text")).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(|one| to.join(one.file_name())));
        let (Ok(from), Ok(to)) = (from, to) else { continue };
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

fn plan() -> Value {
    json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingPlan",
        "metadata": {"name": "chart", "namespace": "istio-system"},
        "spec": {
            "filter": {"engine": "lua", "istioVersion": "1.27"},
            "services": [{"name": "microservice-A", "namespace": A}],
        },
    })
}

const DIGEST: &str = "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const METRICS: &str = "routing_claims_controller_";
const CONTROLLER: u8 = 7;
const PATIENCE: Duration = Duration::from_secs(60);
