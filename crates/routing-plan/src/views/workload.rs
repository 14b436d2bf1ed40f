//! What makes pods: a `Deployment`, a `CronJob`, a `Pod` itself, …

use super::{
    reader::{Field, Fields, ReadFields},
    selector::Labels,
};
use crate::diagnostic::FieldPath;

/// The metadata of the pods that a workload makes.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) labels: Field<Labels>,
    pub(crate) annotations: Field<Labels>,
    pub(crate) path: FieldPath,
}

impl Workload {
    /// Whether Istio injects a sidecar into its pods, where injection is on.
    pub(crate) fn has_sidecar(&self) -> bool {
        let allows =
            |map: &Field<Labels>| map.known().and_then(|map| map.get(INJECT)).is_none_or(|inject| inject != "false");
        allows(&self.labels) && allows(&self.annotations)
    }
}

impl ReadFields for Workload {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { labels: fields.field("labels"), annotations: fields.field("annotations"), path: fields.path() }
    }
}

const INJECT: &str = "sidecar.istio.io/inject";
