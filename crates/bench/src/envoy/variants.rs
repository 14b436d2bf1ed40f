//! The cases: filters, each with a kind of request.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use routing_claims::Policy;
use routing_plan::token_source::VERIFIED_PAYLOAD;
use serde_json::{Value, json};
use testbed::{config, workspace_dir};

use super::tokens::{ISSUER, Key};

/// The filter before the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FilterKind {
    None,
    EmptyWasm,
    CallsWasm,
    Wasm,
    /// Another build of the WASM filter or of the native module.
    Other,
    NaiveWasm,
    EmptyLua,
    CallsLua,
    Lua,
    NaiveLua,
    EmptyModule,
    Module,
    JwtAuthnCached,
    JwtAuthn,
    /// The filters with `carry`: the choice goes to `baggage`.
    CarryWasm,
    CarryLua,
    CarryModule,
    /// `filter.verify: outbound`: `jwt_authn` and the WASM filter, which reads the payload that it has verified.
    Verified,
}

/// The tokens of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tokens {
    /// One token, which the filter has seen before.
    Same,
    /// More tokens than any cache holds, in turn.
    Distinct,
}

/// One kind of request through one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) filter: FilterKind,
    pub(super) tokens: Tokens,
    /// How many services the policy names; the token names two of them.
    pub(super) services: usize,
    /// Header lines of the request.
    pub(super) headers: usize,
    pub(super) token_bytes: usize,
}

/// Two services, ten header lines, a token of common size.
pub(super) const REFERENCE: Case =
    Case { filter: FilterKind::None, tokens: Tokens::Same, services: 2, headers: 10, token_bytes: 751 };
pub(super) const SERVICES: [usize; 3] = [2, 20, 100];
pub(super) const HEADERS: [usize; 2] = [10, 80];
pub(super) const TOKEN_BYTES: [usize; 4] = [512, 751, 2048, 8000];

/// The rows of the main table.
pub(super) fn table() -> Vec<Case> {
    use FilterKind::{
        CallsLua, CallsWasm, CarryLua, CarryModule, CarryWasm, EmptyLua, EmptyModule, EmptyWasm, JwtAuthn,
        JwtAuthnCached, Lua, Module, NaiveLua, NaiveWasm, None, Verified, Wasm,
    };
    use Tokens::{Distinct, Same};
    [
        (None, Same),
        (EmptyWasm, Same),
        (CallsWasm, Same),
        (Wasm, Same),
        (Wasm, Distinct),
        (CarryWasm, Same),
        (CarryWasm, Distinct),
        (NaiveWasm, Same),
        (NaiveWasm, Distinct),
        (EmptyLua, Same),
        (CallsLua, Same),
        (Lua, Same),
        (Lua, Distinct),
        (CarryLua, Same),
        (CarryLua, Distinct),
        (NaiveLua, Same),
        (NaiveLua, Distinct),
        (EmptyModule, Same),
        (Module, Same),
        (Module, Distinct),
        (CarryModule, Same),
        (CarryModule, Distinct),
        (JwtAuthnCached, Same),
        (JwtAuthn, Same),
        (Verified, Same),
        (Verified, Distinct),
    ]
    .map(|(filter, tokens)| Case { filter, tokens, ..REFERENCE })
    .to_vec()
}

/// All cases, each once. They include the case without a filter for each kind of request.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = table();
    let rows = table();
    let ours =
        || rows.iter().filter(|case| matches!(case.filter, FilterKind::Wasm | FilterKind::Lua | FilterKind::Module));
    let no_filter = || rows.iter().filter(|case| case.filter == FilterKind::None);
    for services in SERVICES {
        cases.extend(ours().map(|case| Case { services, ..*case }));
    }
    for headers in HEADERS {
        cases.extend(no_filter().chain(ours()).map(|case| Case { headers, ..*case }));
    }
    for token_bytes in TOKEN_BYTES {
        let only_reference = [
            FilterKind::CarryWasm,
            FilterKind::CarryLua,
            FilterKind::CarryModule,
            FilterKind::Verified,
            FilterKind::EmptyWasm,
            FilterKind::CallsWasm,
            FilterKind::EmptyLua,
            FilterKind::CallsLua,
            FilterKind::EmptyModule,
        ];
        cases.extend(
            rows.iter().filter(|case| !only_reference.contains(&case.filter)).map(|case| Case { token_bytes, ..*case }),
        );
    }
    let mut seen = Vec::new();
    cases.retain(|case| {
        !seen.contains(case) && {
            seen.push(*case);
            true
        }
    });
    cases
}

impl Case {
    /// The same request without a filter.
    pub(super) fn baseline(self) -> Self {
        Self { filter: FilterKind::None, tokens: Tokens::Same, services: REFERENCE.services, ..self }
    }

    /// The expected body of the answer, which names the version. It shows whether the filter set the header.
    pub(super) fn body(self) -> &'static [u8] {
        match self.filter {
            FilterKind::None | FilterKind::EmptyWasm | FilterKind::EmptyLua | FilterKind::EmptyModule => b"main",
            _ => b"PR-1",
        }
    }

    /// Its label in tables and plots.
    pub(super) fn label(self) -> String {
        let tokens = match (self.filter, self.tokens) {
            (
                FilterKind::Wasm
                | FilterKind::Other
                | FilterKind::Lua
                | FilterKind::Module
                | FilterKind::CarryWasm
                | FilterKind::CarryLua
                | FilterKind::CarryModule
                | FilterKind::Verified
                | FilterKind::NaiveWasm
                | FilterKind::NaiveLua,
                Tokens::Same,
            ) => ", one token",
            (_, Tokens::Same) => "",
            (_, Tokens::Distinct) => ", all tokens different",
        };
        format!("{}{tokens}", self.filter.label())
    }
}

impl FilterKind {
    /// The filter whose build a file is.
    pub(super) fn like(file: &Path) -> Self {
        if file.extension().is_some_and(|extension| extension == "wasm") { Self::Wasm } else { Self::Module }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::EmptyWasm => "empty WASM",
            Self::CallsWasm => "host calls alone, WASM",
            Self::Wasm => "routing-claims.wasm",
            Self::Other => "the other build",
            Self::NaiveWasm => "naive WASM (SDK, serde_json)",
            Self::EmptyLua => "empty Lua",
            Self::CallsLua => "host calls alone, Lua",
            Self::Lua => "routing-claims.lua",
            Self::NaiveLua => "naive Lua",
            Self::EmptyModule => "empty native module",
            Self::Module => "native module",
            Self::JwtAuthnCached => "jwt_authn, token cache",
            Self::JwtAuthn => "jwt_authn",
            Self::CarryWasm => "routing-claims.wasm, carry",
            Self::CarryLua => "routing-claims.lua, carry",
            Self::CarryModule => "native module, carry",
            Self::Verified => "jwt_authn and routing-claims.wasm (verify: outbound)",
        }
    }

    /// The HTTP filters of a listener. `instance` gives equal WASM filters separate virtual machines.
    pub(super) fn config(self, services: usize, instance: &str, sources: &Sources) -> Result<Vec<Value>> {
        let mut policy = policy(services);
        if matches!(self, Self::CarryWasm | Self::CarryLua | Self::CarryModule) {
            policy["fromBaggage"] = json!(["qa"]);
            policy["carry"] = json!({"baggage": "qa"});
        }
        let wasm_with = |module: &Path, policy: &Value| {
            let mut filter = config::wasm_filter(module, policy);
            filter["typed_config"]["config"]["vm_config"]["vm_id"] = json!(instance);
            filter
        };
        let wasm = |module: &Path| wasm_with(module, &policy);
        let bench = |name: &str| workspace_dir().join("crates/bench/filters").join(name);
        let lua = |name| -> Result<_> {
            let file = bench(name);
            Ok(config::lua_filter(
                &fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?,
            ))
        };
        let wat = |name: &str| -> Result<_> {
            let module = sources.dir.join(name).with_extension("wasm");
            fs::write(&module, wat::parse_file(bench(name))?)?;
            Ok(wasm(&module))
        };
        Ok(vec![match self {
            Self::None => return Ok(Vec::new()),
            Self::EmptyWasm => wat("empty.wat")?,
            Self::CallsWasm => wat("calls.wat")?,
            Self::Wasm | Self::CarryWasm => wasm(&sources.wasm),
            Self::Other => {
                let other = sources.other.as_deref().context("no other build was given")?;
                if Self::like(other) == Self::Wasm { wasm(other) } else { config::module_filter(other, &policy) }
            }
            Self::NaiveWasm => wasm(&sources.naive_wasm),
            Self::EmptyLua => lua("empty.lua")?,
            Self::CallsLua => lua("calls.lua")?,
            Self::Lua | Self::CarryLua => {
                config::lua_filter(&lua_filter::source(&Policy::from_json(policy.to_string().as_bytes())?))
            }
            Self::NaiveLua => lua("naive.lua")?,
            Self::EmptyModule => config::module_filter(&sources.empty_module, &policy),
            Self::Module | Self::CarryModule => config::module_filter(&sources.module, &policy),
            Self::JwtAuthnCached => jwt_authn(&sources.key.jwks, &json!({})),
            Self::JwtAuthn => jwt_authn(&sources.key.jwks, &Value::Null),
            Self::Verified => {
                let mut verified = policy.clone();
                verified["fromHeaders"] = json!([{"name": VERIFIED_PAYLOAD}]);
                verified["format"] = json!("payload");
                return Ok(vec![verification(&sources.key.jwks), wasm_with(&sources.wasm, &verified)]);
            }
        }])
    }
}

/// The modules and keys that filters need.
pub(super) struct Sources {
    pub(super) wasm: PathBuf,
    /// Another build of the filter, to compare with.
    pub(super) other: Option<PathBuf>,
    pub(super) naive_wasm: PathBuf,
    pub(super) module: PathBuf,
    pub(super) empty_module: PathBuf,
    pub(super) key: Key,
    /// For files that Envoy reads.
    pub(super) dir: PathBuf,
}

/// Routes. A request with the token's version takes the first one. Envoy answers directly, so that connections to upstreams
/// are not measured.
pub(super) fn routes() -> Value {
    let answer = |version: &str| json!({"status": 200, "body": {"inline_string": version}});
    let headers = json!([{"name": "microservice-a", "string_match": {"exact": "PR-1"}}]);
    json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/", "headers": headers}, "direct_response": answer("PR-1")},
        {"match": {"prefix": "/"}, "direct_response": answer("main")},
    ]}]})
}

/// A policy with this many services. The two of the token are the first and the last.
fn policy(services: usize) -> Value {
    let name = |index| match index {
        0 => "microservice-A".to_owned(),
        _ if index == services - 1 => "microservice-B".to_owned(),
        _ => format!("microservice-A{index}"),
    };
    json!({"services": (0..services).map(|index| json!({"name": name(index)})).collect::<Vec<_>>()})
}

/// Envoy's own filter with the same job: it sets headers from claims and clears the route cache.
fn jwt_authn(jwks: &Value, cache: &Value) -> Value {
    let claims = ["A", "B"].map(|name| {
        json!({"header_name": format!("microservice-{}", name.to_lowercase()), "claim_name": format!("microservice-{name}")})
    });
    let provider = json!({"claim_to_headers": claims, "clear_route_cache": true, "jwt_cache_config": cache});
    jwt_filter(jwks, provider, &json!({"provider_name": PROVIDER}))
}

/// What `manifest-gen render` puts before the filter with `verify: outbound`.
fn verification(jwks: &Value) -> Value {
    let provider = json!({
        "forward_payload_header": VERIFIED_PAYLOAD,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "jwt_cache_config": {"jwt_cache_size": 32},
    });
    let requirements = json!([{"provider_name": PROVIDER}, {"allow_missing_or_failed": {}}]);
    jwt_filter(jwks, provider, &json!({"requires_any": {"requirements": requirements}}))
}

/// Envoy's `jwt_authn` with one provider, which knows these keys and leaves the token in the request.
fn jwt_filter(jwks: &Value, mut provider: Value, requires: &Value) -> Value {
    provider["issuer"] = json!(ISSUER);
    provider["local_jwks"] = json!({"inline_string": jwks.to_string()});
    provider["forward"] = json!(true);
    json!({
        "name": "jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {PROVIDER: provider},
            "rules": [{"match": {"prefix": "/"}, "requires": requires}],
        },
    })
}

const PROVIDER: &str = "bench";
