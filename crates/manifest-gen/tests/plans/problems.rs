//! Each class of error: what is said, and where.

use crate::common::{build, plan};

const LUA: &str = "engine: lua, istioVersion: '1.24'";
const A: &str = "  - {name: a, namespace: a, variants: [{name: PR-1}]}";

/// Places and messages.
fn problems(files: &[(&str, &str)], others: &[(&str, &[u8])]) -> Vec<String> {
    let problems = build(files, others).map(|mesh| panic!("no problem: {mesh:?}")).unwrap_err();
    let line = |problem: &routing_plan::problem::Problem| match &problem.place {
        Some(place) => format!("{place} {}", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(line).collect()
}

#[track_caller]
fn says(plan: &str, wanted: &[&str]) {
    let found = problems(&[("p", plan)], &[]);
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
            "p:5:20 found `luna`, allowed is `lua` or `wasm`",
            "p:5:40 YAML reads `1.10` as the number 1.1",
            "p:5:46 there is no field `workload`",
            "p:7:12 YAML reads `no` as false",
            "p:7:22 found `0`: a whole number from 1 to 65535",
            "p:7:35 found fields: a list is needed",
            "p:7:5 the field `namespace` is missing",
            "p:8:3 there is no field `policies`",
        ],
    );
}

#[test]
fn yaml_pitfalls() {
    says("kind: RoutingPlan\nkind: RoutingPlan\n", &["p:2:1 the key `kind` stands twice"]);
    says("spec:\n\tx: 1\n", &["this is no YAML"]);
    says("", &["no plan in p"]);
    says("kind: RoutingPlans\n", &["p:1:7 found the kind `RoutingPlans`"]);
    says("just text\n", &["p:1:1 a plan or a fragment is needed"]);
    let two = format!("{}---\n{}", plan(LUA, A, ""), plan(LUA, A, ""));
    says(&two, &["p:10:1 a second plan"]);
    says(&plan(LUA, "  - {name: &x a, namespace: *y}", ""), &["this is no YAML"]);
}

#[test]
fn resources_that_istio_lacks() {
    says(
        &plan("engine: lua, resource: TrafficExtension, istioVersion: '1.29'", A, ""),
        &["p:5:35 Istio 1.29 has no TrafficExtension"],
    );
    says(
        &plan("engine: lua, resource: WasmPlugin, istioVersion: '1.29'", A, ""),
        &["p:5:35 a WasmPlugin can't carry Lua"],
    );
    says(&plan("engine: lua, istioVersion: '1.5'", A, ""), &["p:5:39 Istio 1.5: the oldest supported is 1.20"]);
    says(&plan("engine: lua, istioVersion: 'new'", A, ""), &["p:5:39 found `new`"]);
    let wasm = |rest: &str, version: &str| plan(&format!("engine: wasm, istioVersion: '{version}', {rest}"), A, "");
    says(
        &wasm("wasm: {url: 'oci://x', failStrategy: FAIL_RELOAD}", "1.24"),
        &["Istio 1.24 has no FAIL_RELOAD here, 1.25 has"],
    );
    says(&wasm("resource: WasmPlugin, wasm: {url: 'oci://x', failStrategy: FAIL_RELOAD}", "1.26"), &["1.27 has"]);
    says(&wasm("resource: WasmPlugin, wasm: {inline: x}", "1.26"), &["a WasmPlugin can't carry the module itself"]);
    says(
        &wasm("wasm: {url: 'ftp://x'}", "1.26"),
        &["EnvoyFilter can carry `oci://`, `https://`, `http://` and `file://`"],
    );
    says(&wasm("wasm: {url: 'oci://x', sha256: ab}", "1.26"), &["a SHA-256 of 64 hex digits"]);
    says(&wasm("wasm: {inline: x}", "1.26"), &["can't read x"]);
    says(&wasm("wasm: {}", "1.26"), &["give `url` or `inline`"]);
    says(
        &wasm("workloads: {matchLabels: {a b: 'c d'}}", "1.26"),
        &["needs `wasm`", "a label's key", "a label's value"],
    );
    says(
        &plan(
            "engine: lua, istioVersion: '1.21'",
            "  - {name: a, namespace: a, hosts: [x]}",
            "  routes: {resource: HTTPRoute}",
        ),
        &[
            "p:7:12 an HTTPRoute needs the service's `port`",
            "p:7:36 `hosts` is for a VirtualService",
            "p:7:36 `hosts` are reached through gateways",
            "p:8:22 Istio 1.21 does not route the mesh by HTTPRoute",
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
            "p:7:12 `A_b` is no name of a Kubernetes Service",
            "p:8:26 found `C`, allowed is a DNS label",
            "p:8:35 found `UP`, allowed is a DNS name",
            "p:8:50 the mesh is always bound",
            "p:8:56 found `a/b/c`",
            "p:8:72 found `*.*`",
            "p:8:93 found `{pr}`, which makes hosts such as `{pr}`",
            "p:9:47 found `-x`, allowed is a version",
            "p:9:59 `a_b` makes the host `a_b.d.svc.cluster.local`",
            "p:9:84 found `X`",
            "p:9:98 `tomorrow` is no RFC 3339 time",
        ],
    );
}

#[test]
fn both_places_of_a_clash_are_named() {
    let fragment = "apiVersion: routing-claims.dev/v1alpha1\nkind: RoutingVariant\nmetadata: {name: f}\nspec: {service: a, variant: PR-1}\n";
    let plan_text = plan(LUA, A, "");
    let clash = build(&[("p", &plan_text), ("v", fragment)], &[]).unwrap_err();
    assert_eq!(clash[0].place.as_ref().unwrap().to_string(), "v:4:29");
    assert_eq!(clash[0].also[0].0.to_string(), "p:7:47");
    let unknown = build(&[("p", &plan_text), ("v", &fragment.replace("service: a", "service: aa"))], &[]).unwrap_err();
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
        &["p:8:12 `a` and `b` have the host"],
    );
}

#[test]
fn an_expired_variant_is_refused() {
    let services = "  - {name: a, namespace: a, variants: [{name: PR-1, expiresAt: 2026-06-01T00:00:00Z}]}";
    says(&plan(LUA, services, ""), &["p:7:64 the variant `PR-1` of `a` has expired"]);
}

#[test]
fn the_policys_problems_have_places() {
    let policy =
        "  policy: {limits: {maxRoutes: 9999}, fromHeaders: [{name: 'a b'}], services: [], reportHeader: host}";
    says(&plan(LUA, A, policy), &["p:8:32 found `9999`: a whole number from 1 to 64"]);
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

#[test]
fn authentication_needs_a_gateway() {
    says(
        &plan(LUA, A, "  authentication: {issuer: '', jwksUri: x}"),
        &["`filter.gateways` names none", "an issuer is needed", "a URL of http or https is needed"],
    );
}

#[test]
fn a_base_must_fit() {
    let services = "  - {name: a, namespace: a, base: b.yaml}";
    let text = plan(LUA, services, "");
    let with = |base: &str| problems(&[("p", &text)], &[("b.yaml", base.as_bytes())]).join("\n");
    assert!(problems(&[("p", &text)], &[])[0].starts_with("p:7:35 can't read b.yaml"));
    assert!(with("kind: Service\n").contains("b.yaml:1:7 a VirtualService is needed"));
    let base = "kind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [HOST], http: [ROUTES]}\n";
    assert!(
        with(&base.replace("HOST", "b").replace("ROUTES", "{route: [{destination: {host: a}}]}"))
            .contains("lacks the service's host")
    );
    assert!(
        with(&base.replace("HOST", "a").replace("ROUTES", "{route: [{destination: {host: c}}]}"))
            .contains("nothing to weave")
    );
    let matching = "{match: [{headers: {a: {exact: x}}}], route: [{destination: {host: a}}]}";
    assert!(with(&base.replace("HOST", "a").replace("ROUTES", matching)).contains("this matches on `a`"));
}
