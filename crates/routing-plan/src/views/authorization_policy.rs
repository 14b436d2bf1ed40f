//! Istio's `AuthorizationPolicy`.

use super::{
    reader::{Field, Fields, ReadFields},
    selector::{LabelSelector, TargetRef},
};

/// Its `spec`, the part that says which proxies it is for.
#[derive(Debug, Clone)]
pub(crate) struct AuthorizationPolicy {
    pub(crate) selector: Field<LabelSelector>,
    pub(crate) target_ref: Field<TargetRef>,
    pub(crate) target_refs: Field<Vec<TargetRef>>,
}

impl ReadFields for AuthorizationPolicy {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["action", "provider", "rules"]);
        Self {
            selector: fields.field("selector"),
            target_ref: fields.field("targetRef"),
            target_refs: fields.field("targetRefs"),
        }
    }
}
