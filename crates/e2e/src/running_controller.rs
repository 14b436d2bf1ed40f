//! The controller's binary, as its Deployment runs it: with the token of its service account.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use controller::rbac;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::process::{Child, Command};

use crate::{AUDITED, Cluster, Readiness, until};

/// The name of its service account, in the namespace [`AUDITED`].
pub const SERVICE_ACCOUNT: &str = "routing-claims-controller";

/// How to run the controller.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Where it reaches the API.
    pub api: SocketAddr,
    /// Arguments besides `--listen` and `--namespace`.
    pub arguments: Vec<String>,
    /// Environment variables besides the path of its configuration.
    pub environment: Vec<(String, String)>,
}

/// A running controller. Dropping it kills it.
#[derive(Debug)]
pub struct RunningController {
    /// The address of its metrics and of its health.
    pub addr: SocketAddr,
    /// What it logs.
    pub log: PathBuf,
    child: Child,
}

impl RunningController {
    /// Starts it without waiting until it is ready. Writes its configuration and its log to `dir`.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn spawn(program: &Program, cluster: &Cluster, addr: SocketAddr, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("controller-{}.log", addr.port()));
        let output = File::options().append(true).create(true).open(&log)?;
        let child = program
            .command(cluster, dir)
            .await?
            .args(["--listen", &addr.to_string()])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run {}", program.path.display()))?;
        Ok(Self { addr, log, child })
    }

    /// Its process, until it has exited.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// If it exits, or takes too long. The error has the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        until("the controller", READY, async || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the controller exited with {status}:\n{}", self.log_tail());
            }
            let status = self.get("/readyz").await.map_or(0, |(status, _)| status);
            Ok(Readiness::of(status == 200, || format!("/readyz has {status}\n{}", self.log_tail())))
        })
        .await
    }

    /// The status and the body of `/readyz`, `/healthz` or `/metrics`.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let response = Http1::connect(self.addr).await?.get("controller", path, &[]).await?;
        Ok((response.status, response.text()))
    }

    /// Asks it to stop, as Kubernetes does, and waits until it has. Returns how long it took.
    ///
    /// # Errors
    ///
    /// If it does not stop in time, or its exit code is not 0.
    pub async fn stop(mut self) -> Result<Duration> {
        let begin = Instant::now();
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        kill_process(pid.context("the controller has exited")?, Signal::TERM)?;
        let status = tokio::time::timeout(STOP, self.child.wait()).await;
        let status: ExitStatus =
            status.with_context(|| format!("still running after {STOP:?}: {}", self.log_tail()))??;
        if !status.success() {
            bail!("the controller exited with {status}:\n{}", self.log_tail());
        }
        Ok(begin.elapsed())
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// If the operating system refuses.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Program {
    /// Runs it to its end, as `--dry-run` does. Returns its exit code and its standard output.
    ///
    /// # Errors
    ///
    /// If it does not start, takes too long, or is killed.
    pub async fn output(&self, cluster: &Cluster, dir: &Path) -> Result<(i32, String)> {
        let mut command = self.command(cluster, dir).await?;
        let output = tokio::time::timeout(READY, command.stdout(Stdio::piped()).stderr(Stdio::piped()).output());
        let output = output.await.with_context(|| format!("still running after {READY:?}"))??;
        let code = output.status.code().context("killed by a signal")?;
        let text = String::from_utf8(output.stdout)?;
        Ok((code, if text.is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { text }))
    }

    async fn command(&self, cluster: &Cluster, dir: &Path) -> Result<Command> {
        let kubeconfig = dir.join("controller.json");
        let token = cluster.token(AUDITED, SERVICE_ACCOUNT, None).await?;
        fs::write(&kubeconfig, config(self.api, &token).to_string())?;
        let mut command = Command::new(&self.path);
        command
            .args(["--namespace", AUDITED])
            .args(&self.arguments)
            .env("KUBECONFIG", kubeconfig)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }
}

/// The service account [`SERVICE_ACCOUNT`] with its roles, with permission to drain.
#[must_use]
pub fn installation() -> Vec<Value> {
    let subjects = json!([{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": AUDITED}]);
    let binding = |kind: &str, role: &str, namespace: Option<&str>| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": format!("{kind}Binding"),
            "metadata": {"name": SERVICE_ACCOUNT, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": subjects,
        })
    };
    let role = |kind: &str, rules: Value, namespace: Option<&str>| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": SERVICE_ACCOUNT, "namespace": namespace},
            "rules": rules,
        })
    };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": AUDITED}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE_ACCOUNT, "namespace": AUDITED}}),
        role("ClusterRole", rbac::cluster_role(true), None),
        role("Role", rbac::role(), Some(AUDITED)),
        binding("ClusterRole", SERVICE_ACCOUNT, None),
        binding("Role", SERVICE_ACCOUNT, Some(AUDITED)),
    ]
}

fn config(api: SocketAddr, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": format!("https://{api}"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "controller", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "controller"}}],
        "current-context": "e2e",
    })
}

const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(30);
const LOG_TAIL_LINES: usize = 15;
