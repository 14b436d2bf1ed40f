//! The access logs that contain the filter's report.

use super::{ResolvedTelemetry, Resolver, spec};
use crate::{diagnostic::Diagnostic, names, plan::TelemetrySpec};

impl Resolver<'_> {
    pub(super) fn telemetry(&mut self, telemetry: &TelemetrySpec) -> ResolvedTelemetry {
        let TelemetrySpec { access_log_provider, namespaces } = telemetry;
        let at = || spec().field("telemetry");
        let plan = self.plan;
        if plan.spec.policy.report_header.is_none() {
            let diagnostic = Diagnostic::new(at(), "the access log prints the report header, and the policy has none");
            self.report(diagnostic.with_help("give `policy.reportHeader`, such as x-routing-report"));
        }
        if access_log_provider.is_empty() {
            let diagnostic = Diagnostic::new(at().field("accessLogProvider"), "expected a name, found nothing");
            self.report(diagnostic.with_help("name one of the `extensionProviders` in Istio's mesh configuration"));
        }
        for (index, namespace) in namespaces.iter().enumerate() {
            self.check(at().field("namespaces").index(index), namespace, names::label);
        }
        let of_services = plan.spec.services.iter().map(|service| &service.namespace);
        ResolvedTelemetry {
            access_log_provider: access_log_provider.clone(),
            namespaces: of_services.chain(namespaces).cloned().collect(),
        }
    }
}
