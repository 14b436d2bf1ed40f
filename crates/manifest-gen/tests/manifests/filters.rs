//! What `explain` says of filters: of this project's, and of what others have put on the way of a request.

use std::collections::BTreeMap;

use routing_plan::explain::{ExplainRequest, Explanation, explain};

use crate::read;

const POLICY: &str = r#"{"services":[{"name":"a"}]}"#;

/// An `EnvoyFilter` of this project with another match or policy.
fn own(matches: &str, policy: &str) -> String {
    let value = "{typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}";
    format!(
        "kind: EnvoyFilter\nmetadata: {{name: own, namespace: istio-system, annotations: {{routing-claims.dev/policy: \
         '{policy}'}}}}\nspec: {{configPatches: [{{applyTo: HTTP_FILTER, match: {{{matches}}}, patch: {{operation: \
         INSERT_FIRST, value: {value}}}}}]}}\n---\n"
    )
}

fn explained(manifests: &str, gateway: Option<&str>) -> Explanation {
    explained_on(manifests, gateway, None)
}

fn explained_on(manifests: &str, gateway: Option<&str>, port: Option<u16>) -> Explanation {
    let request = ExplainRequest {
        host: "a.a.svc.cluster.local".into(),
        path: "/".into(),
        method: "GET".into(),
        headers: Vec::new(),
        port,
        scheme: Some("http".into()),
        gateway: gateway.map(str::to_owned),
        namespace: Some("shop".into()).filter(|_| gateway.is_none()),
        labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
    };
    explain(&read(manifests), &request, 0)
}

fn assumed(manifests: &str, gateway: Option<&str>) -> Vec<String> {
    explained(manifests, gateway).assumed.into_iter().map(|caveat| caveat.message).collect()
}

#[test]
fn filters_of_others_may_change_a_request() {
    let other = |kind: &str, namespace: &str, spec: &str| {
        format!("kind: {kind}\nmetadata: {{name: x, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n")
    };
    let patch = |context: &str| format!("configPatches: [{{applyTo: HTTP_FILTER, match: {{{context}}}}}]");
    let (web, api) = ("{matchLabels: {app: web}}", "{matchLabels: {app: api}}");
    for (manifest, at_workload, at_gateway) in [
        (other("EnvoyFilter", "shop", &patch("")), true, true),
        (other("EnvoyFilter", "istio-system", &patch("context: SIDECAR_OUTBOUND")), true, false),
        (other("EnvoyFilter", "shop", &patch("context: SIDECAR_INBOUND")), false, false),
        (other("EnvoyFilter", "shop", &patch("context: GATEWAY")), false, true),
        (other("EnvoyFilter", "elsewhere", &patch("context: SIDECAR_OUTBOUND")), false, false),
        (other("EnvoyFilter", "shop", "configPatches: [{applyTo: BOOTSTRAP}]"), false, false),
        (
            other("EnvoyFilter", "shop", &format!("workloadSelector: {{labels: {{app: api}}}}, {}", patch(""))),
            false,
            false,
        ),
        (other("WasmPlugin", "shop", &format!("selector: {web}")), true, true),
        (other("WasmPlugin", "shop", &format!("selector: {api}")), false, false),
        (other("WasmPlugin", "shop", "match: [{mode: SERVER}]"), false, false),
        (other("WasmPlugin", "shop", "targetRefs: [{kind: Gateway, name: public}]"), false, false),
        (other("TrafficExtension", "istio-system", "lua: {inlineCode: x}"), true, true),
        // Of the destination, or of the gateway: a policy is about inbound requests.
        (other("AuthorizationPolicy", "a", "action: DENY"), true, true),
        (other("AuthorizationPolicy", "shop", &format!("selector: {web}")), false, true),
    ] {
        for (gateway, expected) in [(None, at_workload), (Some("shop/public"), at_gateway)] {
            let assumed = assumed(&manifest, gateway);
            assert_eq!(assumed.len(), usize::from(expected), "{manifest} {gateway:?} {assumed:?}");
            assert!(assumed.iter().all(|one| one.contains("x, which may change this request")), "{assumed:?}");
        }
    }
}

#[test]
fn a_filter_counts_where_it_runs() {
    let filter = |matches: &str, gateway: Option<&str>| explained(&own(matches, POLICY), gateway).filter.is_some();
    let old = "listener: {filterChain: {filter: {name: envoy.http_connection_manager}}}";
    for (matches, at_workload, at_gateway) in [
        ("context: SIDECAR_OUTBOUND".to_owned(), true, false),
        ("context: GATEWAY".to_owned(), false, true),
        ("context: SIDECAR_INBOUND".to_owned(), false, false),
        (format!("context: SIDECAR_OUTBOUND, {old}"), false, false),
    ] {
        assert_eq!(
            (filter(&matches, None), filter(&matches, Some("shop/public"))),
            (at_workload, at_gateway),
            "{matches}"
        );
    }
}

#[test]
fn conditions_of_a_filter_are_assumed_to_hold() {
    for (condition, path) in [
        ("proxy: {proxyVersion: 1.27.*}", "spec.configPatches[0].match.proxy"),
        ("listener: {portNumber: 8080}", "spec.configPatches[0].match.listener.portNumber"),
        ("listener: {filterChain: {sni: a.b}}", "spec.configPatches[0].match.listener.filterChain.sni"),
    ] {
        let assumed = assumed(&own(&format!("context: SIDECAR_OUTBOUND, {condition}"), POLICY), None);
        assert_eq!(assumed.last().unwrap(), &format!("`{path}` holds for this request"));
    }
}

#[test]
fn a_filter_for_some_ports_is_on_their_listeners() {
    let plugin = |matches: &str| {
        format!(
            "kind: WasmPlugin\nmetadata: {{name: own, namespace: istio-system}}\nspec: {{url: file:///f.wasm, match: \
             [{matches}], pluginConfig: {POLICY}}}\n---\n"
        )
    };
    let envoy_filter = own("context: SIDECAR_OUTBOUND, listener: {portNumber: 8080}", POLICY);
    for (manifests, path) in [
        (envoy_filter, "spec.configPatches[0].match.listener.portNumber"),
        (plugin("{mode: CLIENT, ports: [{number: 9090}]}, {ports: [{number: 8080}]}"), "spec.match[0].ports"),
    ] {
        let on = |port| explained_on(&manifests, None, port);
        let condition = format!("`{path}` holds for this request");
        let is_assumed = |explanation: &Explanation| explanation.assumed.iter().any(|one| one.message == condition);
        assert!(on(Some(8080)).filter.is_some() && !is_assumed(&on(Some(8080))), "{manifests}");
        assert!(on(Some(80)).filter.is_none(), "{manifests}");
        assert!(is_assumed(&on(None)), "{manifests}");
    }
    let everywhere = plugin("{ports: [{number: 8080}]}, {mode: CLIENT}");
    assert!(explained_on(&everywhere, None, Some(80)).filter.is_some());
}

#[test]
fn a_filter_beside_one_that_no_proxy_has_is_nowhere() {
    let beside = |name: &str| {
        let chain = format!(
            "filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: {name}}}}}}}"
        );
        own(&format!("context: SIDECAR_OUTBOUND, listener: {{{chain}}}"), POLICY)
    };
    assert!(explained(&beside("envoy.filters.http.router"), None).filter.is_some());
    assert!(explained(&beside("envoy.filters.http.rooter"), None).filter.is_none());
    let path = "spec.configPatches[0].match.listener.filterChain.filter.subFilter.name";
    assert_eq!(assumed(&beside("corp.quota"), None).last().unwrap(), &format!("`{path}` holds for this request"));
}

#[test]
fn what_a_filter_without_a_valid_policy_decides_is_unknown() {
    let explanation = explained(&own("context: SIDECAR_OUTBOUND", r#"{"service":[]}"#), None);
    assert_eq!(explanation.filter.as_deref(), Some("EnvoyFilter istio-system/own"));
    let [unknown] = &explanation.unknown[..] else { panic!("{explanation:?}") };
    assert_eq!(unknown.message, "what EnvoyFilter istio-system/own decides: its policy is not valid");
    let path = unknown.location.as_ref().unwrap().path.to_string();
    assert_eq!(path, r#"metadata.annotations["routing-claims.dev/policy"]"#);
}
