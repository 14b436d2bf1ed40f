//! Istio's `Sidecar`.

use super::{
    reader::{Field, Fields, ReadFields},
    selector::Labels,
};

/// Its `spec`, the part that can hide hosts and routes from a workload.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    workload_selector: Field<SelectedLabels>,
    egress: Field<Vec<Egress>>,
}

#[derive(Debug, Clone)]
struct SelectedLabels {
    labels: Field<Labels>,
}

#[derive(Debug, Clone)]
struct Egress {
    hosts: Field<Vec<String>>,
}

impl Sidecar {
    /// Whether it may be for a workload with these labels, if they are known.
    pub(crate) fn may_select(&self, labels: Option<&Labels>) -> bool {
        let selected = self.workload_selector.known().and_then(|selector| selector.labels.known());
        let (Some(selected), Some(labels)) = (selected, labels) else { return true };
        selected.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether it shows every host of every namespace.
    pub(crate) fn shows_all(&self) -> bool {
        let has_all = |egress: &Egress| egress.hosts.items().iter().any(|host| host == "*/*");
        !self.egress.is_wrong() && self.egress.items().iter().all(has_all)
    }
}

impl ReadFields for Sidecar {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { workload_selector: fields.field("workloadSelector"), egress: fields.field("egress") }
    }
}

impl ReadFields for SelectedLabels {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { labels: fields.field("labels") }
    }
}

impl ReadFields for Egress {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { hosts: fields.field("hosts") }
    }
}
