//! What would break or mislead on a real mesh, found in the plan and the manifests alone.

mod filters;
mod routes;

use std::fmt::{self, Write};

use jiff::Timestamp;

use crate::{
    diagnostic::Location,
    manifests::{Filter, Manifest},
    resolve::ResolvedPlan,
    resources,
};

pub(crate) use routes::service_parent;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Requests go wrong, or a header can be made up.
    Error,
    /// It works, but not for long or not as it looks.
    Warning,
}

/// Something that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// The stable kebab-case code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is found, as a heading.
    pub finds: &'static str,
    /// What happens on a mesh.
    pub because: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Something found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What kind of thing.
    pub lint: &'static Lint,
    /// What exactly.
    pub message: String,
    /// Where.
    pub location: Location,
    /// The other place that plays a part.
    pub also: Option<Location>,
}

/// Looks at a plan, manifests, or both. A resource that the plan generates counts once, whatever the manifests have.
#[must_use]
pub fn run(plan: Option<&ResolvedPlan>, manifests: Vec<Manifest>, now: Timestamp) -> Vec<Finding> {
    let generated: Vec<Manifest> =
        plan.map(resources::generate).unwrap_or_default().into_iter().map(Manifest::from).collect();
    let ids: Vec<String> = generated.iter().map(Manifest::id).collect();
    let others = manifests.into_iter().filter(|manifest| !ids.contains(&manifest.id()));
    let manifests: Vec<Manifest> = others.chain(generated.iter().cloned()).collect();
    let world = World { filters: manifests.iter().filter_map(Manifest::filter).collect(), manifests: &manifests };
    let mut report = Report { findings: Vec::new() };
    routes::check(&world, &mut report);
    filters::check(&world, &mut report);
    for service in plan.iter().flat_map(|plan| &plan.services) {
        for variant in &service.variants {
            if let Some(time) = variant.expires_at.filter(|time| *time <= now) {
                let message = format!("the variant `{}` of `{}` has expired at {time}", variant.name, service.claim);
                report.push(Finding::new(&VARIANT_EXPIRED, message, variant.location.clone()));
            }
        }
    }
    report.findings.sort_by(|a, b| a.order().cmp(&b.order()));
    report.findings
}

/// The documentation of every lint.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What `manifest-gen lint` finds\n\n\
         Each finding has one of these codes. `lint` exits with 1 when an error is among them. The annotation\n\
         `routing-claims.dev/ignore: <code>, <code>` on a resource leaves its findings of these codes out.\n",
    );
    for Lint { code, severity, finds, because, remedy } in ALL {
        // Writing to a string can't fail.
        let _ = writeln!(page, "\n## {code}\n\n{finds} ({severity}).\n\n{because}\n\nWhat to do: {remedy}");
    }
    page
}

/// Everything that is looked at.
struct World<'w> {
    manifests: &'w [Manifest],
    filters: Vec<Filter<'w>>,
}

impl<'w> World<'w> {
    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &'w Manifest> {
        self.manifests.iter().filter(move |manifest| manifest.kind == kind)
    }

    /// Whether any resource besides the plan's own is known, so that one that is missing is worth a word.
    fn has_others(&self, kind: &str) -> bool {
        self.manifests.iter().any(|manifest| manifest.kind == kind && !manifest.is_generated())
    }

    fn is_managed(&self, header: &str) -> bool {
        self.filters.iter().any(|filter| filter.policy.is_managed(header.as_bytes()))
    }
}

struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// A finding in a resource, unless the resource says to ignore it.
    fn add(&mut self, lint: &'static Lint, manifest: &Manifest, path: &str, message: impl Into<String>) {
        self.add_finding(manifest, Finding::new(lint, message, manifest.location(path)));
    }

    /// As [`Report::add`], with the other resource that plays a part.
    fn add_pair(
        &mut self,
        lint: &'static Lint,
        (manifest, path): (&Manifest, &str),
        (other, other_path): (&Manifest, &str),
        message: impl Into<String>,
    ) {
        let finding = Finding::new(lint, message, manifest.location(path));
        self.add_finding(manifest, Finding { also: Some(other.location(other_path)), ..finding });
    }

    fn add_finding(&mut self, manifest: &Manifest, finding: Finding) {
        let ignored =
            manifest.value["metadata"]["annotations"]["routing-claims.dev/ignore"].as_str().unwrap_or_default();
        if !ignored.split(',').any(|code| code.trim() == finding.lint.code) {
            self.push(finding);
        }
    }

    fn push(&mut self, finding: Finding) {
        // A generated resource has one place for all of it, so one text can come twice.
        if !self.findings.iter().any(|found| found.message == finding.message && found.location == finding.location) {
            self.findings.push(finding);
        }
    }
}

impl Finding {
    fn new(lint: &'static Lint, message: impl Into<String>, location: Location) -> Self {
        Self { lint, message: message.into(), location, also: None }
    }

    fn order(&self) -> (&Location, &str, &str) {
        (&self.location, self.lint.code, &self.message)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! lints {
    ($($name:ident = $code:literal, $severity:ident: $finds:literal, $because:literal, $remedy:literal;)*) => {
        $(const $name: Lint = Lint {
            code: $code, severity: Severity::$severity, finds: $finds, because: $because, remedy: $remedy,
        };)*

        /// Every lint, in the order of the documentation.
        pub const ALL: &[Lint] = &[$($name,)*];
    };
}

lints! {
    DUPLICATE_HOST = "duplicate-host", Error:
        "Two VirtualServices for one host",
        "Istio does not merge them in the mesh: it follows one and ignores the other, without an error.",
        "Weave your own one in with the service's `base`, and do not apply it beside the generated one.";
    MISSING_SERVICE = "missing-service", Error:
        "A rule to a Service that is not in the manifests",
        "Requests of that rule get 503 (500 with HTTPRoute), not the main version.",
        "Add the Service to the manifests, or remove the variant. Apply a Service before its rule, remove it after.";
    DEFAULT_MISSING = "default-missing", Error:
        "Routes by version without a default route",
        "Requests without a version that is routed get 404.",
        "Add a last route without `match` to the main version.";
    DEFAULT_NOT_LAST = "default-not-last", Error:
        "A route that takes every request stands before others",
        "Istio takes the first route that matches: those after it are never reached.",
        "Move it to the end.";
    HEADER_NOT_STRIPPED = "header-not-stripped", Error:
        "A routed header that no filter strips",
        "Where the filter does not stand, the header is not set from the token, and a client can make it up.",
        "Label the workload so that the filter selects it, add the filter for the gateway (`filter.gateways`), or give its manifest with `--manifests`.";
    TOKEN_NOT_FORWARDED = "token-not-forwarded", Error:
        "A RequestAuthentication without `forwardOriginalToken`",
        "Istio removes the token after the check: the filter finds none, nor does any later hop.",
        "Set `forwardOriginalToken: true` in each of its `jwtRules`.";
    TOKEN_NOT_VERIFIED = "token-not-verified", Warning:
        "A filter at a gateway without a RequestAuthentication",
        "The filter verifies no signature: whoever reaches the gateway can choose versions with a token made by hand.",
        "Give `authentication` in the plan, or the RequestAuthentication with `--manifests`.";
    PLUGIN_MODE = "plugin-mode", Error:
        "A WasmPlugin or TrafficExtension of the filter without `match: [{mode: CLIENT}]`",
        "By default it stands before inbound requests too and removes the headers that the caller's filter set.",
        "Set `match: [{mode: CLIENT}]`.";
    FAIL_OPEN = "fail-open", Warning:
        "A module that fails open",
        "After a crash requests pass unfiltered: headers can be made up until the proxy restarts.",
        "Take `FAIL_RELOAD` (Istio 1.27; in an EnvoyFilter 1.25) or `FAIL_CLOSE`.";
    WASM_UNPINNED = "wasm-unpinned", Warning:
        "A WASM `url` without `sha256`",
        "Whoever can write to the registry can change what runs in every proxy.",
        "Give the module's `sha256`, or an `oci://` address with `@sha256:`.";
    HEADER_KEY_CASE = "header-key-case", Error:
        "A header's name in upper case in a VirtualService",
        "Envoy's names are lower case, and Istio compares as written: it never matches.",
        "Write it in lower case.";
    VALUE_NEVER_MATCHES = "value-never-matches", Error:
        "A value that a routed header never has",
        "The filter sets versions only: 1 to 63 of `A-Z a-z 0-9 . _ -` between alphanumeric ends.",
        "Mend the value.";
    FILTER_PRIORITY = "filter-priority", Warning:
        "An EnvoyFilter without `priority` beside another on the same spot",
        "Their order depends on when they were created, so it differs from cluster to cluster.",
        "Give both a `priority`; the filter of this project has 10, to be the nearest to the router.";
    VARIANT_EXPIRED = "variant-expired", Warning:
        "A variant that has expired",
        "`render` refuses it, and its Service may be gone already, which gives 503.",
        "`manifest-gen prune` removes the fragments of such variants.";
    OBJECT_SIZE = "object-size", Warning:
        "A resource over 1 MiB",
        "etcd refuses requests over 1.5 MiB, and an object grows by what the cluster notes in it.",
        "Remove variants, or split the service.";
    HTTP_ROUTE_LIMITS = "http-route-limits", Error:
        "An HTTPRoute over the Gateway API's limits",
        "The cluster refuses more than 16 rules, 64 matches in a rule, or 128 matches in all.",
        "Split it: Istio merges HTTPRoutes of the same parent.";
    CROSS_NAMESPACE_BACKEND = "cross-namespace-backend", Warning:
        "An HTTPRoute to another namespace without a ReferenceGrant",
        "Without a grant in that namespace the reference is refused, and requests of the rule get 500.",
        "Add a ReferenceGrant there, or put the variants into the service's namespace.";
    SUBSET_MISSING = "subset-missing", Error:
        "A subset that no DestinationRule has",
        "Requests of that route get 503.",
        "Add the subset to the host's DestinationRule, or give its manifest with `--manifests`.";
    VARIANT_IS_DEFAULT = "variant-is-default", Warning:
        "A variant that goes where the default goes",
        "Testers believe that they see the variant, and see the main version.",
        "Mend the variant's `host`, or remove it.";
}
