//! One Envoy: a listener without the filter, and a listener with the filter for each policy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::echo::{self, Echo};
use testbed::{Acknowledgement, Envoy, EnvoyBinary, Offer, Options, config};

use crate::target::{CLUSTERS, Engine, MAIN, Target};

/// A running Envoy with its upstreams. Dropping it stops everything.
#[derive(Debug)]
pub struct EnvoyUnderTest {
    /// The process.
    pub envoy: Envoy,
    /// The listener without the filter.
    pub plain: SocketAddr,
    /// The listener of each target, in order.
    pub filtered: Vec<SocketAddr>,
    /// In a soak test, the configuration of each target's filter.
    offers: Vec<Offer>,
    swaps: AtomicU64,
    _upstreams: Vec<Echo>,
}

impl EnvoyUnderTest {
    /// Starts Envoy. Writes its configuration and log to `dir`. If `swapped`, [`EnvoyUnderTest::offer`] can replace
    /// the filters.
    pub async fn start(
        binary: &EnvoyBinary,
        engine: Engine,
        targets: &[Target],
        swapped: bool,
        dir: &Path,
    ) -> Result<Self> {
        let (upstreams, clusters) = upstreams().await?;
        let mut listeners = vec![listener(PLAIN, &[], &config::route_all(MAIN))];
        let mut offers = Vec::new();
        for target in targets {
            let mut filter = target.filter(engine)?;
            if swapped {
                let offer = Offer::filter(dir, target.name, &filter["typed_config"])?;
                filter = offer.discovered(&filter["typed_config"]);
                offers.push(offer);
            }
            listeners.push(listener(target.name, &[filter], &target.routes()));
        }
        let mut bootstrap = config::bootstrap(&listeners, &clusters);
        bootstrap["node"] = json!({"id": "hostile", "cluster": "hostile"});
        let options = Options { concurrency: engine.workers(), ..Options::default() };
        let envoy = Envoy::start_with(binary, engine.name(), bootstrap, dir, options).await?;
        let mut filtered = Vec::new();
        for target in targets {
            filtered.push(address(&envoy, target.name).await?);
        }
        let plain = address(&envoy, PLAIN).await?;
        Ok(Self { plain, filtered, envoy, offers, swaps: AtomicU64::new(0), _upstreams: upstreams })
    }

    /// Replaces the filter of a target's listener.
    pub async fn offer(&self, target: usize, filter: &Value) -> Result<()> {
        let offer = self.offers.get(target).context("the filter of this listener cannot be replaced")?;
        let answer = offer.offer_filter(&self.envoy, &filter["typed_config"]).await?;
        ensure!(answer == Acknowledgement::Ack, "Envoy rejected a policy:\n{}", self.envoy.log()?);
        self.swaps.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The number of filters that were replaced.
    #[must_use]
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

/// The upstreams, and the clusters that lead to them.
pub async fn upstreams() -> Result<(Vec<Echo>, Vec<Value>)> {
    let (mut upstreams, mut clusters) = (Vec::new(), Vec::new());
    for label in CLUSTERS {
        let upstream = echo::serve(label).await?;
        clusters.push(config::cluster(label, upstream.addr()));
        upstreams.push(upstream);
    }
    Ok((upstreams, clusters))
}

/// A listener that adds nothing random to a request, so that requests can be compared.
#[must_use]
pub fn listener(name: &str, filters: &[Value], routes: &Value) -> Value {
    let mut listener = config::listener(name, filters, routes);
    listener["filter_chains"][0]["filters"][0]["typed_config"]["generate_request_id"] = false.into();
    listener
}

/// The address of a listener.
pub async fn address(envoy: &Envoy, listener: &str) -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, envoy.listener_port(listener).await?).into())
}

const PLAIN: &str = "plain";
