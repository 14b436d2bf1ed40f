//! Istio's agent, as it runs in each pod: it starts an Envoy, passes istiod's configuration on, gets the certificates, and
//! pulls the modules.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;
use serde_json::json;
use testbed::{EnvoyBinary, Group, client::Http1};
use tokio::process::Command;

use crate::{ControlPlane, Readiness, net::free_port, proxy::Workload, tools::Tools, until};

/// The agent's program, and what it starts.
#[derive(Clone, Debug)]
pub struct AgentProgram {
    path: PathBuf,
    /// The template of Envoy's first configuration, which is part of Istio.
    template: PathBuf,
    envoy: PathBuf,
}

impl AgentProgram {
    /// Copies the agent into `dir`, with one change: it keeps modules below its working folder instead of in
    /// `/var/lib/istio/data`. That path is a constant in Istio, and only root could create it.
    ///
    /// # Errors
    ///
    /// If the program does not contain that path exactly once, or cannot be copied.
    pub fn prepare(tools: &Tools, envoy: &EnvoyBinary, dir: &Path) -> Result<Self> {
        let read = || format!("cannot read {}", tools.pilot_agent.display());
        let mut program = fs::read(&tools.pilot_agent).with_context(read)?;
        let found: Vec<_> = memmem::find_iter(&program, DATA).collect();
        let [start] = found[..] else {
            let (path, times) = (tools.pilot_agent.display(), found.len());
            bail!("expected the folder of modules once in {path}, found it {times} times");
        };
        program[start..start + DATA.len()].copy_from_slice(RELATIVE_DATA);
        let path = dir.join("pilot-agent");
        fs::write(&path, program).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::metadata(&tools.pilot_agent)?.permissions())?;
        let (template, envoy) = (tools.bootstrap.clone(), envoy.path.clone());
        Ok(Self { path, template, envoy })
    }
}

/// A running agent with its Envoy. Dropping it stops both.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    admin: SocketAddr,
    status: SocketAddr,
    _group: Group,
}

impl Agent {
    /// Starts an agent, with a certificate from istiod's CA, and waits until its Envoy is ready. Writes its files to `dir`.
    ///
    /// # Errors
    ///
    /// If it exits or is not ready in time. The error contains the last lines of its log.
    pub(crate) async fn start(
        plane: &ControlPlane,
        program: &AgentProgram,
        workload: Workload<'_>,
        dir: &Path,
    ) -> Result<Self> {
        let Workload { kind, namespace, name, labels, ip } = workload;
        let dir = dir.join(format!("agent-{namespace}-{name}"));
        for folder in ["etc/istio/proxy", "etc/istio/config", DATA_DIR, TOKENS, CERTIFICATES] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(dir.join("etc/istio/config/mesh"), "{}")?;
        fs::write(dir.join(TOKENS).join("istio-token"), plane.cluster.token(namespace, name, Some("istio-ca")).await?)?;
        let root = plane.cluster.root_certificate(namespace).await?;
        fs::write(dir.join(CERTIFICATES).join("root-cert.pem"), root)?;

        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (admin, status) = (local(free_port()?), local(free_port()?));
        let config = json!({
            "discoveryAddress": plane.secure_xds().to_string(),
            "configPath": "./etc/istio/proxy",
            "binaryPath": program.envoy,
            "statusPort": status.port(),
            "proxyAdminPort": admin.port(),
            "concurrency": 1,
            // Access logs are written at once, not every 10 seconds.
            "fileFlushInterval": "0.1s",
        });
        let log = dir.join("agent.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&program.path);
        command
            .args(["proxy", kind.node_type(), "--domain", &format!("{namespace}.svc.cluster.local")])
            .arg("--templateFile")
            .arg(&program.template)
            .args(["--log_output_level", "default:info,wasm:debug"])
            .current_dir(&dir)
            // Without the user's environment, such as a login to a registry.
            .env_clear()
            .env("HOME", &dir)
            .env("ISTIO_METAJSON_LABELS", json!(labels.iter().copied().collect::<BTreeMap<_, _>>()).to_string())
            .env("PROXY_CONFIG", config.to_string())
            .env("ENVOY_PROMETHEUS_PORT", free_port()?.to_string())
            .env("ENVOY_STATUS_PORT", free_port()?.to_string())
            .env("INSTANCE_IP", ip.to_string())
            .env("ISTIO_META_ISTIO_VERSION", plane.istio_version())
            .envs([
                ("POD_NAME", name),
                ("POD_NAMESPACE", namespace),
                ("SERVICE_ACCOUNT", name),
                ("ISTIO_META_INTERCEPTION_MODE", "NONE"),
                ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
                ("ISTIOD_SAN", "istiod.istio-system.svc"),
                ("PILOT_CERT_PROVIDER", "istiod"),
                ("JWT_POLICY", "third-party-jwt"),
                ("TRUST_DOMAIN", "cluster.local"),
            ])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut agent = Self { dir, admin, status, _group: Group::spawn(&mut command)? };
        agent.ready(name).await.with_context(|| log_tail(&log))?;
        Ok(agent)
    }

    async fn ready(&mut self, name: &str) -> Result<()> {
        let Self { _group: group, status, .. } = self;
        let status = *status;
        let what = format!("the agent of {name}");
        let ready = until(&what, READY, async || {
            let answer = get(status, "/healthz/ready").await;
            Ok(Readiness::of(answer.is_ok(), || format!("{answer:?}")))
        });
        tokio::select! {
            ready = ready => ready,
            exit = group.wait() => bail!("{what} exited with {}", exit?),
        }
    }

    /// What Envoy's admin listener answers to `GET path`.
    pub(crate) async fn admin_get(&self, path: &str) -> Result<Vec<u8>> {
        get(self.admin, path).await.with_context(|| format!("the Envoy in {}", self.dir.display()))
    }

    /// The metrics that Prometheus scrapes from a pod: those of Envoy and of the agent, in one text.
    ///
    /// # Errors
    ///
    /// If the agent does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let metrics = get(self.status, "/stats/prometheus").await;
        Ok(String::from_utf8(metrics.with_context(|| format!("the agent in {}", self.dir.display()))?)?)
    }

    /// The address from which Prometheus scrapes these metrics.
    #[must_use]
    pub fn metrics_addr(&self) -> SocketAddr {
        self.status
    }

    /// What the agent and its Envoy have logged.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("agent.log"))?)
    }
}

async fn get(from: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let response = Http1::connect(from).await?.get("localhost", path, &[]).await?;
    ensure!(response.status == 200, "GET {path} returned {}: {}", response.status, response.text());
    Ok(response.body)
}

fn log_tail(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Where the agent keeps modules, and a path of the same length relative to its working folder.
const DATA: &[u8] = b"/var/lib/istio/data";
const RELATIVE_DATA: &[u8] = b"var/lib/istio/data/";
const DATA_DIR: &str = "var/lib/istio/data";
const TOKENS: &str = "var/run/secrets/tokens";
const CERTIFICATES: &str = "var/run/secrets/istio";
const READY: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 15;
