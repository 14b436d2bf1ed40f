//! What holds of any plan.

use std::{collections::BTreeSet, sync::Arc};

use crate::common::build;
use proptest::prelude::*;
use routing_plan::{
    resources,
    yaml::{self, File},
};
use serde_json::{Value, json};

/// A valid plan as JSON, with fragments.
fn plans() -> impl Strategy<Value = (Value, Vec<Value>)> {
    let variant = ("[A-Z]{1,3}-[0-9]{1,3}", any::<bool>());
    let service = (
        "[a-zA-Z][a-zA-Z0-9]{0,8}",
        prop::collection::btree_map("[A-Z]{1,3}-[0-9]{1,3}", variant, 0..22),
        any::<bool>(),
    );
    let services = prop::collection::btree_map("[a-z]{1,6}", service, 1..5);
    (services, any::<bool>(), any::<bool>()).prop_map(|(services, http_route, gateway)| {
        let (mut listed, mut fragments, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (namespace, (name, variants, public)) in services {
            if !names.insert(name.to_lowercase()) || ["exp", "nbf", "te", "via", "host", "cookie", "expect"].contains(&&*name.to_lowercase()) {
                continue;
            }
            let mut inline = Vec::new();
            for (version, (_, in_fragment)) in variants {
                if in_fragment {
                    fragments.push(json!({
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
        (plan, fragments)
    })
}

fn rendered(files: &[(String, String)]) -> Vec<resources::Resource> {
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    resources::generate(&build(&files, &[]).unwrap_or_else(|problems| panic!("{problems:#?}\n{files:#?}")))
}

fn files(plan: &Value, fragments: &[Value]) -> Vec<(String, String)> {
    let mut files = vec![("plan.yaml".to_owned(), plan.to_string())];
    files.extend((0..).zip(fragments).map(|(number, fragment)| (format!("{number}.yaml"), fragment.to_string())));
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_valid_plan_renders_one_route_set_per_host_with_the_default_last((plan, fragments) in plans()) {
        let resources = rendered(&files(&plan, &fragments));
        let mut hosts = BTreeSet::new();
        for resource in &resources {
            let text = resource.to_yaml();
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
    fn order_does_not_matter((plan, fragments) in plans(), seed in any::<usize>()) {
        let mut shuffled = plan.clone();
        let services = shuffled["spec"]["services"].as_array_mut().unwrap();
        let by = seed % services.len();
        services.rotate_left(by);
        for service in services {
            if let Some(variants) = service["variants"].as_array_mut() {
                variants.reverse();
            }
        }
        let mut other = files(&shuffled, &fragments);
        other.reverse();
        let text = |files: &[(String, String)]| rendered(files).iter().map(resources::Resource::to_yaml).collect::<Vec<_>>();
        prop_assert_eq!(text(&files(&plan, &fragments)), text(&other));
    }

    #[test]
    fn a_mutation_gives_a_placed_error_or_a_render((plan, fragments) in plans(), at in any::<prop::sample::Index>(), length in 0..6_usize, with in "[ -~\n\t]{0,4}") {
        let mut files = files(&plan, &fragments);
        let text = &mut files[0].1;
        let start = at.index(text.len());
        text.replace_range(start..(start + length).min(text.len()), &with);
        let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        match build(&files, &[]) {
            Ok(mesh) => prop_assert!(!resources::generate(&mesh).is_empty()),
            Err(problems) => prop_assert!(problems.iter().any(|problem| problem.place.is_some() || problem.message.starts_with("no plan")), "{:?}", problems),
        }
    }
}
