//! The filters on a real Envoy.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use routing_claims::{CarryFault, ClaimFault, Outcome, Policy};
use serde_json::{Map, Value, json};
use testbed::{
    Acknowledgement, Envoy, EnvoyBinary, Offer,
    client::{Http1, Http2},
    config,
    echo::{self, Echo},
};

use crate::{
    corpus::{Corpus, Reject},
    engine::{Engine, Lines, Seen},
    run::policies,
};

/// One Envoy with a listener for every policy of the corpus.
#[derive(Debug)]
pub struct PolicyListeners {
    envoy: Envoy,
    /// The port of each policy's listener.
    ports: BTreeMap<String, u16>,
    /// The number of requests that all engines sent.
    sent: AtomicU64,
    _upstreams: [Echo; 2],
}

/// The protocol between the client and Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// An engine: a filter on Envoy, reached over one protocol.
#[derive(Debug)]
pub struct OnEnvoy<'l> {
    listeners: &'l PolicyListeners,
    protocol: Protocol,
    connections: BTreeMap<u16, Connection>,
}

#[derive(Debug)]
enum Connection {
    Http1(Http1),
    Http2(Http2),
}

impl PolicyListeners {
    /// Starts Envoy with the filter that `filter` configures for each policy. Writes logs to `folder`.
    pub async fn start(
        binary: &EnvoyBinary,
        corpus: &Corpus,
        folder: &Path,
        filter: impl Fn(&Value) -> Result<Value>,
    ) -> Result<Self> {
        let upstreams = [echo::serve(KEPT).await?, echo::serve(REROUTED).await?];
        let texts = corpus.cases.iter().flat_map(policies).map(|policy| Value::from(policy).to_string());
        let mut names = BTreeMap::new();
        let mut listeners = Vec::new();
        for text in texts {
            let name = format!("policy-{}", names.len());
            if let Entry::Vacant(entry) = names.entry(text) {
                let policy = serde_json::from_str(entry.key())?;
                listeners.push(config::listener(&name, &[late_header(), filter(&policy)?], &routes()));
                entry.insert(name);
            }
        }
        let clusters =
            [KEPT, REROUTED].into_iter().zip(&upstreams).map(|(name, echo)| config::cluster(name, echo.addr()));
        let bootstrap = config::bootstrap(&listeners, &clusters.collect::<Vec<_>>());
        let envoy = Envoy::start(binary, "corpus", bootstrap, folder).await?;
        let mut ports = BTreeMap::new();
        for (policy, name) in names {
            ports.insert(policy, envoy.listener_port(&name).await?);
        }
        Ok(Self { envoy, ports, sent: AtomicU64::new(0), _upstreams: upstreams })
    }

    /// The engine over this protocol.
    #[must_use]
    pub fn over(&self, protocol: Protocol) -> OnEnvoy<'_> {
        OnEnvoy { listeners: self, protocol, connections: BTreeMap::new() }
    }

    /// Checks the counters of the WASM filter or the native module (R14): the corpus causes every outcome and fault, and each request counts one
    /// outcome.
    pub async fn counts_every_request(&self) -> Result<()> {
        let counters = self.envoy.counters(COUNTERS).await?;
        let count = |code: &str| counters.get(&format!("{COUNTERS}{}", code.replace('-', "_"))).copied().unwrap_or(0);
        let codes = Outcome::ALL.iter().map(|outcome| outcome.code());
        let claim_faults = ClaimFault::ALL.iter().map(|fault| fault.code());
        let carry_faults = CarryFault::ALL.iter().map(|fault| fault.code());
        for code in codes.clone().chain(claim_faults).chain(carry_faults) {
            ensure!(count(code) > 0, "{code} was not counted: {counters:?}");
        }
        let (counted, sent) = (codes.map(count).sum::<u64>(), self.sent.load(Ordering::Relaxed));
        ensure!(counted == sent, "{counted} outcomes were counted for {sent} requests");
        Ok(())
    }
}

impl Engine for OnEnvoy<'_> {
    async fn send(&mut self, policy: &Map<String, Value>, request: &Lines, _now: i64) -> Result<Seen> {
        let port = *self
            .listeners
            .ports
            .get(&Value::from(policy.clone()).to_string())
            .context("the policy has no listener")?;
        let connection = match self.connections.entry(port) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                entry.insert(match self.protocol {
                    Protocol::Http1 => Connection::Http1(Http1::connect(address).await?),
                    Protocol::Http2 => Connection::Http2(Http2::connect(address).await?),
                })
            }
        };
        self.listeners.sent.fetch_add(1, Ordering::Relaxed);
        let response = match connection {
            Connection::Http1(client) => client.get(AUTHORITY, "/", request).await?,
            Connection::Http2(client) => client.get(AUTHORITY, "/", request).await?,
        };
        ensure!(response.status == 200, "status {}: {}", response.status, response.text());
        let rerouted = response.header("x-upstream") == Some(REROUTED.as_bytes());
        let mut lines = echo::Seen::from_body(&response.body)?.headers;
        lines.retain(|(name, _)| !ADDED_HERE.contains(&name.as_slice()));
        Ok(Seen { lines, rerouted })
    }
}

/// Offers a running Envoy a listener for each policy that must not load, with the filter that `filter` configures. Checks that
/// Envoy rejects each, and that the log contains the field and the reason.
pub async fn refuses_bad_policies(
    binary: &EnvoyBinary,
    corpus: &Corpus,
    folder: &Path,
    filter: impl Fn(&Reject) -> Result<Value>,
) -> Result<()> {
    let upstream = echo::serve("unused").await?;
    let offer = Offer::listeners(folder)?;
    let mut bootstrap = config::bootstrap(&[], &[config::cluster("upstream", upstream.addr())]);
    bootstrap["node"] = json!({"id": "conformance", "cluster": "conformance"});
    bootstrap["dynamic_resources"]["lds_config"] = offer.source();
    let envoy = Envoy::start(binary, "refuses", bootstrap, folder).await?;

    for rejects in corpus.rejects.chunks(POLICIES_OF_AN_OFFER) {
        let listener =
            |reject: &Reject| Ok(config::listener(&reject.name, &[filter(reject)?], &config::route_all("upstream")));
        let listeners = rejects.iter().map(listener).collect::<Result<Vec<_>>>()?;
        let answer = offer.offer_listeners(&envoy, &listeners).await?;
        ensure!(answer == Acknowledgement::Nack, "Envoy did not reject an update");
    }
    let listeners = String::from_utf8(envoy.admin_get("/listeners").await?)?;
    ensure!(listeners.is_empty(), "Envoy accepted listeners: {listeners}");
    let log = envoy.log()?;
    // Envoy loads listeners in order, so the reasons are in the order of the policies.
    let reasons: Vec<_> =
        log.lines().filter_map(|line| Some(line.split_once("the policy is not valid: ")?.1)).collect();
    let count = corpus.rejects.len();
    ensure!(reasons.len() == count, "the log has {} reasons for {count} policies", reasons.len());
    for (Reject { name, path, error, .. }, reason) in corpus.rejects.iter().zip(reasons) {
        let fits = reason.contains(error) && path.as_ref().is_none_or(|path| reason.contains(path));
        ensure!(fits, "{name}: expected {error:?} at {path:?}, found {reason}");
    }
    Ok(())
}

/// The WASM filter with a policy that must not load.
pub fn bad_wasm_filter(reject: &Reject) -> Result<Value> {
    let mut filter = wasm_filter(&Value::Null)?;
    filter["typed_config"]["config"]["name"] = reject.name.clone().into();
    filter["typed_config"]["config"]["configuration"]["value"] = reject.policy.clone().into();
    Ok(filter)
}

/// The native module with a policy that must not load.
pub fn bad_module_filter(reject: &Reject) -> Result<Value> {
    let mut filter = module_filter(&Value::Null)?;
    filter["typed_config"]["filter_config"]["value"] = reject.policy.clone().into();
    Ok(filter)
}

/// The native module with a policy.
pub fn module_filter(policy: &Value) -> Result<Value> {
    Ok(config::module_filter(&testbed::module_path()?, policy))
}

/// The WASM filter with a policy.
pub fn wasm_filter(policy: &Value) -> Result<Value> {
    Ok(config::wasm_filter(&built("routing-claims.wasm")?, policy))
}

/// The Lua filter with a policy.
pub fn lua_filter(policy: &Value) -> Result<Value> {
    let policy = Policy::from_json(policy.to_string().as_bytes())?;
    Ok(config::lua_filter(&::lua_filter::source(&policy)))
}

/// An artifact of `cargo xtask build`.
fn built(name: &str) -> Result<PathBuf> {
    let path = testbed::target_dir().join("dist").join(name);
    ensure!(path.is_file(), "cannot find {}; run `cargo xtask build`", path.display());
    Ok(path)
}

/// Routes by a header that does not exist yet when Envoy computes the route for the first time.
fn routes() -> Value {
    let to = |cluster: &str| json!({ "cluster": cluster });
    json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/", "headers": [{"name": LATE_HEADER, "present_match": true}]}, "route": to(REROUTED)},
        {"match": {"prefix": "/"}, "route": to(KEPT)},
    ]}]})
}

/// A filter before ours that adds the header of [`routes`] and does not clear the route cache.
fn late_header() -> Value {
    let code = format!("function envoy_on_request(handle) handle:headers():replace('{LATE_HEADER}', '1') end");
    let mut filter = config::lua_filter(&code);
    filter["name"] = "late-header".into();
    filter["typed_config"]["clear_route_cache"] = false.into();
    filter
}

const COUNTERS: &str = "wasmcustom.routing_claims.";
const AUTHORITY: &str = "corpus.example";
const LATE_HEADER: &str = "x-conformance-late";
const KEPT: &str = "kept";
const REROUTED: &str = "rerouted";

/// Envoy recompiles the module for each policy that it rejects, and answers nothing in the meantime.
const POLICIES_OF_AN_OFFER: usize = 8;

/// Headers that the client or this Envoy adds to every request.
const ADDED_HERE: &[&[u8]] =
    &[b"host", b"x-envoy-expected-rq-timeout-ms", b"x-forwarded-proto", b"x-request-id", LATE_HEADER.as_bytes()];
