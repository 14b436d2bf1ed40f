//! What istiod and a sidecar pay for the routes.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use e2e::{Cluster, ControlPlane, Kind, Net, Proxy, Workload, until};
use serde_json::{Value, json};
use testbed::{EnvoyBinary, client::Http1};

use crate::{
    changes::set_ready,
    inventory::{Inventory, PORT, Variant, team},
    process::Usage,
};

/// Of a sidecar whose `Sidecar` resource names some hosts.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// Which ones, for people.
    pub(crate) scope: &'static str,
    /// The first configuration: bytes and milliseconds by type, such as `RDS`.
    pub(crate) first: BTreeMap<String, Pushed>,
    /// Those of a change that the sidecar needs, as an average.
    pub(crate) change: BTreeMap<String, Pushed>,
    /// Bytes on the wire for such a change, and for one in another namespace.
    pub(crate) wire_bytes: f64,
    pub(crate) wire_bytes_elsewhere: f64,
    /// From the change in istiod to the proxy's acknowledgement, on average.
    pub(crate) convergence_seconds: f64,
    /// Processor time of istiod for a change.
    pub(crate) istiod_cpu_seconds: f64,
    pub(crate) istiod_kib: u64,
    /// What Envoy has allocated.
    pub(crate) envoy_bytes: u64,
}

/// What istiod has generated and sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pushed {
    pub(crate) bytes: f64,
    pub(crate) milliseconds: f64,
}

/// Starts istiod, and one sidecar after the other.
pub(crate) async fn measure(
    plane: &mut ControlPlane,
    envoy: &EnvoyBinary,
    net: Net,
    inventory: Inventory,
    dir: &Path,
) -> Result<Vec<Mesh>> {
    let begin = Instant::now();
    plane.start_istiod().await?;
    println!("istiod is ready after {:.1} s", begin.elapsed().as_secs_f32());
    let mut results = Vec::new();
    for (scope, hosts) in [("its own namespace", "./*"), ("all namespaces", "*/*")] {
        let mesh = Sidecar { plane, envoy, net, inventory, dir };
        results.push(mesh.measure(scope, hosts).await?);
    }
    Ok(results)
}

/// How to run the sidecar.
struct Sidecar<'m> {
    plane: &'m ControlPlane,
    envoy: &'m EnvoyBinary,
    net: Net,
    inventory: Inventory,
    dir: &'m Path,
}

impl Sidecar<'_> {
    async fn measure(&self, scope: &'static str, hosts: &str) -> Result<Mesh> {
        let cluster = &self.plane.cluster;
        cluster.apply(&self.resource(hosts)).await?;
        // Istiod has to know it before the sidecar asks.
        tokio::time::sleep(DEBOUNCE).await;
        let (before, begin) = (self.metrics().await?, Instant::now());
        let namespace = team(0);
        let workload = Workload {
            kind: Kind::Sidecar,
            namespace: &namespace,
            name: "probe",
            labels: &[("app", "probe"), ("routing-claims.dev/router", "enabled")],
            ip: self.net.ip(ADDRESS),
        };
        let proxy = Proxy::start(self.plane, self.envoy, workload, self.dir).await?;
        let with_routes = format!("\"{}\"", Variant { service: 0, number: 0 }.version());
        until("the sidecar's routes", PATIENCE, async || proxy.mentions(&with_routes).await).await?;
        quiet(&proxy).await?;
        let seconds = begin.elapsed().as_secs_f32();
        let first = self.metrics().await?.since(&before);
        println!("a sidecar with {scope}: {:.0} MB of routes after {seconds:.1} s", first["RDS"].bytes / 1e6);

        let pid = self.plane.istiod_pid().context("istiod does not run")?;
        let near = (0..CHANGES).map(|number| Variant { service: number % self.inventory.services.min(50), number: 0 });
        let (before, cpu) = (self.metrics().await?, Usage::of(pid)?.cpu_seconds);
        let wire_bytes = self.changes(cluster, &proxy, near).await?;
        let (after, cpu) = (self.metrics().await?, Usage::of(pid)?.cpu_seconds - cpu);
        let last = self.inventory.services - 1;
        let far =
            (0..CHANGES).map(|number| Variant { service: last - number % self.inventory.services.min(50), number: 0 });
        let wire_bytes_elsewhere =
            if self.inventory.namespaces() > 1 { self.changes(cluster, &proxy, far).await? } else { f64::NAN };
        let memory: Value = serde_json::from_slice(&proxy.admin_get("/memory").await?)?;
        let change = after.since(&before).into_iter().map(|(kind, pushed)| {
            let Pushed { bytes, milliseconds } = pushed;
            let count = f64::from(2 * CHANGES);
            (kind, Pushed { bytes: bytes / count, milliseconds: milliseconds / count })
        });
        Ok(Mesh {
            scope,
            change: change.collect(),
            wire_bytes,
            wire_bytes_elsewhere,
            convergence_seconds: after.convergence_since(&before),
            istiod_cpu_seconds: cpu / f64::from(2 * CHANGES),
            first,
            istiod_kib: Usage::of(pid)?.resident_kib,
            envoy_bytes: memory["allocated"].as_str().context("no `allocated` in /memory")?.parse()?,
        })
    }

    /// Makes the endpoint of each variant unready and ready again, one after the other. Returns the average of the bytes that the
    /// sidecar gets for a change.
    async fn changes(&self, cluster: &Cluster, proxy: &Proxy, variants: impl Iterator<Item = Variant>) -> Result<f64> {
        let before = received(proxy).await?;
        let mut count = 0.0;
        for variant in variants {
            for is_ready in [false, true] {
                set_ready(cluster, variant, is_ready).await?;
                tokio::time::sleep(DEBOUNCE).await;
                quiet(proxy).await?;
                count += 1.0;
            }
        }
        Ok((received(proxy).await? - before) / count)
    }

    fn resource(&self, hosts: &str) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": "probe", "namespace": team(0)},
            "spec": {
                "workloadSelector": {"labels": {"app": "probe"}},
                "egress": [{
                    "bind": self.net.ip(ADDRESS).to_string(),
                    "port": {"number": PORT, "protocol": "HTTP", "name": "http"},
                    "captureMode": "NONE",
                    "hosts": [hosts],
                }],
            },
        })
    }

    async fn metrics(&self) -> Result<Metrics> {
        let metrics = Http1::connect(self.plane.istiod_metrics()).await?.get("istiod", "/metrics", &[]).await?;
        Ok(Metrics(metrics.text()))
    }
}

/// The bytes that a sidecar has got from istiod.
async fn received(proxy: &Proxy) -> Result<f64> {
    let stats = proxy.admin_get("/stats?filter=^cluster.xds-grpc.upstream_cx_rx_bytes_total$").await?;
    let stats = String::from_utf8(stats)?;
    let (_, count) = stats.trim().rsplit_once(": ").context("no such counter")?;
    Ok(count.parse()?)
}

/// Waits until a sidecar gets nothing more.
async fn quiet(proxy: &Proxy) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (received(proxy).await?, Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = received(proxy).await?;
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Istiod's metrics, in Prometheus' text format.
struct Metrics(String);

impl Metrics {
    /// What was sent since then, by type.
    fn since(&self, before: &Self) -> BTreeMap<String, Pushed> {
        let sum = |name: &str, label: &str| self.value(name, label) - before.value(name, label);
        let types = TYPES.map(|(name, url, push)| {
            let bytes = sum("pilot_xds_config_size_bytes_sum", url);
            (name.to_owned(), Pushed { bytes, milliseconds: sum("pilot_xds_push_time_sum", push) * 1e3 })
        });
        types.into_iter().collect()
    }

    fn convergence_since(&self, before: &Self) -> f64 {
        let change = |name: &str| self.value(name, "") - before.value(name, "");
        change("pilot_proxy_convergence_time_sum") / change("pilot_proxy_convergence_time_count")
    }

    /// The value of a metric with a label's value.
    fn value(&self, name: &str, label: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Name, the end of its URL, and how istiod's metric of the time names it.
const TYPES: [(&str, &str, &str); 4] = [
    ("CDS", "config.cluster.v3.Cluster\"", "type=\"cds\""),
    ("EDS", "config.endpoint.v3.ClusterLoadAssignment\"", "type=\"eds\""),
    ("LDS", "config.listener.v3.Listener\"", "type=\"lds\""),
    ("RDS", "config.route.v3.RouteConfiguration\"", "type=\"rds\""),
];
/// The last byte of the sidecar's address.
const ADDRESS: u8 = 20;
/// Pairs of changes.
const CHANGES: u32 = 2;
/// Longer than the controller and istiod collect changes.
const DEBOUNCE: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(300);
