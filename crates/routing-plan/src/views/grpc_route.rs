//! The Gateway API's `GRPCRoute`, read as the `HTTPRoute` that it amounts to: a method is a path.

use super::{
    http_route::{BackendRef, HttpRoute, NamedMatch, ParentRef, PathMatch, Rule, RuleFilter, RuleMatch},
    reader::{Field, Fields, ReadFields, Written},
};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct GrpcRoute {
    parent_refs: Field<Vec<ParentRef>>,
    hostnames: Field<Vec<String>>,
    rules: Field<Vec<GrpcRule>>,
    written: Written,
}

#[derive(Debug, Clone)]
struct GrpcRule {
    matches: Field<Vec<GrpcMatch>>,
    filters: Field<Vec<RuleFilter>>,
    backend_refs: Field<Vec<BackendRef>>,
    name: Field<String>,
    written: Written,
}

#[derive(Debug, Clone)]
struct GrpcMatch {
    method: Field<MethodMatch>,
    headers: Field<Vec<NamedMatch>>,
    written: Written,
}

#[derive(Debug, Clone)]
struct MethodMatch {
    kind: Field<String>,
    service: Field<String>,
    method: Field<String>,
    written: Written,
}

impl From<GrpcRoute> for HttpRoute {
    fn from(route: GrpcRoute) -> Self {
        let GrpcRoute { parent_refs, hostnames, rules, written } = route;
        let rules = rules.map(|rules| rules.into_iter().map(Rule::from).collect());
        Self { parent_refs, hostnames, rules, written, is_grpc: true }
    }
}

impl From<GrpcRule> for Rule {
    fn from(rule: GrpcRule) -> Self {
        let GrpcRule { matches, filters, backend_refs, name, written } = rule;
        let matches = matches.map(|matches| matches.into_iter().map(RuleMatch::from).collect());
        Self { matches, filters, backend_refs, name, written }
    }
}

impl From<GrpcMatch> for RuleMatch {
    fn from(condition: GrpcMatch) -> Self {
        let GrpcMatch { method, headers, written } = condition;
        let path = method.map(MethodMatch::into_path);
        Self { path, method: Field::Absent, headers, query_params: Field::Absent, written }
    }
}

impl MethodMatch {
    /// The path that it stands for. (`createGRPCURIMatch` in Istio's `conversion.go`.)
    fn into_path(self) -> PathMatch {
        let is_regex = self.kind.is("RegularExpression");
        let (kind, value) = match (self.service.text(), self.method.text()) {
            (Some(service), None) if is_regex => ("RegularExpression", format!("/{service}/.+")),
            (Some(service), None) => ("PathPrefix", format!("/{service}/")),
            (Some(service), Some(method)) if is_regex => ("RegularExpression", format!("/{service}/{method}")),
            (Some(service), Some(method)) => ("Exact", format!("/{service}/{method}")),
            (None, Some(method)) => ("RegularExpression", format!("/[^/]+/{method}")),
            (None, None) => ("PathPrefix", "/".to_owned()),
        };
        let wrong = [&self.kind, &self.service, &self.method].into_iter().find(|field| field.is_wrong());
        let value = wrong.cloned().unwrap_or(Field::Known(value));
        let is_empty_method = self.service.is_absent() && self.method.is_absent();
        PathMatch { kind: Field::Known(kind.to_owned()), value, is_empty_method, written: self.written }
    }
}

impl ReadFields for GrpcRoute {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["useDefaultGateways"]);
        Self {
            parent_refs: fields.field("parentRefs"),
            hostnames: fields.field("hostnames"),
            rules: fields.field("rules"),
            written: fields.written(),
        }
    }
}

impl ReadFields for GrpcRule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["sessionPersistence"]);
        Self {
            matches: fields.field("matches"),
            filters: fields.field("filters"),
            backend_refs: fields.field("backendRefs"),
            name: fields.field("name"),
            written: fields.written(),
        }
    }
}

impl ReadFields for GrpcMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { method: fields.field("method"), headers: fields.field("headers"), written: fields.written() }
    }
}

impl ReadFields for MethodMatch {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            kind: fields.field("type"),
            service: fields.field("service"),
            method: fields.field("method"),
            written: fields.written(),
        }
    }
}
