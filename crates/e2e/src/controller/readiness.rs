//! A variant's route comes and goes with the readiness of its Service, and with its time.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    life::{WITH, WITHOUT, pull_request},
    stage::{Stage, claim},
};
use crate::world::A;

/// Kubernetes does not allow endpoints on loopback, so no request goes to these.
pub(super) async fn readiness(stage: &mut Stage) -> Result<String> {
    let (service, instance, _) = pull_request(stage);
    let service = {
        // Without a workload that it selects.
        let mut service = service;
        service["spec"]["selector"] = json!({"app": "pr-4-of-slices"});
        service
    };
    let is = |ready: Value| json!([{"addresses": ["10.1.1.1"], "conditions": {"ready": ready}}]);
    let states: Vec<(&str, Value, &[&str])> = vec![
        ("a slice without endpoints", slice("one", "IPv4", &json!([])), WITHOUT),
        ("an endpoint that is not ready", slice("one", "IPv4", &is(json!(false))), WITHOUT),
        ("a ready endpoint", slice("one", "IPv4", &is(json!(true))), WITH),
        ("it is no longer ready", slice("one", "IPv4", &is(json!(false))), WITHOUT),
        ("a ready one in another slice", slice("two", "IPv6", &json!([{"addresses": ["fd00::1"]}])), WITH),
        (
            "it is not ready either",
            slice("two", "IPv6", &json!([{"addresses": ["fd00::1"], "conditions": {"ready": false}}])),
            WITHOUT,
        ),
        ("a name", slice("name", "FQDN", &json!([{"addresses": ["pr-4.example"]}])), WITHOUT),
        ("nothing is known about it", slice("one", "IPv4", &json!([{"addresses": ["10.1.1.1"]}])), WITH),
    ];
    stage.apply(&service).await?;
    stage.until_told(&stage.plan.clone(), "\"variant\":\"PR-4\"").await?;
    let count = states.len();
    let mut before = WITHOUT;
    for (what, slice, wanted) in states {
        stage.apply(&slice).await?;
        stage.until_routed("a", wanted).await.context(what)?;
        if before == WITHOUT && wanted == WITHOUT {
            stage.quiet().await?;
            stage.until_routed("a", wanted).await.with_context(|| format!("{what}, later"))?;
        }
        before = wanted;
    }
    for name in ["one", "two", "name"] {
        stage.delete(&slice(name, "IPv4", &json!([]))).await?;
    }
    stage.until_routed("a", WITHOUT).await.context("no slices")?;

    // Without endpoints in slices, its workloads count.
    let mut instance = instance;
    instance["spec"]["labels"]["app"] = json!("pr-4-of-slices");
    stage.apply(&instance).await?;
    stage.until_routed("a", WITH).await.context("a workload")?;
    for (healthy, wanted) in [("False", WITHOUT), ("True", WITH)] {
        let health = json!({"status": {"conditions": [{"type": "Healthy", "status": healthy}]}});
        stage.cluster().merge_status(&instance, &health).await?.map_err(anyhow::Error::msg)?;
        stage.until_routed("a", wanted).await.with_context(|| format!("a workload with Healthy: {healthy}"))?;
    }
    stage.apply(&slice("one", "IPv4", &is(json!(false)))).await?;
    stage.until_routed("a", WITHOUT).await.context("endpoints that are not ready, beside a workload")?;
    stage.delete(&slice("one", "IPv4", &json!([]))).await?;
    stage.until_routed("a", WITH).await.context("a workload again")?;
    stage.delete(&service).await?;
    stage.until_routed("a", WITHOUT).await.context("the Service is gone")?;
    Ok(format!("{} states", count + 7))
}

/// The earlier of both annotations counts.
pub(super) async fn expiry(stage: &mut Stage) -> Result<String> {
    let (mut service, instance, _) = pull_request(stage);
    service["metadata"]["annotations"] = json!({"routing-claims.dev/ttl": "3s"});
    stage.apply(&instance).await?;
    stage.apply(&service).await?;
    let mut variant = variant("PR-5");
    variant["spec"]["host"] = json!("pr-1.microservice-a.svc.cluster.local");
    variant["spec"]["expiresAt"] = json!((Timestamp::now() + std::time::Duration::from_secs(3)).to_string());
    stage.apply(&variant).await?;
    stage.until_routed("a", &["PR-1", "PR-2", "PR-3", "PR-4", "PR-5"]).await?;
    let created = stage.cluster().get(&service).await?.unwrap_or_default()["metadata"]["creationTimestamp"].clone();
    let created: Timestamp = created.as_str().context("no creation time")?.parse()?;
    stage.until_routed("a", WITHOUT).await?;
    let lived = Timestamp::now().duration_since(created).as_secs_f32();
    ensure!((3.0..6.0).contains(&lived), "it lived {lived} s, not 3 s");
    stage.until_told(&service, "xpired").await?;
    let later = json!({"routing-claims.dev/expires-at": "2099-01-01T00:00:00Z"});
    stage.annotate(&service, &later).await?;
    stage.quiet().await?;
    stage.until_routed("a", WITHOUT).await.context("the earlier time counts")?;
    stage.annotate(&service, &json!({"routing-claims.dev/ttl": "3d"})).await?;
    stage.until_routed("a", WITH).await.context("a longer time")?;
    Ok(format!("a Service with `ttl: 3s` is routed for {lived:.1} s"))
}

pub(super) fn variant(name: &str) -> Value {
    json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingVariant",
        "metadata": {"name": format!("microservice-a-{}", name.to_lowercase()), "namespace": "istio-system"},
        "spec": {"service": "microservice-A", "variant": name},
    })
}

fn slice(name: &str, kind: &str, endpoints: &Value) -> Value {
    let service = &claim(A, "pr-4", "", "")["metadata"]["name"];
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("pr-4-{name}"),
            "namespace": A,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": kind,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}
