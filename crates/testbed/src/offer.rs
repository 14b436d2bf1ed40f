//! Configuration that a running Envoy reloads whenever it changes, as it would from a control plane.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::Envoy;

/// A file of xDS resources that an Envoy watches.
#[derive(Debug)]
pub struct Offer {
    name: String,
    file: PathBuf,
    /// Prefix of the counters in which Envoy counts the result of each update, such as `listener_manager.lds`.
    stats: String,
}

/// What Envoy did with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Envoy accepted it.
    Ack,
    /// Envoy rejected it and keeps what it had.
    Nack,
}

impl Offer {
    /// Listeners, none at first. Put [`Offer::source`] into `dynamic_resources.lds_config` of the bootstrap.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn listeners(dir: &Path) -> Result<Self> {
        Self::new(dir, "listeners", "listener_manager.lds.update", &[])
    }

    /// The filter of that name. `config` is its `typed_config`. Put [`Offer::discovered`] into the listener.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn filter(dir: &Path, name: &str, config: &Value) -> Result<Self> {
        let stats = format!("extension_config_discovery.http_filter.{name}.config");
        Self::new(dir, name, &stats, &[filter_resource(name, config)])
    }

    fn new(dir: &Path, name: &str, stats: &str, resources: &[Value]) -> Result<Self> {
        // Envoy watches the folder. If its log were in it, each line at debug level would cause the next.
        let folder = dir.join("offers");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let offer = Self { name: name.to_owned(), file: folder.join(format!("{name}.json")), stats: stats.to_owned() };
        offer.write(resources)?;
        Ok(offer)
    }

    /// The `ConfigSource` that watches this file.
    #[must_use]
    pub fn source(&self) -> Value {
        json!({"path_config_source": {"path": self.file}, "resource_api_version": "V3"})
    }

    /// A filter that this offer configures.
    #[must_use]
    pub fn discovered(&self, config: &Value) -> Value {
        let kind = config["@type"].as_str().unwrap_or_default().trim_start_matches("type.googleapis.com/");
        json!({"name": self.name, "config_discovery": {"config_source": self.source(), "type_urls": [kind]}})
    }

    /// Replaces the offered listeners, and waits for Envoy's answer.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer in time.
    pub async fn offer_listeners(&self, envoy: &Envoy, listeners: &[Value]) -> Result<Acknowledgement> {
        let typed = listeners.iter().cloned().map(|mut listener| {
            listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
            listener
        });
        self.offer(envoy, &typed.collect::<Vec<_>>()).await
    }

    /// Replaces the offered configuration of a filter, and waits for Envoy's answer.
    ///
    /// # Errors
    ///
    /// If Envoy does not answer in time.
    pub async fn offer_filter(&self, envoy: &Envoy, config: &Value) -> Result<Acknowledgement> {
        self.offer(envoy, &[filter_resource(&self.name, config)]).await
    }

    async fn offer(&self, envoy: &Envoy, resources: &[Value]) -> Result<Acknowledgement> {
        let before = self.counts(envoy).await?;
        self.write(resources)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let (taken, refused) = self.counts(envoy).await?;
            if refused > before.1 {
                return Ok(Acknowledgement::Nack);
            } else if taken > before.0 {
                return Ok(Acknowledgement::Ack);
            } else if Instant::now() > deadline {
                bail!("Envoy did not answer to {} within {ANSWER_TIMEOUT:?}", self.file.display());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The number of offers that were accepted and rejected.
    async fn counts(&self, envoy: &Envoy) -> Result<(u64, u64)> {
        let counters = envoy.counters(&self.stats).await?;
        let sum = |ends: [&str; 2]| {
            counters.iter().filter(|(name, _)| ends.iter().any(|end| name.ends_with(end))).map(|(_, n)| n).sum()
        };
        Ok((sum(["update_success", "config_reload"]), sum(["update_rejected", "config_fail"])))
    }

    /// Envoy reloads a file when another file is moved to its path.
    fn write(&self, resources: &[Value]) -> Result<()> {
        let next = self.file.with_extension("next");
        let context = || format!("cannot write {}", self.file.display());
        fs::write(&next, json!({"resources": resources}).to_string()).with_context(context)?;
        fs::rename(&next, &self.file).with_context(context)
    }
}

fn filter_resource(name: &str, config: &Value) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": name,
        "typed_config": config,
    })
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
