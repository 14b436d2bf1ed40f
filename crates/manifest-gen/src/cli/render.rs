//! `render`.

use std::path::PathBuf;

use jiff::Timestamp;
use routing_plan::{
    resolve::{Expiry, parse_timestamp},
    resources,
};

use super::{Exit, Result, files, note, print};
use crate::{documents::Documents, render};

/// Write every resource of a plan and its variant files.
///
/// The same files give the same bytes, in whatever order they are given. A variant that has expired is an error, unless
/// `--now` says at which time to leave out expired ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen render -f plan.yaml -f variants/
  manifest-gen render -f plan.yaml -f variants/ -o rendered/
  manifest-gen render -f plan.yaml -f variants/ --check rendered/")]
pub(super) struct Args {
    /// The plan and its variant files: files, folders of YAML files (without subfolders), or `-` for stdin.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Write one file per resource into this folder, and remove files of earlier runs that are no longer needed.
    #[arg(short, long, value_name = "DIR", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Write nothing; exit with 1 and print a unified diff if the folder differs from what `-o` would write.
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
    /// Leave out variants that have expired at this time (RFC 3339), instead of refusing variants that have expired by now.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    now: Option<Timestamp>,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let expiry = self.now.map_or_else(|| Expiry::Refuse(Timestamp::now()), Expiry::LeaveOut);
        let mut documents = Documents::default();
        let plan = files::resolve(&mut documents, &self.files, expiry)?;
        for expired in &plan.expired {
            let variant = &expired.variant;
            let span = documents.span(&variant.location);
            note(&format!("left out `{}` of `{}`, which has expired ({span})", variant.name, expired.service));
        }
        let resources = resources::generate(&plan);
        if let Some(folder) = &self.output {
            for line in files::write(folder, &plan.name, &render::files(&resources, &plan.name))? {
                note(&line);
            }
            return Ok(Exit::Done);
        }
        let Some(folder) = &self.check else { return print(&render::stream(&resources)) };
        let diff = files::check(folder, &plan.name, &render::files(&resources, &plan.name))?;
        if diff.is_empty() {
            return Ok(Exit::Done);
        }
        print(&diff)?;
        note(&format!("{} differs from the plan; `manifest-gen render -o` updates it", folder.display()));
        Ok(Exit::Findings)
    }
}
