//! Problems as people see them.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};
use routing_plan::{problem::Problem, yaml::Place};

/// As it is shown to people.
#[must_use]
pub fn report(problem: &Problem) -> miette::Report {
    let file = problem.place.as_ref().map(|place| &place.file);
    let (here, elsewhere): (Vec<_>, Vec<_>) = problem.also.iter().partition(|(place, _)| Some(&place.file) == file);
    let here = here.into_iter().map(|(place, what)| LabeledSpan::new_with_span(Some(what.clone()), place.bytes()));
    let elsewhere = elsewhere.into_iter().map(|(place, what)| Shown {
        message: what.clone(),
        severity: Severity::Advice,
        help: None,
        source: Some(source(place)),
        labels: vec![primary(place)],
        related: Vec::new(),
    });
    miette::Report::new(Shown {
        message: problem.message.clone(),
        severity: Severity::Error,
        help: problem.help.clone(),
        source: problem.place.as_ref().map(source),
        labels: problem.place.as_ref().map(primary).into_iter().chain(here).collect(),
        related: elsewhere.collect(),
    })
}

#[derive(Debug)]
struct Shown {
    message: String,
    severity: Severity,
    help: Option<String>,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
    related: Vec<Shown>,
}

fn source(place: &Place) -> NamedSource<String> {
    NamedSource::new(&place.file.name, place.file.text.clone())
}

fn primary(place: &Place) -> LabeledSpan {
    LabeledSpan::new_primary_with_span(Some("here".into()), place.bytes())
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        (!self.related.is_empty())
            .then(|| Box::new(self.related.iter().map(|shown| shown as &dyn Diagnostic)) as Box<dyn Iterator<Item = _>>)
    }
}
