//! Istio's `VirtualService`.

use std::collections::BTreeMap;

use super::{
    reader::{Field, Fields, ReadFields, Written},
    string_match::StringMatch,
};
use crate::{diagnostic::FieldPath, names};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct VirtualService {
    pub(crate) hosts: Field<Vec<String>>,
    pub(crate) gateways: Field<Vec<String>>,
    pub(crate) export_to: Field<Vec<String>>,
    pub(crate) http: Field<Vec<IstioRoute>>,
    pub(crate) written: Written,
}

/// An entry of `http`.
#[derive(Debug, Clone)]
pub(crate) struct IstioRoute {
    pub(crate) name: Field<String>,
    pub(crate) matches: Field<Vec<RouteMatch>>,
    pub(crate) route: Field<Vec<WeightedDestination>>,
    pub(crate) redirect: Field<Redirect>,
    pub(crate) direct_response: Field<DirectResponse>,
    pub(crate) delegate: Field<DelegateRef>,
    pub(crate) fault: Field<FaultInjection>,
    pub(crate) written: Written,
}

/// Where a client is sent instead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redirect {
    pub(crate) authority: Field<String>,
    pub(crate) derive_port: Field<String>,
    pub(crate) port: Field<u64>,
    pub(crate) code: Field<u64>,
    pub(crate) scheme: Field<String>,
    pub(crate) uri: Field<String>,
}

/// An answer of the proxy itself.
#[derive(Debug, Clone)]
pub(crate) struct DirectResponse {
    pub(crate) body: Field<ResponseBody>,
    pub(crate) status: Field<u64>,
    pub(crate) path: FieldPath,
}

/// Its body, as text or as bytes in Base64.
#[derive(Debug, Clone)]
pub(crate) struct ResponseBody {
    pub(crate) bytes: Field<String>,
    pub(crate) string: Field<String>,
}

/// What is done to requests on purpose.
#[derive(Debug, Clone)]
pub(crate) struct FaultInjection {
    pub(crate) abort: Field<Abort>,
    pub(crate) delay: Field<Delay>,
    pub(crate) written: Written,
}

/// Requests that have to wait.
#[derive(Debug, Clone)]
pub(crate) struct Delay {
    pub(crate) percentage: Field<Percentage>,
}

/// Requests that get an answer without a Service.
#[derive(Debug, Clone)]
pub(crate) struct Abort {
    pub(crate) http_status: Field<u64>,
    pub(crate) percentage: Field<Percentage>,
    pub(crate) written: Written,
}

/// A share of requests.
#[derive(Debug, Clone)]
pub(crate) struct Percentage {
    /// From 0 to 100.
    pub(crate) value: Field<f64>,
    pub(crate) path: FieldPath,
}

/// The `VirtualService` whose routes take a route's place.
#[derive(Debug, Clone)]
pub(crate) struct DelegateRef {
    pub(crate) name: Field<String>,
    pub(crate) namespace: Field<String>,
    pub(crate) path: FieldPath,
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
    /// The gateways that it is for, as a resource of the namespace names them: with none written, the mesh.
    pub(crate) fn gateways(&self, namespace: &str) -> Vec<String> {
        match &self.gateways {
            Field::Known(names) if !names.is_empty() => {
                names.iter().map(|name| names::gateway(name, namespace)).collect()
            }
            Field::Absent | Field::Known(_) => vec![MESH.to_owned()],
            Field::Wrong(_) => Vec::new(),
        }
    }

    /// Whether it is for requests between workloads.
    pub(crate) fn is_for_mesh(&self) -> bool {
        self.gateways("").iter().any(|name| name == MESH)
    }

    /// Whether its routes only take the places of routes of other `VirtualService`s.
    pub(crate) fn is_delegate(&self) -> bool {
        matches!(&self.hosts, Field::Absent) || matches!(&self.hosts, Field::Known(hosts) if hosts.is_empty())
    }
}

impl IstioRoute {
    /// Its name or number, as messages name it.
    pub(crate) fn title(&self, index: usize) -> String {
        self.name.text().map_or_else(|| format!("route {}", index + 1), |name| format!("`{name}`"))
    }

    /// Whether it takes every request, whatever it is.
    pub(crate) fn takes_all(&self) -> bool {
        self.takes_all_if(|condition| condition.gateways.items().is_empty())
    }

    /// Whether it takes every request that reaches a gateway, or in the mesh.
    pub(crate) fn takes_all_at(&self, gateway: &str, namespace: &str) -> bool {
        self.takes_all_if(|condition| {
            let names = condition.gateways.items();
            names.is_empty() || names.iter().any(|name| names::gateway(name, namespace) == gateway)
        })
    }

    /// Whether every request meets one of its matches, wherever it goes then.
    pub(crate) fn has_catch_all(&self) -> bool {
        let matches = self.matches.items();
        !self.matches.is_wrong()
            && (matches.is_empty() || matches.iter().any(|one| one.is_for_everyone() && one.is_catch_all()))
    }

    fn takes_all_if(&self, is_here: impl Fn(&RouteMatch) -> bool) -> bool {
        // What a delegate does not take goes on to the next route.
        self.delegate.is_absent()
            && match &self.matches {
                Field::Absent => true,
                Field::Known(matches) => {
                    matches.is_empty()
                        || matches.iter().any(|one| one.is_for_everyone() && one.is_catch_all() && is_here(one))
                }
                Field::Wrong(_) => false,
            }
    }
}

impl RouteMatch {
    /// Whether Istio takes it for one that every request meets (`IsCatchAllRoute` in Istio's `route.go`).
    pub(crate) fn is_catch_all(&self) -> bool {
        let any_uri = match &self.uri {
            Field::Absent | Field::Known(StringMatch::Present) => true,
            Field::Known(StringMatch::Prefix(prefix)) => prefix == "/",
            Field::Known(StringMatch::Regex(regex)) => regex == ".*",
            Field::Known(StringMatch::Exact(_)) | Field::Wrong(_) => false,
        };
        any_uri
            && [&self.authority, &self.method, &self.scheme].into_iter().all(Field::is_absent)
            && [&self.headers, &self.query_params, &self.without_headers].into_iter().all(is_empty)
            && self.written.unknown.is_empty()
    }

    /// Whether it is for every caller on every port.
    fn is_for_everyone(&self) -> bool {
        self.port.is_absent() && self.source_labels.is_absent() && self.source_namespace.is_absent()
    }
}

fn is_empty<T>(map: &Field<BTreeMap<String, T>>) -> bool {
    match map {
        Field::Absent => true,
        Field::Known(map) => map.is_empty(),
        Field::Wrong(_) => false,
    }
}

impl ReadFields for VirtualService {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // Routes of other protocols.
        fields.inert(&["tcp", "tls"]);
        Self {
            hosts: fields.field("hosts"),
            gateways: fields.field("gateways"),
            export_to: fields.field("exportTo"),
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

impl ReadFields for Redirect {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            authority: fields.field("authority"),
            derive_port: fields.field("derivePort"),
            port: fields.field("port"),
            code: fields.field("redirectCode"),
            scheme: fields.field("scheme"),
            uri: fields.field("uri"),
        }
    }
}

impl ReadFields for DirectResponse {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { body: fields.field("body"), status: fields.field("status"), path: fields.path() }
    }
}

impl ReadFields for ResponseBody {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { bytes: fields.field("bytes"), string: fields.field("string") }
    }
}

impl ReadFields for FaultInjection {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { abort: fields.field("abort"), delay: fields.field("delay"), written: fields.written() }
    }
}

impl ReadFields for Delay {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // How long.
        fields.inert(&["exponentialDelay", "fixedDelay", "percent"]);
        Self { percentage: fields.field("percentage") }
    }
}

impl ReadFields for Abort {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // The status of an answer to gRPC requests, instead of `httpStatus`.
        fields.inert(&["grpcStatus", "http2Error"]);
        Self {
            http_status: fields.field("httpStatus"),
            percentage: fields.field("percentage"),
            written: fields.written(),
        }
    }
}

impl ReadFields for Percentage {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { value: fields.field("value"), path: fields.path() }
    }
}

impl ReadFields for DelegateRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { name: fields.field("name"), namespace: fields.field("namespace"), path: fields.path() }
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
