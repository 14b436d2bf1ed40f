//! `migrate`.

use std::path::PathBuf;

use super::{Exit, Result, files, note, print};
use crate::{
    migrate::{self, Note},
    yaml,
};

/// Convert an `EnvoyFilter` for Istio before 1.6, or a plan of an earlier version, to the current format.
///
/// Replaces `workloadLabels`, `filters[]`, old filter names such as `envoy.lua`, old types, and `inline_code`, in lists too. In a plan, replaces
/// an `oci://` URL by `image` and `digest`, and one issuer in `authentication` by a list.
/// Prints every document of the file, without comments, and reports on stderr what changed. What has no equivalent is an
/// error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen migrate old-filter.yaml > filter.yaml
  manifest-gen migrate old-plan.yaml > plan.yaml")]
pub(super) struct Args {
    /// A YAML file, or `-` for stdin.
    file: PathBuf,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let mut texts = Vec::new();
        let mut diagnostics = Vec::new();
        for file in files::read(std::slice::from_ref(&self.file))? {
            let comments: Vec<_> = yaml::comment_lines(&file).iter().map(ToString::to_string).collect();
            if !comments.is_empty() {
                note(&format!("{}: left out the comments of these lines: {}", file.name, comments.join(", ")));
            }
            for document in yaml::read(&file)? {
                match migrate::migrate(&document) {
                    Ok(migrated) => {
                        for Note { span, message } in &migrated.notes {
                            note(&format!("{span}: {message}"));
                        }
                        texts.push(migrated.to_yaml());
                    }
                    Err(found) => diagnostics.extend(found),
                }
            }
        }
        if diagnostics.is_empty() { print(&texts.concat()) } else { Err(diagnostics) }
    }
}
