//! Istio's `DestinationRule`.

use super::reader::{Field, Fields, ReadFields};

/// Its `spec`, the part that names subsets.
#[derive(Debug, Clone)]
pub(crate) struct DestinationRule {
    pub(crate) host: Field<String>,
    pub(crate) subsets: Field<Vec<Subset>>,
}

/// A part of a host's endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Subset {
    pub(crate) name: Field<String>,
}

impl ReadFields for DestinationRule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["exportTo", "trafficPolicy", "workloadSelector"]);
        Self { host: fields.field("host"), subsets: fields.field("subsets") }
    }
}

impl ReadFields for Subset {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["labels", "trafficPolicy"]);
        Self { name: fields.field("name") }
    }
}
