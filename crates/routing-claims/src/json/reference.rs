//! Compares the scanner with `serde_json`, for tests and fuzzing: which texts they accept, and what they read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Fault, Kind, Scanner, Span};

/// Checks that reading event by event and skipping both agree with `serde_json`. Otherwise says where they differ.
pub(crate) fn agreement(text: &[u8]) -> Result<(), String> {
    let found = read(text);
    let skipped = skip(text, MAX_DEPTH);
    if std::str::from_utf8(text).is_ok() && found.is_ok() != skipped.is_ok() {
        return Err(format!("read {found:?}, skipped {skipped:?}: {}", text.escape_ascii()));
    }
    if found == Err(Fault::TooDeep) {
        return Ok(());
    }
    let (found, expected) = (found.ok(), expected(text));
    if found == expected {
        return Ok(());
    }
    Err(format!("read {found:?}, serde_json {expected:?}: {}", text.escape_ascii()))
}

/// The meaning of a text, with numbers and literals as written.
#[derive(Debug, PartialEq)]
pub(super) enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    String(String),
    Number(String),
    Literal(String),
}

impl Tree {
    #[cfg(test)]
    pub(super) fn depth(&self) -> u32 {
        match self {
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::String(_) | Self::Number(_) | Self::Literal(_) => 0,
        }
    }
}

/// What the scanner reads, event by event.
pub(super) fn read(text: &[u8]) -> Result<Tree, Fault> {
    // The precondition of the scanner.
    if std::str::from_utf8(text).is_err() {
        return Err(Fault::Malformed);
    }
    let mut bytes = text.to_owned();
    let mut json = Scanner::object(&mut bytes, MAX_DEPTH)?;
    let tree = read_object(&mut json, text)?;
    json.finish()?;
    Ok(tree)
}

fn read_object(json: &mut Scanner<'_>, text: &[u8]) -> Result<Tree, Fault> {
    let mut members = Vec::new();
    while let Some(key) = json.key()? {
        let value = match json.value()? {
            Kind::Object => {
                json.enter()?;
                read_object(json, text)?
            }
            Kind::String => Tree::String(json.string().and_then(|span| owned(json, span))?),
            Kind::Number => Tree::Number(json.number().and_then(|span| owned(json, span))?),
            // It has no events of its own, only a start and an end.
            Kind::Other => {
                let start = json.at;
                json.skip()?;
                serde_json::from_slice(&text[start..json.at]).map_err(|_| Fault::Malformed)?
            }
        };
        // Reads the key last, because a span must stay valid while the text after it is read and unescaped.
        members.push((owned(json, key)?, value));
    }
    Ok(Tree::Object(members))
}

/// The text of a span. A span that ends within a character is a fault, which `serde_json` does not report for the same text.
fn owned(json: &Scanner<'_>, span: Span) -> Result<String, Fault> {
    std::str::from_utf8(json.text(span)).map(str::to_owned).map_err(|_| Fault::Malformed)
}

/// Skips every member. A fault comes with the position at which the scan stopped.
pub(super) fn skip(text: &[u8], max_depth: u32) -> Result<(), (Fault, usize)> {
    let mut text = text.to_owned();
    let mut json = Scanner::object(&mut text, max_depth).map_err(|fault| (fault, 0))?;
    let skipped = skip_members(&mut json);
    let at = json.at;
    skipped.and_then(|()| json.finish()).map_err(|fault| (fault, at))
}

fn skip_members(json: &mut Scanner<'_>) -> Result<(), Fault> {
    while json.key()?.is_some() {
        json.skip_value()?;
    }
    Ok(())
}

/// What `serde_json` reads. `None` if it rejects the text, or the text is not an object.
pub(super) fn expected(text: &[u8]) -> Option<Tree> {
    serde_json::from_slice(text).ok().filter(|tree| matches!(tree, Tree::Object(_)))
}

/// Reads raw values first, so that a number keeps its text.
impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let tree = match raw.as_bytes().first() {
            Some(b'{') => serde_json::Deserializer::from_str(raw).deserialize_map(Container),
            Some(b'[') => serde_json::Deserializer::from_str(raw).deserialize_seq(Container),
            Some(b'"') => serde_json::from_str(raw).map(Self::String),
            Some(b'-' | b'0'..=b'9') => Ok(Self::Number(raw.into())),
            _ => Ok(Self::Literal(raw.into())),
        };
        tree.map_err(de::Error::custom)
    }
}

struct Container;

impl<'de> Visitor<'de> for Container {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }
}

/// The maximum that a policy allows.
pub(super) const MAX_DEPTH: u32 = 64;
