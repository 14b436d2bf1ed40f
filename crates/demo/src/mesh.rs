//! The mesh: a gateway and two sidecars, configured as Istio would configure them.
//!
//! ```text
//! client -> gateway -> sidecar of A -> A -> sidecar of A -> sidecar of B -> B
//!           filter     (inbound)            filter          (inbound)
//!           routes by                       routes by
//!           microservice-a                  microservice-b
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use serde_json::{Value, json};
use testbed::{Envoy, EnvoyBinary, config};

use crate::services::{Call, Server};

/// A running mesh. Dropping it stops everything.
pub(crate) struct Mesh {
    gateway: SocketAddr,
    _envoys: [Envoy; 3],
    _servers: Vec<Server>,
}

impl Mesh {
    /// Starts the services, then the Envoys from the last hop to the first, because each needs the ports of the next.
    pub(crate) async fn start(envoy: &EnvoyBinary, filter: &Value, dir: &Path) -> Result<Self> {
        for service in [A, B] {
            println!("starting {}: {}", service.name, service.versions.join(", "));
        }
        let outbound = Arc::new(OnceLock::new());
        let b_host = B.host("main");
        let servers_a = A.start(Some(&Call { host: b_host.clone(), sidecar: Arc::clone(&outbound) })).await?;
        let servers_b = B.start(None).await?;

        println!("starting 3 Envoys: the gateway and the sidecars of {} and {}", A.name, B.name);
        let (listeners, clusters) = B.inbound(&servers_b);
        let sidecar_b = Envoy::start(envoy, "sidecar-b", config::bootstrap(&listeners, &clusters), dir).await?;

        let (mut listeners, mut clusters) = A.inbound(&servers_a);
        let routes = B.routes(&[b_host.as_str(), &format!("{b_host}:80")]);
        listeners.push(config::listener("outbound", std::slice::from_ref(filter), &routes));
        clusters.extend(B.outbound(&sidecar_b).await?);
        let sidecar_a = Envoy::start(envoy, "sidecar-a", config::bootstrap(&listeners, &clusters), dir).await?;
        let port = sidecar_a.listener_port("outbound").await?;
        outbound.get_or_init(|| local(port));

        let mut routes = A.routes(&["*"]);
        // The report of the gateway's filter, for the table.
        routes["response_headers_to_add"] = json!([{"header": {"key": REPORT, "value": format!("%REQ({REPORT})%")}}]);
        let listener = config::listener("gateway", std::slice::from_ref(filter), &routes);
        let clusters = A.outbound(&sidecar_a).await?;
        let gateway = Envoy::start(envoy, "gateway", config::bootstrap(&[listener], &clusters), dir).await?;

        Ok(Self {
            gateway: local(gateway.listener_port("gateway").await?),
            _envoys: [gateway, sidecar_a, sidecar_b],
            _servers: servers_a.into_iter().chain(servers_b).collect(),
        })
    }

    /// The address for requests from outside.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.gateway
    }
}

/// The policy of the filters of this mesh.
pub(crate) fn policy() -> Value {
    json!({
        "services": [{"name": A.name}, {"name": B.name}],
        "fromCookies": [KEY],
        "fromBaggage": [KEY],
        "carry": {"baggage": KEY},
        "reportHeader": REPORT,
    })
}

/// A service, as the operator of the mesh knows it.
#[derive(Clone, Copy)]
struct Service {
    name: &'static str,
    versions: &'static [&'static str],
}

impl Service {
    /// One server for each version, in order.
    async fn start(self, call: Option<&Call>) -> Result<Vec<Server>> {
        let mut servers = Vec::new();
        for version in self.versions {
            servers.push(Server::start(self.name, version, call.cloned()).await?);
        }
        Ok(servers)
    }

    /// The sidecar's inbound side: a listener and a cluster for each version. In this mesh, one Envoy is the sidecar of all
    /// versions.
    fn inbound(self, servers: &[Server]) -> (Vec<Value>, Vec<Value>) {
        let each = self.versions.iter().zip(servers).map(|(version, server)| {
            let name = inbound_name(version);
            (config::listener(&name, &[], &config::route_all(&name)), config::cluster(&name, server.addr))
        });
        each.unzip()
    }

    /// The clusters of a caller: one for each version, each an inbound listener of the service's sidecar.
    async fn outbound(self, sidecar: &Envoy) -> Result<Vec<Value>> {
        let mut clusters = Vec::new();
        for version in self.versions {
            let port = sidecar.listener_port(&inbound_name(version)).await?;
            clusters.push(config::cluster(&self.outbound_name(version), local(port)));
        }
        Ok(clusters)
    }

    /// The routes that Istio generates from the service's `VirtualService`: one for each variant, then the default.
    fn routes(self, domains: &[&str]) -> Value {
        let header = self.name.to_ascii_lowercase();
        let routes: Vec<Value> = self.versions[1..]
            .iter()
            .map(|version| {
                json!({
                    "name": format!("routing-claims-{header}-{}", version.to_ascii_lowercase()),
                    "match": {
                        "prefix": "/",
                        "headers": [{"name": header, "string_match": {"exact": version}}],
                    },
                    "route": {"cluster": self.outbound_name(version)},
                })
            })
            .chain([json!({
                "name": "default",
                "match": {"prefix": "/"},
                "route": {"cluster": self.outbound_name("main")},
            })])
            .collect();
        json!({"virtual_hosts": [{"name": format!("{}:80", self.host("main")), "domains": domains, "routes": routes}]})
    }

    fn outbound_name(self, version: &str) -> String {
        format!("outbound|80||{}", self.host(version))
    }

    /// The host of the Kubernetes Service of that version.
    fn host(self, version: &str) -> String {
        let namespace = self.name.to_ascii_lowercase();
        let service = if version == "main" { namespace.clone() } else { version.to_ascii_lowercase() };
        format!("{service}.{namespace}.svc.cluster.local")
    }
}

fn inbound_name(version: &str) -> String {
    format!("inbound|80||{version}")
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

// `main` is the first version.
const A: Service = Service { name: "microservice-A", versions: &["main", "PR-1", "PR-2", "PR-3"] };
const B: Service = Service { name: "microservice-B", versions: &["main", "PR-1", "PR-2"] };

/// The header that the filter writes its report to.
pub(crate) const REPORT: &str = "x-routing-claims-report";
/// The cookie that a browser sends the token in, and the member of `baggage` that carries the choice.
pub(crate) const KEY: &str = "qa";
