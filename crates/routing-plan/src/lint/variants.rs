//! Variants of the plan.

use super::{Findings, Scope};

pub(super) fn variant_expired(scope: &Scope<'_>, findings: &mut Findings) {
    for service in scope.plan.iter().flat_map(|plan| &plan.services) {
        for variant in &service.variants {
            if let Some(time) = variant.expires_at.filter(|time| *time <= scope.now) {
                let message = format!("the variant `{}` of `{}` expired at {time}", variant.name, service.claim);
                findings.add_at(&variant.location, message);
            }
        }
    }
}
