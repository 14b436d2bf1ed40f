//! `explain` says what a real Envoy does: random plans, with the filter as it was rendered and the routes that Istio would
//! make of the rendered `VirtualService`s.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use manifest_gen::{documents::Documents, yaml::File};
use routing_plan::{
    explain::{ExplainRequest, MeshFacts, explain},
    manifests::Manifest,
    resolve::Expiry,
    resources,
};
use serde_json::{Value, json};
use testbed::{
    Envoy,
    client::Http1,
    config,
    echo::{self, Echo, Seen},
};

#[tokio::test]
async fn explain_says_what_envoy_does() {
    let mut dice = Dice(1);
    let plans: Vec<_> = (0..PLANS).map(|number| RandomPlan::random(number, &mut dice)).collect();
    let mut upstreams: BTreeMap<String, Echo> = BTreeMap::new();
    for host in plans.iter().flat_map(RandomPlan::destinations) {
        if let Entry::Vacant(entry) = upstreams.entry(host) {
            let echo = echo::serve(entry.key()).await.unwrap();
            entry.insert(echo);
        }
    }
    let clusters: Vec<_> = upstreams.iter().map(|(host, echo)| config::cluster(host, echo.addr())).collect();
    let listeners: Vec<_> = plans.iter().map(RandomPlan::listener).collect();
    let folder = tempfile::tempdir().unwrap();
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let envoy =
        Envoy::start(&binary, "explain", config::bootstrap(&listeners, &clusters), folder.path()).await.unwrap();

    let mut outcomes = BTreeMap::<_, u32>::new();
    for plan in &plans {
        let port = envoy.listener_port(&plan.name).await.unwrap();
        let mut client = Http1::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap();
        for _ in 0..REQUESTS {
            let request = plan.request(&mut dice);
            let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
            let explanation = explain(&plan.manifests, &request, now);
            assert_eq!((&explanation.instead, explanation.destinations.len()), (&None, 1), "{request:?}");
            let destination = &explanation.destinations[0].host;

            let lines: Vec<_> = request.headers.iter().map(|(n, v)| (n.clone().into(), v.clone().into())).collect();
            let response = client.get(&request.host, &request.path, &lines).await.unwrap();
            let upstream = response.header("x-upstream").map(String::from_utf8_lossy);
            let told = format!("{request:?}\n{}", explanation.to_text(&|location| location.path.to_string()));
            assert_eq!(upstream.as_deref(), Some(destination.as_str()), "status {}\n{told}", response.status);
            let seen = Seen::from_body(&response.body).unwrap();
            for (name, value) in &explanation.set {
                assert_eq!(seen.values(name), [value.as_bytes()], "{told}");
            }
            for name in explanation.removed.iter().filter(|name| explanation.set.iter().all(|(set, _)| set != *name)) {
                assert!(seen.values(name).is_empty(), "{told}");
            }
            *outcomes.entry(explanation.outcome).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes.len() >= 5, "the requests are too much alike: {outcomes:?}");
}

const PLANS: u64 = 40;
const REQUESTS: usize = 25;

/// A plan's manifests, and what requests can be made of.
struct RandomPlan {
    name: String,
    manifests: Vec<Manifest>,
    services: Vec<RandomService>,
}

struct RandomService {
    name: String,
    host: String,
    variants: Vec<String>,
}

impl RandomPlan {
    fn random(number: u64, dice: &mut Dice) -> Self {
        let mut plan = json!({
            "apiVersion": "routing-claims.dev/v1alpha1",
            "kind": "RoutingPlan",
            "metadata": {"name": format!("plan-{number}"), "namespace": "istio-system"},
            "spec": {
                "policy": {"reportHeader": "x-routing-report"},
                "filter": {"engine": "lua", "istioVersion": "1.27"},
                "services": [],
            },
        });
        let mut bases = BTreeMap::new();
        let mut services = Vec::new();
        for index in 0..=dice.roll(4) {
            let name = format!("Service-{index}");
            let host = format!("service-{index}.mesh-{number}.svc.cluster.local");
            let variants: Vec<_> = (0..dice.roll(5)).map(|variant| format!("PR-{variant}")).collect();
            let listed: Vec<_> = variants.iter().map(|variant| json!({ "name": variant })).collect();
            let mut service =
                json!({"name": name, "namespace": format!("mesh-{number}"), "host": host, "variants": listed});
            // The variants of two services must not share a host.
            service["variantHost"] = format!("{{variant}}.service-{index}.mesh-{number}.svc.cluster.local").into();
            if dice.roll(2) == 0 {
                service["base"] = name.clone().into();
                bases.insert(name.clone(), base(&host, dice).to_string());
            }
            plan["spec"]["services"].as_array_mut().unwrap().push(service);
            services.push(RandomService { name, host, variants });
        }
        if dice.roll(3) == 0 {
            plan["spec"]["policy"]["claimPath"] = json!(["routing"]);
            plan["spec"]["policy"]["headerPrefix"] = json!("x-route-");
        }
        let file = Arc::new(File { name: format!("plan-{number}.yaml"), text: plan.to_string() });
        let fetch = |path: &Path| Ok(bases[path.to_str().unwrap()].clone().into_bytes());
        let mut documents = Documents::default();
        let input = documents.read_plan(&[file], &fetch).unwrap();
        let manifests = resources::generate(&documents.resolve(&input, Expiry::Keep).unwrap())
            .into_iter()
            .map(Manifest::from)
            .collect();
        Self { name: format!("plan-{number}"), manifests, services }
    }

    fn virtual_services(&self) -> impl Iterator<Item = &Value> {
        self.manifests.iter().filter(|manifest| manifest.kind == "VirtualService").map(|manifest| &manifest.value)
    }

    fn destinations(&self) -> Vec<String> {
        let rules = self.virtual_services().flat_map(|resource| items(&resource["spec"]["http"]));
        rules.map(destination).collect()
    }

    fn listener(&self) -> Value {
        let filter = self.manifests.iter().find(|manifest| manifest.kind == "EnvoyFilter").unwrap();
        let filter = &filter.value["spec"]["configPatches"][0]["patch"]["value"];
        let hosts: Vec<_> = self
            .virtual_services()
            .map(|resource| {
                json!({
                    "name": resource["spec"]["hosts"][0],
                    "domains": resource["spec"]["hosts"],
                    "routes": items(&resource["spec"]["http"]).flat_map(routes).collect::<Vec<_>>(),
                })
            })
            .collect();
        config::listener(&self.name, std::slice::from_ref(filter), &json!({ "virtual_hosts": hosts }))
    }

    fn request(&self, dice: &mut Dice) -> ExplainRequest {
        let mut claims = json!({});
        for service in &self.services {
            let known = dice.pick(&service.variants).cloned().unwrap_or_default();
            match dice.roll(6) {
                0..3 => claims[&service.name] = known.into(),
                3 => claims[&service.name] = "PR-99".into(),
                4 => claims[&service.name] = json!({"not": "a version"}),
                _ => {}
            }
        }
        let mut payload = match dice.roll(2) {
            0 => json!({ "routing": claims }),
            _ => claims,
        };
        if dice.roll(8) == 0 {
            payload["exp"] = 1.into();
        }
        let mut headers = Vec::new();
        let token = format!("e30.{}.", URL_SAFE_NO_PAD.encode(payload.to_string()));
        match dice.roll(8) {
            0 => {}
            1 => headers.push(("authorization".into(), "Bearer not-a-token".into())),
            _ => headers.push(("authorization".into(), format!("Bearer {token}"))),
        }
        for service in &self.services {
            let version = dice.pick(&service.variants).map_or("PR-1", String::as_str);
            match dice.roll(6) {
                0 => headers.push((service.name.to_ascii_lowercase(), version.into())),
                1 => headers.push((format!("x-route-{}", service.name.to_ascii_lowercase()), version.into())),
                _ => {}
            }
        }
        if dice.roll(3) == 0 {
            headers.push(("x-canary".into(), (*dice.pick(&["yes", "no", "always"]).unwrap()).into()));
        }
        ExplainRequest {
            host: dice.pick(&self.services).unwrap().host.clone(),
            path: (*dice
                .pick(&["/", "/api", "/api/orders/7", "/legacy/x?y=1", "/x?z&y=1&y=2", "/apiary", "/{id}"])
                .unwrap())
            .into(),
            method: "GET".into(),
            headers,
            port: None,
            scheme: None,
            gateway: None,
            namespace: None,
            labels: None,
            mesh: MeshFacts::default(),
        }
    }
}

/// A user's own `VirtualService`: some rules to the host, some to elsewhere, the last for all that is left.
fn base(host: &str, dice: &mut Dice) -> Value {
    let elsewhere = format!("legacy.{host}");
    let mut http = Vec::new();
    for _ in 0..dice.roll(4) {
        let condition = match dice.roll(10) {
            0 => json!({"uri": {"prefix": "/api"}}),
            1 => json!({"uri": {"exact": "/api"}, "method": {"exact": "GET"}}),
            2 => json!({"uri": {"regex": "/api/[a-z]+/[0-9]+"}}),
            3 => json!({"headers": {"X-Canary": {"exact": "yes"}}}),
            4 => json!({"withoutHeaders": {"x-canary": {"regex": ".*"}}}),
            5 => json!({"withoutHeaders": {"x-canary": {"prefix": "y"}}, "uri": {"prefix": "/api"}}),
            6 => json!({"queryParams": {"y": {"exact": "1"}}}),
            7 => json!({"uri": {"regex": "/{id}|/API/.*"}, "ignoreUriCase": true}),
            8 => json!({"uri": {"prefix": "/API/"}, "ignoreUriCase": true}),
            _ => json!({"headers": {"x-canary": {"prefix": "a"}}, "uri": {"prefix": "/legacy/"}}),
        };
        let mut conditions = vec![condition];
        if dice.roll(3) == 0 {
            conditions.push(json!({"headers": {"x-canary": {"regex": "n."}}}));
        }
        let to = if dice.roll(2) == 0 { host } else { &elsewhere };
        http.push(json!({"match": conditions, "timeout": "5s", "route": [{"destination": {"host": to}}]}));
    }
    http.push(json!({"route": [{"destination": {"host": host}}]}));
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "own", "namespace": host.split('.').nth(1)},
        "spec": {"hosts": [host], "http": http},
    })
}

/// A rule of a `VirtualService` as Envoy's routes, one for each of its conditions.
fn routes(rule: &Value) -> Vec<Value> {
    let text = |condition: &Value| match condition {
        Value::Object(condition) if condition.contains_key("regex") => {
            json!({"safe_regex": {"regex": condition["regex"]}})
        }
        condition => condition.clone(),
    };
    let route = |condition: &Value| {
        let uri = &condition["uri"];
        let mut matches = match (uri.get("exact"), uri.get("prefix"), uri.get("regex")) {
            (Some(exact), ..) => json!({ "path": exact }),
            (_, Some(prefix), _) => json!({ "prefix": prefix }),
            (.., Some(regex)) => json!({"safe_regex": {"regex": regex}}),
            _ => json!({"prefix": "/"}),
        };
        let headers = condition["headers"].as_object().into_iter().flatten();
        let method = condition.get("method").map(|method| (":method", method));
        let headers = headers.map(|(name, condition)| (name.as_str(), condition)).chain(method);
        let headers = headers.map(|(name, condition)| json!({"name": name, "string_match": text(condition)}));
        let unwanted = condition["withoutHeaders"].as_object().into_iter().flatten().map(|(name, condition)| {
            json!({
                "name": name, "string_match": text(condition), "invert_match": true, "treat_missing_header_as_empty": true,
            })
        });
        matches["headers"] = headers.chain(unwanted).collect();
        let parameters = condition["queryParams"].as_object().into_iter().flatten();
        matches["query_parameters"] =
            parameters.map(|(name, condition)| json!({"name": name, "string_match": text(condition)})).collect();
        matches["case_sensitive"] = (!condition["ignoreUriCase"].as_bool().unwrap_or_default()).into();
        json!({"match": matches, "route": {"cluster": destination(rule)}})
    };
    match rule["match"].as_array() {
        Some(conditions) if !conditions.is_empty() => conditions.iter().map(route).collect(),
        _ => vec![route(&Value::Null)],
    }
}

fn destination(rule: &Value) -> String {
    rule["route"][0]["destination"]["host"].as_str().unwrap().to_owned()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Repeatable chance.
struct Dice(u64);

impl Dice {
    /// From 0 to below `sides`, by the high bits of a linear congruential generator (Knuth, MMIX).
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        let sides = u64::try_from(list.len()).unwrap();
        let index = usize::try_from(self.roll(sides.max(1))).unwrap();
        list.get(index)
    }
}
