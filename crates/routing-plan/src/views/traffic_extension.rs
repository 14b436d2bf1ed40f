//! Istio's `TrafficExtension`.

use super::{
    reader::{Field, Fields, ReadFields},
    selector::{LabelSelector, TargetRef},
    wasm_plugin::{TrafficSelector, WasmModule},
};
use crate::diagnostic::FieldPath;

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct TrafficExtension {
    pub(crate) selector: Field<LabelSelector>,
    pub(crate) target_refs: Field<Vec<TargetRef>>,
    pub(crate) matches: Field<Vec<TrafficSelector>>,
    pub(crate) phase: Field<String>,
    pub(crate) lua: Field<LuaCode>,
    pub(crate) wasm: Field<WasmModule>,
}

/// A script.
#[derive(Debug, Clone)]
pub(crate) struct LuaCode {
    pub(crate) inline_code: Field<String>,
    pub(crate) path: FieldPath,
}

impl ReadFields for TrafficExtension {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["priority"]);
        Self {
            selector: fields.field("selector"),
            target_refs: fields.field("targetRefs"),
            matches: fields.field("match"),
            phase: fields.field("phase"),
            lua: fields.field("lua"),
            wasm: fields.field("wasm"),
        }
    }
}

impl ReadFields for LuaCode {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { inline_code: fields.field("inlineCode"), path: fields.path() }
    }
}
