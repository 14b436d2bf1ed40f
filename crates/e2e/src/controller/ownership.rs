//! What the controller owns is repaired, and nothing else is touched.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use e2e::{Readiness, until};
use serde_json::{Value, json};

use super::stage::{PATIENCE, Stage, namespace, routes_of};
use crate::world::{B, PORT, host};

/// Somebody edits or deletes what the controller wrote.
pub(super) async fn drift(stage: &mut Stage) -> Result<String> {
    let routes = routes_of("a");
    let filter = json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "routing-claims-qa", "namespace": "istio-system"},
    });
    let mut longest = 0;
    for (what, object, change) in [
        ("removes the rules", &routes, Some(json!({"spec": {"http": [default_rule()]}}))),
        ("changes the hosts", &routes, Some(json!({"spec": {"hosts": ["elsewhere.example"]}}))),
        ("changes a label", &routes, Some(json!({"metadata": {"labels": {"routing-claims.dev/plan": "other"}}}))),
        ("empties the filter", &filter, Some(json!({"spec": {"configPatches": []}}))),
        ("deletes a route", &routes, None),
        ("deletes a filter", &filter, None),
    ] {
        let before = stage.cluster().get(object).await?.with_context(|| format!("{what}: no object"))?;
        let begin = Instant::now();
        match &change {
            Some(change) => stage.merge(object, change).await?,
            None => stage.delete(object).await?,
        }
        until(&format!("repair after somebody {what}"), PATIENCE, async || {
            let after = stage.cluster().get(object).await?.unwrap_or_default();
            let is = after["spec"] == before["spec"] && after["metadata"]["labels"] == before["metadata"]["labels"];
            Ok(Readiness::of(is, || format!("{after}\n{}", stage.log_tail())))
        })
        .await?;
        longest = longest.max(begin.elapsed().as_millis());
    }
    // A field of somebody else stays, because an apply has no word for it.
    let plan = stage.plan.clone();
    stage.merge(&routes, &json!({"spec": {"exportTo": ["."]}})).await?;
    stage.until_told(&plan, "somebody added `spec.exportTo`").await?;
    stage.quiet().await?;
    stage.merge(&routes, &json!({"spec": {"exportTo": null}})).await?;
    until("the word about it to go", PATIENCE, async || {
        let status = stage.live_plan().await?["status"].to_string();
        Ok(Readiness::of(!status.contains("exportTo"), || status))
    })
    .await?;
    Ok(format!("6 edits and deletions, each repaired within {longest} ms; an added field is told"))
}

/// An object that has the name of a generated one stays as it is, until its owner gives it away by a label.
pub(super) async fn stranger(stage: &mut Stage) -> Result<String> {
    stage.apply(&namespace("microservice-other")).await?;
    let mut strangers = routes_of("other");
    strangers["spec"] = json!({"hosts": ["other.example"], "http": [default_rule()]});
    stage.apply(&strangers).await?;
    let before = stage.cluster().get(&strangers).await?;
    let plan = stage.plan.clone();
    let other = json!({
        "name": "microservice-other", "namespace": "microservice-other", "port": PORT,
        "variants": [{"name": "PR-1", "host": "elsewhere.example"}],
    });
    stage
        .change_plan(|spec| spec["services"].as_array_mut().into_iter().for_each(|all| all.push(other.clone())))
        .await?;
    stage.until_told(&plan, "routing-claims-microservice-other").await?;
    stage.quiet().await?;
    ensure!(stage.cluster().get(&strangers).await? == before, "the stranger's object was touched");
    stage.until_routed("a", &["PR-1", "PR-2", "PR-3"]).await?;

    let labels = json!({"routing-claims.dev/plan": "qa", "routing-claims.dev/plan-namespace": "istio-system"});
    let adoption = json!({"metadata": {"labels": labels}});
    stage.merge(&strangers, &adoption).await?;
    stage.until_routed("other", &["PR-1"]).await.context("adopted")?;
    until("the word about it to go", PATIENCE, async || {
        let status = stage.live_plan().await?["status"].to_string();
        Ok(Readiness::of(!status.contains("routing-claims-microservice-other"), || status))
    })
    .await?;
    stage.cluster().apply(&plan).await?;
    until("the deletion of the adopted object", PATIENCE, async || {
        Ok(Readiness::of(stage.cluster().get(&strangers).await?.is_none(), || stage.log_tail()))
    })
    .await?;
    Ok("untouched and told, then adopted by a label".to_owned())
}

fn default_rule() -> Value {
    json!({"route": [{"destination": {"host": host(B, B), "port": {"number": PORT}}}]})
}
