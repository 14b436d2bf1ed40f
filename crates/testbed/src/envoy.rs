//! One running Envoy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::EnvoyBinary;
use crate::client::Http1;

/// An Envoy process that is ready for requests. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
}

/// How an Envoy is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads.
    pub concurrency: u32,
    /// `--log-level`: `trace`, `debug`, `info`, `warning`, `error`, `critical` or `off`.
    pub log_level: &'static str,
    /// Further arguments of Envoy's command line.
    pub args: &'static [&'static str],
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 1, log_level: "info", args: &[] }
    }
}

impl Envoy {
    /// Starts an Envoy with one worker and waits until it accepts requests.
    ///
    /// Writes `<name>.json` (the configuration, with an admin listener added) and `<name>.log` to `dir`.
    ///
    /// # Errors
    ///
    /// If Envoy does not start, exits (because it rejects its configuration) or is not ready in time. The error ends with
    /// the last lines of the log.
    pub async fn start(binary: &EnvoyBinary, name: &str, bootstrap: Value, dir: &Path) -> Result<Self> {
        Self::start_with(binary, name, bootstrap, dir, Options::default()).await
    }

    /// [`Envoy::start`] with other options.
    ///
    /// # Errors
    ///
    /// As [`Envoy::start`].
    pub async fn start_with(
        binary: &EnvoyBinary,
        name: &str,
        mut bootstrap: Value,
        dir: &Path,
        options: Options,
    ) -> Result<Self> {
        bootstrap["admin"] = json!({
            "address": {"socket_address": {"address": Ipv4Addr::LOCALHOST.to_string(), "port_value": 0}}
        });
        let config = dir.join(format!("{name}.json"));
        fs::write(&config, serde_json::to_vec_pretty(&bootstrap)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let admin_address = dir.join(format!("{name}.admin"));
        // The file of an earlier Envoy would be mistaken for that of the new one.
        fs::remove_file(&admin_address).ok();

        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(&binary.path)
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_address)
            // Hot restart needs shared memory and a base id for each Envoy, and no Envoy here restarts.
            .arg("--disable-hot-restart")
            .args(["--concurrency", &options.concurrency.to_string(), "--log-level", options.log_level])
            .args(options.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.path.display()))?;
        let mut process = Process { name: name.to_owned(), child, log };
        let admin = process.ready(&admin_address).await?;
        Ok(Self { process, admin })
    }

    /// The port that Envoy assigned to the listener of that name.
    ///
    /// # Errors
    ///
    /// If there is no such listener, or Envoy does not answer.
    pub async fn listener_port(&self, name: &str) -> Result<u16> {
        let listeners = self.admin_json("/listeners?format=json").await?;
        let port = listeners["listener_statuses"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|listener| listener["name"] == name)
            .and_then(|listener| listener["local_address"]["socket_address"]["port_value"].as_u64())
            .with_context(|| format!("Envoy {} has no listener {name}", self.process.name))?;
        Ok(u16::try_from(port)?)
    }

    /// The counters whose name starts with `prefix`.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer.
    pub async fn counters(&self, prefix: &str) -> Result<BTreeMap<String, u64>> {
        let stats = self.admin_json("/stats?format=json&type=Counters").await?;
        Ok(stats["stats"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|stat| Some((stat["name"].as_str()?, stat["value"].as_u64()?)))
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    /// What the admin listener answers to `GET path`.
    ///
    /// # Errors
    ///
    /// If it does not answer, or not with status 200.
    pub async fn admin_get(&self, path: &str) -> Result<Vec<u8>> {
        admin_get(self.admin, path).await.with_context(|| format!("Envoy {}", self.process.name))
    }

    /// The log so far.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Stops the process and waits for its end, as dropping does.
    pub fn stop(self) {
        drop(self);
    }

    async fn admin_json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.admin_get(path).await?)?)
    }
}

/// The child process and its log, which exist before Envoy is ready.
#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Waits until the listeners accept requests. Returns the address of the admin listener.
    async fn ready(&mut self, admin_address: &Path) -> Result<SocketAddr> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("Envoy {} exited with {status}:\n{}", self.name, self.log_tail());
            }
            // The file can exist before it contains the address.
            let admin = fs::read_to_string(admin_address).ok().and_then(|address| address.trim().parse().ok());
            if let Some(admin) = admin
                && takes_requests(admin).await
            {
                return Ok(admin);
            }
            if Instant::now() > deadline {
                bail!("Envoy {} was not ready within {READY_TIMEOUT:?}:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines of the log, without the pages of extension names that Envoy logs at each start.
    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("[info][main]")).collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has already been reaped.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `/ready` alone can succeed a moment before the workers listen.
async fn takes_requests(admin: SocketAddr) -> bool {
    let started = async {
        admin_get(admin, "/ready").await?;
        admin_get(admin, "/stats?filter=^listener_manager.workers_started$").await
    };
    matches!(started.await, Ok(stats) if stats.trim_ascii_end().ends_with(b": 1"))
}

async fn admin_get(admin: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let response = Http1::connect(admin).await?.get("admin", path, &[]).await?;
    if response.status != 200 {
        bail!("GET {path} returned {}: {}", response.status, response.text());
    }
    Ok(response.body)
}

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 20;
