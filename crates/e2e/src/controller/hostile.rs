//! Services and variants whose authors want more than they may.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{
    plans::owned,
    readiness::variant,
    stage::{PATIENCE, Stage, claim, namespace, workload},
};

/// Each is refused and told so. What the plan has besides stays byte for byte.
pub(super) async fn one_of_each(stage: &mut Stage) -> Result<String> {
    for name in [TENANT, PREVIEW] {
        stage.apply(&namespace(name)).await?;
        stage.apply(&workload(name, "w", "w", stage.world.net.ip(14).into())).await?;
    }
    stage.change_plan(|spec| spec["services"][0]["allowedNamespaces"] = json!(["preview-*"])).await?;
    stage.quiet().await?;
    let before = owned(stage).await?;

    let refused = refused();
    for (object, _) in &refused {
        stage.apply(object).await?;
    }
    let longest = "v".repeat(63);
    let allowed =
        [service(PREVIEW, "allowed", "microservice-A", "PR-4"), service(PREVIEW, "long", "microservice-A", &longest)];
    for object in &allowed {
        stage.apply(object).await?;
    }
    stage.until_routed("a", &["PR-1", "PR-2", "PR-3", "PR-4", &longest]).await?;
    for (object, why) in &refused {
        stage.until_told(object, why).await?;
    }
    stage.quiet().await?;
    stage.until_routed("a", &["PR-1", "PR-2", "PR-3", "PR-4", &longest]).await?;

    let mut after = owned(stage).await?;
    let mut others = before.clone();
    let changed = "VirtualService microservice-a/routing-claims-microservice-a";
    ensure!(others.remove(changed).is_some() && after.remove(changed).is_some(), "the route of A does not exist");
    ensure!(others == after, "other objects were changed: {others:?} to {after:?}");
    let not_created = not_created();
    let mut by_the_api = 0;
    for object in &not_created {
        if stage.cluster().refusal(object).await?.is_some() {
            by_the_api += 1;
        } else {
            stage.apply(object).await?;
        }
    }
    stage.quiet().await?;
    stage.until_routed("a", &["PR-1", "PR-2", "PR-3", "PR-4", &longest]).await?;
    Ok(format!("{} refused and told, {by_the_api} more by the API, others unchanged", refused.len()))
}

/// Thousands of Services of a namespace that may serve A. Whatever happens, they do not stay.
pub(super) async fn many(stage: &mut Stage) -> Result<String> {
    let result = crowd(stage).await;
    stage.cluster().delete_all("v1", "Service", PREVIEW).await?;
    result
}

async fn crowd(stage: &mut Stage) -> Result<String> {
    let count = if stage.long { 2000 } else { 550 };
    stage.apply(&namespace(PREVIEW)).await?;
    stage.apply(&workload(PREVIEW, "w", "w", stage.world.net.ip(14).into())).await?;
    stage.change_plan(|spec| spec["services"][0]["allowedNamespaces"] = json!([PREVIEW])).await?;
    stage.quiet().await?;
    let steady = stage.steady();
    let others = {
        let mut owned = owned(stage).await?;
        owned.remove("VirtualService microservice-a/routing-claims-microservice-a");
        owned
    };
    let begin = stage.audit.now()?;
    let services: Vec<_> = (0..count)
        .map(|number| {
            let mut service = service(PREVIEW, &format!("s-{number}"), "microservice-A", &format!("many-{number}"));
            // An address for each would take the API server most of the time.
            service["spec"]["clusterIP"] = json!("None");
            service
        })
        .collect();
    for chunk in services.chunks(50) {
        try_join_all(chunk.iter().map(|service| stage.cluster().apply_unrecorded(service))).await?;
    }
    e2e::until("the limit of 500 variants", PATIENCE, async || {
        let routed = stage.routed("a").await?;
        let is = routed.len() == LIMIT && ["PR-1", "PR-2", "PR-3"].iter().all(|one| routed.contains(*one));
        Ok(e2e::Readiness::of(is, || format!("{} are routed\n{}", routed.len(), stage.log_tail())))
    })
    .await?;
    let writes = stage.quiet_since(begin).await?;
    let mut after = owned(stage).await?;
    after.remove("VirtualService microservice-a/routing-claims-microservice-a");
    ensure!(after == others, "other objects were changed");
    // The status follows a second later.
    e2e::until("the status", PATIENCE, async || {
        let status = stage.live_plan().await?["status"].clone();
        let listed = status["variants"].as_array().map(Vec::len).unwrap_or_default();
        let is = listed == LISTED && status["counts"]["variants"].as_u64() >= Some(count);
        Ok(e2e::Readiness::of(is, || format!("it lists {listed} variants and counts {}", status["counts"])))
    })
    .await?;
    stage.cluster().delete_all("v1", "Service", PREVIEW).await?;
    stage.until_routed("a", &["PR-1", "PR-2", "PR-3"]).await?;
    let sent = stage.unload(steady).await?;
    Ok(format!("of {count}, {} are routed after {writes} writes; {sent} requests, 0 failed", LIMIT - 3))
}

/// What nobody may claim, with a part of what is said about it.
fn refused() -> Vec<(Value, &'static str)> {
    let in_preview = |name: &str| service(PREVIEW, name, "microservice-A", name);
    let with_time = |name: &str, annotation: &str, text: &str| {
        let mut service = in_preview(name);
        service["metadata"]["annotations"][format!("routing-claims.dev/{annotation}")] = json!(text);
        (service, if annotation == "ttl" { "duration" } else { "timestamp" })
    };
    let of_variant = |name: &str, host: Option<&str>| {
        let mut variant = variant(name);
        variant["metadata"]["namespace"] = json!(PREVIEW);
        if let Some(host) = host {
            variant["spec"]["host"] = json!(host);
        }
        variant
    };
    let mut elsewhere = in_preview("external");
    elsewhere["spec"] = json!({"type": "ExternalName", "externalName": "elsewhere.example"});
    let mut without_port = in_preview("without-port");
    without_port["spec"]["ports"] = json!([{"name": "http", "port": 81}]);
    let mut without_variant = in_preview("without-variant");
    without_variant["metadata"]["labels"] = json!({"routing-claims.dev/service": "microservice-A"});
    let mut of_other_plan = in_preview("other-plan");
    of_other_plan["metadata"]["labels"]["routing-claims.dev/plan"] = json!("other");
    vec![
        (service(TENANT, "not-allowed", "microservice-A", "not-allowed"), TENANT),
        (service(PREVIEW, "of-b", "microservice-B", "of-b"), PREVIEW),
        (service(PREVIEW, "unknown", "microservice-Z", "unknown"), "microservice-Z"),
        (elsewhere, "ExternalName"),
        (without_port, "port"),
        (without_variant, "routing-claims.dev/variant"),
        (of_other_plan, "other"),
        with_time("huge", "ttl", "99999999999999999999999999y"),
        with_time("long-number", "ttl", LONG),
        with_time("negative", "ttl", "-5m"),
        with_time("zero", "ttl", "0s"),
        with_time("unicode", "ttl", "\u{221e}\u{202e}m5"),
        with_time("lines", "ttl", "5m\nlevel=error msg=\"forged\""),
        with_time("empty", "ttl", ""),
        with_time("tomorrow", "expires-at", "tomorrow"),
        with_time("no-zone", "expires-at", "2099-01-01T00:00:00"),
        (of_variant("host-of-b", Some("microservice-b.microservice-b.svc.cluster.local")), "host"),
        (of_variant("host-elsewhere", Some("elsewhere.example")), "host"),
        (of_variant("no-host", None), "host"),
        (of_variant("short-host", Some("w")), "host"),
    ]
}

/// What the API should refuse; if it does not, the controller must.
fn not_created() -> Vec<Value> {
    let variant_of = |index: usize, text: &str| {
        let mut variant = variant(&format!("hostile-{index}"));
        variant["spec"]["variant"] = json!(text);
        variant
    };
    let names = ["PR-1\r\nx-evil: 1", ".*", "", "\u{202e}", "a,b", "a=b"];
    names
        .into_iter()
        .enumerate()
        .map(|(index, text)| variant_of(index, text))
        .chain([variant_of(9, &"x".repeat(5000))])
        .collect()
}

fn service(namespace: &str, name: &str, service: &str, variant: &str) -> Value {
    let mut claim = claim(namespace, name, service, variant);
    claim["spec"]["selector"] = json!({"app": "w"});
    claim
}

/// A namespace that no service allows.
const TENANT: &str = "tenant";
/// A namespace that A allows.
const PREVIEW: &str = "preview-1";
/// The most variants of a service.
const LIMIT: usize = 500;
/// The most variants in a status.
const LISTED: usize = 256;
const LONG: &str =
    "1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111s";
