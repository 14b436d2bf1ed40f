//! What is released, and from which commit.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use testbed::workspace_dir;

/// A version of the project.
#[derive(Debug, Clone)]
pub struct Release {
    /// The version of the workspace, such as `0.1.0`.
    pub version: String,
    /// The commit, with `-dirty` after it if a file differs; none outside a Git checkout.
    pub revision: Option<String>,
}

impl Release {
    /// The release that the workspace's current files would be.
    #[must_use]
    pub fn current() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), revision: revision() }
    }

    /// The annotations of an image (OCI image specification, "Pre-Defined Annotation Keys").
    pub(crate) fn annotations(&self, title: &str, description: &str) -> BTreeMap<String, String> {
        let texts = [
            ("title", Some(title)),
            ("description", Some(description)),
            ("licenses", Some(env!("CARGO_PKG_LICENSE"))),
            ("revision", self.revision.as_deref()),
            ("source", Some(env!("CARGO_PKG_REPOSITORY"))),
            ("version", Some(&*self.version)),
        ];
        let annotation =
            |(key, text): (&str, Option<&str>)| Some((format!("org.opencontainers.image.{key}"), text?.to_owned()));
        texts.into_iter().filter_map(annotation).collect()
    }
}

fn revision() -> Option<String> {
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let Output { status, stdout, .. } =
        Command::new("git").args(arguments).current_dir(workspace_dir()).output().ok()?;
    let text = String::from_utf8(stdout).ok()?;
    status.success().then(|| text.trim().to_owned())
}
