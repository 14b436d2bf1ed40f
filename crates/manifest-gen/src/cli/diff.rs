//! `diff`.

use std::path::{Path, PathBuf};

use routing_plan::{diff, manifests::Manifest, resolve::Expiry, resources};

use super::{Exit, Format, Result, files, note, print};
use crate::documents::{Documents, ManifestInput};

/// Show which routes change, and the order in which it is safe to apply.
///
/// Each side is a plan with its variant files, or manifests: rendered ones, or what `kubectl get -o yaml` gives. Fields
/// that the API server sets are not compared. Exits with 1 if there is a difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen diff old/rendered/ rendered/
  manifest-gen diff rendered/ plan.yaml,variants/")]
pub(super) struct Args {
    /// The current state: a file or folder, or several separated by commas.
    old: PathBuf,
    /// The desired state.
    new: PathBuf,
    /// Namespace of the manifests that do not name one, as for kubectl; default: `default`.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let diff = diff::diff(&self.side(&self.old)?, &self.side(&self.new)?);
        print(&match self.format {
            Format::Text => diff.to_text(),
            Format::Json => format!("{:#}\n", diff.to_json()),
        })?;
        Ok(if diff.is_empty() { Exit::Done } else { Exit::Findings })
    }

    fn side(&self, paths: &Path) -> Result<Vec<Manifest>> {
        let paths: Vec<_> = paths.to_string_lossy().split(',').map(PathBuf::from).collect();
        let files = files::read(&paths)?;
        let mut documents = Documents::default();
        let ManifestInput { manifests, diagnostics, notes } =
            documents.read_valid_manifests(&files, self.namespace.as_deref());
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        if manifests.iter().any(|manifest| manifest.kind == "RoutingPlan") {
            let plan = files::resolve_files(&mut documents, &files, Expiry::Keep)?;
            return Ok(resources::generate(&plan).into_iter().map(Manifest::from).collect());
        }
        for line in &notes {
            note(line);
        }
        Ok(manifests)
    }
}
