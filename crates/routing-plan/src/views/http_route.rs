//! The Gateway API's `HTTPRoute`.

use super::reader::{Field, Fields, ReadFields, Written};
use crate::{diagnostic::FieldPath, names};

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct HttpRoute {
    pub(crate) parent_refs: Field<Vec<ParentRef>>,
    pub(crate) rules: Field<Vec<Rule>>,
    pub(crate) written: Written,
}

/// What a route is attached to.
#[derive(Debug, Clone)]
pub(crate) struct ParentRef {
    pub(crate) kind: Field<String>,
    pub(crate) name: Field<String>,
    pub(crate) namespace: Field<String>,
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
}

/// Where a rule sends a request.
#[derive(Debug, Clone)]
pub(crate) struct BackendRef {
    pub(crate) name: Field<String>,
    pub(crate) namespace: Field<String>,
    pub(crate) port: Field<u64>,
    pub(crate) weight: Field<u64>,
    pub(crate) path: FieldPath,
}

impl HttpRoute {
    /// Host of the Service that it is for, in a resource of the namespace.
    pub(crate) fn service_parent(&self, namespace: &str) -> Option<String> {
        let parent = self.parent_refs.items().iter().find(|parent| parent.kind.is("Service"))?;
        Some(names::full_host(parent.name.text()?, parent.namespace.text().unwrap_or(namespace)))
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
    fn takes_all(&self) -> bool {
        let Self { path, method, headers, query_params, written } = self;
        let any_path = match path {
            Field::Absent => true,
            Field::Known(path) => path.value.is("/") && !path.kind.is("Exact"),
            Field::Wrong(_) => false,
        };
        any_path
            && method.is_absent()
            && [headers, query_params].into_iter().all(Field::is_absent)
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
        // Of no effect on a route whose parent is a Service.
        fields.inert(&["hostnames"]);
        Self { parent_refs: fields.field("parentRefs"), rules: fields.field("rules"), written: fields.written() }
    }
}

impl ReadFields for ParentRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["group", "port"]);
        Self { kind: fields.field("kind"), name: fields.field("name"), namespace: fields.field("namespace") }
    }
}

impl ReadFields for Rule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        // What happens on the way.
        fields.inert(&["retry", "timeouts"]);
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
        Self { kind: fields.field("type"), value: fields.field("value"), written: fields.written() }
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
        Self { kind: fields.field("type") }
    }
}

impl ReadFields for BackendRef {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["filters", "group", "kind"]);
        Self {
            name: fields.field("name"),
            namespace: fields.field("namespace"),
            port: fields.field("port"),
            weight: fields.field("weight"),
            path: fields.path(),
        }
    }
}
