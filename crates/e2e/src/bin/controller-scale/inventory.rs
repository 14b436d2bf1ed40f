//! The plan, and the Services with their endpoints.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use e2e::{Cluster, Readiness, until};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inventory {
    pub(crate) services: u32,
    /// Of each service.
    pub(crate) variants: u32,
}

/// A variant of a service, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) service: u32,
    pub(crate) number: u32,
}

impl Inventory {
    /// All variants.
    pub(crate) fn total(self) -> u32 {
        self.services * self.variants
    }

    /// The variant of that index. Those of successive indexes are of different services.
    pub(crate) fn variant(self, index: u32) -> Variant {
        Variant { service: index % self.services, number: index / self.services % self.variants }
    }

    pub(crate) fn namespaces(self) -> u32 {
        self.services.div_ceil(SERVICES_OF_NAMESPACE)
    }

    /// Creates everything, with many requests at a time.
    pub(crate) async fn create(self, cluster: &Cluster) -> Result<()> {
        for number in 0..self.namespaces() {
            let name = team(number);
            cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
        }
        cluster.apply(&self.plan()).await?;
        let mains = (0..self.services).flat_map(|index| {
            let (name, namespace) = (service(index), namespace(index));
            [self::service_object(&namespace, &name, &json!({})), slice(&namespace, &name, true)]
        });
        let variants = (0..self.total()).flat_map(|index| {
            let variant = self.variant(index);
            [variant.slice(true), variant.object()]
        });
        let (of, begin) = (2 * (self.services + self.total()) as usize, Instant::now());
        let mut created = stream::iter(mains.chain(variants))
            .map(|resource| async move { cluster.create_unrecorded(&resource).await?.map_err(|why| anyhow!(why)) })
            .buffer_unordered(CONCURRENT);
        let mut done = 0;
        while created.try_next().await?.is_some() {
            done += 1;
            if done % of.div_ceil(10) == 0 || done == of {
                println!(
                    "{done} of {of} Services and EndpointSlices exist after {:.0} s",
                    begin.elapsed().as_secs_f32()
                );
            }
        }
        Ok(())
    }

    fn plan(self) -> Value {
        let services = (0..self.services)
            .map(|index| json!({"name": service(index), "namespace": namespace(index), "port": PORT}));
        json!({
            "apiVersion": "routing-claims.dev/v1alpha1",
            "kind": "RoutingPlan",
            "metadata": {"name": "scale", "namespace": "istio-system"},
            "spec": {
                "filter": {"engine": "lua", "istioVersion": "1.30"},
                "services": services.collect::<Vec<_>>(),
            },
        })
    }

    /// Waits until the status of the plan says that everything is in the cluster.
    pub(crate) async fn until_told(self, cluster: &Cluster) -> Result<()> {
        until("the plan's status", PATIENCE, async || {
            let plan = cluster.get(&self.plan()).await?.unwrap_or_default();
            let conditions = plan["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.map(|one| (one["type"].as_str(), one["status"].as_str()));
            let is_applied = conditions.any(|one| one == (Some("Applied"), Some("True")));
            let is_told = is_applied && plan["status"]["counts"]["routed"] == self.total();
            Ok(Readiness::of(is_told, || plan["status"]["conditions"].to_string()))
        })
        .await
    }
}

impl Variant {
    pub(crate) fn namespace(self) -> String {
        namespace(self.service)
    }

    /// The version, as tokens name it.
    pub(crate) fn version(self) -> String {
        format!("PR-{}", self.number)
    }

    /// The name of its Service.
    pub(crate) fn name(self) -> String {
        format!("{}-pr-{}", service(self.service), self.number)
    }

    /// Its Service.
    pub(crate) fn object(self) -> Value {
        let labels = json!({
            "routing-claims.dev/service": service(self.service),
            "routing-claims.dev/variant": self.version(),
        });
        service_object(&self.namespace(), &self.name(), &labels)
    }

    /// Its endpoint.
    pub(crate) fn slice(self, is_ready: bool) -> Value {
        slice(&self.namespace(), &self.name(), is_ready)
    }
}

/// The name of a service, which is also its claim and its header.
pub(crate) fn service(index: u32) -> String {
    format!("service-{index:04}")
}

fn namespace(service: u32) -> String {
    team(service / SERVICES_OF_NAMESPACE)
}

/// The name of a namespace.
pub(crate) fn team(number: u32) -> String {
    format!("team-{number:02}")
}

fn service_object(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    })
}

fn slice(namespace: &str, service: &str, is_ready: bool) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"),
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": is_ready}}],
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    })
}

/// The port of every service.
pub(crate) const PORT: u16 = 8080;
const SERVICES_OF_NAMESPACE: u32 = 50;
const CONCURRENT: usize = 48;
const PATIENCE: Duration = Duration::from_secs(120);
