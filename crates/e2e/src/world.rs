//! The mesh that all scenarios share: a control plane, the services with their versions, a gateway and three sidecars.
//!
//! ```text
//! client outside -> gateway ------------> A (main, PR-1 … PR-4) -> sidecar of A -> B (main, PR-1, PR-2, canary)
//! client inside  -> sidecar `client` ---> A, B, C (gRPC: main, PR-1), D (WebSocket: main, PR-1)
//!                   sidecar `plain`, without the router label
//! ```
//!
//! In a mesh of agents, B, C and D have sidecars too, which take the requests for all versions of their service, as A's does.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use e2e::{
    AgentProgram, Cluster, ControlPlane, Image, Kind, MARKER_HOST, Net, Propagator, Proxy, Registry, Sdk, Workload,
    app::{App, Call, Forwarding},
    settle,
    tools::Tools,
};
use futures_util::future::try_join_all;
use rcgen::KeyPair;
use serde_json::{Value, json};
use testbed::EnvoyBinary;

/// What runs the Envoys of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxies {
    /// Nothing: istiod configures them over plaintext, and gateway and sidecars send plaintext to the services.
    Bare,
    /// Istio's agents. Each service has a sidecar, and mutual TLS is strict.
    Agents,
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare Envoys",
            Self::Agents => "agents with Envoys",
        })
    }
}

/// Everything that runs. Dropping it stops it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) gateway: Proxy,
    pub(crate) client: Proxy,
    pub(crate) plain: Proxy,
    pub(crate) sidecar_a: Proxy,
    /// The sidecars of B, C and D, which only a mesh of agents has.
    others: Vec<Proxy>,
    pub(crate) proxies: Proxies,
    pub(crate) istioctl: PathBuf,
    pub(crate) prometheus: PathBuf,
    pub(crate) dist: PathBuf,
    /// The issuer's signing key. `jwks` is the address that serves its public key.
    pub(crate) issuer: KeyPair,
    pub(crate) jwks: SocketAddr,
    /// What proxies log under a plan with telemetry.
    pub(crate) access_log: PathBuf,
    /// What A forwards: `Authorization`, unless a scenario sets one of the SDKs.
    pub(crate) forwarding: Forwarding,
    /// OpenTelemetry's SDKs.
    pub(crate) sdks: Vec<(Sdk, Arc<Propagator>)>,
    /// Requests that were compared with `explain`.
    pub(crate) explained: u64,
    /// Requests that were sent under load.
    pub(crate) under_load: u64,
    pub(crate) net: Net,
    /// What only a mesh of agents has.
    pub(crate) agents: Option<Agents>,
    // Fields drop in this order: clients before their servers.
    _apps: Vec<App>,
    pub(crate) plane: ControlPlane,
}

impl World {
    /// Starts the control plane, the services and the proxies. Writes files to `dir`.
    pub(crate) async fn start(
        tools: &Tools,
        envoy: &EnvoyBinary,
        dist: PathBuf,
        proxies: Proxies,
        dir: &Path,
    ) -> Result<Self> {
        let net = Net::of_this_process();
        println!("starting etcd, kube-apiserver and istiod on {}", net.ip(1));
        let with_agents = proxies == Proxies::Agents;
        let plane = ControlPlane::start(tools, net, with_agents, dir).await?;
        let cluster = plane.cluster.clone();

        println!("starting the services");
        let issuer = KeyPair::generate()?;
        let jwks = net.addr(60, PORT);
        let mut apps = vec![App::json(jwks, key_set(&issuer)).await?];
        let forwarding = Forwarding::default();
        for version in VERSIONS {
            apps.push(version.start(net, proxies, &forwarding).await?);
        }
        let sdks = [Sdk::Python, Sdk::JavaScript];
        let sdks = sdks.map(|sdk| Propagator::start(&tools.opentelemetry, sdk).map(|running| (sdk, Arc::new(running))));
        for resource in resources(net, proxies) {
            cluster.apply(&resource).await?;
        }
        let agents = if with_agents { Some(Agents::prepare(tools, envoy, net, &dist, dir).await?) } else { None };

        let workloads = workloads(net, proxies);
        println!("starting {} {proxies}: a gateway and sidecars", workloads.len());
        let starting = workloads.iter().map(async |workload| {
            let proxy = match &agents {
                Some(agents) => Proxy::start_with_agent(&plane, &agents.program, *workload, dir).await?,
                None => Proxy::start(&plane, envoy, *workload, dir).await?,
            };
            anyhow::Ok((workload.name, proxy))
        });
        let mut started: BTreeMap<_, _> = try_join_all(starting).await?.into_iter().collect();
        let mut take = |name: &str| started.remove(name).with_context(|| format!("no workload is named {name}"));
        let world = Self {
            gateway: take("gateway")?,
            client: take("client")?,
            plain: take("plain")?,
            sidecar_a: take(A)?,
            others: started.into_values().collect(),
            cluster,
            istioctl: tools.istioctl.clone(),
            prometheus: tools.prometheus.clone(),
            dist,
            issuer,
            jwks,
            access_log: plane.access_log.clone(),
            forwarding,
            sdks: sdks.into_iter().collect::<Result<_>>()?,
            explained: 0,
            under_load: 0,
            net,
            proxies,
            agents,
            _apps: apps,
            plane,
        };
        world.settle().await?;
        Ok(world)
    }

    /// Waits until everything that was applied is in force in every proxy.
    pub(crate) async fn settle(&self) -> Result<()> {
        settle(&self.cluster, &self.proxies()).await
    }

    pub(crate) fn proxies(&self) -> Vec<&Proxy> {
        [&self.gateway, &self.client, &self.plain, &self.sidecar_a].into_iter().chain(&self.others).collect()
    }

    /// The Service of a version, and the workload behind it.
    pub(crate) fn resources_of(&self, version: Version) -> [Value; 2] {
        version.resources(self.net, self.proxies)
    }

    /// Where the sidecar of a service takes the requests for a version, in a mesh of agents.
    pub(crate) fn inbound(&self, version: Version) -> SocketAddr {
        self.net.addr(sidecar_of(version.service), version.inbound_port())
    }
}

/// What a mesh of agents has besides.
pub(crate) struct Agents {
    pub(crate) program: AgentProgram,
    /// Where a plan says that the WASM filter is.
    pub(crate) wasm: Value,
    _registry: Registry,
}

impl Agents {
    async fn prepare(tools: &Tools, envoy: &EnvoyBinary, net: Net, dist: &Path, dir: &Path) -> Result<Self> {
        let registry = Registry::start(tools, net.addr(REGISTRY, REGISTRY_PORT), dir).await?;
        let image = Image::module(&module(dist)?, &module_bill(dist)?)?;
        registry.push(&image, "routing-claims:1").await?;
        let program = AgentProgram::prepare(tools, envoy, dir)?;
        let wasm = json!({"image": format!("{}/routing-claims:1", registry.addr), "digest": image.digest});
        Ok(Self { program, wasm, _registry: registry })
    }
}

/// The WASM filter that ships.
pub(crate) fn module(dist: &Path) -> Result<Vec<u8>> {
    let read = || format!("cannot find the WASM filter in {}; run `cargo xtask build`", dist.display());
    fs::read(dist.join("routing-claims.wasm")).with_context(read)
}

/// Its bill of materials.
pub(crate) fn module_bill(dist: &Path) -> Result<Vec<u8>> {
    let path = dist.join("routing-claims.wasm.cdx.json");
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A version of a service, and the last byte of its address.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    service: &'static str,
    name: &'static str,
    ip: u8,
}

/// The workloads with a proxy.
fn workloads(net: Net, proxies: Proxies) -> Vec<Workload<'static>> {
    let workload = |kind, namespace, name, labels, ip| Workload { kind, namespace, name, labels, ip: net.ip(ip) };
    let mut workloads = vec![
        workload(Kind::Gateway, "istio-system", "gateway", &[("istio", "ingressgateway")][..], GATEWAY),
        workload(Kind::Sidecar, "client", "client", &[("app", "client"), ROUTER], CLIENT),
        workload(Kind::Sidecar, "client", "plain", &[("app", "plain")], PLAIN),
        workload(Kind::Sidecar, A, A, &[("app", A), ROUTER], SIDECAR_A),
    ];
    if proxies == Proxies::Agents {
        workloads.extend([
            workload(Kind::Sidecar, B, B, &[("app", B)], SIDECAR_B),
            workload(Kind::Sidecar, GRPC, GRPC, &[("app", GRPC)], SIDECAR_GRPC),
            workload(Kind::Sidecar, WEBSOCKET, WEBSOCKET, &[("app", WEBSOCKET)], SIDECAR_WEBSOCKET),
        ]);
    }
    workloads
}

/// The resources that exist from the start: main versions, and all variants except those that a scenario adds.
fn resources(net: Net, proxies: Proxies) -> Vec<Value> {
    let mut resources = Vec::new();
    for namespace in [A, B, GRPC, WEBSOCKET, "client"] {
        resources.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
    }
    for version in VERSIONS.iter().filter(|one| !BROUGHT.contains(&one.name)) {
        resources.extend(version.resources(net, proxies));
    }
    for Workload { kind, namespace, name, ip, .. } in workloads(net, proxies) {
        if proxies == Proxies::Agents {
            resources.push(service_account(namespace, name));
        }
        if kind == Kind::Sidecar {
            resources.push(sidecar(namespace, name, &ip.to_string(), &inbound(namespace, proxies)));
        }
    }
    if proxies == Proxies::Agents {
        resources.push(json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "strict", "namespace": "istio-system"},
            "spec": {"mtls": {"mode": "STRICT"}},
        }));
    }
    resources.extend([
        service("istio-system", "gateway", "http", &json!({"istio": "ingressgateway"})),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "gateway", "namespace": "istio-system"},
            "spec": {"address": net.ip(GATEWAY), "labels": {"istio": "ingressgateway"}, "ports": {"http": PORT}},
        }),
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

    async fn start(self, net: Net, proxies: Proxies, forwarding: &Forwarding) -> Result<App> {
        let addr = self.app(net, proxies);
        match self.service {
            GRPC => App::grpc(addr, self.name).await,
            WEBSOCKET => App::websocket(addr, self.name).await,
            A => {
                let sidecar = net.addr(SIDECAR_A, PORT);
                let call = Call { host: host(B, B), sidecar, forwarding: forwarding.clone() };
                App::http(addr, A, self.name, Some(call)).await
            }
            service => App::http(addr, service, self.name, None).await,
        }
    }

    /// The address of the app. With agents, all versions of a service share a sidecar and its address.
    fn app(self, net: Net, proxies: Proxies) -> SocketAddr {
        match proxies {
            Proxies::Bare => net.addr(self.ip, PORT),
            Proxies::Agents => net.addr(sidecar_of(self.service), APP_PORTS + u16::from(self.ip)),
        }
    }

    /// Its Service, and the workload behind it, which replaces a pod: Kubernetes does not allow loopback endpoints, Istio does.
    fn resources(self, net: Net, proxies: Proxies) -> [Value; 2] {
        let Self { service: namespace, name: version, ip } = self;
        let name = if version == "main" { namespace.to_owned() } else { version.to_lowercase() };
        let port = if namespace == GRPC { "grpc" } else { "http" };
        let spec = match proxies {
            Proxies::Bare => json!({"address": net.ip(ip), "labels": {"app": name}, "ports": {port: PORT}}),
            Proxies::Agents => json!({
                "address": net.ip(sidecar_of(namespace)),
                "labels": {"app": name, "security.istio.io/tlsMode": "istio"},
                "ports": {port: self.inbound_port()},
                "serviceAccount": namespace,
            }),
        };
        let workload = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        });
        [service(namespace, &name, port, &json!({"app": name})), workload]
    }

    /// The port at which the sidecar of the service takes its requests.
    fn inbound_port(self) -> u16 {
        INBOUND_PORTS + u16::from(self.ip)
    }
}

/// The inbound listeners of the sidecar of a service.
fn inbound(service: &str, proxies: Proxies) -> Vec<Value> {
    let versions = VERSIONS.iter().filter(|one| proxies == Proxies::Agents && one.service == service);
    versions
        .map(|version| {
            let port = version.inbound_port();
            let protocol = if service == GRPC { "GRPC" } else { "HTTP" };
            json!({
                "port": {"number": port, "protocol": protocol, "name": format!("inbound-{port}")},
                // 0.0.0.0 means the workload's own address.
                "defaultEndpoint": format!("0.0.0.0:{}", APP_PORTS + u16::from(version.ip)),
            })
        })
        .collect()
}

/// The last byte of the address of a service's sidecar.
fn sidecar_of(service: &str) -> u8 {
    match service {
        A => SIDECAR_A,
        B => SIDECAR_B,
        GRPC => SIDECAR_GRPC,
        _ => SIDECAR_WEBSOCKET,
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

/// The identity of a workload's agent.
pub(crate) fn service_account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

/// Gives a sidecar listeners on its own address. Otherwise all sidecars would share one.
pub(crate) fn sidecar(namespace: &str, app: &str, address: &str, inbound: &[Value]) -> Value {
    let egress = |port| {
        json!({
            "bind": address,
            "port": {"number": port, "protocol": "HTTP", "name": format!("http-{port}")},
            "captureMode": "NONE",
            "hosts": ["*/*"],
        })
    };
    let mut spec = json!({
        "workloadSelector": {"labels": {"app": app}},
        "egress": [egress(PORT), egress(OTHER_PORT)],
    });
    if !inbound.is_empty() {
        let with_address = inbound.iter().cloned().map(|mut one| {
            one["bind"] = address.into();
            one["captureMode"] = "NONE".into();
            one
        });
        spec["ingress"] = with_address.collect();
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": app, "namespace": namespace},
        "spec": spec,
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
const SIDECAR_B: u8 = 105;
const SIDECAR_GRPC: u8 = 106;
const SIDECAR_WEBSOCKET: u8 = 107;
const REGISTRY: u8 = 2;
const REGISTRY_PORT: u16 = 5000;
/// With agents, the sidecar of a service takes the requests of a version at one of these ports, and its app is at the other.
/// The last byte of the version's address is added to both.
const INBOUND_PORTS: u16 = 6000;
const APP_PORTS: u16 = 7000;
/// The label with which a workload gets the filter.
pub(crate) const ROUTER: (&str, &str) = ("routing-claims.dev/router", "enabled");
