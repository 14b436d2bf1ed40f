//! What services forward, and what becomes of the choice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use proptest::prelude::*;
use routing_claims::{Decider, Policy};
use routing_plan::{
    explain::{
        ExplainRequest, explain,
        hops::{Call, Choice, Journey, follow},
        unverified_header,
    },
    manifests::Manifest,
};
use serde_json::{Value, json};

use crate::read;

const CLAIMS: &str = r#"{"cart": "PR-1", "price": "PR-2", "exp": 1800000000}"#;
const CARRY: &str = r#""fromHeaders": [], "fromCookies": ["qa"], "fromBaggage": ["qa"], "carry": {"baggage": "qa"}"#;

fn policy_of(fields: &str) -> String {
    let separator = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"services": [{{"name": "cart"}}, {{"name": "price"}}]{separator} {fields}}}"#)
}

/// A mesh of one filter with these fields in its policy, where `cart` and `price` have a version each.
fn mesh(policy: &str, more: &str) -> Vec<Manifest> {
    let routes = |service: &str, version: &str| {
        format!(
            "---\nkind: VirtualService\nmetadata: {{name: v, namespace: {service}}}\nspec: {{hosts: [{service}], http: [\
             {{match: [{{headers: {{{service}: {{exact: {version}}}}}}}], route: [{{destination: {{host: other}}}}]}}, \
             {{route: [{{destination: {{host: {service}}}}}]}}]}}\n"
        )
    };
    let filter = format!(
        "kind: WasmPlugin\nmetadata: {{name: f, namespace: istio-system}}\nspec: {{selector: {{matchLabels: {{router: 'on'}}}}, \
         pluginConfig: {}}}\n",
        policy_of(policy)
    );
    read(&format!("{filter}{}{}{more}", routes("cart", "PR-1"), routes("price", "PR-2")))
}

fn request(headers: Vec<(String, String)>) -> ExplainRequest {
    ExplainRequest { host: "cart.cart.svc.cluster.local".into(), headers, ..crate::explain::request("/") }
}

/// A call of `price` that forwards these headers.
fn call(forwards: &[&str]) -> Call {
    Call {
        host: "price.price.svc.cluster.local".into(),
        port: None,
        path: "/".into(),
        forwards: forwards.iter().map(|name| (*name).to_owned()).collect(),
        has_own_token: false,
    }
}

fn journey(manifests: &[Manifest], more: &[(&str, &str)], call: Call) -> Journey {
    let mut headers: Vec<_> = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.extend(unverified_header(manifests, CLAIMS));
    follow(manifests, &request(headers), &[call], 0)
}

/// Where the hops lead, then where and why the choice is lost, and what helps.
fn told(journey: &Journey) -> (String, String) {
    let ends = journey.hops.iter().map(|hop| match &hop.explanation.destinations[..] {
        [to] => to.host.split('.').take(2).collect::<Vec<_>>().join("."),
        _ => "?".to_owned(),
    });
    let choice = match &journey.choice {
        Choice::Applied => "applied".to_owned(),
        Choice::Lost { hop, why, remedies } => format!("{hop}: {why} => {}", remedies.join(" | ")),
        Choice::Unknown { hop, why } => format!("{hop}? {why}"),
    };
    (ends.collect::<Vec<_>>().join(" > "), choice)
}

#[test]
fn what_a_service_forwards_decides_the_next_hop() {
    let kept = "other.cart > other.price";
    let lost = "other.cart > price.price";
    let host = "other.cart.svc.cluster.local";
    let unread = CARRY.replace(r#""fromBaggage": ["qa"], "#, "");
    let hint =
        "set `carry` in the policy: the filter then writes the choice to `baggage`, which OpenTelemetry forwards";
    let cases: [(&str, Call, &str, String); 10] = [
        ("", call(&["authorization"]), kept, "applied".into()),
        ("", call(&[]), lost, format!("2: {host} forwards nothing => let {host} forward `authorization` | {hint}")),
        (
            "",
            call(&["baggage"]),
            lost,
            format!(
                "2: {host} forwards only `baggage`, and the filter finds no token there => let {host} forward `authorization` | {hint}"
            ),
        ),
        (CARRY, call(&["baggage"]), kept, "applied".into()),
        (CARRY, call(&["cookie"]), kept, "applied".into()),
        (
            CARRY,
            call(&["x-request-id"]),
            lost,
            format!(
                "2: {host} forwards only `x-request-id`, and the filter finds no token there => let {host} forward `baggage` | let {host} forward `cookie`"
            ),
        ),
        (CARRY, call(&["baggage", "cookie"]), kept, "applied".into()),
        (CARRY, Call { has_own_token: true, ..call(&["baggage"]) }, kept, "applied".into()),
        (
            &CARRY.replace(r#""fromHeaders": [], "#, ""),
            Call { has_own_token: true, ..call(&["baggage"]) },
            lost,
            format!(
                "2: {host} sends a token of its own, which comes first and names no version => take `authorization` out of the policy's `fromHeaders`"
            ),
        ),
        (
            &unread,
            call(&["baggage"]),
            lost,
            format!(
                "2: {host} forwards only `baggage`, and the filter finds no token there => let {host} forward `cookie` | add `qa` to `fromBaggage` of the policy: there the filter before it writes the choice"
            ),
        ),
    ];
    for (policy, call, ends, choice) in cases {
        let found = told(&journey(&mesh(policy, ""), &[], call.clone()));
        assert_eq!(found, (ends.to_owned(), choice), "{policy} {call:?}");
    }
}

#[test]
fn a_choice_that_does_not_fit_is_lost_at_the_next_hop() {
    let others = format!("a={}", "x".repeat(8150));
    let journey = journey(&mesh(CARRY, ""), &[("baggage", &others)], call(&["baggage"]));
    let (ends, choice) = told(&journey);
    assert_eq!(ends, "other.cart > price.price");
    assert!(choice.contains("the filter before other.cart.svc.cluster.local reports `carry-too-large`"), "{choice}");
}

/// What the client had in `baggage` before is not its choice.
#[test]
fn another_choice_is_not_the_same() {
    let old = format!("qa={}", BASE64.encode(r#"{"price": "PR-9"}"#));
    let manifests = mesh(r#""fromBaggage": ["qa"]"#, "");
    let (ends, choice) = told(&journey(&manifests, &[("baggage", &old)], call(&["baggage"])));
    assert_eq!(ends, "other.cart > price.price");
    let host = "other.cart.svc.cluster.local";
    let why = format!(
        "2: {host} forwards another choice, which the filter applies instead => let {host} forward `authorization` | "
    );
    assert!(choice.starts_with(&why), "{choice}");
}

#[test]
fn a_request_without_a_choice_has_none_to_lose() {
    let journey = follow(&mesh("", ""), &request(Vec::new()), &[call(&["authorization"])], 0);
    let (ends, choice) = told(&journey);
    assert_eq!(ends, "cart.cart > price.price");
    assert!(
        choice.starts_with("1: the outcome is `no-token`: the request has no header `authorization` => "),
        "{choice}"
    );
}

#[test]
fn a_request_that_reaches_no_service_ends_the_journey() {
    let gone = "---\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec: {hosts: [shop.example], http: [\
                {directResponse: {status: 418}}]}\n";
    let manifests = mesh(CARRY, gone);
    let start = |host: &str| {
        let headers = unverified_header(&manifests, CLAIMS).into_iter().collect();
        let first = ExplainRequest { host: host.into(), ..request(headers) };
        let journey = follow(&manifests, &first, &[call(&["baggage"])], 0);
        (journey.hops.len(), told(&journey).1)
    };
    let (hops, choice) = start("shop.example");
    assert_eq!((hops, &*choice), (1, "1: the request reaches no service: 418: a response of the proxy itself => "));
    let (hops, choice) = start("cart");
    assert_eq!((hops, &*choice), (1, "1? it is not known which service the request reaches"));
}

#[test]
fn the_choice_ends_where_the_gateway_refuses_the_token() {
    let gateway = "---\nkind: Gateway\nmetadata: {name: g, namespace: istio-system}\n\
                   spec: {selector: {router: 'on'}, servers: [{hosts: ['*'], port: {number: 80, protocol: HTTP, name: http}}]}\n\
                   ---\nkind: RequestAuthentication\nmetadata: {name: r, namespace: istio-system}\n\
                   spec: {selector: {matchLabels: {router: 'on'}}, jwtRules: [{issuer: known, forwardOriginalToken: true}]}\n";
    let manifests = mesh(r#""carry": {"baggage": "qa"}, "fromBaggage": ["qa"]"#, gateway);
    let start = |payload: &str| {
        let headers = unverified_header(&manifests, payload).into_iter().collect();
        let first = ExplainRequest { gateway: Some("istio-system/g".into()), ..request(headers) };
        told(&follow(&manifests, &first, &[call(&["baggage"])], 0)).1
    };
    let refused = start(r#"{"cart": "PR-1", "iss": "other"}"#);
    assert_eq!(
        refused,
        "1: the request reaches no service: 401: RequestAuthentication istio-system/r accepts no token that has another issuer => "
    );
}

/// The manifests tell whether the service's own proxy has the filter.
#[test]
fn the_workload_behind_the_destination_is_the_next_caller() {
    let workload = |labels: &str| {
        format!(
            "---\nkind: Deployment\napiVersion: apps/v1\nmetadata: {{name: e, namespace: cart}}\n\
             spec: {{template: {{metadata: {{labels: {{app: e}}}}}}}}\n\
             ---\nkind: Service\napiVersion: v1\nmetadata: {{name: other, namespace: cart}}\nspec: {{selector: {{app: cart}}}}\n\
             ---\nkind: Deployment\napiVersion: apps/v1\nmetadata: {{name: d, namespace: cart}}\n\
             spec: {{template: {{metadata: {{labels: {{app: cart{labels}}}}}}}}}\n"
        )
    };
    let with = told(&journey(&mesh(CARRY, &workload(", router: 'on'")), &[], call(&["baggage"])));
    assert_eq!(with.1, "applied");
    let without = told(&journey(&mesh(CARRY, &workload("")), &[], call(&["baggage"])));
    assert!(without.1.starts_with("2: the request passes no filter of this project => give "), "{without:?}");
}

/// What changes headers behind the filter, where `explain` does not look, is assumed to leave what counts.
#[test]
fn other_changes_of_headers_are_told() {
    let changing = "---\nkind: VirtualService\nmetadata: {name: w, namespace: shop}\nspec: {hosts: [shop.example], http: [\
                    {headers: {request: {remove: [baggage]}}, route: [{destination: {host: cart.cart.svc.cluster.local}}]}]}\n";
    let manifests = mesh(CARRY, changing);
    let headers = unverified_header(&manifests, CLAIMS).into_iter().collect();
    let first = ExplainRequest { host: "shop.example".into(), ..request(headers) };
    let journey = follow(&manifests, &first, &[call(&["baggage"])], 0);
    let told = journey.hops[1].explanation.assumed.iter().filter_map(|one| {
        let location = one.location.as_ref()?;
        Some((&*one.message, location.path.to_string()))
    });
    let message =
        "VirtualService shop/w, which changes headers, leaves those that cart.cart.svc.cluster.local forwards";
    assert_eq!(told.collect::<Vec<_>>(), [(message, "spec.http[0].headers.request".to_owned())]);
}

/// The policies of docs/policy.md, each with the services that it is for.
#[test]
fn the_policies_of_the_docs_keep_the_choice() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("## From hop to hop").nth(1).unwrap();
    let rows: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `{")).collect();
    let own = Call { has_own_token: true, ..call(&["baggage"]) };
    let services = [
        ("forward `Authorization`", call(&["authorization"])),
        ("use OpenTelemetry", call(&["baggage"])),
        ("the same, and a browser", call(&["baggage"])),
        ("the same, and a mobile app", call(&["baggage"])),
        ("the same, and services send bearer tokens of their own", own),
        ("forward a header of your choice", call(&["x-qa-routes"])),
    ];
    assert_eq!(rows.len(), services.len());
    for ((about, policy), (wanted, call)) in rows.into_iter().zip(services) {
        assert!(about.starts_with(wanted), "{about}");
        let policy = policy.trim_end_matches(" |").trim_end_matches('`').strip_suffix('}').unwrap();
        assert_eq!(told(&journey(&mesh(policy, ""), &[], call)).1, "applied", "{about}");
    }
}

/// R17: a member of others in `baggage` may be a token.
#[test]
fn members_of_others_are_not_shown() {
    let manifests = mesh(CARRY, "");
    let journey = journey(&manifests, &[("baggage", "hidden=eyJ.hidden.sig,qa=e30")], call(&["baggage"]));
    let text = format!("{}{}", journey.to_text(&|location| location.path.to_string()), json!(journey));
    assert!(text.contains("baggage: …,qa=eyJ") && !text.contains("hidden"), "{text}");
}

proptest! {
    /// The second hop is what `explain` says of a request with the forwarded headers alone, and what is said to help helps.
    #[test]
    fn a_journey_is_made_of_explanations(
        policy in prop::sample::select(vec!["", CARRY, r#""carry": {"header": "x-routes"}"#, r#""fromCookies": ["qa"], "fromBaggage": ["qa"]"#]),
        lines in prop::collection::vec(
            prop::sample::select(vec![
                ("baggage", "a=1;p"), ("baggage", "qa=%"), ("baggage", "qa=eyJwcmljZSI6IlBSLTkifQ"), ("cookie", "a=b"), ("x-routes", "x"), ("cart", "PR-9"), ("authorization", "Basic x"),
            ]),
            0..4,
        ),
        has_token in any::<bool>(),
        forwards in prop::sample::subsequence(vec!["authorization", "baggage", "cookie", "x-routes", "cart"], 0..5),
        has_own_token in any::<bool>(),
    ) {
        let manifests = mesh(policy, "");
        let mut headers: Vec<_> = lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if has_token {
            headers.extend(unverified_header(&manifests, CLAIMS));
        }
        let call = Call { has_own_token, ..call(&forwards) };
        let journey = follow(&manifests, &request(headers.clone()), std::slice::from_ref(&call), 0);
        let [first, second] = &journey.hops[..] else { panic!("both hops have a destination: {journey:?}") };
        prop_assert_eq!(json!(first.explanation), json!(explain(&manifests, &request(headers.clone()), 0)));

        // The headers that reach the service.
        let policy = Policy::from_json(policy_of(policy).as_bytes()).unwrap();
        let mut decider = Decider::new(policy);
        let decision = decider.decide(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), 0);
        let mut sent: Vec<_> = headers.iter().filter(|(name, _)| !decision.removes(name.as_bytes())).cloned().collect();
        sent.extend(decision.set_headers().map(|(name, value)| (name.into(), std::str::from_utf8(value).unwrap().into())));
        sent.retain(|(name, _)| call.forwards.contains(name));
        if has_own_token {
            sent.push(("authorization".into(), "Bearer e30.e30.".into()));
        }
        let alone = ExplainRequest {
            host: call.host.clone(), scheme: Some("http".into()), namespace: Some("cart".into()), ..request(sent)
        };
        let without_assumed = |value: Value| { let mut value = value; value["assumed"].take(); value };
        let alone = without_assumed(json!(explain(&manifests, &alone, 0)));
        prop_assert_eq!(without_assumed(json!(second.explanation)), alone);

        let applied = [first, second].map(|hop| hop.explanation.outcome == Some("applied"));
        let routes = [first, second].map(|hop| {
            let set = hop.explanation.set.iter().filter(|(name, _)| ["cart", "price"].contains(&&**name));
            set.collect::<Vec<_>>()
        });
        let is_kept = applied == [true, true] && routes[0] == routes[1];
        prop_assert_eq!(journey.choice == Choice::Applied, is_kept);
        let Choice::Lost { hop, remedies, .. } = &journey.choice else { return Ok(()) };
        prop_assert_eq!(*hop, if applied[0] { 2 } else { 1 });
        for name in remedies.iter().filter_map(|remedy| remedy.split("forward `").nth(1)?.strip_suffix('`')) {
            let mut more = call.clone();
            more.forwards.push(name.to_owned());
            prop_assert_eq!(follow(&manifests, &request(headers.clone()), &[more], 0).choice, Choice::Applied);
        }
    }
}
