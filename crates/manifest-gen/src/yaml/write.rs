//! JSON values to YAML text that every YAML reader reads as the same values.

use std::fmt::Write;

use serde_json::Value;

use super::{Meaning, Scalar};

/// Writes a value as a block: fields in order of name, texts of several lines as literal blocks.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(&mut out, value, 0),
        _ => {
            inline(&mut out, value, 0);
            out.push('\n');
        }
    }
    out
}

/// Writes a value as a document that can follow another one.
#[must_use]
pub fn document(value: &Value) -> String {
    format!("---\n{}", write(value))
}

/// Writes the entries of a mapping or the items of a list on lines of their own. The first begins at the end of `out`.
fn block(out: &mut String, value: &Value, indent: usize) {
    let mut first = true;
    let mut begin = |out: &mut String| {
        if !std::mem::take(&mut first) {
            push_indent(out, indent);
        }
    };
    match value {
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                begin(out);
                text(out, key);
                out.push(':');
                match value {
                    Value::Object(_) if !is_empty(value) => {
                        out.push('\n');
                        push_indent(out, indent + 2);
                        block(out, value, indent + 2);
                    }
                    Value::Array(_) if !is_empty(value) => {
                        out.push('\n');
                        push_indent(out, indent);
                        block(out, value, indent);
                    }
                    _ => {
                        out.push(' ');
                        inline(out, value, indent + 2);
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                begin(out);
                out.push_str("- ");
                if is_empty(item) || !(item.is_object() || item.is_array()) {
                    inline(out, item, indent + 2);
                    out.push('\n');
                } else {
                    block(out, item, indent + 2);
                }
            }
        }
        _ => {}
    }
}

/// Writes a value that begins on the current line; the lines after it are indented.
fn inline(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(value) if is_literal(value) => {
            out.push('|');
            // Without the number, a reader would take the spaces at the start for indentation.
            if value.starts_with([' ', '\n']) {
                out.push('2');
            }
            let body = value.strip_suffix('\n');
            match body {
                None => out.push('-'),
                Some(body) if body.ends_with('\n') => out.push('+'),
                Some(_) => {}
            }
            for line in body.unwrap_or(value).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    push_indent(out, indent);
                    out.push_str(line);
                }
            }
        }
        Value::String(value) => text(out, value),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn text(out: &mut String, value: &str) {
    if is_plain(value) {
        out.push_str(value);
    } else if value.contains(['"', '\\']) && value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        // JSON in a text stays readable.
        out.push('\'');
        out.push_str(&value.replace('\'', "''"));
        out.push('\'');
    } else {
        // A JSON string is a YAML string, if what YAML does not print or takes for a line break is escaped.
        for c in Value::from(value).to_string().chars() {
            match c {
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                    // Writing to a string can't fail.
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
    }
}

/// Whether the text needs no quotes in any YAML version.
fn is_plain(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && value.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./: ".contains(&byte))
        && !value.contains(": ")
        && !value.starts_with(|c: char| c.is_ascii_digit())
        && Scalar { text: value.into(), plain: true }.meaning() == Meaning::Text
}

/// Whether a text is of several lines, and a literal block can hold all its characters.
fn is_literal(value: &str) -> bool {
    let is_printable = |c: char| matches!(c, '\t' | '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let is_break = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let has_lines = value.trim_matches('\n').contains('\n') && value.contains(|c: char| !c.is_whitespace());
    has_lines && value.chars().all(|c| is_printable(c) && !is_break(c))
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::yaml::{self, File};

    #[test]
    fn reads_well() {
        let value =
            json!({"b": [{"x": 1, "y": ["a", []]}, {}], "a": "no", "c": "1.10", "d": "x\ny\n", "e": null, "f": "a: b"});
        assert_eq!(
            write(&value),
            "a: \"no\"\nb:\n- x: 1\n  \"y\":\n  - a\n  - []\n- {}\nc: \"1.10\"\nd: |\n  x\n  y\ne: null\nf: \"a: b\"\n"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            ".{0,12}",
            "[a-z :#\n'\"-]{0,9}",
            "(yes|no|~|null|1e3|0x1|- a|a: b|\\? x)",
            "( ?[a-z]{0,3}\n){0,4}[a-z ]{0,3}"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[a-z: -]{0,5}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(value in values()) {
            let text = write(&json!({ "v": value }));
            let documents = yaml::read(&Arc::new(File { name: String::new(), text: text.clone() }));
            let documents = documents.map_err(|errors| TestCaseError::fail(format!("{errors:?}\n{text}")))?;
            prop_assert_eq!(documents[0].to_json(), json!({ "v": value }), "{}", text);
        }
    }
}
