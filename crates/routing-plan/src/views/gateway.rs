//! Istio's `Gateway`.

use super::{
    reader::{Field, Fields, ReadFields},
    selector::Labels,
};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) selector: Field<Labels>,
    pub(crate) servers: Field<Vec<Server>>,
}

/// A port that it listens on.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) hosts: Field<Vec<String>>,
    pub(crate) port: Field<ServerPort>,
    pub(crate) tls: Field<ServerTls>,
}

#[derive(Debug, Clone)]
pub(crate) struct ServerPort {
    pub(crate) number: Field<u64>,
    pub(crate) protocol: Field<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ServerTls {
    pub(crate) https_redirect: Field<bool>,
    pub(crate) mode: Field<String>,
}

impl Server {
    /// Whether its requests are routed by HTTP routes: neither raw TCP nor TLS that it does not terminate.
    pub(crate) fn is_http(&self) -> bool {
        let protocol = self.port.known().and_then(|port| port.protocol.text()).unwrap_or_default();
        let passes_through =
            self.tls.known().and_then(|tls| tls.mode.text()).is_some_and(|mode| mode.ends_with("PASSTHROUGH"));
        ["HTTP", "HTTP2", "GRPC", "GRPC-WEB"].iter().any(|name| protocol.eq_ignore_ascii_case(name))
            || (protocol.eq_ignore_ascii_case("HTTPS") && !passes_through)
    }

    /// Whether it answers every request with a redirect to HTTPS.
    pub(crate) fn redirects(&self) -> bool {
        self.tls.known().is_some_and(|tls| tls.https_redirect == Field::Known(true))
    }
}

impl ReadFields for Gateway {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { selector: fields.field("selector"), servers: fields.field("servers") }
    }
}

impl ReadFields for Server {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["bind", "defaultEndpoint", "name"]);
        Self { hosts: fields.field("hosts"), port: fields.field("port"), tls: fields.field("tls") }
    }
}

impl ReadFields for ServerPort {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["name", "targetPort"]);
        Self { number: fields.field("number"), protocol: fields.field("protocol") }
    }
}

impl ReadFields for ServerTls {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // How it terminates TLS.
        fields.in_part();
        Self { https_redirect: fields.field("httpsRedirect"), mode: fields.field("mode") }
    }
}
