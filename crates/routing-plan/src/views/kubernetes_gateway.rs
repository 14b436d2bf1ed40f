//! The Gateway API's `Gateway`.

use super::reader::{Field, Fields, ReadFields};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct KubernetesGateway {
    pub(crate) listeners: Field<Vec<Listener>>,
}

/// A port that it listens on, perhaps for one host.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) name: Field<String>,
    pub(crate) hostname: Field<String>,
    pub(crate) port: Field<u64>,
    pub(crate) protocol: Field<String>,
    pub(crate) allowed_routes: Field<AllowedRoutes>,
}

/// Routes that may be attached to a listener; with none written, those of its own namespace.
#[derive(Debug, Clone)]
pub(crate) struct AllowedRoutes {
    pub(crate) namespaces: Field<FromNamespaces>,
    pub(crate) kinds: Field<Vec<RouteKind>>,
}

#[derive(Debug, Clone)]
pub(crate) struct FromNamespaces {
    pub(crate) from: Field<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct RouteKind {
    pub(crate) kind: Field<String>,
}

impl ReadFields for KubernetesGateway {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // What runs it, and how it is reached.
        fields.in_part();
        Self { listeners: fields.field("listeners") }
    }
}

impl ReadFields for Listener {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["tls"]);
        Self {
            name: fields.field("name"),
            hostname: fields.field("hostname"),
            port: fields.field("port"),
            protocol: fields.field("protocol"),
            allowed_routes: fields.field("allowedRoutes"),
        }
    }
}

impl ReadFields for AllowedRoutes {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { namespaces: fields.field("namespaces"), kinds: fields.field("kinds") }
    }
}

impl ReadFields for FromNamespaces {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["selector"]);
        Self { from: fields.field("from") }
    }
}

impl ReadFields for RouteKind {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["group"]);
        Self { kind: fields.field("kind") }
    }
}
