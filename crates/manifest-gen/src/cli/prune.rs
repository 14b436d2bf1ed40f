//! `prune`.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use jiff::Timestamp;

use super::{Exit, Result, files, note, parse_time, print};
use routing_plan::{
    model, plan,
    problem::Problem,
    yaml::{self, File, Place},
};

/// Remove the files of fragments that have expired.
///
/// Prints each file that it removes. A file that holds anything besides is left, with a message.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen prune -f variants/ --dry-run")]
pub(super) struct Args {
    /// Fragments: files or folders of YAML files. A plan among them is left alone.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Judge expiry at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<Timestamp>,
    /// Only print the files.
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        if self.files.iter().any(|path| path.as_os_str() == "-") {
            return Err(vec![Problem::new("`prune` removes files, so it can't read stdin")]);
        }
        let now = self.now.unwrap_or_else(Timestamp::now);
        let files = files::read(&self.files)?;
        let mut expired: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
        let mut problems = Vec::new();
        let fragments = plan::fragments(&files)?;
        for fragment in &fragments {
            let Some(text) = &fragment.value.spec.expires_at else { continue };
            let place = fragment.node.place_at("spec/expiresAt");
            match model::parse_time(text) {
                Ok(time) if time <= now => {
                    expired.entry(&fragment.node.place.file.name).or_default().push(place.clone());
                }
                Ok(_) => {}
                Err(message) => problems.push(Problem::at(place, message)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for file in &files {
            if let Some(places) = expired.get(&*file.name) {
                self.remove(file, places)?;
            }
        }
        Ok(Exit::Done)
    }

    fn remove(&self, file: &Arc<File>, expired: &[Place]) -> Result<()> {
        let documents = yaml::read(file)?.len();
        if documents > expired.len() {
            for place in expired {
                note(&format!("{place}: expired, but its file holds more: remove it by hand"));
            }
            return Ok(());
        }
        if !self.dry_run {
            fs::remove_file(&file.name)
                .map_err(|error| vec![Problem::new(format!("can't remove {}: {error}", file.name))])?;
        }
        print(&format!("{}\n", file.name))?;
        Ok(())
    }
}
