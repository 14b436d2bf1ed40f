//! Any text as a plan and, after a line of `=====`, any text as the files that it names: errors with a span, or manifests that
//! are YAML and are the same a second time.
#![no_main]

use std::{io, path::Path, sync::Arc};

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use manifest_gen::{
    diagnostic::FileDiagnostic,
    documents::Documents,
    render,
    yaml::{self, File},
};
use miette::GraphicalReportHandler;
use routing_plan::{diff, lint, manifests::Manifest, resolve::Expiry, resources};

fuzz_target!(|text: &str| {
    let (text, other) = text.split_once("\n=====\n").unwrap_or((text, ""));
    let manifests = match generate(text, other) {
        Ok(manifests) => manifests,
        Err(diagnostics) => return check(&diagnostics),
    };
    assert_eq!(generate(text, other), Ok(manifests.clone()), "a second time");
    let file = Arc::new(File { name: "rendered.yaml".into(), text: manifests });
    let documents = yaml::read(&file).expect("what is rendered is YAML");
    assert!(!documents.is_empty());
});

fn generate(text: &str, other: &str) -> Result<String, Vec<FileDiagnostic>> {
    let file = Arc::new(File { name: PLAN_FILE.into(), text: text.into() });
    let fetch = |_: &Path| if other.is_empty() { Err(io::Error::other("no such file")) } else { Ok(other.into()) };
    let mut documents = Documents::default();
    let input = documents.read_plan(&[file], &fetch)?;
    let plan = documents.resolve(&input, Expiry::Keep)?;
    let resources = resources::generate(&plan);
    let manifests: Vec<_> = resources.iter().cloned().map(Manifest::from).collect();
    assert!(diff::diff(&manifests, &manifests).is_empty());
    let _ = lint::run(Some(&plan), manifests, None, Timestamp::UNIX_EPOCH);
    Ok(render::stream(&resources))
}

/// Checks that a diagnostic has a message, and a span that can be shown, or else names the file.
fn check(diagnostics: &[FileDiagnostic]) {
    assert!(!diagnostics.is_empty());
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty());
        assert!(diagnostic.span.is_some() || diagnostic.message.contains(PLAN_FILE), "no span: {diagnostic}");
        let mut shown = String::new();
        let report = diagnostic.report();
        GraphicalReportHandler::new().render_report(&mut shown, report.as_ref()).expect("a span that can be shown");
    }
}

const PLAN_FILE: &str = "plan.yaml";
