//! `diff`.

use std::path::{Path, PathBuf};

use super::{Exit, Format, Result, files, print};
use routing_plan::{
    diff,
    manifests::{self, Manifest},
    model::Expiry,
    resources,
};

/// Show which routes change, and the order in which it is safe to apply.
///
/// Each side is a plan with its fragments, or rendered manifests. Exits with 1 if there is a difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen diff old/rendered/ rendered/
  manifest-gen diff rendered/ plan.yaml,variants/")]
pub(super) struct Args {
    /// What is there: a file or folder; several with commas between them.
    old: PathBuf,
    /// What is to be.
    new: PathBuf,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let diff = diff::diff(&side(&self.old)?, &side(&self.new)?);
        print(&match self.format {
            Format::Text => diff.to_text(),
            Format::Json => format!("{:#}\n", diff.to_json()),
        })?;
        Ok(if diff.is_empty() { Exit::Done } else { Exit::Findings })
    }
}

fn side(paths: &Path) -> Result<Vec<Manifest>> {
    let paths: Vec<_> = paths.to_string_lossy().split(',').map(PathBuf::from).collect();
    let files = files::read(&paths)?;
    let manifests = manifests::read(&files)?;
    if !manifests.iter().any(|manifest| manifest.kind == "RoutingPlan") {
        return Ok(manifests);
    }
    let mesh = files::mesh_of(&files, Expiry::Keep)?;
    Ok(resources::generate(&mesh).into_iter().map(Manifest::from).collect())
}
