//! Findings as text, JSON, SARIF, and GitHub's workflow commands.

use routing_plan::lint::{Finding, LINTS, Lint, Severity};
use serde_json::{Value, json};

use crate::{documents::Documents, yaml::Span};

/// A format of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: each finding with its cause and what to do.
    Text,
    /// A list of objects.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Workflow commands, which GitHub shows at the lines of a pull request.
    Github,
}

impl Format {
    /// Writes all findings in the order of files and lines.
    #[must_use]
    pub fn write(self, findings: &[Finding], documents: &Documents) -> String {
        let mut spanned: Vec<_> = findings
            .iter()
            .map(|finding| SpannedFinding {
                lint: finding.lint,
                message: &finding.message,
                span: documents.span(&finding.location),
                also: finding.related.as_ref().map(|also| documents.span(also)),
            })
            .collect();
        spanned.sort_by(|a, b| a.order().cmp(&b.order()));
        match self {
            Self::Text => spanned.iter().map(text).collect(),
            Self::Json => format!("{:#}\n", spanned.iter().map(json).collect::<Value>()),
            Self::Sarif => format!("{:#}\n", sarif(&spanned)),
            Self::Github => spanned.iter().map(github).collect(),
        }
    }
}

/// A finding in a file.
struct SpannedFinding<'f> {
    lint: &'static Lint,
    message: &'f str,
    span: &'f Span,
    also: Option<&'f Span>,
}

impl SpannedFinding<'_> {
    fn order(&self) -> (&str, usize, usize, &str, &str) {
        (&self.span.file.name, self.span.line, self.span.column, self.lint.code, self.message)
    }
}

fn text(finding: &SpannedFinding<'_>) -> String {
    let SpannedFinding { lint: Lint { code, severity, effect, remedy, .. }, message, span, also } = finding;
    let also = also.as_ref().map(|also| format!("  also: {also}\n")).unwrap_or_default();
    format!("{span}: {severity}[{code}]: {message}\n{also}  why: {effect}\n  fix: {remedy}\n")
}

fn json(finding: &SpannedFinding<'_>) -> Value {
    let SpannedFinding { lint: Lint { code, severity, effect, remedy, .. }, message, span, also } = finding;
    json!({
        "code": code, "severity": severity.to_string(), "message": message, "why": effect, "fix": remedy,
        "file": span.file.name, "line": span.line, "column": span.column,
        "also": also.as_ref().map(|also| json!({"file": also.file.name, "line": also.line, "column": also.column})),
    })
}

fn sarif(findings: &[SpannedFinding<'_>]) -> Value {
    let level = |severity: &Severity| severity.to_string();
    let rules = LINTS.iter().map(|lint| {
        json!({
            "id": lint.code,
            "shortDescription": {"text": lint.wrong},
            "fullDescription": {"text": lint.effect},
            "help": {"text": lint.remedy},
            "defaultConfiguration": {"level": level(&lint.severity)},
        })
    });
    let results = findings.iter().map(|SpannedFinding { lint, message, span, .. }| {
        json!({
            "ruleId": lint.code,
            "ruleIndex": LINTS.iter().position(|one| one.code == lint.code),
            "level": level(&lint.severity),
            "message": {"text": message},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": span.file.name},
                "region": {"startLine": span.line, "startColumn": span.column},
            }}],
        })
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "manifest-gen", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Value>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Value>(),
        }],
    })
}

/// <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>
fn github(finding: &SpannedFinding<'_>) -> String {
    let SpannedFinding { lint: Lint { code, severity, remedy, .. }, message, span, .. } = finding;
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{severity} file={},line={},col={},title={code}::{}\n",
        property(&span.file.name),
        span.line,
        span.column,
        data(&format!("{message}. {remedy}"))
    )
}
