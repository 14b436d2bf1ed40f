//! What a controller does with its objects: typed values in, resources or diagnostics of their fields out. No YAML, no serde.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::{collections::BTreeMap, sync::Arc};

use routing_claims::PolicyConfig;
use routing_plan::{
    diagnostic::{Document, Location},
    plan::{
        ApiVersion, Engine, FilterResource, FilterSpec, InlineVariant, PlanKind, PlanMetadata, PlanSpec, RouteResource,
        RoutesSpec, RoutingPlan, RoutingVariant, ServiceSpec, VariantKind, VariantMetadata, VariantSpec, WasmSpec,
    },
    resolve::{Expiry, PlanFiles, resolve},
    resources,
};

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
