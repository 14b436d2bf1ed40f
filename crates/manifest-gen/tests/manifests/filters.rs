//! What `explain` says of filters: of this project's, and of what others have put on the way of a request.

use std::collections::BTreeMap;

use routing_plan::explain::{Caveat, ExplainRequest, Explanation, MeshFacts, explain};

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
    explain(&read(manifests), &request(gateway, port), 0)
}

fn request(gateway: Option<&str>, port: Option<u16>) -> ExplainRequest {
    ExplainRequest {
        host: "a.a.svc.cluster.local".into(),
        path: "/".into(),
        method: "GET".into(),
        headers: Vec::new(),
        port,
        scheme: Some("http".into()),
        gateway: gateway.map(str::to_owned),
        namespace: Some("shop".into()).filter(|_| gateway.is_none()),
        labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
        mesh: MeshFacts::default(),
    }
}

/// Whether a request passes a filter of this project in a proxy of Istio 1.31.0, if that is certain.
fn is_filtered(manifests: &str, request: &ExplainRequest) -> Option<bool> {
    let mesh = MeshFacts { istio_version: Some("1.31.0".into()), ..request.mesh.clone() };
    let explanation = explain(&read(manifests), &ExplainRequest { mesh, ..request.clone() }, 0);
    let is_open = explanation.assumed.iter().any(|one| one.message.contains("holds for this request"));
    (!is_open).then_some(explanation.filter.is_some())
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
    for (condition, path, option) in [
        ("proxy: {proxyVersion: 1.27.*}", "spec.configPatches[0].match.proxy.proxyVersion", " (--istio-version)"),
        ("proxy: {metadata: {ROLE: web}}", "spec.configPatches[0].match.proxy.metadata", ""),
        ("listener: {portNumber: 8080}", "spec.configPatches[0].match.listener.portNumber", " (--port)"),
        ("listener: {portNumber: 15001}", "spec.configPatches[0].match.listener.portNumber", ""),
        ("listener: {filterChain: {sni: a.b}}", "spec.configPatches[0].match.listener.filterChain.sni", ""),
    ] {
        let assumed = assumed(&own(&format!("context: SIDECAR_OUTBOUND, {condition}"), POLICY), None);
        assert_eq!(assumed.last().unwrap(), &format!("`{path}` holds for this request{option}"));
    }
}

/// As Go's `regexp.MatchString`: anywhere in the version.
#[test]
fn a_filter_for_some_versions_is_in_their_proxies() {
    let sent = request(None, None);
    let with = |regex: &str| own(&format!("context: SIDECAR_OUTBOUND, proxy: {{proxyVersion: '{regex}'}}"), POLICY);
    for (regex, expected) in [
        (r"^1\.31.*", Some(true)),
        (r"1\.31", Some(true)),
        ("31", Some(true)),
        (r"^1\.30.*", Some(false)),
        (r"^31", Some(false)),
        (r"1\.31$", Some(false)),
        (r"\C", None),
    ] {
        assert_eq!(is_filtered(&with(regex), &sent), expected, "{regex}");
    }
    // A patch for each of two versions, as a chart has them.
    let patch = with(r"^1\.30.*").split_once("configPatches: [").unwrap().1.replace("]}\n---\n", "");
    let both = with(r"^1\.31.*").replace("configPatches: [", &format!("configPatches: [{patch}, "));
    assert_eq!(both.matches("proxyVersion").count(), 2);
    assert_eq!(is_filtered(&both, &sent), Some(true));
}

/// The port of its Service is not the one that a gateway's proxy listens on.
#[test]
fn a_filter_for_a_port_of_a_gateway_is_on_the_target_port() {
    let filter = own("context: GATEWAY, listener: {portNumber: 8080}", POLICY);
    let service = |ports: &str| {
        format!(
            "kind: Service\nmetadata: {{name: gateway, namespace: edge}}\nspec: {{selector: {{app: web}}, ports: [{ports}]}}\n---\n"
        )
    };
    let asked = |port| request(Some("shop/public"), Some(port));
    for (ports, port, expected) in [
        ("{port: 80, targetPort: 8080}", 80, Some(true)),
        ("{port: 80, targetPort: http}", 80, None),
        ("{port: 80, targetPort: 8081}, {port: 8080}", 80, Some(false)),
        ("{port: 80, targetPort: 8081}, {port: 8080}", 8080, Some(true)),
        ("{port: 443}", 80, None),
    ] {
        assert_eq!(is_filtered(&(filter.clone() + &service(ports)), &asked(port)), expected, "{ports} {port}");
    }
    let all = MeshFacts { is_complete: true, ..MeshFacts::default() };
    let asked = ExplainRequest { mesh: all, ..asked(8080) };
    assert_eq!(is_filtered(&(filter + &service("{port: 443}")), &asked), Some(true));
}

#[test]
fn a_patch_that_is_elsewhere_does_not_change_a_request() {
    let foreign = |patch: &str| {
        format!(
            "kind: EnvoyFilter\nmetadata: {{name: x, namespace: shop}}\nspec: {{configPatches: [{{{patch}}}]}}\n---\n"
        )
    };
    let sub_filter = |name: &str| {
        format!(
            "applyTo: HTTP_FILTER, match: {{listener: {{filterChain: {{filter: {{subFilter: {{name: {name}}}}}}}}}}}"
        )
    };
    let sent = ExplainRequest {
        mesh: MeshFacts { istio_version: Some("1.31.0".into()), ..MeshFacts::default() },
        ..request(None, Some(8080))
    };
    for (patch, may_change) in [
        ("applyTo: HTTP_FILTER, match: {listener: {portNumber: 8080}}", true),
        ("applyTo: HTTP_FILTER, match: {listener: {portNumber: 9090}}", false),
        // Not a match of routes, so it counts for nothing.
        ("applyTo: VIRTUAL_HOST, match: {listener: {portNumber: 9090}}", true),
        ("applyTo: VIRTUAL_HOST, match: {routeConfiguration: {portNumber: 9090}}", false),
        ("applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {name: 'b.a.svc.cluster.local:8080'}}}", false),
        ("applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {name: 'a.a.svc.cluster.local:8080'}}}", true),
        ("applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {name: '*.a.svc.cluster.local:8080'}}}", true),
        ("applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {name: allow_any}}}", true),
        ("applyTo: CLUSTER, match: {cluster: {service: b.a.svc.cluster.local}}", false),
        ("applyTo: CLUSTER, match: {cluster: {service: a.a.svc.cluster.local}}", true),
        (r"applyTo: NETWORK_FILTER, match: {proxy: {proxyVersion: '^1\.30'}}", false),
        (r"applyTo: NETWORK_FILTER, match: {proxy: {proxyVersion: '^1\.31'}}", true),
        (&sub_filter("envoy.router"), false),
        (&sub_filter("envoy.filters.http.router"), true),
    ] {
        let assumed = explain(&read(&foreign(patch)), &sent, 0).assumed;
        assert_eq!(assumed.len(), usize::from(may_change), "{patch} {assumed:?}");
    }
}

/// A gateway answers 401 to a token that it does not accept, and may remove one that it does.
#[test]
fn a_gateway_that_verifies_tokens_is_named() {
    let authentication = |namespace: &str, rule: &str| {
        format!(
            "kind: RequestAuthentication\nmetadata: {{name: jwt, namespace: {namespace}}}\nspec: {{jwtRules: [{{{rule}}}]}}\n---\n"
        )
    };
    let with = |header: (&str, &str), gateway| ExplainRequest {
        headers: vec![(header.0.into(), header.1.into())],
        ..request(gateway, None)
    };
    // The payload `{"iss":"x"}`.
    let token = ("authorization", "Bearer e30.eyJpc3MiOiJ4In0.");
    let forwards = "issuer: x, forwardOriginalToken: true";
    let at_gateway = Some("shop/public");
    for (namespace, rule, header, gateway, expected) in [
        ("istio-system", forwards, token, at_gateway, (1, 0)),
        ("istio-system", "issuer: x", token, at_gateway, (1, 1)),
        ("istio-system", forwards, ("authorization", "Basic eA=="), at_gateway, (0, 0)),
        ("istio-system", forwards, ("authorization", "bearer e30.e30."), at_gateway, (0, 0)),
        ("istio-system", forwards, ("x-token", "e30.e30."), at_gateway, (0, 0)),
        ("istio-system", "fromHeaders: [{name: X-Token}]", ("x-token", "e30.e30."), at_gateway, (1, 0)),
        ("istio-system", "fromCookies: [t]", token, at_gateway, (0, 0)),
        // At a workload it is about inbound requests: those of the destination.
        ("a", forwards, token, None, (1, 0)),
        ("b", forwards, token, None, (0, 0)),
    ] {
        // After the check, in the place of the rendered one.
        let filter = beside("envoy.filters.http.router").replace("INSERT_FIRST", "INSERT_BEFORE");
        let filter = filter.replace("SIDECAR_OUTBOUND", "ANY");
        let explanation = explain(&read(&(filter + &authentication(namespace, rule))), &with(header, gateway), 0);
        let accepts = |one: &&Caveat| one.message.contains("accepts the token");
        let found = (explanation.assumed.iter().filter(accepts).count(), explanation.unknown.len());
        assert_eq!(found, expected, "{namespace} {rule} {header:?}");
    }
    // Before the check, the token is there.
    let early = own("context: ANY", POLICY) + &authentication("istio-system", "issuer: x");
    assert_eq!(explain(&read(&early), &with(token, at_gateway), 0).unknown, []);
}

/// What Istio and Envoy are known to refuse does not reach the filter, and what they verify reaches it as a payload.
#[test]
fn a_token_is_verified_before_the_filter() {
    let policy = r#"{"services":[{"name":"a"}],"fromHeaders":[{"name":"x-payload"}],"format":"payload"}"#;
    let gateway = |rules: &str| {
        let authentication = format!(
            "kind: RequestAuthentication\nmetadata: {{name: jwt, namespace: istio-system}}\nspec: {{jwtRules: [{rules}]}}\n---\n"
        );
        let chain = "{filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}";
        let filter = own(&format!("context: GATEWAY, listener: {{filterChain: {chain}}}"), policy);
        read(&(filter.replace("INSERT_FIRST", "INSERT_BEFORE") + &authentication))
    };
    let bearer =
        |payload: &str| format!("Bearer {}", manifest_gen::token::unsigned(&serde_json::from_str(payload).unwrap()));
    let (mine, both) = (
        r#""a":"1","iss":"x""#,
        "{issuer: x, outputPayloadToHeader: x-payload, audiences: [qa]}, {issuer: z, outputPayloadToHeader: x-payload}",
    );
    let forged = ("x-payload".to_owned(), "eyJhIjoiMSJ9".to_owned());
    for (payload, expected) in [
        (format!(r#"{{{mine},"aud":"qa"}}"#), Ok("applied")),
        (format!(r#"{{{mine},"aud":["other","qa"],"exp":-59}}"#), Ok("applied")),
        (r#"{"a":"1","iss":"z"}"#.to_owned(), Ok("applied")),
        (
            format!("{{{mine}}}"),
            Err("403: RequestAuthentication istio-system/jwt accepts no token that is for another audience"),
        ),
        (
            r#"{"a":"1"}"#.to_owned(),
            Err("401: RequestAuthentication istio-system/jwt accepts no token that has another issuer"),
        ),
        (
            r#"{"a":"1","iss":"z","exp":-61}"#.to_owned(),
            Err("401: RequestAuthentication istio-system/jwt accepts no token that has expired"),
        ),
        (
            r#"{"a":"1","iss":"z","nbf":61}"#.to_owned(),
            Err("401: RequestAuthentication istio-system/jwt accepts no token that is not valid yet"),
        ),
    ] {
        let headers = vec![("authorization".into(), bearer(&payload)), forged.clone()];
        let explanation = explain(&gateway(both), &ExplainRequest { headers, ..request(Some("shop/public"), None) }, 0);
        let found = explanation.outcome.ok_or(explanation.instead.as_deref().unwrap_or_default());
        assert_eq!(found, expected, "{payload}");
    }
    // Without a token, and in a preflight, which Istio does not look at, the filter does not find the payload either.
    let token = ("authorization".to_owned(), bearer(r#"{"a":"1","iss":"z"}"#));
    let preflight = [token, ("origin".into(), "x".into()), ("access-control-request-method".into(), "GET".into())];
    for (method, more) in [("GET", vec![]), ("OPTIONS", preflight.to_vec())] {
        let headers = [vec![forged.clone()], more].concat();
        let request = ExplainRequest { headers, method: method.into(), ..request(Some("shop/public"), None) };
        assert_eq!(explain(&gateway(both), &request, 0).outcome, Some("no-token"), "{method}");
    }
}

/// The filter of this project beside another filter.
fn beside(name: &str) -> String {
    let chain = format!(
        "filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: {name}}}}}}}"
    );
    own(&format!("context: SIDECAR_OUTBOUND, listener: {{{chain}}}"), POLICY)
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
        let condition = format!("`{path}` holds for this request (--port)");
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
