//! The scanner against `serde_json`, for tests and fuzzing: what is accepted, and what is read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Fault, Kind, Scanner, Span};

/// Reading event by event and skipping both judge a text as `serde_json` does, or it is told where not.
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

/// What a text means, numbers and literals as they are written.
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
    // The scanner's precondition.
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
            // It has no events of its own, but a start and an end.
            Kind::Other => {
                let start = json.at;
                json.skip()?;
                serde_json::from_slice(&text[start..json.at]).map_err(|_| Fault::Malformed)?
            }
        };
        // The key is looked at last: a span must outlive what is read and unescaped behind it.
        members.push((owned(json, key)?, value));
    }
    Ok(Tree::Object(members))
}

/// A span that is cut within a character would be read as a fault that `serde_json` does not see.
fn owned(json: &Scanner<'_>, span: Span) -> Result<String, Fault> {
    std::str::from_utf8(json.text(span)).map(str::to_owned).map_err(|_| Fault::Malformed)
}

/// Skips every member.
pub(super) fn skip(text: &[u8], max_depth: u32) -> Result<(), Fault> {
    let mut text = text.to_owned();
    let mut json = Scanner::object(&mut text, max_depth)?;
    skip_members(&mut json)?;
    json.finish()
}

fn skip_members(json: &mut Scanner<'_>) -> Result<(), Fault> {
    while json.key()?.is_some() {
        json.skip_value()?;
    }
    Ok(())
}

/// What `serde_json` reads: nothing when it rejects the text or the text is not an object.
pub(super) fn expected(text: &[u8]) -> Option<Tree> {
    serde_json::from_slice(text).ok().filter(|tree| matches!(tree, Tree::Object(_)))
}

/// Values are taken raw first, so that a number keeps its text.
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

/// The most that a policy allows.
pub(super) const MAX_DEPTH: u32 = 64;
