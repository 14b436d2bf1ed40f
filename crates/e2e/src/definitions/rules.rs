//! What the definitions say: their rules and their fields.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use e2e::Cluster;
use serde_json::Value;

/// The custom resource definitions.
pub(super) struct Definitions {
    /// Every rule.
    pub(super) rules: Vec<Rule>,
    /// Kinds with the paths of their fields, such as `.spec.services[].name`.
    fields: BTreeSet<(String, String)>,
}

/// A rule about a field.
#[derive(Debug)]
pub(super) struct Rule {
    /// Where the API server says that it is broken, in the first item of each list.
    path: String,
    /// The longest text of its message.
    words: String,
}

impl Rule {
    /// Whether a cause of a refusal is this rule.
    pub(super) fn is_in(&self, cause: &str) -> bool {
        cause.starts_with(&format!("{}: ", self.path)) && cause.contains(&self.words)
    }
}

impl Definitions {
    /// Reads all definitions of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut definitions = Self { rules: Vec::new(), fields: BTreeSet::new() };
        for entry in fs::read_dir(folder)? {
            // Beside them is a kustomization.
            let documents = Cluster::documents(&fs::read_to_string(entry?.path())?)?;
            for definition in documents.iter().filter(|one| one["kind"] == "CustomResourceDefinition") {
                let kind = definition["spec"]["names"]["kind"].as_str().context("a definition has a kind")?;
                let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
                definitions.walk(kind, schema, "")?;
            }
        }
        Ok(definitions)
    }

    fn walk(&mut self, kind: &str, schema: &Value, path: &str) -> Result<()> {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let path = format!("{path}{}", rule["fieldPath"].as_str().unwrap_or_default());
            let path = path.trim_start_matches('.').replace("[]", "[0]");
            let words = match (&rule["message"], &rule["messageExpression"]) {
                (Value::String(message), _) => message.clone(),
                (_, Value::String(expression)) => longest_text(expression)?,
                _ => String::new(),
            };
            self.rules.push(Rule { path, words });
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if path.starts_with(".spec.") || path.starts_with(".status.") {
                self.fields.insert((kind.to_owned(), path.clone()));
            }
            self.walk(kind, field, &path)?;
        }
        match schema.get("items") {
            Some(items) => self.walk(kind, items, &format!("{path}[]")),
            None => Ok(()),
        }
    }

    /// The fields of `spec` or `status` that none of the objects has, but for those that are refused.
    pub(super) fn fields_without_example(&self, part: &str, objects: &[Value]) -> Vec<&str> {
        let (mut found, start) = (BTreeSet::new(), format!(".{part}."));
        for object in objects {
            let kind = object["kind"].as_str().unwrap_or_default();
            collect(kind, &object[part], &format!(".{part}"), &mut found);
        }
        let missing = self.fields.iter().filter(|field| field.1.starts_with(&start) && !found.contains(field));
        missing.map(|(_, path)| &**path).filter(|path| !REFUSED.contains(path)).collect()
    }
}

fn collect(kind: &str, value: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                found.insert((kind.to_owned(), path.clone()));
                collect(kind, value, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(kind, item, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The longest of the texts in quotes of an expression.
fn longest_text(expression: &str) -> Result<String> {
    let mut texts = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find('"') {
        let mut stream = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        texts.push(stream.next().context("a text in quotes")??);
        rest = &rest[start + stream.byte_offset()..];
    }
    texts.into_iter().max_by_key(String::len).with_context(|| format!("no text in {expression}"))
}

/// Fields that an object in a cluster can't have: of files, and of what comes from another field.
const REFUSED: &[&str] = &[
    ".spec.filter.wasm.inline",
    ".spec.policy.services",
    ".spec.policy.services[].header",
    ".spec.policy.services[].name",
    ".spec.services[].base",
];
