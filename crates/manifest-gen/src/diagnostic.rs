//! Diagnostics as people see them: in a file, at a line and column.

use std::fmt;

use miette::{LabeledSpan, NamedSource};

use crate::yaml::Span;

/// Something that is wrong with the input of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiagnostic {
    /// What was expected and what was found.
    pub message: String,
    /// Where, unless it is about no file.
    pub span: Option<Span>,
    /// Other spans that play a part, each with what it is.
    pub related: Vec<(Span, String)>,
    /// One concrete action that fixes it.
    pub help: Option<String>,
}

impl FileDiagnostic {
    /// A diagnostic at a span.
    #[must_use]
    pub fn at(span: &Span, message: impl Into<String>) -> Self {
        Self { span: Some(span.clone()), ..Self::new(message) }
    }

    /// A diagnostic that is about no span of a file, such as a file that can't be read.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, related: Vec::new(), help: None }
    }

    /// The same with an action that fixes it.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same with another span that plays a part.
    #[must_use]
    pub fn with_related(mut self, span: &Span, what: impl Into<String>) -> Self {
        self.related.push((span.clone(), what.into()));
        self
    }

    /// The same with the lines of the file, ready to be shown.
    #[must_use]
    pub fn report(&self) -> miette::Report {
        let file = self.span.as_ref().map(|span| &span.file);
        let (here, elsewhere): (Vec<_>, Vec<_>) = self.related.iter().partition(|(span, _)| Some(&span.file) == file);
        let here = here.into_iter().map(|(span, what)| LabeledSpan::new_with_span(Some(what.clone()), span.bytes()));
        let related = elsewhere.into_iter().map(|(span, what)| Elsewhere {
            message: what.clone(),
            source_code: source_code(span),
            labels: vec![primary(span)],
        });
        miette::Report::new(Shown {
            message: self.message.clone(),
            source_code: self.span.as_ref().map(source_code),
            labels: self.span.as_ref().map(primary).into_iter().chain(here).collect(),
            help: self.help.clone(),
            related: related.collect(),
        })
    }
}

impl fmt::Display for FileDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A [`FileDiagnostic`] with its file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
struct Shown {
    message: String,
    #[source_code]
    source_code: Option<NamedSource<String>>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    #[help]
    help: Option<String>,
    #[related]
    related: Vec<Elsewhere>,
}

/// A related span in another file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
#[diagnostic(severity(Advice))]
struct Elsewhere {
    message: String,
    #[source_code]
    source_code: NamedSource<String>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
}

fn source_code(span: &Span) -> NamedSource<String> {
    NamedSource::new(&span.file.name, span.file.text.clone())
}

fn primary(span: &Span) -> LabeledSpan {
    LabeledSpan::new_primary_with_span(Some("here".into()), span.bytes())
}
