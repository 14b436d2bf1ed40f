//! The life of a pull request under load: it comes, rolls over, scales to zero, comes back, expires and goes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    Load, Phase,
    app::{App, Call, Forwarding},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::stage::{Stage, claim, workload};
use crate::world::{A, B, PORT, host};

/// With drain, no request fails, except for the moment in which its last instance goes.
pub(super) async fn with_drain(stage: &mut Stage) -> Result<String> {
    stage.restart(&["--drain-seconds", &DRAIN.as_secs().to_string()]).await?;
    let _second = second_instance(stage).await?;
    let (service, first, second) = pull_request(stage);
    let steady = stage.steady();
    let mut sent = 0;

    sent += stage
        .changes(["main>main", "PR-4>main"], async |stage| {
            stage.apply(&service).await?;
            stage.apply(&first).await?;
            stage.until_routed("a", WITH).await
        })
        .await?;
    sent += stage
        .changes(["PR-4>main", "PR-4>main"], async |stage| {
            stage.apply(&second).await?;
            stage.world.settle().await?;
            stage.delete(&first).await
        })
        .await?;
    let to_zero = stage
        .loses(async |stage| {
            stage.delete(&second).await?;
            stage.until_routed("a", WITHOUT).await
        })
        .await?;
    sent += stage
        .changes(["main>main", "PR-4>main"], async |stage| {
            stage.apply(&first).await?;
            stage.until_routed("a", WITH).await
        })
        .await?;
    sent += stage
        .changes(["PR-4>main", "main>main"], async |stage| {
            let end = Timestamp::now() + Duration::from_secs(1);
            stage.annotate(&service, &json!({"routing-claims.dev/expires-at": end.to_string()})).await?;
            stage.until_routed("a", WITHOUT).await
        })
        .await?;
    sent += stage
        .changes(["main>main", "PR-4>main"], async |stage| {
            stage.annotate(&service, &json!({"routing-claims.dev/expires-at": null})).await?;
            stage.until_routed("a", WITH).await
        })
        .await?;
    sent += stage
        .changes(["PR-4>main", "main>main"], async |stage| {
            stage.delete(&service).await?;
            stage.until_routed("a", WITHOUT).await?;
            let begin = Instant::now();
            stage.until_gone(&service).await?;
            let held = begin.elapsed();
            ensure!(held > DRAIN / 2, "the Service is gone {held:?} after its route");
            Ok(())
        })
        .await?;
    sent += stage.unload(steady).await?;
    Ok(format!("{sent} requests, 0 failed, 0 misrouted; when its last instance goes, {} ms fail", to_zero.as_millis()))
}

/// Without drain, its requests fail from the moment in which its Service goes until the proxies have the new routes.
pub(super) async fn without_drain(stage: &mut Stage) -> Result<String> {
    let (service, first, _) = pull_request(stage);
    let steady = stage.steady();
    stage.apply(&first).await?;
    let mut lost = Vec::new();
    for _ in 0..2 {
        stage.apply(&service).await?;
        stage.until_routed("a", WITH).await?;
        stage.world.settle().await?;
        let one = stage.loses(async |stage| {
            stage.delete(&service).await?;
            stage.until_routed("a", WITHOUT).await
        });
        lost.push(one.await?.as_millis());
    }
    let sent = stage.unload(steady).await?;
    Ok(format!("its requests fail for {lost:?} ms; {sent} others, 0 failed, 0 misrouted"))
}

impl Stage {
    /// Changes something under load of the pull request's token. No request may fail. Returns the number of requests.
    async fn changes(
        &mut self,
        [before, after]: [&str; 2],
        change: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<u64> {
        let load = self.pull_requests_load([before, after]);
        tokio::time::sleep(PAUSE).await;
        load.phase(Phase::During);
        change(self).await?;
        self.world.settle().await?;
        load.phase(Phase::After);
        tokio::time::sleep(PAUSE).await;
        self.unload(load).await
    }

    /// Removes the pull request under load of its token. Requests may fail meanwhile, for the returned time. None is misrouted,
    /// and all succeed when the proxies have the new routes.
    async fn loses(&mut self, change: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<Duration> {
        let during = self.pull_requests_load(["PR-4>main", "main>main"]);
        tokio::time::sleep(PAUSE).await;
        during.phase(Phase::During);
        change(self).await?;
        self.world.settle().await?;
        let after = self.pull_requests_load(["main>main", "main>main"]);
        during.phase(Phase::After);
        tokio::time::sleep(PAUSE).await;
        let tally = during.stop().await;
        self.under_load += tally.sent;
        self.unload(after).await?;
        ensure!(tally.misrouted == 0, "{} were misrouted: {:?}", tally.misrouted, tally.first);
        ensure!(tally.lost() < LONGEST_LOSS, "requests failed for {:?}: {:?}", tally.lost(), tally.first);
        Ok(tally.lost())
    }

    fn pull_requests_load(&self, [before, after]: [&str; 2]) -> Load {
        let [before, after] = [before, after].map(|versions| vec![versions.to_owned()]);
        let both = [before.clone(), after.clone()].concat();
        self.load(&[(Some(json!({"microservice-A": "PR-4"})), [before, both, after])])
    }

    pub(super) async fn annotate(&self, resource: &Value, annotations: &Value) -> Result<()> {
        let changed = self.cluster().merge(resource, &json!({"metadata": {"annotations": annotations}})).await?;
        changed.map_err(anyhow::Error::msg)
    }
}

/// Its Service and two instances.
pub(super) fn pull_request(stage: &Stage) -> (Value, Value, Value) {
    let instance = |name: &str, address| workload(A, name, "pr-4", address);
    (
        claim(A, "pr-4", "microservice-A", "PR-4"),
        instance("pr-4", stage.world.net.ip(FIRST_INSTANCE).into()),
        instance("pr-4-second", stage.second_instance().ip()),
    )
}

/// The mesh has only one app of pull request 4.
async fn second_instance(stage: &Stage) -> Result<App> {
    let call = Call { host: host(B, B), sidecar: stage.world.sidecar_a.addr(PORT), forwarding: Forwarding::default() };
    App::http(stage.second_instance(), A, "PR-4", Some(call)).await
}

pub(super) const WITH: &[&str] = &["PR-1", "PR-2", "PR-3", "PR-4"];
pub(super) const WITHOUT: &[&str] = &["PR-1", "PR-2", "PR-3"];
/// The last byte of the address of the mesh's app of pull request 4.
const FIRST_INSTANCE: u8 = 14;
/// How long a Service stays after its route is gone.
const DRAIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(150);
/// On a slow machine. The result says how long it was.
const LONGEST_LOSS: Duration = Duration::from_secs(5);
