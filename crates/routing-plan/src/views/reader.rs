//! Reads a view field by field: the value, its type, and the bookkeeping of unknown fields are one step.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::diagnostic::FieldPath;

/// A field of a view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Field<T> {
    /// Not written, or null, which Kubernetes takes for not written unless it refuses it.
    #[default]
    Absent,
    /// A value of the type that the view expects.
    Known(T),
    /// A value of another type, at this path. A [`WrongType`] tells the rest; nothing may be concluded from the field.
    Wrong(FieldPath),
}

/// A value whose type is not the one of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongType {
    /// The field, from the root of the manifest.
    pub(crate) path: FieldPath,
    /// Such as `a string`.
    pub(crate) expected: &'static str,
    /// Such as ``the number `2` ``.
    pub(crate) found: String,
}

/// A field that nothing can be concluded from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableField {
    /// It has a value of another type.
    #[error("`{0}` has the wrong type")]
    WrongType(FieldPath),
    /// It is not there, though the resource is not valid without it.
    #[error("`{0}` is missing")]
    Missing(FieldPath),
    /// Its value is of a kind that is not understood.
    #[error("`{0}` is not understood")]
    NotUnderstood(FieldPath),
}

/// What reading a view tells of the value beside the view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reading {
    /// Values of a wrong type.
    pub(crate) wrong: Vec<WrongType>,
    /// Fields that the view does not know.
    pub(crate) unknown: Vec<FieldPath>,
    /// Fields that are null.
    pub(crate) null: Vec<FieldPath>,
}

/// What an object knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Written {
    /// Where it is, from the root of the manifest.
    pub(crate) path: FieldPath,
    /// Names of its fields that the view does not know, in order of name.
    pub(crate) unknown: Vec<String>,
}

/// A type of values that a [`Field`] can have.
pub(crate) trait Read: Sized {
    /// The value as this type; without one the reading has at least one more [`WrongType`].
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self>;
}

/// An object that is read field by field.
pub(crate) trait ReadFields: Sized {
    /// Asks for every field that the view knows. The others are noted as unknown.
    fn read_fields(fields: &mut Fields<'_>) -> Self;
}

/// The fields of an object while it is read.
#[derive(Debug)]
pub(crate) struct Fields<'r> {
    values: &'r Map<String, Value>,
    path: &'r FieldPath,
    known: Vec<&'static str>,
    in_part: bool,
    reading: &'r mut Reading,
}

/// Reads what is at a path of field names; if it is not there, as if it were an empty object.
pub(crate) fn read_at<T: Read>(value: &Value, path: &[&'static str], reading: &mut Reading) -> Option<T> {
    let empty = Value::Object(Map::new());
    let found = path.iter().try_fold(value, |value, name| value.get(name).filter(|found| !found.is_null()));
    let path = path.iter().fold(FieldPath::default(), |path, name| path.field(*name));
    T::read(found.unwrap_or(&empty), &path, reading)
}

impl Fields<'_> {
    /// The field of this name.
    pub(crate) fn field<T: Read>(&mut self, name: &'static str) -> Field<T> {
        self.known.push(name);
        match self.values.get(name) {
            None | Some(Value::Null) => Field::Absent,
            Some(value) => Field::read(value, self.path.clone().field(name), self.reading),
        }
    }

    /// Names fields that are known to have no influence on what is told from the view.
    pub(crate) fn inert(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// The view is to know only a part of the object: no field of it is unknown.
    pub(crate) fn in_part(&mut self) {
        self.in_part = true;
    }

    /// Where the object is.
    pub(crate) fn path(&self) -> FieldPath {
        self.path.clone()
    }

    /// Where the object is, and which of its fields nobody asked for: the last thing to ask.
    pub(crate) fn written(&self) -> Written {
        Written { path: self.path(), unknown: self.unknown().cloned().collect() }
    }

    fn unknown(&self) -> impl Iterator<Item = &String> {
        self.values.keys().filter(|name| !self.in_part && !self.known.contains(&name.as_str()))
    }
}

impl<T> Field<T> {
    /// Whether nothing is written.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Whether a value of another type is written.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }

    /// The same field with another value.
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Known(value) => Field::Known(map(value)),
            Self::Wrong(path) => Field::Wrong(path),
        }
    }

    /// The value, if there is one of the expected type.
    pub(crate) fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Wrong(_) => None,
        }
    }
}

impl<T> Field<T> {
    /// The value if there is one, an error if it is of another type.
    pub(crate) fn optional(&self) -> Result<Option<&T>, UnusableField> {
        match self {
            Self::Absent => Ok(None),
            Self::Known(value) => Ok(Some(value)),
            Self::Wrong(path) => Err(UnusableField::WrongType(path.clone())),
        }
    }

    /// The value, an error if there is none of the expected type. The field is the one of this name in the object at a path.
    pub(crate) fn required(&self, object: &FieldPath, name: &'static str) -> Result<&T, UnusableField> {
        self.optional()?.ok_or_else(|| UnusableField::Missing(object.clone().field(name)))
    }
}

impl<T: Read> Field<T> {
    fn read(value: &Value, path: FieldPath, reading: &mut Reading) -> Self {
        T::read(value, &path, reading).map_or_else(|| Self::Wrong(path), Self::Known)
    }
}

impl<T> Field<Vec<T>> {
    /// The items, none if there is no list of the expected type.
    pub(crate) fn items(&self) -> &[T] {
        self.known().map_or(&[], Vec::as_slice)
    }
}

impl Field<String> {
    /// The text, if there is one.
    pub(crate) fn text(&self) -> Option<&str> {
        self.known().map(String::as_str)
    }

    /// Whether it is known to be this text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text() == Some(text)
    }
}

impl UnusableField {
    pub(crate) fn path(&self) -> &FieldPath {
        match self {
            Self::WrongType(path) | Self::Missing(path) | Self::NotUnderstood(path) => path,
        }
    }
}

impl Written {
    /// Paths of its unknown fields.
    pub(crate) fn unknown_paths(&self) -> impl Iterator<Item = FieldPath> {
        self.unknown.iter().map(|name| self.path.clone().field(name.clone()))
    }
}

impl WrongType {
    pub(crate) fn new(path: &FieldPath, expected: &'static str, found: &Value) -> Self {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => format!("the boolean `{found}`"),
            Value::Number(_) => format!("the number `{found}`"),
            // A text may be a secret.
            Value::String(_) => "a string".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        };
        Self { path: path.clone(), expected, found }
    }
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl Read for String {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        expect(value.as_str(), "a string", value, path, reading).map(str::to_owned)
    }
}

impl Read for bool {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        expect(value.as_bool(), "a boolean", value, path, reading)
    }
}

impl Read for i64 {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        expect(value.as_i64(), "an integer", value, path, reading)
    }
}

impl Read for u64 {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        expect(value.as_u64(), "a non-negative integer", value, path, reading)
    }
}

impl Read for f64 {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        expect(value.as_f64(), "a number", value, path, reading)
    }
}

/// Of any type, as it is.
impl Read for Value {
    fn read(value: &Value, _: &FieldPath, _: &mut Reading) -> Option<Self> {
        Some(value.clone())
    }
}

/// One item of another type makes the list as a whole useless: which items are left would be a guess.
impl<T: Read> Read for Vec<T> {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        let items = expect(value.as_array(), "a list", value, path, reading)?.iter().enumerate();
        let read: Vec<_> = items.map(|(index, item)| T::read(item, &path.clone().index(index), reading)).collect();
        read.into_iter().collect()
    }
}

/// Of keys that the user chooses.
impl<T: Read> Read for BTreeMap<String, T> {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        let entries = expect(value.as_object(), "a mapping", value, path, reading)?.iter();
        let read: Vec<_> = entries
            .map(|(key, value)| Some((key.clone(), T::read(value, &path.clone().field(key.clone()), reading)?)))
            .collect();
        read.into_iter().collect()
    }
}

/// In a map whose other entries mean something without this one.
impl<T: Read> Read for Field<T> {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        Some(Self::read(value, path.clone(), reading))
    }
}

impl<T: ReadFields> Read for T {
    fn read(value: &Value, path: &FieldPath, reading: &mut Reading) -> Option<Self> {
        let values = expect(value.as_object(), "a mapping", value, path, reading)?;
        let null = values.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| path.clone().field(name.clone()));
        reading.null.extend(null);
        let mut fields = Fields { values, path, known: Vec::new(), in_part: false, reading };
        let read = T::read_fields(&mut fields);
        let unknown: Vec<_> = fields.unknown().map(|name| path.clone().field(name.clone())).collect();
        reading.unknown.extend(unknown);
        Some(read)
    }
}

fn expect<T>(
    read: Option<T>,
    expected: &'static str,
    value: &Value,
    path: &FieldPath,
    reading: &mut Reading,
) -> Option<T> {
    if read.is_none() {
        reading.wrong.push(WrongType::new(path, expected, value));
    }
    read
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Rule {
        name: Field<String>,
        hosts: Field<Vec<String>>,
        labels: Field<BTreeMap<String, String>>,
        written: Written,
    }

    impl ReadFields for Rule {
        fn read_fields(fields: &mut Fields<'_>) -> Self {
            fields.inert(&["timeout"]);
            Self {
                name: fields.field("name"),
                hosts: fields.field("hosts"),
                labels: fields.field("labels"),
                written: fields.written(),
            }
        }
    }

    fn read(value: &Value) -> (Vec<Rule>, Vec<String>, Vec<String>) {
        let mut reading = Reading::default();
        let field = Field::<Vec<Rule>>::read(value, FieldPath::default().field("rules"), &mut reading);
        let wrong = reading.wrong.iter().map(|wrong| format!("{}: {wrong}", wrong.path)).collect();
        let unknown = reading.unknown.iter().map(ToString::to_string).collect();
        (if let Field::Known(rules) = field { rules } else { Vec::new() }, wrong, unknown)
    }

    #[test]
    fn unknown_fields_are_kept_by_name() {
        let (rules, wrong, _) = read(&json!([{"name": "a", "timeout": 1, "naem": "b", "x": null}]));
        assert_eq!((&rules[0].name, &*wrong), (&Field::Known("a".to_owned()), &[][..]));
        assert_eq!(rules[0].written.path.to_string(), "rules[0]");
        assert_eq!(rules[0].written.unknown, ["naem", "x"]);
    }

    #[test]
    fn every_value_of_a_wrong_type_is_told_with_its_path() {
        let (rules, wrong, _) =
            read(&json!([{"name": 2, "hosts": ["a", true, null], "labels": {"a/b": {}}}, {"hosts": "secret"}]));
        assert_eq!(
            wrong,
            [
                "rules[0].name: expected a string, found the number `2`",
                "rules[0].hosts[1]: expected a string, found the boolean `true`",
                "rules[0].hosts[2]: expected a string, found null",
                r#"rules[0].labels["a/b"]: expected a string, found a mapping"#,
                "rules[1].hosts: expected a list, found a string",
            ]
        );
        assert!(matches!(&rules[0].name, Field::Wrong(path) if path.to_string() == "rules[0].name"));
        assert!(matches!(&rules[0].hosts, Field::Wrong(_)) && rules[0].hosts.items().is_empty());
        assert!(matches!(&rules[0].labels, Field::Wrong(_)));
    }

    #[test]
    fn null_is_absent_and_an_item_that_is_no_object_is_wrong() {
        let (rules, wrong, _) = read(&json!([{"name": null, "hosts": []}]));
        assert_eq!((&rules[0].name, &rules[0].hosts), (&Field::Absent, &Field::Known(Vec::new())));
        assert!(wrong.is_empty());
        let (rules, wrong, _) = read(&json!([{}, 1]));
        assert_eq!((rules.len(), &*wrong), (0, &["rules[1]: expected a mapping, found the number `1`".to_owned()][..]));
    }
}
