//! The custom resource definitions: the types of plans and variant files, as an API server checks them.
//!
//! What an API server refuses, `manifest-gen` refuses too, with the same words, but for three things that are only for
//! clusters: the sizes in `bounds.rs`, files, and the older form of `authentication`. What is more than a look at a few fields
//! stays with the controller, which says it in the object's status.

mod bounds;
mod rules;
mod schema;

use routing_plan::plan::{IssuerSpec, PlanSpec, VariantSpec};
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::{
    kinds::{self, Kind},
    objects::{PlanStatus, VariantStatus},
    status::MAX_LISTED,
};

/// The definitions of `RoutingPlan` and `RoutingVariant`, as `apiextensions.k8s.io/v1`.
#[must_use]
pub fn all() -> [Value; 2] {
    [plan(), variant()]
}

fn plan() -> Value {
    let description = "Which services have variants, and what makes the mesh route to them.";
    let mut schema = object::<PlanSpec, PlanStatus>(description);
    // The older form, one issuer without a list, has no structural schema.
    let authentication = schema::at(&mut schema, "spec.authentication");
    let described = authentication["description"].take();
    *authentication = schema::structural::<Vec<IssuerSpec>>();
    authentication["description"] = described;
    for (path, keys) in [
        ("spec.authentication", ["issuer"]),
        ("spec.services", ["name"]),
        ("spec.services[].variants", ["name"]),
        ("status.conditions", ["type"]),
    ] {
        schema::merge_by(&mut schema, path, &keys);
    }
    bounds::limit(schema::at(&mut schema, "spec"), "spec");
    schema::open_enum(&mut schema, "status.variants[].state");
    schema::at(&mut schema, "status.variants")["maxItems"] = json!(MAX_LISTED);
    rules::add(&mut schema, &rules::plan());
    rules::add_forms(&mut schema);
    definition(
        kinds::PLAN,
        "rplan",
        &schema,
        &[
            column("Services", "integer", ".status.counts.services"),
            column("Variants", "integer", ".status.counts.variants"),
            column("Routed", "integer", ".status.counts.routed"),
            column("Problems", "integer", ".status.counts.problems"),
            column("Accepted", "string", r#".status.conditions[?(@.type=="Accepted")].status"#),
            column("Applied", "string", r#".status.conditions[?(@.type=="Applied")].status"#),
            wide(column("Message", "string", r#".status.conditions[?(@.type=="Accepted")].message"#)),
            age(),
        ],
    )
}

fn variant() -> Value {
    let description = "One variant of one service, so that two pull requests never edit the same object.";
    let mut schema = object::<VariantSpec, VariantStatus>(description);
    bounds::limit(schema::at(&mut schema, "spec"), "spec");
    schema::open_enum(&mut schema, "status.state");
    rules::add(&mut schema, &rules::variant());
    definition(
        kinds::VARIANT,
        "rvariant",
        &schema,
        &[
            column("Service", "string", ".spec.service"),
            column("Variant", "string", ".spec.variant"),
            column("State", "string", ".status.state"),
            column("Expires", "string", ".spec.expiresAt"),
            wide(column("Plan", "string", ".status.plan")),
            wide(column("Problem", "string", ".status.problem")),
            age(),
        ],
    )
}

/// The schema of an object with this spec and this status.
fn object<Spec: JsonSchema, Status: JsonSchema>(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            // A rule's `fieldPath` needs the field.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": schema::structural::<Spec>(),
            "status": schema::structural::<Status>(),
        },
        "required": ["spec"],
    })
}

fn definition(Kind { group, kind, plural }: Kind, short: &str, schema: &Value, columns: &[Value]) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_ascii_lowercase(),
                "shortNames": [short],
                "categories": ["routing-claims"],
            },
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// A column of `kubectl get`.
fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

/// The same only with `-o wide`.
fn wide(mut column: Value) -> Value {
    column["priority"] = json!(1);
    column
}

fn age() -> Value {
    column("Age", "date", ".metadata.creationTimestamp")
}
