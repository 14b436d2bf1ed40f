//! `lint`.

use std::path::PathBuf;

use jiff::Timestamp;
use routing_plan::{
    lint::{self, Severity},
    resolve::{Expiry, parse_timestamp},
};

use super::{Exit, Result, files, manifests::ManifestArgs, note, print, show};
use crate::{
    diagnostic::FileDiagnostic,
    documents::{Documents, ManifestInput},
    findings::Format,
};

/// Find what would break or mislead on a real mesh.
///
/// Checks the plan, manifests (your own and rendered ones), or both together. Every finding has a code, a location, its
/// cause and what to do. Exits with 1 if one of them is an error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen lint -f plan.yaml -f variants/ --manifests apps/
  manifest-gen lint --manifests rendered/ --format github
  manifest-gen lint -f plan.yaml --module routing-claims.wasm")]
pub(super) struct Args {
    /// The plan and its variant files: files, folders of YAML files, or `-` for stdin.
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "manifests")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    manifests: ManifestArgs,
    /// The WebAssembly module's file. Finds its checksum where Istio expects the digest of the module's image.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Judge expiry at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    now: Option<Timestamp>,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let mut documents = Documents::default();
        let plan = match &self.files[..] {
            [] => None,
            files => Some(files::resolve(&mut documents, files, Expiry::Keep)?),
        };
        let module = self.module.as_deref().map(files::sha256).transpose()?;
        let (files, mut diagnostics) = files::read_readable(&self.manifests.manifests);
        let ManifestInput { manifests, diagnostics: invalid, .. } = self.manifests.read(&files, &mut documents);
        diagnostics.extend(invalid);
        if plan.is_none() && manifests.is_empty() {
            diagnostics.push(FileDiagnostic::new("expected Kubernetes resources in `--manifests`, found none"));
            return Err(diagnostics);
        }
        let assumed = manifests.iter().filter(|manifest| manifest.has_assumed_namespace()).count();
        if assumed > 0 {
            let resources = if assumed == 1 { "resource does" } else { "resources do" };
            note(&format!("{assumed} {resources} not name a namespace: assumed `default` (--namespace)"));
        }
        let findings = lint::run(plan.as_ref(), manifests, module.as_deref(), self.now.unwrap_or_else(Timestamp::now));
        print(&self.format.write(&findings, &documents))?;
        let errors = findings.iter().filter(|finding| finding.lint.severity == Severity::Error).count();
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        note(&format!("{}, {}", count(errors, "error"), count(findings.len() - errors, "warning")));
        if !diagnostics.is_empty() {
            show(&diagnostics);
            return Ok(Exit::Invalid);
        }
        Ok(if errors > 0 { Exit::Findings } else { Exit::Done })
    }
}
