//! Which route a request takes, as istiod and Envoy would have it. Each rule is from Istio's source: `route.go`,
//! `httproute.go`, `gateway.go`, `virtualservice.go` and its Gateway API controller.

use std::collections::BTreeMap;

use routing_plan::explain::{ExplainRequest, Explanation, MeshFacts, explain};

use crate::read;

/// A request for `shop.a` from an `app: web` in the namespace `web`, on port 80.
fn request() -> ExplainRequest {
    ExplainRequest {
        host: "shop.a.svc.cluster.local".into(),
        path: "/".into(),
        method: "GET".into(),
        headers: Vec::new(),
        port: Some(80),
        scheme: Some("http".into()),
        gateway: None,
        namespace: Some("web".into()),
        labels: Some(BTreeMap::from([("app".into(), "web".into())])),
        mesh: MeshFacts::default(),
    }
}

fn at_gateway(host: &str) -> ExplainRequest {
    ExplainRequest {
        host: host.into(),
        gateway: Some("edge/public".into()),
        namespace: Some("edge".into()),
        labels: Some(BTreeMap::from([("istio".into(), "gateway".into())])),
        ..request()
    }
}

fn with_header(name: &str, value: &str) -> ExplainRequest {
    ExplainRequest { headers: vec![(name.into(), value.into())], ..request() }
}

fn with_path(path: &str) -> ExplainRequest {
    ExplainRequest { path: path.into(), ..request() }
}

fn from(namespace: &str) -> ExplainRequest {
    ExplainRequest { namespace: Some(namespace.into()), ..request() }
}

/// A `VirtualService` in the namespace `a`.
fn virtual_service(name: &str, spec: &str) -> String {
    resource("networking.istio.io/v1", "VirtualService", &format!("name: {name}, namespace: a"), spec)
}

/// An `HTTPRoute` in the namespace `a` of the Service `shop`.
fn http_route(name: &str, rules: &str) -> String {
    let spec = format!("parentRefs: [{{group: '', kind: Service, name: shop}}], rules: [{rules}]");
    resource("gateway.networking.k8s.io/v1", "HTTPRoute", &format!("name: {name}, namespace: a"), &spec)
}

fn resource(version: &str, kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n---\n")
}

fn to(host: &str) -> String {
    format!("route: [{{destination: {{host: {host}}}}}]")
}

fn explained(manifests: &str, request: &ExplainRequest) -> Explanation {
    explain(&read(manifests), request, 0)
}

/// The first part of the destination's host, or what happens instead; `unknown`, if that can't be told.
fn goes(manifests: &str, request: &ExplainRequest) -> String {
    let explanation = explained(manifests, request);
    assert!(explanation.unknown.is_empty() || explanation.destinations.is_empty(), "{explanation:?}");
    match (&explanation.destinations[..], &explanation.instead) {
        _ if !explanation.unknown.is_empty() => "unknown".to_owned(),
        ([to], None) => to.host.split('.').next().unwrap().to_owned(),
        ([], Some(instead)) => instead.split([':', ' ']).next().unwrap().to_owned(),
        _ => panic!("{explanation:?}"),
    }
}

/// Where the answer says that something is assumed or unknown.
fn caveats(manifests: &str, request: &ExplainRequest) -> Vec<String> {
    let explanation = explained(manifests, request);
    let caveats = explanation.assumed.into_iter().chain(explanation.unknown);
    caveats.filter_map(|caveat| Some(caveat.location?.path.to_string())).collect()
}

#[test]
fn a_match_decides_as_in_envoy() {
    let web = request();
    let query = with_path("/?debug&x=");
    for (condition, request, wanted) in [
        ("withoutHeaders: {x-user: {regex: '.*'}}", &web, "other"),
        ("withoutHeaders: {x-user: {regex: '.+'}}", &web, "hit"),
        ("withoutHeaders: {x-user: {exact: ''}}", &web, "other"),
        ("withoutHeaders: {x-user: {exact: ''}}", &with_header("x-user", "kim"), "hit"),
        ("withoutHeaders: {x-user: {prefix: k}}", &with_header("x-user", "kim"), "other"),
        ("withoutHeaders: {x-user: {regex: '*'}}", &web, "hit"),
        ("withoutHeaders: {X-User: {regex: '*'}}", &with_header("x-user", ""), "other"),
        ("withoutHeaders: {x-user: {}}", &web, "hit"),
        ("headers: {x-user: {regex: '*'}}", &with_header("x-user", "kim"), "hit"),
        ("headers: {X-User: {exact: kim}}", &with_header("x-user", "kim"), "hit"),
        ("headers: {x-user: {exact: ''}}", &web, "other"),
        ("headers: {host: {prefix: shop}}", &web, "hit"),
        ("headers: {x-id: {regex: '/a/{id}'}}", &with_header("x-id", "/a/{id}"), "hit"),
        ("headers: {x-id: {regex: '(?=a)a'}}", &with_header("x-id", "a"), "unknown"),
        ("headers: {x-id: {regex: '(?=a)a'}}", &web, "other"),
        ("headers: {'@request.auth.claims.team': {exact: beta}}", &web, "other"),
        ("withoutHeaders: {'@request.auth.claims.team': {exact: beta}}", &web, "hit"),
        ("queryParams: {debug: {}}", &web, "other"),
        ("queryParams: {debug: {}}", &query, "hit"),
        ("queryParams: {x: {exact: ''}}", &query, "hit"),
        ("queryParams: {z: {exact: ''}}", &query, "other"),
        ("uri: {regex: '/A.*'}, ignoreUriCase: true", &with_path("/ab"), "other"),
        ("uri: {regex: '/a.*'}, ignoreUriCase: true", &with_path("/AB"), "other"),
        ("uri: {exact: /A}, ignoreUriCase: true", &with_path("/a"), "hit"),
        ("uri: {prefix: ''}", &web, "hit"),
        ("scheme: {exact: http}", &web, "hit"),
        ("scheme: {exact: https}", &web, "other"),
        ("scheme: {exact: http}", &ExplainRequest { scheme: None, ..request() }, "unknown"),
        ("authority: {exact: shop.a.svc.cluster.local}, method: {exact: GET}", &web, "hit"),
        ("port: 80", &web, "hit"),
        ("port: 81", &web, "other"),
        ("sourceNamespace: web, sourceLabels: {app: web}", &web, "hit"),
        ("sourceNamespace: api", &web, "other"),
        ("sourceNamespace: web", &ExplainRequest { namespace: None, ..request() }, "unknown"),
        // Beside gateways the caller does not count.
        ("gateways: [mesh], sourceLabels: {app: api}, sourceNamespace: api", &web, "hit"),
        ("gateways: [edge/public], sourceLabels: {app: web}", &web, "other"),
    ] {
        let hit = format!("{{match: [{{{condition}}}], {}}}", to("hit"));
        let text = virtual_service("v", &format!("hosts: [shop], http: [{hit}, {{{}}}]", to("other")));
        assert_eq!(goes(&text, request), wanted, "{condition}");
    }
}

#[test]
fn gateways_have_many_names() {
    let gateway = at_gateway("shop.example");
    for (names, request, wanted) in [
        ("[edge/public]", &gateway, "hit"),
        ("[public]", &gateway, "404"),
        ("[public.edge]", &gateway, "hit"),
        ("[public.edge.svc.cluster.local]", &gateway, "hit"),
        ("[mesh]", &gateway, "404"),
        ("[]", &gateway, "404"),
    ] {
        let route = format!("{{match: [{{gateways: {names}}}], {}}}", to("hit"));
        for spec in [
            format!("hosts: [shop.example], gateways: {names}, http: [{{{}}}]", to("hit")),
            format!("hosts: [shop.example], gateways: [edge/public], http: [{route}]"),
        ] {
            // An empty list in a match does not restrict it.
            let is_match = spec.contains("match") && names == "[]";
            assert_eq!(goes(&virtual_service("v", &spec), request), if is_match { "hit" } else { wanted }, "{spec}");
        }
    }
    for (names, wanted) in [("[]", "hit"), ("[mesh]", "hit"), ("[mesh, edge/public]", "hit"), ("[edge/public]", "shop")]
    {
        let text = virtual_service("v", &format!("hosts: [shop], gateways: {names}, http: [{{{}}}]", to("hit")));
        assert_eq!(goes(&text, &request()), wanted, "{names}");
    }
    let own = virtual_service("v", &format!("hosts: [x.example], gateways: [./own], http: [{{{}}}]", to("hit")));
    let at_own = ExplainRequest { gateway: Some("a/own".into()), ..at_gateway("x.example") };
    assert_eq!(goes(&own, &at_own), "hit");
}

#[test]
fn without_a_rule_for_the_caller_the_service_itself_answers() {
    for rules in [
        format!("http: [{{match: [{{sourceLabels: {{app: api}}, uri: {{exact: /x}}}}], {}}}]", to("hit")),
        format!(
            "http: [{{match: [{{port: 81}}], {}}}, {{match: [{{gateways: [edge/public]}}], {}}}]",
            to("b"),
            to("c")
        ),
        format!("tcp: [{{{}}}]", to("hit")),
        "http: []".to_owned(),
    ] {
        let text = virtual_service("v", &format!("hosts: [shop], {rules}"));
        assert_eq!(goes(&text, &request()), "shop", "{rules}");
        // The next VirtualService of the host has its turn.
        let next = virtual_service("w", &format!("hosts: [shop], http: [{{{}}}]", to("next")));
        assert_eq!(goes(&(text + &next), &request()), "next", "{rules}");
    }
    let one = format!("http: [{{match: [{{sourceLabels: {{app: web}}, uri: {{exact: /x}}}}], {}}}]", to("hit"));
    let text = virtual_service("v", &format!("hosts: [shop], {one}"));
    assert_eq!(goes(&text, &request()), "404");
    assert_eq!(goes(&text, &ExplainRequest { labels: None, ..request() }), "unknown");
    // The more general host has no turn: its VirtualService is not the one of the Service.
    let wildcard = virtual_service("w", &format!("hosts: ['*.svc.cluster.local'], http: [{{{}}}]", to("general")));
    assert_eq!(goes(&wildcard, &request()), "general");
    let none = virtual_service("v", "hosts: [shop], http: []");
    assert_eq!(goes(&(none + &wildcard), &request()), "shop");
}

#[test]
fn a_sidecar_has_routes_at_the_ports_of_services_only() {
    let service = |name: &str, port: u16| {
        resource("v1", "Service", &format!("name: {name}, namespace: a"), &format!("ports: [{{port: {port}}}]"))
    };
    let on = |port| ExplainRequest { port: Some(port), ..request() };
    let services = service("shop", 80) + &service("v2", 8080);
    let to_8080 = "route: [{destination: {host: v2, port: {number: 8080}}}]";
    let routes = services.clone() + &virtual_service("shop", &format!("hosts: [shop], http: [{{{to_8080}}}]"));
    assert_eq!(goes(&routes, &on(80)), "v2");
    // Without a port, the request's is meant.
    let without = services.clone() + &virtual_service("shop", &format!("hosts: [shop], http: [{{{}}}]", to("v2")));
    assert_eq!(goes(&without, &on(80)), "503");
    assert_eq!(goes(&routes, &on(8080)), "503");
    assert_eq!(goes(&services, &on(8080)), "503");
    let route = services.clone() + &http_route("shop", "{backendRefs: [{name: v2, port: 8080}]}");
    assert_eq!(goes(&route, &on(8080)), "503");
    // An HTTPRoute has its own status for a port that does not exist.
    let wrong = services.clone() + &http_route("shop", "{backendRefs: [{name: v2, port: 80}]}");
    assert_eq!(goes(&wrong, &on(80)), "v2");
    // With a Service that has the port, the other hosts are there too.
    let both = services.clone() + &virtual_service("shop", &format!("hosts: [shop, v2], http: [{{{}}}]", to("v2")));
    assert_eq!(goes(&both, &on(8080)), "v2");

    // A host without a Service.
    let host = |port| ExplainRequest { host: "shop.example".into(), ..on(port) };
    let other = services + &virtual_service("shop", &format!("hosts: [shop.example], http: [{{{to_8080}}}]"));
    assert_eq!(caveats(&other, &host(80)), [""; 0]);
    assert_eq!(
        explained(&other, &host(8080)).unknown[0].message,
        "whether VirtualService a/shop counts on port 8080: no manifest has a ServiceEntry for the host"
    );
}

/// Where the manifests have every Service, one that they do not have does not exist.
#[test]
fn a_host_that_no_manifest_has_is_a_question_or_an_error() {
    let all = |request: &ExplainRequest| ExplainRequest {
        mesh: MeshFacts { is_complete: true, ..MeshFacts::default() },
        ..request.clone()
    };
    let services = resource("v1", "Service", "name: shop, namespace: a", "ports: [{port: 8080}]");
    let sent = ExplainRequest { port: Some(8080), ..request() };
    let lost = services.clone() + &virtual_service("shop", &format!("hosts: [shop], http: [{{{}}}]", to("lost")));
    let by_http_route = services.clone() + &http_route("shop", "{backendRefs: [{name: lost, port: 8080}]}");
    for (manifests, status) in [(&lost, "503"), (&by_http_route, "500")] {
        assert_eq!(goes(manifests, &sent), "lost");
        let expected = format!(
            "the mesh has the host `lost.a.svc.cluster.local`, which no manifest has (without it: {status}; --complete)"
        );
        assert_eq!(explained(manifests, &sent).assumed[0].message, expected);
        assert_eq!(goes(manifests, &all(&sent)), status);
    }
    // Of several destinations, each has its answer.
    let weighted = "route: [{destination: {host: lost}, weight: 1}, {destination: {host: shop}, weight: 9}]";
    let shared = services.clone() + &virtual_service("shop", &format!("hosts: [shop], http: [{{{weighted}}}]"));
    let statuses: Vec<_> = explained(&shared, &all(&sent)).destinations.iter().map(|to| to.status).collect();
    assert_eq!(statuses, [Some(503), None]);

    let asked = |host: &str| ExplainRequest { host: host.into(), ..sent.clone() };
    let none = asked("none.a.svc.cluster.local");
    assert_eq!(goes(&services, &none), "none");
    assert_eq!(goes(&services, &all(&none)), "503");
    // Its routes are on the ports of the Services beside it, and on port 80.
    let routes = |hosts: &str| {
        services.clone() + &virtual_service("v", &format!("hosts: [{hosts}], http: [{{{}}}]", to("shop")))
    };
    assert_eq!(goes(&routes("none"), &all(&none)), "503");
    assert_eq!(goes(&routes("none, shop"), &all(&none)), "shop");
    assert_eq!(goes(&routes("none"), &all(&ExplainRequest { port: Some(80), ..none.clone() })), "503");
    let route = resource(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        "name: none, namespace: a",
        "parentRefs: [{group: '', kind: Service, name: none}], rules: [{backendRefs: [{name: shop, port: 8080}]}]",
    );
    assert_eq!(goes(&(services + &route), &all(&none)), "503");
}

/// Without `percentage` a fault aborts nothing. A delay does not change where a request goes.
#[test]
fn a_fault_for_every_request_is_an_answer() {
    for (fault, expected) in [
        ("abort: {httpStatus: 418, percentage: {value: 100}}", "418"),
        ("abort: {httpStatus: 418, percentage: {value: 50}}", "unknown"),
        ("abort: {httpStatus: 418, percentage: {value: 0}}", "v2"),
        ("abort: {httpStatus: 418, percentage: {value: 0.00001}}", "v2"),
        ("abort: {httpStatus: 418}", "v2"),
        ("abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}", "unknown"),
        ("abort: {httpStatus: 418, percentage: 100}", "unknown"),
        ("delay: {fixedDelay: 1s, percentage: {value: 100}}", "v2"),
        ("delay: {fixedDelay: 1s}, abort: {httpStatus: 418, percentage: {value: 100}}", "418"),
        ("aborts: {httpStatus: 418}", "unknown"),
    ] {
        let routes = virtual_service("v", &format!("hosts: [shop], http: [{{fault: {{{fault}}}, {}}}]", to("v2")));
        let explanation = explained(&routes, &request());
        let found = match (&explanation.unknown[..], &explanation.instead, &explanation.destinations[..]) {
            ([], Some(instead), []) => instead.split(':').next().unwrap(),
            ([], None, [to]) => to.host.split('.').next().unwrap(),
            _ => "unknown",
        };
        assert_eq!(found, expected, "{fault}");
    }
}

/// Envoy looks at the route once, in its filter `fault`. An `EnvoyFilter` before the router comes too late to change that.
#[test]
fn a_fault_is_the_one_of_the_route_before_a_later_filter() {
    let sub_filter = "{filterChain: {filter: {subFilter: {name: envoy.filters.http.router}}}}";
    let value = "{typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}";
    let policy = r#"{"services":[{"name":"web","header":"x-web"}]}"#;
    let filter = |operation: &str| {
        resource(
            "networking.istio.io/v1alpha3",
            "EnvoyFilter",
            &format!("name: f, namespace: istio-system, annotations: {{routing-claims.dev/policy: '{policy}'}}"),
            &format!(
                "configPatches: [{{applyTo: HTTP_FILTER, match: {{context: SIDECAR_OUTBOUND, listener: {sub_filter}}}, \
                 patch: {{operation: {operation}, value: {value}}}}}]"
            ),
        )
    };
    let fault = "fault: {abort: {httpStatus: 418, percentage: {value: 100}}}";
    let version = |more: &str| format!("{{match: [{{headers: {{x-web: {{exact: PR-1}}}}}}], {} {more}}}", to("pr-1"));
    let at_version =
        virtual_service("v", &format!("hosts: [shop], http: [{}, {{{}}}]", version(&format!(", {fault}")), to("v2")));
    let at_default =
        virtual_service("v", &format!("hosts: [shop], http: [{}, {{{}, {fault}}}]", version(""), to("v2")));
    // The token `{"web":"PR-1"}`.
    let sent = with_header("authorization", "Bearer e30.eyJ3ZWIiOiJQUi0xIn0.");
    for (routes, operation, expected) in [
        (&at_version, "INSERT_BEFORE", "pr-1"),
        (&at_version, "INSERT_FIRST", "418"),
        (&at_default, "INSERT_BEFORE", "418"),
        (&at_default, "INSERT_FIRST", "pr-1"),
    ] {
        let explanation = explained(&(filter(operation) + routes), &sent);
        let found = explanation.instead.as_deref().map(|instead| &instead[..3]);
        let to = || explanation.destinations[0].host.split('.').next().unwrap();
        assert_eq!(found.unwrap_or_else(to), expected, "{operation} {routes}");
    }
}

/// `defaultVirtualServiceExportTo` of the mesh's configuration counts where there is no `exportTo`.
#[test]
fn the_mesh_can_hide_virtual_services() {
    let routes = virtual_service("v", &format!("hosts: [shop], http: [{{{}}}]", to("v2")));
    let exported = virtual_service("v", &format!("exportTo: ['*'], hosts: [shop], http: [{{{}}}]", to("v2")));
    let with = |default: &str, namespace: &str| ExplainRequest {
        mesh: MeshFacts { default_export_to: vec![default.into()], ..MeshFacts::default() },
        ..from(namespace)
    };
    assert_eq!(goes(&routes, &with(".", "web")), "shop");
    assert_eq!(goes(&routes, &with(".", "a")), "v2");
    assert_eq!(goes(&routes, &with("*", "web")), "v2");
    assert_eq!(goes(&exported, &with(".", "web")), "v2");
    let root = virtual_service("v", "hosts: [shop], http: [{delegate: {name: d, namespace: b}}]");
    let delegate = resource(
        "networking.istio.io/v1",
        "VirtualService",
        "name: d, namespace: b",
        &format!("http: [{{{}}}]", to("v2")),
    );
    assert_eq!(goes(&(root.clone() + &delegate), &with("*", "a")), "v2");
    assert_eq!(goes(&(root + &delegate), &with(".", "a")), "shop");
}

#[test]
fn a_parent_that_istio_ignores_has_a_word() {
    let route = |parent: &str| {
        let spec = format!("parentRefs: [{{{parent}}}], rules: [{{backendRefs: [{{name: v2, port: 80}}]}}]");
        resource("gateway.networking.k8s.io/v1", "HTTPRoute", "name: r, namespace: a", &spec)
    };
    let why = |parent: &str| explained(&route(parent), &request()).rules.into_iter().flat_map(|rule| rule.why).next();
    let ignored = "Istio ignores a parent of the kind `Service` with no group (so `gateway.networking.k8s.io`)";
    assert_eq!(why("kind: Service, name: shop").as_deref(), Some(ignored));
    assert_eq!(why("kind: Service, name: other"), None);
    assert_eq!(goes(&route("kind: Service, name: shop"), &request()), "shop");
}

/// The one that a manifest has is meant.
#[test]
fn a_gateway_is_one_of_istio_or_of_the_gateway_api() {
    let own = resource(
        "networking.istio.io/v1",
        "Gateway",
        "name: public, namespace: edge",
        "selector: {istio: gateway}, servers: [{hosts: ['*'], port: {number: 80, protocol: HTTP}}]",
    );
    let other = resource(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        "name: public, namespace: edge",
        "listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]",
    );
    let route = resource(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        "name: r, namespace: a",
        "parentRefs: [{name: public, namespace: edge}], rules: [{backendRefs: [{name: v2, port: 80}]}]",
    );
    let routes =
        virtual_service("v", &format!("hosts: ['shop.example'], gateways: [edge/public], http: [{{{}}}]", to("v1")));
    let sent = at_gateway("shop.example");
    assert_eq!(goes(&(own.clone() + &route), &sent), "404");
    assert_eq!(goes(&(other.clone() + &route), &sent), "v2");
    assert_eq!(goes(&(own.clone() + &routes + &route), &sent), "v1");
    assert_eq!(goes(&(other.clone() + &routes), &sent), "404");
    assert_eq!(goes(&(own + &other + &routes + &route), &sent), "unknown");
}

#[test]
fn a_wildcard_is_for_the_short_names_of_a_service() {
    let service = resource("v1", "Service", "name: shop, namespace: a", "ports: [{port: 80}]");
    let routes =
        service + &virtual_service("all", &format!("hosts: ['*.a.svc.cluster.local'], http: [{{{}}}]", to("v2")));
    for host in ["shop.a", "shop.a.svc", "shop.a.svc.cluster.local"] {
        assert_eq!(goes(&routes, &ExplainRequest { host: host.into(), ..request() }), "v2", "{host}");
    }
    let other = resource("v1", "Service", "name: other, namespace: a", "ports: [{port: 8080}]");
    assert_eq!(goes(&(routes + &other), &ExplainRequest { port: Some(8080), ..request() }), "503");
}

#[test]
fn a_short_name_that_is_a_whole_host_beside_a_service_is_unknown() {
    let service =
        |name: &str| resource("v1", "Service", &format!("name: {name}, namespace: a"), "ports: [{port: 8080}]");
    let services = service("shop") + &service("other") + &service("v2");
    let asked = ExplainRequest { host: "shop.a".into(), port: Some(8080), ..request() };
    let routes =
        |hosts: &str| services.clone() + &virtual_service("v", &format!("hosts: [{hosts}], http: [{{{}}}]", to("v2")));
    assert_eq!(caveats(&routes("other, shop.a"), &asked), ["spec.hosts[1]"]);
    // Without a Service, the VirtualService is on port 80 only.
    assert_eq!(caveats(&routes("shop.a"), &asked), [""; 0]);
    assert_eq!(caveats(&routes("other, shop.a"), &ExplainRequest { host: "shop.a.svc".into(), ..asked }), [""; 0]);
}

#[test]
fn export_to_hides_a_virtual_service() {
    let one = |name: &str, namespace: &str, export: &str, host: &str| {
        let spec = format!("hosts: [shop.a.svc.cluster.local], {export} http: [{{{}}}]", to(host));
        resource("networking.istio.io/v1", "VirtualService", &format!("name: {name}, namespace: {namespace}"), &spec)
    };
    let text = one("public", "a", "", "public")
        + &one("own", "red", "exportTo: ['.'],", "red")
        + &one("given", "a", "exportTo: [blue],", "blue")
        + &one("off", "a", "exportTo: ['~'],", "off");
    for (namespace, wanted) in [("red", "red"), ("blue", "blue"), ("web", "public")] {
        assert_eq!(goes(&text, &from(namespace)), wanted);
    }
    let unknown = ExplainRequest { namespace: None, ..request() };
    assert_eq!(goes(&text, &unknown), "unknown");
    assert_eq!(caveats(&text, &unknown), ["spec.exportTo"]);
    assert_eq!(goes(&one("own", "red", "exportTo: ['.'],", "red"), &request()), "shop");
}

#[test]
fn in_the_mesh_the_oldest_virtual_service_wins() {
    let one = |name: &str, created: &str, host: &str| {
        let metadata = format!("name: {name}, namespace: a{created}");
        resource(
            "networking.istio.io/v1",
            "VirtualService",
            &metadata,
            &format!("hosts: [shop], http: [{{{}}}]", to(host)),
        )
    };
    let at = |second: u8| format!(", creationTimestamp: '2026-01-01T00:00:0{second}Z'");
    assert_eq!(goes(&(one("x", &at(2), "young") + &one("z", &at(1), "old")), &request()), "old");
    assert_eq!(goes(&(one("z", &at(1), "z") + &one("x", &at(1), "x")), &request()), "x");
    assert_eq!(goes(&(one("x", "", "x") + &one("z", "", "z")), &request()), "unknown");
}

#[test]
fn a_gateway_merges_virtual_services_and_has_catch_alls_last() {
    let one = |name: &str, rules: &str| {
        virtual_service(name, &format!("hosts: [shop.example], gateways: [edge/public], http: [{rules}]"))
    };
    let (all, api) = (format!("{{{}}}", to("all")), format!("{{match: [{{uri: {{prefix: /api}}}}], {}}}", to("api")));
    let star = format!("{{match: [{{uri: {{exact: /star}}}}, {{uri: {{regex: '.*'}}}}], {}}}", to("star"));
    let at = |path: &str| ExplainRequest { path: path.into(), ..at_gateway("shop.example") };
    assert_eq!(goes(&(one("v", &all) + &one("w", &api)), &at("/api/x")), "api");
    assert_eq!(goes(&(one("v", &all) + &one("w", &api)), &at("/x")), "all");
    assert_eq!(goes(&(one("v", &star) + &one("w", &api)), &at("/api/x")), "api");
    assert_eq!(goes(&(one("v", &star) + &one("w", &api)), &at("/star")), "star");
    // In one VirtualService nothing comes after a catch-all.
    assert_eq!(goes(&one("v", &format!("{all}, {api}")), &at("/api/x")), "all");
    // Which of two catch-alls, or of two others, is first depends on their age.
    assert_eq!(goes(&(one("v", &all) + &one("w", &star)), &at("/x")), "unknown");
    assert_eq!(goes(&(one("v", &api) + &one("w", &api)), &at("/api")), "unknown");
    // The narrowest host has all requests, even those that none of its routes takes.
    let wildcard = virtual_service("g", &format!("hosts: ['*.example'], gateways: [edge/public], http: [{all}]"));
    assert_eq!(goes(&(one("w", &api) + &wildcard), &at("/x")), "404");
    assert_eq!(goes(&wildcard, &at("/x")), "all");
    // The gateway's own labels and namespace are those that count.
    let labelled = format!("{{match: [{{sourceLabels: {{istio: gateway}}, sourceNamespace: edge}}], {}}}", to("own"));
    assert_eq!(goes(&one("v", &labelled), &at("/")), "own");
    let claim =
        format!("{{match: [{{headers: {{'@request.auth.claims[a][bC]': {{exact: x}}}}}}], {}}}, {all}", to("c"));
    assert_eq!(goes(&one("v", &claim), &at("/")), "unknown");
}

#[test]
fn a_gateway_answers_for_its_own_hosts_only() {
    let routes =
        virtual_service("v", &format!("hosts: ['*.example'], gateways: [edge/public], http: [{{{}}}]", to("hit")));
    let gateway = |servers: &str| {
        resource("networking.istio.io/v1", "Gateway", "name: public, namespace: edge", &format!("servers: [{servers}]"))
    };
    let http = "port: {number: 80, name: http, protocol: HTTP}";
    for (servers, wanted) in [
        (format!("{{{http}, hosts: [shop.example]}}"), "hit"),
        (format!("{{{http}, hosts: ['*']}}"), "hit"),
        (format!("{{{http}, hosts: [a/*.example]}}"), "hit"),
        (format!("{{{http}, hosts: [./*.example]}}"), "404"),
        (format!("{{{http}, hosts: [other.example]}}"), "404"),
        ("{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}".to_owned(), "404"),
        ("{port: {number: 80, name: tls, protocol: TLS}, hosts: ['*']}".to_owned(), "404"),
        (format!("{{{http}, hosts: ['*'], tls: {{httpsRedirect: true}}}}"), "301"),
    ] {
        let text = routes.clone() + &gateway(&servers);
        assert_eq!(goes(&text, &at_gateway("shop.example")), wanted, "{servers}");
    }
}

#[test]
fn delegates_are_followed() {
    let root = |rules: &str| virtual_service("root", &format!("hosts: [shop], http: [{rules}]"));
    let delegate = |spec: &str| virtual_service("previews", spec);
    let default = format!("{{{}}}", to("main"));
    let rules = format!("http: [{{match: [{{headers: {{x-pr: {{exact: '1'}}}}}}], {}}}]", to("pr"));
    let text = root(&format!("{{delegate: {{name: previews}}}}, {default}")) + &delegate(&rules);
    assert_eq!(goes(&text, &with_header("x-pr", "1")), "pr");
    assert_eq!(goes(&text, &request()), "main");
    // The conditions of both hold.
    let both = root(&format!("{{match: [{{uri: {{prefix: /a}}}}], delegate: {{name: previews}}}}, {default}"))
        + &delegate(&rules);
    assert_eq!(goes(&both, &with_header("x-pr", "1")), "main");
    assert_eq!(goes(&both, &ExplainRequest { path: "/ab".into(), ..with_header("x-pr", "1") }), "pr");
    // A path of the delegate that is not a part of the root's: the route is dropped.
    let outside = delegate(&format!("http: [{{match: [{{uri: {{prefix: /}}}}], {}}}]", to("pr")));
    let narrow = root(&format!("{{match: [{{uri: {{prefix: /a}}}}], delegate: {{name: previews}}}}, {default}"));
    assert_eq!(goes(&(narrow + &outside), &with_path("/a")), "main");
    // Not visible to the root: ignored. Not there: it can't be told.
    let hidden = root(&format!("{{delegate: {{name: previews}}}}, {default}"))
        + &delegate(&format!("exportTo: [elsewhere], {rules}"));
    assert_eq!(goes(&hidden, &with_header("x-pr", "1")), "main");
    let absent = root(&format!("{{delegate: {{name: previews}}}}, {default}"));
    assert_eq!(goes(&absent, &request()), "unknown");
    assert_eq!(caveats(&absent, &request()), ["spec.http[0].delegate"]);
    let complete = MeshFacts { is_complete: true, ..MeshFacts::default() };
    // Then the default route counts, whose Service is not there either.
    let to_main = explained(&absent, &ExplainRequest { mesh: complete, ..request() });
    assert_eq!(to_main.instead.as_deref(), Some("503: no Service or ServiceEntry has `main.a.svc.cluster.local`"));
    let here = root(&format!("{{delegate: {{name: previews, namespace: .}}}}, {default}"));
    assert_eq!(goes(&here, &request()), "main");
}

#[test]
fn of_several_destinations_those_without_weight_get_nothing() {
    let two = "route: [{destination: {host: x}, weight: 100}, {destination: {host: z}, weight: 0}]";
    let text = virtual_service("v", &format!("hosts: [shop], http: [{{{two}}}]"));
    assert_eq!(goes(&text, &request()), "x");
    for (action, wanted) in
        [("redirect: {uri: /x}", "301"), ("directResponse: {status: 418}", "418"), ("timeout: 1s", "unknown")]
    {
        let text = virtual_service("v", &format!("hosts: [shop], http: [{{{action}}}]"));
        assert_eq!(goes(&text, &request()), wanted, "{action}");
    }
}

#[test]
fn the_proxy_answers_with_a_location_or_a_body() {
    let asked = ExplainRequest { port: Some(8080), ..with_path("/a?x=1") };
    let own = "shop.a.svc.cluster.local";
    let istio = |action: &str| virtual_service("v", &format!("hosts: [shop], http: [{{{action}}}]"));
    let gateway_api = |redirect: &str| {
        http_route("r", &format!("{{filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}"))
    };
    for (routes, expected) in [
        (istio("redirect: {uri: /b}"), format!("301: a redirect to http://{own}/b?x=1")),
        (istio("redirect: {uri: '/b?z=2', redirectCode: 307}"), format!("307: a redirect to http://{own}/b?z=2")),
        (istio("redirect: {authority: b.example}"), "301: a redirect to http://b.example/a?x=1".into()),
        (istio("redirect: {scheme: https}"), format!("301: a redirect to https://{own}/a?x=1")),
        (istio("redirect: {port: 81}"), format!("301: a redirect to http://{own}:81/a?x=1")),
        (istio("redirect: {port: 443, scheme: https}"), format!("301: a redirect to https://{own}/a?x=1")),
        (istio("redirect: {derivePort: FROM_REQUEST_PORT}"), format!("301: a redirect to http://{own}:8080/a?x=1")),
        (istio("directResponse: {status: 418}"), "418: a response of the proxy itself".into()),
        (
            istio("directResponse: {status: 503, body: {string: 'try later'}}"),
            r#"503: a response of the proxy itself, "try later""#.into(),
        ),
        (
            istio("directResponse: {status: 503, body: {bytes: bGF0ZXI=}}"),
            "503: a response of the proxy itself, 5 bytes".into(),
        ),
        // Of the Gateway API, the port is the request's.
        (gateway_api("hostname: b.example"), "302: a redirect to http://b.example:8080/a?x=1".into()),
        (gateway_api("scheme: https, statusCode: 301"), format!("301: a redirect to https://{own}/a?x=1")),
        (
            gateway_api("port: 80, path: {type: ReplaceFullPath, replaceFullPath: /b}"),
            format!("302: a redirect to http://{own}/b?x=1"),
        ),
        (gateway_api("path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}"), "302: a redirect".into()),
    ] {
        assert_eq!(explained(&routes, &asked).instead, Some(expected), "{routes}");
    }
    let without = ExplainRequest { scheme: None, port: None, ..asked };
    let to = |routes: &str| explained(routes, &without).instead.unwrap();
    assert_eq!(to(&istio("redirect: {uri: /b}")), format!("301: a redirect to //{own}/b?x=1"));
    assert_eq!(to(&gateway_api("hostname: b.example")), "302: a redirect");
    let wrong = explained(&istio("redirect: {uri: 1}"), &request());
    assert_eq!(wrong.unknown[0].message, "what the proxy answers: `spec.http[0].redirect.uri` has the wrong type");
}

#[test]
fn a_destination_is_a_host_that_istio_knows() {
    let services =
        ["shop", "pr"].map(|name| format!("kind: Service\nmetadata: {{name: {name}, namespace: a}}\n---\n")).concat();
    let text =
        |host: &str| services.clone() + &virtual_service("v", &format!("hosts: [shop], http: [{{{}}}]", to(host)));
    assert_eq!(goes(&text("pr"), &request()), "pr");
    assert_eq!(goes(&text("pr.a"), &request()), "503");
    assert!(explained(&text("pr"), &request()).assumed.is_empty());
    assert_eq!(explained(&text("nope"), &request()).assumed.len(), 1);
    assert!(explained(&text("elsewhere.example"), &request()).assumed.is_empty());
}

#[test]
fn an_http_route_counts_for_each_parent() {
    let route = |parents: &str| {
        let spec = format!(
            "parentRefs: [{parents}], hostnames: [shop.example], rules: [{{backendRefs: [{{name: hit, port: 80}}]}}]"
        );
        resource("gateway.networking.k8s.io/v1", "HTTPRoute", "name: r, namespace: a", &spec)
    };
    let service = "{group: '', kind: Service, name: shop}";
    let alias = ExplainRequest { host: "alias.a.svc.cluster.local".into(), ..request() };
    for (parents, request, wanted) in [
        (format!("{service}, {{group: '', kind: Service, name: alias}}"), &alias, "hit"),
        (service.to_owned(), &alias, "alias"),
        ("{kind: Service, name: shop}".to_owned(), &request(), "shop"),
        ("{group: core, kind: Service, name: shop}".to_owned(), &request(), "shop"),
        ("{group: '', kind: Service, name: shop, port: 80}".to_owned(), &request(), "hit"),
        ("{group: '', kind: Service, name: shop, port: 8080}".to_owned(), &request(), "shop"),
        ("{group: '', kind: Service, name: shop, sectionName: web}".to_owned(), &request(), "hit"),
        ("{name: public, namespace: edge}".to_owned(), &at_gateway("shop.example"), "hit"),
        ("{name: public, namespace: edge}".to_owned(), &at_gateway("other.example"), "404"),
        ("{name: other, namespace: edge}".to_owned(), &at_gateway("shop.example"), "404"),
    ] {
        assert_eq!(goes(&route(&parents), request), wanted, "{parents}");
    }
    let gateway = route("{name: public, namespace: edge}");
    assert_eq!(caveats(&gateway, &at_gateway("shop.example")), ["spec.parentRefs[0]"]);
    // A port that is not given is taken for the one that the routes are for.
    let without = ExplainRequest { port: None, ..request() };
    let one = route("{group: '', kind: Service, name: shop, port: 80}");
    assert_eq!(goes(&one, &without), "hit");
    assert_eq!(caveats(&one, &without), ["spec.parentRefs[0].port"]);
}

/// A route in the namespace of its Service is for all callers, one in another namespace for the callers there.
#[test]
fn routes_of_producers_and_consumers() {
    let producer = http_route("p", "{backendRefs: [{name: p, port: 80}]}");
    let spec = "parentRefs: [{group: '', kind: Service, name: shop, namespace: a}], rules: [{backendRefs: [{name: c, port: 80}]}]";
    let consumer = resource("gateway.networking.k8s.io/v1", "HTTPRoute", "name: c, namespace: web", spec);
    assert_eq!(goes(&(producer.clone() + &consumer), &from("web")), "c");
    assert_eq!(goes(&(producer + &consumer), &from("other")), "p");
    assert_eq!(goes(&consumer, &from("other")), "shop");
    assert_eq!(goes(&consumer, &ExplainRequest { namespace: None, ..request() }), "unknown");
}

#[test]
fn precedence_of_http_routes() {
    let rule =
        |condition: &str, to: &str| format!("{{matches: [{{{condition}}}], backendRefs: [{{name: {to}, port: 80}}]}}");
    let regex = rule("path: {type: RegularExpression, value: '/items/[0-9]+'}", "regex");
    let prefix = rule("path: {type: PathPrefix, value: /}", "prefix");
    let deep = rule("path: {value: /items}", "deep");
    let exact = rule("path: {type: Exact, value: /items/7}", "exact");
    let header = rule("headers: [{name: X-A, value: b}]", "header");
    let default = "{backendRefs: [{name: default, port: 80}]}".to_owned();
    let path = with_path("/items/7");
    for (rules, request, wanted) in [
        (vec![&regex, &prefix], &path, "prefix"),
        (vec![&regex, &default], &path, "default"),
        (vec![&regex, &rule("path: {value: /other}", "other")], &path, "regex"),
        (vec![&prefix, &deep], &path, "deep"),
        (vec![&deep, &exact], &path, "exact"),
        (vec![&header, &deep], &ExplainRequest { path: "/items".into(), ..with_header("x-a", "b") }, "deep"),
        (vec![&default, &header], &with_header("x-a", "b"), "header"),
        (vec![&default], &request(), "default"),
        (vec![&deep], &request(), "404"),
    ] {
        let rules: Vec<_> = rules.into_iter().map(String::as_str).collect();
        assert_eq!(goes(&http_route("r", &rules.join(", ")), request), wanted, "{rules:?}");
    }
    // A path that can't be read may be before every other.
    let odd = rule("path: {type: Exact, value: 7}", "odd");
    assert_eq!(goes(&http_route("r", &format!("{exact}, {odd}")), &path), "unknown");
    let odd = rule("paht: {value: /}", "odd");
    assert_eq!(goes(&http_route("r", &format!("{exact}, {odd}")), &path), "unknown");
    // Two resources with equal matches: the older one's wins, and their ages are not known.
    let (one, other) = (rule("path: {value: /items}", "x"), rule("path: {value: /items}", "z"));
    assert_eq!(goes(&(http_route("r", &one) + &http_route("s", &other)), &path), "unknown");
}

#[test]
fn a_rule_without_a_backend_answers_500() {
    let service = |backend: &str| http_route("r", &format!("{{backendRefs: [{backend}]}}"));
    assert_eq!(goes(&service(""), &request()), "500");
    let on_1_30 = MeshFacts { istio_version: Some("1.30.0".into()), ..MeshFacts::default() };
    assert_eq!(goes(&service(""), &ExplainRequest { mesh: on_1_30, ..request() }), "404");
    assert_eq!(goes(&service("{name: x, port: 80, weight: 0}"), &request()), "500");
    assert_eq!(goes(&service("{name: x, port: 80, weight: 0}, {name: z, port: 80}"), &request()), "z");
    assert_eq!(goes(&http_route("r", "{filters: [{type: RequestRedirect, requestRedirect: {}}]}"), &request()), "302");
    // Istio ignores a route with anything that it does not support.
    assert_eq!(goes(&service("{name: x.a, port: 80}"), &request()), "shop");
    let extension = "{filters: [{type: ExtensionRef}], backendRefs: [{name: x, port: 80}]}";
    assert_eq!(goes(&http_route("r", extension), &request()), "shop");
    assert_eq!(goes(&service("{name: x, port: 80, kind: Bucket, group: example.com}"), &request()), "unknown");
    // In the mesh no ReferenceGrant is asked for.
    let foreign = service("{name: x, namespace: b, port: 80}");
    assert_eq!((goes(&foreign, &request()), caveats(&foreign, &request())), ("x".to_owned(), Vec::new()));
}

#[test]
fn a_method_of_a_grpc_route_is_a_path() {
    let route = |conditions: &str| {
        let rules = format!(
            "{{matches: [{{{conditions}}}], backendRefs: [{{name: hit, port: 80}}]}}, {{backendRefs: [{{name: other, port: 80}}]}}"
        );
        let spec = format!("parentRefs: [{{group: '', kind: Service, name: shop}}], rules: [{rules}]");
        resource("gateway.networking.k8s.io/v1", "GRPCRoute", "name: r, namespace: a", &spec)
    };
    let call = with_path("/shop.Orders/Get");
    for (condition, request, wanted) in [
        ("method: {service: shop.Orders, method: Get}", &call, "hit"),
        ("method: {service: shop.Orders, method: List}", &call, "other"),
        ("method: {service: shop.Orders}", &call, "hit"),
        ("method: {method: Get}", &call, "hit"),
        ("method: {type: RegularExpression, service: 'shop[.].*', method: 'G.*'}", &call, "hit"),
        ("headers: [{name: X-A, value: b}]", &with_header("x-a", "b"), "hit"),
        ("headers: [{name: X-A, value: b}]", &call, "other"),
        ("method: {service: 2}", &call, "unknown"),
    ] {
        assert_eq!(goes(&route(condition), request), wanted, "{condition}");
    }
    // A rule without a condition is behind one with an empty condition, wherever they are.
    let rules = "{backendRefs: [{name: last, port: 80}]}, {matches: [{}], backendRefs: [{name: first, port: 80}]}";
    let spec = format!("parentRefs: [{{group: '', kind: Service, name: shop}}], rules: [{rules}]");
    assert_eq!(
        goes(&resource("gateway.networking.k8s.io/v1", "GRPCRoute", "name: r, namespace: a", &spec), &call),
        "first"
    );
    // It is merged with the HTTPRoutes of the Service.
    let http = http_route("h", "{matches: [{path: {value: /}}], backendRefs: [{name: http, port: 80}]}");
    assert_eq!(goes(&(route("method: {service: shop.Orders, method: Get}") + &http), &call), "hit");
}

#[test]
fn what_the_cluster_refuses_is_not_certain() {
    let wrong = format!("{{match: [{{uri: {{exact: 1}}, method: {{exact: POST}}}}], {}}}, {{{}}}", to("x"), to("z"));
    let text = virtual_service("v", &format!("hosts: [shop], http: [{wrong}]"));
    assert_eq!(goes(&text, &request()), "z");
    assert_eq!(caveats(&text, &request()), ["spec.http[0].match[0].uri.exact"]);
    let sidecar = resource("networking.istio.io/v1", "Sidecar", "name: s, namespace: web", "egress: [{hosts: [a/*]}]");
    assert_eq!(explained(&sidecar, &request()).assumed.len(), 1);
    assert!(explained(&sidecar, &from("a")).assumed.is_empty());
    let others = "workloadSelector: {labels: {app: api}}, egress: [{hosts: [a/*]}]";
    for spec in ["egress: [{hosts: ['*/*']}]", "outboundTrafficPolicy: {mode: ALLOW_ANY}", others] {
        let sidecar = resource("networking.istio.io/v1", "Sidecar", "name: s, namespace: web", spec);
        assert!(explained(&sidecar, &request()).assumed.is_empty(), "{spec}");
    }
}

#[test]
fn an_option_that_is_not_given_is_assumed_or_unknown() {
    let short = ExplainRequest { host: "shop".into(), namespace: None, ..request() };
    let own = virtual_service("v", &format!("hosts: [shop], http: [{{{}}}]", to("hit")));
    assert_eq!(goes(&own, &short), "unknown");
    assert_eq!(goes(&own, &ExplainRequest { namespace: Some("a".into()), ..short }), "hit");
    let outside = virtual_service("v", &format!("hosts: [partner.example], http: [{{{}}}]", to("hit")));
    let at = |port: Option<u16>| ExplainRequest { host: "partner.example".into(), port, ..request() };
    assert_eq!(
        (goes(&outside, &at(Some(80))), goes(&outside, &at(Some(81)))),
        ("hit".to_owned(), "unknown".to_owned())
    );
    assert_eq!(explained(&outside, &at(None)).assumed.len(), 1);
    let entry = resource("networking.istio.io/v1", "ServiceEntry", "name: s, namespace: a", "hosts: [partner.example]");
    assert_eq!(goes(&(outside + &entry), &at(Some(81))), "hit");
    // An HTTPRoute of the caller's own namespace goes before an older VirtualService.
    let created = |text: String, second: u8| {
        text.replacen("namespace: a", &format!("namespace: a, creationTimestamp: '2026-01-01T00:00:0{second}Z'"), 1)
    };
    let both = created(own, 1) + &created(http_route("r", "{backendRefs: [{name: route, port: 80}]}"), 2);
    assert_eq!((goes(&both, &from("web")), goes(&both, &from("a"))), ("hit".to_owned(), "route".to_owned()));
    assert_eq!(goes(&both, &ExplainRequest { namespace: None, ..request() }), "unknown");
}

#[test]
fn a_gateway_of_the_gateway_api_admits_routes() {
    let spec = |parent: &str| {
        format!(
            "parentRefs: [{{name: public, namespace: edge{parent}}}], hostnames: ['*.example'], rules: [{{backendRefs: [{{name: hit, port: 80}}]}}]"
        )
    };
    let route =
        |parent: &str| resource("gateway.networking.k8s.io/v1", "HTTPRoute", "name: r, namespace: a", &spec(parent));
    let gateway = |listeners: &str| {
        let spec = format!("gatewayClassName: istio, listeners: [{listeners}]");
        resource("gateway.networking.k8s.io/v1", "Gateway", "name: public, namespace: edge", &spec)
    };
    let all = "allowedRoutes: {namespaces: {from: All}}";
    for (listeners, parent, wanted) in [
        (format!("{{name: web, port: 80, protocol: HTTP, {all}}}"), "", "hit"),
        (format!("{{name: web, port: 80, protocol: HTTP, {all}}}"), ", sectionName: web", "hit"),
        (format!("{{name: web, port: 80, protocol: HTTP, {all}}}"), ", sectionName: tls", "404"),
        (format!("{{name: web, port: 81, protocol: HTTP, {all}}}"), "", "404"),
        (format!("{{name: web, port: 80, protocol: TCP, {all}}}"), "", "404"),
        (format!("{{name: web, port: 80, protocol: HTTP, hostname: '*.example', {all}}}"), "", "hit"),
        (format!("{{name: web, port: 80, protocol: HTTP, hostname: '*.com', {all}}}"), "", "404"),
        ("{name: web, port: 80, protocol: HTTP}".to_owned(), "", "404"),
        ("{name: web, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}], namespaces: {from: All}}}".to_owned(), "", "404"),
        // The listener with the narrower host has the request.
        (format!("{{name: web, port: 80, protocol: HTTP, {all}}}, {{name: shop, port: 80, protocol: HTTP, hostname: shop.example}}"), "", "404"),
    ] {
        let text = route(parent) + &gateway(&listeners);
        assert_eq!(goes(&text, &at_gateway("shop.example")), wanted, "{listeners} {parent}");
        assert!(explained(&text, &at_gateway("shop.example")).assumed.is_empty(), "{listeners} {parent}");
    }
    let selected = "{name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}";
    assert_eq!(caveats(&(route("") + &gateway(selected)), &at_gateway("shop.example")), ["spec.parentRefs[0]"]);
}
