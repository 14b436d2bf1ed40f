//! A plan as text to what is resolved and rendered.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use manifest_gen::{diagnostic::FileDiagnostic, documents::Documents, yaml::File};
use routing_plan::{
    resolve::{Expiry, ResolvedPlan},
    resources::{self, Resource},
};

/// Files with `name` and text; the plan's folder contains `others`.
pub(crate) fn build(files: &[(&str, &str)], others: &[(&str, &[u8])]) -> Result<ResolvedPlan, Vec<FileDiagnostic>> {
    let file = |(name, text): &(&str, &str)| Arc::new(File { name: (*name).into(), text: (*text).into() });
    let files: Vec<_> = files.iter().map(file).collect();
    let others: BTreeMap<_, _> = others.iter().map(|(name, bytes)| (Path::new(*name), *bytes)).collect();
    let fetch =
        |path: &Path| others.get(path).map(|bytes| bytes.to_vec()).ok_or_else(|| io::Error::other("no such file"));
    let mut documents = Documents::default();
    let input = documents.read_plan(&files, &fetch)?;
    documents.resolve(&input, Expiry::Refuse("2026-06-01T00:00:00Z".parse().unwrap()))
}

/// The resources of one plan.
pub(crate) fn render(plan: &str) -> Vec<Resource> {
    resources::generate(&build(&[("plan.yaml", plan)], &[]).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}")))
}

/// The only resource of a kind.
pub(crate) fn only<'r>(resources: &'r [Resource], kind: &str) -> &'r Resource {
    let mut found = resources.iter().filter(|resource| resource.kind == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two of {kind}");
    first
}

/// A plan with this filter, these services, and more of `spec`.
pub(crate) fn plan(filter: &str, services: &str, more: &str) -> String {
    format!(
        "apiVersion: routing-claims.dev/v1alpha1\nkind: RoutingPlan\nmetadata: {{name: qa, namespace: istio-system}}\n\
         spec:\n  filter: {{{filter}}}\n  services:\n{services}\n{more}\n"
    )
}
