//! Each kind of error: its message and its span.

use manifest_gen::diagnostic::FileDiagnostic;

use crate::common::{build, plan};

const LUA: &str = "engine: lua, istioVersion: '1.24'";
const A: &str = "  - {name: a, namespace: a, variants: [{name: PR-1}]}";

/// Spans and messages.
fn errors(files: &[(&str, &str)], others: &[(&str, &[u8])]) -> Vec<String> {
    let diagnostics = build(files, others).map(|plan| panic!("no error: {plan:?}")).unwrap_err();
    let line = |one: &FileDiagnostic| match &one.span {
        Some(span) => format!("{span} {}", one.message),
        None => one.message.clone(),
    };
    diagnostics.iter().map(line).collect()
}

#[track_caller]
fn says(plan: &str, wanted: &[&str]) {
    let found = errors(&[("p", plan)], &[]);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    let wrong: Vec<_> = found.iter().zip(wanted).filter(|(found, wanted)| !found.contains(**wanted)).collect();
    assert!(wrong.is_empty(), "found and wanted: {wrong:#?}");
}

#[test]
fn all_errors_of_a_file_come_at_once() {
    let text = plan(
        "engine: luna, istioVersion: 1.10, workload: {}",
        "  - {name: no, port: 0, variants: {}}",
        "  policies: {}",
    );
    says(
        &text,
        &[
            "p:5:20 expected `lua` or `wasm` or `module`, found `luna`",
            "p:5:40 expected text, found `1.10`, which YAML reads as the number 1.1",
            "p:5:46 unknown field `workload`",
            "p:7:12 expected text, found `no`, which YAML reads as false",
            "p:7:22 expected a whole number from 1 to 65535, found `0`",
            "p:7:35 expected a list, found a mapping",
            "p:7:5 missing field `namespace`",
            "p:8:3 unknown field `policies`",
        ],
    );
}

#[test]
fn yaml_pitfalls() {
    says("kind: RoutingPlan\nkind: RoutingPlan\n", &["p:2:1 duplicate key `kind`"]);
    says("spec:\n\tx: 1\n", &["invalid YAML"]);
    says("", &["no plan in p"]);
    says("kind: RoutingPlans\n", &["p:1:7 expected the kind `RoutingPlan` or `RoutingVariant`, found `RoutingPlans`"]);
    says("just text\n", &["p:1:1 expected a plan or a variant file, found no mapping"]);
    let two = format!("{}---\n{}", plan(LUA, A, ""), plan(LUA, A, ""));
    says(&two, &["p:10:1 expected one plan, found a second one"]);
    says(&plan(LUA, "  - {name: &x a, namespace: *y}", ""), &["invalid YAML"]);
}

#[test]
fn an_image_that_could_mean_two_things() {
    let wasm = |fields: &str| {
        plan(&format!("engine: wasm, resource: WasmPlugin, istioVersion: '1.30', wasm: {{{fields}}}"), A, "")
    };
    let digest = format!("digest: 'sha256:{}'", "0a".repeat(32));
    for (fields, expected) in [
        (
            "url: 'oci://r.b/f:1', sha256: ab",
            "p:5:82 expected a URL of `https://`, `http://` or `file://`, found `oci://r.b/f:1`",
        ),
        ("image: 'oci://r.b/f:1'", "p:5:84 expected `registry/name:tag`, found `oci://r.b/f:1`"),
        ("image: 'r.b/f@sha256:ab'", "p:5:84 expected `registry/name:tag`, found a digest too: `r.b/f@sha256:ab`"),
        ("image: 'f:1'", "p:5:84 expected a registry in `f:1`, found none"),
        ("image: 'team/f:1'", "p:5:84 expected a registry in `team/f:1`, found none"),
        ("image: 'r.b/f'", "p:5:84 expected a tag in `r.b/f`, or a `digest`"),
        (
            "image: 'r.b/F:1'",
            "p:5:84 expected the name of an image (words of `a-z 0-9`, separated by `. _ - /`), found `F`",
        ),
        (
            "image: 'r.b/f:-'",
            "p:5:84 expected a tag (1 to 128 of `A-Z a-z 0-9 . _ -`, without `.` or `-` at its start), found `-`",
        ),
        ("image: 'r.b/f:1', digest: ab", "p:5:103 expected `sha256:` and 64 hex digits, found `ab`"),
        ("image: 'r.b/f:1', sha256: ab", "p:5:103 expected `sha256` beside a `url`, found no `url`"),
        (
            "image: 'r.b/f:1', pullSecret: A",
            "p:5:107 expected a DNS name in lower case (labels of `a-z 0-9 -`, separated by dots, at most 253 characters), found `A`",
        ),
        (
            &format!("image: 'r.b/f:1', pullPolicy: Always, {digest}"),
            "p:5:107 `pullPolicy` has no effect with `digest`, which always names the same image",
        ),
        ("url: 'https://r.b/f', pullSecret: a", "p:5:111 expected `pullSecret` beside an `image`, found no `image`"),
        (&format!("url: 'https://r.b/f', {digest}"), "p:5:107 expected `digest` beside an `image`, found no `image`"),
        ("url: 'https://r.b/f', inline: f", "p:5:76 expected only one of `image`, `url` and `inline`, found more"),
    ] {
        says(&wasm(fields), &[expected]);
    }
    let in_envoy_filter =
        "engine: wasm, istioVersion: '1.30', wasm: {image: 'r.b/f:1', pullPolicy: Always, pullSecret: a}";
    says(
        &plan(in_envoy_filter, A, ""),
        &["an EnvoyFilter can't carry `pullPolicy`", "an EnvoyFilter can't carry `pullSecret`"],
    );
}

#[test]
fn an_image_is_suggested_for_an_oci_url() {
    let text = plan("engine: wasm, istioVersion: '1.30', wasm: {url: 'oci://r.b/f:1@sha256:ab'}", A, "");
    let diagnostics = build(&[("p", &text)], &[]).unwrap_err();
    let help =
        "give `image: r.b/f:1` and `digest: sha256:…`, the digest of the image's manifest (`crane digest r.b/f:1`)";
    assert_eq!(diagnostics[0].help.as_deref(), Some(help));
}

#[test]
fn resources_that_istio_lacks() {
    says(
        &plan("engine: lua, resource: TrafficExtension, istioVersion: '1.29'", A, ""),
        &["p:5:35 TrafficExtension exists since Istio 1.30, and `istioVersion` is 1.29"],
    );
    says(
        &plan("engine: lua, resource: WasmPlugin, istioVersion: '1.29'", A, ""),
        &["p:5:35 a WasmPlugin can't carry `engine: lua`"],
    );
    let services: Vec<_> =
        (0..600).map(|n| format!("  - {{name: service-with-a-long-name-{n:03}, namespace: a}}")).collect();
    says(
        &plan("engine: lua, resource: TrafficExtension, istioVersion: '1.30'", &services.join("\n"), ""),
        &[" bytes, and a TrafficExtension takes at most 65536"],
    );
    says(&plan("engine: lua, istioVersion: '1.5'", A, ""), &["p:5:39 expected Istio 1.20 or newer, found `1.5`"]);
    says(
        &plan("engine: lua, istioVersion: 'new'", A, ""),
        &["p:5:39 expected a version such as \"1.27\", found `new`"],
    );
    let wasm = |rest: &str, version: &str| plan(&format!("engine: wasm, istioVersion: '{version}', {rest}"), A, "");
    says(
        &wasm("wasm: {url: 'file:///x', failStrategy: FAIL_RELOAD}", "1.24"),
        &["with `resource: EnvoyFilter` FAIL_RELOAD exists since Istio 1.25, and `istioVersion` is 1.24"],
    );
    says(
        &wasm("resource: WasmPlugin, wasm: {url: 'file:///x', failStrategy: FAIL_RELOAD}", "1.26"),
        &["with `resource: WasmPlugin` FAIL_RELOAD exists since Istio 1.27, and `istioVersion` is 1.26"],
    );
    says(&wasm("resource: WasmPlugin, wasm: {inline: x}", "1.26"), &["a WasmPlugin can't carry the module itself"]);
    says(
        &wasm("wasm: {url: 'ftp://x'}", "1.26"),
        &["expected a URL of `https://`, `http://` or `file://`, found `ftp://x`"],
    );
    says(&wasm("wasm: {url: 'https://x', sha256: ab}", "1.26"), &["expected 64 hex digits, found `ab`"]);
    says(&wasm("wasm: {inline: x}", "1.26"), &["can't read x"]);
    says(&wasm("wasm: {}", "1.26"), &["expected `image`, `url` or `inline`, found none of them"]);
    says(
        &wasm("workloads: {matchLabels: {a b: 'c d'}}", "1.26"),
        &["needs the field `wasm`", "p:5:79 expected a label key", "p:5:79 expected a label value"],
    );
    says(
        &plan(
            "engine: lua, istioVersion: '1.21'",
            "  - {name: a, namespace: a, hosts: [x]}",
            "  routes: {resource: HTTPRoute}",
        ),
        &[
            "p:7:12 an HTTPRoute needs the service's `port`",
            "p:7:36 `hosts` has no effect on HTTPRoutes, it is for VirtualServices",
            "p:7:36 `hosts` are reached through `gateways`, and there are none",
            "p:8:22 Istio routes the mesh by HTTPRoute since 1.22, and `istioVersion` is 1.21",
        ],
    );
}

#[test]
fn names_hosts_and_versions() {
    let services = "  - {name: A_b, namespace: a}\n  - {name: c, namespace: C, host: UP, gateways: [mesh, a/b/c], hosts: ['*.*'], variantHost: '{pr}'}\n  \
                    - {name: d, namespace: d, variants: [{name: -x}, {name: a_b}, {name: PR-1, host: X, expiresAt: tomorrow}]}";
    says(
        &plan(LUA, services, ""),
        &[
            "p:7:12 `A_b` is not a valid Kubernetes Service name",
            "p:8:26 expected a DNS label (1 to 63 of `a-z 0-9 -`, without `-` at its ends), found `C`",
            "p:8:35 expected a DNS name in lower case",
            "p:8:50 the mesh always routes the service",
            "p:8:56 expected `namespace/name` or `name` of a Gateway, found `a/b/c`",
            "p:8:72 expected a DNS name in lower case, with or without `*.` before it, found `*.*`",
            "p:8:93 expected a template of DNS names, found `{pr}`, which gives `{pr}`",
            "p:9:47 expected a version",
            "p:9:59 `a_b` gives the host `a_b.d.svc.cluster.local`, which is not a DNS name",
            "p:9:84 expected a DNS name in lower case",
            "p:9:98 expected an RFC 3339 timestamp such as 2026-12-01T00:00:00Z, found `tomorrow`",
        ],
    );
}

#[test]
fn both_spans_of_a_clash_are_named() {
    let file = "apiVersion: routing-claims.dev/v1alpha1\nkind: RoutingVariant\nmetadata: {name: f}\nspec: {service: a, variant: PR-1}\n";
    let plan_text = plan(LUA, A, "");
    let clash = build(&[("p", &plan_text), ("v", file)], &[]).unwrap_err();
    assert_eq!(clash[0].span.as_ref().unwrap().to_string(), "v:4:29");
    assert_eq!(clash[0].related[0].0.to_string(), "p:7:47");
    let unknown = build(&[("p", &plan_text), ("v", &file.replace("service: a", "service: aa"))], &[]).unwrap_err();
    assert_eq!(
        (&*unknown[0].message, unknown[0].help.as_deref()),
        ("the plan has no service `aa`", Some("did you mean `a`?"))
    );
    says(
        &plan(LUA, "  - {name: a, namespace: x}\n  - {name: A, namespace: z}", ""),
        &["p:8:12 name: expected each name once (case-insensitive), found duplicate `A`"],
    );
    says(
        &plan(LUA, "  - {name: a, namespace: x}\n  - {name: b, namespace: x, host: a.x.svc.cluster.local}", ""),
        &["p:8:12 `a` and `b` have the same host"],
    );
}

#[test]
fn an_expired_variant_is_refused() {
    let services = "  - {name: a, namespace: a, variants: [{name: PR-1, expiresAt: 2026-06-01T00:00:00Z}]}";
    says(&plan(LUA, services, ""), &["p:7:64 the variant `PR-1` of `a` has expired"]);
}

#[test]
fn errors_of_the_policy_have_spans() {
    let policy =
        "  policy: {limits: {maxRoutes: 9999}, fromHeaders: [{name: 'a b'}], services: [], reportHeader: host}";
    says(&plan(LUA, A, policy), &["p:8:32 expected a whole number from 1 to 64, found `9999`"]);
    let policy = policy.replace("9999", "9");
    says(&plan(LUA, A, &policy), &["the policy's services come from `spec.services`"]);
    says(
        &plan(LUA, A, &policy.replace(", services: []", "")),
        &[
            "p:8:57 name: expected a header name (RFC 9110 section 5.1), found `a b`",
            "reportHeader: expected a header that a policy may manage, found `host`",
        ],
    );
}

/// The policy lists services by name, the plan in any order.
#[test]
fn errors_of_the_policys_services_are_at_the_plans() {
    says(
        &plan(LUA, "  - {name: z, namespace: z}\n  - {name: a, namespace: a, header: 'x y'}", ""),
        &["p:8:37 header: expected a lower-case header name"],
    );
}

#[test]
fn authentication_needs_a_gateway() {
    says(
        &plan(LUA, A, "  authentication: {issuer: '', jwksUri: x}"),
        &[
            "`authentication` is for the gateways",
            "expected the token's `iss`",
            "expected a URL of `https://` or `http://`, found `x`",
        ],
    );
}

/// Each with the field of its entry.
#[test]
fn issuers_are_checked() {
    let filter = format!("{LUA}, gateways: {{matchLabels: {{istio: g}}}}");
    let private = r#"'{"keys": [{"kty": "EC", "d": "x"}]}'"#;
    let secret = r#"'{"keys": [{"kty": "oct", "k": "x"}]}'"#;
    let issuers = [
        "{issuer: a}".to_owned(),
        "{issuer: b, jwksUri: https://b, jwks: '{}'}".to_owned(),
        "{issuer: c, jwksUri: https://c}, {issuer: c, jwksUri: https://c}".to_owned(),
        "{issuer: d, jwks: '{}', cluster: x}".to_owned(),
        "{issuer: e, jwks: nothing}".to_owned(),
        format!("{{issuer: f, jwks: {private}}}"),
        format!("{{issuer: g, jwks: {secret}}}"),
        r#"{issuer: h, jwks: '{"keys": [{}]}'}"#.to_owned(),
    ];
    says(
        &plan(&filter, A, &format!("  authentication: [{}]", issuers.join(", "))),
        &[
            "expected exactly one of `jwksUri` and `jwks`",
            "expected exactly one of `jwksUri` and `jwks`",
            "duplicate issuer `c`",
            "at least one of `keys`, found none",
            "`cluster` has no effect with `jwks`",
            "expected a JSON Web Key Set: ",
            "found a private one (`d`)",
            "found a symmetric one (`kty: oct`)",
            "found a key without",
        ],
    );
    let empty = "  authentication: []\n  policy: {fromHeaders: [], fromBaggage: [qa]}";
    says(
        &plan(&filter, A, empty),
        &[
            "expected at least one issuer, found none",
            "expected a header or cookie with a token",
            "clients could write `qa` for later hops",
        ],
    );
    let other =
        "  authentication: [{issuer: a, jwksUri: https://a}]\n  policy: {fromBaggage: [qa, x], carry: {baggage: qa}}";
    says(
        &plan(&filter, A, other),
        &["p:9:30 a gateway removes only the choice of `carry`, so clients could write `x`"],
    );
    // The header with the payload is one of the services'.
    let taken = "  - {name: routing-claims-payload, namespace: a}";
    says(&plan(&filter, taken, "  authentication: [{issuer: a, jwksUri: https://a}]"), &["is a source"]);
}

/// A choice that travels is not signed, so there is nothing to verify.
#[test]
fn verify_needs_signed_sources_and_keys() {
    let filter = format!("{LUA}, verify: outbound");
    says(&plan(&filter, A, ""), &["`verify` needs the issuers in `authentication`"]);
    let more =
        "  authentication: [{issuer: a, jwksUri: https://a}]\n  policy: {fromBaggage: [qa], carry: {baggage: qa}}";
    says(
        &plan(&filter, A, more),
        &[
            "`cluster` does not say from where",
            "`fromBaggage` can't be with `filter.verify`",
            "`carry` can't be with `filter.verify`",
        ],
    );
}

#[test]
fn telemetry_needs_a_report_and_a_provider() {
    says(
        &plan(LUA, A, "  telemetry: {accessLogProvider: '', namespaces: [A_b]}"),
        &[
            "the access log prints the report header, and the policy has none",
            "expected a name, found nothing",
            "expected a DNS label",
        ],
    );
}

#[test]
fn a_base_must_fit() {
    let services = "  - {name: a, namespace: a, base: b.yaml}";
    let text = plan(LUA, services, "");
    let with = |base: &str| errors(&[("p", &text)], &[("b.yaml", base.as_bytes())]).join("\n");
    assert!(errors(&[("p", &text)], &[])[0].starts_with("p:7:35 can't read b.yaml"));
    assert!(with("kind: Service\n").contains("b.yaml:1:7 expected a VirtualService, found the kind \"Service\""));
    let base = "kind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [HOST], http: [ROUTES]}\n";
    assert!(
        with(&base.replace("HOST", "b").replace("ROUTES", "{route: [{destination: {host: a}}]}"))
            .contains("does not contain the service's host")
    );
    assert!(
        with(&base.replace("HOST", "a").replace("ROUTES", "{route: [{destination: {host: c}}]}"))
            .contains("to weave the variants into, found none")
    );
    let matching = "{match: [{headers: {a: {exact: x}}}], route: [{destination: {host: a}}]}";
    assert!(with(&base.replace("HOST", "a").replace("ROUTES", matching)).contains("`a` is the header of the variants"));
    assert!(
        with(
            &base.replace("HOST", "a").replace("ROUTES", "{match: [{headers: x}], route: [{destination: {host: a}}]}")
        )
        .contains("b.yaml:3:46 expected a mapping, found")
    );
    assert!(
        with(&format!("apiVersion: example.com/v1\n{base}"))
            .contains("expected a VirtualService of `networking.istio.io`")
    );
}

/// Fields for the controller. Only a cluster has objects.
#[test]
fn what_only_a_cluster_has() {
    let service = |fields: &str| format!("  - {{name: a, namespace: a, port: 80, {fields}}}");
    says(
        &plan(LUA, &service("baseRef: {name: b}"), ""),
        &["p:7:48 `baseRef` names an object of a cluster, and here are only files"],
    );
    says(
        &plan(LUA, &service("base: b.yaml, baseRef: {name: b}"), ""),
        &["p:7:62 expected only one of `base` and `baseRef`, found both"],
    );
    says(
        &plan(LUA, &service("baseRef: {name: b}"), "  routes: {resource: HTTPRoute}"),
        &[
            "p:7:48 `baseRef` has no effect on HTTPRoutes, it is for VirtualServices",
            "p:7:48 `baseRef` names an object of a cluster",
        ],
    );
    says(
        &plan(LUA, &service("allowedNamespaces: [ok, 'ok-*', '*', Pr, 'a*b']"), ""),
        &[
            "p:7:76 expected a namespace, or the start of its name and `*`, found `Pr`",
            "p:7:80 expected a namespace, or the start of its name and `*`, found `a*b`",
        ],
    );
}

#[test]
fn where_the_native_module_is() {
    let of = |filter: &str| plan(filter, A, "");
    says(&of("engine: module, istioVersion: '1.31'"), &["p:5:20 `engine: module` needs the field `module`"]);
    says(
        &of("engine: module, istioVersion: '1.30', resource: WasmPlugin, module: {path: a.so}"),
        &[
            "p:5:20 `engine: module` works since Istio 1.31, and `istioVersion` is 1.30",
            "p:5:60 a WasmPlugin can't carry `engine: module`",
            "p:5:87 expected an absolute path in the proxy's container, found `a.so`",
        ],
    );
    for module in ["{}", "{path: /a.so, sha256: a}", "{url: 'http://a/a.so'}", "{url: 'http://a/a.so', cluster: a}"] {
        let text = of(&format!("engine: module, istioVersion: '1.31', module: {module}"));
        says(&text, &["expected either `path`, or `url`, `cluster` and `sha256`"]);
    }
    let text = of("engine: module, istioVersion: '1.31', module: {url: 'oci://a/a', cluster: a, sha256: ab}");
    says(
        &text,
        &["expected a URL of `http://` or `https://`, found `oci://a/a`", "expected 64 hex digits, found `ab`"],
    );
    let text = of("engine: lua, istioVersion: '1.31', module: {path: /a.so}");
    says(&text, &["`module` has no effect with `engine: lua`"]);
}
