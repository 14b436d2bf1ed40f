//! What would break or mislead on a mesh, found in the plan and the manifests alone.
//!
//! Each lint is a row of one table, [`LINTS`], with the function that finds it.

mod destinations;
mod fields;
mod filters;
mod objects;
mod refused;
mod routes;
mod strip;
mod table;
mod tokens;
mod variants;

use std::fmt::{self, Write};

use jiff::Timestamp;

pub use self::table::LINTS;
use crate::{
    diagnostic::{FieldPath, Location},
    filter::RoutingFilter,
    manifests::Manifest,
    resolve::ResolvedPlan,
    resources,
    views::Viewed,
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Requests go wrong, or a client can forge a header.
    Error,
    /// It works, but not for long or not as it looks.
    Warning,
}

/// How the effect of a lint is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// On a real Istio: `crates/e2e/src/lints/table.rs` has what happens with the lint's fixtures.
    OnMesh,
    /// Only read, at this place in a source or documentation.
    Read(&'static str),
}

/// A row of the table of lints.
#[derive(Debug)]
pub struct Lint {
    /// The stable kebab-case code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as a heading.
    pub wrong: &'static str,
    /// What happens because of it on the mesh.
    pub effect: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// How the effect is known.
    pub shown: Shown,
    find: fn(&Scope<'_>, &mut Findings),
}

/// Something that a lint found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The lint.
    pub lint: &'static Lint,
    /// What exactly is wrong.
    pub message: String,
    /// Where.
    pub location: Location,
    /// The other resource that plays a part.
    pub related: Option<Location>,
}

/// Lints a plan, manifests, or both. A resource that the plan generates counts once, whatever the manifests have. `module` is the
/// SHA-256 of the WebAssembly module's file, in lower-case hexadecimal, if the file is at hand.
#[must_use]
pub fn run(
    plan: Option<&ResolvedPlan>,
    manifests: Vec<Manifest>,
    module: Option<&str>,
    now: Timestamp,
) -> Vec<Finding> {
    let generated: Vec<Manifest> =
        plan.map(resources::generate).unwrap_or_default().into_iter().map(Manifest::from).collect();
    let ids: Vec<String> = generated.iter().map(Manifest::id).collect();
    let others = manifests.into_iter().filter(|manifest| !ids.contains(&manifest.id()));
    let manifests: Vec<Manifest> = others.chain(generated).collect();
    let scope = Scope { plan, manifests: &manifests, module, now };
    let mut found = Vec::new();
    for lint in LINTS {
        let mut findings = Findings { lint, found: Vec::new() };
        (lint.find)(&scope, &mut findings);
        found.append(&mut findings.found);
    }
    found.sort_by(|a, b| a.order().cmp(&b.order()));
    found
}

/// The documentation of every lint.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What `manifest-gen lint` finds\n\n\
         Each finding has one of these codes. `lint` exits with 1 if one of them is an error. The annotation\n\
         `routing-claims.dev/ignore: <code>, <code>` on a resource suppresses its findings with these codes.\n\n\
         What the table says to be shown on a mesh happens on a real Istio with a file that the lint finds something in, and does\n\
         not happen with a file that it finds nothing in: `cargo xtask e2e --scenario \"every lint is proven\"`, and for pulls of\n\
         modules `--scenario distribution`.\n\n\
         | lint | severity | shown by |\n\
         |---|---|---|\n",
    );
    // Writing to a string can't fail.
    for Lint { code, severity, shown, .. } in LINTS {
        let _ = writeln!(page, "| [{code}](#{code}) | {severity} | {shown} |");
    }
    for Lint { code, severity, wrong, effect, remedy, .. } in LINTS {
        let _ = writeln!(page, "\n## {code}\n\n{wrong} ({severity}).\n\n{effect}\n\nWhat to do: {remedy}");
    }
    page
}

/// Everything that is linted.
struct Scope<'s> {
    plan: Option<&'s ResolvedPlan>,
    manifests: &'s [Manifest],
    module: Option<&'s str>,
    now: Timestamp,
}

impl<'s> Scope<'s> {
    /// The manifests of a kind, with their views.
    fn all<V: Viewed + 's>(&self) -> impl Iterator<Item = (&'s Manifest, &'s V)> + use<'s, V> {
        self.manifests.iter().filter_map(|manifest| Some((manifest, manifest.view::<V>()?)))
    }

    fn filters(&self) -> impl Iterator<Item = (&'s Manifest, &'s RoutingFilter)> + use<'s> {
        self.manifests.iter().filter_map(|manifest| Some((manifest, manifest.filter()?)))
    }

    /// Whether a token decides the header.
    fn is_managed(&self, header: &str) -> bool {
        self.filters().any(|(_, filter)| filter.is_managed(header))
    }
}

/// The findings of one lint.
struct Findings {
    lint: &'static Lint,
    found: Vec<Finding>,
}

impl Findings {
    /// A finding at a path of a resource, unless the resource says to ignore it.
    fn add(&mut self, manifest: &Manifest, path: &FieldPath, message: impl Into<String>) {
        self.add_unless_ignored(manifest, self.finding(manifest.location(path), message));
    }

    /// As [`Findings::add`], with a path of the other resource that plays a part.
    fn add_related(
        &mut self,
        (manifest, path): (&Manifest, &FieldPath),
        (other, other_path): (&Manifest, &FieldPath),
        message: impl Into<String>,
    ) {
        let related = Some(other.location(other_path));
        self.add_unless_ignored(manifest, Finding { related, ..self.finding(manifest.location(path), message) });
    }

    /// A finding in the plan itself.
    fn add_at(&mut self, location: &Location, message: impl Into<String>) {
        self.push(self.finding(location.clone(), message));
    }

    fn finding(&self, location: Location, message: impl Into<String>) -> Finding {
        Finding { lint: self.lint, message: message.into(), location, related: None }
    }

    fn add_unless_ignored(&mut self, manifest: &Manifest, finding: Finding) {
        let ignored = manifest.annotation(IGNORE_ANNOTATION).unwrap_or_default();
        if !ignored.split(',').any(|code| code.trim() == self.lint.code) {
            self.push(finding);
        }
    }

    fn push(&mut self, finding: Finding) {
        // A generated resource has one location for all of it, so one text can come twice.
        let is_same = |found: &Finding| found.message == finding.message && found.location == finding.location;
        if !self.found.iter().any(is_same) {
            self.found.push(finding);
        }
    }
}

impl Finding {
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

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnMesh => f.write_str("a mesh"),
            Self::Read(source) => write!(f, "read: {source}"),
        }
    }
}

/// Annotation of a resource with the codes of the lints that must not find anything in it.
const IGNORE_ANNOTATION: &str = "routing-claims.dev/ignore";
