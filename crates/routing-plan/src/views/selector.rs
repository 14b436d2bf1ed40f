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

impl ReadFields for LabelSelector {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { match_labels: fields.field("matchLabels") }
    }
}
