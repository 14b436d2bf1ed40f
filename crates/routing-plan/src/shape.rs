//! Checks a document against the JSON Schema of the type it is to become, so that the schema users get is the one that
//! is followed, and all that does not fit is told at once, each with its place.

use serde_json::{Map, Value};

use crate::{
    problem::{Problem, nearest},
    yaml::{Key, Kind, Meaning, Node, Place, Scalar},
};

/// Reads a document as JSON that fits the schema. What does not fit is added to `problems` and left out.
pub(crate) fn read(node: &Node, schema: &Value, problems: &mut Vec<Problem>) -> Value {
    Reader { root: schema, problems }.value(node, schema, &node.place).unwrap_or(Value::Null)
}

struct Reader<'r> {
    root: &'r Value,
    problems: &'r mut Vec<Problem>,
}

impl<'r> Reader<'r> {
    /// `above`: where the value's key stands, for what is missing in it.
    fn value(&mut self, node: &Node, schema: &'r Value, above: &Place) -> Option<Value> {
        let schema = self.resolve(schema);
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
                _ => self.wrong(node, "`true` or `false` is needed"),
            },
            _ => Some(node.to_json()),
        }
    }

    fn object(&mut self, node: &Node, schema: &'r Value, above: &Place) -> Option<Value> {
        let Kind::Mapping(entries) = &node.kind else {
            return self.wrong(node, "fields are needed (`name: value` lines)");
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
            if !default && let Some(value) = self.value(value, field, &key.place) {
                object.insert(key.text.clone(), value);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none() && !meant.contains(&name) {
                let explanation = property(name).and_then(|field| field["description"].as_str());
                let problem = Problem::at(above, format!("the field `{name}` is missing"));
                let help = explanation.map(|text| format!("{name}: {}", text.replace('\n', " ")));
                self.problems.push(Problem { help, ..problem });
            }
        }
        Some(Value::Object(object))
    }

    fn array(&mut self, node: &Node, schema: &'r Value) -> Option<Value> {
        let Kind::Sequence(items) = &node.kind else {
            return self.wrong(node, "a list is needed (`- item` lines or `[item, item]`)");
        };
        let items = items.iter().map(|item| self.value(item, &schema["items"], &item.place).unwrap_or(Value::Null));
        Some(items.collect())
    }

    fn text(&mut self, node: &Node) -> Option<Value> {
        let Kind::Scalar(Scalar { text, .. }) = &node.kind else { return self.wrong(node, "text is needed") };
        let read_as = match meaning(node) {
            // Some tools of YAML 1.1 read these as truth values, others do not.
            Meaning::Text if is_plain(node) && matches!(&**text, "y" | "Y" | "n" | "N") => {
                "true or false by some tools".into()
            }
            Meaning::Text => return Some(Value::from(text.clone())),
            Meaning::Null => return self.wrong(node, "nothing stands here, text is needed"),
            Meaning::Bool(value) => format!("{value}"),
            Meaning::Number(number) => format!("the number {number}"),
        };
        let problem = Problem::at(&node.place, format!("YAML reads `{text}` as {read_as}, text is needed"));
        self.problems.push(problem.help(format!("write \"{text}\" with quotes")));
        None
    }

    fn integer(&mut self, node: &Node, schema: &Value) -> Option<Value> {
        let Meaning::Number(number) = meaning(node) else { return self.wrong(node, "a whole number is needed") };
        let (Some(found), Some(min), max) = (number.as_i64(), schema["minimum"].as_i64(), schema["maximum"].as_i64())
        else {
            return self.wrong(node, "a whole number is needed");
        };
        let max = max.unwrap_or(i64::from(u32::MAX));
        if !(min..=max).contains(&found) {
            return self.wrong(node, &format!("a whole number from {min} to {max} is needed"));
        }
        Some(found.into())
    }

    fn choice(&mut self, node: &Node, choices: &[&str]) -> Option<Value> {
        let text = node.text().unwrap_or_default();
        if choices.contains(&text) {
            return Some(Value::from(text));
        }
        let allowed = choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(" or ");
        let problem = Problem::at(&node.place, format!("{}, allowed is {allowed}", found(node)));
        let near = nearest(text, choices.iter().copied()).filter(|_| choices.len() > 1);
        self.problems.push(match near {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
        None
    }

    /// Says which field was meant, if one is near.
    fn unknown_field(&mut self, key: &Key, known: impl Iterator<Item = &'r str> + Clone) -> Option<&'r str> {
        let near = nearest(&key.text, known.clone());
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("the fields here are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            }
        };
        self.problems.push(Problem::at(&key.place, format!("there is no field `{}`", key.text)).help(help));
        near
    }

    fn wrong(&mut self, node: &Node, needed: &str) -> Option<Value> {
        self.problems.push(Problem::at(&node.place, format!("{}: {needed}", found(node))));
        None
    }

    /// Follows `$ref` and the `anyOf` of an optional value.
    fn resolve(&self, mut schema: &'r Value) -> &'r Value {
        loop {
            if let Some(reference) = schema["$ref"].as_str() {
                schema = self.root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
            } else if let Some(some) =
                schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"))
            {
                schema = some;
            } else {
                return schema;
            }
        }
    }
}

fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.text.is_empty() => "found nothing".into(),
        Kind::Scalar(scalar) => format!("found `{}`", scalar.text.lines().next().unwrap_or_default()),
        Kind::Sequence(_) => "found a list".into(),
        Kind::Mapping(_) => "found fields".into(),
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
