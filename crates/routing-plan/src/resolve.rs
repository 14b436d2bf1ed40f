//! A plan and its variant files to a [`ResolvedPlan`]: what is left to decide is decided here, and what can't be is a
//! diagnostic.

mod authentication;
mod base;
mod filter;
mod policy;
mod services;
mod telemetry;
mod variants;
mod wasm;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use routing_claims::Policy;
use serde_json::Value;

use crate::{
    diagnostic::{Diagnostic, Document, Location},
    istio::IstioVersion,
    names,
    plan::{FailStrategy, PullPolicy, RouteResource, RoutingPlan, RoutingVariant, Verify},
};

/// All that resources are generated from, valid as a whole. Equal for the same variants in any order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolvedPlan {
    /// Name of the plan.
    pub name: String,
    /// Namespace of the filter resources.
    pub namespace: String,
    /// What the filter does with a token, as the plan says it.
    pub policy: Policy,
    /// The same for a filter that reads only payloads that Envoy has verified, if the plan has `authentication`.
    pub verified_policy: Option<Policy>,
    /// The filter.
    pub filter: ResolvedFilter,
    /// Kind of the routes.
    pub routes: RouteResource,
    /// Whose tokens are verified, in order of issuer.
    pub issuers: Vec<ResolvedIssuer>,
    /// The access logs that contain the report.
    pub telemetry: Option<ResolvedTelemetry>,
    /// In order of claim.
    pub services: Vec<ResolvedService>,
    /// Variants that were left out because they have expired.
    pub expired: Vec<ExpiredVariant>,
}

/// The filter, and what carries it to which proxies.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolvedFilter {
    /// The resource, with what runs in the proxy.
    pub carrier: FilterCarrier,
    /// The oldest Istio that must understand the resources.
    pub istio: IstioVersion,
    /// Labels of the workloads whose outbound requests are routed; empty: every workload.
    pub workloads: BTreeMap<String, String>,
    /// Labels of the gateways, if they have the filter.
    pub gateways: Option<BTreeMap<String, String>>,
    /// Where tokens are verified besides the gateways.
    pub verify: Option<Verify>,
    /// Its field in the plan.
    pub location: Location,
}

/// What carries the filter to the proxy, with what it can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterCarrier {
    /// The script or the WebAssembly module, which can be anywhere.
    EnvoyFilter(FilterEngine<ModuleSource>),
    /// An `EnvoyFilter` with the native module.
    NativeModule(NativeModule),
    /// A module that Istio fetches.
    WasmPlugin(WasmEngine<RemoteModule>),
    /// Either engine, the module fetched by Istio.
    TrafficExtension(FilterEngine<RemoteModule>),
}

/// What runs in the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterEngine<M> {
    /// The Lua script.
    Lua,
    /// The WebAssembly module.
    Wasm(WasmEngine<M>),
}

/// The WebAssembly module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmEngine<M> {
    /// Where it is.
    pub module: M,
    /// What the proxy does when it traps.
    pub fail_strategy: FailStrategy,
}

/// Where the WebAssembly module is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleSource {
    /// At a URL.
    Remote(RemoteModule),
    /// In the resource itself.
    Inline(Arc<[u8]>),
}

/// A WebAssembly module at a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModule {
    /// `oci://`, with the digest of the image if the plan has it, `https://`, `http://` or `file://`.
    pub url: String,
    /// SHA-256 of the file in lower-case hex; never of an image.
    pub sha256: Option<String>,
    /// Name of the Secret to pull an image with.
    pub pull_secret: Option<String>,
    /// When to pull an image again.
    pub pull_policy: Option<PullPolicy>,
}

/// Where the native module is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NativeModule {
    /// A file in the proxy's container, by its path.
    File(String),
    /// A file that the proxy fetches.
    Remote {
        /// `http://` or `https://`.
        url: String,
        /// The proxy's cluster for the URL.
        cluster: String,
        /// SHA-256 in lower-case hex.
        sha256: String,
    },
}

/// An issuer whose tokens are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedIssuer {
    /// The token's `iss`.
    pub issuer: String,
    /// A token must have one of these in its `aud`; empty: any or none.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: IssuerKeys,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKeys {
    /// A JSON Web Key Set.
    Inline(String),
    /// A JSON Web Key Set at a URL.
    Remote {
        /// `http://` or `https://`.
        uri: String,
        /// The proxy's cluster for the URL, if the plan names it.
        cluster: Option<String>,
    },
}

/// The access logs that contain the filter's report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedTelemetry {
    /// Name of the access log provider in Istio's mesh configuration.
    pub access_log_provider: String,
    /// Namespaces of the workloads with the filter.
    pub namespaces: BTreeSet<String>,
}

/// A service that has variants.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolvedService {
    /// The claim's key.
    pub claim: String,
    /// The header that carries the version.
    pub header: String,
    /// Namespace of the routes.
    pub namespace: String,
    /// Host of the main version.
    pub host: String,
    /// Port of the destinations.
    pub port: Option<u16>,
    /// Gateways that route it besides the mesh, in order.
    pub gateways: Vec<String>,
    /// Public hosts at these gateways, in order.
    pub public_hosts: Vec<String>,
    /// The user's own `VirtualService` that the variants are woven into.
    pub base: Option<ResolvedBase>,
    /// Namespaces besides its own whose Services may become its variants, as the plan writes them: see [`Self::allows`].
    pub allowed_namespaces: Vec<String>,
    /// In order of name.
    pub variants: Vec<ResolvedVariant>,
    /// Its name in the plan.
    pub location: Location,
}

impl ResolvedService {
    /// Whether Services and `RoutingVariant` objects of a namespace may become variants of this service.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => namespace.starts_with(start),
            None => namespace == pattern,
        };
        namespace == self.namespace || self.allowed_namespaces.iter().any(matches)
    }
}

/// A user's own `VirtualService`.
#[derive(Debug, Clone, PartialEq)]
pub enum ResolvedBase {
    /// From a file: the woven resource takes its place and keeps its name.
    File(Value),
    /// From the cluster: the woven resource is generated beside it.
    Live {
        /// The object.
        value: Value,
        /// Whether proxies follow the object itself, because it is exported to them. Istio follows the older
        /// `VirtualService` of a host, so the woven one has no effect until the object is exported to another namespace.
        in_force: bool,
    },
}

/// A version besides the main one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolvedVariant {
    /// The version, as tokens name it.
    pub name: String,
    /// Where its requests go.
    pub host: String,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Its name in the plan or the variant file.
    pub location: Location,
}

/// A variant that was left out because it has expired.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExpiredVariant {
    /// Claim of its service.
    pub service: String,
    /// The variant.
    pub variant: ResolvedVariant,
}

/// What to do about variants that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// A variant that has expired at this time is an error.
    Refuse(Timestamp),
    /// Variants that have expired at this time are left out.
    LeaveOut(Timestamp),
    /// Expired variants are kept.
    Keep,
}

/// The files and objects that a plan names. Reading them is up to the caller. Files have the paths that the plan names them
/// with.
#[derive(Debug, Clone, Default)]
pub struct PlanFiles {
    /// Each service's `base`.
    pub bases: BTreeMap<String, Result<Value, UnreadableFile>>,
    /// The cluster's objects for each service's `baseRef`, by namespace and name. None without a cluster.
    pub base_refs: Option<BTreeMap<(String, String), Value>>,
    /// The filter's `wasm.inline`.
    pub modules: BTreeMap<String, Result<Arc<[u8]>, UnreadableFile>>,
}

/// Why a file that the plan names can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableFile(pub String);

/// A text that is not a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 timestamp such as 2026-12-01T00:00:00Z, found `{0}`")]
pub struct InvalidTimestamp(pub String);

/// Resolves a plan with its variant files.
///
/// # Errors
///
/// Everything that is wrong, not only the first fault. [`Document::Variant`] is an index in `variants`.
pub fn resolve(
    plan: &RoutingPlan,
    variants: &[RoutingVariant],
    files: &PlanFiles,
    expiry: Expiry,
) -> Result<ResolvedPlan, Vec<Diagnostic>> {
    let mut resolver = Resolver { plan, variants, files, expiry, diagnostics: Vec::new(), expired: Vec::new() };
    match resolver.plan() {
        Some(plan) if resolver.diagnostics.is_empty() => Ok(plan),
        _ => Err(resolver.diagnostics),
    }
}

/// Reads when a variant expires.
///
/// # Errors
///
/// The text is not an RFC 3339 timestamp.
pub fn parse_timestamp(text: &str) -> Result<Timestamp, InvalidTimestamp> {
    text.parse().map_err(|_| InvalidTimestamp(text.to_owned()))
}

/// Resolves part after part, and collects what is wrong.
struct Resolver<'p> {
    plan: &'p RoutingPlan,
    variants: &'p [RoutingVariant],
    files: &'p PlanFiles,
    expiry: Expiry,
    diagnostics: Vec<Diagnostic>,
    expired: Vec<ExpiredVariant>,
}

impl Resolver<'_> {
    fn plan(&mut self) -> Option<ResolvedPlan> {
        let RoutingPlan { metadata, spec, .. } = self.plan;
        let at = |field| Location::root(Document::Plan).field("metadata").field(field);
        self.check(at("name"), &metadata.name, names::label);
        self.check(at("namespace"), &metadata.namespace, names::label);
        let istio = self.istio();
        let filter = istio.and_then(|istio| self.filter(istio));
        self.routes(istio);
        let issuers = spec.authentication.as_ref().map(|spec| self.authentication(spec, istio));
        self.verify();
        let policy = self.policy();
        let verified_policy = match (&issuers, &policy) {
            (Some(_), Some(policy)) => self.verified_policy(policy),
            _ => None,
        };
        let services = self.services(policy.as_ref());
        let telemetry = spec.telemetry.as_ref().map(|spec| self.telemetry(spec));
        self.script_size(policy.as_ref(), filter.as_ref());
        Some(ResolvedPlan {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            policy: policy?,
            verified_policy,
            filter: filter?,
            routes: spec.routes.resource,
            issuers: issuers.unwrap_or_default(),
            telemetry,
            services,
            expired: std::mem::take(&mut self.expired),
        })
    }

    fn istio(&mut self) -> Option<IstioVersion> {
        let text = &self.plan.spec.filter.istio_version;
        let location = spec().field("filter").field("istioVersion");
        let Ok(version) = text.parse::<IstioVersion>() else {
            self.report(Diagnostic::new(location, format!("expected a version such as \"1.27\", found `{text}`")));
            return None;
        };
        if version < IstioVersion::OLDEST {
            let message = format!("expected Istio {} or newer, found `{version}`", IstioVersion::OLDEST);
            self.report(Diagnostic::new(location, message));
            return None;
        }
        Some(version)
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Checks a text by a rule of [`names`], and says whether it holds.
    fn check(&mut self, location: Location, text: &str, rule: fn(&str) -> Result<(), &'static str>) -> bool {
        let result = rule(text);
        if let Err(expected) = result {
            self.report(Diagnostic::new(location, format!("expected {expected}, found `{text}`")));
        }
        result.is_ok()
    }
}

/// The most bytes of Lua that a `TrafficExtension` may have: `maxLength` of its definition (read).
pub(crate) const MAX_INLINE_CODE_BYTES: usize = 65_536;

/// The plan's `spec`.
fn spec() -> Location {
    Location::root(Document::Plan).field("spec")
}

/// A service of the plan.
fn service(index: usize) -> Location {
    spec().field("services").index(index)
}

/// What to do about a resource that an old Istio does not have.
fn raise_version(alternative: &str) -> String {
    format!("use {alternative}, or raise `istioVersion` if every Istio is new enough")
}
