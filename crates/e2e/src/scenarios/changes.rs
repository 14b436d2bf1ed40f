//! Changes under load.

use anyhow::{Context as _, Result, ensure};
use e2e::{Phase, load::Allowed, until};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    scene::{From, Scene, bearer, fragment, values},
    world::{A, B, Version, host},
};

use super::talk::expect;

/// Adds the Service, workload and variant file of a pull request, in the order that `manifest-gen diff` prints.
pub(super) async fn comes(scene: &mut Scene<'_>) -> Result<String> {
    under_load(scene, ["main>main", "PR-4>main"], async |scene| bring(scene)).await
}

/// Its variant has expired: `prune` removes the file, then the routes are removed before the Service.
pub(super) async fn goes(scene: &mut Scene<'_>) -> Result<String> {
    bring(scene)?;
    scene.roll_out().await?;
    under_load(scene, ["PR-4>main", "main>main"], async |scene| {
        let pruned = scene.manifest_gen(&["prune", "-f", "variants/", "--now", "2099-01-01T00:00:00Z"]).await?;
        let (name, _) = fragment("microservice-A", "PR-4");
        ensure!(pruned.trim().ends_with(&name) && pruned.lines().count() == 1, "prune removed {pruned:?}");
        scene.fragments.remove(&name);
        scene.brought.clear();
        Ok(())
    })
    .await
}

/// Changes the plan under load and rolls it out. Only the version that answers the token of pull request 4 may change.
async fn under_load(
    scene: &mut Scene<'_>,
    [before, after]: [&str; 2],
    change: impl AsyncFnOnce(&mut Scene<'_>) -> Result<()>,
) -> Result<String> {
    let (changing, steady) = (json!({"microservice-A": "PR-4"}), steady());
    let [before, after] = [before, after].map(|versions| vec![versions.to_owned()]);
    let mut requests: Vec<_> = steady.iter().map(|(claims, path)| (claims.as_ref(), always(path))).collect();
    requests.push((Some(&changing), [before.clone(), [before, after.clone()].concat(), after]));
    let load = scene.load(&requests);
    pause().await;
    change(scene).await?;
    load.phase(Phase::During);
    scene.roll_out().await?;
    load.phase(Phase::After);
    pause().await;
    let tally = scene.unload(load).await?;
    Ok(format!("{} requests, 0 failed, 0 misrouted", tally.sent))
}

/// A route before its Service, and the Service removed before its route: 5xx for its tokens, as the docs warn.
pub(super) async fn wrong_order(scene: &mut Scene<'_>) -> Result<String> {
    let token = bearer(&json!({"microservice-A": "PR-4"}));
    let of_pr_4 = [("authorization", token.as_str())];
    let mut seen = Vec::new();
    // A route without its Service, which `lint` reports.
    bring(scene)?;
    let service = std::mem::take(&mut scene.brought);
    scene.roll_out().await?;
    seen.push(scene.enter(&of_pr_4).await?.status);
    expect(&scene.enter(&[]).await?, "main>main", &json!("no token in the meantime"))?;
    scene.brought = service;
    scene.roll_out().await?;
    expect(&scene.enter(&of_pr_4).await?, "PR-4>main", &json!("once the Service exists"))?;

    scene.brought.clear();
    scene.roll_out().await?;
    seen.push(scene.enter(&of_pr_4).await?.status);
    let (name, _) = fragment("microservice-A", "PR-4");
    scene.fragments.remove(&name);
    scene.roll_out().await?;
    expect(&scene.enter(&of_pr_4).await?, "main>main", &json!("once the route is gone"))?;
    ensure!(seen.iter().all(|status| (500..=599).contains(status)), "expected 5xx for the wrong order, found {seen:?}");
    Ok(format!("its tokens get {seen:?}, then the right version"))
}

/// Another policy under load. The old or the new filter routes every request.
pub(super) async fn filter_changes(scene: &mut Scene<'_>) -> Result<String> {
    let steady = steady();
    let requests: Vec<_> = steady.iter().map(|(claims, path)| (claims.as_ref(), always(path))).collect();
    let load = scene.load(&requests);
    pause().await;
    for (skew, report) in [(30, NEW_REPORT), (60, crate::scene::REPORT), (30, NEW_REPORT)] {
        scene.plan["spec"]["policy"] = json!({"reportHeader": report, "clockSkewSeconds": skew});
        scene.roll_out().await?;
        for from in [From::Outside, From::Client] {
            let proxy = scene.proxy(from);
            until("the new policy", PATIENCE, async || proxy.mentions(report).await).await?;
        }
        pause().await;
    }
    let tally = scene.unload(load).await?;
    let token = bearer(&json!({"microservice-B": "PR-1"}));
    let answer = scene.send(From::Client, &host(B, B), "/", &[("authorization", &token)]).await?;
    expect(&answer, "PR-1", &json!("the new filter"))?;
    let report = values(&answer.said, NEW_REPORT).next().context("the new filter is not in force")?;
    ensure!(report == "applied microservice-b=PR-1", "the new filter reports {report}");
    Ok(format!("3 changes, {} requests, 0 failed, 0 misrouted", tally.sent))
}

/// Adds pull request 4 of A: its variant file, Service and workload.
fn bring(scene: &mut Scene<'_>) -> Result<()> {
    let (name, mut fragment) = fragment("microservice-A", "PR-4");
    fragment["spec"]["expiresAt"] = json!("2098-01-01T00:00:00Z");
    scene.fragments.insert(name, fragment);
    let version = Version::of(A, "PR-4").context("no such version")?;
    scene.brought = scene.world.resources_of(version).to_vec();
    Ok(())
}

/// Requests that no change may affect.
fn steady() -> [(Option<Value>, &'static str); 3] {
    [
        (None, "main>main"),
        (Some(json!({"microservice-A": "PR-1", "microservice-B": "PR-2"})), "PR-1>PR-2"),
        (Some(json!({"microservice-A": "PR-2"})), "PR-2>main"),
    ]
}

fn always(versions: &str) -> Allowed {
    [vec![versions.to_owned()], vec![versions.to_owned()], vec![versions.to_owned()]]
}

/// Lets the load run for a while.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

const NEW_REPORT: &str = "x-other-report";
const PATIENCE: Duration = Duration::from_secs(10);
