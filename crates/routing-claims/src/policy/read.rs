//! Reads a configuration from JSON. An error has the path of the invalid field.

use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::{
    config::{Object, PolicyConfig},
    diagnostic::{Escaped, FieldPath, FieldSegment, PolicyDiagnostic, PolicyDiagnosticKind as Kind},
    limits,
};

pub(super) fn read(text: &[u8]) -> Result<PolicyConfig, PolicyDiagnostic> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let Object(config) =
        serde_path_to_error::deserialize(&mut json).map_err(|error| diagnostic(path(error.path()), error.inner()))?;
    json.end().map_err(|error| diagnostic(FieldPath::default(), &error))?;
    Ok(config)
}

fn path(path: &serde_path_to_error::Path) -> FieldPath {
    path.iter().fold(FieldPath::default(), |path, segment| match segment {
        Segment::Seq { index } => path.index(*index),
        Segment::Map { key } => path.field(key),
        Segment::Enum { .. } | Segment::Unknown => path,
    })
}

/// Converts an error of `serde_json` into a diagnostic. Only their wording distinguishes these errors.
fn diagnostic(path: FieldPath, error: &serde_json::Error) -> PolicyDiagnostic {
    let text = error.to_string();
    if error.classify() != Category::Data {
        let found = format!("a syntax error: {}", Escaped(&text));
        return PolicyDiagnostic { path, kind: Kind::Syntax, expected: "valid JSON".into(), found };
    }
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&position).unwrap_or(&text);
    if let Some(name) = name_in(text, "duplicate field ") {
        let found = format!("duplicate field `{name}`");
        let (path, expected) = (path.field(name), "each field once".into());
        return PolicyDiagnostic { path, kind: Kind::DuplicateField, expected, found };
    }
    if let Some(name) = name_in(text, "missing field ") {
        let expected = format!("the field `{name}`");
        return PolicyDiagnostic { path, kind: Kind::MissingField, expected, found: "none".into() };
    }
    let (found, expected) = text.rsplit_once(", expected ").unwrap_or((text, ""));
    debug_assert!(!expected.is_empty(), "serde's wording: {text}");
    let (kind, found) = if let Some(found) = found.strip_prefix("invalid type: ") {
        (Kind::WrongType, found)
    } else if let Some(found) = found.strip_prefix("invalid value: ") {
        (Kind::OutOfRange, found)
    } else if let Some(found) = found.strip_prefix("unknown variant ") {
        (Kind::InvalidText, found)
    } else {
        debug_assert!(found.starts_with("unknown field "), "serde's wording: {text}");
        (Kind::UnknownField, found)
    };
    let expected = match (expected, path.segments().last()) {
        ("u32", Some(FieldSegment::Field(name))) => limits::range_of(name).unwrap_or_default(),
        ("a sequence", _) => "a list".into(),
        _ => expected.into(),
    };
    let found = match found {
        "map" => "an object".into(),
        "sequence" => "a list".into(),
        _ => Escaped(found).to_string(),
    };
    PolicyDiagnostic { path, kind, expected, found }
}

/// The name in a message of serde, after the given start.
fn name_in<'t>(text: &'t str, beginning: &str) -> Option<&'t str> {
    text.strip_prefix(beginning)?.strip_prefix('`')?.strip_suffix('`')
}

#[cfg(test)]
mod tests;
