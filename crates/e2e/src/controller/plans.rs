//! The plan: an invalid one, one that goes, a restart, and `--dry-run`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::Cluster;
use serde_json::json;

use super::{
    life::{WITH, WITHOUT, pull_request},
    stage::{PATIENCE, Stage},
};

/// The last valid state stays in force, and goes on following readiness. After a restart, the controller changes nothing until the plan is valid.
pub(super) async fn invalid(stage: &mut Stage) -> Result<String> {
    let (service, instance, _) = pull_request(stage);
    let steady = stage.steady();
    stage.change_plan(|spec| spec["services"][1]["name"] = json!("MICROSERVICE-A")).await?;
    let plan = stage.plan.clone();
    stage.until_told(&plan, "services[1].name").await?;
    stage.until_condition("Accepted", "False").await?;
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await.context("an invalid plan follows readiness")?;
    stage.until_routed("b", &["PR-1", "PR-2"]).await?;

    let before = owned(stage).await?;
    stage.restart(&[]).await?;
    stage.delete(&instance).await?;
    stage.until_told(&plan, "services[1].name").await?;
    stage.quiet().await?;
    ensure!(owned(stage).await? == before, "a plan that is invalid from the start is touched");
    let sent = stage.unload(steady).await?;

    stage.cluster().apply(&plan).await?;
    stage.until_routed("a", WITHOUT).await.context("a valid plan again")?;
    stage.until_condition("Accepted", "True").await?;
    Ok(format!("{sent} requests, 0 failed, 0 misrouted"))
}

/// Its routes are deleted before its filters.
pub(super) async fn goes(stage: &mut Stage) -> Result<String> {
    let begin = stage.audit.now()?;
    let before = owned(stage).await?;
    stage.delete(&stage.plan).await?;
    e2e::until("the deletion of what the plan has", PATIENCE, async || {
        let left = owned(stage).await?;
        Ok(e2e::Readiness::of(left.is_empty(), || format!("{:?} exist\n{}", left.keys(), stage.log_tail())))
    })
    .await?;
    let deleted: Vec<_> = stage.audit.since(begin)?.into_iter().filter(|entry| entry.call.verb == "delete").collect();
    let kinds: Vec<_> = deleted.iter().map(|entry| &*entry.call.resource).collect();
    let first_filter = kinds.iter().position(|kind| *kind != "virtualservices").unwrap_or(kinds.len());
    ensure!(
        deleted.len() == before.len() && kinds[first_filter..].iter().all(|kind| *kind != "virtualservices"),
        "of {} objects, these are deleted in this order: {kinds:?}",
        before.len()
    );
    Ok(format!("{} objects, routes before filters", deleted.len()))
}

/// A controller that starts finds what it wrote.
pub(super) async fn restart(stage: &mut Stage) -> Result<String> {
    // The last status of a plan follows within this time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = (owned(stage).await?, stage.live_plan().await?["metadata"]["resourceVersion"].clone());
    let running = stage.controller.take().context("the controller runs")?;
    let stopped = running.stop().await?;
    let begin = stage.audit.now()?;
    stage.restart(&[]).await?;
    stage.quiet().await?;
    let entries = stage.audit.since(begin)?;
    let writes: Vec<_> = entries.iter().filter(|entry| entry.writes()).map(|entry| entry.call.to_string()).collect();
    ensure!(writes.is_empty(), "a restart writes: {writes:?}");
    let after = (owned(stage).await?, stage.live_plan().await?["metadata"]["resourceVersion"].clone());
    ensure!(before == after, "a restart changes objects");
    let lists = entries.iter().filter(|entry| entry.call.verb == "list").count();
    Ok(format!("{lists} lists, 0 writes, {} objects as before; it stops in {} ms", after.0.len(), stopped.as_millis()))
}

/// Exit code 0 if nothing differs, 1 with the difference.
pub(super) async fn dry_run(stage: &mut Stage) -> Result<String> {
    stage.quiet().await?;
    if let Some(running) = stage.controller.take() {
        running.stop().await?;
    }
    let begin = stage.audit.now()?;
    stage.program.arguments = vec!["--dry-run".to_owned()];
    let (code, printed) = stage.program.output(stage.cluster(), &stage.dir).await?;
    ensure!(code == 0, "exit code {code} without a difference: {printed}");
    let (service, instance, _) = pull_request(stage);
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    let (code, printed) = stage.program.output(stage.cluster(), &stage.dir).await?;
    ensure!(code == 1 && printed.contains("PR-4"), "exit code {code} with a difference: {printed}");
    let entries = stage.audit.since(begin)?;
    let written = entries.iter().find(|entry| !matches!(&*entry.call.verb, "get" | "list" | "watch"));
    ensure!(written.is_none(), "it writes: {written:?}");
    Ok(format!("0 writes, a diff of {} lines", printed.lines().count()))
}

/// What the controller has written, with the version of each object.
pub(super) async fn owned(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let mut owned = BTreeMap::new();
    for (group, kind) in KINDS {
        for object in stage.cluster().list(group, kind, None).await? {
            if object["metadata"]["labels"]["routing-claims.dev/plan-namespace"].is_string() {
                owned.insert(Cluster::id(&object), object["metadata"]["resourceVersion"].to_string());
            }
        }
    }
    Ok(owned)
}

/// What plans become.
pub(super) const KINDS: [(&str, &str); 7] = [
    ("networking.istio.io/v1", "VirtualService"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ("extensions.istio.io/v1alpha1", "TrafficExtension"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("telemetry.istio.io/v1", "Telemetry"),
];
