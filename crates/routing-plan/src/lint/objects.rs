//! Resources that the API server refuses, or soon will.

use super::{Findings, Scope};
use crate::{diagnostic::FieldPath, views::HttpRoute};

pub(super) fn object_size(scope: &Scope<'_>, findings: &mut Findings) {
    for manifest in scope.manifests {
        let bytes = manifest.value.to_string().len();
        if bytes > MAX_BYTES {
            let kind = FieldPath::default().field("kind");
            findings.add(manifest, &kind, format!("{} has {bytes} bytes, expected at most {MAX_BYTES}", manifest.id()));
        }
    }
}

pub(super) fn http_route_limits(scope: &Scope<'_>, findings: &mut Findings) {
    for (manifest, view) in scope.all::<HttpRoute>() {
        let rules = view.rules.items();
        for rule in rules {
            let matches = rule.matches.items().len();
            if matches > MAX_MATCHES_OF_RULE {
                let message = format!("the rule has {matches} matches, expected at most {MAX_MATCHES_OF_RULE}");
                findings.add(manifest, &rule.written.path, message);
            }
        }
        // A rule without matches has one, which takes every request.
        let matches = rules.iter().map(|rule| rule.matches.items().len().max(1)).sum();
        for (found, allowed, what) in [(rules.len(), MAX_RULES, "rules"), (matches, MAX_MATCHES, "matches")] {
            if found > allowed {
                let rules = view.written.path.clone().field("rules");
                findings.add(
                    manifest,
                    &rules,
                    format!("{} has {found} {what}, expected at most {allowed}", manifest.id()),
                );
            }
        }
    }
}

pub(super) fn wrong_type(scope: &Scope<'_>, findings: &mut Findings) {
    for manifest in scope.manifests {
        for wrong in manifest.wrong_types() {
            findings.add(manifest, &wrong.path, format!("{wrong} at `{}`", wrong.path));
        }
    }
}

/// Two thirds of what etcd takes.
const MAX_BYTES: usize = 1 << 20;

// The limits of the Gateway API on an HTTPRoute.
const MAX_RULES: usize = 16;
const MAX_MATCHES_OF_RULE: usize = 64;
const MAX_MATCHES: usize = 128;
