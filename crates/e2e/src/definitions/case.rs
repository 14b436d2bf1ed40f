//! A plan or a variant that is wrong, as the API server and `manifest-gen` see it.

use std::{fmt, fs, io, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use e2e::{Apply, Cluster};
use manifest_gen::{diagnostic::FileDiagnostic, documents::Documents, yaml::File};
use routing_plan::resolve::Expiry;
use serde_json::{Value, json};

/// A plan or a variant that is wrong.
pub(super) struct Case {
    name: String,
    object: Value,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Case {
    /// The plans and variants of a file.
    pub(super) fn of_file(file: &Path) -> Result<Vec<Self>> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        // What is not valid YAML is neither.
        let objects = Cluster::documents(&text).unwrap_or_default().into_iter();
        let objects =
            objects.filter(|object| ["RoutingPlan", "RoutingVariant"].iter().any(|kind| object["kind"] == *kind));
        Ok(objects.map(|object| Self { name: file.display().to_string(), object }).collect())
    }

    /// The smallest plan with other fields, in YAML: those of `spec`, and `metadata`.
    pub(super) fn plan(fields: &str) -> Result<Self> {
        let mut plan = smallest_plan();
        for (name, value) in mapping(fields)? {
            match &*name {
                "metadata" => plan["metadata"] = value,
                _ => plan["spec"][name] = value,
            }
        }
        Ok(Self { name: fields.to_owned(), object: plan })
    }

    /// A variant with other fields of `spec`, in YAML.
    pub(super) fn variant(fields: &str) -> Result<Self> {
        let mut variant = json!({
            "apiVersion": "routing-claims.dev/v1alpha1",
            "kind": "RoutingVariant",
            "metadata": {"name": "wrong"},
            "spec": {"service": "a", "variant": "PR-1"},
        });
        for (name, value) in mapping(fields)? {
            variant["spec"][name] = value;
        }
        Ok(Self { name: fields.to_owned(), object: variant })
    }

    /// Why the API server refuses it. Empty: it accepts it.
    pub(super) async fn causes(&self, cluster: &Cluster) -> Result<Vec<String>> {
        let mut object = self.object.clone();
        object["metadata"]["namespace"] = json!("default");
        let applied = cluster.apply_as(super::US, &object, Apply::DryRun).await?;
        Ok(applied.err().unwrap_or_default())
    }

    /// Why `manifest-gen` refuses it. Empty: it accepts it.
    pub(super) fn faults(&self) -> Vec<String> {
        let file = |name: &str, object: &Value| Arc::new(File { name: name.to_owned(), text: object.to_string() });
        let mut files = vec![file("case", &self.object)];
        if self.object["kind"] == "RoutingVariant" {
            files.push(file("plan", &smallest_plan()));
        }
        let mut documents = Documents::default();
        // What the controller says, which has no files either.
        let read = documents.read_plan(&files, &|_| Err(io::Error::other("the file was not given")));
        let resolved = read.and_then(|input| documents.resolve(&input, Expiry::Keep));
        let diagnostics = resolved.err().unwrap_or_default();
        diagnostics.into_iter().map(|FileDiagnostic { message, .. }| message).collect()
    }

    /// Whether it has the form of before there were lists of issuers, which no cluster takes.
    pub(super) fn is_old(&self) -> bool {
        self.object["spec"]["authentication"].is_object()
    }
}

fn smallest_plan() -> Value {
    json!({
        "apiVersion": "routing-claims.dev/v1alpha1",
        "kind": "RoutingPlan",
        "metadata": {"name": "wrong", "namespace": "default"},
        "spec": {
            "filter": {"engine": "lua", "istioVersion": "1.31"},
            "services": [{"name": "a", "namespace": "a"}],
        },
    })
}

fn mapping(yaml: &str) -> Result<serde_json::Map<String, Value>> {
    match &Cluster::documents(yaml)?[..] {
        [Value::Object(fields)] => Ok(fields.clone()),
        other => Err(anyhow::anyhow!("expected one mapping, found {other:?}")).context(yaml.to_owned()),
    }
}
