//! Resources to texts: what `render` writes.

use std::{collections::BTreeMap, sync::Arc};

use similar::TextDiff;

use crate::{
    resources::{MANAGED_BY, PLAN, Resource, SELF},
    yaml::{self, File},
};

/// All resources as one text of several documents.
#[must_use]
pub fn stream(resources: &[Resource]) -> String {
    resources.iter().map(Resource::to_yaml).collect::<Vec<_>>().join("---\n")
}

/// Each resource as a file: name and text.
#[must_use]
pub fn files(resources: &[Resource], plan: &str) -> BTreeMap<String, String> {
    let head = format!("# Written by manifest-gen from the plan `{plan}`: edit the plan, not this file.\n");
    resources.iter().map(|resource| (resource.file_name(), format!("{head}{}", resource.to_yaml()))).collect()
}

/// Whether a text holds nothing but resources written for the plan, so that it may be replaced or removed.
#[must_use]
pub fn is_own(text: &str, plan: &str) -> bool {
    let documents = yaml::read(&Arc::new(File { name: String::new(), text: text.to_owned() })).unwrap_or_default();
    let own = |document: &yaml::Node| {
        let labels = document.get("metadata").and_then(|metadata| metadata.get("labels"));
        let label = |key| labels.and_then(|labels| labels.get(key)).and_then(yaml::Node::text);
        label(MANAGED_BY) == Some(SELF) && label(PLAN) == Some(plan)
    };
    !documents.is_empty() && documents.iter().all(own)
}

/// How a folder's files differ from what they should be, as a unified diff; empty if they don't. `None` for a file that
/// is, or should be, missing.
#[must_use]
pub fn unified_diff(name: &str, found: Option<&str>, wanted: Option<&str>) -> String {
    let side = |text: Option<&str>| if text.is_some() { name.to_owned() } else { "/dev/null".to_owned() };
    TextDiff::from_lines(found.unwrap_or_default(), wanted.unwrap_or_default())
        .unified_diff()
        .context_radius(3)
        .header(&side(found), &side(wanted))
        .to_string()
}
