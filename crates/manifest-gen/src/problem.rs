//! What is wrong with the user's input, with its place: the one error type of reading.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};

use crate::yaml::Place;

/// Something that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was found and what is allowed.
    pub message: String,
    /// Where, unless it is about no file.
    pub place: Option<Place>,
    /// Other places that play a part, each with what it is.
    pub also: Vec<(Place, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem with a place.
    #[must_use]
    pub fn at(place: &Place, message: impl Into<String>) -> Self {
        Self { place: Some(place.clone()), ..Self::new(message) }
    }

    /// A problem of no place, such as a file that can't be read.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, also: Vec::new(), help: None }
    }

    /// With what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// With another place.
    #[must_use]
    pub fn also(mut self, place: &Place, what: impl Into<String>) -> Self {
        self.also.push((place.clone(), what.into()));
        self
    }

    /// As it is shown to people.
    #[must_use]
    pub fn report(&self) -> miette::Report {
        let file = self.place.as_ref().map(|place| &place.file);
        let (here, elsewhere): (Vec<_>, Vec<_>) = self.also.iter().partition(|(place, _)| Some(&place.file) == file);
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
            message: self.message.clone(),
            severity: Severity::Error,
            help: self.help.clone(),
            source: self.place.as_ref().map(source),
            labels: self.place.as_ref().map(primary).into_iter().chain(here).collect(),
            related: elsewhere.collect(),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The candidate nearest to what was written, near enough to be what was meant.
pub(crate) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = written.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
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
