//! What the controller writes into the status of plans and variants.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Status of a `RoutingPlan`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanStatus {
    /// The `metadata.generation` that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the plan is valid; otherwise the last valid one stays in force. `Applied`: its resources are in the cluster.
    pub conditions: Vec<Condition>,
    /// How many services and variants there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The variants, those with a problem first; at most 256.
    pub variants: Vec<VariantEntry>,
    /// How many variants are not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variants_omitted: Option<u32>,
}

/// How many services and variants a plan has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Services of the plan.
    pub services: u32,
    /// Variants that ask to be routed, with or without success.
    pub variants: u32,
    /// Variants that are routed.
    pub routed: u32,
    /// Variants that are refused, and whatever else is wrong.
    pub problems: u32,
}

/// A variant in the status of its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VariantEntry {
    /// The service in the plan.
    pub service: String,
    /// The version, as tokens name it.
    pub variant: String,
    /// Where its requests go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The object that it comes from, such as `Service shop/pr-1`; `RoutingPlan` for a variant in the plan itself.
    pub source: String,
    /// What becomes of it.
    pub state: VariantPhase,
    /// How many endpoints are ready, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_endpoints: Option<u32>,
    /// When it expires (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Why it is not routed, with the path of the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What becomes of a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VariantPhase {
    /// Its route is in the cluster, or will be within moments.
    Routed,
    /// It has no ready endpoint, so main answers.
    #[default]
    NotReady,
    /// Its time is over.
    Expired,
    /// Its Service or its object is being deleted.
    Deleting,
    /// An older object claims the same variant.
    Conflict,
    /// Something in it is wrong or not allowed.
    Refused,
}

/// Status of a `RoutingVariant`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VariantStatus {
    /// The `metadata.generation` that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The plan, as `namespace/name`, if one has the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What becomes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<VariantPhase>,
    /// How many endpoints are ready, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_endpoints: Option<u32>,
    /// Why it is not routed, with the path of the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
