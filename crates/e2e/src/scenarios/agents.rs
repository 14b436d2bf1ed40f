//! What only a mesh of agents has: mutual TLS, and the metrics that Prometheus scrapes.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use testbed::client::Http1;

use crate::{
    scene::{From, Scene, bearer, values},
    world::{B, Version, host},
};

use super::talk::expect;

/// A sidecar presents its identity to the sidecar of the service, which refuses plaintext.
pub(super) async fn mutual_tls(scene: &mut Scene<'_>) -> Result<String> {
    let host = host(B, B);
    let answer = scene.ask(From::Client, &host, "/", &[]).await?;
    expect(&answer, "main", &json!("through the client's sidecar"))?;
    let certificate = values(&answer.said, "x-forwarded-client-cert").next().unwrap_or_default();
    let identity = "URI=spiffe://cluster.local/ns/client/sa/client";
    ensure!(certificate.contains(identity), "expected {identity} at the service, found `{certificate}`");

    let main = Version::of(B, "main").context("no such version")?;
    let around = Http1::connect(scene.world.inbound(main)).await?.get(&host, "/", &[]).await;
    if let Ok(answer) = around {
        bail!("the sidecar of the service answers {} to plaintext: {}", answer.status, answer.text());
    }
    Ok("the service sees the caller's identity; plaintext is refused".to_owned())
}

/// The agent's merged endpoint has the filter's counters, without an annotation, and they count.
pub(super) async fn metrics(scene: &mut Scene<'_>) -> Result<String> {
    let (host, token) = (host(B, B), bearer(&json!({"microservice-B": "PR-1"})));
    let before = counter(scene, "applied").await?;
    for _ in 0..REQUESTS {
        scene.ask(From::Client, &host, "/", &[("authorization", &token)]).await?;
    }
    let counted = counter(scene, "applied").await? - before;
    ensure!(counted == REQUESTS, "{REQUESTS} requests with a token were sent, the metrics count {counted}");
    Ok(format!("{REQUESTS} requests counted at the endpoint that Prometheus scrapes"))
}

/// A counter of the filter in the client's sidecar, by outcome.
async fn counter(scene: &Scene<'_>, outcome: &str) -> Result<u64> {
    let agent = scene.proxy(From::Client).agent().context("the client's proxy has no agent")?;
    let metrics = agent.metrics().await?;
    let name = format!("routing_claims_{outcome}");
    let mut lines = metrics.lines().filter(|line| line.starts_with(&name));
    let line = lines.next().with_context(|| format!("the metrics have no {name}"))?;
    ensure!(lines.next().is_none(), "the metrics have {name} more than once");
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

const REQUESTS: u64 = 7;
