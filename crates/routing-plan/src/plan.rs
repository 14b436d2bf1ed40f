//! Files to a plan and its fragments, with places. What it all means together, [`model`](crate::model) judges.

use std::{collections::BTreeMap, sync::Arc};

use routing_claims::PolicyConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    problem::{Problem, nearest},
    shape,
    yaml::{self, File, Kind, Node},
};

/// What to route, and how the mesh is told.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingPlan {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// Tells a plan from a fragment.
    pub kind: PlanKind,
    /// What the plan is called.
    pub metadata: PlanMetadata,
    /// What to route, and how.
    pub spec: PlanSpec,
}

/// One variant of one service, in a file of its own, so that two pull requests never edit the same file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingVariant {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// Tells a fragment from a plan.
    pub kind: VariantKind,
    /// What the fragment is called.
    pub metadata: VariantMetadata,
    /// The variant.
    pub spec: VariantSpec,
}

/// Version of the plan's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one there is.
    #[serde(rename = "routing-claims.dev/v1alpha1")]
    V1Alpha1,
}

/// Kind of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlanKind {
    /// A plan.
    RoutingPlan,
}

/// Kind of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VariantKind {
    /// A fragment.
    RoutingVariant,
}

/// Name and place of what is generated.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanMetadata {
    /// A DNS label; names what is generated.
    pub name: String,
    /// Where filter resources go; Istio's root namespace (`istio-system`) means the whole mesh.
    pub namespace: String,
}

/// Name of a fragment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VariantMetadata {
    /// A DNS name, for people.
    pub name: String,
}

/// What to route, and how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanSpec {
    /// What the filter does with a token. Its `services` come from this plan's `services`.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// The filter that turns claims into headers.
    pub filter: FilterSpec,
    /// What routes by the headers.
    #[serde(default)]
    pub routes: RoutesSpec,
    /// Emit the gateway's `RequestAuthentication`: the filter itself verifies no signature.
    pub authentication: Option<AuthenticationSpec>,
    /// The services that have variants.
    pub services: Vec<ServiceSpec>,
}

/// The filter that turns claims into headers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterSpec {
    /// What runs in the proxy.
    pub engine: Engine,
    /// What carries it there.
    #[serde(default)]
    pub resource: FilterResource,
    /// Oldest Istio that must read the output, such as "1.27"; what it lacks is an error.
    pub istio_version: String,
    /// The module, with `engine: wasm`.
    pub wasm: Option<WasmSpec>,
    /// Workloads whose outbound requests are routed; default: those labelled `routing-claims.dev/router: enabled`.
    pub workloads: Option<Selector>,
    /// Gateways that route the first hop; default: none.
    pub gateways: Option<Selector>,
}

/// What runs in the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// Envoy's Lua filter; needs no registry.
    Lua,
    /// The WebAssembly module.
    Wasm,
}

/// What carries the filter to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum FilterResource {
    /// For both engines.
    #[default]
    EnvoyFilter,
    /// For `wasm`.
    WasmPlugin,
    /// For both engines, Istio 1.30 or later.
    TrafficExtension,
}

/// Where the WebAssembly module is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasmSpec {
    /// `oci://`, `https://`, `http://` or `file://` (in the proxy's container).
    pub url: Option<String>,
    /// SHA-256 of the module, 64 hex digits.
    pub sha256: Option<String>,
    /// File with the module, from the plan's folder, to carry in an `EnvoyFilter`; needs no registry.
    pub inline: Option<String>,
    /// When the module crashes; default: `FAIL_RELOAD` where Istio has it, else `FAIL_CLOSE`.
    pub fail_strategy: Option<FailStrategy>,
}

/// What the proxy does when the module crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailStrategy {
    /// Every request gets 503.
    FailClose,
    /// Requests pass unfiltered: headers can be spoofed.
    FailOpen,
    /// The module is started anew, Istio 1.27 or later (in an `EnvoyFilter`: 1.25).
    FailReload,
}

/// Workloads by label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// All of these labels; empty: every workload.
    pub match_labels: BTreeMap<String, String>,
}

/// What routes by the headers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutesSpec {
    /// Kind of the resource.
    #[serde(default)]
    pub resource: RouteResource,
}

/// Kind of the resource that routes by the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RouteResource {
    /// Istio's own.
    #[default]
    VirtualService,
    /// The Gateway API's, with the Service as parent.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
}

/// The issuer whose tokens the gateway verifies.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationSpec {
    /// The token's `iss`.
    pub issuer: String,
    /// URL of the issuer's keys.
    pub jwks_uri: String,
}

/// A service that has variants.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// The claim's key.
    pub name: String,
    /// The header that carries the version; default: the name in lower case.
    pub header: Option<String>,
    /// Namespace of the service and its routes.
    pub namespace: String,
    /// Host of the main version; default: `<name>.<namespace>.svc.cluster.local` in lower case.
    pub host: Option<String>,
    /// Port of the destinations.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Gateways to bind the `VirtualService` to besides the mesh, `namespace/name`.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Public hosts at these gateways.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Host of a variant that names none; default: `{variant}.{namespace}.svc.cluster.local`. In lower case.
    pub variant_host: Option<String>,
    /// File with your own `VirtualService`, from the plan's folder, to weave the variants into.
    pub base: Option<String>,
    /// Variants; fragments add to them.
    #[serde(default)]
    pub variants: Vec<InlineVariant>,
}

/// A variant in the plan itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InlineVariant {
    /// The version, as tokens name it.
    pub name: String,
    /// Host of the variant; default: by the service's `variantHost`.
    pub host: Option<String>,
    /// When it is to go, RFC 3339.
    pub expires_at: Option<String>,
}

/// A variant in a fragment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VariantSpec {
    /// Name of the service in the plan.
    pub service: String,
    /// The version, as tokens name it.
    pub variant: String,
    /// Host of the variant; default: by the service's `variantHost`.
    pub host: Option<String>,
    /// When it is to go, RFC 3339.
    pub expires_at: Option<String>,
}

/// Something read, with the document it was read from.
#[derive(Debug, Clone)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// With the places.
    pub node: Node,
}

/// A plan and its fragments, in any order.
#[derive(Debug, Clone)]
pub struct Input {
    /// The plan.
    pub plan: Read<RoutingPlan>,
    /// The fragments.
    pub fragments: Vec<Read<RoutingVariant>>,
}

/// Reads files that together hold one plan and any number of fragments.
///
/// # Errors
///
/// Everything in all files that is no YAML or does not fit the types.
pub fn read(files: &[Arc<File>]) -> Result<Input, Vec<Problem>> {
    let mut plans = Vec::new();
    let mut plan_nodes = Vec::new();
    let Documents { fragments, plans: found, mut problems } = documents(files);
    for Read { value, node } in found {
        plan_nodes.push(node.place.clone());
        plans.extend(value.map(|value| Read { value, node }));
    }
    if let [first, others @ ..] = &plan_nodes[..] {
        problems
            .extend(others.iter().map(|other| Problem::at(other, "a second plan").also(first, "the first is here")));
    } else if problems.is_empty() {
        let names = files.iter().map(|file| &*file.name).collect::<Vec<_>>().join(", ");
        problems.push(
            Problem::new(format!("no plan in {}", if names.is_empty() { "no files" } else { &names }))
                .help("give the file with `kind: RoutingPlan` with `-f`"),
        );
    }
    match plans.pop() {
        Some(plan) if problems.is_empty() => Ok(Input { plan, fragments }),
        _ => Err(problems),
    }
}

/// What files hold, plans that did not fit as `None`.
struct Documents {
    plans: Vec<Read<Option<RoutingPlan>>>,
    fragments: Vec<Read<RoutingVariant>>,
    problems: Vec<Problem>,
}

/// Reads the fragments of files, and passes over plans.
///
/// # Errors
///
/// As [`read`].
pub fn fragments(files: &[Arc<File>]) -> Result<Vec<Read<RoutingVariant>>, Vec<Problem>> {
    let Documents { fragments, problems, .. } = documents(files);
    if problems.is_empty() { Ok(fragments) } else { Err(problems) }
}

fn documents(files: &[Arc<File>]) -> Documents {
    let (plan_schema, variant_schema) = (schema::<RoutingPlan>(), schema::<RoutingVariant>());
    let mut found = Documents { plans: Vec::new(), fragments: Vec::new(), problems: Vec::new() };
    let problems = &mut found.problems;
    for file in files {
        let nodes = yaml::read(file).unwrap_or_else(|errors| {
            problems.extend(errors);
            Vec::new()
        });
        for node in nodes {
            match node.get("kind").and_then(Node::text) {
                Some(PLAN) => found.plans.push(Read { value: fit(&node, &plan_schema, problems), node }),
                Some(VARIANT) => {
                    found.fragments.extend(fit(&node, &variant_schema, problems).map(|value| Read { value, node }));
                }
                kind => problems.push(unknown_kind(&node, kind)),
            }
        }
    }
    found
}

/// JSON Schema of a plan or fragment.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

fn fit<T: DeserializeOwned>(node: &Node, schema: &Value, problems: &mut Vec<Problem>) -> Option<T> {
    let before = problems.len();
    let value = shape::read(node, schema, problems);
    if problems.len() > before {
        return None;
    }
    serde_json::from_value(value).map_err(|error| problems.push(Problem::at(&node.place, error.to_string()))).ok()
}

fn unknown_kind(node: &Node, kind: Option<&str>) -> Problem {
    if !matches!(node.kind, Kind::Mapping(_)) {
        return Problem::at(&node.place, "a plan or a fragment is needed, this document has no fields");
    }
    let allowed = format!("allowed is `{PLAN}` or `{VARIANT}`");
    let Some(kind) = kind else {
        return Problem::at(&node.place, format!("the field `kind` is missing, {allowed}"));
    };
    let problem = Problem::at(node.place_at("kind"), format!("found the kind `{kind}`, {allowed}"));
    match nearest(kind, [PLAN, VARIANT]) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if kind == "VirtualService" => problem.help("your own VirtualService goes into a service's `base`"),
        None => problem,
    }
}

const PLAN: &str = "RoutingPlan";
const VARIANT: &str = "RoutingVariant";
