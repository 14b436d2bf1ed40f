//! The policies under attack, and the routes that follow their headers.

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use routing_claims::{Decider, Policy, TokenFormat};
use serde_json::{Value, json};

/// A policy with routes that follow two of its headers.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name of the policy and of its listener.
    pub name: &'static str,
    /// The policy as JSON.
    pub config: Value,
    /// The headers that the routes match.
    pub watched: [&'static str; 2],
    policy: Policy,
    /// Names of the headers that are managed by name, in lower case.
    managed: Vec<String>,
}

/// The filter under attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The WebAssembly filter.
    Wasm,
    /// The Lua filter.
    Lua,
    /// The native module.
    Module,
}

impl Engine {
    /// The name in arguments and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Lua => "lua",
            Self::Module => "module",
        }
    }

    /// Whether the filter counts outcomes. Lua cannot count.
    #[must_use]
    pub fn counts(self) -> bool {
        self != Self::Lua
    }

    /// The number of Envoy's workers. The workers share the native module; each has a VM of its own for the others.
    pub(crate) fn workers(self) -> u32 {
        if self == Self::Module { 2 } else { 1 }
    }
}

impl Target {
    fn new(name: &'static str, watched: [&'static str; 2], config: Value) -> Result<Self> {
        let policy = Policy::from_json(config.to_string().as_bytes()).with_context(|| format!("the policy {name}"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let header =
            |service: &Value| text(&service["header"]).or_else(|| Some(text(&service["name"])?.to_ascii_lowercase()));
        // Computed from the text alone: the core cannot be asked, because it is under attack too.
        let services = config["services"].as_array().into_iter().flatten().filter_map(header);
        let carrier = text(&config["carry"]["header"]);
        let managed = services.chain(text(&config["reportHeader"])).chain(carrier).collect();
        Ok(Self { name, config, watched, policy, managed })
    }

    /// The policies under attack. Each takes its token in a different way.
    #[allow(clippy::too_many_lines, reason = "a list")]
    pub fn all() -> Result<Vec<Self>> {
        let many: Vec<_> = (0..60).map(|n| json!({"name": format!("service-{n}")})).collect();
        Ok(vec![
            Self::new(
                "listed",
                ["microservice-a", "microservice-b"],
                json!({
                    "services": [{"name": "microservice-A"}, {"name": "microservice-B"}],
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 0,
                }),
            )?,
            Self::new(
                "prefix",
                ["x-route-api", "x-route-cart"],
                json!({
                    "claimPath": ["https://example.com/claims", "routing"],
                    "headerPrefix": "x-route-",
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 0,
                }),
            )?,
            Self::new(
                "sources",
                ["api", "cart"],
                json!({
                    "fromHeaders": [
                        {"name": "x-qa-token"},
                        {"name": "authorization", "prefix": "Bearer "},
                        {"name": "authorization", "prefix": "Token "},
                    ],
                    "fromCookies": ["qa", "__Host-qa"],
                    "services": [{"name": "api"}, {"name": "cart"}],
                    "clockSkewSeconds": 1,
                }),
            )?,
            Self::new(
                "payload",
                ["service-7", "service-42"],
                json!({
                    "fromHeaders": [{"name": "x-payload"}],
                    "format": "payload",
                    "services": many,
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 0,
                }),
            )?,
            Self::new(
                "tight",
                ["a", "b"],
                json!({
                    "claimPath": ["r"],
                    "services": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 0,
                    "limits": {"maxTokenBytes": 256, "maxPayloadBytes": 128, "maxRoutes": 2, "maxDepth": 3},
                }),
            )?,
            Self::new(
                "named",
                ["x-groesse", "to-words"],
                json!({
                    "services": [
                        {"name": "gr\u{f6}\u{df}e", "header": "x-groesse"},
                        {"name": "two words", "header": "to-words"},
                        {"name": "api"},
                    ],
                    "reportHeader": "x-routing-report",
                }),
            )?,
            // A gateway: the carrier is not a source.
            Self::new(
                "carry",
                ["microservice-a", "microservice-b"],
                json!({
                    "fromCookies": ["qa"],
                    "carry": {"baggage": "qa"},
                    "services": [{"name": "microservice-A"}, {"name": "microservice-B"}],
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 0,
                }),
            )?,
            // One policy for all hops.
            Self::new(
                "hop",
                ["x-route-api", "x-route-cart"],
                json!({
                    "fromHeaders": [{"name": "x-qa-token"}],
                    "fromBaggage": ["other", "qa"],
                    "carry": {"baggage": "qa"},
                    "claimPath": ["r\u{e9}"],
                    "headerPrefix": "x-route-",
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 1,
                }),
            )?,
            Self::new(
                "carrier-header",
                ["api", "cart"],
                json!({
                    "fromBaggage": ["qa"],
                    "carry": {"header": "x-qa-routes"},
                    "services": [{"name": "Api"}, {"name": "cart"}],
                    "reportHeader": "x-routing-report",
                    "clockSkewSeconds": 0,
                    "limits": {"maxPayloadBytes": 300},
                }),
            )?,
        ])
    }

    /// Another policy for the same tokens, which reports in another header.
    pub fn other(&self) -> Result<Self> {
        let mut config = self.config.clone();
        config["reportHeader"] = "x-other-report".into();
        Self::new(self.name, self.watched, config)
    }

    /// The filter with this policy.
    pub fn filter(&self, engine: Engine) -> Result<Value> {
        match engine {
            Engine::Wasm => {
                let module = testbed::target_dir().join("dist/routing-claims.wasm");
                anyhow::ensure!(
                    module.is_file(),
                    "cannot find {}; run `cargo xtask build --filters`",
                    module.display()
                );
                Ok(testbed::config::wasm_filter(&module, &self.config))
            }
            Engine::Lua => Ok(testbed::config::lua_filter(&lua_filter::source(&self.policy))),
            Engine::Module => Ok(testbed::config::module_filter(&testbed::module_path()?, &self.config)),
        }
    }

    /// A `RouteConfiguration` that follows the watched headers, and sends [`FORGED`] values to a cluster of their own.
    #[must_use]
    pub fn routes(&self) -> Value {
        let rule = |header: &str, matches: Value, cluster: &str| {
            json!({
                "match": {"prefix": "/", "headers": [{"name": header, "string_match": matches}]},
                "route": {"cluster": cluster},
            })
        };
        let forged = self.watched.map(|header| rule(header, json!({"prefix": FORGED}), FORGED_CLUSTER));
        let variants = self
            .watched
            .iter()
            .flat_map(|header| VARIANTS.map(|(version, cluster)| rule(header, json!({"exact": version}), cluster)));
        let default = json!({"match": {"prefix": "/"}, "route": {"cluster": MAIN}});
        let rules: Vec<_> = forged.into_iter().chain(variants).chain([default]).collect();
        json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": rules}]})
    }

    /// The cluster that the headers set by the filter lead to.
    #[must_use]
    pub fn route(&self, set: &[(&str, &[u8])]) -> &'static str {
        let variants = |header| {
            let value = set.iter().find(|(name, _)| *name == header).map(|(_, value)| value);
            VARIANTS.iter().find(|(version, _)| value == Some(&version.as_bytes())).map(|(_, cluster)| *cluster)
        };
        self.watched.iter().find_map(|header| variants(*header)).unwrap_or(MAIN)
    }

    /// Whether no client may set this header (a name in lower case).
    #[must_use]
    pub fn manages(&self, header: &[u8]) -> bool {
        self.managed.iter().any(|name| name.as_bytes() == header)
            || self.policy.config().header_prefix.as_ref().is_some_and(|prefix| header.starts_with(prefix.as_bytes()))
    }

    /// The start of a member of `baggage` that no client may send: the carrier, if it is not a source.
    #[must_use]
    pub fn forbidden_member(&self) -> Option<String> {
        let key = self.config["carry"]["baggage"].as_str()?;
        let is_source = self.config["fromBaggage"].as_array().into_iter().flatten().any(|source| source == key);
        (!is_source).then(|| format!("{key}={FORGED}"))
    }

    /// A decider with an empty cache.
    #[must_use]
    pub fn decider(&self) -> Decider {
        Decider::new(self.policy.clone())
    }

    /// The validated policy.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The headers that the policy manages by name.
    pub(crate) fn managed(&self) -> &[String] {
        &self.managed
    }

    /// A token with this payload.
    pub(crate) fn token(&self, payload: &[u8]) -> Vec<u8> {
        let segment = BASE64_URL_SAFE_NO_PAD.encode(payload);
        match self.policy.config().format {
            TokenFormat::Jwt => format!("{JOSE}.{segment}.c2ln").into_bytes(),
            TokenFormat::Payload => segment.into_bytes(),
        }
    }
}

/// The start of every forged value. A token could name this version, but none does.
pub const FORGED: &str = "FORGED";

/// The upstreams: main, the upstream of forged headers that survive, and the variants.
pub const CLUSTERS: [&str; 4] = [MAIN, FORGED_CLUSTER, "pr-1", "pr-2"];

/// The upstream of requests that no token routes elsewhere.
pub const MAIN: &str = "main";
const FORGED_CLUSTER: &str = "forged";
const VARIANTS: [(&str, &str); 2] = [("PR-1", "pr-1"), ("PR-2", "pr-2")];

/// {"alg":"none"}
const JOSE: &str = "eyJhbGciOiJub25lIn0";
