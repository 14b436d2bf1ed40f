//! `prune`.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use routing_plan::{diagnostic::FieldPath, resolve::parse_timestamp};

use super::{Exit, Result, files, note, print};
use crate::{
    diagnostic::FileDiagnostic,
    documents,
    yaml::{self, File, Span},
};

/// Remove variant files that have expired.
///
/// Prints each file that it removes. A file that contains anything else is kept, with a message.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen prune -f variants/ --dry-run")]
pub(super) struct Args {
    /// Variant files, or folders of them. A plan among them is ignored.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Judge expiry at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    now: Option<Timestamp>,
    /// Only print the files.
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        if self.files.iter().any(|path| path.as_os_str() == "-") {
            return Err(vec![FileDiagnostic::new("`prune` removes files, so it can't read stdin")]);
        }
        let now = self.now.unwrap_or_else(Timestamp::now);
        let files = files::read(&self.files)?;
        let mut expired: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        let mut diagnostics = Vec::new();
        for (node, variant) in documents::read_variants(&files)? {
            let Some(text) = &variant.spec.expires_at else { continue };
            let span = node.span_at(&FieldPath::default().field("spec").field("expiresAt"));
            match parse_timestamp(text) {
                Ok(time) if time <= now => expired.entry(span.file.name.clone()).or_default().push(span.clone()),
                Ok(_) => {}
                Err(error) => diagnostics.push(FileDiagnostic::at(span, error.to_string())),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        for file in &files {
            if let Some(spans) = expired.get(&file.name) {
                self.remove(file, spans)?;
            }
        }
        Ok(Exit::Done)
    }

    fn remove(&self, file: &Arc<File>, expired: &[Span]) -> Result<()> {
        let documents = yaml::read(file)?.len();
        if documents > expired.len() {
            for span in expired {
                note(&format!("{span}: expired, but its file contains more: remove it by hand"));
            }
            return Ok(());
        }
        if !self.dry_run {
            fs::remove_file(&file.name)
                .map_err(|error| vec![FileDiagnostic::new(format!("can't remove {}: {error}", file.name))])?;
        }
        print(&format!("{}\n", file.name))?;
        Ok(())
    }
}
