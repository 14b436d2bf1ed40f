//! What is wrong with a plan, a variant file or a manifest, and where, without a word about how it was written down.
//!
//! A [`Location`] is a document and the path of a field in it. Whoever read the documents knows them by the same numbers
//! and can turn a location into what its users know: the command line into file, line and column, a controller into the
//! field of an object.

use std::{borrow::Cow, fmt};

/// Something that makes a plan invalid. Its text does not name the document, which only the caller knows by name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", location.path)]
pub struct Diagnostic {
    /// What was expected and what was found, in lower case and without a full stop.
    pub message: String,
    /// The field that it is about. If the document does not have it: what the field would belong to.
    pub location: Location,
    /// Other fields that play a part, each with what it is.
    pub related: Vec<(Location, String)>,
    /// One concrete action that fixes it.
    pub help: Option<String>,
}

/// A field of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The document.
    pub document: Document,
    /// The field, from the document's root.
    pub path: FieldPath,
}

/// A document that was given to this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Document {
    /// The plan.
    Plan,
    /// A variant file, by its index in the list that was given.
    Variant(usize),
    /// A service's `base`, by the service's index in the plan.
    Base(usize),
    /// A manifest, by the number that it was given.
    Manifest(usize),
}

/// The way from a document's root to one of its fields; empty: the root itself.
///
/// ```
/// use routing_plan::diagnostic::FieldPath;
///
/// let path = FieldPath::default().field("spec").field("services").index(2).field("port");
/// assert_eq!(path.to_string(), "spec.services[2].port");
/// assert_eq!(FieldPath::default().field("labels").field("a/b").to_string(), r#"labels["a/b"]"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Segment>);

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Into the field of this name.
    Field(Cow<'static, str>),
    /// Into the item at this index.
    Index(usize),
}

impl Diagnostic {
    /// A diagnostic without help.
    #[must_use]
    pub fn new(location: Location, message: impl Into<String>) -> Self {
        Self { message: message.into(), location, related: Vec::new(), help: None }
    }

    /// The same with an action that fixes it.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same with another field that plays a part.
    #[must_use]
    pub fn with_related(mut self, location: Location, what: impl Into<String>) -> Self {
        self.related.push((location, what.into()));
        self
    }
}

impl Location {
    /// The root of a document.
    #[must_use]
    pub const fn root(document: Document) -> Self {
        Self { document, path: FieldPath(Vec::new()) }
    }

    /// The field of this name in what is at this location.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.path = self.path.field(name);
        self
    }

    /// The item at this index of what is at this location.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.path = self.path.index(index);
        self
    }

    /// What is at this path from this location.
    #[must_use]
    pub fn join(mut self, path: &FieldPath) -> Self {
        self.path.0.extend(path.0.iter().cloned());
        self
    }
}

impl FieldPath {
    /// The path with one more step, into the field of this name.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.0.push(Segment::Field(name.into()));
        self
    }

    /// The path with one more step, into the item at this index.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }

    /// The steps from the root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Field(name) if !is_simple(name) => write!(f, "[{name:?}]")?,
                Segment::Field(name) if number == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// The candidate that is nearest to what was written, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = written.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

fn is_simple(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
