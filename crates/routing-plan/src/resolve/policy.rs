//! What the filter does with a token: `spec.policy`, with the plan's services in listed mode.

use routing_claims::{FieldSegment, Policy, PolicyConfig, PolicyDiagnostic, ServiceConfig};

use super::{Resolver, service, spec};
use crate::diagnostic::{Diagnostic, Location};

impl Resolver<'_> {
    pub(super) fn policy(&mut self) -> Option<Policy> {
        let plan = &self.plan.spec;
        if plan.policy.services.is_some() {
            let location = spec().field("policy").field("services");
            let diagnostic = Diagnostic::new(location, "the policy's services come from `spec.services`");
            self.report(diagnostic.with_help("remove it; each of `spec.services` can have a `header`"));
            return None;
        }
        // By name, so that the same policy is written from plans in any order; duplicates stay in the plan's order.
        let mut order: Vec<usize> = (0..plan.services.len()).collect();
        order.sort_by_cached_key(|index| plan.services.get(*index).map(|service| service.name.to_ascii_lowercase()));
        let listed = || {
            let services = order.iter().filter_map(|index| plan.services.get(*index));
            services.map(|service| ServiceConfig { name: service.name.clone(), header: service.header.clone() })
        };
        let services = plan.policy.header_prefix.is_none().then(|| listed().collect());
        match Policy::new(PolicyConfig { services, ..plan.policy.clone() }) {
            Ok(policy) => Some(policy),
            Err(invalid) => {
                let diagnostics = invalid.diagnostics();
                let of_name = |other: &PolicyDiagnostic, service: usize| matches!(field_of_service(other), Some((index, "name")) if index == service);
                for diagnostic in diagnostics {
                    // A header that is not written comes from the name, whose diagnostic says enough.
                    if let Some((index, "header")) = field_of_service(diagnostic)
                        && diagnostics.iter().any(|other| of_name(other, index))
                    {
                        continue;
                    }
                    let PolicyDiagnostic { expected, found, .. } = diagnostic;
                    let field = diagnostic.path.segments().iter().rev().find_map(|segment| match segment {
                        FieldSegment::Field(name) => Some(&**name),
                        FieldSegment::Index(_) => None,
                    });
                    let message = format!("{}: expected {expected}, found {found}", field.unwrap_or("policy"));
                    self.report(Diagnostic::new(locate(diagnostic, &order), message));
                }
                None
            }
        }
    }
}

/// Index and field of the policy's service that a diagnostic is about.
fn field_of_service(diagnostic: &PolicyDiagnostic) -> Option<(usize, &str)> {
    match diagnostic.path.segments() {
        [FieldSegment::Field(list), FieldSegment::Index(index), FieldSegment::Field(field)] if list == "services" => {
            Some((*index, field))
        }
        _ => None,
    }
}

/// Where a field of the policy is in the plan. `order` has the plan's index of each of the policy's services.
fn locate(diagnostic: &PolicyDiagnostic, order: &[usize]) -> Location {
    let (start, rest) = match diagnostic.path.segments() {
        [FieldSegment::Field(list), FieldSegment::Index(index), rest @ ..] if list == "services" => {
            (order.get(*index).map_or_else(|| spec().field("services"), |index| service(*index)), rest)
        }
        [FieldSegment::Field(list), rest @ ..] if list == "services" => (spec().field("services"), rest),
        rest => (spec().field("policy"), rest),
    };
    rest.iter().fold(start, |location, segment| match segment {
        FieldSegment::Field(name) => location.field(name.clone()),
        FieldSegment::Index(index) => location.index(*index),
    })
}
