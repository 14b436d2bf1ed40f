//! Checks a document against the JSON Schema of its type, so that the schema that editors get is the one that counts, and
//! reports everything that does not fit, each with its span.
//!
//! It knows the keywords of the published schemas and no others, which a test holds.

use serde_json::{Map, Value};

use crate::{
    diagnostic::FileDiagnostic,
    yaml::{Key, Kind, Meaning, Node, Scalar, Span},
};
use routing_plan::diagnostic::nearest;

/// Reads a document as JSON that fits the schema. What does not fit is left out and reported.
pub(crate) fn read(node: &Node, schema: &Value, diagnostics: &mut Vec<FileDiagnostic>) -> Value {
    Reader { root: schema, diagnostics }.value(node, schema, &node.span).unwrap_or(Value::Null)
}

struct Reader<'r> {
    root: &'r Value,
    diagnostics: &'r mut Vec<FileDiagnostic>,
}

impl<'r> Reader<'r> {
    /// `above` is the span of the value's key, for fields that are missing in the value.
    fn value(&mut self, node: &Node, schema: &'r Value, above: &Span) -> Option<Value> {
        let schema = self.resolve(schema, node);
        if is_null(node) && allows_null(schema) {
            return None;
        }
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.choice(node, &choices);
        }
        match kind(schema) {
            "object" => self.object(node, schema, above),
            "array" => self.array(node, schema),
            "string" => self.text(node),
            "integer" => self.integer(node, schema),
            "boolean" => match &node.kind {
                Kind::Scalar(scalar) if matches!(scalar.meaning(), Meaning::Bool(_)) => Some(node.to_json()),
                _ => self.wrong(node, "`true` or `false`"),
            },
            _ => Some(node.to_json()),
        }
    }

    fn object(&mut self, node: &Node, schema: &'r Value, above: &Span) -> Option<Value> {
        let Kind::Mapping(entries) = &node.kind else {
            return self.wrong(node, "a mapping");
        };
        let properties = schema["properties"].as_object();
        let property = |name: &str| properties.and_then(|properties| properties.get(name));
        let mut object = Map::new();
        let mut meant = Vec::new();
        for (key, value) in entries {
            let field = match property(&key.text) {
                Some(field) => field,
                None if schema["additionalProperties"].is_object() => &schema["additionalProperties"],
                None => {
                    meant.extend(self.unknown_field(key, properties.into_iter().flatten().map(|(name, _)| &**name)));
                    continue;
                }
            };
            let default = is_null(value) && field.get("default").is_some();
            if !default && let Some(value) = self.value(value, field, &key.span) {
                object.insert(key.text.clone(), value);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none() && !meant.contains(&name) {
                let explanation = property(name).and_then(|field| field["description"].as_str());
                let diagnostic = FileDiagnostic::at(above, format!("missing field `{name}`"));
                let help = explanation.map(|text| format!("{name}: {}", text.replace('\n', " ")));
                self.diagnostics.push(FileDiagnostic { help, ..diagnostic });
            }
        }
        Some(Value::Object(object))
    }

    fn array(&mut self, node: &Node, schema: &'r Value) -> Option<Value> {
        let Kind::Sequence(items) = &node.kind else {
            return self.wrong(node, "a list");
        };
        let items = items.iter().map(|item| self.value(item, &schema["items"], &item.span).unwrap_or(Value::Null));
        Some(items.collect())
    }

    fn text(&mut self, node: &Node) -> Option<Value> {
        let Kind::Scalar(Scalar { text, .. }) = &node.kind else { return self.wrong(node, "text") };
        let read_as = match meaning(node) {
            // Some tools of YAML 1.1 read these as truth values, others do not.
            Meaning::Text if is_plain(node) && matches!(&**text, "y" | "Y" | "n" | "N") => {
                "true or false in some tools".into()
            }
            Meaning::Text => return Some(Value::from(text.clone())),
            Meaning::Null => return self.wrong(node, "text"),
            Meaning::Bool(value) => format!("{value}"),
            Meaning::Number(number) => format!("the number {number}"),
        };
        let diagnostic =
            FileDiagnostic::at(&node.span, format!("expected text, found `{text}`, which YAML reads as {read_as}"));
        self.diagnostics.push(diagnostic.with_help(format!("quote it: \"{text}\"")));
        None
    }

    fn integer(&mut self, node: &Node, schema: &Value) -> Option<Value> {
        let Meaning::Number(number) = meaning(node) else { return self.wrong(node, "a whole number") };
        let (Some(found), Some(min), max) = (number.as_i64(), schema["minimum"].as_i64(), schema["maximum"].as_i64())
        else {
            return self.wrong(node, "a whole number");
        };
        let max = max.unwrap_or(i64::from(u32::MAX));
        if !(min..=max).contains(&found) {
            return self.wrong(node, &format!("a whole number from {min} to {max}"));
        }
        Some(found.into())
    }

    fn choice(&mut self, node: &Node, choices: &[&str]) -> Option<Value> {
        let text = node.text().unwrap_or_default();
        if choices.contains(&text) {
            return Some(Value::from(text));
        }
        let expected = choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(" or ");
        let diagnostic = FileDiagnostic::at(&node.span, format!("expected {expected}, found {}", found(node)));
        let near = nearest(text, choices.iter().copied()).filter(|_| choices.len() > 1);
        self.diagnostics.push(match near {
            Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
            None => diagnostic,
        });
        None
    }

    /// Reports a field that the schema does not have; returns the one that was meant, if one is near.
    fn unknown_field(&mut self, key: &Key, known: impl Iterator<Item = &'r str> + Clone) -> Option<&'r str> {
        let near = nearest(&key.text, known.clone());
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("the fields are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            }
        };
        self.diagnostics.push(FileDiagnostic::at(&key.span, format!("unknown field `{}`", key.text)).with_help(help));
        near
    }

    fn wrong(&mut self, node: &Node, expected: &str) -> Option<Value> {
        self.diagnostics.push(FileDiagnostic::at(&node.span, format!("expected {expected}, found {}", found(node))));
        None
    }

    /// Follows `$ref`, and `anyOf` of an optional value or of a list and a mapping.
    fn resolve(&self, mut schema: &'r Value, node: &Node) -> &'r Value {
        let is_list = |one: &&Value| one["type"] == "array";
        let wants_list = !matches!(node.kind, Kind::Mapping(_));
        loop {
            if let Some(reference) = schema["$ref"].as_str() {
                schema = self.root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
            } else if let Some(any) = schema["anyOf"].as_array() {
                let mut some = any.iter().filter(|one| one["type"] != "null");
                let first = some.clone().next();
                schema = some.find(|one| is_list(one) == wants_list).or(first).unwrap_or(&Value::Null);
            } else {
                return schema;
            }
        }
    }
}

fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.text.is_empty() => "nothing".into(),
        Kind::Scalar(scalar) => format!("`{}`", scalar.text.lines().next().unwrap_or_default()),
        Kind::Sequence(_) => "a list".into(),
        Kind::Mapping(_) => "a mapping".into(),
    }
}

fn meaning(node: &Node) -> Meaning {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.meaning(),
        _ => Meaning::Text,
    }
}

fn is_plain(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(Scalar { plain: true, .. }))
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(scalar) if scalar.meaning() == Meaning::Null)
}

fn allows_null(schema: &Value) -> bool {
    schema["type"].as_array().is_some_and(|types| types.iter().any(|one| one == "null"))
}

fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|one| *one != "null").unwrap_or_default(),
        one => one.as_str().unwrap_or_default(),
    }
}

/// The texts that an enum allows.
fn choices(schema: &Value) -> Vec<&str> {
    let consts = |list: &'static str| schema[list].as_array().into_iter().flatten();
    consts("enum")
        .filter_map(Value::as_str)
        .chain(consts("oneOf").flat_map(|one| {
            let several = one["enum"].as_array().into_iter().flatten();
            one["const"].as_str().into_iter().chain(several.filter_map(Value::as_str))
        }))
        .chain(schema["const"].as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use routing_plan::plan::{RoutingPlan, RoutingVariant, schema};

    use super::*;

    /// Keywords that decide what fits, each followed in this file.
    const FOLLOWED: &[&str] = &[
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "enum",
        "items",
        "maximum",
        "minimum",
        "oneOf",
        "properties",
        "required",
        "type",
    ];
    /// Keywords that say something to people or editors.
    const ANNOTATIONS: &[&str] = &["$defs", "$schema", "description", "format", "title"];

    fn keywords<'s>(schema: &'s Value, found: &mut BTreeSet<&'s str>) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            found.insert(keyword);
            match (&**keyword, value) {
                ("properties" | "$defs", Value::Object(schemas)) => {
                    schemas.values().for_each(|schema| keywords(schema, found));
                }
                ("default" | "const" | "enum", _) => {}
                (_, Value::Array(schemas)) => schemas.iter().for_each(|schema| keywords(schema, found)),
                (_, schema) => keywords(schema, found),
            }
        }
    }

    #[test]
    fn every_keyword_of_the_published_schemas_is_known() {
        // The plan's schema contains the policy's.
        let schemas = [schema::<RoutingPlan>(), schema::<RoutingVariant>()];
        let mut found = BTreeSet::new();
        for schema in &schemas {
            keywords(schema, &mut found);
        }
        let known = |keyword: &&str| FOLLOWED.contains(keyword) || ANNOTATIONS.contains(keyword);
        let unknown: Vec<_> = found.iter().filter(|keyword| !known(keyword)).collect();
        assert!(unknown.is_empty(), "the walker does not follow {unknown:?}");
        assert!(found.contains("minimum") && found.contains("required"), "{found:?}");
    }
}
