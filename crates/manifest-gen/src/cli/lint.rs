//! `lint`.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{Exit, Result, files, note, parse_time, print};
use crate::findings::Format;
use routing_plan::{
    lint::{self, Severity},
    manifests,
    model::Expiry,
    problem::Problem,
};

/// Find what would break or mislead on a real mesh.
///
/// Looks at the plan, at manifests (your own and rendered ones), or at both together. Every finding has a code, a place
/// and what to do. Exits with 1 if an error is among them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen lint -f plan.yaml -f variants/ --manifests apps/
  manifest-gen lint --manifests rendered/ --format github")]
pub(super) struct Args {
    /// The plan and its fragments: files, folders of YAML files, or `-` for stdin.
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "manifests")]
    files: Vec<PathBuf>,
    /// Manifests of the mesh: `Service`, `Deployment`, `VirtualService`, …
    #[arg(long, value_name = "PATH", num_args = 1..)]
    manifests: Vec<PathBuf>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Judge expiry at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<Timestamp>,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let mesh = if self.files.is_empty() { None } else { Some(files::mesh(&self.files, Expiry::Keep)?) };
        let manifests = manifests::read(&files::read(&self.manifests)?)?;
        if mesh.is_none() && manifests.is_empty() {
            return Err(vec![Problem::new("there is no Kubernetes resource in what `--manifests` names")]);
        }
        let findings = lint::run(mesh.as_ref(), manifests, self.now.unwrap_or_else(Timestamp::now));
        print(&self.format.write(&findings))?;
        let errors = findings.iter().filter(|finding| finding.lint.severity == Severity::Error).count();
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        note(&format!("{}, {}", count(errors, "error"), count(findings.len() - errors, "warning")));
        Ok(if errors > 0 { Exit::Findings } else { Exit::Done })
    }
}
