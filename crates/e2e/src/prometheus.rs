//! A Prometheus on loopback that scrapes proxies.

use std::{collections::BTreeMap, fmt::Write as _, fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::client::Http1;

use crate::control_plane::Daemon;

/// A running Prometheus. Dropping it stops it.
#[derive(Debug)]
pub struct Prometheus {
    addr: SocketAddr,
    _daemon: Daemon,
}

/// What it scrapes: an address that serves `/stats/prometheus`, and the labels of its series.
pub type Target = (SocketAddr, BTreeMap<&'static str, String>);

impl Prometheus {
    /// Starts the program with the content of a rule file. It scrapes and evaluates once a second. Writes its data and its log to `dir`.
    ///
    /// # Errors
    ///
    /// If it does not start or is not ready in time, which includes rules that it does not accept.
    pub async fn start(
        program: &Path,
        addr: SocketAddr,
        targets: &[Target],
        rules: &Value,
        dir: &Path,
    ) -> Result<Self> {
        let targets: Vec<_> =
            targets.iter().map(|(addr, labels)| json!({"targets": [addr.to_string()], "labels": labels})).collect();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": "proxies", "metrics_path": "/stats/prometheus", "static_configs": targets},
            ],
        });
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir)?;
        // JSON is YAML.
        fs::write(dir.join("prometheus.yml"), config.to_string())?;
        fs::write(dir.join("rules.yml"), rules.to_string())?;
        let mut command = std::process::Command::new(program);
        command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={addr}"))
            .current_dir(&dir);
        let mut daemon = Daemon::spawn(&mut command, "prometheus", &dir)?;
        daemon
            .ready(async || {
                let answer = async { Http1::connect(addr).await?.get("prometheus", "/-/ready", &[]).await };
                Ok(matches!(answer.await, Ok(response) if response.status == 200))
            })
            .await?;
        Ok(Self { addr, _daemon: daemon })
    }

    /// The series that a query returns now: the labels and the value of each.
    ///
    /// # Errors
    ///
    /// If Prometheus does not accept the query.
    pub async fn query(&self, query: &str) -> Result<Vec<(BTreeMap<String, String>, f64)>> {
        let encoded = query.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02X}").ok();
            text
        });
        let path = format!("/api/v1/query?query={encoded}");
        let response = Http1::connect(self.addr).await?.get("prometheus", &path, &[]).await?;
        ensure!(response.status == 200, "{query}: {}", response.text());
        let answer: Value = serde_json::from_slice(&response.body)?;
        let series = answer["data"]["result"].as_array().with_context(|| format!("{query}: {answer}"))?;
        let read = |one: &Value| -> Result<_> {
            let value = one["value"][1].as_str().context("a value")?.parse()?;
            Ok((serde_json::from_value(one["metric"].clone())?, value))
        };
        series.iter().map(read).collect()
    }
}
