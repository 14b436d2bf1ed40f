//! What the chart and the kustomize base render, before anything is installed.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Prometheus, Readiness, until};
use manifest_gen::yaml::write;
use serde_json::Value;

use super::{
    chart, definitions,
    helm::{Helm, Kubectl},
    namespace, of_kind,
};
use crate::world::World;

/// Both versions of Helm and kustomize render the same objects from default values. Returns their number.
pub(super) async fn same(helms: &[Helm; 2], kubectl: &Kubectl, update: bool) -> Result<usize> {
    for helm in helms {
        helm.run(&["lint", "--strict", &chart()]).await?;
    }
    let rendered = [helms[0].template(&[]).await?, helms[1].template(&[]).await?].map(by_id);
    ensure!(rendered[0] == rendered[1], "Helm 3 and Helm 4 render different objects");
    let [objects, _] = rendered;

    let folder = testbed::workspace_dir().join("deploy/kustomize");
    let of_no_tool = |(id, mut object): (String, Value)| {
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            for label in ["helm.sh/chart", "app.kubernetes.io/managed-by"] {
                object.pointer_mut(labels).and_then(Value::as_object_mut).map(|labels| labels.remove(label));
            }
        }
        (id, object)
    };
    let mut wanted: BTreeMap<_, _> = objects.into_iter().map(of_no_tool).collect();
    if update {
        let text: String = wanted.values().map(write::document).collect();
        fs::write(folder.join("controller.yaml"), format!("{GENERATED}{text}"))?;
    }
    let count = wanted.len();
    let mut others = vec![namespace()];
    for entry in fs::read_dir(definitions())? {
        others.extend(Cluster::documents(&fs::read_to_string(entry?.path())?)?);
    }
    others.retain(|one| one["kind"] != "Kustomization");
    wanted.extend(by_id(others));
    let found = by_id(kubectl.kustomize(&folder).await?);
    let differ: Vec<_> = wanted.keys().chain(found.keys()).filter(|id| wanted.get(*id) != found.get(*id)).collect();
    ensure!(
        differ.is_empty(),
        "deploy/kustomize differs from the chart in {differ:?}; run `cargo xtask e2e --scenario chart --update`"
    );
    Ok(count)
}

/// The schema of the values refuses each of [`TYPOS`], and says where it is.
pub(super) async fn typos_are_refused(helm: &Helm) -> Result<()> {
    for (setting, expected) in TYPOS {
        let error = helm.error(&["template", &chart(), "--set", setting]).await?;
        ensure!(error.contains(expected), "{setting}: expected `{expected}` in the error, found {error}");
    }
    Ok(())
}

/// Each of [`SETTINGS`] changes what is rendered, and the API server takes the result. No value is without a setting.
pub(super) async fn settings_take_effect(helm: &Helm, cluster: &Cluster) -> Result<usize> {
    let values = helm.run(&["show", "values", &chart()]).await?;
    let values = Cluster::documents(&values)?.pop().context("values.yaml is empty")?;
    for leaf in leaves(&values) {
        let is_set = SETTINGS.iter().any(|(path, _)| leaf == *path || leaf.starts_with(&format!("{path}.")));
        ensure!(is_set, "no setting shows what the value {leaf} does");
    }
    let plain = by_id(helm.template(&[]).await?);
    let mut all = Vec::new();
    for (path, value) in &SETTINGS {
        let setting = format!("{path}={value}");
        ensure!(by_id(helm.template(&["--set-json", &setting]).await?) != plain, "{setting} changes nothing");
        if *value != "false" {
            all.push(setting);
        }
    }
    let all: Vec<_> = all.iter().flat_map(|setting| ["--set-json", setting]).collect();
    for object in helm.template(&all).await? {
        // No definition of the Prometheus operator's resources is installed; `alerts` looks into the rules.
        if object["apiVersion"] != "monitoring.coreos.com/v1" {
            let refusal = cluster.refusal(&object).await?;
            ensure!(refusal.is_none(), "{} is refused: {refusal:?}", Cluster::id(&object));
        }
    }
    Ok(SETTINGS.len())
}

/// A real Prometheus takes the rules, and misses a controller. Returns the number of alerts.
pub(super) async fn alerts(world: &World, helm: &Helm, dir: &Path) -> Result<usize> {
    let objects = helm.template(&["--set", "monitoring.prometheusRule.enabled=true"]).await?;
    let rules = &of_kind(&objects, "PrometheusRule")?["spec"];
    let prometheus = Prometheus::start(&world.prometheus, world.net.addr(PROMETHEUS, 9090), &[], rules, dir).await?;
    until("the alert", std::time::Duration::from_secs(20), async || {
        let found = prometheus.query(r#"ALERTS{alertname="RoutingClaimsControllerMissing"}"#).await?;
        Ok(Readiness::of(found.len() == 1, || format!("found {found:?}")))
    })
    .await?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    Ok(rules.filter(|rule| rule["alert"].is_string()).count())
}

fn by_id(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (Cluster::id(&object), object)).collect()
}

/// The paths of the values that contain no others.
fn leaves(values: &Value) -> Vec<String> {
    match values.as_object() {
        Some(entries) if !entries.is_empty() => {
            let below = entries.iter().flat_map(|(key, value)| {
                leaves(value)
                    .into_iter()
                    .map(move |path| if path.is_empty() { key.clone() } else { format!("{key}.{path}") })
            });
            below.collect()
        }
        _ => vec![String::new()],
    }
}

const GENERATED: &str = "\
# Written by `cargo xtask e2e --scenario chart --update` from deploy/chart/routing-claims with default values.
";

/// A setting, and what the error names.
const TYPOS: [(&str, &str); 9] = [
    ("replica=3", "'replica' not allowed"),
    ("image.digets=sha256:0", "'digets' not allowed"),
    ("image.digest=latest", "/image/digest"),
    ("monitoring.serviceMonitor.enable=true", "'enable' not allowed"),
    ("log.level=verbose", "/log/level"),
    ("drainSeconds=-1", "/drainSeconds"),
    ("settleSeconds=15s", "/settleSeconds"),
    ("networkPolicy.apiServerPorts={0}", "/networkPolicy/apiServerPorts/0"),
    ("resources.limit.memory=1Gi", "'limit' not allowed"),
];

/// Values in JSON, each unlike its default.
const SETTINGS: [(&str, &str); 26] = [
    ("image.repository", r#""127.0.0.1:5000/controller""#),
    ("image.digest", r#""sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#),
    ("image.tag", r#""1.2.3""#),
    ("image.pullPolicy", r#""Always""#),
    ("imagePullSecrets", r#"[{"name": "registry"}]"#),
    ("replicas", "3"),
    ("drainSeconds", "0"),
    ("settleSeconds", "5"),
    ("log.level", r#""debug""#),
    ("log.format", r#""text""#),
    ("serviceAccount.annotations", r#"{"example.com/a": "b"}"#),
    ("resources", r#"{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}"#),
    ("podLabels", r#"{"example.com/team": "platform"}"#),
    ("podAnnotations", r#"{"example.com/a": "b"}"#),
    ("nodeSelector", r#"{"kubernetes.io/os": "linux"}"#),
    ("tolerations", r#"[{"key": "dedicated", "operator": "Exists"}]"#),
    ("affinity", r#"{"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}"#),
    ("priorityClassName", r#""system-cluster-critical""#),
    ("podDisruptionBudget.enabled", "false"),
    ("networkPolicy.enabled", "false"),
    (
        "networkPolicy.metricsFrom",
        r#"[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]"#,
    ),
    ("networkPolicy.apiServer", r#"[{"ipBlock": {"cidr": "10.0.0.1/32"}}]"#),
    ("networkPolicy.apiServerPorts", "[16443]"),
    ("monitoring.serviceMonitor", r#"{"enabled": true, "interval": "30s", "labels": {"release": "prometheus"}}"#),
    ("monitoring.prometheusRule", r#"{"enabled": true, "labels": {"release": "prometheus"}}"#),
    ("monitoring.dashboard", r#"{"enabled": true, "labels": {"grafana_dashboard": "yes"}}"#),
];
const PROMETHEUS: u8 = 6;
