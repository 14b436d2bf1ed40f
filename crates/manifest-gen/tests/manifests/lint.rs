//! For each lint a world with its finding, and the same world mended.

use std::{io, sync::Arc};

use jiff::Timestamp;
use manifest_gen::{documents::Documents, yaml::File};
use routing_plan::{
    lint::{ALL, markdown, run},
    resolve::Expiry,
};

use crate::read;

/// Codes found in manifests.
fn codes(text: &str) -> Vec<&'static str> {
    let manifests = read(text);
    let mut codes: Vec<_> = run(None, manifests, Timestamp::UNIX_EPOCH).iter().map(|found| found.lint.code).collect();
    codes.dedup();
    codes
}

fn finds(code: &str, bad: &str, good: &str) {
    assert_eq!(codes(bad), [code], "{bad}");
    assert_eq!(codes(good), [""; 0], "{good}");
}

const POLICY: &str = "{services: [{name: a}]}";

fn plugin(spec: &str) -> String {
    format!(
        "kind: WasmPlugin\nmetadata: {{name: f, namespace: istio-system}}\nspec: {{pluginConfig: {POLICY}, {spec}}}\n---\n"
    )
}

fn filter() -> String {
    plugin("match: [{mode: CLIENT}], url: 'file:///f.wasm'")
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!("kind: VirtualService\nmetadata: {{name: {name}, namespace: a}}\nspec: {spec}\n---\n")
}

/// Routes by version with these routes after the version's.
fn routes(before: &str, after: &str) -> String {
    let version = "{match: [{headers: {a: {exact: PR-1}}}], route: [{destination: {host: pr-1}}]}";
    filter() + &virtual_service("a", &format!("{{hosts: [a], http: [{before}{version}, {after}]}}"))
}

const DEFAULT: &str = "{route: [{destination: {host: a}}]}";

#[test]
fn duplicate_host() {
    let short = virtual_service("x", "{hosts: [a]}");
    let bad = short.clone() + &virtual_service("y", "{hosts: [a.a.svc.cluster.local]}");
    let good = short + &virtual_service("y", "{hosts: [a], gateways: [istio-system/public]}");
    finds("duplicate-host", &bad, &good);
}

#[test]
fn missing_service() {
    let services = |name: &str| format!("kind: Service\nmetadata: {{name: {name}, namespace: a}}\n---\n");
    let bad = routes("", DEFAULT) + &services("a");
    finds("missing-service", &bad, &(bad.clone() + &services("pr-1")));
}

#[test]
fn default_missing() {
    let path = "{match: [{uri: {prefix: /x}}], route: [{destination: {host: a}}]}";
    finds("default-missing", &routes("", path), &routes("", DEFAULT));
    let route = |rules: &str| {
        filter()
            + &format!(
                "kind: HTTPRoute\nmetadata: {{name: a, namespace: a}}\nspec: {{parentRefs: [{{kind: Service, name: a}}], rules: [{rules}]}}\n"
            )
    };
    let version = "{matches: [{headers: [{name: a, value: PR-1}]}], backendRefs: [{name: pr-1}]}";
    finds("default-missing", &route(version), &route(&format!("{version}, {{backendRefs: [{{name: a}}]}}")));
}

#[test]
fn default_not_last() {
    finds("default-not-last", &routes(&format!("{DEFAULT}, "), DEFAULT), &routes("", DEFAULT));
}

#[test]
fn header_not_stripped() {
    let named = virtual_service(
        "a",
        "{hosts: [a], http: [{name: routing-claims-a-x, match: [{headers: {a: {exact: x}}}], route: [{destination: {host: x}}]}, {route: [{destination: {host: a}}]}]}",
    );
    finds("header-not-stripped", &named, &(filter() + &named));
    let selecting = filter().replace("url:", "selector: {matchLabels: {r: enabled}}, url:");
    let workload = |labels: &str| {
        format!(
            "kind: Deployment\nmetadata: {{name: w, namespace: b}}\nspec: {{template: {{metadata: {{labels: {labels}}}}}}}\n"
        )
    };
    finds(
        "header-not-stripped",
        &(selecting.clone() + &named + &workload("{x: y}")),
        &(selecting + &named + &workload("{r: enabled}")),
    );
}

#[test]
fn header_not_stripped_at_a_gateway() {
    let named = "gateways: [mesh, istio-system/public], http: [{name: routing-claims-a-x, match: [{headers: {a: {exact: x}}}], route: [{destination: {host: x}}]}, {route: [{destination: {host: a}}]}]";
    let gateway =
        "kind: Gateway\nmetadata: {name: public, namespace: istio-system}\nspec: {selector: {istio: g}}\n---\n";
    let selecting = |labels: &str| filter().replace("url:", &format!("selector: {{matchLabels: {labels}}}, url:"));
    let rest = gateway.to_owned() + &virtual_service("a", &format!("{{hosts: [a], {named}}}"));
    finds("header-not-stripped", &(selecting("{r: enabled}") + &rest), &(selecting("{istio: g}") + &rest));
}

#[test]
fn token_not_forwarded() {
    let authentication = |rule: &str| {
        format!("kind: RequestAuthentication\nmetadata: {{name: x}}\nspec: {{jwtRules: [{{issuer: x{rule}}}]}}\n")
    };
    finds("token-not-forwarded", &authentication(""), &authentication(", forwardOriginalToken: true"));
}

#[test]
fn token_not_verified() {
    let annotation = r#"annotations: {routing-claims.dev/policy: '{"services":[{"name":"a"}]}'}"#;
    let spec = "spec: {priority: 1, configPatches: [{applyTo: HTTP_FILTER, match: {context: GATEWAY}}]}";
    let filter =
        format!("kind: EnvoyFilter\nmetadata: {{name: f, namespace: istio-system, {annotation}}}\n{spec}\n---\n");
    let authentication =
        "kind: RequestAuthentication\nmetadata: {name: x}\nspec: {jwtRules: [{forwardOriginalToken: true}]}\n";
    finds("token-not-verified", &filter, &(filter.clone() + authentication));
}

#[test]
fn plugin_mode() {
    finds("plugin-mode", &plugin("url: 'file:///f.wasm'"), &filter());
    finds("plugin-mode", &plugin("match: [{mode: SERVER}], url: 'file:///f.wasm'"), &filter());
}

#[test]
fn fail_open() {
    let with =
        |strategy: &str| plugin(&format!("match: [{{mode: CLIENT}}], url: 'file:///f.wasm', failStrategy: {strategy}"));
    finds("fail-open", &with("FAIL_OPEN"), &with("FAIL_RELOAD"));
}

#[test]
fn wasm_unpinned() {
    let with = |rest: &str| plugin(&format!("match: [{{mode: CLIENT}}], url: 'oci://r/f{rest}"));
    finds("wasm-unpinned", &with(":1'"), &with(":1', sha256: 'ab'"));
    assert_eq!(codes(&with("@sha256:ab'")), [""; 0]);
}

#[test]
fn header_key_case() {
    let with = |header: &str| {
        virtual_service("a", &format!("{{hosts: [a], http: [{{match: [{{headers: {{{header}: {{exact: x}}}}}}]}}]}}"))
    };
    finds("header-key-case", &with("X-Y"), &with("x-y"));
}

#[test]
fn value_never_matches() {
    finds("value-never-matches", &routes("", DEFAULT).replace("exact: PR-1", "exact: PR 1"), &routes("", DEFAULT));
}

#[test]
fn filter_priority() {
    let filter = |name: &str, priority: &str| {
        format!(
            "kind: EnvoyFilter\nmetadata: {{name: {name}}}\nspec: {{{priority}configPatches: [{{applyTo: HTTP_FILTER, match: {{context: ANY}}, patch: {{operation: INSERT_BEFORE}}}}]}}\n---\n"
        )
    };
    let first = filter("x", "priority: 10, ");
    finds("filter-priority", &(first.clone() + &filter("y", "")), &(first + &filter("y", "priority: 5, ")));
}

#[test]
fn object_size() {
    let with = |size: usize| format!("kind: ConfigMap\nmetadata: {{name: x}}\ndata: {{x: '{}'}}\n", "x".repeat(size));
    finds("object-size", &with(1 << 20), &with(1 << 19));
}

#[test]
fn http_route_limits() {
    let with = |rules: usize| {
        let rules = "{backendRefs: [{name: a}]},".repeat(rules);
        format!("kind: HTTPRoute\nmetadata: {{name: a}}\nspec: {{rules: [{rules}]}}\n")
    };
    finds("http-route-limits", &with(17), &with(16));
    let with = |matches: usize| {
        let matches = "{method: GET},".repeat(matches);
        format!("kind: HTTPRoute\nmetadata: {{name: a}}\nspec: {{rules: [{{matches: [{matches}]}}]}}\n")
    };
    finds("http-route-limits", &with(65), &with(64));
}

#[test]
fn cross_namespace_backend() {
    let bad = "kind: HTTPRoute\nmetadata: {name: a, namespace: a}\nspec: {rules: [{backendRefs: [{name: a, namespace: b}]}]}\n---\n".to_owned();
    finds(
        "cross-namespace-backend",
        &bad,
        &(bad.clone() + "kind: ReferenceGrant\nmetadata: {name: a, namespace: b}\n"),
    );
}

#[test]
fn subset_missing() {
    let bad = virtual_service("a", "{hosts: [a], http: [{route: [{destination: {host: a, subset: v1}}]}]}");
    let rule = "kind: DestinationRule\nmetadata: {name: a, namespace: a}\nspec: {host: a, subsets: [{name: v1}]}\n";
    finds("subset-missing", &bad, &(bad.clone() + rule));
}

#[test]
fn variant_is_default() {
    finds("variant-is-default", &routes("", "{route: [{destination: {host: pr-1}}]}"), &routes("", DEFAULT));
}

#[test]
fn variant_expired() {
    let text = r#"
apiVersion: routing-claims.dev/v1alpha1
kind: RoutingPlan
metadata: {name: qa, namespace: istio-system}
spec:
  filter: {engine: lua, istioVersion: "1.24"}
  services:
  - {name: a, namespace: a, variants: [{name: PR-1, expiresAt: 2026-01-01T00:00:00Z}]}
"#;
    let mut documents = Documents::default();
    let file = Arc::new(File { name: "plan.yaml".into(), text: text.into() });
    let input = documents.read_plan(&[file], &|_| Err(io::Error::other("none"))).unwrap();
    let plan = documents.resolve(&input, Expiry::Keep).unwrap();
    let at = |time: &str| run(Some(&plan), Vec::new(), time.parse().unwrap());
    let found = at("2026-01-01T00:00:00Z");
    assert_eq!(
        (found[0].lint.code, documents.span(&found[0].location).to_string()),
        ("variant-expired", "plan.yaml:8:47".to_owned())
    );
    assert!(at("2025-12-31T23:59:59Z").is_empty());
}

#[test]
fn findings_can_be_ignored() {
    let bad = "kind: RequestAuthentication\nmetadata: {name: x, annotations: {routing-claims.dev/ignore: 'x, token-not-forwarded'}}\nspec: {jwtRules: [{issuer: x}]}\n";
    assert_eq!(codes(bad), [""; 0]);
}

/// The second place of an ignored finding was attached to the finding before it.
#[test]
fn an_ignored_finding_leaves_no_trace() {
    let text = virtual_service("x", "{hosts: [a, b]}")
        + &virtual_service("y", "{hosts: [a]}")
        + &virtual_service("z, annotations: {routing-claims.dev/ignore: duplicate-host}", "{hosts: [b]}");
    let file = File { name: "a.yaml".into(), text };
    let mut documents = Documents::default();
    let found = run(None, documents.read_manifests(&[Arc::new(file)]).unwrap(), Timestamp::UNIX_EPOCH);
    let also: Vec<_> = found.iter().map(|found| documents.span(found.also.as_ref().unwrap()).text()).collect();
    assert_eq!(also, ["a"]);
}

#[test]
fn codes_are_unique_and_documented() {
    let mut codes: Vec<_> = ALL.iter().map(|lint| lint.code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), ALL.len());
    let page = markdown();
    assert!(codes.iter().all(|code| page.contains(&format!("\n## {code}\n"))));
}
