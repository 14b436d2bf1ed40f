//! `render`.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{Exit, Result, files, note, parse_time, print};
use routing_plan::{model::Expiry, render, resources};

/// Write every manifest of a plan and its fragments.
///
/// The same files give the same bytes, in whatever order they are named. A variant that has expired is an error, unless
/// `--now` says which to leave out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen render -f plan.yaml -f variants/
  manifest-gen render -f plan.yaml -f variants/ -o rendered/
  manifest-gen render -f plan.yaml -f variants/ --check rendered/")]
pub(super) struct Args {
    /// The plan and its fragments: files, folders of YAML files (not the folders in them), or `-` for stdin.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Write one file per resource into this folder, and remove those that an earlier run wrote and this one does not.
    #[arg(short, long, value_name = "DIR", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Write nothing; exit 1 with a unified diff if the folder is not what `-o` would make it.
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
    /// Leave out variants that have expired at this time (RFC 3339), instead of refusing those that have by now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<Timestamp>,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let expiry = self.now.map_or_else(|| Expiry::Refuse(Timestamp::now()), Expiry::LeaveOut);
        let mesh = files::mesh(&self.files, expiry)?;
        for expired in &mesh.expired {
            let variant = &expired.variant;
            note(&format!("left out: `{}` of `{}` has expired ({})", variant.name, expired.service, variant.place));
        }
        let resources = resources::generate(&mesh);
        if let Some(folder) = &self.output {
            for line in files::write(folder, &mesh.name, &render::files(&resources, &mesh.name))? {
                note(&line);
            }
            return Ok(Exit::Done);
        }
        let Some(folder) = &self.check else { return print(&render::stream(&resources)) };
        let diff = files::check(folder, &mesh.name, &render::files(&resources, &mesh.name))?;
        if diff.is_empty() {
            return Ok(Exit::Done);
        }
        print(&diff)?;
        note(&format!("{} is not what the plan gives; `manifest-gen render -o` writes it", folder.display()));
        Ok(Exit::Findings)
    }
}
