//! What a plan renders.

use crate::common::{build, only, plan, render};
use manifest_gen::{render::is_own, yaml::write::write};
use routing_plan::resources;
use serde_json::{Value, json};

const LUA: &str = "engine: lua, istioVersion: '1.24'";
const A: &str =
    "  - {name: microservice-A, namespace: a, port: 80, variants: [{name: PR-2}, {name: PR-10}, {name: PR-1}]}";

fn patch(resource: &resources::Resource, index: usize) -> &Value {
    &resource.value["spec"]["configPatches"][index]
}

#[test]
fn variants_are_sorted_and_the_default_is_last() {
    let resources = render(&plan(LUA, A, ""));
    let service = only(&resources, "VirtualService");
    let names: Vec<_> =
        service.value["spec"]["http"].as_array().unwrap().iter().map(|route| route["name"].clone()).collect();
    assert_eq!(
        names,
        [
            "routing-claims-microservice-A-PR-1",
            "routing-claims-microservice-A-PR-10",
            "routing-claims-microservice-A-PR-2",
            "default"
        ]
    );
    assert_eq!(service.value["spec"]["http"][0]["match"][0]["headers"], json!({"microservice-a": {"exact": "PR-1"}}));
    assert_eq!(
        service.value["spec"]["http"][3]["route"],
        json!([{"destination": {"host": "microservice-a.a.svc.cluster.local", "port": {"number": 80}}}])
    );
    let text = write(&service.value);
    assert!(is_own(&text, "qa") && !is_own(&text, "other"));
    let earlier = text.replace("managed-by: routing-claims", "managed-by: manifest-gen");
    assert!(earlier != text && is_own(&earlier, "qa"));
    assert!(!is_own(&text.replace("managed-by: routing-claims", "managed-by: me"), "qa"));
}

#[test]
fn the_lua_filter_is_inserted_before_the_router_of_sidecars_and_gateways() {
    let resources = render(&plan(&format!("{LUA}, gateways: {{matchLabels: {{istio: g}}}}"), A, ""));
    let contexts: Vec<_> = resources
        .iter()
        .filter(|resource| resource.kind == "EnvoyFilter")
        .map(|resource| {
            (
                patch(resource, 0)["match"]["context"].clone(),
                resource.value["spec"]["workloadSelector"]["labels"].clone(),
            )
        })
        .collect();
    assert_eq!(
        contexts,
        [
            (json!("SIDECAR_OUTBOUND"), json!({"routing-claims.dev/router": "enabled"})),
            (json!("GATEWAY"), json!({"istio": "g"})),
        ]
    );
    let value = &patch(&resources[1], 0)["patch"]["value"];
    assert!(
        value["typed_config"]["default_source_code"]["inline_string"].as_str().unwrap().contains("envoy_on_request")
    );
}

#[test]
fn an_envoy_filter_carries_a_module_in_every_form() {
    let of = |wasm: &str| plan(&format!("engine: wasm, istioVersion: '1.27', wasm: {{{wasm}}}"), A, "");
    let code = |resource: &resources::Resource, index: usize| {
        patch(resource, index)["patch"]["value"]["typed_config"]["config"]["vm_config"]["code"].clone()
    };
    let inline = build(&[("plan.yaml", &of("inline: f.wasm"))], &[("f.wasm", b"\0asm\x01")]).unwrap();
    let inline = resources::generate(&inline);
    assert_eq!(code(only(&inline, "EnvoyFilter"), 0), json!({"local": {"inline_bytes": "AGFzbQE="}}));
    let file = render(&of("url: 'file:///opt/f.wasm'"));
    assert_eq!(code(only(&file, "EnvoyFilter"), 0), json!({"local": {"filename": "/opt/f.wasm"}}));
    let remote =
        render(&of("url: 'https://r/f', sha256: 'AB00000000000000000000000000000000000000000000000000000000000000'"));
    let remote = only(&remote, "EnvoyFilter");
    assert_eq!(
        (&patch(remote, 0)["applyTo"], &patch(remote, 1)["applyTo"]),
        (&json!("EXTENSION_CONFIG"), &json!("HTTP_FILTER"))
    );
    assert_eq!(code(remote, 0)["remote"]["http_uri"]["uri"], "https://r/f");
    assert_eq!(code(remote, 0)["remote"]["sha256"], "ab00000000000000000000000000000000000000000000000000000000000000");
    let config = &patch(remote, 0)["patch"]["value"]["typed_config"]["config"];
    assert_eq!(config["failure_policy"], "FAIL_RELOAD");
    let policy = config["configuration"]["value"].as_str().unwrap();
    routing_claims::Policy::from_json(policy.as_bytes()).unwrap();
}

#[test]
fn wasm_plugin_and_traffic_extension() {
    let wasm = "wasm: {image: 'r.b:5000/t/f:1', pullSecret: s, pullPolicy: Always, failStrategy: FAIL_CLOSE}";
    let resources = render(&plan(&format!("engine: wasm, resource: WasmPlugin, istioVersion: '1.24', {wasm}"), A, ""));
    let spec = &only(&resources, "WasmPlugin").value["spec"];
    assert_eq!(spec["match"], json!([{"mode": "CLIENT"}]));
    assert_eq!(spec["pluginConfig"]["services"], json!([{"name": "microservice-A", "header": "microservice-a"}]));
    assert_eq!((&spec["url"], &spec["failStrategy"]), (&json!("oci://r.b:5000/t/f:1"), &json!("FAIL_CLOSE")));
    assert_eq!((&spec["imagePullSecret"], &spec["imagePullPolicy"]), (&json!("s"), &json!("Always")));
    let resources =
        render(&plan(&format!("engine: wasm, resource: TrafficExtension, istioVersion: '1.30', {wasm}"), A, ""));
    assert_eq!(only(&resources, "TrafficExtension").value["spec"]["wasm"]["url"], "oci://r.b:5000/t/f:1");
    let resources = render(&plan("engine: lua, resource: TrafficExtension, istioVersion: '1.30'", A, ""));
    let code = &only(&resources, "TrafficExtension").value["spec"]["lua"]["inlineCode"];
    assert!(code.as_str().unwrap().len() < 64 * 1024);
}

#[test]
fn the_digest_of_an_image_is_in_the_url_and_nowhere_else() {
    let url = |resource: &str, image: &str| {
        let wasm = format!("wasm: {{image: '{image}', digest: 'sha256:{}'}}", "0A".repeat(32));
        let resources =
            render(&plan(&format!("engine: wasm, resource: {resource}, istioVersion: '1.30', {wasm}"), A, ""));
        let text = serde_json::to_string(&only(&resources, resource).value).unwrap();
        assert!(!text.contains(r#""sha256""#), "{text}");
        let (_, rest) = text.split_once("oci://").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let digest = "0a".repeat(32);
    for resource in ["EnvoyFilter", "WasmPlugin", "TrafficExtension"] {
        assert_eq!(url(resource, "r.b/f:1"), format!("r.b/f:1@sha256:{digest}"));
        assert_eq!(url(resource, "localhost/f"), format!("localhost/f@sha256:{digest}"));
    }
}

#[test]
fn http_routes_are_split_at_16_rules_and_end_with_the_default() {
    let variants: Vec<_> = (0..20).map(|number| format!("{{name: PR-{number:02}}}")).collect();
    let service = format!("  - {{name: a, namespace: a, port: 80, variants: [{}]}}", variants.join(", "));
    let resources = render(&plan(LUA, &service, "  routes: {resource: HTTPRoute}"));
    let routes: Vec<_> = resources.iter().filter(|resource| resource.kind == "HTTPRoute").collect();
    let rules: Vec<_> = routes.iter().map(|route| route.value["spec"]["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.iter().map(|rules| rules.len()).collect::<Vec<_>>(), [16, 5]);
    assert_eq!(
        rules[0][0],
        json!({"matches": [{"headers": [{"name": "a", "value": "PR-00"}]}], "backendRefs": [{"name": "pr-00", "port": 80}]})
    );
    assert_eq!(rules[1][4], json!({"backendRefs": [{"name": "a", "port": 80}]}));
    assert_eq!(
        routes[1].value["spec"]["parentRefs"],
        json!([{"group": "", "kind": "Service", "name": "a", "port": 80}])
    );
}

#[test]
fn the_routes_of_a_base_stay_in_force() {
    let base = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: a, labels: {team: shop}}
spec:
  hosts: [microservice-a]
  exportTo: ['*']
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - match: [{uri: {prefix: /api}}, {method: {exact: POST}}]
    timeout: 3s
    retries: {attempts: 2}
    route:
    - {destination: {host: microservice-a, subset: v1}, weight: 90}
    - {destination: {host: microservice-a.a.svc.cluster.local, subset: v2}, weight: 10}
  - match: [{uri: {prefix: /else}}]
    route: [{destination: {host: other}}]
  - route: [{destination: {host: microservice-a}}]
";
    let services = "  - {name: microservice-A, namespace: a, base: b.yaml, gateways: [g/g], hosts: [a.example], variants: [{name: PR-1}, {name: PR-2}]}";
    let plan = build(&[("plan.yaml", &plan(LUA, services, ""))], &[("b.yaml", base.as_bytes())]).unwrap();
    let resources = resources::generate(&plan);
    let service = only(&resources, "VirtualService");
    assert_eq!((&*service.name, &service.value["metadata"]["labels"]["team"]), ("mine", &json!("shop")));
    let spec = &service.value["spec"];
    assert_eq!((&spec["exportTo"], &spec["hosts"]), (&json!(["*"]), &json!(["microservice-a", "a.example"])));
    assert_eq!(spec["gateways"], json!(["mesh", "g/g"]));
    let routes = spec["http"].as_array().unwrap();
    let to = |route: &Value| route["route"][0]["destination"]["host"].as_str().unwrap_or("-").to_owned();
    assert_eq!(
        routes.iter().map(to).collect::<Vec<_>>(),
        [
            "-",
            "pr-1.a.svc.cluster.local",
            "pr-2.a.svc.cluster.local",
            "microservice-a",
            "other",
            "pr-1.a.svc.cluster.local",
            "pr-2.a.svc.cluster.local",
            "microservice-a"
        ]
    );
    assert_eq!(
        routes[1],
        json!({
            "name": "routing-claims-microservice-A-PR-1",
            "match": [
                {"uri": {"prefix": "/api"}, "headers": {"microservice-a": {"exact": "PR-1"}}},
                {"method": {"exact": "POST"}, "headers": {"microservice-a": {"exact": "PR-1"}}},
            ],
            "timeout": "3s", "retries": {"attempts": 2},
            "route": [{"destination": {"host": "pr-1.a.svc.cluster.local"}}],
        })
    );
    assert_eq!(routes[5]["match"], json!([{"headers": {"microservice-a": {"exact": "PR-1"}}}]));
}

#[test]
fn the_gateway_forwards_the_token_that_it_verifies() {
    let filter = format!("{LUA}, gateways: {{matchLabels: {{istio: g}}}}");
    let more = "  authentication: [{issuer: https://j, jwks: '{\"keys\": [{\"kty\": \"EC\"}]}', audiences: [qa]}, {issuer: https://i, jwksUri: https://i/k}]\n  policy: {fromHeaders: [{name: X-Token}], fromCookies: [t]}";
    let resources = render(&plan(&filter, A, more));
    assert_eq!(
        only(&resources, "RequestAuthentication").value["spec"],
        json!({
            "selector": {"matchLabels": {"istio": "g"}},
            "jwtRules": [
                {
                    "issuer": "https://i", "jwksUri": "https://i/k", "forwardOriginalToken": true,
                    "fromHeaders": [{"name": "x-token"}], "fromCookies": ["t"], "outputPayloadToHeader": "routing-claims-payload",
                },
                {
                    "issuer": "https://j", "jwks": r#"{"keys": [{"kty": "EC"}]}"#, "audiences": ["qa"], "forwardOriginalToken": true,
                    "fromHeaders": [{"name": "x-token"}], "fromCookies": ["t"], "outputPayloadToHeader": "routing-claims-payload",
                },
            ],
        })
    );
}

/// Earlier plans have one issuer, and no list.
#[test]
fn one_issuer_needs_no_list() {
    let rendered = |issuers: &str| {
        let filter = format!("{LUA}, gateways: {{matchLabels: {{istio: g}}}}");
        render(&plan(&filter, A, &format!("  authentication: {issuers}")))
    };
    assert_eq!(rendered("{issuer: a, jwksUri: https://a}"), rendered("[{issuer: a, jwksUri: https://a}]"));
}

/// A gateway reads the payloads that Istio has verified, and no choice, because nobody can verify one. What it writes, later hops
/// read.
#[test]
fn a_gateway_reads_only_what_is_verified() {
    let filter = format!("{LUA}, gateways: {{matchLabels: {{istio: g}}}}");
    let more = "  authentication: {issuer: https://i, jwksUri: https://i/k}\n  policy: {fromHeaders: [{name: X-Token}, {name: x-qa}], fromBaggage: [qa], carry: {header: x-qa}}";
    let resources = render(&plan(&filter, A, more));
    // A choice is not signed, so Istio would refuse it.
    let rule = &only(&resources, "RequestAuthentication").value["spec"]["jwtRules"][0];
    assert_eq!(rule["fromHeaders"], json!([{"name": "x-token"}]));
    let policy = |name: &str| {
        let filter = resources.iter().find(|resource| resource.kind == "EnvoyFilter" && resource.name == name).unwrap();
        let policy = filter.value["metadata"]["annotations"]["routing-claims.dev/policy"].as_str().unwrap();
        let policy: Value = serde_json::from_str(policy).unwrap();
        ["fromHeaders", "fromBaggage", "format", "carry"].map(|field| policy[field].clone())
    };
    let sources = json!([{"name": "routing-claims-payload", "prefix": ""}]);
    assert_eq!(
        policy("routing-claims-qa-gateway"),
        [sources, Value::Null, json!("payload"), json!({"header": "x-qa"})]
    );
    let sources = json!([{"name": "x-token", "prefix": ""}, {"name": "x-qa", "prefix": ""}]);
    assert_eq!(policy("routing-claims-qa"), [sources, json!(["qa"]), json!("jwt"), json!({"header": "x-qa"})]);
}

/// The check is in the filter's resource if that has a place for it, because the filter must not be there without the check.
#[test]
fn a_sidecar_verifies_before_the_filter() {
    let keys = r#"{"keys": [{"kty": "EC"}]}"#;
    let more = format!(
        "  authentication: [{{issuer: https://j, jwksUri: https://j/k, cluster: outbound|443||j}}, {{issuer: https://i, jwks: '{keys}', audiences: [qa]}}]\n  policy: {{fromCookies: [t], clockSkewSeconds: 90}}"
    );
    for (filter, is_apart) in [
        (format!("{LUA}, verify: outbound"), false),
        (format!("{LUA}, verify: outbound, resource: TrafficExtension").replace("1.24", "1.30"), true),
    ] {
        let resources = render(&plan(&filter, A, &more));
        let name = if is_apart { "routing-claims-qa-verification" } else { "routing-claims-qa" };
        let envoy_filter = only(&resources, "EnvoyFilter");
        assert_eq!(envoy_filter.name, name);
        let patch = &envoy_filter.value["spec"]["configPatches"][0];
        assert_eq!(patch["patch"]["operation"], "INSERT_FIRST");
        let provider = |issuer: &str, more: Value| {
            let mut provider = json!({
                "issuer": issuer, "forward": true, "forward_payload_header": "routing-claims-payload", "from_cookies": ["t"],
                "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}], "clock_skew_seconds": 90,
                "jwt_cache_config": {"jwt_cache_size": 32},
            });
            provider.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            provider
        };
        let remote = json!({"remote_jwks": {
            "http_uri": {"uri": "https://j/k", "cluster": "outbound|443||j", "timeout": "5s"}, "async_fetch": {"fast_listener": true},
        }});
        let inline = json!({"local_jwks": {"inline_string": keys}, "audiences": ["qa"]});
        assert_eq!(
            patch["patch"]["value"]["typed_config"],
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"https://i": provider("https://i", inline), "https://j": provider("https://j", remote)},
                "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": [
                    {"provider_name": "https://i"}, {"provider_name": "https://j"}, {"allow_missing_or_failed": {}},
                ]}}}],
            })
        );
    }
}

/// A `Telemetry` with a selector applies only in its own namespace.
#[test]
fn each_namespace_gets_its_access_log() {
    let filter = format!("{LUA}, gateways: {{matchLabels: {{istio: g}}}}");
    let more = "  telemetry: {accessLogProvider: report, namespaces: [c, a]}\n  policy: {reportHeader: x-report}";
    let resources = render(&plan(&filter, A, more));
    let telemetry: Vec<_> = resources.iter().filter(|resource| resource.kind == "Telemetry").collect();
    let namespaces: Vec<_> = telemetry.iter().map(|one| (&*one.namespace, &one.value["spec"]["selector"])).collect();
    let workloads = json!({"matchLabels": {"routing-claims.dev/router": "enabled"}});
    let gateways = json!({"matchLabels": {"istio": "g"}});
    assert_eq!(namespaces, [("a", &workloads), ("c", &workloads), ("istio-system", &gateways)]);
    for one in telemetry {
        assert_eq!(
            one.value["spec"]["accessLogging"],
            json!([
                {"match": {"mode": "SERVER"}},
                {"match": {"mode": "CLIENT"}, "providers": [{"name": "report"}]},
            ])
        );
    }
}

#[test]
fn prefix_mode_and_own_headers() {
    let prefix = "  policy: {headerPrefix: x-route-, claimPath: [routes]}";
    let header = |resources: &[resources::Resource]| {
        let headers = only(resources, "VirtualService").value["spec"]["http"][0]["match"][0]["headers"].clone();
        headers.as_object().unwrap().keys().next().unwrap().clone()
    };
    assert_eq!(header(&render(&plan(LUA, A, prefix))), "x-route-microservice-a");
    assert_eq!(header(&render(&plan(LUA, &A.replace("port: 80", "header: x-a"), ""))), "x-a");
}

#[test]
fn variant_files_add_variants() {
    let file = "apiVersion: routing-claims.dev/v1alpha1\nkind: RoutingVariant\nmetadata: {name: f}\n\
                    spec: {service: microservice-A, variant: PR-3, host: three.a.svc.cluster.local}\n";
    let plan = plan(LUA, A, "");
    let files = [("plan.yaml", &*plan), ("v.yaml", file)];
    let one = resources::generate(&build(&files, &[]).unwrap());
    let other = resources::generate(&build(&[files[1], files[0]], &[]).unwrap());
    let values = |resources: &[resources::Resource]| resources.iter().map(|one| one.value.clone()).collect::<Vec<_>>();
    assert_eq!(values(&one), values(&other));
    let routes = &only(&one, "VirtualService").value["spec"]["http"];
    assert_eq!(routes[3]["route"][0]["destination"]["host"], "three.a.svc.cluster.local");
}

/// A module that Envoy fetches always has `nack_on_cache_miss`: without it, requests pass until it has the file.
#[test]
fn an_envoy_filter_carries_the_native_module() {
    let config = |module: &str| {
        let plan = plan(&format!("engine: module, istioVersion: '1.31', module: {module}"), A, "");
        let resources = render(&plan);
        let value = patch(only(&resources, "EnvoyFilter"), 0)["patch"]["value"]["typed_config"].clone();
        assert!(value["filter_config"]["value"].as_str().unwrap().contains("microservice-A"));
        value["dynamic_module_config"].clone()
    };
    assert_eq!(
        config("{path: /etc/a.so}"),
        json!({
            "do_not_close": true,
            "metrics_namespace": "wasmcustom",
            "module": {"local": {"filename": "/etc/a.so"}},
        })
    );
    let sha256 = "AB".repeat(32);
    assert_eq!(
        config(&format!("{{url: 'http://a.b/c.so', cluster: 'outbound|80||a.b', sha256: {sha256}}}")),
        json!({
            "do_not_close": true,
            "metrics_namespace": "wasmcustom",
            "module": {"remote": {
                "http_uri": {"uri": "http://a.b/c.so", "cluster": "outbound|80||a.b", "timeout": "30s"},
                "sha256": sha256.to_lowercase(),
            }},
            "nack_on_cache_miss": true,
        })
    );
}
