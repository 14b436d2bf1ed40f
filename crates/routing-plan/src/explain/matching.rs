//! Conditions on a request, each of which holds, does not, or can't be judged from here.

use super::ExplainRequest;
use crate::{
    diagnostic::FieldPath,
    names,
    re2::Pattern,
    views::{
        StringMatch,
        reader::{Field, UnusableField, Written},
    },
};

/// Whether a condition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matched {
    /// It does.
    Yes,
    /// It does not, for these reasons.
    No(Vec<String>),
    /// It can't be told.
    Unknown(Doubt),
}

/// Why something can't be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) why: String,
    /// The field of the resource that it is about.
    pub(super) path: Option<FieldPath>,
}

impl From<UnusableField> for Doubt {
    fn from(field: UnusableField) -> Self {
        Self { why: field.to_string(), path: Some(field.path().clone()) }
    }
}

impl Matched {
    /// What depends on something that the request does not tell.
    pub(super) fn not_given(why: impl Into<String>) -> Self {
        Self::Unknown(Doubt { why: why.into(), path: None })
    }

    pub(super) fn of(holds: bool, why_not: impl FnOnce() -> String) -> Self {
        if holds { Self::Yes } else { Self::No(vec![why_not()]) }
    }

    /// All conditions: one that does not hold decides.
    pub(super) fn all(conditions: impl IntoIterator<Item = Self>) -> Self {
        let mut unknown = None;
        for matched in conditions {
            match matched {
                Self::Yes => {}
                Self::No(why) => return Self::No(why),
                Self::Unknown(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Self::Yes, Self::Unknown)
    }

    /// One of the conditions: one that holds decides.
    pub(super) fn any(conditions: impl IntoIterator<Item = Self>) -> Self {
        let (mut unknown, mut reasons) = (None, Vec::new());
        for matched in conditions {
            match matched {
                Self::Yes => return Self::Yes,
                Self::No(why) => reasons.extend(why),
                Self::Unknown(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Self::No(reasons), Self::Unknown)
    }

    /// A condition that a field states; one that is not written holds, one of a wrong type can't be told.
    pub(super) fn stated<T>(field: &Field<T>, judge: impl FnOnce(&T) -> Self) -> Self {
        match field.optional() {
            Ok(None) => Self::Yes,
            Ok(Some(condition)) => judge(condition),
            Err(field) => Self::Unknown(field.into()),
        }
    }

    /// What the unknown fields of a condition would add can't be told.
    pub(super) fn unknown_fields(written: &Written) -> Self {
        match written.unknown_paths().next() {
            None => Self::Yes,
            Some(path) => {
                Self::Unknown(Doubt { why: format!("the field `{path}` is not understood"), path: Some(path) })
            }
        }
    }
}

/// Whether any of the values is as wanted.
pub(super) fn compare(what: &str, wanted: &StringMatch, values: &[&str]) -> Matched {
    let holds = match wanted {
        StringMatch::Present => !values.is_empty(),
        StringMatch::Regex(_) if wanted.is_present() => !values.is_empty(),
        StringMatch::Exact(text) => values.contains(&text.as_str()),
        StringMatch::Prefix(text) => values.iter().any(|value| value.starts_with(text.as_str())),
        StringMatch::Regex(_) if values.is_empty() => false,
        StringMatch::Regex(text) => match Pattern::new(text) {
            Ok(pattern) => {
                let matches: Vec<_> = values.iter().map(|value| pattern.is_match(value)).collect();
                if !matches.contains(&Some(true)) && matches.contains(&None) {
                    return Matched::not_given(format!("whether {what} is {wanted} (it is not ASCII)"));
                }
                matches.contains(&Some(true))
            }
            Err(error) => return Matched::not_given(format!("the regex `{text}` can't be judged: {error}")),
        },
    };
    Matched::of(holds, || match values {
        [] => format!("the request has no {what}"),
        [value] => format!("{what} is `{value}`, expected {wanted}"),
        _ => format!("no {what} is {wanted}"),
    })
}

/// As [`compare`] on the header of a request, but a value that no filter sets is not told: it may be a token (R17).
pub(super) fn compare_header(name: &str, wanted: &StringMatch, request: &ExplainRequest) -> Matched {
    let values = request.header(name);
    match compare(name, wanted, &values) {
        Matched::No(_) if !values.iter().all(|value| names::version(value).is_ok()) => {
            Matched::No(vec![format!("no {name} is {wanted}")])
        }
        matched => matched,
    }
}
