//! One Envoy with a listener without the filter and one with it for each policy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use testbed::echo::{self, Echo};
use testbed::{Envoy, EnvoyBinary, config};

use crate::target::{CLUSTERS, Engine, MAIN, Target};

/// A running Envoy with its upstreams; dropping it stops all of it.
#[derive(Debug)]
pub struct Mesh {
    /// The process.
    pub envoy: Envoy,
    /// The listener without the filter.
    pub plain: SocketAddr,
    /// The listener of each target, in order.
    pub filtered: Vec<SocketAddr>,
    _upstreams: Vec<Echo>,
}

impl Mesh {
    /// Starts Envoy with one worker. `dir` gets its configuration and log.
    pub async fn start(binary: &EnvoyBinary, engine: Engine, targets: &[Target], dir: &Path) -> Result<Self> {
        let (upstreams, clusters) = upstreams().await?;
        let mut listeners = vec![listener(PLAIN, &[], &config::route_all(MAIN))];
        for target in targets {
            listeners.push(listener(target.name, &[target.filter(engine)?], &target.routes()));
        }
        let name = engine.name();
        let envoy = Envoy::start(binary, name, config::bootstrap(&listeners, &clusters), dir).await?;
        let mut filtered = Vec::new();
        for target in targets {
            filtered.push(address(&envoy, target.name).await?);
        }
        Ok(Self { plain: address(&envoy, PLAIN).await?, filtered, envoy, _upstreams: upstreams })
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

/// A listener that adds nothing to a request that differs from one time to the next.
#[must_use]
pub fn listener(name: &str, filters: &[Value], routes: &Value) -> Value {
    let mut listener = config::listener(name, filters, routes);
    listener["filter_chains"][0]["filters"][0]["typed_config"]["generate_request_id"] = false.into();
    listener
}

/// Where a listener listens.
pub async fn address(envoy: &Envoy, listener: &str) -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, envoy.listener_port(listener).await?).into())
}

const PLAIN: &str = "plain";
