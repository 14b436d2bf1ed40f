//! Istio's `StringMatch`: how the text of a header, a path or a parameter must be.

use std::fmt;

use serde_json::Value;

use super::reader::{Field, Fields, Read, ReadFields, Reading, Written, WrongType};
use crate::{diagnostic::FieldPath, re2::Pattern};

/// How a text must be. Two kinds at once, or one that Istio does not have, are of a wrong type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StringMatch {
    /// `{}`.
    Present,
    /// Equal.
    Exact(String),
    /// Beginning so.
    Prefix(String),
    /// As a whole matching this regular expression.
    Regex(String),
}

impl Read for StringMatch {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        let kinds = Kinds::read(value, path, reading)?;
        let found = match kinds {
            Kinds { exact: Field::Wrong(_), .. }
            | Kinds { prefix: Field::Wrong(_), .. }
            | Kinds { regex: Field::Wrong(_), .. } => return None,
            Kinds { exact, prefix, regex, written } if written.unknown.is_empty() => match (exact, prefix, regex) {
                (Field::Absent, Field::Absent, Field::Absent) => return Some(Self::Present),
                (Field::Known(text), Field::Absent, Field::Absent) => return Some(Self::Exact(text)),
                (Field::Absent, Field::Known(text), Field::Absent) => return Some(Self::Prefix(text)),
                (Field::Absent, Field::Absent, Field::Known(text)) => return Some(Self::Regex(text)),
                _ => "more than one of them".to_owned(),
            },
            Kinds { written, .. } => format!("`{}`", written.unknown.join("`, `")),
        };
        reading.wrong.push(WrongType { path: path.clone(), expected: "one of `exact`, `prefix`, `regex`", found });
        None
    }
}

impl StringMatch {
    /// Whether Istio takes it for presence: also the regex `*`, which is not RE2.
    /// (`canBeConvertedToPresentMatch` in Istio's `route.go`.)
    pub(crate) fn is_present(&self) -> bool {
        matches!(self, Self::Present) || *self == Self::Regex("*".to_owned())
    }

    /// Whether a text is as wanted; none: it can't be told.
    pub(crate) fn matches(&self, text: &str) -> Option<bool> {
        match self {
            Self::Present => Some(true),
            Self::Exact(wanted) => Some(text == wanted),
            Self::Prefix(wanted) => Some(text.starts_with(wanted.as_str())),
            Self::Regex(wanted) => Pattern::new(wanted).ok()?.is_match(text),
        }
    }

    /// The same for a text that was brought to lower case. A regex stays as it is: Envoy ignores the case of exact and
    /// prefix paths only.
    pub(crate) fn to_lowercase(&self) -> Self {
        match self {
            Self::Present => Self::Present,
            Self::Exact(text) => Self::Exact(text.to_lowercase()),
            Self::Prefix(text) => Self::Prefix(text.to_lowercase()),
            Self::Regex(regex) => Self::Regex(regex.clone()),
        }
    }
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Exact(text) => write!(f, "`{text}`"),
            Self::Prefix(text) => write!(f, "prefix `{text}`"),
            Self::Regex(text) => write!(f, "regex `{text}`"),
        }
    }
}

struct Kinds {
    exact: Field<String>,
    prefix: Field<String>,
    regex: Field<String>,
    written: Written,
}

impl ReadFields for Kinds {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            exact: fields.field("exact"),
            prefix: fields.field("prefix"),
            regex: fields.field("regex"),
            written: fields.written(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_kind_of_a_string_or_none() {
        let read = |value: &Value| {
            let mut reading = Reading::default();
            let read = StringMatch::read(value, &FieldPath::default(), &mut reading);
            read.ok_or_else(|| reading.wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        let kinds = "expected one of `exact`, `prefix`, `regex`, found";
        for (value, wanted) in [
            (json!({}), Ok(StringMatch::Present)),
            (json!({"exact": ""}), Ok(StringMatch::Exact(String::new()))),
            (json!({"prefix": "a"}), Ok(StringMatch::Prefix("a".into()))),
            (json!({"regex": "a", "exact": null}), Ok(StringMatch::Regex("a".into()))),
            (json!({"exact": 2}), Err("expected a string, found the number `2`".to_owned())),
            (json!({"exact": "a", "prefix": "a"}), Err(format!("{kinds} more than one of them"))),
            (json!({"exct": "a"}), Err(format!("{kinds} `exct`"))),
            (json!("PR-1"), Err("expected a mapping, found a string".to_owned())),
            (json!(null), Err("expected a mapping, found null".to_owned())),
        ] {
            assert_eq!(read(&value), wanted, "{value}");
        }
    }
}
