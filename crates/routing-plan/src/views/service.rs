//! Kubernetes' `Service`.

use serde_json::Value;

use super::{
    reader::{Field, Fields, ReadFields},
    selector::Labels,
};

/// Its `spec`, the part that names ports and workloads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    pub(crate) ports: Field<Vec<ServicePort>>,
    pub(crate) selector: Field<Labels>,
}

/// An entry of `ports`.
#[derive(Debug, Clone)]
pub(crate) struct ServicePort {
    pub(crate) port: Field<u64>,
    /// A number or a name.
    pub(crate) target_port: Field<Value>,
}

impl Service {
    /// Whether it has a port of this number, as far as it tells.
    pub(crate) fn has_port(&self, number: u16) -> bool {
        let Some(ports) = self.ports.known() else { return true };
        ports.iter().any(|port| port.port.known().is_none_or(|port| *port == u64::from(number)))
    }

    /// Whether workloads with these labels are behind it.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        let selector = self.selector.known().filter(|selector| !selector.is_empty());
        selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }

    /// The ports of the workloads behind a port of this number, by number or name.
    pub(crate) fn targets_of(&self, number: u16) -> impl Iterator<Item = Value> {
        let ports = self.ports.items().iter().filter(move |port| port.port == Field::Known(number.into()));
        ports.map(move |port| port.target_port.known().cloned().unwrap_or_else(|| number.into()))
    }
}

impl ReadFields for Service {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { ports: fields.field("ports"), selector: fields.field("selector") }
    }
}

impl ReadFields for ServicePort {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { port: fields.field("port"), target_port: fields.field("targetPort") }
    }
}
