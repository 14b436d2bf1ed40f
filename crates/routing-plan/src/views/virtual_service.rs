//! Istio's `VirtualService`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    reader::{Field, Fields, ReadFields, Written},
    string_match::StringMatch,
};
use crate::diagnostic::FieldPath;

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct VirtualService {
    pub(crate) hosts: Field<Vec<String>>,
    pub(crate) gateways: Field<Vec<String>>,
    pub(crate) http: Field<Vec<IstioRoute>>,
    pub(crate) written: Written,
}

/// An entry of `http`.
#[derive(Debug, Clone)]
pub(crate) struct IstioRoute {
    pub(crate) name: Field<String>,
    pub(crate) matches: Field<Vec<RouteMatch>>,
    pub(crate) route: Field<Vec<WeightedDestination>>,
    pub(crate) redirect: Field<Value>,
    pub(crate) direct_response: Field<Value>,
    pub(crate) delegate: Field<Value>,
    pub(crate) fault: Field<Value>,
    pub(crate) written: Written,
}

/// An entry of a route's `match`: all of its conditions hold, or it does not match.
#[derive(Debug, Clone)]
pub(crate) struct RouteMatch {
    pub(crate) authority: Field<StringMatch>,
    pub(crate) gateways: Field<Vec<String>>,
    pub(crate) headers: Field<BTreeMap<String, Field<StringMatch>>>,
    pub(crate) ignore_uri_case: Field<bool>,
    pub(crate) method: Field<StringMatch>,
    pub(crate) port: Field<u64>,
    pub(crate) query_params: Field<BTreeMap<String, Field<StringMatch>>>,
    pub(crate) scheme: Field<StringMatch>,
    pub(crate) source_labels: Field<BTreeMap<String, String>>,
    pub(crate) source_namespace: Field<String>,
    pub(crate) uri: Field<StringMatch>,
    pub(crate) without_headers: Field<BTreeMap<String, Field<StringMatch>>>,
    pub(crate) written: Written,
}

/// An entry of a route's `route`.
#[derive(Debug, Clone)]
pub(crate) struct WeightedDestination {
    pub(crate) destination: Field<DestinationRef>,
    pub(crate) weight: Field<u64>,
    pub(crate) path: FieldPath,
}

/// A host that may be short, a port and a subset.
#[derive(Debug, Clone)]
pub(crate) struct DestinationRef {
    pub(crate) host: Field<String>,
    pub(crate) port: Field<PortNumber>,
    pub(crate) subset: Field<String>,
    pub(crate) path: FieldPath,
}

/// A port by number.
#[derive(Debug, Clone)]
pub(crate) struct PortNumber {
    pub(crate) number: Field<u64>,
}

impl VirtualService {
    /// Whether it is for requests between workloads: with no `gateways` it is.
    pub(crate) fn is_for_mesh(&self) -> bool {
        self.gateways.known().is_none_or(|gateways| gateways.iter().any(|gateway| gateway == MESH))
    }
}

impl IstioRoute {
    /// Its name or number, as messages name it.
    pub(crate) fn title(&self, index: usize) -> String {
        self.name.text().map_or_else(|| format!("route {}", index + 1), |name| format!("`{name}`"))
    }

    /// Whether it takes every request, whatever it is.
    pub(crate) fn takes_all(&self) -> bool {
        match &self.matches {
            Field::Absent => true,
            Field::Known(matches) => matches.is_empty() || matches.iter().any(RouteMatch::takes_all),
            Field::Wrong(_) => false,
        }
    }
}

impl RouteMatch {
    fn takes_all(&self) -> bool {
        let any_uri = match &self.uri {
            Field::Absent => true,
            Field::Known(uri) => *uri == StringMatch::Prefix("/".into()),
            Field::Wrong(_) => false,
        };
        let Self { authority, gateways, headers, ignore_uri_case: _, method, port, query_params, scheme, .. } = self;
        let Self { source_labels, source_namespace, uri: _, without_headers, written, .. } = self;
        any_uri
            && [authority, method, scheme].into_iter().all(Field::is_absent)
            && [headers, query_params, without_headers].into_iter().all(Field::is_absent)
            && gateways.is_absent()
            && port.is_absent()
            && source_labels.is_absent()
            && source_namespace.is_absent()
            && written.unknown.is_empty()
    }
}

impl ReadFields for VirtualService {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // Routes of other protocols.
        fields.inert(&["tcp", "tls"]);
        Self {
            hosts: fields.field("hosts"),
            gateways: fields.field("gateways"),
            http: fields.field("http"),
            written: fields.written(),
        }
    }
}

impl ReadFields for IstioRoute {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // What happens on the way, or to a copy of the request: it does not choose the destination.
        fields.inert(&["corsPolicy", "headers", "mirror", "mirrorPercent", "mirrorPercentage", "mirror_percent"]);
        fields.inert(&["mirrors", "retries", "rewrite", "timeout"]);
        Self {
            name: fields.field("name"),
            matches: fields.field("match"),
            route: fields.field("route"),
            redirect: fields.field("redirect"),
            direct_response: fields.field("directResponse"),
            delegate: fields.field("delegate"),
            fault: fields.field("fault"),
            written: fields.written(),
        }
    }
}

impl ReadFields for RouteMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["name", "statPrefix"]);
        Self {
            authority: fields.field("authority"),
            gateways: fields.field("gateways"),
            headers: fields.field("headers"),
            ignore_uri_case: fields.field("ignoreUriCase"),
            method: fields.field("method"),
            port: fields.field("port"),
            query_params: fields.field("queryParams"),
            scheme: fields.field("scheme"),
            source_labels: fields.field("sourceLabels"),
            source_namespace: fields.field("sourceNamespace"),
            uri: fields.field("uri"),
            without_headers: fields.field("withoutHeaders"),
            written: fields.written(),
        }
    }
}

impl ReadFields for WeightedDestination {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["headers"]);
        Self { destination: fields.field("destination"), weight: fields.field("weight"), path: fields.path() }
    }
}

impl ReadFields for DestinationRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            host: fields.field("host"),
            port: fields.field("port"),
            subset: fields.field("subset"),
            path: fields.path(),
        }
    }
}

impl ReadFields for PortNumber {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { number: fields.field("number") }
    }
}

/// What `gateways` calls the requests between workloads.
pub(crate) const MESH: &str = "mesh";
