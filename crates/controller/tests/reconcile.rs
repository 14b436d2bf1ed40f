//! The decisions of the controller: objects in, objects and states of variants out. No cluster, no clock.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::collections::BTreeMap;

use controller::{
    kinds::WRITTEN,
    objects::VariantPhase::{self, Conflict, Deleting, Expired, NotReady, Refused, Routed},
    observed::{ObjectName, Observed, Resource},
    reconcile::{PlanOutcome, Reconciled, Source, ValidPlan, deleted_plans, reconcile},
};
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// The objects of a cluster, as the API server gives them.
fn observed(objects: &[Value]) -> Observed {
    let mut observed = Observed::default();
    for object in objects {
        let metadata = &object["metadata"];
        let name = ObjectName::new(metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap());
        let dynamic = || serde_json::from_value::<DynamicObject>(object.clone()).unwrap();
        match object["kind"].as_str().unwrap() {
            "RoutingPlan" => observed.plans.insert(name, dynamic().into()),
            "RoutingVariant" => observed.variants.insert(name, dynamic().into()),
            "Service" => observed.services.insert(name, typed::<k8s_openapi::api::core::v1::Service>(object).into()),
            "EndpointSlice" => {
                observed.slices.insert(name, typed::<k8s_openapi::api::discovery::v1::EndpointSlice>(object).into())
            }
            "WorkloadEntry" => observed.workloads.insert(name, dynamic().into()),
            kind => {
                let kind = WRITTEN.into_iter().find(|one| one.kind == kind).unwrap();
                observed.resources.entry(kind).or_default().insert(name, Resource::from(dynamic()))
            }
        };
    }
    observed
}

fn typed<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

fn plan(services: &Value) -> Value {
    json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingPlan",
        "metadata": {"name": "qa", "namespace": "istio-system", "generation": 1},
        "spec": {"filter": {"engine": "lua", "istioVersion": "1.27"}, "services": services},
    })
}

fn cart() -> Value {
    json!([{"name": "cart", "namespace": "shop", "port": 80, "allowedNamespaces": ["preview-*"]}])
}

/// A labelled Service that is `age` seconds older than noon, and one ready endpoint of it.
fn service(namespace: &str, name: &str, variant: &str, age: i64) -> [Value; 2] {
    let created = noon().checked_sub(jiff::SignedDuration::from_secs(age)).unwrap();
    [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name, "namespace": namespace, "uid": name, "creationTimestamp": created.to_string(),
                "labels": {"routing-claims.dev/service": "cart", "routing-claims.dev/variant": variant},
                "annotations": {},
            },
            "spec": {"ports": [{"port": 80}], "selector": {"app": name}},
        }),
        slice(namespace, name, "IPv4", &json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}])),
    ]
}

fn slice(namespace: &str, service: &str, addresses: &str, endpoints: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{addresses}"), "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": addresses,
        "endpoints": endpoints,
    })
}

fn variant(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingVariant",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": noon().to_string()},
        "spec": spec,
    })
}

fn noon() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

fn decide(objects: &[Value]) -> Reconciled {
    reconcile(&observed(objects), &BTreeMap::new(), noon())
}

/// What becomes of the only plan.
fn outcome(objects: &[Value]) -> PlanOutcome {
    decide(objects).plans.remove(&qa()).unwrap()
}

fn qa() -> ObjectName {
    ObjectName::new("istio-system", "qa")
}

/// Variant and state of each, in order.
fn states(outcome: &PlanOutcome) -> Vec<(&str, VariantPhase)> {
    outcome.variants.iter().map(|state| (&*state.variant, state.phase)).collect()
}

/// The variants that the cart's route matches on.
fn routed(outcome: &PlanOutcome) -> Vec<&str> {
    let route = outcome.wanted.as_ref().unwrap().iter().find(|one| one.kind == "VirtualService").unwrap();
    let rules = route.value["spec"]["http"].as_array().unwrap();
    rules.iter().filter_map(|rule| rule["match"][0]["headers"]["cart"]["exact"].as_str()).collect()
}

fn problem(outcome: &PlanOutcome) -> &str {
    outcome.variants[0].problem.as_deref().unwrap()
}

#[test]
fn a_ready_service_is_routed() {
    let [service, endpoints] = service("shop", "pr-1", "PR-1", 60);
    let outcome = outcome(&[plan(&cart()), service, endpoints]);
    assert_eq!(states(&outcome), [("PR-1", Routed)]);
    assert_eq!(routed(&outcome), ["PR-1"]);
    assert_eq!(outcome.variants[0].host.as_deref(), Some("pr-1.shop.svc.cluster.local"));
    assert_eq!(outcome.variants[0].ready_endpoints, Some(1));
}

#[test]
fn what_is_written_is_marked_as_the_plans() {
    let outcome = outcome(&[plan(&cart())]);
    let wanted = outcome.wanted.unwrap();
    assert_eq!(wanted.iter().map(|one| &*one.kind).collect::<Vec<_>>(), ["EnvoyFilter", "VirtualService"]);
    for resource in wanted {
        assert_eq!(resource.value["metadata"]["labels"]["routing-claims.dev/plan-namespace"], "istio-system");
        assert_eq!(resource.value["metadata"]["labels"]["routing-claims.dev/plan"], "qa");
        let hash = resource.value["metadata"]["annotations"]["routing-claims.dev/applied"].as_str().unwrap();
        assert_eq!(hash.len(), 22, "16 bytes of base64url: {hash}");
    }
}

#[test]
fn endpoints_decide_whether_somebody_answers() {
    let of = |endpoints: &[Value]| {
        let [service, _] = service("shop", "pr-1", "PR-1", 60);
        let objects: Vec<_> = [plan(&cart()), service].into_iter().chain(endpoints.iter().cloned()).collect();
        let outcome = outcome(&objects);
        assert_eq!(routed(&outcome).len(), usize::from(outcome.variants[0].phase == Routed));
        outcome.variants[0].phase
    };
    let ready = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]);
    let unready = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]);
    let unknown = json!([{"addresses": ["10.0.0.1"]}]);
    let workload = |labels: Value, status: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": "vm", "namespace": "shop"}, "spec": {"labels": labels}, "status": status,
        })
    };
    let v4 = |endpoints: &Value| slice("shop", "pr-1", "IPv4", endpoints);
    assert_eq!(of(&[]), NotReady);
    assert_eq!(of(&[v4(&ready)]), Routed);
    assert_eq!(of(&[v4(&unready)]), NotReady);
    assert_eq!(of(&[v4(&unknown)]), Routed);
    assert_eq!(of(&[v4(&json!([]))]), NotReady);
    assert_eq!(of(&[v4(&unready), slice("shop", "pr-1", "IPv6", &ready)]), Routed);
    assert_eq!(of(&[slice("shop", "pr-1", "FQDN", &ready)]), NotReady, "istiod ignores names");
    assert_eq!(of(&[slice("other", "pr-1", "IPv4", &ready)]), NotReady, "of another namespace");
    assert_eq!(of(&[workload(json!({"app": "pr-1", "more": "x"}), Value::Null)]), Routed);
    assert_eq!(of(&[workload(json!({"app": "pr-2"}), Value::Null)]), NotReady);
    let sick = json!({"conditions": [{"type": "Healthy", "status": "False"}]});
    assert_eq!(of(&[workload(json!({"app": "pr-1"}), sick)]), NotReady);
    assert_eq!(of(&[v4(&unready), workload(json!({"app": "pr-1"}), Value::Null)]), NotReady, "slices come first");
}

#[test]
fn variants_end() {
    let of = |key: &str, value: &str| {
        let [mut service, endpoints] = service("shop", "pr-1", "PR-1", 3600);
        service["metadata"]["annotations"][format!("routing-claims.dev/{key}")] = json!(value);
        let reconciled = decide(&[plan(&cart()), service, endpoints]);
        (reconciled.plans[&qa()].variants[0].phase, reconciled.wake_at.map(|time| time.to_string()))
    };
    let wakes = |time: &str| Some(time.to_owned());
    assert_eq!(of("ttl", "90m"), (Routed, wakes("2026-11-27T12:30:00Z")));
    assert_eq!(of("ttl", "3d"), (Routed, wakes("2026-11-30T11:00:00Z")));
    assert_eq!(of("ttl", "1h"), (Expired, None), "an hour old at noon");
    assert_eq!(of("expires-at", "2026-11-27T12:00:01Z"), (Routed, wakes("2026-11-27T12:00:01Z")));
    assert_eq!(of("expires-at", "2026-11-27T12:00:00Z"), (Expired, None));
    for text in ["", "0s", "-1h", "soon", "999999999999h", "1h\u{202e}"] {
        assert_eq!(of("ttl", text), (Refused, None), "{text:?}");
    }
    assert_eq!(of("expires-at", "tomorrow"), (Refused, None));
}

#[test]
fn a_refusal_names_the_field_and_what_was_found() {
    let of = |change: &dyn Fn(&mut Value)| {
        let [mut service, endpoints] = service("shop", "pr-1", "PR-1", 60);
        change(&mut service);
        let outcome = outcome(&[plan(&cart()), service, endpoints]);
        assert_eq!((outcome.variants[0].phase, routed(&outcome).len()), (Refused, 0));
        problem(&outcome).to_owned()
    };
    assert_eq!(
        of(&|service| service["metadata"]["annotations"]["routing-claims.dev/ttl"] = json!("soon")),
        "metadata.annotations[\"routing-claims.dev/ttl\"]: expected a duration such as `72h` or `3d`, found `soon`"
    );
    assert_eq!(
        of(&|service| service["spec"]["type"] = json!("ExternalName")),
        "spec.type: expected a Service with endpoints, found `ExternalName`, which names another host"
    );
    assert_eq!(
        of(&|service| service["spec"]["ports"] = json!([{"port": 8080}])),
        "spec.ports: expected the port 80, to which the plan routes, found [8080]"
    );
    let long = of(&|service| {
        service["metadata"]["annotations"]["routing-claims.dev/ttl"] = json!(format!("\n{}", "x".repeat(100_000)));
    });
    assert!(long.len() < 250 && !long.contains('\n'), "{long}");
    let unlabelled = of(&|service| {
        service["metadata"]["labels"].as_object_mut().unwrap().remove("routing-claims.dev/variant");
    });
    assert_eq!(
        unlabelled,
        "the Service has the label `routing-claims.dev/service`, but not `routing-claims.dev/variant`"
    );
}

#[test]
fn only_namespaces_that_the_plan_allows_serve_its_services() {
    for (namespace, expected) in
        [("shop", Routed), ("preview-7", Routed), ("preview", Refused), ("other", Refused), ("istio-system", Refused)]
    {
        let [service, endpoints] = service(namespace, "pr-1", "PR-1", 60);
        let outcome = outcome(&[plan(&cart()), service, endpoints]);
        assert_eq!(states(&outcome), [("PR-1", expected)], "{namespace}");
        assert_eq!(outcome.variants[0].is_allowed, expected == Routed);
    }
}

#[test]
fn routing_variants_name_hosts_of_their_namespace_only() {
    let of = |namespace: &str, host: &str| {
        let [_, endpoints] = service("shop", "pr-1", "PR-1", 60);
        let mut service = service("shop", "pr-1", "PR-1", 60)[0].clone();
        service["metadata"]["labels"] = json!({});
        let variant = variant(namespace, "v", &json!({"service": "cart", "variant": "PR-2", "host": host}));
        outcome(&[plan(&cart()), service, endpoints, variant]).variants[0].phase
    };
    assert_eq!(of("shop", "pr-1.shop.svc.cluster.local"), Routed);
    assert_eq!(of("preview-1", "pr-1.shop.svc.cluster.local"), Refused);
    assert_eq!(of("preview-1", "evil.example"), Refused);
    assert_eq!(of("other", "pr-1.shop.svc.cluster.local"), Refused);
    assert_eq!(of("istio-system", "pr-1.shop.svc.cluster.local"), Routed, "who writes plans may name any host");
    assert_eq!(of("istio-system", "elsewhere.example"), Routed, "nothing is known about it");
    assert_eq!(of("shop", "gone.shop.svc.cluster.local"), NotReady);
}

#[test]
fn the_oldest_of_several_wins_and_both_are_told() {
    let [old, old_endpoints] = service("shop", "b", "PR-1", 100);
    let [new, new_endpoints] = service("shop", "a", "PR-1", 50);
    let both = [plan(&cart()), old.clone(), old_endpoints.clone(), new, new_endpoints];
    let result = outcome(&both);
    assert_eq!(states(&result), [("PR-1", Routed), ("PR-1", Conflict)]);
    assert_eq!(result.variants[0].source, Source::Service(ObjectName::new("shop", "b")));
    assert_eq!(problem(&result), "Service shop/a claims the same variant; this one wins");
    let told = "Service shop/b claims the same variant and is older";
    assert_eq!(result.variants[1].problem.as_deref(), Some(told));

    // What the plan itself says wins against both.
    let mut services = cart();
    services[0]["variants"] = json!([{"name": "PR-1", "host": "elsewhere.example"}]);
    let result = outcome(&[&[plan(&services)], &both[1..]].concat());
    assert_eq!(states(&result), [("PR-1", Routed), ("PR-1", Conflict), ("PR-1", Conflict)]);
    assert_eq!(result.variants[0].source, Source::Plan);

    // One that has expired claims nothing.
    let mut expired = old;
    expired["metadata"]["annotations"]["routing-claims.dev/ttl"] = json!("1s");
    let result = outcome(&[both[0].clone(), expired, old_endpoints, both[3].clone(), both[4].clone()]);
    assert_eq!(states(&result), [("PR-1", Expired), ("PR-1", Routed)]);
}

#[test]
fn a_service_has_at_most_500_variants() {
    let services = (0..600).flat_map(|number| service("shop", &format!("s-{number}"), &format!("PR-{number}"), number));
    let objects: Vec<_> = [plan(&cart())].into_iter().chain(services).collect();
    let outcome = outcome(&objects);
    assert_eq!(routed(&outcome).len(), 500);
    let refused: Vec<_> = outcome.variants.iter().filter(|state| state.phase == Refused).collect();
    assert_eq!(refused.len(), 100);
    // The youngest ones: the number is the age.
    assert!(refused.iter().all(|state| state.variant[3..].parse::<u32>().unwrap() < 100));
}

#[test]
fn a_service_that_is_deleted_loses_its_route_first() {
    let [mut service, endpoints] = service("shop", "pr-1", "PR-1", 60);
    service["metadata"]["deletionTimestamp"] = json!("2026-11-27T11:59:59Z");
    let outcome = outcome(&[plan(&cart()), service, endpoints]);
    assert_eq!((states(&outcome), routed(&outcome)), (vec![("PR-1", Deleting)], vec![]));
}

#[test]
fn an_invalid_plan_keeps_the_last_valid_one_in_force() {
    let [service, endpoints] = service("shop", "pr-1", "PR-1", 60);
    let valid: BTreeMap<ObjectName, ValidPlan> =
        [(qa(), outcome(&[plan(&cart())]).valid.unwrap())].into_iter().collect();
    let mut invalid = plan(&cart());
    invalid["metadata"]["generation"] = json!(2);
    invalid["spec"]["filter"]["istioVersion"] = json!("latest");
    let objects = [invalid.clone(), service, endpoints];
    let kept = reconcile(&observed(&objects), &valid, noon()).plans.remove(&qa()).unwrap();
    assert_eq!(routed(&kept), ["PR-1"], "it goes on following the Services");
    assert_eq!(kept.faults, ["spec.filter.istioVersion: expected a version such as \"1.27\", found `latest`"]);
    // Without an earlier state, nothing is changed.
    assert!(outcome(&objects).wanted.is_none());

    invalid["spec"] = json!({"filter": {"engine": "perl", "istioVersion": "1.27"}, "services": []});
    let fault = &outcome(&[invalid]).faults[0];
    assert!(fault.starts_with("spec.filter.engine: unknown variant `perl`"), "{fault}");
}

#[test]
fn what_an_earlier_round_left_changes_nothing() {
    let cart_and_menu = json!([{"name": "cart", "namespace": "shop"}, {"name": "menu", "namespace": "shop"}]);
    let [service, ready] = service("shop", "pr-1", "PR-1", 60);
    let mut unready = ready.clone();
    unready["endpoints"][0]["conditions"]["ready"] = json!(false);
    let mut second = plan(&cart_and_menu);
    second["metadata"]["generation"] = json!(2);
    second["spec"]["services"][0]["port"] = json!(80);
    let rounds = [
        vec![plan(&cart_and_menu), service.clone(), ready.clone()],
        vec![plan(&cart_and_menu), service.clone(), unready],
        vec![plan(&cart_and_menu), service.clone(), ready.clone()],
        vec![second, service, ready],
    ];
    let mut last = BTreeMap::new();
    for objects in rounds {
        let kept = reconcile(&observed(&objects), &last, noon()).plans.remove(&qa()).unwrap();
        assert_eq!(kept.wanted, outcome(&objects).wanted);
        last = [(qa(), kept.valid.unwrap())].into_iter().collect();
    }
}

#[test]
fn one_invalid_variant_does_not_harm_others() {
    let [service, endpoints] = service("shop", "pr-1", "PR-1", 60);
    let bad = variant("shop", "v", &json!({"service": "cart", "variant": "not a version"}));
    let outcome = outcome(&[plan(&cart()), service, endpoints, bad]);
    assert_eq!(states(&outcome), [("PR-1", Routed), ("not a version", Refused)]);
    assert!(outcome.variants[1].problem.as_deref().unwrap().starts_with("spec.variant: expected a version"));
    assert_eq!(outcome.faults, Vec::<String>::new());
}

#[test]
fn a_variant_without_a_plan_is_a_stray() {
    let [mut service, _] = service("shop", "pr-1", "PR-1", 60);
    service["metadata"]["labels"]["routing-claims.dev/service"] = json!("basket");
    let reconciled = decide(&[plan(&cart()), service.clone()]);
    assert_eq!(reconciled.strays[0].problem.as_deref(), Some("no plan has a service `basket`"));
    // While a plan can't be read, it may be the one.
    let mut unreadable = plan(&cart());
    unreadable["metadata"]["name"] = json!("other");
    unreadable["spec"] = json!({});
    assert_eq!(decide(&[plan(&cart()), unreadable, service.clone()]).strays, []);
    // A label that names another plan.
    service["metadata"]["labels"]["routing-claims.dev/service"] = json!("cart");
    service["metadata"]["labels"]["routing-claims.dev/plan"] = json!("staging");
    let reconciled = decide(&[plan(&cart()), service]);
    assert_eq!(reconciled.strays[0].problem.as_deref(), Some("no plan `staging` has a service `cart`"));
}

#[test]
fn the_objects_of_a_deleted_plan_are_found() {
    let owned = |namespace: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "cart", "namespace": "shop", "labels": {
                "routing-claims.dev/plan": "qa", "routing-claims.dev/plan-namespace": namespace,
            }},
        })
    };
    assert!(deleted_plans(&observed(&[plan(&cart()), owned("istio-system")])).is_empty());
    let deleted = deleted_plans(&observed(&[plan(&cart()), owned("elsewhere")]));
    assert_eq!(deleted.into_iter().collect::<Vec<_>>(), [ObjectName::new("elsewhere", "qa")]);
}
