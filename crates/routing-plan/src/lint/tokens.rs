//! Whether the filter gets tokens, and only verified ones.

use super::{Findings, Scope};
use crate::{
    diagnostic::FieldPath,
    views::{EnvoyFilter, RequestAuthentication, reader::Field},
};

pub(super) fn token_not_forwarded(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<RequestAuthentication>() {
        for rule in view.jwt_rules.items() {
            if matches!(rule.forward_original_token, Field::Absent | Field::Known(false)) {
                findings.add(
                    manifest,
                    &rule.path,
                    format!("{} removes the token after it has verified it", manifest.id()),
                );
            }
        }
    }
}

pub(super) fn token_not_verified(scope: &Scope<'_>, findings: &mut Findings) {
    if scope.all::<RequestAuthentication>().next().is_some() {
        return;
    }
    let is_at_gateway = |manifest: &crate::manifests::Manifest| manifest.view::<EnvoyFilter>().is_some();
    let filter = scope.filters().find(|(manifest, filter)| is_at_gateway(manifest) && filter.gateway);
    if let Some((manifest, _)) = filter {
        let spec = FieldPath::default().field("spec");
        findings.add(
            manifest,
            &spec,
            format!("no RequestAuthentication verifies the tokens that {} reads", manifest.id()),
        );
    }
}
