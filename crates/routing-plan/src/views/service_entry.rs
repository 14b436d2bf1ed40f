//! Istio's `ServiceEntry`.

use super::reader::{Field, Fields, ReadFields};

/// Its `spec`, the part that names hosts.
#[derive(Debug, Clone)]
pub(crate) struct ServiceEntry {
    pub(crate) hosts: Field<Vec<String>>,
}

impl ReadFields for ServiceEntry {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["addresses", "endpoints", "exportTo", "location", "ports", "resolution", "subjectAltNames"]);
        fields.inert(&["workloadSelector"]);
        Self { hosts: fields.field("hosts") }
    }
}
