//! A plan as text to its mesh.

use std::{collections::BTreeMap, io, sync::Arc};

use routing_plan::{
    model::{self, Expiry, Mesh},
    plan,
    problem::Problem,
    resources::{self, Resource},
    yaml::File,
};

/// Files with `name` and text; the plan's folder holds `others`.
pub(crate) fn build(files: &[(&str, &str)], others: &[(&str, &[u8])]) -> Result<Mesh, Vec<Problem>> {
    let file = |(name, text): &(&str, &str)| Arc::new(File { name: (*name).into(), text: (*text).into() });
    let input = plan::read(&files.iter().map(file).collect::<Vec<_>>())?;
    let others: BTreeMap<_, _> = others.iter().copied().collect();
    let fetch =
        |path: &str| others.get(path).map(|bytes| bytes.to_vec()).ok_or_else(|| io::Error::other("no such file"));
    model::build(&input, Expiry::Refuse("2026-06-01T00:00:00Z".parse().unwrap()), &fetch)
}

/// The resources of one plan.
pub(crate) fn render(plan: &str) -> Vec<Resource> {
    resources::generate(&build(&[("plan.yaml", plan)], &[]).unwrap_or_else(|problems| panic!("{problems:#?}")))
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
