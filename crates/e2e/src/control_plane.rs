//! etcd, kube-apiserver and istiod on loopback.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use testbed::client::Http1;

use crate::{Cluster, Net, Readiness, tools::Tools, until};

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct ControlPlane {
    /// Its API.
    pub cluster: Cluster,
    /// The file that the access log provider [`ACCESS_LOG_PROVIDER`] of every proxy appends to.
    pub access_log: PathBuf,
    /// The configuration with which kubectl reaches the API.
    pub kubeconfig: PathBuf,
    /// The file that the API server appends a line to for each request of a service account of [`AUDITED`].
    pub audit_log: PathBuf,
    tools: Tools,
    net: Net,
    mutual_tls: bool,
    dir: PathBuf,
    // Fields drop in this order: clients before their servers.
    istiod: Option<Daemon>,
    kube_apiserver: Option<Daemon>,
    _etcd: Daemon,
}

impl ControlPlane {
    /// Starts all programs. Writes data, keys, configuration and logs to `dir`. With mutual TLS, istiod gives certificates to
    /// agents, and sidecars use them between each other.
    ///
    /// # Errors
    ///
    /// If a program does not start, exits, or is not ready in time. The error contains the last lines of its log.
    pub async fn start(tools: &Tools, net: Net, mutual_tls: bool, dir: &Path) -> Result<Self> {
        let client_urls = etcd_url(net);
        let peer_urls = format!("http://{}", net.addr(HOST, 2380));
        let mut etcd = Daemon::spawn(
            Command::new(&tools.etcd)
                .arg("--data-dir")
                .arg(dir.join("etcd"))
                .args(["--name", "e2e", "--initial-cluster", &format!("e2e={peer_urls}")])
                .args(["--listen-client-urls", &client_urls, "--advertise-client-urls", &client_urls])
                .args(["--listen-peer-urls", &peer_urls, "--initial-advertise-peer-urls", &peer_urls])
                // No data outlives the process.
                .arg("--unsafe-no-fsync"),
            "etcd",
            dir,
        )?;
        etcd.ready(async || Ok(healthy(net, 2379, "/health").await)).await?;

        service_account_keys(dir)?;
        let cluster = Cluster::connect(&format!("https://{}", net.addr(HOST, API_PORT)), TOKEN)?;
        let mut plane = Self {
            cluster,
            access_log: dir.join(ACCESS_LOG),
            kubeconfig: dir.join(KUBECONFIG),
            audit_log: dir.join("audit.log"),
            tools: tools.clone(),
            net,
            mutual_tls,
            dir: dir.to_owned(),
            istiod: None,
            kube_apiserver: None,
            _etcd: etcd,
        };
        plane.start_kube_apiserver().await?;
        for definitions in &tools.definitions {
            plane.cluster.define(definitions).await?;
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
        plane.cluster.apply(&namespace).await?;
        plane.start_istiod().await?;
        Ok(plane)
    }

    /// Starts the API server, with what etcd has, and waits until it serves.
    ///
    /// # Errors
    ///
    /// If it exits or is not ready in time.
    pub async fn start_kube_apiserver(&mut self) -> Result<()> {
        let mut command = kube_apiserver(&self.tools, self.net, &self.dir, &self.audit_log)?;
        let mut daemon = Daemon::spawn(&mut command, "kube-apiserver", &self.dir)?;
        daemon.ready(async || Ok(self.cluster.is_ready().await)).await?;
        self.kube_apiserver = Some(daemon);
        Ok(())
    }

    /// Kills the API server.
    pub fn stop_kube_apiserver(&mut self) {
        self.kube_apiserver = None;
    }

    /// Starts istiod, and waits until it serves.
    ///
    /// # Errors
    ///
    /// If it exits or is not ready in time.
    pub async fn start_istiod(&mut self) -> Result<()> {
        let url = format!("https://{}", self.api());
        let mut command = istiod(&self.tools, self.net, self.mutual_tls, &self.dir, &url)?;
        let mut daemon = Daemon::spawn(&mut command, "istiod", &self.dir)?;
        daemon.ready(async || Ok(healthy(self.net, 8080, "/ready").await)).await?;
        self.istiod = Some(daemon);
        Ok(())
    }

    /// Kills istiod.
    pub fn stop_istiod(&mut self) {
        self.istiod = None;
    }

    /// The address of the API, with TLS.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.net.addr(HOST, API_PORT)
    }

    /// The address from which proxies get their configuration, without TLS.
    #[must_use]
    pub fn xds(&self) -> SocketAddr {
        self.net.addr(HOST, XDS_PORT)
    }

    /// The address of istiod's metrics.
    #[must_use]
    pub fn istiod_metrics(&self) -> SocketAddr {
        self.net.addr(HOST, METRICS_PORT)
    }

    /// The process of istiod, unless it was stopped.
    #[must_use]
    pub fn istiod_pid(&self) -> Option<u32> {
        self.istiod.as_ref().map(|daemon| daemon.child.id())
    }

    /// The version that proxies tell istiod.
    pub(crate) fn istio_version(&self) -> String {
        format!("{}.0", self.tools.istio)
    }

    /// The address from which agents get their configuration and their certificates, with TLS.
    pub(crate) fn secure_xds(&self) -> SocketAddr {
        self.net.addr(HOST, SECURE_XDS_PORT)
    }
}

/// Istiod takes the token of a service account for the identity of an agent.
fn service_account_keys(dir: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    fs::write(dir.join(PRIVATE_KEY), key.serialize_pem())?;
    fs::write(dir.join(PUBLIC_KEY), key.public_key_pem())?;
    Ok(())
}

fn kube_apiserver(tools: &Tools, net: Net, dir: &Path, audit_log: &Path) -> Result<Command> {
    let (tokens, policy) = (dir.join("tokens.csv"), dir.join("audit.json"));
    fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n"))?;
    let recorded = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [format!("system:serviceaccounts:{AUDITED}")]},
            {"level": "None"},
        ],
    });
    fs::write(&policy, recorded.to_string())?;
    let mut command = Command::new(&tools.kube_apiserver);
    command
        .args(["--etcd-servers", &etcd_url(net)])
        .args(["--bind-address", &net.ip(HOST).to_string(), "--secure-port", &API_PORT.to_string()])
        // The server would publish its address as endpoints, which cannot be loopback addresses.
        .args(["--endpoint-reconciler-type", "none"])
        .args(["--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--service-cluster-ip-range", "10.96.0.0/16"])
        .arg("--cert-dir")
        .arg(dir.join("kube-apiserver"))
        .arg("--service-account-key-file")
        .arg(dir.join(PUBLIC_KEY))
        .arg("--service-account-signing-key-file")
        .arg(dir.join(PRIVATE_KEY))
        .arg("--token-auth-file")
        .arg(tokens)
        .arg("--audit-policy-file")
        .arg(policy)
        .arg("--audit-log-path")
        .arg(audit_log);
    Ok(command)
}

fn etcd_url(net: Net) -> String {
    format!("http://{}", net.addr(HOST, 2379))
}

fn istiod(tools: &Tools, net: Net, mutual_tls: bool, dir: &Path, kubernetes: &str) -> Result<Command> {
    let kubeconfig = dir.join(KUBECONFIG);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": kubernetes, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "e2e", "user": {"token": TOKEN}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    });
    fs::write(&kubeconfig, config.to_string())?;
    let mesh = dir.join("mesh.json");
    let config = json!({
        "enableAutoMtls": mutual_tls,
        "rootNamespace": "istio-system",
        "extensionProviders": [{
            "name": ACCESS_LOG_PROVIDER,
            "envoyFileAccessLog": {
                "path": dir.join(ACCESS_LOG),
                "logFormat": {"text": "%REQ(:AUTHORITY)% %REQ(X-ROUTING-REPORT)%\n"},
            },
        }],
    });
    fs::write(&mesh, config.to_string())?;
    let address = |port| net.addr(HOST, port).to_string();
    let mut command = Command::new(&tools.pilot_discovery);
    command
        .arg("discovery")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--meshConfig")
        .arg(mesh)
        .args([
            "--grpcAddr",
            &address(XDS_PORT),
            "--httpAddr",
            &address(8080),
            "--monitoringAddr",
            &address(METRICS_PORT),
        ])
        .args(["--secureGRPCAddr", &if mutual_tls { address(SECURE_XDS_PORT) } else { String::new() }])
        .args(["--httpsAddr", "", "--ctrlz_port", "0"])
        .env("ENABLE_CA_SERVER", mutual_tls.to_string())
        // Envoy does not have Istio's filters, and nothing calls the webhooks.
        .envs([
            ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
            ("PILOT_ENABLE_ALPN_FILTER", "false"),
            ("INJECT_ENABLED", "false"),
            ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
            ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
            ("CLUSTER_ID", "Kubernetes"),
            ("POD_NAMESPACE", "istio-system"),
            ("POD_NAME", "istiod-0"),
        ])
        .current_dir(dir);
    Ok(command)
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn spawn(command: &mut Command, name: &'static str, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self { name, child, log })
    }

    pub(crate) async fn ready(&mut self, is_ready: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let name = self.name;
        until(name, READY, async || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} exited with {status}:\n{}", self.log_tail());
            }
            Ok(Readiness::of(is_ready().await?, || format!("it is not ready\n{}", self.log_tail())))
        })
        .await
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its data is deleted too, so it does not have to shut down cleanly. Both calls fail only for a child that has
        // already been reaped.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn healthy(net: Net, port: u16, path: &str) -> bool {
    let answer = async { Http1::connect(net.addr(HOST, port)).await?.get("e2e", path, &[]).await };
    matches!(answer.await, Ok(response) if response.status == 200)
}

/// Name of the access log provider in the mesh configuration. It prints the host and the filter's report.
pub const ACCESS_LOG_PROVIDER: &str = "routing-report";

/// The namespace whose service accounts' requests the API server records.
pub const AUDITED: &str = "routing-claims";

const ACCESS_LOG: &str = "access.log";
const KUBECONFIG: &str = "kubeconfig.json";
const PRIVATE_KEY: &str = "sa.key";
const PUBLIC_KEY: &str = "sa.pub";
/// The last byte of the control plane's address.
const HOST: u8 = 1;
const API_PORT: u16 = 6443;
const XDS_PORT: u16 = 15010;
const SECURE_XDS_PORT: u16 = 15012;
const METRICS_PORT: u16 = 15014;
/// The token of an administrator, valid on loopback for the minutes of a run.
const TOKEN: &str = "e2e";
const READY: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 15;
