//! `migrate`.

use std::path::PathBuf;

use super::{Exit, Result, files, note, print};
use routing_plan::{migrate, yaml};

/// Bring an `EnvoyFilter` of Istio before 1.6 to today's form.
///
/// Reads `workloadLabels`, `filters[]` and names such as `envoy.lua`; also `inline_code` to `default_source_code`. Prints
/// every document of the file, and says on stderr what changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen migrate old-filter.yaml > filter.yaml")]
pub(super) struct Args {
    /// A YAML file, or `-` for stdin.
    file: PathBuf,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let mut texts = Vec::new();
        let mut problems = Vec::new();
        for file in files::read(std::slice::from_ref(&self.file))? {
            for document in yaml::read(&file)? {
                match migrate::migrate(&document) {
                    Ok(migrated) => {
                        migrated.notes.iter().for_each(|line| note(&format!("{}: {line}", document.place)));
                        texts.push(migrated.to_yaml());
                    }
                    Err(found) => problems.extend(found),
                }
            }
        }
        if problems.is_empty() { print(&texts.join("---\n")) } else { Err(problems) }
    }
}
