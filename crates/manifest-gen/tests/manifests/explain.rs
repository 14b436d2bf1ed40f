//! Where requests go.

use std::collections::BTreeMap;

use routing_plan::explain::{ExplainRequest, Explanation, MeshFacts, explain, unverified_header};

use crate::read;

const FILTER: &str = "
kind: WasmPlugin
metadata: {name: f, namespace: istio-system}
spec: {pluginConfig: {services: [{name: microservice-A, header: a}]}}
---
";

pub(super) fn request(path: &str) -> ExplainRequest {
    ExplainRequest {
        host: "a.a.svc.cluster.local".into(),
        path: path.into(),
        method: "GET".into(),
        headers: Vec::new(),
        port: None,
        scheme: None,
        gateway: None,
        namespace: None,
        labels: None,
        mesh: MeshFacts::default(),
    }
}

fn explained(manifests: &str, request: &ExplainRequest, claims: &str) -> Explanation {
    let manifests = read(&format!("{FILTER}{manifests}"));
    let mut request = request.clone();
    request.headers.extend(unverified_header(&manifests, claims));
    explain(&manifests, &request, 0)
}

/// What happens to a request for a service with these http routes.
fn routed(routes: &str, request: &ExplainRequest) -> Explanation {
    let text =
        format!("kind: VirtualService\nmetadata: {{name: v, namespace: a}}\nspec: {{hosts: [a], http: [{routes}]}}\n");
    explained(&text, request, r#"{"microservice-a": "PR-1"}"#)
}

/// Where it goes; else what happens instead, or what is unknown.
fn goes(routes: &str, request: &ExplainRequest) -> String {
    let explanation = routed(routes, request);
    match &explanation.destinations[..] {
        [to] => to.host.split('.').next().unwrap_or_default().to_owned(),
        _ => explanation.instead.unwrap_or_else(|| {
            explanation.unknown.iter().map(|caveat| &*caveat.message).collect::<Vec<_>>().join("; ")
        }),
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
        ("headers: {A: {exact: PR-1}}", true),
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

/// A value of the wrong type is neither a condition that holds nor one that does not.
#[test]
fn a_value_of_the_wrong_type_is_unknown() {
    let default = "{route: [{destination: {host: a}}]}";
    for (route, path) in [
        ("{match: [{headers: {a: {exact: 1}}}]}", "spec.http[0].match[0].headers.a"),
        ("{match: [{headers: {a: PR-1}}]}", "spec.http[0].match[0].headers.a"),
        ("{match: [{headers: {a: null}}]}", "spec.http[0].match[0].headers.a"),
        ("{match: [{headers: {a: {exact: PR-1, prefix: PR}}}]}", "spec.http[0].match[0].headers.a"),
        ("{match: [{uri: {exct: /}}]}", "spec.http[0].match[0].uri"),
        ("{match: [{uri: {prefix: /}, ignoreUriCase: 'true'}]}", "spec.http[0].match[0].ignoreUriCase"),
        ("{match: [{header: {a: {exact: PR-1}}}]}", "spec.http[0].match[0].header"),
        ("{match: [/]}", "spec.http[0].match"),
        ("{route: [{destination: {hots: a}}]}", "spec.http[0].route[0].destination.host"),
        ("{route: [{destination: {host: a, port: 80}}]}", "spec.http[0].route[0].destination.port"),
    ] {
        let explanation = routed(&format!("{route}, {default}"), &request("/"));
        assert!(explanation.destinations.is_empty(), "{route}");
        let paths: Vec<_> =
            explanation.unknown.iter().map(|one| one.location.as_ref().unwrap().path.to_string()).collect();
        assert_eq!(paths, [path], "{route}");
    }
    let skipped = "{match: [{method: {exact: POST}, headers: {a: PR-1}}]}";
    assert_eq!(goes(&format!("{skipped}, {default}"), &request("/")), "a");
}

/// A field that no view knows is told with its path where it may change the answer.
#[test]
fn an_unknown_field_is_assumed_to_change_nothing() {
    let assumed = |routes: &str| {
        let explanation = routed(routes, &request("/"));
        assert_eq!(explanation.destinations.len(), 1, "{routes}");
        let locations = explanation.assumed.into_iter().filter_map(|one| one.location);
        locations.map(|location| location.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(assumed("{timeout: 1s, retries: {attempts: 2}, route: [{destination: {host: a}}]}"), [""; 0]);
    assert_eq!(assumed("{rout: [], route: [{destination: {host: a}}]}"), ["spec.http[0].rout"]);
    assert_eq!(assumed("{route: [{destination: {host: a, sub: x}}]}"), ["spec.http[0].route[0].destination.sub"]);
    assert_eq!(assumed("{match: [{method: {exact: POST}}], x: 1}, {route: [{destination: {host: a}}]}"), [""; 0]);
}

#[test]
fn the_most_specific_rule_of_merged_http_routes_wins() {
    let route = |name: &str, rules: &str| {
        let parent = "parentRefs: [{group: '', kind: Service, name: a}]";
        format!(
            "kind: HTTPRoute\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{parent}, rules: [{rules}]}}\n---\n"
        )
    };
    let version = "{matches: [{headers: [{name: A, value: PR-1}]}], backendRefs: [{name: pr-1, port: 80}]}";
    let deep = "{matches: [{path: {value: /deep/er}}], backendRefs: [{name: deep, port: 80}]}";
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
    let own = text.replace("[g/g]", "[g]");
    let at_own = ExplainRequest { host: "x.example".into(), gateway: Some("a/g".into()), ..request("/") };
    assert_eq!(explained(&own, &at_own, "{}").destinations[0].host, "b.a.svc.cluster.local");
}

/// R17: a rule of the user's own may be about the header that holds the token.
#[test]
fn a_token_is_not_told_where_a_rule_is_about_it() {
    let token = request("/");
    let rules = [
        "kind: VirtualService\nmetadata: {name: v, namespace: a}\nspec: {hosts: [a], http: [{match: [{headers: {authorization: {regex: 'Basic .*'}}}]}]}\n",
        "kind: HTTPRoute\nmetadata: {name: h, namespace: a}\nspec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: [{headers: [{name: Authorization, value: x}]}]}]}\n",
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
