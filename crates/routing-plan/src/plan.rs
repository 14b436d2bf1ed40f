//! A plan and its variant files, as they are written. [`resolve`](crate::resolve) checks what they mean together.

use std::collections::BTreeMap;

use routing_claims::PolicyConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which services have variants, and what makes the mesh route to them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingPlan {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// Distinguishes a plan from a variant file.
    pub kind: PlanKind,
    /// Name and namespace of the plan.
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
    /// Distinguishes a variant file from a plan.
    pub kind: VariantKind,
    /// Name of the variant file.
    pub metadata: VariantMetadata,
    /// The variant.
    pub spec: VariantSpec,
}

/// Version of the plan's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only version so far.
    #[serde(rename = "routing-claims.dev/v1alpha1")]
    V1Alpha1,
}

/// Kind of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlanKind {
    /// A plan.
    RoutingPlan,
}

/// Kind of a variant file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VariantKind {
    /// A variant file.
    RoutingVariant,
}

/// Name and namespace of a plan.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanMetadata {
    /// A DNS label; part of the names of the generated resources.
    pub name: String,
    /// Namespace of the filter resources; in Istio's root namespace (`istio-system`) they apply to the whole mesh.
    pub namespace: String,
}

/// Name of a variant file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VariantMetadata {
    /// A DNS name; only for people.
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
    /// The issuers whose tokens Envoy verifies, because the filter verifies no signature: generates the gateway's
    /// `RequestAuthentication`, and what `filter.verify` asks for.
    pub authentication: Option<AuthenticationSpec>,
    /// Write the filter's report to the access logs; needs `policy.reportHeader`.
    pub telemetry: Option<TelemetrySpec>,
    /// The services that have variants.
    pub services: Vec<ServiceSpec>,
}

/// The filter that turns claims into headers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterSpec {
    /// What runs in the proxy.
    pub engine: Engine,
    /// The resource that inserts the filter.
    #[serde(default)]
    pub resource: FilterResource,
    /// The oldest Istio that must understand the resources, such as "1.27"; using a feature that it lacks is an error.
    pub istio_version: String,
    /// The module; required with `engine: wasm`.
    pub wasm: Option<WasmSpec>,
    /// The native module; required with `engine: module`.
    pub module: Option<ModuleSpec>,
    /// Workloads whose outbound requests are routed; default: those with the label `routing-claims.dev/router: enabled`.
    pub workloads: Option<Selector>,
    /// Gateways that route the requests they receive; default: none.
    pub gateways: Option<Selector>,
    /// Also verify the tokens in the requests that workloads send; default: only at the gateways. Needs `authentication`.
    pub verify: Option<Verify>,
}

/// Where tokens are verified besides the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verify {
    /// In the requests that `workloads` send: Envoy's `jwt_authn` runs before the filter.
    Outbound,
}

/// What runs in the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// Envoy's Lua filter; needs no registry.
    Lua,
    /// The WebAssembly module.
    Wasm,
    /// The native Envoy module; Istio 1.31 or later.
    Module,
}

/// The resource that inserts the filter into the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum FilterResource {
    /// For every engine.
    #[default]
    EnvoyFilter,
    /// For `engine: wasm`.
    WasmPlugin,
    /// For `engine: wasm` and `engine: lua`; Istio 1.30 or later.
    TrafficExtension,
}

/// Where the WebAssembly module is: in exactly one of `image`, `url` and `inline`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasmSpec {
    /// `registry/name:tag` of an OCI image with the module, without `oci://`; the tag may be missing if there is a `digest`.
    pub image: Option<String>,
    /// `sha256:` and 64 hex digits: the digest of the image's manifest, which a registry and `crane digest IMAGE` show.
    pub digest: Option<String>,
    /// Secret of the type `kubernetes.io/dockerconfigjson` in the filter's namespace, with which `image` is pulled.
    pub pull_secret: Option<String>,
    /// When a proxy pulls an `image` without `digest` that it already has; default: Istio's, which is never, except for the
    /// tag `latest`.
    pub pull_policy: Option<PullPolicy>,
    /// `https://`, `http://` or `file://` (in the proxy's container).
    pub url: Option<String>,
    /// SHA-256 of the file at `url`, 64 hex digits.
    pub sha256: Option<String>,
    /// File with the module, relative to the plan's folder, which an `EnvoyFilter` then contains; needs no registry.
    pub inline: Option<String>,
    /// What the proxy does when the module traps; default: `FAIL_RELOAD` where Istio has it, else `FAIL_CLOSE`.
    pub fail_strategy: Option<FailStrategy>,
}

/// When a proxy pulls an image that it already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Never.
    IfNotPresent,
    /// Whenever the resource with the filter changes.
    Always,
}

/// Where the native Envoy module is: either `path`, or `url`, `cluster` and `sha256`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleSpec {
    /// Absolute path of the file in the proxy's container.
    pub path: Option<String>,
    /// `http://` or `https://`, from which the proxy itself fetches the file.
    pub url: Option<String>,
    /// Name of the proxy's cluster for `url`, such as `outbound|80||modules.istio-system.svc.cluster.local`.
    pub cluster: Option<String>,
    /// SHA-256 of the file at `url`, 64 hex digits.
    pub sha256: Option<String>,
}

/// What the proxy does when the module traps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailStrategy {
    /// Every request gets 503.
    FailClose,
    /// Requests pass unfiltered, so clients can spoof the routing headers.
    FailOpen,
    /// The module is restarted; Istio 1.27 or later (1.25 in an `EnvoyFilter`).
    FailReload,
}

/// Workloads by label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that a workload must all have; empty: every workload.
    pub match_labels: BTreeMap<String, String>,
}

/// What routes by the headers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutesSpec {
    /// Kind of the resource that contains the routes.
    #[serde(default)]
    pub resource: RouteResource,
}

/// Kind of the resource that routes by the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RouteResource {
    /// Istio's own.
    #[default]
    VirtualService,
    /// The Gateway API's, with the Service as its parent.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
}

/// The issuers whose tokens are verified.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AuthenticationSpec {
    /// Each with its keys.
    Issuers(Vec<IssuerSpec>),
    /// The form before there were lists, which `manifest-gen migrate` replaces.
    Issuer(Box<IssuerSpec>),
}

impl AuthenticationSpec {
    /// The issuers in the order of the plan.
    #[must_use]
    pub fn issuers(&self) -> &[IssuerSpec] {
        match self {
            Self::Issuers(issuers) => issuers,
            Self::Issuer(issuer) => std::slice::from_ref(issuer),
        }
    }
}

/// An issuer, with its keys in exactly one of `jwksUri` and `jwks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerSpec {
    /// The token's `iss`.
    pub issuer: String,
    /// A token must have one of these in its `aud`; default: any or none.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// URL of the issuer's keys.
    pub jwks_uri: Option<String>,
    /// The issuer's keys: a JSON Web Key Set (RFC 7517) as text.
    pub jwks: Option<String>,
    /// Name of the proxy's cluster for `jwksUri`, such as `outbound|80||issuer.auth.svc.cluster.local`; required with
    /// `filter.verify`, because there the proxy itself fetches the keys.
    pub cluster: Option<String>,
}

/// The access logs that contain the filter's report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetrySpec {
    /// Name of an access log provider in Istio's mesh configuration (`extensionProviders`), whose format prints the report header.
    pub access_log_provider: String,
    /// Namespaces of workloads with the filter, besides those of `services`.
    #[serde(default)]
    pub namespaces: Vec<String>,
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
    /// Port of the destinations; required with `HTTPRoute`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Gateways to bind the `VirtualService` to besides the mesh, as `namespace/name`.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Public hosts at these gateways.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Template for the host of a variant without one; default: `{variant}.{namespace}.svc.cluster.local`, in lower case.
    pub variant_host: Option<String>,
    /// File with your own `VirtualService`, relative to the plan's folder, to weave the variants into.
    pub base: Option<String>,
    /// Your own `VirtualService` in the cluster, to weave the variants into; only for the controller, which generates a
    /// resource beside it.
    pub base_ref: Option<BaseRef>,
    /// Namespaces, besides the service's own, whose Services and `RoutingVariant` objects may become its variants; `*` at the
    /// end of an item is any text. Only for the controller.
    #[serde(default)]
    pub allowed_namespaces: Vec<String>,
    /// Variants; variant files add to them.
    #[serde(default)]
    pub variants: Vec<InlineVariant>,
}

/// A `VirtualService` in the service's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseRef {
    /// Its name.
    pub name: String,
}

/// A variant in the plan itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InlineVariant {
    /// The version, as tokens name it.
    pub name: String,
    /// Host of the variant; default: the service's `variantHost`.
    pub host: Option<String>,
    /// When the variant expires: an RFC 3339 timestamp.
    pub expires_at: Option<String>,
}

/// The variant of a variant file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VariantSpec {
    /// Name of the service in the plan.
    pub service: String,
    /// The version, as tokens name it.
    pub variant: String,
    /// Host of the variant; default: the service's `variantHost`.
    pub host: Option<String>,
    /// When the variant expires: an RFC 3339 timestamp.
    pub expires_at: Option<String>,
}

/// JSON Schema of a plan or a variant file.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}
