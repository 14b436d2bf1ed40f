//! What a controller does with its objects: typed values in, resources or diagnostics of their fields out. No YAML, no serde.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::{collections::BTreeMap, sync::Arc};

use routing_claims::PolicyConfig;
use routing_plan::{
    diagnostic::{Document, Location},
    plan::{
        ApiVersion, BaseRef, Engine, FilterResource, FilterSpec, InlineVariant, PlanKind, PlanMetadata, PlanSpec,
        RouteResource, RoutesSpec, RoutingPlan, RoutingVariant, ServiceSpec, VariantKind, VariantMetadata, VariantSpec,
        WasmSpec,
    },
    resolve::{Expiry, PlanFiles, ResolvedBase, resolve},
    resources,
};
use serde_json::{Value, json};

fn service(name: &str, port: Option<u16>) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        header: None,
        namespace: "shop".into(),
        host: None,
        port,
        gateways: Vec::new(),
        hosts: Vec::new(),
        variant_host: None,
        base: None,
        base_ref: None,
        allowed_namespaces: Vec::new(),
        variants: vec![InlineVariant { name: "PR-1".into(), host: None, expires_at: None }],
    }
}

fn plan() -> RoutingPlan {
    let wasm = WasmSpec { inline: Some("filter.wasm".into()), ..WasmSpec::default() };
    RoutingPlan {
        api_version: ApiVersion::V1Alpha1,
        kind: PlanKind::RoutingPlan,
        metadata: PlanMetadata { name: "qa".into(), namespace: "istio-system".into() },
        spec: PlanSpec {
            policy: PolicyConfig::default(),
            filter: FilterSpec {
                engine: Engine::Wasm,
                resource: FilterResource::EnvoyFilter,
                istio_version: "1.27".into(),
                wasm: Some(wasm),
                module: None,
                workloads: None,
                gateways: None,
                verify: None,
            },
            routes: RoutesSpec { resource: RouteResource::HttpRoute },
            authentication: None,
            telemetry: None,
            services: vec![service("cart", Some(80)), service("stock", Some(80)), service("search", Some(80))],
        },
    }
}

fn variant(service: &str, version: &str) -> RoutingVariant {
    RoutingVariant {
        api_version: ApiVersion::V1Alpha1,
        kind: VariantKind::RoutingVariant,
        metadata: VariantMetadata { name: "pr".into() },
        spec: VariantSpec { service: service.into(), variant: version.into(), host: None, expires_at: None },
    }
}

fn files() -> PlanFiles {
    let module: Arc<[u8]> = Arc::from(&b"\0asm\x01\0\0\0"[..]);
    PlanFiles { modules: BTreeMap::from([("filter.wasm".into(), Ok(module))]), ..PlanFiles::default() }
}

#[test]
fn a_typed_plan_resolves_and_renders() {
    let resolved = resolve(&plan(), &[variant("cart", "PR-2")], &files(), Expiry::Keep).unwrap();
    assert_eq!(resolved.services.iter().map(|service| service.variants.len()).collect::<Vec<_>>(), [2, 1, 1]);
    let resources = resources::generate(&resolved);
    let names: Vec<_> = resources.iter().map(|resource| format!("{} {}", resource.kind, resource.name)).collect();
    assert_eq!(
        names,
        [
            "EnvoyFilter routing-claims-qa",
            "HTTPRoute routing-claims-cart",
            "HTTPRoute routing-claims-search",
            "HTTPRoute routing-claims-stock",
        ]
    );
    // The origin tells a controller which field of which object a resource comes from.
    let plan_service = Location::root(Document::Plan).field("spec").field("services").index(0).field("name");
    assert_eq!(resources[1].origin, plan_service);
    assert_eq!(resources[1].value["spec"]["rules"][1]["matches"][0]["headers"][0]["value"], "PR-2");
}

#[test]
fn every_fault_is_a_field_of_a_document() {
    let mut plan = plan();
    plan.spec.services[2].port = None;
    plan.spec.services[2].gateways = vec!["istio-system/public".into()];
    plan.spec.policy.report_header = Some("host".into());
    let variants = [variant("cart", "PR-2"), variant("carts", "PR-3")];
    let diagnostics = resolve(&plan, &variants, &PlanFiles::default(), Expiry::Keep).unwrap_err();
    let mut found: Vec<_> = diagnostics
        .iter()
        .map(|one| (one.location.document, one.location.path.to_string(), one.help.as_deref().unwrap_or_default()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            (Document::Plan, "spec.filter.wasm.inline".into(), ""),
            (Document::Plan, "spec.policy.reportHeader".into(), ""),
            (Document::Plan, "spec.services[2].gateways".into(), ""),
            (Document::Plan, "spec.services[2].name".into(), "give it, such as `port: 80`"),
            (Document::Variant(1), "spec.service".into(), "did you mean `cart`?"),
        ]
    );
}

/// The object as an API server gives it, with what belongs to others.
fn live_base() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {
            "name": "cart",
            "namespace": "shop",
            "uid": "8a5a8d0e-8ba1-4d5e-8d3c-0d2f1c7d8f4b",
            "resourceVersion": "7",
            "labels": {"argocd.argoproj.io/instance": "shop", "istio.io/rev": "canary"},
            "annotations": {"argocd.argoproj.io/tracking-id": "shop:x"},
        },
        "spec": {
            "exportTo": ["routing-claims"],
            "hosts": ["cart"],
            "http": [{"timeout": "3s", "route": [{"destination": {"host": "cart"}}]}],
        },
    })
}

/// A plan whose first service has the base, and the cluster's objects.
fn with_live_base(base: Value) -> (RoutingPlan, PlanFiles) {
    let mut plan = plan();
    plan.spec.routes.resource = RouteResource::VirtualService;
    plan.spec.services.truncate(1);
    plan.spec.services[0].base_ref = Some(BaseRef { name: "cart".into() });
    let base_refs = Some(BTreeMap::from([(("shop".to_owned(), "cart".to_owned()), base)]));
    (plan, PlanFiles { base_refs, ..files() })
}

#[test]
fn a_live_base_is_woven_into_a_resource_beside_it() {
    let (plan, files) = with_live_base(live_base());
    let resolved = resolve(&plan, &[], &files, Expiry::Keep).unwrap();
    let resources = resources::generate(&resolved);
    let woven = resources.iter().find(|resource| resource.kind == "VirtualService").unwrap();
    let to = |host: &str| json!({"destination": {"host": host, "port": {"number": 80}}});
    assert_eq!(
        woven.value,
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {
                "name": "routing-claims-cart",
                "namespace": "shop",
                "labels": {
                    "app.kubernetes.io/managed-by": "routing-claims",
                    "istio.io/rev": "canary",
                    "routing-claims.dev/plan": "qa",
                },
            },
            "spec": {
                "gateways": ["mesh"],
                "hosts": ["cart"],
                "http": [
                    {
                        "match": [{"headers": {"cart": {"exact": "PR-1"}}}],
                        "name": "routing-claims-cart-PR-1",
                        "route": [to("pr-1.shop.svc.cluster.local")],
                        "timeout": "3s",
                    },
                    {"route": [{"destination": {"host": "cart"}}], "timeout": "3s"},
                ],
            },
        })
    );
}

/// Istio follows the older of two: the user's own.
#[test]
fn a_live_base_that_proxies_follow_is_said_to_be_in_force() {
    let in_force = |export_to: Value| {
        let mut base = live_base();
        base["spec"]["exportTo"] = export_to;
        let (plan, files) = with_live_base(base);
        match resolve(&plan, &[], &files, Expiry::Keep).unwrap().services[0].base {
            Some(ResolvedBase::Live { in_force, .. }) => in_force,
            ref other => panic!("{other:?}"),
        }
    };
    for export_to in [Value::Null, json!([]), json!(["*"]), json!(["."]), json!(["other", "shop"])] {
        assert!(in_force(export_to.clone()), "{export_to}");
    }
    assert!(!in_force(json!(["routing-claims"])));
}

#[test]
fn a_live_base_must_be_the_users_own() {
    let fault = |base: Value| {
        let (plan, files) = with_live_base(base);
        let diagnostics = resolve(&plan, &[], &files, Expiry::Keep).unwrap_err();
        diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut generated = live_base();
    generated["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("routing-claims");
    assert_eq!(
        fault(generated),
        [
            "spec.services[0].baseRef.name: expected your own VirtualService, found `cart`, which is generated from a plan"
        ]
    );
    let mut other = live_base();
    other["spec"]["hosts"] = json!(["stock"]);
    assert_eq!(fault(other), ["spec.hosts: `hosts` does not contain the service's host `cart.shop.svc.cluster.local`"]);
    let (mut plan, files) = with_live_base(live_base());
    plan.spec.services[0].namespace = "other".into();
    let diagnostics = resolve(&plan, &[], &files, Expiry::Keep).unwrap_err();
    assert_eq!(
        diagnostics[0].to_string(),
        "spec.services[0].baseRef.name: the namespace `other` has no VirtualService `cart`"
    );
}

#[test]
fn namespaces_may_serve_what_the_plan_allows() {
    let allows = |patterns: &[&str], namespace: &str| {
        let mut plan = plan();
        plan.spec.services[0].allowed_namespaces = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        resolve(&plan, &[], &files(), Expiry::Keep).unwrap().services[0].allows(namespace)
    };
    assert!(allows(&[], "shop") && !allows(&[], "shop-2") && !allows(&[], ""));
    assert!(allows(&["preview"], "preview") && !allows(&["preview"], "preview-1"));
    assert!(allows(&["preview-*"], "preview-1") && !allows(&["preview-*"], "my-preview-1"));
    assert!(allows(&["*"], "any"));
}
