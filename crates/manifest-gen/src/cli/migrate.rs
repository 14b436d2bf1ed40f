//! `migrate`.

use std::path::PathBuf;

use super::{Exit, Result, files, note, print};
use crate::{migrate, yaml};

/// Convert an `EnvoyFilter` for Istio before 1.6 to the current format.
///
/// Replaces `workloadLabels`, `filters[]`, old filter names such as `envoy.lua`, and `inline_code`. Prints every document of
/// the file, and reports what changed on stderr.
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
        let mut diagnostics = Vec::new();
        for file in files::read(std::slice::from_ref(&self.file))? {
            for document in yaml::read(&file)? {
                match migrate::migrate(&document) {
                    Ok(migrated) => {
                        migrated.notes.iter().for_each(|line| note(&format!("{}: {line}", document.span)));
                        texts.push(migrated.to_yaml());
                    }
                    Err(found) => diagnostics.extend(found),
                }
            }
        }
        if diagnostics.is_empty() { print(&texts.join("---\n")) } else { Err(diagnostics) }
    }
}
