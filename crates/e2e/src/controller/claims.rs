//! Two Services that claim one variant.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{
    life::WITH,
    stage::{Stage, claim, routes_of, workload},
};
use crate::world::A;

/// The older one wins. Both are told.
pub(super) async fn two_claims(stage: &mut Stage) -> Result<String> {
    let older = claim(A, "z-older", "microservice-A", "PR-4");
    let younger = claim(A, "a-younger", "microservice-A", "PR-4");
    for name in ["z-older", "a-younger"] {
        stage.apply(&workload(A, name, name, stage.world.net.ip(14).into())).await?;
    }
    stage.apply(&older).await?;
    stage.until_routed("a", WITH).await?;
    // Kubernetes knows the second of a creation.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    stage.apply(&younger).await?;
    stage.until_told(&younger, "z-older claims the same variant and is older").await?;
    stage.until_told(&older, "a-younger claims the same variant").await?;
    stage.quiet().await?;
    destination_is(stage, "z-older").await.context("two claims")?;
    stage.delete(&older).await?;
    e2e::until("the younger one's route", super::stage::PATIENCE, async || {
        let found = destination_is(stage, "a-younger").await;
        Ok(e2e::Readiness::of(found.is_ok(), || format!("{found:?}")))
    })
    .await?;
    stage.until_routed("a", WITH).await?;
    Ok("the older one wins, both are told, the younger one follows".to_owned())
}

/// Whether the requests for pull request 4 go to that Service.
async fn destination_is(stage: &Stage, name: &str) -> Result<()> {
    let routes = stage.cluster().get(&routes_of("a")).await?.unwrap_or_default();
    let rules = routes["spec"]["http"].as_array().into_iter().flatten();
    let rule = rules.clone().find(|rule| rule["match"][0]["headers"]["microservice-a"]["exact"] == "PR-4");
    let host = rule.context("no route")?["route"][0]["destination"]["host"].clone();
    ensure!(host == format!("{name}.{A}.svc.cluster.local"), "the route goes to {host}");
    Ok(())
}
