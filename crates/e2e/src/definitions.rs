//! The custom resource definitions of plans and variants, on a real API server: what fits is stored as it is, and what it
//! refuses, `manifest-gen` refuses too, with the same words.

mod case;
mod rules;
mod table;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::{Apply, Cluster, tools::Tools};
use serde_json::{Value, json};
use testbed::workspace_dir;
use tokio::process::Command;

use self::{case::Case, rules::Definitions};
use crate::world::World;

/// Applies the definitions, and plans and variants that fit them or don't. Returns what was counted.
pub(crate) async fn run(world: &World, tools: &Tools) -> Result<String> {
    let cluster = &world.cluster;
    let folder = workspace_dir().join("deploy/chart/routing-claims/crds");
    cluster.define(&folder).await?;
    let definitions = Definitions::read(&folder)?;
    let accepted = accepted(cluster, &definitions).await? + agree(cluster).await?;
    let wrong = wrong(cluster, &definitions).await?;
    let ill_formed = ill_formed(cluster).await?;
    appliers_share_a_plan(cluster).await?;
    status_is_shown(world, tools, &definitions).await?;
    Ok(format!(
        "{accepted} objects accepted, {wrong} refused by {} rules, {ill_formed} by the schema",
        definitions.rules.len()
    ))
}

/// What fits is stored as it is. Together these objects have every field.
async fn accepted(cluster: &Cluster, definitions: &Definitions) -> Result<usize> {
    let mut objects = Cluster::documents(include_str!("definitions/accepted.yaml"))?;
    for file in examples()? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        objects.extend(Cluster::documents(&text)?);
    }
    let mut names_a_file = 0;
    for object in &mut objects {
        // `kubectl apply` fills in the namespace of its configuration.
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!("default");
        }
        match cluster.apply_as(US, object, Apply::DryRun).await? {
            Ok(stored) => {
                ensure!(
                    stored["spec"] == object["spec"],
                    "stored is {}, applied was {}",
                    stored["spec"],
                    object["spec"]
                );
            }
            // Its VirtualService is in a file, which the cluster does not have.
            Err(causes) if matches!(&causes[..], [cause] if cause.contains(".base: ")) => names_a_file += 1,
            Err(causes) => return Err(anyhow!("{object} is refused: {causes:#?}")),
        }
    }
    ensure!(names_a_file == 1, "{names_a_file} examples name the file of a VirtualService, not one");
    let missing = definitions.fields_without_example("spec", &objects);
    ensure!(missing.is_empty(), "no object of definitions/accepted.yaml has {missing:?}");
    Ok(objects.len() - names_a_file)
}

/// The plans and variant files of `deploy/`.
fn examples() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(workspace_dir().join("deploy"))? {
        let example = entry?.path();
        files.extend(Some(example.join("plan.yaml")).filter(|plan| plan.exists()));
        for variant in fs::read_dir(example.join("variants")).into_iter().flatten() {
            files.push(variant?.path());
        }
    }
    ensure!(files.len() > 2, "expected the examples of deploy/, found {files:?}");
    Ok(files)
}

/// Each of these breaks a rule, and each rule is broken.
async fn wrong(cluster: &Cluster, definitions: &Definitions) -> Result<usize> {
    let plans = table::WRONG_PLANS.iter().map(|fields| Case::plan(fields));
    let variants = table::WRONG_VARIANTS.iter().map(|fields| Case::variant(fields));
    let tried = plans.chain(variants).collect::<Result<Vec<_>>>()?;
    let (mut broken, mut disagreements) = (Vec::new(), Vec::new());
    for case in &tried {
        let (causes, faults) = (case.causes(cluster).await?, case.faults());
        ensure!(!causes.is_empty(), "{case}: the API server accepts it");
        for cause in causes {
            if !faults.iter().any(|message| cause.ends_with(message.as_str())) {
                disagreements.push(format!("{case}: the API server says {cause:?}, and manifest-gen {faults:?}"));
            }
            broken.push(cause);
        }
    }
    ensure!(disagreements.is_empty(), "{disagreements:#?}");
    let unbroken: Vec<_> =
        definitions.rules.iter().filter(|rule| !broken.iter().any(|cause| rule.is_in(cause))).collect();
    ensure!(unbroken.is_empty(), "nothing in definitions/table.rs breaks {unbroken:#?}");
    Ok(tried.len())
}

/// What has the wrong form is refused by both. The API server has its own words for that.
async fn ill_formed(cluster: &Cluster) -> Result<usize> {
    let plans = table::ILL_FORMED_PLANS.iter().map(|(fields, words)| (Case::plan(fields), words));
    let variants = table::ILL_FORMED_VARIANTS.iter().map(|(fields, words)| (Case::variant(fields), words));
    let tried: Vec<_> = plans.chain(variants).collect();
    let (count, mut others) = (tried.len(), Vec::new());
    for (case, words) in tried {
        let case = case?;
        let causes = case.causes(cluster).await?;
        if !causes.iter().any(|cause| cause.contains(words)) {
            others.push(format!("{case}: expected `{words}` of the API server, found {causes:?}"));
        }
        ensure!(!case.faults().is_empty(), "{case}: manifest-gen accepts it");
    }
    ensure!(others.is_empty(), "{others:#?}");
    Ok(count)
}

/// Of the plans and variants in the tests of `manifest-gen`, the API server refuses none that `manifest-gen` takes.
async fn agree(cluster: &Cluster) -> Result<usize> {
    let mut folders = vec![workspace_dir().join("crates/manifest-gen/tests")];
    let mut agreed = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            for case in Case::of_file(&path)? {
                if !case.is_old() && case.faults().is_empty() {
                    let causes = case.causes(cluster).await?;
                    ensure!(causes.is_empty(), "{case}: the API server says {causes:#?}, and manifest-gen nothing");
                    agreed += 1;
                }
            }
        }
    }
    ensure!(agreed > 0, "no test of manifest-gen has a valid plan");
    Ok(agreed)
}

/// Two teams apply services of one plan, each its own.
async fn appliers_share_a_plan(cluster: &Cluster) -> Result<()> {
    let plan = |spec: Value| {
        json!({
            "apiVersion": "routing-claims.dev/v1alpha1",
            "kind": "RoutingPlan",
            "metadata": {"name": "shared", "namespace": "default"},
            "spec": spec,
        })
    };
    let [filter, a] =
        [json!({"engine": "lua", "istioVersion": "1.27"}), json!({"name": "a", "namespace": "a", "port": 80})];
    let of_a = plan(json!({"filter": filter, "services": [a]}));
    let of_b = |services: Value| plan(json!({"services": services}));
    let b = |variants: Value| json!({"name": "b", "namespace": "b", "variants": variants});
    let [one, two] = ["PR-1", "PR-2"].map(|name| json!({"name": name}));

    for (team, applied, services) in [
        ("team-a", of_a.clone(), json!([a])),
        ("team-b", of_b(json!([b(json!([one]))])), json!([a, b(json!([one]))])),
        // A pipeline adds a variant to the service of team B.
        ("pipeline", of_b(json!([b(json!([two]))])), json!([a, b(json!([one, two]))])),
        ("team-a", of_a, json!([a, b(json!([one, two]))])),
        // What nobody applies any more is gone.
        ("pipeline", of_b(json!([])), json!([a, b(json!([one]))])),
        ("team-b", of_b(json!([])), json!([a])),
    ] {
        let stored = cluster.apply_as(team, &applied, Apply::ForReal).await?;
        let stored = stored.map_err(|causes| anyhow!("{team} may not apply {applied}: {causes:#?}"))?;
        let found = &stored["spec"]["services"];
        ensure!(*found == services, "after {team} applied {applied}: expected {services}, found {found}");
    }
    let seized = of_b(json!([{"name": "a", "namespace": "b"}]));
    let refused = cluster.apply_as("team-b", &seized, Apply::ForReal).await?;
    let is_conflict = matches!(&refused, Err(causes) if causes.iter().any(|cause| cause.contains("team-a")));
    ensure!(is_conflict, "team B takes a service of team A: {refused:?}");
    cluster.delete_unrecorded(&seized).await
}

/// A status is stored as it is, and `kubectl get` shows the essence.
async fn status_is_shown(world: &World, tools: &Tools, definitions: &Definitions) -> Result<()> {
    let cluster = &world.cluster;
    let objects = Cluster::documents(include_str!("definitions/shown.yaml"))?;
    let missing = definitions.fields_without_example("status", &objects);
    ensure!(missing.is_empty(), "no object of definitions/shown.yaml has {missing:?}");
    for object in &objects {
        let refused = |causes| anyhow!("{object} is refused: {causes:?}");
        let mut without_status = object.clone();
        without_status.as_object_mut().map(|fields| fields.remove("status"));
        cluster.apply_as(US, &without_status, Apply::ForReal).await?.map_err(refused)?;
        let status = &object["status"];
        cluster.merge_status(object, &json!({ "status": status })).await?.map_err(|why| refused(vec![why]))?;
        let stored = cluster.get(object).await?.unwrap_or_default();
        ensure!(stored["status"] == *status, "stored is {}, written was {status}", stored["status"]);
    }
    for (arguments, expected) in [
        (
            ["rplan", "shown"],
            "NAME SERVICES VARIANTS ROUTED PROBLEMS ACCEPTED APPLIED MESSAGE AGE\nshown 1 9 7 2 True False valid",
        ),
        (
            ["rvariant", "shown"],
            "NAME SERVICE VARIANT STATE EXPIRES PLAN PROBLEM AGE\nshown a PR-2 Routed 2026-12-01T00:00:00Z istio-system/qa none",
        ),
        (["routing-claims", "--no-headers"], "routingplan.routing-claims.dev/shown 1 9 7 2 True False valid"),
    ] {
        let mut kubectl = Command::new(&tools.kubectl);
        kubectl.args(["get", "--namespace", "default", "--output", "wide"]).args(arguments);
        let output = kubectl.env("KUBECONFIG", &world.plane.kubeconfig).output().await.context("cannot run kubectl")?;
        let shown = String::from_utf8_lossy(&output.stdout);
        let shown: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        // After what is expected comes the object's age.
        ensure!(shown.join("\n").starts_with(expected), "expected {expected:?}, found {shown:#?}");
    }
    for object in &objects {
        cluster.delete_unrecorded(object).await?;
    }
    Ok(())
}

/// Who applies.
const US: &str = "definitions";
