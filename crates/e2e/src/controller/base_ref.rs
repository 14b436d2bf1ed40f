//! A user's own `VirtualService`, woven into the routes as it is in the cluster.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::stage::{PATIENCE, Stage, routes_of};
use crate::world::{B, PORT, host};

/// The plan weaves it in while it is still in force, then it is taken out of force. No request fails.
pub(super) async fn base_ref(stage: &mut Stage) -> Result<String> {
    // Istio follows the older one of a host. Here as there, the user's own was there first.
    stage.change_plan(|spec| drop(spec["services"].as_array_mut().map(|services| services.remove(1)))).await?;
    stage.until_routed("b", &[]).await?;
    let own = own("7s");
    stage.apply(&own).await?;
    stage.world.settle().await?;
    let plan = stage.plan.clone();

    let always = |versions: &str| [(); 3].map(|()| vec![versions.to_owned()]);
    let steady =
        stage.load(&[(None, always("main>main")), (Some(json!({"microservice-A": "PR-1"})), always("PR-1>main"))]);
    stage.change_plan(|spec| spec["services"][1]["baseRef"] = json!({"name": "own"})).await?;
    stage.until_routed("b", &["PR-1", "PR-2"]).await?;
    stage.until_told(&plan, "exportTo").await.context("it is told that the user's own is in force")?;
    stage.world.settle().await?;
    stage.until_answer("PR-1>main").await.context("the user's own is in force")?;

    stage.merge(&own, &json!({"spec": {"exportTo": ["nobody"]}})).await?;
    stage.world.settle().await?;
    stage.until_answer("PR-1>PR-2").await.context("the generated one is in force")?;
    let woven = stage.cluster().get(&routes_of("b")).await?.unwrap_or_default();
    ensure!(woven["spec"]["exportTo"].is_null(), "the generated one has `exportTo`");
    ensure!(timeouts(&woven).iter().all(|timeout| timeout == "7s"), "timeouts {:?}", timeouts(&woven));

    // An edit of the user's own is followed.
    let edited = self::own("8s");
    stage.merge(&own, &json!({"spec": {"http": edited["spec"]["http"]}})).await?;
    e2e::until("the user's edit", PATIENCE, async || {
        let woven = stage.cluster().get(&routes_of("b")).await?.unwrap_or_default();
        let found = timeouts(&woven);
        Ok(e2e::Readiness::of(!found.is_empty() && found.iter().all(|one| one == "8s"), || format!("{found:?}")))
    })
    .await?;
    stage.world.settle().await?;

    // Without it, the last good routes stay.
    stage.delete(&own).await?;
    stage.until_told(&plan, "baseRef").await?;
    stage.quiet().await?;
    stage.until_routed("b", &["PR-1", "PR-2"]).await?;
    let sent = stage.unload(steady).await?;
    let touched: Vec<_> =
        stage.audit.since(0)?.into_iter().filter(|one| one.object.1 == "own" && one.writes()).collect();
    ensure!(touched.is_empty(), "the controller writes the user's own: {touched:?}");
    Ok(format!("{sent} requests, 0 failed, 0 misrouted"))
}

impl Stage {
    pub(super) async fn merge(&self, resource: &Value, change: &Value) -> Result<()> {
        self.cluster().merge(resource, change).await?.map_err(anyhow::Error::msg)
    }

    /// Waits until the token of pull requests of both services is answered by these versions.
    async fn until_answer(&self, wanted: &str) -> Result<()> {
        let claims = json!({"microservice-A": "PR-1", "microservice-B": "PR-2"});
        e2e::until(wanted, PATIENCE, async || {
            let found = self.answer(&claims).await?;
            Ok(e2e::Readiness::of(found == wanted, || format!("{found} answers")))
        })
        .await
    }
}

fn own(timeout: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "own", "namespace": B},
        "spec": {
            "hosts": [host(B, B)],
            "http": [{"timeout": timeout, "route": [{"destination": {"host": host(B, B), "port": {"number": PORT}}}]}],
        },
    })
}

fn timeouts(routes: &Value) -> Vec<String> {
    let rules = routes["spec"]["http"].as_array().into_iter().flatten();
    rules.map(|rule| rule["timeout"].as_str().unwrap_or("none").to_owned()).collect()
}
