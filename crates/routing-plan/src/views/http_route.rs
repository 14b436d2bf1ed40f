//! The Gateway API's `HTTPRoute`, and its `GRPCRoute`, which Istio turns into the same routes.

use std::collections::BTreeSet;

use super::{
    reader::{Field, Fields, ReadFields, Written},
    virtual_service::Redirect,
};
use crate::{diagnostic::FieldPath, names};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct HttpRoute {
    pub(crate) parent_refs: Field<Vec<ParentRef>>,
    pub(crate) hostnames: Field<Vec<String>>,
    pub(crate) rules: Field<Vec<Rule>>,
    pub(crate) written: Written,
    /// Whether it is a `GRPCRoute`.
    pub(crate) is_grpc: bool,
}

/// What a route is attached to.
#[derive(Debug, Clone)]
pub(crate) struct ParentRef {
    pub(crate) group: Field<String>,
    pub(crate) kind: Field<String>,
    pub(crate) name: Field<String>,
    pub(crate) namespace: Field<String>,
    pub(crate) port: Field<u64>,
    /// The listener of a Gateway. Beside a Service Istio ignores it.
    pub(crate) section_name: Field<String>,
    pub(crate) written: Written,
}

/// A parent of a kind that Istio knows; the name of each is `(namespace, name)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent<'r> {
    Service(&'r str, &'r str),
    ServiceEntry(&'r str, &'r str),
    Gateway(&'r str, &'r str),
    /// A set of listeners that a Gateway takes over.
    ListenerSet,
}

/// An entry of `rules`.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) matches: Field<Vec<RuleMatch>>,
    pub(crate) filters: Field<Vec<RuleFilter>>,
    pub(crate) backend_refs: Field<Vec<BackendRef>>,
    pub(crate) name: Field<String>,
    pub(crate) written: Written,
}

/// An entry of a rule's `matches`: all of its conditions hold, or it does not match.
#[derive(Debug, Clone)]
pub(crate) struct RuleMatch {
    /// Of a `GRPCRoute`: what its `method` means for the path.
    pub(crate) path: Field<PathMatch>,
    pub(crate) method: Field<String>,
    pub(crate) headers: Field<Vec<NamedMatch>>,
    pub(crate) query_params: Field<Vec<NamedMatch>>,
    pub(crate) written: Written,
}

/// How the path must be.
#[derive(Debug, Clone)]
pub(crate) struct PathMatch {
    pub(crate) kind: Field<String>,
    pub(crate) value: Field<String>,
    /// Whether it stands for a `method` of a `GRPCRoute` that names neither a service nor a method.
    pub(crate) is_empty_method: bool,
    pub(crate) written: Written,
}

/// How a header or a query parameter must be.
#[derive(Debug, Clone)]
pub(crate) struct NamedMatch {
    pub(crate) kind: Field<String>,
    pub(crate) name: Field<String>,
    pub(crate) value: Field<String>,
    pub(crate) written: Written,
}

/// What a rule does with a request beside routing it.
#[derive(Debug, Clone)]
pub(crate) struct RuleFilter {
    pub(crate) kind: Field<String>,
    pub(crate) request_redirect: Field<RequestRedirect>,
    pub(crate) path: FieldPath,
}

/// Where a client is sent instead.
#[derive(Debug, Clone)]
pub(crate) struct RequestRedirect {
    pub(crate) hostname: Field<String>,
    pub(crate) path: Field<PathModifier>,
    pub(crate) port: Field<u64>,
    pub(crate) scheme: Field<String>,
    pub(crate) status_code: Field<u64>,
}

/// A new path.
#[derive(Debug, Clone)]
pub(crate) struct PathModifier {
    pub(crate) replace_full_path: Field<String>,
}

/// Where a rule sends a request.
#[derive(Debug, Clone)]
pub(crate) struct BackendRef {
    pub(crate) group: Field<String>,
    pub(crate) kind: Field<String>,
    pub(crate) name: Field<String>,
    pub(crate) namespace: Field<String>,
    pub(crate) port: Field<u64>,
    pub(crate) weight: Field<u64>,
    pub(crate) filters: Field<Vec<RuleFilter>>,
    pub(crate) path: FieldPath,
}

impl HttpRoute {
    /// Hosts of the Services that it is for, each with the port if it is for one, in a resource of the namespace.
    pub(crate) fn services(&self, namespace: &str) -> BTreeSet<(String, Option<u64>)> {
        let parents = self.parent_refs.items().iter();
        let services = parents.filter_map(|parent| match parent.target(namespace)? {
            Parent::Service(of, name) => Some((names::full_host(name, of), parent.port.known().copied())),
            _ => None,
        });
        services.collect()
    }

    /// Whether it is attached to a gateway.
    pub(crate) fn has_gateway(&self, namespace: &str) -> bool {
        let mut parents = self.parent_refs.items().iter().filter_map(|parent| parent.target(namespace));
        parents.any(|parent| matches!(parent, Parent::Gateway(..) | Parent::ListenerSet))
    }
}

impl ParentRef {
    /// What it names, in a resource of the namespace, if Istio knows its kind. Without a group the group is the Gateway
    /// API's, so a Service needs `group: ""`. (`NormalizeReference` and `allowedParentReferences` in Istio's gateway code.)
    pub(crate) fn target<'r>(&'r self, namespace: &'r str) -> Option<Parent<'r>> {
        let name = self.name.text()?;
        let namespace = self.namespace.text().unwrap_or(namespace);
        if self.group.is_wrong() || self.kind.is_wrong() {
            return None;
        }
        match (self.group.text().unwrap_or(super::GATEWAY_API), self.kind.text().unwrap_or("Gateway")) {
            (super::CORE, "Service") => Some(Parent::Service(namespace, name)),
            (super::NETWORKING, "ServiceEntry") => Some(Parent::ServiceEntry(namespace, name)),
            (super::GATEWAY_API, "Gateway") => Some(Parent::Gateway(namespace, name)),
            (super::GATEWAY_API, "ListenerSet") => Some(Parent::ListenerSet),
            _ => None,
        }
    }

    /// Why Istio ignores it, if it does not know its kind.
    pub(crate) fn unsupported(&self, namespace: &str) -> Option<String> {
        let is_unusable =
            self.name.is_absent() || [&self.group, &self.kind, &self.name].iter().any(|one| one.is_wrong());
        if is_unusable || self.target(namespace).is_some() {
            return None;
        }
        let group = self.group.text().map(|group| format!("the group `{group}`"));
        let group = group.unwrap_or_else(|| format!("no group (so `{}`)", super::GATEWAY_API));
        Some(format!("Istio ignores a parent of the kind `{}` with {group}", self.kind.text().unwrap_or("Gateway")))
    }
}

impl RequestRedirect {
    /// The whole new path.
    pub(crate) fn full_path(&self) -> Option<&str> {
        self.path.known()?.replace_full_path.text()
    }

    /// As Istio has it: the port is the one of the request, unless a scheme says otherwise. (`createRedirectFilter` in
    /// `conversion.go`.)
    pub(crate) fn to_istio(&self) -> Redirect {
        let derive_port = if self.scheme.is_absent() { "FROM_REQUEST_PORT" } else { "FROM_PROTOCOL_DEFAULT" };
        let default_code = Field::Known(302);
        Redirect {
            authority: self.hostname.clone(),
            derive_port: Field::Known(derive_port.to_owned()),
            port: self.port.clone(),
            code: if self.status_code.is_absent() { default_code } else { self.status_code.clone() },
            scheme: self.scheme.clone(),
            uri: self.full_path().map_or(Field::Absent, |path| Field::Known(path.to_owned())),
        }
    }
}

impl Rule {
    /// Whether it takes every request, whatever it is.
    pub(crate) fn takes_all(&self) -> bool {
        match &self.matches {
            Field::Absent => true,
            Field::Known(matches) => matches.is_empty() || matches.iter().any(RuleMatch::takes_all),
            Field::Wrong(_) => false,
        }
    }
}

impl RuleMatch {
    /// Whether it takes every request.
    pub(crate) fn takes_all(&self) -> bool {
        let Self { path, method, headers, query_params, written } = self;
        let any_path = match path {
            Field::Absent => true,
            Field::Known(path) => match path.kind.text().unwrap_or("PathPrefix") {
                "PathPrefix" => path.value.text().is_none_or(|value| value == "/") && !path.value.is_wrong(),
                "RegularExpression" => path.value.is(".*"),
                _ => false,
            },
            Field::Wrong(_) => false,
        };
        any_path
            && method.is_absent()
            && [headers, query_params].into_iter().all(|field| !field.is_wrong() && field.items().is_empty())
            && written.unknown.is_empty()
    }
}

impl BackendRef {
    /// Its host, in a resource of the namespace.
    pub(crate) fn host(&self, namespace: &str) -> Option<String> {
        Some(names::full_host(self.name.text()?, self.namespace.text().unwrap_or(namespace)))
    }
}

impl ReadFields for HttpRoute {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["useDefaultGateways"]);
        Self {
            parent_refs: fields.field("parentRefs"),
            hostnames: fields.field("hostnames"),
            rules: fields.field("rules"),
            written: fields.written(),
            is_grpc: false,
        }
    }
}

impl ReadFields for ParentRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            group: fields.field("group"),
            kind: fields.field("kind"),
            name: fields.field("name"),
            namespace: fields.field("namespace"),
            port: fields.field("port"),
            section_name: fields.field("sectionName"),
            written: fields.written(),
        }
    }
}

impl ReadFields for Rule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // What happens on the way.
        fields.inert(&["retry", "sessionPersistence", "timeouts"]);
        Self {
            matches: fields.field("matches"),
            filters: fields.field("filters"),
            backend_refs: fields.field("backendRefs"),
            name: fields.field("name"),
            written: fields.written(),
        }
    }
}

impl ReadFields for RuleMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            path: fields.field("path"),
            method: fields.field("method"),
            headers: fields.field("headers"),
            query_params: fields.field("queryParams"),
            written: fields.written(),
        }
    }
}

impl ReadFields for PathMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            kind: fields.field("type"),
            value: fields.field("value"),
            is_empty_method: false,
            written: fields.written(),
        }
    }
}

impl ReadFields for NamedMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            kind: fields.field("type"),
            name: fields.field("name"),
            value: fields.field("value"),
            written: fields.written(),
        }
    }
}

impl ReadFields for RuleFilter {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // What a filter of any type is told.
        fields.in_part();
        Self { kind: fields.field("type"), request_redirect: fields.field("requestRedirect"), path: fields.path() }
    }
}

impl ReadFields for RequestRedirect {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            hostname: fields.field("hostname"),
            path: fields.field("path"),
            port: fields.field("port"),
            scheme: fields.field("scheme"),
            status_code: fields.field("statusCode"),
        }
    }
}

impl ReadFields for PathModifier {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["replacePrefixMatch", "type"]);
        Self { replace_full_path: fields.field("replaceFullPath") }
    }
}

impl ReadFields for BackendRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            group: fields.field("group"),
            kind: fields.field("kind"),
            name: fields.field("name"),
            namespace: fields.field("namespace"),
            port: fields.field("port"),
            weight: fields.field("weight"),
            filters: fields.field("filters"),
            path: fields.path(),
        }
    }
}
