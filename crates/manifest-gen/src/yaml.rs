//! YAML text to a tree in which every key and value has its span.
//!
//! Tools read YAML in two versions that disagree, so nothing is guessed: a scalar keeps whether it was quoted, what a plain
//! one means is up to the caller ([`Scalar::meaning`]), and duplicate keys are errors. Merge keys (`<<`) are those of YAML
//! 1.1, as kubectl reads them.

pub mod write;

use std::{borrow::Cow, collections::HashMap, fmt, ops::Range, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle, StrInput, options};
use routing_plan::diagnostic::{FieldPath, Segment};
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use crate::diagnostic::FileDiagnostic;

/// A file's name, as the user wrote it, and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// The name in messages.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A range of a file, such as a value or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub file: Arc<File>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Bytes before it in the file.
    start: usize,
    /// Bytes before its end.
    end: usize,
}

/// A value of a document.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is in the file.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Node`] is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Text, quoted or not.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the text, each key once.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it is in the file.
    pub span: Span,
}

/// Text, quoted or not.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// Without quotes and escapes.
    pub text: String,
    /// Without quotes, so that YAML may take it for something else than text.
    pub plain: bool,
}

/// What YAML reads a scalar as.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// Nothing.
    Null,
    /// True or false; `yes`, `no`, `on`, `off` in YAML 1.1, which kubectl reads.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text,
}

/// Reads all documents of a file that are not empty.
///
/// # Errors
///
/// Where and why the text is not valid YAML, and every duplicate key.
pub fn read(file: &Arc<File>) -> Result<Vec<Node>, Vec<FileDiagnostic>> {
    let (documents, diagnostics) = read_valid(file);
    if diagnostics.is_empty() { Ok(documents) } else { Err(diagnostics) }
}

/// Reads the documents of a file that are valid and not empty, and tells what is wrong with the others.
#[must_use]
pub fn read_valid(file: &Arc<File>) -> (Vec<Node>, Vec<FileDiagnostic>) {
    let (mut documents, mut diagnostics) = (Vec::new(), Vec::new());
    let whole = 0..file.text.len();
    for part in json_objects(&file.text).unwrap_or_else(|| vec![whole]) {
        // As libyaml reads them, which kubectl builds on.
        let options = options! { block_scalar_eof_without_line_feed: true, emit_comments: false };
        let before = file.text.get(..part.start).unwrap_or_default();
        let mut loader = Loader {
            parser: Parser::new_from_str_with_options(file.text.get(part).unwrap_or_default(), options),
            file,
            bytes_before: before.len(),
            lines_before: before.matches('\n').count(),
            columns_before: before.rsplit('\n').next().unwrap_or_default().chars().count(),
            anchors: HashMap::new(),
            nodes: 0,
            diagnostics: Vec::new(),
        };
        documents.extend(loader.documents());
        diagnostics.extend(loader.diagnostics);
    }
    (documents, diagnostics)
}

/// The parts of a text that are the objects of JSON, one after the other, as `kubectl get -o json` of several calls gives
/// them. None if it is anything else: YAML has a marker between documents.
fn json_objects(text: &str) -> Option<Vec<Range<usize>>> {
    let mut objects = Vec::new();
    if text.trim_start().starts_with('{') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        let mut start = 0;
        while let Some(object) = stream.next() {
            object.ok()?;
            objects.push(start..stream.byte_offset());
            start = stream.byte_offset();
        }
    }
    (objects.len() > 1).then_some(objects)
}

/// Lines of a file that have a comment.
#[must_use]
pub fn comment_lines(file: &File) -> Vec<usize> {
    let options = options! { max_buffered_comment_events: usize::MAX };
    let events = Parser::new_from_str_with_options(&file.text, options).map_while(Result::ok);
    events.filter(|(event, _)| matches!(event, Event::Comment(..))).map(|(_, span)| span.start.line()).collect()
}

impl Node {
    /// The value under a key of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The key and value under a key of a mapping.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&(Key, Self)> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|(found, _)| found.text == key),
            _ => None,
        }
    }

    /// The items of a list; none of any other value.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Span of the value at a path, or of the nearest value above it that exists.
    #[must_use]
    pub fn span_at(&self, path: &FieldPath) -> &Span {
        let mut node = self;
        for segment in path.segments() {
            let next = match segment {
                Segment::Index(index) => node.items().get(*index),
                Segment::Field(name) => node.get(name),
            };
            let Some(next) = next else { break };
            node = next;
        }
        &node.span
    }

    /// As JSON, the way kubectl reads it, with fields in order of name.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => Value::Null,
                Meaning::Bool(value) => Value::Bool(value),
                Meaning::Number(number) => Value::Number(number),
                Meaning::Text => Value::String(scalar.text.clone()),
            },
            Kind::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Kind::Mapping(entries) => {
                let mut entries: Vec<_> =
                    entries.iter().map(|(key, value)| (key.text.clone(), value.to_json())).collect();
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                Value::Object(entries.into_iter().collect::<Map<_, _>>())
            }
        }
    }
}

impl Scalar {
    /// What YAML reads it as: the union of versions 1.1 and 1.2, so what is text here is text for every tool.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        if !self.plain {
            return Meaning::Text;
        }
        match &*self.text {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Meaning::Bool(true),
            "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                Meaning::Bool(false)
            }
            text => number(text).map_or(Meaning::Text, Meaning::Number),
        }
    }
}

impl Span {
    /// The text of the span.
    #[must_use]
    pub fn text(&self) -> &str {
        let (start, length) = self.bytes();
        self.file.text.get(start..start + length).unwrap_or_default()
    }

    /// Byte offset and length in the file, of the first line of it only.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        let text = self.file.text.get(self.start..self.end).unwrap_or_default();
        (self.start, text.lines().next().unwrap_or_default().trim_end().len())
    }

    /// The first character of a file.
    #[must_use]
    pub fn start_of(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), line: 1, column: 1, start: 0, end: 0 }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.name, self.line, self.column)
    }
}

/// Without the file's text.
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

type Fatal = Box<FileDiagnostic>;

struct Loader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    file: &'t Arc<File>,
    /// What comes in the file before the text that is parsed.
    bytes_before: usize,
    lines_before: usize,
    columns_before: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    diagnostics: Vec<FileDiagnostic>,
}

impl<'t> Loader<'t> {
    /// The documents without a fault.
    fn documents(&mut self) -> Vec<Node> {
        let mut documents = Vec::new();
        loop {
            let faults = self.diagnostics.len();
            match self.document() {
                Ok(None) => return documents,
                Ok(Some(node)) if self.diagnostics.len() == faults => documents.push(node),
                Ok(Some(_)) => {}
                Err(fatal) => {
                    self.diagnostics.push(*fatal);
                    if !self.parser.proceed_next_document().unwrap_or(false) {
                        return documents;
                    }
                }
            }
            self.anchors.clear();
        }
    }

    /// The next document that is not empty.
    fn document(&mut self) -> Result<Option<Node>, Fatal> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::DocumentStart(..), _) => {
                    let event = self.next()?;
                    let node = self.node(event, 0)?;
                    if !matches!(&node.kind, Kind::Scalar(scalar) if scalar.meaning() == Meaning::Null) {
                        return Ok(Some(node));
                    }
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, granit_parser::Span), Fatal> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let span = self.span(granit_parser::Span::empty(*error.marker()));
                let line = self.file.text.lines().nth(span.line.saturating_sub(1)).unwrap_or_default();
                let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
                // JSON may be indented with tabs.
                let is_json = self.file.text.trim_start().starts_with(['{', '[']);
                let diagnostic = FileDiagnostic::at(&span, format!("invalid YAML: {}", error.info()));
                Err(Box::new(if self.file.text.contains("{{") {
                    diagnostic.with_help("give what `helm template` prints, if the file is a template of a Helm chart")
                } else if indent.contains('\t') && !is_json {
                    diagnostic.with_help("indent the line with spaces instead of the tab")
                } else {
                    diagnostic
                }))
            }
            None => Ok((Event::StreamEnd, granit_parser::Span::default())),
        }
    }

    fn node(&mut self, (event, span): (Event<'t>, granit_parser::Span), depth: usize) -> Result<Node, Fatal> {
        let span = self.span(span);
        if depth > MAX_DEPTH {
            return Err(Box::new(FileDiagnostic::at(&span, format!("nested deeper than {MAX_DEPTH} levels"))));
        }
        self.nodes += 1;
        let (anchor, node) = match event {
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Box::new(FileDiagnostic::at(&span, "the alias refers to a value that contains it")));
                };
                self.nodes += node.count();
                if self.nodes > MAX_NODES {
                    return Err(Box::new(FileDiagnostic::at(
                        &span,
                        format!("aliases expand to more than {MAX_NODES} values"),
                    )));
                }
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.core_suffix() != Some("str"));
                (anchor, Node { span, kind: Kind::Scalar(Scalar { text: Cow::into_owned(text), plain }) })
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                (anchor, Node { span, kind: Kind::Sequence(items) })
            }
            Event::MappingStart(_, anchor, _) => {
                let entries = self.mapping(depth)?;
                (anchor, Node { span, kind: Kind::Mapping(entries) })
            }
            _ => return Err(Box::new(FileDiagnostic::at(&span, "invalid YAML: missing value"))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Fatal> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let event = match self.next()? {
                (Event::MappingEnd, _) => break,
                event => event,
            };
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            let Kind::Scalar(Scalar { text, plain }) = key.kind else {
                self.diagnostics.push(FileDiagnostic::at(&key.span, "expected text as a key"));
                continue;
            };
            if plain && text == "<<" {
                self.merge(value, &mut merged);
                continue;
            }
            if let Some((first, _)) = seen.get(&text).and_then(|index| entries.get(*index)) {
                let diagnostic = FileDiagnostic::at(&key.span, format!("duplicate key `{text}`"))
                    .with_related(&first.span, "the first one");
                self.diagnostics.push(diagnostic);
                continue;
            }
            seen.insert(text.clone(), entries.len());
            entries.push((Key { text, span: key.span }, value));
        }
        // The mapping's own keys win, then those that were merged first, wherever `<<` is.
        for (key, value) in merged {
            if !seen.contains_key(&key.text) {
                seen.insert(key.text.clone(), entries.len());
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    /// Collects the entries of a merge key's value: a mapping, or a list of mappings.
    fn merge(&mut self, value: Node, merged: &mut Vec<(Key, Node)>) {
        match value.kind {
            Kind::Mapping(entries) => merged.extend(entries),
            Kind::Sequence(items) if items.iter().all(|item| matches!(item.kind, Kind::Mapping(_))) => {
                for item in items {
                    self.merge(item, merged);
                }
            }
            Kind::Sequence(_) | Kind::Scalar(_) => {
                let message = "expected a mapping or a list of mappings under the merge key `<<`";
                self.diagnostics.push(FileDiagnostic::at(&value.span, message));
            }
        }
    }

    fn span(&self, span: granit_parser::Span) -> Span {
        let granit_parser::Span { start, end, .. } = span;
        let byte = |marker: granit_parser::Marker| {
            marker.byte_offset().map_or(self.file.text.len(), |offset| self.bytes_before + offset)
        };
        let columns_before = if start.line() == 1 { self.columns_before } else { 0 };
        Span {
            file: Arc::clone(self.file),
            line: self.lines_before + start.line(),
            column: columns_before + start.col() + 1,
            start: byte(start),
            end: byte(end),
        }
    }
}

impl Node {
    fn count(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) => 0,
            Kind::Sequence(items) => items.iter().map(Self::count).sum(),
            Kind::Mapping(entries) => entries.iter().map(|(_, value)| value.count()).sum::<usize>(),
        }
    }
}

/// The number that a plain scalar is, if it is one.
fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let digits = unsigned.replace('_', "");
    let radix = match digits.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    if radix != 10 {
        return i64::from_str_radix(digits.get(2..)?, radix).ok().map(Number::from);
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return i64::from_str_radix(&digits, 8).ok().map(Number::from);
    }
    let signed = if text.starts_with('-') { format!("-{digits}") } else { digits };
    if let Ok(number) = signed.parse::<i64>() {
        return Some(number.into());
    }
    if matches!(&*signed.to_ascii_lowercase(), ".inf" | "-.inf" | ".nan") {
        return Number::from_f64(0.0);
    }
    signed.parse::<f64>().ok().and_then(Number::from_f64)
}

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Arc<File> {
        Arc::new(File { name: "a.yaml".into(), text: text.into() })
    }

    fn diagnostics(text: &str) -> Vec<String> {
        read(&file(text)).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_value_has_a_span() {
        let documents = read(&file("a: 1\n---\n# only a comment\n---\nb:\n  ü: [x, 'y z']\n")).unwrap();
        let [_, second] = &documents[..] else { panic!("{documents:?}") };
        let span = second.span_at(&FieldPath::default().field("b").field("ü").index(1));
        assert_eq!((span.to_string(), span.text()), ("a.yaml:6:10".into(), "'y z'"));
        assert_eq!(
            second.span_at(&FieldPath::default().field("b").field("nothing").field("here")).to_string(),
            "a.yaml:6:3"
        );
    }

    #[test]
    fn duplicate_keys_are_errors() {
        assert_eq!(diagnostics("a: 1\nb: {c: 1, c: 2}\na: 3\n"), ["duplicate key `c`", "duplicate key `a`"]);
    }

    #[test]
    fn tabs_are_named() {
        let diagnostics = read(&file("a:\n\tb: 1\n")).unwrap_err();
        assert!(diagnostics[0].help.as_ref().unwrap().contains("tab"), "{diagnostics:?}");
    }

    #[test]
    fn aliases_are_expanded_within_bounds() {
        let documents = read(&file("a: &x [1, 2]\nb: *x\n")).unwrap();
        assert_eq!(documents[0].to_json()["b"][1], 2);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = format!("*a{},", n - 1).repeat(10);
            bomb = [bomb, format!("a{n}: &a{n} [{}]\n", before.trim_end_matches(','))].concat();
        }
        assert!(diagnostics(&bomb)[0].contains("aliases"));
        assert!(diagnostics("a: &a [*a]\n")[0].contains("alias"));
    }

    #[test]
    fn merge_keys_give_what_a_mapping_does_not_have() {
        let text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 0\nw: {<<: *y, \"<<\": text}\n";
        let value = read(&file(text)).unwrap()[0].to_json();
        assert_eq!(value["z"], serde_json::json!({"a": 0, "b": 1, "c": 2}));
        assert_eq!(value["w"], serde_json::json!({"<<": "text", "b": 2, "c": 2}));
        assert!(diagnostics("a: {<<: text}\n")[0].contains("merge"));
    }

    #[test]
    fn json_is_read_as_json() {
        let text = "{\n\t\"a\":\t\"\\ud83d\\ude80 \\/ \\u003c\",\n\t\"b\": [1]\n}\n";
        assert_eq!(read(&file(text)).unwrap()[0].to_json(), serde_json::json!({"a": "🚀 / <", "b": [1]}));
        let diagnostics = read(&file("{\n\t\"a\" 1\n}\n")).unwrap_err();
        assert_eq!(diagnostics[0].help, None, "{diagnostics:?}");
    }

    #[test]
    fn objects_of_json_follow_each_other() {
        let documents = read(&file("{\"a\": 1}\n{\"ü\":\n 2} {\"b\": [3]}\n")).unwrap();
        let places: Vec<_> = documents.iter().map(|node| node.span.to_string()).collect();
        assert_eq!(places, ["a.yaml:1:1", "a.yaml:2:1", "a.yaml:3:5"]);
        let span = documents[2].span_at(&FieldPath::default().field("b").index(0));
        assert_eq!((span.to_string(), span.text()), ("a.yaml:3:12".into(), "3"));
        // Not all of it is JSON.
        assert!(read(&file("{\"a\": 1}\n{b: 2}\n")).is_err());
    }

    #[test]
    fn a_bracket_may_close_at_the_column_of_its_key() {
        assert_eq!(read(&file("a:\n  b: [\n    1,\n  ]\n  c: 2\n")).unwrap()[0].to_json()["a"]["b"][0], 1);
    }

    #[test]
    fn a_broken_document_hides_no_other() {
        let (documents, diagnostics) = read_valid(&file("a: 1\n---\nb: ]\nc: 1\n---\nd: 1\nd: 2\n---\ne: 1\n"));
        let values: Vec<_> = documents.iter().map(Node::to_json).collect();
        assert_eq!(values, [serde_json::json!({"a": 1}), serde_json::json!({"e": 1})]);
        let lines: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.span.as_ref().unwrap().line).collect();
        assert_eq!(lines, [3, 7]);
    }

    #[test]
    fn depth_is_bounded() {
        assert!(diagnostics(&["[".repeat(100), "]".repeat(100)].concat())[0].contains("nested"));
        assert_eq!(diagnostics(&"[".repeat(100_000)).len(), 1);
    }

    #[test]
    fn scalars_mean_what_kubectl_reads() {
        let meaning = |text: &str| Scalar { text: text.into(), plain: true }.meaning();
        for text in ["no", "off", "Yes", "TRUE", "y", "N"] {
            assert!(matches!(meaning(text), Meaning::Bool(_)), "{text}");
        }
        for text in ["1", "1.10", "1e3", "0x1F", "0o17", "017", "1_000", "-.inf", ".5"] {
            assert!(matches!(meaning(text), Meaning::Number(_)), "{text}");
        }
        for text in ["PR-1", "1.2.3", "nope", "2026-12-01T00:00:00Z", "-", ".", "0xyz", "1-2"] {
            assert_eq!(meaning(text), Meaning::Text, "{text}");
        }
        assert_eq!(meaning("~"), Meaning::Null);
        assert_eq!(Scalar { text: "no".into(), plain: false }.meaning(), Meaning::Text);
    }
}
