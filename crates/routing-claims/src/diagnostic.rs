//! Errors of a configuration: the field, what was expected and what was found.

use std::fmt;

/// Why a configuration is not a valid policy: at least one [`PolicyDiagnostic`].
///
/// `Display` is one line that is safe to log, whatever the configuration contains: control characters are escaped, long
/// texts are shortened, and only the first 20 diagnostics are shown, followed by the number of the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", OneLine(diagnostics))]
pub struct PolicyError {
    diagnostics: Vec<PolicyDiagnostic>,
}

impl PolicyError {
    /// Every diagnostic, in the order of the configuration's fields. JSON that does not match the types has exactly one.
    #[must_use]
    pub fn diagnostics(&self) -> &[PolicyDiagnostic] {
        &self.diagnostics
    }

    pub(crate) fn new(diagnostics: Vec<PolicyDiagnostic>) -> Self {
        debug_assert!(!diagnostics.is_empty(), "an error says what is wrong");
        Self { diagnostics }
    }
}

/// One error in a configuration.
///
/// `Display` is `<path>: expected <expected>, found <found>`, one line that is safe to log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyDiagnostic {
    /// The invalid field.
    pub path: FieldPath,
    /// The kind of error, for programs.
    pub kind: PolicyDiagnosticKind,
    /// What the field must be, such as `a whole number from 0 to 300`.
    pub expected: String,
    /// What the field is, such as `301`. Texts of the configuration are in backticks, escaped and shortened.
    pub found: String,
}

impl fmt::Display for PolicyDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// The kind of a [`PolicyDiagnostic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyDiagnosticKind {
    /// The text is not JSON.
    Syntax,
    /// The value has another JSON type.
    WrongType,
    /// The object has no such field.
    UnknownField,
    /// A field is missing that is always required, or that another field requires.
    MissingField,
    /// The object has a duplicate field.
    DuplicateField,
    /// A number is out of range, or a text or a list is too short or too long.
    OutOfRange,
    /// A text is not one of the allowed texts, or does not have the required format.
    InvalidText,
    /// A header cannot be managed, because HTTP, the mesh or the policy itself needs it.
    ReservedHeader,
    /// A list has a duplicate entry.
    DuplicateEntry,
    /// Two fields contradict each other.
    Conflict,
}

/// The path from the root of a configuration to a field.
///
/// `Display` writes it as `services[1].header`, field names escaped and shortened, and `policy` for the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldPath {
    segments: Vec<FieldSegment>,
}

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldSegment {
    /// A field of an object: its name in JSON, as written. The name of an unknown field can contain anything.
    Field(String),
    /// An entry of a list: its index, from 0.
    Index(usize),
}

impl FieldPath {
    /// The steps from the root to the field. Empty for the root itself.
    #[must_use]
    pub fn segments(&self) -> &[FieldSegment] {
        &self.segments
    }

    /// The path of a field of this object.
    #[must_use]
    pub(crate) fn field(mut self, name: impl Into<String>) -> Self {
        self.segments.push(FieldSegment::Field(name.into()));
        self
    }

    /// The path of an entry of this list.
    #[must_use]
    pub(crate) fn index(mut self, index: usize) -> Self {
        self.segments.push(FieldSegment::Index(index));
        self
    }
}

/// The path of a field of the root.
impl From<&str> for FieldPath {
    fn from(name: &str) -> Self {
        Self::default().field(name)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("policy");
        }
        for (position, segment) in self.segments.iter().enumerate() {
            match segment {
                FieldSegment::Field(name) if position == 0 => write!(f, "{}", Escaped(name))?,
                FieldSegment::Field(name) => write!(f, ".{}", Escaped(name))?,
                FieldSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A text of the configuration in backticks, safe to log.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", Escaped(text))
}

/// A text that may contain text of the configuration, safe to log.
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(SHOWN_CHARACTERS) {
            match character {
                ' '..='~' => write!(f, "{character}")?,
                _ => write!(f, "{}", character.escape_debug())?,
            }
        }
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

struct OneLine<'d>(&'d [PolicyDiagnostic]);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().take(SHOWN_DIAGNOSTICS).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{diagnostic}")?;
        }
        match self.0.len().saturating_sub(SHOWN_DIAGNOSTICS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The maximum number of characters of a text in a message, more than any valid name has.
const SHOWN_CHARACTERS: usize = 200;

/// The number of diagnostics that an error shows in full.
const SHOWN_DIAGNOSTICS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_in_code() {
        let path = FieldPath::from("services").index(1).field("header");
        assert_eq!(path.to_string(), "services[1].header");
        assert_eq!(FieldPath::default().to_string(), "policy");
    }

    /// A message is logged, so it must neither look like another line nor fill the log.
    #[test]
    fn no_text_breaks_or_fills_a_line() {
        for (text, shown) in [
            ("a\nb\r\t\0\u{1b}[31m", r"a\nb\r\t\0\u{1b}[31m"),
            ("\u{85}\u{2028}\u{202e}\u{feff}", r"\u{85}\u{2028}\u{202e}\u{feff}"),
            ("é `'\"\\", "é `'\"\\"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
        let long = Escaped(&"x".repeat(100_000)).to_string();
        assert_eq!(long, "x".repeat(200) + "…");
    }

    #[test]
    fn an_error_shows_twenty_diagnostics_and_says_how_many_more_there_are() {
        let diagnostic = PolicyDiagnostic {
            path: "services".into(),
            kind: PolicyDiagnosticKind::OutOfRange,
            expected: "1 entry".into(),
            found: "0".into(),
        };
        let text = "services: expected 1 entry, found 0";
        assert_eq!(PolicyError::new(vec![diagnostic.clone(); 2]).to_string(), format!("{text}; {text}"));
        let error = PolicyError::new(vec![diagnostic; 23]);
        assert_eq!(error.diagnostics().len(), 23);
        assert_eq!(error.to_string(), [text; 20].join("; ") + "; and 3 more");
    }
}
