//! Findings as text, JSON, SARIF, and GitHub's workflow commands.

use routing_plan::lint::{ALL, Finding, Lint, Severity};
use serde_json::{Value, json};

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: a line for each finding, and what to do.
    Text,
    /// A list of objects.
    Json,
    /// SARIF 2.1.0, which code scanning reads.
    Sarif,
    /// Workflow commands, which GitHub shows beside the lines of a pull request.
    Github,
}

impl Format {
    /// Writes all findings.
    #[must_use]
    pub fn write(self, findings: &[Finding]) -> String {
        match self {
            Self::Text => findings.iter().map(text).collect(),
            Self::Json => format!("{:#}\n", findings.iter().map(json).collect::<Value>()),
            Self::Sarif => format!("{:#}\n", sarif(findings)),
            Self::Github => findings.iter().map(github).collect(),
        }
    }
}

fn text(finding: &Finding) -> String {
    let Finding { lint: Lint { code, severity, because, remedy, .. }, message, place, also } = finding;
    let also = also.as_ref().map(|also| format!("  also: {also}\n")).unwrap_or_default();
    format!("{place}: {severity}[{code}]: {message}\n{also}  why: {because}\n  fix: {remedy}\n")
}

fn json(finding: &Finding) -> Value {
    let Finding { lint: Lint { code, severity, because, remedy, .. }, message, place, also } = finding;
    json!({
        "code": code, "severity": severity.to_string(), "message": message, "why": because, "fix": remedy,
        "file": place.file.name, "line": place.line, "column": place.column,
        "also": also.as_ref().map(|also| json!({"file": also.file.name, "line": also.line, "column": also.column})),
    })
}

fn sarif(findings: &[Finding]) -> Value {
    let level = |severity: &Severity| severity.to_string();
    let rules = ALL.iter().map(|lint| {
        json!({
            "id": lint.code,
            "shortDescription": {"text": lint.finds},
            "fullDescription": {"text": lint.because},
            "help": {"text": lint.remedy},
            "defaultConfiguration": {"level": level(&lint.severity)},
        })
    });
    let results = findings.iter().map(|Finding { lint, message, place, .. }| {
        json!({
            "ruleId": lint.code,
            "ruleIndex": ALL.iter().position(|one| one.code == lint.code),
            "level": level(&lint.severity),
            "message": {"text": message},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": place.file.name},
                "region": {"startLine": place.line, "startColumn": place.column},
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
fn github(finding: &Finding) -> String {
    let Finding { lint: Lint { code, severity, remedy, .. }, message, place, .. } = finding;
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{severity} file={},line={},col={},title={code}::{}\n",
        property(&place.file.name),
        place.line,
        place.column,
        data(&format!("{message}. {remedy}"))
    )
}
