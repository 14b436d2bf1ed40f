//! What holds for any plan.

use std::{collections::BTreeSet, sync::Arc};

use crate::common::build;
use manifest_gen::{
    render,
    yaml::{self, File},
};
use proptest::prelude::*;
use routing_plan::resources;
use serde_json::{Value, json};

/// A valid plan as JSON, with variant files.
fn plans() -> impl Strategy<Value = (Value, Vec<Value>)> {
    let variant = ("[A-Z]{1,3}-[0-9]{1,3}", any::<bool>());
    let service = (
        "[a-zA-Z][a-zA-Z0-9]{0,8}",
        prop::collection::btree_map("[A-Z]{1,3}-[0-9]{1,3}", variant, 0..22),
        any::<bool>(),
    );
    let services = prop::collection::btree_map("[a-z]{1,6}", service, 1..5);
    (services, any::<bool>(), any::<bool>()).prop_map(|(services, http_route, gateway)| {
        let (mut listed, mut variant_files, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (namespace, (name, variants, public)) in services {
            if !names.insert(name.to_lowercase()) || ["exp", "nbf", "te", "via", "host", "cookie", "expect"].contains(&&*name.to_lowercase()) {
                continue;
            }
            let mut inline = Vec::new();
            for (version, (_, in_file)) in variants {
                if in_file {
                    variant_files.push(json!({
                        "apiVersion": "routing-claims.dev/v1alpha1", "kind": "RoutingVariant", "metadata": {"name": "f"},
                        "spec": {"service": name, "variant": version},
                    }));
                } else {
                    inline.push(json!({"name": version}));
                }
            }
            let mut service = json!({"name": name, "namespace": namespace, "port": 80, "variants": inline});
            if public && !http_route {
                service["gateways"] = json!(["istio-system/g"]);
                service["hosts"] = json!([format!("{namespace}.example")]);
            }
            listed.push(service);
        }
        if listed.is_empty() {
            listed.push(json!({"name": "only", "namespace": "a", "port": 80}));
        }
        let mut filter = json!({"engine": "lua", "istioVersion": "1.24"});
        if gateway {
            filter["gateways"] = json!({"matchLabels": {"istio": "g"}});
        }
        let plan = json!({
            "apiVersion": "routing-claims.dev/v1alpha1", "kind": "RoutingPlan", "metadata": {"name": "qa", "namespace": "istio-system"},
            "spec": {
                "filter": filter, "services": listed,
                "routes": {"resource": if http_route { "HTTPRoute" } else { "VirtualService" }},
            },
        });
        (plan, variant_files)
    })
}

fn rendered(files: &[(String, String)]) -> Vec<resources::Resource> {
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    resources::generate(&build(&files, &[]).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{files:#?}")))
}

fn files(plan: &Value, variant_files: &[Value]) -> Vec<(String, String)> {
    let mut files = vec![("plan.yaml".to_owned(), plan.to_string())];
    files.extend((0..).zip(variant_files).map(|(number, file)| (format!("{number}.yaml"), file.to_string())));
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_valid_plan_renders_one_route_set_per_host_with_the_default_last((plan, variant_files) in plans()) {
        let resources = rendered(&files(&plan, &variant_files));
        let mut hosts = BTreeSet::new();
        for resource in &resources {
            let text = yaml::write::write(&resource.value);
            let read = yaml::read(&Arc::new(File { name: String::new(), text })).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].to_json(), &resource.value);
            if resource.kind == "VirtualService" {
                for host in resource.value["spec"]["hosts"].as_array().unwrap() {
                    prop_assert!(hosts.insert(host.to_string()), "two for {}", host);
                }
                let routes = resource.value["spec"]["http"].as_array().unwrap();
                let (last, others) = routes.split_last().unwrap();
                prop_assert!(last.get("match").is_none());
                prop_assert!(others.iter().all(|route| route.get("match").is_some()));
            }
            if resource.kind == "HTTPRoute" {
                prop_assert!(resource.value["spec"]["rules"].as_array().unwrap().len() <= 16);
            }
        }
    }

    #[test]
    fn order_does_not_matter((plan, variant_files) in plans(), seed in any::<usize>()) {
        let mut shuffled = plan.clone();
        let services = shuffled["spec"]["services"].as_array_mut().unwrap();
        let by = seed % services.len();
        services.rotate_left(by);
        for service in services {
            if let Some(variants) = service["variants"].as_array_mut() {
                variants.reverse();
            }
        }
        let mut other = files(&shuffled, &variant_files);
        other.reverse();
        let text = |files: &[(String, String)]| render::stream(&rendered(files));
        prop_assert_eq!(text(&files(&plan, &variant_files)), text(&other));
    }

    #[test]
    fn a_mutation_gives_an_error_with_a_span_or_renders((plan, variant_files) in plans(), at in any::<prop::sample::Index>(), length in 0..6_usize, with in "[ -~\n\t]{0,4}") {
        let mut files = files(&plan, &variant_files);
        let text = &mut files[0].1;
        let start = at.index(text.len());
        text.replace_range(start..(start + length).min(text.len()), &with);
        let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        match build(&files, &[]) {
            Ok(plan) => prop_assert!(!resources::generate(&plan).is_empty()),
            Err(diagnostics) => prop_assert!(diagnostics.iter().any(|one| one.span.is_some() || one.message.starts_with("no plan")), "{:?}", diagnostics),
        }
    }
}
