//! The request handle of [`lua_harness`] behaves as a real Envoy's, and the script keeps R15 there however it is configured.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::net::{Ipv4Addr, SocketAddr};

use lua_harness::{Lines, Script, borrowed};
use routing_claims::{Policy, PolicyConfig, ServiceConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    Envoy,
    client::Http1,
    config,
    echo::{self, Echo, Seen},
};

#[tokio::test]
async fn the_handle_is_as_envoys() {
    let script = include_str!("probe.lua");
    let envoy = TestEnvoy::start(&[config::lua_filter(script)]).await;
    let handle = Script::new(script).unwrap();
    let request = lines(&[
        ("t-one", b"1"),
        ("t-two", b"a"),
        ("cookie", b"c=1; d"),
        ("T-Two", b"b,c"),
        ("t-empty", b""),
        ("t-empties", b""),
        ("t-empties", b""),
        ("t-bytes", b"\x80\xff"),
        ("cookie", b"e=2"),
    ]);
    let (_, seen) = envoy.send(&request).await;
    let expected = report(&seen);
    let got = report(&handle.run(borrowed(&request), 1_700_000_000).unwrap().headers);
    for (got, expected) in got.split("; ").zip(expected.split("; ")) {
        assert_eq!(got, expected);
    }
    assert_eq!(got, expected);
    assert!(expected.split("; ").count() > 80, "{expected}");

    let request = lines(&[("t-break-off", b"1")]);
    let (_, seen) = envoy.send(&request).await;
    let got = handle.run(borrowed(&request), 1_700_000_000).unwrap().headers;
    assert_eq!((tested(&seen), tested(&got)), (request.clone(), request));
}

/// Which calls have Envoy clear the route cache: what [`lua_harness::Processed`] tells of a script.
#[tokio::test]
async fn edits_clear_the_route_cache_unless_configured_not_to() {
    let script = "
        local calls = {
          nothing = function() end,
          ['reads'] = function(_, headers) headers:get('t-one') headers:getNumValues('t-one') headers:getAtIndex('t-one', 0) end,
          ['walk'] = function(_, headers) for _ in pairs(headers) do end end,
          ['remove'] = function(_, headers) headers:remove('t-one') end,
          ['remove of none'] = function(_, headers) headers:remove('t-none') end,
          ['replace'] = function(_, headers) headers:replace('t-one', '1') end,
          ['add'] = function(_, headers) headers:add('t-none', '1') end,
          ['failed edit'] = function(_, headers) for _ in pairs(headers) do pcall(headers.remove, headers, 't-one') end end,
          ['clear'] = function(handle) handle:clearRouteCache() end,
        }
        function envoy_on_request(handle)
          local headers = handle:headers()
          calls[headers:get('t-call')](handle, headers)
        end";
    let handle = Script::new(script).unwrap();
    for automatic in [None, Some(true), Some(false)] {
        let envoy = TestEnvoy::start(&[late_header(), lua_filter(script, automatic)]).await;
        for call in ["nothing", "reads", "walk", "remove", "remove of none", "replace", "add", "failed edit", "clear"] {
            let request = lines(&[("t-one", b"1"), ("t-call", call.as_bytes())]);
            let answer = handle.run(borrowed(&request), 0).unwrap();
            let expected = answer.cleared || automatic != Some(false) && answer.edited;
            assert_eq!(envoy.send(&request).await.0, expected, "{call}, clear_route_cache: {automatic:?}");
        }
    }
}

/// R15, and R1 on the way.
#[tokio::test]
async fn the_script_clears_the_route_cache_when_it_changed_a_header() {
    let service = |name: &str| ServiceConfig { name: name.into(), header: None };
    let policy = PolicyConfig { services: Some(vec![service("api"), service("shop")]), ..PolicyConfig::default() };
    let many = (0..100).map(|index| service(&format!("service-{index}"))).chain([service("api")]).collect();
    let open = PolicyConfig {
        claim_path: vec!["routes".into()],
        header_prefix: Some("to-".into()),
        ..PolicyConfig::default()
    };
    for policy in [policy, PolicyConfig { services: Some(many), ..PolicyConfig::default() }, open] {
        let managed = if policy.header_prefix.is_some() { "to-api" } else { "api" };
        let script = lua_filter::source(&Policy::new(policy).unwrap());
        for automatic in [None, Some(true), Some(false)] {
            let envoy = TestEnvoy::start(&[late_header(), lua_filter(&script, automatic)]).await;
            // {"api":"PR-1","routes":{"api":"PR-1"}}
            let token: &[u8] = b"Bearer e30.eyJhcGkiOiJQUi0xIiwicm91dGVzIjp7ImFwaSI6IlBSLTEifX0.s";
            for (spoofed, token, expected) in [
                (None, None, (false, vec![])),
                (Some(managed), None, (true, vec![])),
                (None, Some(token), (true, vec![&b"PR-1"[..]])),
                (Some(managed), Some(token), (true, vec![b"PR-1"])),
                (None, Some(b"Bearer x"), (false, vec![])),
                (Some("t-api"), Some(b"Basic x"), (false, vec![])),
            ] {
                let spoofed = spoofed.map(|name| (name, b"PR-9".as_slice()));
                let token = token.map(|value| ("authorization", value));
                let request: Vec<_> = spoofed.into_iter().chain(spoofed).chain(token).collect();
                let (rerouted, seen) = envoy.send(&lines(&request)).await;
                let found: Vec<_> =
                    seen.iter().filter(|(name, _)| name == managed.as_bytes()).map(|(_, value)| &**value).collect();
                assert_eq!((rerouted, found), expected, "{request:?}, clear_route_cache: {automatic:?}");
            }
            assert!(!envoy.process.log().unwrap().contains("script log"), "the script raised or logged something");
        }
    }
}

/// An Envoy with two upstreams. A first filter adds a header that leads to the second upstream if the route is recomputed.
struct TestEnvoy {
    process: Envoy,
    address: SocketAddr,
    _upstreams: [Echo; 2],
    _folder: TempDir,
}

impl TestEnvoy {
    async fn start(filters: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstreams = [echo::serve("first").await.unwrap(), echo::serve("second").await.unwrap()];
        let clusters = [config::cluster("first", upstreams[0].addr()), config::cluster("second", upstreams[1].addr())];
        let routes = json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/", "headers": [{"name": "late", "present_match": true}]}, "route": {"cluster": "second"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "first"}},
        ]}]});
        let binary = testbed::locate(|line| println!("{line}")).await.unwrap();
        let bootstrap = config::bootstrap(&[config::listener("in", filters, &routes)], &clusters);
        let process = Envoy::start(&binary, "lua", bootstrap, folder.path()).await.unwrap();
        let address = (Ipv4Addr::LOCALHOST, process.listener_port("in").await.unwrap()).into();
        Self { process, address, _upstreams: upstreams, _folder: folder }
    }

    /// Whether the route was recomputed, and the header lines that arrived.
    async fn send(&self, request: &Lines) -> (bool, Lines) {
        let response = Http1::connect(self.address).await.unwrap().get("a.example", "/", request).await.unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let rerouted = response.header("x-upstream") == Some(b"second");
        (rerouted, Seen::from_body(&response.body).unwrap().headers)
    }
}

fn lua_filter(script: &str, clear_route_cache: Option<bool>) -> Value {
    let mut filter = config::lua_filter(script);
    if let Some(clear) = clear_route_cache {
        filter["typed_config"]["clear_route_cache"] = clear.into();
    }
    filter
}

fn late_header() -> Value {
    lua_filter("function envoy_on_request(handle) handle:headers():replace('late', '1') end", Some(false))
}

fn lines(of: &[(&str, &[u8])]) -> Lines {
    of.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

fn tested(lines: &Lines) -> Lines {
    lines.iter().filter(|(name, _)| name.starts_with(b"t-")).cloned().collect()
}

fn report(lines: &Lines) -> String {
    let report = lines.iter().find(|(name, _)| name == b"t-report").unwrap();
    String::from_utf8(report.1.clone()).unwrap()
}
