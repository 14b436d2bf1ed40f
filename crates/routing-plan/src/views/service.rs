//! Kubernetes' `Service`.

use super::reader::{Field, Fields, ReadFields};

/// Its `spec`, the part that names ports.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) ports: Field<Vec<ServicePort>>,
}

/// An entry of `ports`.
#[derive(Debug, Clone)]
pub(crate) struct ServicePort {
    pub(crate) port: Field<u64>,
}

impl Service {
    /// Whether it has a port of this number, as far as it tells.
    pub(crate) fn has_port(&self, number: u16) -> bool {
        let Some(ports) = self.ports.known() else { return true };
        ports.iter().any(|port| port.port.known().is_none_or(|port| *port == u64::from(number)))
    }
}

impl ReadFields for Service {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { ports: fields.field("ports") }
    }
}

impl ReadFields for ServicePort {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { port: fields.field("port") }
    }
}
