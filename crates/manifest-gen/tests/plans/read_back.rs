//! Generated resources read back: `explain` understands every field of what every kind of plan generates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use routing_plan::{
    explain::{ExplainRequest, MeshFacts, explain, unverified_header},
    lint,
    manifests::Manifest,
    resources,
};

use crate::common::{build, plan};

#[test]
fn what_is_generated_is_understood() {
    let module =
        "wasm: {image: 'r.b/f:1', digest: 'sha256:ab00000000000000000000000000000000000000000000000000000000000000'}";
    let filters = [
        "engine: lua, istioVersion: '1.30'".to_owned(),
        "engine: lua, resource: TrafficExtension, istioVersion: '1.30'".to_owned(),
        format!("engine: wasm, istioVersion: '1.24', {module}"),
        format!("engine: wasm, istioVersion: '1.30', {module}"),
        "engine: wasm, istioVersion: '1.30', wasm: {url: 'file:///f.wasm'}".to_owned(),
        "engine: wasm, istioVersion: '1.30', wasm: {inline: f.wasm}".to_owned(),
        format!("engine: wasm, resource: WasmPlugin, istioVersion: '1.30', {module}"),
        format!("engine: wasm, resource: TrafficExtension, istioVersion: '1.30', {module}"),
    ];
    let service = "  - {name: A, namespace: a, port: 80, variants: [{name: PR-1}]}";
    for filter in &filters {
        for routes in ["VirtualService", "HTTPRoute"] {
            let text = plan(filter, service, &format!("  routes: {{resource: {routes}}}"));
            let plan = build(&[("plan.yaml", &text)], &[("f.wasm", b"\0asm")]).unwrap();
            let manifests: Vec<_> = resources::generate(&plan).into_iter().map(Manifest::from).collect();
            let request = ExplainRequest {
                host: "a.a.svc.cluster.local".into(),
                path: "/".into(),
                method: "GET".into(),
                headers: unverified_header(&manifests, r#"{"A": "PR-1"}"#).into_iter().collect(),
                port: Some(80),
                scheme: None,
                gateway: None,
                namespace: Some("a".into()),
                labels: Some(BTreeMap::from([("routing-claims.dev/router".into(), "enabled".into())])),
                mesh: MeshFacts::default(),
            };
            let explanation = explain(&manifests, &request, 0);
            assert_eq!((&*explanation.assumed, &*explanation.unknown), (&[][..], &[][..]), "{filter} {routes}");
            assert_eq!(explanation.destinations[0].host, "pr-1.a.svc.cluster.local", "{filter} {routes}");
            let found = lint::run(Some(&plan), Vec::new(), None, Timestamp::UNIX_EPOCH);
            assert!(found.iter().all(|finding| finding.lint.code != "wrong-type"), "{filter} {routes}: {found:?}");
        }
    }
}
