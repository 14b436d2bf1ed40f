//! A plan or a variant that is wrong, as the API server and `manifest-gen` see it.

use std::{fmt, io, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Apply, Cluster};
use manifest_gen::{diagnostic::FileDiagnostic, documents::Documents, yaml::File};
use routing_plan::resolve::Expiry;
use serde_json::{Value, json};

/// A plan or a variant that is wrong.
pub(super) struct Case {
    fields: &'static str,
    object: Value,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fields)
    }
}

impl Case {
    /// The smallest plan with other fields, in YAML: those of `spec`, and `metadata`.
    pub(super) fn plan(fields: &'static str) -> Result<Self> {
        let mut plan = smallest_plan();
        for (name, value) in mapping(fields)? {
            match &*name {
                "metadata" => plan["metadata"] = value,
                _ => plan["spec"][name] = value,
            }
        }
        Ok(Self { fields, object: plan })
    }

    /// A variant with other fields of `spec`, in YAML.
    pub(super) fn variant(fields: &'static str) -> Result<Self> {
        let mut variant = json!({
            "apiVersion": "routing-claims.dev/v1alpha1",
            "kind": "RoutingVariant",
            "metadata": {"name": "wrong"},
            "spec": {"service": "a", "variant": "PR-1"},
        });
        for (name, value) in mapping(fields)? {
            variant["spec"][name] = value;
        }
        Ok(Self { fields, object: variant })
    }

    /// Why the API server refuses it.
    pub(super) async fn causes(&self, cluster: &Cluster) -> Result<Vec<String>> {
        let mut object = self.object.clone();
        object["metadata"]["namespace"] = json!("default");
        match cluster.apply_as(super::US, &object, Apply::DryRun).await? {
            Ok(_) => bail!("{self}: the API server accepts it"),
            Err(causes) => Ok(causes),
        }
    }

    /// Why `manifest-gen` refuses it.
    pub(super) fn manifest_gen(&self) -> Result<Vec<String>> {
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
        ensure!(!diagnostics.is_empty(), "{self}: manifest-gen accepts it");
        Ok(diagnostics.into_iter().map(|FileDiagnostic { message, .. }| message).collect())
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
