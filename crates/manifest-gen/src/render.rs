//! Resources to YAML files, and how a folder of them differs from what it should contain.

use std::{collections::BTreeMap, sync::Arc};

use routing_plan::resources::{FORMERLY_MANAGED_BY, MANAGED_BY, MANAGED_BY_LABEL, PLAN_LABEL, Resource};
use similar::TextDiff;

use crate::yaml::{self, File, Node, write};

/// All resources as one text of several documents.
#[must_use]
pub fn stream(resources: &[Resource]) -> String {
    resources.iter().map(|resource| write::document(&resource.value)).collect()
}

/// Each resource as a file: name and text. Each begins with `---`, so that files can be concatenated.
#[must_use]
pub fn files(resources: &[Resource], plan: &str) -> BTreeMap<String, String> {
    let head = format!("---\n# Written by manifest-gen from the plan `{plan}`: edit the plan, not this file.\n");
    let text = |resource: &Resource| format!("{head}{}", write::write(&resource.value));
    resources.iter().map(|resource| (file_name(resource), text(resource))).collect()
}

/// Whether a text contains only resources of the plan, so that it may be replaced or removed.
#[must_use]
pub fn is_own(text: &str, plan: &str) -> bool {
    let documents = yaml::read(&Arc::new(File { name: String::new(), text: text.to_owned() })).unwrap_or_default();
    let own = |document: &Node| {
        let labels = document.get("metadata").and_then(|metadata| metadata.get("labels"));
        let label = |key| labels.and_then(|labels| labels.get(key)).and_then(Node::text);
        matches!(label(MANAGED_BY_LABEL), Some(MANAGED_BY | FORMERLY_MANAGED_BY)) && label(PLAN_LABEL) == Some(plan)
    };
    !documents.is_empty() && documents.iter().all(own)
}

/// How a file differs from what it should contain, as a unified diff; empty if it does not. `None` for a file that is, or
/// should be, missing.
#[must_use]
pub fn unified_diff(name: &str, found: Option<&str>, wanted: Option<&str>) -> String {
    let side = |text: Option<&str>| if text.is_some() { name.to_owned() } else { "/dev/null".to_owned() };
    TextDiff::from_lines(found.unwrap_or_default(), wanted.unwrap_or_default())
        .unified_diff()
        .context_radius(3)
        .header(&side(found), &side(wanted))
        .to_string()
}

/// Name of the resource's file. Neither a namespace nor a kind contains a dot, so no two resources share one.
fn file_name(resource: &Resource) -> String {
    let Resource { namespace, kind, name, .. } = resource;
    format!("{namespace}.{}.{name}.yaml", kind.to_ascii_lowercase())
}
