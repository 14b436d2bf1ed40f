//! Schemas of Rust types, in the form that an API server takes: a structural schema of `OpenAPI` 3.0.

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Map, Value, json};

/// The structural schema of a type.
pub(super) fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings.with_transform(RecursiveTransform(simplify)).into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// What is at a path such as `spec.services[].name` in a schema of an object.
pub(super) fn at<'s>(schema: &'s mut Value, path: &str) -> &'s mut Value {
    path.split('.').filter(|step| !step.is_empty()).fold(schema, |schema, step| {
        let name = step.trim_end_matches("[]");
        let field = &mut schema["properties"][name];
        assert!(field.is_object(), "the schema has no field `{name}` of `{path}`");
        if step.ends_with("[]") { &mut field["items"] } else { field }
    })
}

/// Makes a list one whose items several appliers own, each its own: those with the same values in the fields are one.
pub(super) fn merge_by(schema: &mut Value, path: &str, fields: &[&str]) {
    let list = at(schema, path);
    list["x-kubernetes-list-type"] = json!("map");
    list["x-kubernetes-list-map-keys"] = json!(fields);
}

/// Lets a field have other texts than those of today. A newer controller may write them, and Helm does not upgrade definitions.
pub(super) fn open_enum(schema: &mut Value, path: &str) {
    let field = at(schema, path).as_object_mut();
    assert!(field.is_some_and(|field| field.remove("enum").is_some()), "the schema has no enum at `{path}`");
}

/// Brings a schema into the form: an optional value is one that may be missing, an enum is a list of texts.
fn simplify(schema: &mut Schema) {
    let fields = schema.ensure_object();
    // A missing field has its default where it is read, so that an object stays as its author wrote it. The API server drops a
    // null of a field that is not nullable.
    for keyword in ["title", "default", "nullable"] {
        fields.remove(keyword);
    }
    // An API server knows `int32` and `int64`; the range says more.
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        fields.remove("format");
    }
    // It refuses or drops unknown fields by itself.
    if fields.contains_key("properties") {
        fields.remove("additionalProperties");
    }
    if let Some(value) = present_value(fields) {
        fields.remove("anyOf");
        for (keyword, of_value) in value {
            fields.entry(keyword).or_insert(of_value);
        }
    }
    if let Some(texts) = texts(fields) {
        fields.remove("oneOf");
        fields.insert("type".to_owned(), json!("string"));
        fields.insert("enum".to_owned(), texts);
    }
}

/// Of an optional value, the schema of the value.
fn present_value(fields: &Map<String, Value>) -> Option<Map<String, Value>> {
    match fields.get("anyOf")?.as_array()?.as_slice() {
        [value, null] if null["enum"] == json!([null]) => value.as_object().cloned(),
        _ => None,
    }
}

/// Of an enum whose texts are described one by one, the texts.
fn texts(fields: &Map<String, Value>) -> Option<Value> {
    let each = fields.get("oneOf")?.as_array()?.iter().map(|one| one["enum"].as_array().cloned());
    each.collect::<Option<Vec<_>>>().map(|lists| lists.concat().into())
}
