//! The mesh that all scenarios share: a control plane, the services with their versions, a gateway and three sidecars.
//!
//! ```text
//! client outside -> gateway ------------> A (main, PR-1 … PR-4) -> sidecar of A -> B (main, PR-1, PR-2, canary)
//! client inside  -> sidecar `client` ---> A, B, C (gRPC: main, PR-1), D (WebSocket: main, PR-1)
//!                   sidecar `plain`, without the router label
//! ```

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use e2e::{
    Cluster, ControlPlane, Kind, MARKER_HOST, Net, Proxy,
    app::{App, Call},
    settle,
    tools::Tools,
};
use rcgen::KeyPair;
use serde_json::{Value, json};
use testbed::EnvoyBinary;

/// Everything that runs. Dropping it stops it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) gateway: Proxy,
    pub(crate) client: Proxy,
    pub(crate) plain: Proxy,
    pub(crate) sidecar_a: Proxy,
    pub(crate) istioctl: PathBuf,
    pub(crate) dist: PathBuf,
    /// The issuer's signing key. `jwks` is the address that serves its public key.
    pub(crate) issuer: KeyPair,
    pub(crate) jwks: SocketAddr,
    /// What proxies log under a plan with telemetry.
    pub(crate) access_log: PathBuf,
    /// Requests that were compared with `explain`.
    pub(crate) explained: u64,
    /// Requests that were sent under load.
    pub(crate) under_load: u64,
    pub(crate) net: Net,
    _apps: Vec<App>,
    _plane: ControlPlane,
}

impl World {
    pub(crate) async fn start(tools: &Tools, envoy: &EnvoyBinary, dist: PathBuf, dir: &Path) -> Result<Self> {
        let net = Net::of_this_process();
        println!("starting etcd, kube-apiserver and istiod on {}", net.ip(1));
        let plane = ControlPlane::start(tools, net, dir).await?;
        let cluster = plane.cluster.clone();

        println!("starting the services");
        let issuer = KeyPair::generate()?;
        let jwks = net.addr(60, PORT);
        let mut apps = vec![App::json(jwks, key_set(&issuer)).await?];
        let call = Call { host: host(B, B), sidecar: net.addr(SIDECAR_A, PORT) };
        for Version { service, name: version, ip } in VERSIONS {
            let addr = net.addr(ip, PORT);
            apps.push(match service {
                GRPC => App::grpc(addr, version).await?,
                WEBSOCKET => App::websocket(addr, version).await?,
                A => App::http(addr, service, version, Some(call.clone())).await?,
                _ => App::http(addr, service, version, None).await?,
            });
        }
        for resource in resources(net) {
            cluster.apply(&resource).await?;
        }

        println!(
            "starting 4 Envoys: a gateway, and the sidecars of A, of a client, and of a client without the router label"
        );
        let router = ("routing-claims.dev/router", "enabled");
        let start = async |kind, workload, labels: &[_], ip| {
            Proxy::start(&plane, envoy, kind, workload, labels, net.ip(ip), dir).await
        };
        let gateway =
            start(Kind::Gateway, ("istio-system", "gateway"), &[("istio", "ingressgateway")], GATEWAY).await?;
        let client = start(Kind::Sidecar, ("client", "client"), &[("app", "client"), router], CLIENT).await?;
        let plain = start(Kind::Sidecar, ("client", "plain"), &[("app", "plain")], PLAIN).await?;
        let sidecar_a = start(Kind::Sidecar, (A, A), &[("app", A), router], SIDECAR_A).await?;
        let world = Self {
            cluster,
            gateway,
            client,
            plain,
            sidecar_a,
            istioctl: tools.istioctl.clone(),
            dist,
            issuer,
            jwks,
            access_log: plane.access_log.clone(),
            explained: 0,
            under_load: 0,
            net,
            _apps: apps,
            _plane: plane,
        };
        world.settle().await?;
        Ok(world)
    }

    /// Waits until everything that was applied is in force in every proxy.
    pub(crate) async fn settle(&self) -> Result<()> {
        settle(&self.cluster, &self.proxies()).await
    }

    pub(crate) fn proxies(&self) -> [&Proxy; 4] {
        [&self.gateway, &self.client, &self.plain, &self.sidecar_a]
    }
}

/// A version of a service, and the last byte of its address.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    service: &'static str,
    name: &'static str,
    ip: u8,
}

/// The resources that exist from the start: main versions, and all variants except those that a scenario adds.
fn resources(net: Net) -> Vec<Value> {
    let mut resources = Vec::new();
    for namespace in [A, B, GRPC, WEBSOCKET, "client"] {
        resources.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
    }
    for version in VERSIONS.iter().filter(|one| !BROUGHT.contains(&one.name)) {
        resources.extend(version.resources(net));
    }
    for (namespace, name, ip) in [("client", "client", CLIENT), ("client", "plain", PLAIN), (A, A, SIDECAR_A)] {
        resources.push(sidecar(namespace, name, &net.ip(ip).to_string()));
    }
    resources.extend([
        service("istio-system", "gateway", "http", &json!({"istio": "ingressgateway"})),
        workload("istio-system", "gateway", "http", &json!({"istio": "ingressgateway"}), &net.ip(GATEWAY).to_string()),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "public", "namespace": "istio-system"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "bind": net.ip(GATEWAY).to_string(),
                    "hosts": ["*"],
                    "port": {"number": PORT, "name": "http", "protocol": "HTTP"},
                }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "marker", "namespace": "istio-system"},
            "spec": {
                "hosts": [MARKER_HOST],
                // A sidecar listens on a port only while a service has it.
                "ports": [
                    {"number": PORT, "name": "http", "protocol": "HTTP"},
                    {"number": OTHER_PORT, "name": "http-other", "protocol": "HTTP"},
                ],
                "resolution": "STATIC",
                "endpoints": [{"address": net.ip(250).to_string()}],
            },
        }),
    ]);
    resources
}

impl Version {
    /// The version of that name.
    pub(crate) fn of(service: &str, version: &str) -> Option<Self> {
        VERSIONS.into_iter().find(|one| one.service == service && one.name == version)
    }

    /// Its Service, and the workload behind it.
    pub(crate) fn resources(self, net: Net) -> [Value; 2] {
        let Self { service: namespace, name: version, ip } = self;
        let name = if version == "main" { namespace.to_owned() } else { version.to_lowercase() };
        let port = if namespace == GRPC { "grpc" } else { "http" };
        let labels = json!({"app": name});
        [service(namespace, &name, port, &labels), workload(namespace, &name, port, &labels, &net.ip(ip).to_string())]
    }
}

/// The host of a version's Service.
pub(crate) fn host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

fn service(namespace: &str, name: &str, port: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector, "ports": [{"name": port, "port": PORT, "targetPort": PORT, "protocol": "TCP"}]},
    })
}

/// Replaces a pod: Kubernetes does not allow loopback endpoints, Istio does.
fn workload(namespace: &str, name: &str, port: &str, labels: &Value, address: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"address": address, "labels": labels, "ports": {port: PORT}},
    })
}

/// Gives a sidecar listeners on its own address. Otherwise all sidecars would share one.
fn sidecar(namespace: &str, app: &str, address: &str) -> Value {
    let egress = |port| {
        json!({
            "bind": address,
            "port": {"number": port, "protocol": "HTTP", "name": format!("http-{port}")},
            "captureMode": "NONE",
            "hosts": ["*/*"],
        })
    };
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": app, "namespace": namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": app}},
            "egress": [egress(PORT), egress(OTHER_PORT)],
        },
    })
}

/// The issuer's public key as a JSON Web Key Set (RFC 7517).
pub(crate) fn key_set(issuer: &KeyPair) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    // An uncompressed point: 4, then both coordinates.
    let (x, y) = issuer.public_key_raw()[1..].split_at(32);
    json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "e2e", "x": BASE64.encode(x), "y": BASE64.encode(y),
    }]})
}

/// The port of every service. A sidecar's listener serves only the services of one port.
pub(crate) const PORT: u16 = 8080;
/// The port of another listener of each sidecar.
pub(crate) const OTHER_PORT: u16 = 9090;
pub(crate) const A: &str = "microservice-a";
pub(crate) const B: &str = "microservice-b";
pub(crate) const GRPC: &str = "microservice-c";
pub(crate) const WEBSOCKET: &str = "microservice-d";
/// Versions that run from the start, but that only a scenario adds to the mesh.
const BROUGHT: [&str; 1] = ["PR-4"];

const VERSIONS: [Version; 13] = [
    Version { service: A, name: "main", ip: 10 },
    Version { service: A, name: "PR-1", ip: 11 },
    Version { service: A, name: "PR-2", ip: 12 },
    Version { service: A, name: "PR-3", ip: 13 },
    Version { service: A, name: "PR-4", ip: 14 },
    Version { service: B, name: "main", ip: 20 },
    Version { service: B, name: "PR-1", ip: 21 },
    Version { service: B, name: "PR-2", ip: 22 },
    Version { service: B, name: "canary", ip: 23 },
    Version { service: GRPC, name: "main", ip: 30 },
    Version { service: GRPC, name: "PR-1", ip: 31 },
    Version { service: WEBSOCKET, name: "main", ip: 40 },
    Version { service: WEBSOCKET, name: "PR-1", ip: 41 },
];
const GATEWAY: u8 = 101;
const CLIENT: u8 = 102;
const PLAIN: u8 = 103;
const SIDECAR_A: u8 = 104;
