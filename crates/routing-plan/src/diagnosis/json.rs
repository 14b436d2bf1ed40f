//! JSON with the duplicate keys that it has.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A value.
pub(super) enum Json {
    Object(Vec<(String, Json)>),
    Array,
    String(String),
    Number(f64),
    Bool,
    Null,
}

impl Json {
    /// The first member of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The keys that come a second time.
    pub(super) fn duplicates(&self) -> Vec<&str> {
        let Self::Object(members) = self else { return Vec::new() };
        let is_second = |index: usize, key: &str| members.iter().take(index).any(|(other, _)| other == key);
        members
            .iter()
            .enumerate()
            .filter(|(index, (key, _))| is_second(*index, key))
            .map(|(_, (key, _))| &**key)
            .collect()
    }

    /// Such as `a list`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Object(_) => "an object",
            Self::Array => "a list",
            Self::String(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        }
    }

    /// Why the value is not a version (R12). Its text is not repeated.
    pub(super) fn version_fault(&self) -> Option<String> {
        let expected = "expected a version (1 to 63 of `A-Z a-z 0-9 . _ -`, with a letter or digit at its ends)";
        match self {
            Self::String(text) if routing_claims::is_version(text) => None,
            Self::String(text) if text.is_empty() || text.len() > 63 => {
                Some(format!("is a string of {} bytes, {expected}", text.len()))
            }
            Self::String(text) => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                let position = text.chars().position(|c| !allowed(c));
                let end =
                    || if text.starts_with(|c: char| c.is_ascii_alphanumeric()) { text.chars().count() } else { 1 };
                let position = position.map_or_else(end, |position| position + 1);
                Some(format!("has another character at position {position}, {expected}"))
            }
            Self::Number(number) if *number >= 0.0 && number.fract() == 0.0 => None,
            Self::Number(_) => Some(format!("is a number with a sign or a fraction, {expected}")),
            other => Some(format!("is {}, {expected}", other.kind())),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    #[expect(clippy::cast_precision_loss, reason = "only the sign and the fraction are asked")]
    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "only the sign and the fraction are asked")]
    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        while items.next_element::<Json>()?.is_some() {}
        Ok(Json::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
