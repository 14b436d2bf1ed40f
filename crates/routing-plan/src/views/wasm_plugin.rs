//! Istio's `WasmPlugin`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    reader::{Field, Fields, ReadFields},
    selector::{LabelSelector, TargetRef},
};
use crate::diagnostic::FieldPath;

/// Its `spec`.
#[derive(Debug, Clone)]
pub(crate) struct WasmPlugin {
    pub(crate) selector: Field<LabelSelector>,
    pub(crate) target_ref: Field<TargetRef>,
    pub(crate) target_refs: Field<Vec<TargetRef>>,
    pub(crate) matches: Field<Vec<TrafficSelector>>,
    pub(crate) phase: Field<String>,
    pub(crate) module: WasmModule,
}

/// A module and what it is told, as a `WasmPlugin` and a `TrafficExtension` have it.
#[derive(Debug, Clone)]
pub(crate) struct WasmModule {
    pub(crate) url: Field<String>,
    pub(crate) sha256: Field<String>,
    pub(crate) fail_strategy: Field<String>,
    pub(crate) kind: Field<String>,
    pub(crate) plugin_config: Field<BTreeMap<String, Value>>,
    pub(crate) path: FieldPath,
}

/// Requests that an extension is for.
#[derive(Debug, Clone)]
pub(crate) struct TrafficSelector {
    pub(crate) mode: Field<String>,
    pub(crate) ports: Field<Vec<PortSelector>>,
    pub(crate) path: FieldPath,
}

impl ReadFields for WasmPlugin {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["priority"]);
        Self {
            selector: fields.field("selector"),
            target_ref: fields.field("targetRef"),
            target_refs: fields.field("targetRefs"),
            matches: fields.field("match"),
            phase: fields.field("phase"),
            module: WasmModule::read_fields(fields),
        }
    }
}

impl ReadFields for WasmModule {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.inert(&["imagePullPolicy", "imagePullSecret", "pluginName", "verificationKey", "vmConfig"]);
        Self {
            url: fields.field("url"),
            sha256: fields.field("sha256"),
            fail_strategy: fields.field("failStrategy"),
            kind: fields.field("type"),
            plugin_config: fields.field("pluginConfig"),
            path: fields.path(),
        }
    }
}

/// A port of a listener.
#[derive(Debug, Clone)]
pub(crate) struct PortSelector {
    pub(crate) number: Field<u64>,
}

impl ReadFields for PortSelector {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { number: fields.field("number") }
    }
}

impl ReadFields for TrafficSelector {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self { mode: fields.field("mode"), ports: fields.field("ports"), path: fields.path() }
    }
}
