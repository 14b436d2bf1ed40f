//! Any text as a plan and, after a line of `=====`, any text as the files that it names: errors with a location, or manifests that
//! are YAML and are the same a second time.
#![no_main]

use std::{io, sync::Arc};

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use miette::GraphicalReportHandler;
use routing_plan::{
    diff, lint,
    manifests::Manifest,
    model::{self, Expiry},
    plan,
    problem::Problem,
    render, resources,
    yaml::{self, File},
};

fuzz_target!(|text: &str| {
    let (text, other) = text.split_once("\n=====\n").unwrap_or((text, ""));
    let manifests = match generate(text, other) {
        Ok(manifests) => manifests,
        Err(problems) => return check(&problems),
    };
    assert_eq!(generate(text, other), Ok(manifests.clone()), "a second time");
    let file = Arc::new(File { name: "rendered.yaml".into(), text: manifests });
    let documents = yaml::read(&file).expect("what is rendered is YAML");
    assert!(!documents.is_empty());
});

fn generate(text: &str, other: &str) -> Result<String, Vec<Problem>> {
    let file = Arc::new(File { name: PLAN.into(), text: text.into() });
    let input = plan::read(&[file])?;
    let fetch = |_: &str| if other.is_empty() { Err(io::Error::other("no such file")) } else { Ok(other.into()) };
    let mesh = model::build(&input, Expiry::Keep, &fetch)?;
    let resources = resources::generate(&mesh);
    let manifests: Vec<_> = resources.iter().cloned().map(Manifest::from).collect();
    assert!(diff::diff(&manifests, &manifests).is_empty());
    let _ = lint::run(Some(&mesh), manifests, Timestamp::UNIX_EPOCH);
    Ok(render::stream(&resources))
}

/// Checks that a diagnostic has a message, and a location that can be shown, or else names the file.
fn check(problems: &[Problem]) {
    assert!(!problems.is_empty());
    for problem in problems {
        assert!(!problem.message.is_empty());
        assert!(problem.place.is_some() || problem.message.contains(PLAN), "no place: {problem}");
        let mut shown = String::new();
        let report = manifest_gen::show::report(problem);
        GraphicalReportHandler::new().render_report(&mut shown, report.as_ref()).expect("a place that can be shown");
    }
}

const PLAN: &str = "plan.yaml";
