//! The programs that install.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use e2e::Cluster;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{NAMESPACE, RELEASE, chart};

pub(super) struct Helm {
    pub(super) version: u8,
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    /// The folder for what it caches.
    pub(super) home: PathBuf,
}

impl Helm {
    /// What the chart renders with these arguments.
    pub(super) async fn template(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let template = ["template", RELEASE, &chart(), "--namespace", NAMESPACE];
        Cluster::documents(&self.run(&[&template, arguments].concat()).await?)
    }

    /// `helm install`, `upgrade` and so on, of a chart.
    pub(super) async fn release(&self, command: &str, chart: &str, arguments: &[&str]) -> Result<String> {
        self.run(&[&[command, RELEASE, chart, "--namespace", NAMESPACE], arguments].concat()).await
    }

    /// Runs it. It must succeed.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs it. It must fail. Returns its error.
    pub(super) async fn error(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments).await?;
        ensure!(!output.status.success(), "helm {} succeeds", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    async fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, &self.home);
        }
        command.output().await.context("cannot run helm")
    }
}

pub(super) struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
}

impl Kubectl {
    /// Runs it with this standard input. It must succeed.
    pub(super) async fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs it with this standard input. It must fail. Returns its error.
    pub(super) async fn error(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input).await?;
        ensure!(!output.status.success(), "kubectl {} succeeds", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The objects of a kustomization.
    pub(super) async fn kustomize(&self, folder: &Path) -> Result<Vec<Value>> {
        let folder = folder.display().to_string();
        Cluster::documents(&self.run(&["kustomize", &folder], "").await?)
    }

    async fn output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("the standard input is a pipe")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        Ok(child.wait_with_output().await?)
    }
}
