//! What the chart installs, upgrades, rolls back and leaves behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use e2e::Cluster;
use manifest_gen::yaml::write;
use serde_json::{Value, json};

use super::{
    NAMESPACE, RELEASE, chart, definitions,
    helm::{Helm, Kubectl},
    of_kind,
};
/// From `install` to `uninstall`.
pub(super) async fn lifecycle(cluster: &Cluster, helm: &Helm, kubectl: &Kubectl, dir: &Path) -> Result<()> {
    let digest = format!("image.digest={DIGEST}");
    let image = ["--set", "image.repository=127.0.0.1:5000/routing-claims-controller", "--set", &digest];
    helm.release("install", &chart(), &image).await?;
    let objects = helm.template(&image).await?;
    exist(cluster, &objects).await?;
    let deployment = cluster.get(of_kind(&objects, "Deployment")?).await?.context("no Deployment")?;
    pods_are_secure(cluster, &deployment).await?;

    let changes = ["--reset-then-reuse-values", "--set", "replicas=3,drainSeconds=30"];
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

/// Helm leaves the definitions as they are, and the command of the notes upgrades them.
async fn definitions_are_upgraded(cluster: &Cluster, helm: &Helm, kubectl: &Kubectl, dir: &Path) -> Result<()> {
    let newer = dir.join(format!("chart-{}", helm.version));
    copy(Path::new(&chart()), &newer)?;
    let file = newer.join("crds/routingplans.yaml");
    let mut definition = read_definitions(&file.display().to_string())?.pop().context("no definition")?;
    definition["spec"]["names"]["shortNames"] = json!(["newer"]);
    fs::write(&file, write::document(&definition))?;
    let newer = newer.display().to_string();
    let short_names = async || -> Result<Value> {
        let live = cluster.get(&definition).await?.context("no definition")?;
        Ok(live["spec"]["names"]["shortNames"].clone())
    };
    let before = short_names().await?;
    helm.release("upgrade", &newer, &["--reset-then-reuse-values"]).await?;
    ensure!(short_names().await? == before, "Helm upgrades definitions");
    let shown = helm.run(&["show", "crds", &newer]).await?;
    let apply = ["apply", "--server-side", "-f", "-"];
    let conflict = kubectl.error(&apply, &shown).await?;
    ensure!(conflict.contains("conflict"), "expected a conflict with what Helm wrote, found {conflict}");
    kubectl.run(&[&apply[..], &["--force-conflicts"]].concat(), &shown).await?;
    ensure!(short_names().await? == json!(["newer"]), "the command does not upgrade the definition");
    let shown = helm.run(&["show", "crds", &chart()]).await?;
    kubectl.run(&[&apply[..], &["--force-conflicts"]].concat(), &shown).await?;
    ensure!(short_names().await? == before, "the command does not restore the definition");
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

/// The command of the Deployment's container, and its arguments.
pub(super) fn command(deployment: &Value) -> Result<Vec<String>> {
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

pub(super) const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
