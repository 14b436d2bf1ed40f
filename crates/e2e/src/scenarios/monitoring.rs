//! The rules and the dashboard of `deploy/monitoring`, in a real Prometheus that scrapes the agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Cluster, Prometheus, Proxy, Readiness, until};
use serde_json::{Value, json};

use crate::scene::{Scene, bearer, bearer_of};

/// Each outcome of the requests shows under its name, each query of the dashboard finds something, and the alerts that should be
/// pending are.
pub(super) async fn monitoring(scene: &mut Scene<'_>) -> Result<String> {
    let folder = testbed::workspace_dir().join("deploy/monitoring");
    let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read {name}"));
    let rules = Cluster::documents(&read("rules.yaml")?)?.pop().context("rules.yaml has one document")?;
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")?)?;

    let world = &*scene.world;
    let scraped = [&world.gateway, &world.client, &world.sidecar_a, &world.plain];
    let targets = scraped.into_iter().map(target).collect::<Result<Vec<_>>>()?;
    let addr = world.net.addr(PROMETHEUS, 9090);
    let prometheus = Prometheus::start(&world.prometheus, addr, &targets, &rules["spec"], &scene.path("")).await?;
    // A rate needs two values, and counters of which the first is before the requests.
    until("the first scrapes", SCRAPED, async || {
        let scraped = prometheus.query("count(count_over_time(routing_claims_no_token[1m]) > 1)").await?;
        let found = scraped.first().map_or(0.0, |(_, value)| *value);
        Ok(Readiness::of(found >= WITH_FILTER, || format!("{found} of {WITH_FILTER} proxies")))
    })
    .await?;

    let applied = bearer(&json!({"microservice-A": "PR-1"}));
    let fault = bearer(&json!({"microservice-A": "PR-1", "microservice-B": 1.5}));
    let duplicate = bearer_of(r#"{"microservice-A": "PR-1", "microservice-A": "PR-2"}"#);
    let requests: [(&str, Vec<(&str, &str)>); 5] = [
        ("no-token", vec![]),
        ("applied", vec![("authorization", &applied)]),
        ("applied", vec![("authorization", &fault)]),
        ("duplicate-key", vec![("authorization", &duplicate)]),
        ("ambiguous-token", vec![("authorization", &applied), ("authorization", &applied)]),
    ];
    let (from, host) = scene.entry();
    for (_, headers) in requests.iter().cycle().take(REQUESTS) {
        scene.send(from, &host, "/", headers).await?;
    }

    let sent: BTreeSet<_> = requests.iter().map(|(outcome, _)| (*outcome).to_owned()).collect();
    until("the outcomes", SCRAPED, async || {
        let query = r#"sum by (outcome) (routing_claims:requests:rate5m{pod=~"gateway|client"}) > 0"#;
        let found = label(prometheus.query(query).await?, "outcome");
        Ok(Readiness::of(found == sent, || format!("sent {sent:?}, found {found:?}")))
    })
    .await?;
    until("the alerts", SCRAPED, async || {
        let found = label(prometheus.query("ALERTS").await?, "alertname");
        let wanted = ["AmbiguousToken", "DuplicateKey", "FilterMissing", "TokensWithoutEffect"]
            .map(|name| format!("RoutingClaims{name}"));
        Ok(Readiness::of(found.iter().eq(&wanted), || format!("expected {wanted:?}, found {found:?}")))
    })
    .await?;
    let missing = prometheus.query(r#"ALERTS{alertname="RoutingClaimsFilterMissing"}"#).await?;
    ensure!(label(missing, "pod").iter().eq(["plain"]), "the alert is not only for the proxy without the filter");

    let queries = queries(&dashboard)?;
    for query in &queries {
        // Only the native module has this counter.
        if prometheus.query(query).await?.is_empty() != query.contains("routing_claims_traps") {
            bail!("the dashboard's query {query} finds nothing");
        }
    }
    Ok(format!("{} queries, {} outcomes, 4 alerts", queries.len(), sent.len()))
}

/// What Prometheus scrapes of a proxy. It says of each that it has the label of the filter, also of the one that has not.
fn target(proxy: &Proxy) -> Result<e2e::Target> {
    let agent = proxy.agent().context("the proxy has no agent")?;
    let labels = [
        ("namespace", proxy.namespace.clone()),
        ("pod", proxy.name().to_owned()),
        ("routing_claims_dev_router", "enabled".to_owned()),
    ];
    Ok((agent.metrics_addr(), labels.into()))
}

/// The values of a label.
fn label(series: Vec<(BTreeMap<String, String>, f64)>, name: &str) -> BTreeSet<String> {
    series.into_iter().filter_map(|(mut labels, _)| labels.remove(name)).collect()
}

/// Each query of a dashboard, for all namespaces and pods.
fn queries(dashboard: &Value) -> Result<Vec<String>> {
    let panels = dashboard["panels"].as_array().context("the dashboard has panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<_> = targets
        .filter_map(|target| target["expr"].as_str())
        .map(|query| query.replace("$namespace", ".*").replace("$pod", ".*"))
        .collect();
    ensure!(!queries.is_empty() && queries.iter().all(|query| !query.contains('$')), "variables in {queries:?}");
    Ok(queries)
}

const PROMETHEUS: u8 = 6;
const REQUESTS: usize = 50;
/// The gateway, and the sidecars of the client and of A.
const WITH_FILTER: f64 = 3.0;
const SCRAPED: Duration = Duration::from_secs(60);
