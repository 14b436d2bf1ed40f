//! The options that name manifests.

use std::{path::PathBuf, sync::Arc};

use super::note;
use crate::{
    documents::{Documents, ManifestInput},
    yaml::File,
};

#[derive(Debug, clap::Args)]
pub(super) struct ManifestArgs {
    /// Manifests of the mesh, rendered ones and your own: files, folders of YAML files, or `-` for stdin.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(super) manifests: Vec<PathBuf>,
    /// Namespace of the manifests that do not name one, as for kubectl; default: `default`.
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
}

impl ManifestArgs {
    /// Reads the manifests of files, and tells what was left out.
    pub(super) fn read(&self, files: &[Arc<File>], documents: &mut Documents) -> ManifestInput {
        let input = documents.read_valid_manifests(files, self.namespace.as_deref());
        for line in &input.notes {
            note(line);
        }
        input
    }
}
