//! One Envoy of the mesh, which istiod configures over ADS as a sidecar or as a gateway: a bare one, or one with Istio's agent.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::{Envoy, EnvoyBinary, Options};

use crate::{
    Cluster, ControlPlane, Readiness,
    agent::{Agent, AgentProgram},
    until,
};

/// The role of an Envoy in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The sidecar of a workload. Its `Sidecar` resource defines its outbound listener.
    Sidecar,
    /// A gateway.
    Gateway,
}

impl Kind {
    /// Istio's name for it.
    pub(crate) fn node_type(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Gateway => "router",
        }
    }
}

/// Whose proxy it is.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// The role of its proxy.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name, which is also that of its service account.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// Its address.
    pub ip: Ipv4Addr,
}

/// A running Envoy that istiod configures. Dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    /// The address that it listens on, with the mesh's port.
    pub ip: Ipv4Addr,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's labels.
    pub labels: Vec<(String, String)>,
    /// The version that it tells istiod.
    pub istio_version: String,
    name: String,
    running: Running,
}

/// What started the Envoy.
#[derive(Debug)]
enum Running {
    Bare(Envoy),
    Agent(Agent),
}

impl Proxy {
    /// Starts an Envoy that gets its configuration from istiod itself, without TLS, and waits until it has it.
    ///
    /// # Errors
    ///
    /// As [`Envoy::start`].
    pub async fn start(plane: &ControlPlane, binary: &EnvoyBinary, workload: Workload<'_>, dir: &Path) -> Result<Self> {
        let bootstrap = bootstrap(plane, workload);
        // Access logs are written at once, not every 10 seconds.
        let options = Options { args: &["--file-flush-interval-msec", "100"], ..Options::default() };
        let envoy = Envoy::start_with(binary, workload.name, bootstrap, dir, options).await?;
        Ok(Self::new(plane, workload, Running::Bare(envoy)))
    }

    /// Starts Istio's agent, which starts an Envoy, as in a pod, and waits until the Envoy has its configuration.
    ///
    /// # Errors
    ///
    /// If the agent exits or is not ready in time. The error contains the last lines of its log.
    pub async fn start_with_agent(
        plane: &ControlPlane,
        program: &AgentProgram,
        workload: Workload<'_>,
        dir: &Path,
    ) -> Result<Self> {
        let agent = Agent::start(plane, program, workload, dir).await?;
        Ok(Self::new(plane, workload, Running::Agent(agent)))
    }

    fn new(plane: &ControlPlane, workload: Workload<'_>, running: Running) -> Self {
        let Workload { namespace, name, labels, ip, .. } = workload;
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let istio_version = plane.istio_version();
        Self { ip, namespace: namespace.to_owned(), labels, istio_version, name: name.to_owned(), running }
    }

    /// The workload's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The agent that started the Envoy, if one did.
    #[must_use]
    pub fn agent(&self) -> Option<&Agent> {
        match &self.running {
            Running::Bare(_) => None,
            Running::Agent(agent) => Some(agent),
        }
    }

    /// The address to send requests to.
    #[must_use]
    pub fn addr(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// A part of its current configuration, such as `dynamic_listeners`.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer.
    pub async fn config(&self, resource: &str) -> Result<Vec<Value>> {
        let dump = self.admin_get(&format!("/config_dump?resource={resource}")).await?;
        let mut dump: Value = serde_json::from_slice(&dump)?;
        Ok(dump["configs"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The HTTP filters of each filter chain of the active listeners.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer.
    pub async fn http_filters(&self) -> Result<Vec<HttpFilters>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut found = Vec::new();
        for listener in self.config("dynamic_listeners").await? {
            let active = &listener["active_state"]["listener"];
            let chains = active["filter_chains"].as_array().into_iter().flatten();
            let filters =
                chains.chain([&active["default_filter_chain"]]).filter_map(|chain| chain["filters"].as_array());
            for filter in filters.flatten() {
                if let Some(http) = filter["typed_config"]["http_filters"].as_array() {
                    found.push(HttpFilters {
                        listener: text(&listener["name"]),
                        inbound: active["traffic_direction"] == "INBOUND",
                        names: http.iter().map(|one| text(&one["name"])).collect(),
                    });
                }
            }
        }
        Ok(found)
    }

    /// Whether its configuration contains a text. If not, says what is missing.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer.
    pub async fn mentions(&self, text: &str) -> Result<Readiness> {
        let dump = self.admin_get("/config_dump").await?;
        let has = String::from_utf8_lossy(&dump).contains(text);
        Ok(Readiness::of(has, || format!("{} does not mention {text}", self.name)))
    }

    /// What its admin listener answers to `GET path`.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer, or not with status 200.
    pub async fn admin_get(&self, path: &str) -> Result<Vec<u8>> {
        match &self.running {
            Running::Bare(envoy) => envoy.admin_get(path).await,
            Running::Agent(agent) => agent.admin_get(path).await,
        }
    }

    /// How often it has refused listeners or routes.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer.
    pub async fn refused(&self) -> Result<u64> {
        let stats = self.admin_get("/stats?filter=(lds|rds\\..*)\\.update_rejected$").await?;
        let counts = String::from_utf8(stats)?;
        Ok(counts.lines().filter_map(|line| line.rsplit(": ").next()?.parse::<u64>().ok()).sum())
    }

    /// Whether it has the marker's route, and no listener is still warming.
    async fn has(&self, marker: &str) -> Result<Readiness> {
        let routes = self.admin_get("/config_dump?resource=dynamic_route_configs").await?;
        if !String::from_utf8_lossy(&routes).contains(marker) {
            return Ok(Readiness::Pending(format!("{} does not have the routes yet", self.name)));
        }
        let listeners = self.config("dynamic_listeners").await?;
        let warming = listeners.iter().find(|listener| listener["warming_state"].is_object());
        if let Some(listener) = warming {
            return Ok(Readiness::Pending(format!("the listener {} of {} is not ready", listener["name"], self.name)));
        }
        let failed = listeners.iter().find(|listener| listener["error_state"].is_object());
        if let Some(listener) = failed {
            return Ok(Readiness::Pending(format!(
                "{} rejects a listener: {}",
                self.name, listener["error_state"]["details"]
            )));
        }
        Ok(Readiness::Ready)
    }
}

/// The HTTP filters of a filter chain.
#[derive(Clone, Debug)]
pub struct HttpFilters {
    /// The name of the listener.
    pub listener: String,
    /// Whether it is for the requests that the workload receives.
    pub inbound: bool,
    /// The names of the filters, in order.
    pub names: Vec<String>,
}

/// The configuration of an Envoy that gets everything else over ADS.
fn bootstrap(plane: &ControlPlane, workload: Workload<'_>) -> Value {
    let Workload { kind, namespace, name, labels, ip } = workload;
    let role = kind.node_type();
    let xds = plane.xds();
    json!({
        "node": {
            "id": format!("{role}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("{name}.{namespace}"),
            "metadata": {
                "NAMESPACE": namespace,
                "LABELS": labels.iter().copied().collect::<BTreeMap<_, _>>(),
                "INSTANCE_IPS": ip.to_string(),
                "ISTIO_VERSION": plane.istio_version(),
                "INTERCEPTION_MODE": "NONE",
                "CLUSTER_ID": "Kubernetes",
            },
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [{
            "name": "xds-grpc",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {
                "cluster_name": "xds-grpc",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                    "address": xds.ip().to_string(),
                    "port_value": xds.port(),
                }}}}]}],
            },
        }]},
    })
}

/// Waits until everything that has been applied is in force in all proxies.
///
/// Changes a `VirtualService` for a host of its own, the marker, and waits until every proxy has it. Does so twice: istiod
/// watches each kind of resource separately, so the first marker can overtake a change of another kind. By the time the
/// second marker is written, the first has been pushed.
///
/// # Errors
///
/// If it takes too long. The error says which proxy lacks what.
pub async fn settle(cluster: &Cluster, proxies: &[&Proxy]) -> Result<()> {
    static MARKERS: AtomicU64 = AtomicU64::new(0);
    for _ in 0..2 {
        let marker = format!("marker-{}-", MARKERS.fetch_add(1, Ordering::Relaxed));
        cluster
            .apply(&json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": "marker", "namespace": "istio-system"},
                "spec": {
                    "hosts": [MARKER_HOST],
                    "gateways": ["mesh", "istio-system/public"],
                    "http": [{"name": marker, "route": [{"destination": {"host": MARKER_HOST}}]}],
                },
            }))
            .await
            .context("cannot apply the marker")?;
        for proxy in proxies {
            until("the new configuration", PATIENCE, async || proxy.has(&marker).await).await?;
        }
    }
    Ok(())
}

/// The host of the marker. The mesh must have a service for it, with the mesh's port.
pub const MARKER_HOST: &str = "marker.e2e.internal";
const PATIENCE: Duration = Duration::from_secs(20);
