//! Faults around the controller. Nothing is lost, and the filter goes on deciding with the last good state.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use controller::definitions;
use e2e::{Readiness, until};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    life::{WITH, WITHOUT, pull_request},
    stage::{PATIENCE, Stage, routes_of},
};

/// Of two controllers, one writes. When it stops or is killed, the other one does.
pub(super) async fn two_controllers(stage: &mut Stage) -> Result<String> {
    let second = stage.another(8081).await?;
    until("the second controller", PATIENCE, async || {
        let status = second.get("/healthz").await.map_or(0, |(status, _)| status);
        Ok(Readiness::of(status == 200, || format!("/healthz has {status}: {}", second.log_tail())))
    })
    .await?;
    let begin = stage.audit.now()?;
    let (service, instance, _) = pull_request(stage);
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    stage.quiet().await?;
    let entries = stage.audit.since(begin)?;
    let writes = entries.iter().filter(|entry| entry.writes() && entry.call.resource == "virtualservices").count();
    ensure!(writes == 1, "one change makes {writes} writes of routes");

    let first = stage.controller.replace(second).context("the controller runs")?;
    let begin = Instant::now();
    if stage.long {
        first.kill().await?;
    } else {
        first.stop().await?;
    }
    stage.delete(&instance).await?;
    e2e::until("the other controller", Duration::from_secs(60), async || {
        let routed = stage.routed("a").await?;
        Ok(Readiness::of(routed.len() == WITHOUT.len(), || stage.log_tail()))
    })
    .await?;
    let took = begin.elapsed();
    let what = if stage.long { "is killed" } else { "stops" };
    // The next part has the first one's address.
    stage.restart(&[]).await?;
    Ok(format!("the other one writes {:.1} s after the first one {what}", took.as_secs_f32()))
}

/// The API is gone for the controller.
pub(super) async fn without_the_api(stage: &mut Stage) -> Result<String> {
    let steady = stage.steady();
    let (service, instance, _) = pull_request(stage);
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    let outage = Duration::from_secs(if stage.long { 60 } else { 1 });
    stage.way.shut();
    stage.delete(&instance).await?;
    stage.delete(&routes_of("b")).await?;
    stage.delete(&stage.variants[0]).await?;
    tokio::time::sleep(outage).await;
    let (healthy, _) = stage.running()?.get("/healthz").await?;
    ensure!(healthy == 200, "/healthz has {healthy} without the API");
    ensure!(stage.answer(&json!({"microservice-A": "PR-1"})).await? == "PR-1>main", "the filter no longer decides");
    let begin = Instant::now();
    stage.way.open();
    stage.until_routed("a", &["PR-1", "PR-3"]).await?;
    stage.until_routed("b", &["PR-1", "PR-2"]).await?;
    let took = begin.elapsed();
    // Connections that break again and again.
    stage.apply(&instance).await?;
    for _ in 0..10 {
        stage.way.cut();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.until_routed("a", &["PR-1", "PR-3", "PR-4"]).await?;
    // Pull request 2 and the routes of B are gone for a while by intention.
    let tally = steady.stop().await;
    stage.under_load += tally.sent;
    ensure!(tally.failed == 0, "{} of {} requests failed: {:?}", tally.failed, tally.sent, tally.first);
    Ok(format!(
        "gone for {} s, settled {:.1} s later; {} requests, 0 failed",
        outage.as_secs(),
        took.as_secs_f32(),
        tally.sent
    ))
}

/// Istiod is gone: the controller writes, and the proxies keep what they have.
pub(super) async fn without_istiod(stage: &mut Stage) -> Result<String> {
    let (service, instance, _) = pull_request(stage);
    let steady = stage.steady();
    stage.world.plane.stop_istiod();
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    tokio::time::sleep(Duration::from_secs(if stage.long { 60 } else { 1 })).await;
    let token = json!({"microservice-A": "PR-4"});
    ensure!(stage.answer(&token).await? == "main>main", "the proxies have new routes without istiod");
    stage.world.plane.start_istiod().await?;
    stage.world.settle().await?;
    ensure!(stage.answer(&token).await? == "PR-4>main", "the proxies do not have the new routes");
    let sent = stage.unload(steady).await?;
    Ok(format!("{sent} requests, 0 failed, 0 misrouted"))
}

/// The API server restarts while the controller does not hear of changes: its watches can't be resumed (410), so it lists.
pub(super) async fn watches_expire(stage: &mut Stage) -> Result<String> {
    let (service, instance, _) = pull_request(stage);
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    let steady = stage.steady();
    stage.way.shut();
    stage.delete(&instance).await?;
    stage.delete(&service).await?;
    stage.world.plane.stop_kube_apiserver();
    tokio::time::sleep(Duration::from_secs(if stage.long { 60 } else { 0 })).await;
    stage.world.plane.start_kube_apiserver().await?;
    let begin = stage.audit.now()?;
    let opened = Instant::now();
    stage.way.open();
    stage.until_routed("a", WITHOUT).await?;
    let took = opened.elapsed();
    stage.quiet().await?;
    let lists = stage.audit.since(begin)?.iter().filter(|entry| entry.call.verb == "list").count();
    ensure!(lists > 0, "the watches were resumed, so this proves nothing");
    if stage.long {
        // After a minute, istiod's own watches come back later than the controller's.
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    stage.world.settle().await?;
    let sent = stage.unload(steady).await?;
    let took = took.as_secs_f32();
    Ok(format!("settled {took:.1} s after the restart, with {lists} lists; {sent} requests, 0 failed, 0 misrouted"))
}

/// An admission policy refuses what the controller writes. It says so, does not hurry, and goes on when it may.
pub(super) async fn refused(stage: &mut Stage) -> Result<String> {
    for resource in refusing() {
        stage.apply(&resource).await?;
    }
    let mut probe = routes_of("a");
    probe["metadata"]["name"] = json!("probe");
    probe["spec"] =
        json!({"hosts": ["probe.example"], "http": [{"route": [{"destination": {"host": "probe.example"}}]}]});
    until("the policy", PATIENCE, async || {
        let refusal = stage.cluster().refusal(&probe).await?.unwrap_or_default();
        Ok(Readiness::of(refusal.contains(REFUSAL), || refusal))
    })
    .await?;
    let begin = stage.audit.now()?;
    let (service, instance, _) = pull_request(stage);
    let plan = stage.plan.clone();
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_told(&plan, REFUSAL).await?;
    stage.until_condition("Applied", "False").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tries = stage.audit.since(begin)?.iter().filter(|entry| entry.call.resource == "virtualservices").count();
    ensure!((1..=10).contains(&tries), "{tries} tries within about 2 s");
    for resource in refusing() {
        stage.delete(&resource).await?;
    }
    let begin = Instant::now();
    stage.until_routed("a", WITH).await?;
    let took = begin.elapsed();
    stage.until_condition("Applied", "True").await?;
    Ok(format!("{tries} tries within about 2 s; written {:.1} s after it may", took.as_secs_f32()))
}

/// Somebody else writes the same objects all the time.
pub(super) async fn concurrent(stage: &mut Stage) -> Result<String> {
    let (service, instance, _) = pull_request(stage);
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    let begin = stage.audit.now()?;
    for number in 0..EDITS {
        stage.merge(&routes_of("a"), &json!({"metadata": {"annotations": {"others": number.to_string()}}})).await?;
        stage.merge(&routes_of("a"), &json!({"spec": {"http": []}})).await.ok();
        if number % 10 == 5 {
            stage.delete(&instance).await?;
        } else if number % 10 == 0 {
            stage.apply(&instance).await?;
        }
    }
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    let writes = stage.quiet_since(begin).await?;
    let routes = stage.cluster().get(&routes_of("a")).await?.unwrap_or_default();
    let others = routes["metadata"]["annotations"]["others"].as_str().unwrap_or_default();
    ensure!(others.parse() == Ok(EDITS - 1), "another's annotation is lost: {others:?}");
    Ok(format!("{} writes of another, {writes} of the controller", 2 * EDITS))
}

/// The cluster has definitions that know less, or more.
pub(super) async fn older_definitions(stage: &mut Stage) -> Result<String> {
    let (service, instance, _) = pull_request(stage);
    let steady = stage.steady();
    // All of the status is dropped.
    define(stage, |version| version["schema"]["openAPIV3Schema"]["properties"]["status"] = json!({"type": "object"}))
        .await?;
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await.context("without the fields of the status")?;
    stage.quiet().await.context("without the fields of the status")?;

    // No status at all.
    define(stage, |version| {
        version.as_object_mut().map(|version| version.remove("subresources"));
    })
    .await?;
    stage.delete(&instance).await?;
    stage.until_routed("a", WITHOUT).await.context("without a status")?;
    stage.quiet().await.context("without a status")?;

    // A field of a later version.
    define(stage, |version| {
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] =
            json!(true);
    })
    .await?;
    until("the field of a later version", PATIENCE, async || {
        stage.change_plan(|spec| spec["later"] = json!(1)).await?;
        let spec = stage.live_plan().await?["spec"].clone();
        Ok(Readiness::of(spec["later"] == 1, || "the API server drops it".to_owned()))
    })
    .await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await.context("with a field of a later version")?;
    // A watch that began under the earlier definition does not show the field, so whether the status names it depends on timing.
    stage.quiet().await.context("with a field of a later version")?;

    stage.cluster().apply(&stage.plan.clone()).await?;
    define(stage, |_| ()).await?;
    stage.merge(&stage.plan, &json!({"metadata": {"labels": {"a": "change"}}})).await?;
    stage.until_condition("Accepted", "True").await?;
    let sent = stage.unload(steady).await?;
    Ok(format!("3 definitions; {sent} requests, 0 failed, 0 misrouted"))
}

/// The clock jumps by two hours, there and back. Needs libfaketime.
pub(super) async fn clock(stage: &mut Stage) -> Result<String> {
    let library = LIBRARIES.iter().find(|path| std::path::Path::new(path).exists());
    let library = library.with_context(|| {
        format!("libfaketime is not installed ({}); `apt-get install faketime` installs it", LIBRARIES.join(", "))
    })?;
    let offset = stage.dir.join("clock");
    std::fs::write(&offset, "+0s")?;
    if let Some(running) = stage.controller.take() {
        running.stop().await?;
    }
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    stage.program.environment = vec![
        variable("LD_PRELOAD", library),
        variable("FAKETIME_TIMESTAMP_FILE", &offset.display().to_string()),
        variable("FAKETIME_NO_CACHE", "1"),
        // Timers go on, as with a clock that is set.
        variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let mut controller = stage.another(8080).await?;
    controller.ready().await?;
    stage.controller = Some(controller);
    let (mut service, instance, _) = pull_request(stage);
    let end = Timestamp::now() + Duration::from_secs(3600);
    service["metadata"]["annotations"] = json!({"routing-claims.dev/expires-at": end.to_string()});
    stage.apply(&service).await?;
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await?;
    let begin = Instant::now();
    std::fs::write(&offset, "+2h")?;
    until("the expiry", Duration::from_secs(90), async || {
        let routed = stage.routed("a").await?;
        Ok(Readiness::of(routed.len() == WITHOUT.len(), || stage.log_tail()))
    })
    .await?;
    let forth = begin.elapsed();
    let begin = Instant::now();
    std::fs::write(&offset, "+0s")?;
    until("the route again", Duration::from_secs(90), async || {
        let routed = stage.routed("a").await?;
        Ok(Readiness::of(routed.len() == WITH.len(), || stage.log_tail()))
    })
    .await?;
    Ok(format!("noticed after {:.0} s, and back after {:.0} s", forth.as_secs_f32(), begin.elapsed().as_secs_f32()))
}

/// Serves the definitions with a change.
async fn define(stage: &Stage, change: impl Fn(&mut Value)) -> Result<()> {
    for mut definition in definitions::all() {
        definition["spec"]["versions"].as_array_mut().into_iter().flatten().for_each(&change);
        stage.cluster().define_one(&definition).await?;
    }
    // The API server serves them a moment later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

fn refusing() -> [Value; 2] {
    let metadata = json!({"name": "no-routes"});
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["networking.istio.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["virtualservices"],
                }]},
                "validations": [{
                    "expression": "!(request.userInfo.username.startsWith('system:serviceaccount:') || object.metadata.name == 'probe')",
                    "message": REFUSAL,
                }],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": "no-routes", "validationActions": ["Deny"]},
        }),
    ]
}

const REFUSAL: &str = "no routes on Fridays";
const EDITS: u32 = 30;
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];
