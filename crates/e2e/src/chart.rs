//! The chart and the kustomize base: what they render, what both versions of Helm install, and the controller as its Deployment
//! runs it.

mod helm;
mod installed;
mod readme;
mod rendered;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use e2e::tools::Tools;
use serde_json::{Value, json};

use crate::world::World;

use helm::{Helm, Kubectl};

/// Renders, installs, upgrades, rolls back and uninstalls the chart with each version of Helm, and types the README's commands. `update` writes the kustomize base from the chart instead of
/// comparing both.
pub(crate) async fn run(world: &World, tools: &Tools, update: bool, dir: &Path) -> Result<String> {
    fs::create_dir_all(dir)?;
    let kubeconfig = &world.plane.kubeconfig;
    let helms = [(3, &tools.helm_3), (4, &tools.helm_4)].map(|(version, program)| Helm {
        version,
        program: program.clone(),
        kubeconfig: kubeconfig.clone(),
        home: dir.join(format!("helm-{version}")),
    });
    let kubectl = Kubectl { program: tools.kubectl.clone(), kubeconfig: kubeconfig.clone() };
    world.cluster.apply(&namespace()).await?;

    let objects = rendered::same(&helms, &kubectl, update).await?;
    for helm in &helms {
        rendered::typos_are_refused(helm).await.with_context(|| format!("with Helm {}", helm.version))?;
    }
    let settings = rendered::settings_take_effect(&helms[1], &world.cluster).await?;
    let alerts = rendered::alerts(world, &helms[0], dir).await?;
    for helm in &helms {
        let with = || format!("with Helm {}", helm.version);
        installed::lifecycle(&world.cluster, helm, &kubectl, dir).await.with_context(with)?;
    }
    let typed = readme::readme(world, tools, &dir.join("readme")).await.context("the section of README.md")?;
    // Helm leaves them, and deleting them deletes all plans.
    kubectl.run(&["delete", "-k", &definitions()], "").await?;
    Ok(format!("{objects} objects, {settings} settings, {alerts} alerts, {typed} commands"))
}

/// The namespace of the release, in which only pods may run that are secure.
fn namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })
}

fn chart() -> String {
    testbed::workspace_dir().join("deploy/chart/routing-claims").display().to_string()
}

fn definitions() -> String {
    format!("{}/crds/", chart())
}

/// The resource of that kind.
fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Result<&'o Value> {
    let mut found = objects.iter().filter(|one| one["kind"] == kind);
    let first = found.next().with_context(|| format!("no {kind}"))?;
    ensure!(found.next().is_none(), "more than one {kind}");
    Ok(first)
}

const RELEASE: &str = "routing-claims";
const NAMESPACE: &str = e2e::AUDITED;
