//! Where requests go.

use std::collections::BTreeMap;

use routing_plan::explain::{ExplainRequest, Explanation, explain, unverified_header};

use crate::read;

const FILTER: &str = "
kind: WasmPlugin
metadata: {name: f, namespace: istio-system}
spec: {pluginConfig: {services: [{name: microservice-A, header: a}]}}
---
";

fn request(path: &str) -> ExplainRequest {
    ExplainRequest {
        host: "a.a.svc.cluster.local".into(),
        path: path.into(),
        method: "GET".into(),
        headers: Vec::new(),
        port: None,
        gateway: None,
        namespace: None,
        labels: None,
    }
}

fn explained(manifests: &str, request: &ExplainRequest, claims: &str) -> Explanation {
    let manifests = read(&format!("{FILTER}{manifests}"));
    let mut request = request.clone();
    request.headers.extend(unverified_header(&manifests, claims));
    explain(&manifests, &request, 0)
}

/// Where requests for a service with these http routes go; else what happens instead, or what is unsure.
fn goes(routes: &str, request: &ExplainRequest) -> String {
    let text =
        format!("kind: VirtualService\nmetadata: {{name: v, namespace: a}}\nspec: {{hosts: [a], http: [{routes}]}}\n");
    let explanation = explained(&text, request, r#"{"microservice-a": "PR-1"}"#);
    match &explanation.destinations[..] {
        [to] => to.host.split('.').next().unwrap_or_default().to_owned(),
        _ => explanation.instead.unwrap_or_else(|| explanation.unknown.join("; ")),
    }
}

#[test]
fn the_filter_decides_then_the_first_route_that_matches() {
    let version = "{match: [{headers: {a: {exact: PR-1}}}], route: [{destination: {host: pr-1}}]}";
    let default = "{route: [{destination: {host: a}}]}";
    assert_eq!(goes(&format!("{version}, {default}"), &request("/")), "pr-1");
    assert_eq!(goes(&format!("{default}, {version}"), &request("/")), "a");
    let other = "{match: [{uri: {exact: /x}}], route: [{destination: {host: x}}]}";
    assert_eq!(goes(other, &request("/")), "404: no rule matches");
}

#[test]
fn a_spoofed_header_is_removed() {
    let spoofed = ExplainRequest { headers: vec![("a".into(), "PR-9".into())], ..request("/") };
    let explanation = explained("", &spoofed, "{}");
    assert_eq!((explanation.outcome, explanation.removed), (Some("no-routes"), vec!["a".to_owned()]));
    assert!(explanation.set.is_empty());
}

#[test]
fn conditions_hold_as_in_envoy() {
    let get = request("/shop/cart?x=1&y=2");
    let labels = BTreeMap::from([("app".into(), "web".into())]);
    let labelled = ExplainRequest { labels: Some(labels), port: Some(80), ..get.clone() };
    for (condition, wanted) in [
        ("uri: {exact: /shop/cart}", true),
        ("uri: {exact: /shop}", false),
        ("uri: {prefix: /sh}", true),
        ("uri: {prefix: /SH}, ignoreUriCase: true", true),
        ("uri: {prefix: /SH}", false),
        ("uri: {regex: '/s.*t'}", true),
        ("uri: {regex: /shop}", false),
        ("method: {exact: GET}", true),
        ("method: {exact: POST}", false),
        ("authority: {prefix: a.}", true),
        ("headers: {a: {}}", true),
        ("headers: {b: {}}", false),
        ("headers: {a: {prefix: PR-}}", true),
        ("headers: {A: {exact: PR-1}}", false),
        ("withoutHeaders: {a: {exact: PR-2}}", true),
        ("withoutHeaders: {a: {}}", false),
        ("queryParams: {x: {exact: '1'}}", true),
        ("queryParams: {z: {exact: '1'}}", false),
        ("sourceLabels: {app: web}", true),
        ("sourceLabels: {app: api}", false),
        ("gateways: [mesh]", true),
        ("gateways: [x/y]", false),
        ("port: 80", true),
        ("port: 81", false),
    ] {
        let hit = format!("{{match: [{{{condition}}}], route: [{{destination: {{host: hit}}}}]}}");
        let routes = format!("{hit}, {{route: [{{destination: {{host: a}}}}]}}");
        assert_eq!(goes(&routes, &labelled), if wanted { "hit" } else { "a" }, "{condition}");
    }
    let unknown = "{match: [{sourceLabels: {app: web}}], route: [{destination: {host: hit}}]}";
    assert!(goes(unknown, &get).contains("whether rule 1 matches"));
    let broken = "{match: [{uri: {regex: '['}}], route: [{destination: {host: x}}]}";
    assert!(goes(broken, &get).contains("whether rule 1"));
}

#[test]
fn the_most_specific_rule_of_merged_http_routes_wins() {
    let route = |name: &str, rules: &str| {
        let parent = "parentRefs: [{kind: Service, name: a}]";
        format!(
            "kind: HTTPRoute\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{parent}, rules: [{rules}]}}\n---\n"
        )
    };
    let version = "{matches: [{headers: [{name: A, value: PR-1}]}], backendRefs: [{name: pr-1, port: 80}]}";
    let deep = "{matches: [{path: {value: /deep/er}}], backendRefs: [{name: deep}]}";
    let text = route("one", "{backendRefs: [{name: a, port: 80}]}") + &route("two", &format!("{version}, {deep}"));
    let to = |path: &str, claims: &str| explained(&text, &request(path), claims).destinations[0].host.clone();
    assert_eq!(to("/", "{}"), "a.a.svc.cluster.local");
    assert_eq!(to("/", r#"{"microservice-A": "PR-1"}"#), "pr-1.a.svc.cluster.local");
    assert_eq!(to("/deep/er/x", r#"{"microservice-A": "PR-1"}"#), "deep.a.svc.cluster.local");
    assert_eq!(to("/deep/erx", "{}"), "a.a.svc.cluster.local");
}

#[test]
fn hosts_are_found_by_wildcards_and_gateways() {
    let text = "kind: VirtualService\nmetadata: {name: v, namespace: a}\nspec: {hosts: ['*.example'], gateways: [g/g], \
                http: [{route: [{destination: {host: b}}]}]}\n";
    let at = |host: &str, gateway: Option<&str>| {
        explained(
            text,
            &ExplainRequest { host: host.into(), gateway: gateway.map(str::to_owned), ..request("/") },
            "{}",
        )
    };
    assert_eq!(at("x.example", Some("g/g")).destinations[0].host, "b.a.svc.cluster.local");
    assert_eq!(at("x.example", None).destinations[0].host, "x.example");
    assert!(at("example", Some("g/g")).instead.unwrap().starts_with("404"));
}

/// R17: a rule of the user's own may be about the header that holds the token.
#[test]
fn a_token_is_not_told_where_a_rule_is_about_it() {
    let token = request("/");
    let rules = [
        "kind: VirtualService\nmetadata: {name: v, namespace: a}\nspec: {hosts: [a], http: [{match: [{headers: {authorization: {regex: 'Basic .*'}}}]}]}\n",
        "kind: HTTPRoute\nmetadata: {name: h, namespace: a}\nspec: {parentRefs: [{kind: Service, name: a}], rules: [{matches: [{headers: [{name: Authorization, value: x}]}]}]}\n",
    ];
    for rules in rules {
        let explanation = explained(rules, &token, r#"{"microservice-a": "PR-1", "email": "tester@example.com"}"#);
        let text = format!(
            "{}{}",
            explanation.to_text(&|location| location.path.to_string()),
            serde_json::to_string(&explanation).unwrap()
        );
        assert!(text.contains("no authorization is "), "{text}");
        assert!(!text.contains("eyJ"), "{text}");
    }
}

#[test]
fn debug_of_a_request_shows_no_token() {
    let request =
        ExplainRequest { headers: vec![("authorization".into(), "Bearer hidden".into())], ..request("/hidden") };
    let text = format!("{request:#?}");
    assert!(text.contains("authorization") && !text.contains("hidden"), "{text}");
}
