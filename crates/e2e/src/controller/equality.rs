//! What the controller writes is what `manifest-gen render` writes, but for the marks of ownership. Both are compared as the API
//! has them, byte for byte.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Cluster, Readiness, until};
use routing_plan::manifests::remove_server_fields;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    plans::{KINDS, owned},
    stage::{PATIENCE, Stage},
};
use crate::world::{A, B};

/// Each plan of `deploy/`, and one for each kind that they lack. Every object is then edited by somebody, repaired, and deleted
/// with the plan.
pub(super) async fn equality(stage: &mut Stage) -> Result<String> {
    // No request depends on the order here.
    stage.restart(&["--settle-seconds", "0"]).await?;
    for variant in stage.variants.clone() {
        stage.delete(&variant).await?;
    }
    // The plans of `deploy/` route to port 80.
    let services = [(A, "pr-1"), (B, "pr-2")].map(|(namespace, name)| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name}})
    });
    let port = |number: u16| json!({"name": format!("http-{number}"), "port": number, "targetPort": 8080});
    for service in &services {
        stage.merge(service, &json!({"spec": {"ports": [port(80), port(8080)]}})).await?;
    }
    let plans = [deployed()?, further()].concat();
    let mut failed = Vec::new();
    for (name, folder, mut plan) in plans.clone() {
        plan["metadata"]["name"] = json!("qa");
        if let Err(error) = one(stage, &folder, plan).await {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    stage.delete(&stage.plan).await?;
    until("the deletion of what the plan has", PATIENCE, async || {
        Ok(Readiness::of(owned(stage).await?.is_empty(), || stage.log_tail()))
    })
    .await?;
    for service in &services {
        stage.merge(service, &json!({"spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 8080}]}})).await?;
    }
    ensure!(failed.is_empty(), "\n{}", failed.join("\n"));
    let kinds: Vec<_> = KINDS.iter().map(|(_, kind)| *kind).collect();
    Ok(format!("{} plans, {} kinds", plans.len(), kinds.len()))
}

/// Applies a plan, compares, edits everything, and compares again.
async fn one(stage: &mut Stage, folder: &Path, plan: Value) -> Result<()> {
    let rendered = rendered(stage, folder, &plan).await?;
    let (plan, base) = in_the_cluster(folder, plan)?;
    if let Some(base) = &base {
        stage.apply(base).await?;
    }
    let variants = folder.join("variants");
    for file in variants.is_dir().then(|| fs::read_dir(variants)).transpose()?.into_iter().flatten() {
        for mut variant in Cluster::documents(&fs::read_to_string(file?.path())?)? {
            variant["metadata"]["namespace"] = json!("istio-system");
            stage.apply(&variant).await?;
        }
    }
    stage.cluster().apply(&plan).await?;
    until_equal(stage, &rendered).await?;
    for (group, kind) in KINDS {
        for object in stage.cluster().list(group, kind, None).await?.iter().filter(|object| is_owned(object)) {
            let edit = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}});
            stage.merge(object, &edit).await?;
        }
    }
    until_equal(stage, &rendered).await.context("after somebody edited everything")?;
    stage.take_back().await
}

/// Waits until the owned objects are these, in the same bytes.
async fn until_equal(stage: &Stage, rendered: &BTreeMap<String, String>) -> Result<()> {
    until("what `render` writes", PATIENCE, async || {
        let mut found = BTreeMap::new();
        for (group, kind) in KINDS {
            for object in stage.cluster().list(group, kind, None).await?.into_iter().filter(is_owned) {
                found.insert(Cluster::id(&object), serde_json::to_string_pretty(&authored(object))?);
            }
        }
        let differs = rendered.iter().find(|(id, text)| found.get(*id) != Some(text));
        let more = found.keys().find(|id| !rendered.contains_key(*id));
        Ok(match (differs, more) {
            (Some((id, text)), _) => {
                let found = found.get(id).map_or("nothing", String::as_str);
                Readiness::Pending(format!("{id}: expected\n{text}\nfound\n{found}\n{}", stage.log_tail()))
            }
            (None, Some(more)) => Readiness::Pending(format!("{more} is not rendered")),
            (None, None) => Readiness::Ready,
        })
    })
    .await
}

/// What `manifest-gen render` writes.
async fn rendered(stage: &Stage, folder: &Path, plan: &Value) -> Result<BTreeMap<String, String>> {
    // Paths in a plan are relative to it.
    let dir = stage.dir.join("equality");
    fs::create_dir_all(&dir)?;
    for name in ["base", "variants"] {
        copy(&folder.join(name), &dir.join(name))?;
    }
    fs::write(dir.join("plan.yaml"), plan.to_string())?;
    let mut command = Command::new(fs::canonicalize(stage.world.dist.join("manifest-gen"))?);
    command.args(["render", "-f", "plan.yaml"]).current_dir(&dir);
    if dir.join("variants").is_dir() {
        command.args(["-f", "variants"]);
    }
    let output = command.output().await?;
    if !output.status.success() {
        bail!("manifest-gen: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut rendered = BTreeMap::new();
    for mut object in Cluster::documents(&String::from_utf8(output.stdout)?)? {
        // A base is replaced by its file's owner; the controller writes beside it.
        if object["kind"] == "VirtualService" && object["metadata"]["name"] == B {
            object["metadata"]["name"] = json!(format!("routing-claims-{B}"));
        }
        let object = stage.cluster().with_defaults(&object).await?;
        rendered.insert(Cluster::id(&object), serde_json::to_string_pretty(&authored(object))?);
    }
    Ok(rendered)
}

/// The plan with `baseRef` instead of `base`, and the `VirtualService` that it names, which is not in force.
fn in_the_cluster(folder: &Path, mut plan: Value) -> Result<(Value, Option<Value>)> {
    let mut live = None;
    for service in plan["spec"]["services"].as_array_mut().into_iter().flatten() {
        let Some(file) = service["base"].as_str().map(|file| folder.join(file)) else { continue };
        let mut base = Cluster::documents(&fs::read_to_string(file)?)?.pop().context("a file without a base")?;
        base["spec"]["exportTo"] = json!(["nobody"]);
        service["baseRef"] = json!({"name": base["metadata"]["name"]});
        service.as_object_mut().map(|service| service.remove("base"));
        live = Some(base);
    }
    Ok((plan, live))
}

/// Without what the API server and the controller add.
fn authored(mut object: Value) -> Value {
    remove_server_fields(&mut object);
    let metadata = &mut object["metadata"];
    for (map, key) in [("labels", "routing-claims.dev/plan-namespace"), ("annotations", "routing-claims.dev/applied")] {
        if let Some(map) = metadata[map].as_object_mut() {
            map.remove(key);
        }
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
    }
    object
}

fn is_owned(object: &Value) -> bool {
    object["metadata"]["labels"]["routing-claims.dev/plan-namespace"].is_string()
}

type Named = (String, PathBuf, Value);

/// The plans of `deploy/`, with their folders.
fn deployed() -> Result<Vec<Named>> {
    let mut plans = Vec::new();
    for entry in fs::read_dir(testbed::workspace_dir().join("deploy"))? {
        let folder = entry?.path();
        let file = folder.join("plan.yaml");
        if file.is_file() {
            let plan = Cluster::documents(&fs::read_to_string(&file)?)?.pop().context("a file without a plan")?;
            plans.push((file.display().to_string(), folder, plan));
        }
    }
    ensure!(plans.len() >= 4, "expected the plans of deploy/, found {}", plans.len());
    Ok(plans)
}

/// Plans of the kinds that `deploy/` lacks.
fn further() -> Vec<Named> {
    let plan = json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingPlan",
        "metadata": {"name": "qa", "namespace": "istio-system"},
        "spec": {
            "policy": {"reportHeader": "x-routing-report"},
            "filter": {"engine": "lua", "resource": "TrafficExtension", "istioVersion": "1.30"},
            "telemetry": {"accessLogProvider": "routing-report"},
            "services": [{"name": "microservice-A", "namespace": A, "port": 80, "variants": [{"name": "PR-1"}]}],
        },
    });
    vec![("TrafficExtension and Telemetry".to_owned(), PathBuf::new(), plan)]
}

/// Copies the files of a folder, if it exists, instead of those that were there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::remove_dir_all(to).ok();
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
