//! Istio's `Gateway`.

use super::{
    reader::{Field, Fields, ReadFields},
    selector::Labels,
};

/// Its `spec`, the part that says which proxies it is for.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) selector: Field<Labels>,
}

impl ReadFields for Gateway {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["servers"]);
        Self { selector: fields.field("selector") }
    }
}
