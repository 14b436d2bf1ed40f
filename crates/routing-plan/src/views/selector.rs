//! Which workloads a resource is for.

use std::collections::BTreeMap;

use super::reader::{Field, Fields, ReadFields};

/// Labels by key.
pub(crate) type Labels = BTreeMap<String, String>;

/// Workloads that have all of these labels; none of them: all workloads.
#[derive(Debug, Clone)]
pub(crate) struct LabelSelector {
    pub(crate) match_labels: Field<Labels>,
}

/// An object that a resource is attached to.
#[derive(Debug, Clone)]
pub(crate) struct TargetRef {
    pub(crate) name: Field<String>,
}

impl ReadFields for TargetRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["group", "kind", "namespace"]);
        Self { name: fields.field("name") }
    }
}

impl ReadFields for LabelSelector {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { match_labels: fields.field("matchLabels") }
    }
}
