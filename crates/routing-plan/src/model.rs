//! The plan to routes: everything that is left to decide is decided here, and everything that can't be is a problem.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use routing_claims::{FieldSegment, Policy, PolicyConfig, PolicyDiagnostic, ServiceConfig, TokenFormat};
use serde_json::Value;

use crate::{
    names,
    plan::{
        AuthenticationSpec, Engine, FailStrategy, FilterResource, Input, Read, RouteResource, RoutingPlan, ServiceSpec,
        WasmSpec,
    },
    problem::{Problem, nearest},
    yaml::{self, File, Node, Place},
};

/// All that is generated from, valid as a whole, in an order that does not depend on the files'.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// Name of the plan.
    pub name: String,
    /// Namespace of the filter resources.
    pub namespace: String,
    /// What the filter does.
    pub policy: Policy,
    /// The filter.
    pub filter: Filter,
    /// Kind of the routes.
    pub routes: RouteResource,
    /// Whose tokens the gateway verifies.
    pub authentication: Option<Authentication>,
    /// In order of claim.
    pub services: Vec<Service>,
    /// Variants left out since they have expired.
    pub expired: Vec<Expired>,
    /// Where the plan stands.
    pub place: Place,
}

/// The filter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// What runs in the proxy.
    pub engine: FilterEngine,
    /// What carries it there.
    pub resource: FilterResource,
    /// Oldest Istio that must read the output.
    pub istio: IstioVersion,
    /// Labels of the workloads.
    pub workloads: BTreeMap<String, String>,
    /// Labels of the gateways, if they have the filter.
    pub gateways: Option<BTreeMap<String, String>>,
    /// Where it stands in the plan.
    pub place: Place,
}

/// What runs in the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterEngine {
    /// The Lua script.
    Lua,
    /// The WebAssembly module.
    Wasm {
        /// Where the module is.
        code: WasmCode,
        /// When it crashes.
        fail_strategy: FailStrategy,
    },
}

/// Where the WebAssembly module is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WasmCode {
    /// To be fetched.
    Url {
        /// Of a scheme that the resource can carry.
        url: String,
        /// SHA-256 in lower-case hex.
        sha256: Option<String>,
    },
    /// Its bytes.
    Inline(Arc<[u8]>),
}

/// Whose tokens the gateway verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// The token's `iss`.
    pub issuer: String,
    /// URL of its keys.
    pub jwks_uri: String,
}

/// A service that has variants.
#[derive(Debug, Clone)]
pub struct Service {
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
    /// Gateways besides the mesh.
    pub gateways: Vec<String>,
    /// Public hosts.
    pub public_hosts: Vec<String>,
    /// The user's own `VirtualService`.
    pub base: Option<Base>,
    /// In order of name.
    pub variants: Vec<Variant>,
    /// Where it stands in the plan.
    pub place: Place,
}

/// A user's own `VirtualService`.
#[derive(Debug, Clone)]
pub struct Base {
    /// All of it.
    pub value: Value,
    /// With the places.
    pub node: Node,
}

/// A version besides the main one.
#[derive(Debug, Clone)]
pub struct Variant {
    /// As tokens name it.
    pub name: String,
    /// Where its requests go.
    pub host: String,
    /// When it is to go.
    pub expires_at: Option<Timestamp>,
    /// Where it stands.
    pub place: Place,
}

/// A variant that is left out.
#[derive(Debug, Clone)]
pub struct Expired {
    /// Of this service.
    pub service: String,
    /// Of this name.
    pub variant: Variant,
}

/// What to do about variants that have expired.
#[derive(Debug, Clone, Copy)]
pub enum Expiry {
    /// Those that have at this time are problems.
    Refuse(Timestamp),
    /// Those that have at this time are left out.
    LeaveOut(Timestamp),
    /// Nothing.
    Keep,
}

/// A version of Istio: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion(pub u32, pub u32);

/// Reads a file that the plan names, by its path from the plan's folder.
pub type Fetch<'f> = &'f dyn Fn(&str) -> io::Result<Vec<u8>>;

/// Judges a plan and its fragments.
///
/// # Errors
///
/// Everything that is wrong, in the order of files and lines.
pub fn build(input: &Input, expiry: Expiry, fetch: Fetch<'_>) -> Result<Mesh, Vec<Problem>> {
    let mut builder = Builder { input, expiry, fetch, problems: Vec::new(), expired: Vec::new() };
    let mesh = builder.mesh();
    let Builder { mut problems, .. } = builder;
    problems.sort_by(|a, b| order(a).cmp(&order(b)));
    match mesh {
        Some(mesh) if problems.is_empty() => Ok(mesh),
        _ => Err(problems),
    }
}

impl IstioVersion {
    /// Reads `1.27` or `1.27.3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u32>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers?[..] {
            [major, minor] | [major, minor, _] => Some(Self(major, minor)),
            _ => None,
        }
    }
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// When a variant expires.
///
/// # Errors
///
/// The text is no RFC 3339 time.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is no RFC 3339 time, such as 2026-12-01T00:00:00Z"))
}

struct Builder<'i> {
    input: &'i Input,
    expiry: Expiry,
    fetch: Fetch<'i>,
    problems: Vec<Problem>,
    expired: Vec<Expired>,
}

impl<'i> Builder<'i> {
    fn mesh(&mut self) -> Option<Mesh> {
        let Read { value: RoutingPlan { metadata, spec, .. }, node } = &self.input.plan;
        self.check(node.place_at("metadata/name"), &metadata.name, names::label);
        self.check(node.place_at("metadata/namespace"), &metadata.namespace, names::label);
        let istio = self.istio(node.place_at("spec/filter/istioVersion"), &spec.filter.istio_version);
        let filter = istio.and_then(|istio| self.filter(istio));
        if let Some(istio) = istio {
            self.routes(istio);
        }
        let authentication = spec.authentication.as_ref().map(|spec| self.authentication(spec));
        let policy = self.policy();
        let services = self.services(policy.as_ref());
        Some(Mesh {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            policy: policy?,
            filter: filter?,
            routes: spec.routes.resource,
            authentication,
            services,
            expired: std::mem::take(&mut self.expired),
            place: node.place.clone(),
        })
    }

    fn place(&self, path: &str) -> &'i Place {
        self.input.plan.node.place_at(path)
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn check(&mut self, place: &Place, text: &str, rule: fn(&str) -> Result<(), &'static str>) -> bool {
        let result = rule(text);
        if let Err(allowed) = result {
            self.problem(Problem::at(place, format!("found `{text}`, allowed is {allowed}")));
        }
        result.is_ok()
    }

    fn istio(&mut self, place: &Place, text: &str) -> Option<IstioVersion> {
        let Some(version) = IstioVersion::parse(text) else {
            self.problem(Problem::at(place, format!("found `{text}`, a version such as \"1.27\" is needed")));
            return None;
        };
        if version < OLDEST_ISTIO {
            self.problem(Problem::at(place, format!("Istio {version}: the oldest supported is {OLDEST_ISTIO}")));
            return None;
        }
        Some(version)
    }

    fn filter(&mut self, istio: IstioVersion) -> Option<Filter> {
        let spec = &self.input.plan.value.spec.filter;
        let place = self.place("spec/filter");
        let resource = spec.resource;
        let resource_place = self.place("spec/filter/resource");
        if resource == FilterResource::TrafficExtension && istio < IstioVersion(1, 30) {
            let problem = Problem::at(resource_place, format!("Istio {istio} has no TrafficExtension, 1.30 has"));
            let other = if spec.engine == Engine::Wasm { "EnvoyFilter or WasmPlugin" } else { "EnvoyFilter" };
            self.problem(problem.help(format!("take {other}, or raise `istioVersion` if every Istio is new enough")));
        }
        let engine = match spec.engine {
            Engine::Lua => {
                if resource == FilterResource::WasmPlugin {
                    let problem = Problem::at(resource_place, "a WasmPlugin can't carry Lua");
                    self.problem(problem.help("take EnvoyFilter, or `engine: wasm`"));
                }
                if spec.wasm.is_some() {
                    let problem = Problem::at(self.place("spec/filter/wasm"), "`wasm` has no use with `engine: lua`");
                    self.problem(problem.help("remove it, or take `engine: wasm`"));
                }
                Some(FilterEngine::Lua)
            }
            Engine::Wasm => {
                if let Some(wasm) = &spec.wasm {
                    self.wasm(wasm, istio)
                } else {
                    let problem = Problem::at(self.place("spec/filter/engine"), "`engine: wasm` needs `wasm`");
                    self.problem(problem.help("give `wasm: {url: …, sha256: …}` or `wasm: {inline: …}`"));
                    None
                }
            }
        };
        let default = || BTreeMap::from([("routing-claims.dev/router".to_owned(), "enabled".to_owned())]);
        let workloads = spec.workloads.as_ref().map_or_else(default, |selector| selector.match_labels.clone());
        let gateways = spec.gateways.as_ref().map(|selector| selector.match_labels.clone());
        for (field, labels) in [("workloads", Some(&workloads)), ("gateways", gateways.as_ref())] {
            for (key, value) in labels.into_iter().flatten() {
                // A key may hold a `/`, so its place is not found by path.
                let labels = self.place(&format!("spec/filter/{field}/matchLabels"));
                self.check(labels, key, names::label_key);
                self.check(labels, value, names::label_value);
            }
        }
        if gateways.as_ref().is_some_and(BTreeMap::is_empty) {
            let place = self.place("spec/filter/gateways/matchLabels");
            self.problem(
                Problem::at(place, "the gateways need at least one label").help("such as `istio: ingressgateway`"),
            );
        }
        Some(Filter { engine: engine?, resource, istio, workloads, gateways, place: place.clone() })
    }

    fn wasm(&mut self, spec: &WasmSpec, istio: IstioVersion) -> Option<FilterEngine> {
        let place = |field: &str| self.input.plan.node.place_at(&format!("spec/filter/wasm/{field}"));
        let resource = self.input.plan.value.spec.filter.resource;
        let in_envoy_filter = resource == FilterResource::EnvoyFilter;
        if let Some(sha256) = &spec.sha256
            && (sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            self.problem(Problem::at(place("sha256"), "a SHA-256 of 64 hex digits is needed"));
        }
        let reload_since = if in_envoy_filter { IstioVersion(1, 25) } else { IstioVersion(1, 27) };
        if spec.fail_strategy == Some(FailStrategy::FailReload) && istio < reload_since {
            let message = format!("Istio {istio} has no FAIL_RELOAD here, {reload_since} has");
            let problem = Problem::at(place("failStrategy"), message);
            self.problem(problem.help("take FAIL_CLOSE, or raise `istioVersion` if every Istio is new enough"));
        }
        let default = if istio < reload_since { FailStrategy::FailClose } else { FailStrategy::FailReload };
        let code = match (&spec.url, &spec.inline) {
            (Some(url), None) => {
                let scheme = url.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
                if !matches!(scheme, "oci" | "http" | "https" | "file") {
                    let allowed = "`oci://`, `https://`, `http://` and `file://`";
                    self.problem(Problem::at(place("url"), format!("{resource:?} can carry {allowed}, found `{url}`")));
                }
                Some(WasmCode::Url { url: url.clone(), sha256: spec.sha256.as_ref().map(|hex| hex.to_lowercase()) })
            }
            (None, Some(path)) if in_envoy_filter => self.inline(place("inline"), path),
            (None, Some(_)) => {
                let problem = Problem::at(place("inline"), format!("a {resource:?} can't carry the module itself"));
                self.problem(problem.help("give a `url`, or take `resource: EnvoyFilter`"));
                None
            }
            (Some(_), Some(_)) => {
                self.problem(Problem::at(place("inline"), "give either `url` or `inline`"));
                None
            }
            (None, None) => {
                self.problem(Problem::at(place(""), "give `url` or `inline`"));
                None
            }
        };
        Some(FilterEngine::Wasm { code: code?, fail_strategy: spec.fail_strategy.unwrap_or(default) })
    }

    fn inline(&mut self, place: &Place, path: &str) -> Option<WasmCode> {
        let bytes = self.file(place, path)?;
        if !bytes.starts_with(b"\0asm") {
            self.problem(Problem::at(place, format!("{path} is no WebAssembly module")));
            return None;
        }
        Some(WasmCode::Inline(bytes.into()))
    }

    fn file(&mut self, place: &Place, path: &str) -> Option<Vec<u8>> {
        (self.fetch)(path).map_err(|error| self.problem(Problem::at(place, format!("can't read {path}: {error}")))).ok()
    }

    fn routes(&mut self, istio: IstioVersion) {
        let spec = &self.input.plan.value.spec;
        if spec.routes.resource != RouteResource::HttpRoute {
            return;
        }
        if istio < IstioVersion(1, 22) {
            let place = self.place("spec/routes/resource");
            let problem = Problem::at(place, format!("Istio {istio} does not route the mesh by HTTPRoute, 1.22 does"));
            self.problem(problem.help("take VirtualService, or raise `istioVersion` if every Istio is new enough"));
        }
        for (index, service) in spec.services.iter().enumerate() {
            let place = |field: &str| self.input.plan.node.place_at(&format!("spec/services/{index}/{field}"));
            if service.port.is_none() {
                let problem = Problem::at(place("name"), "an HTTPRoute needs the service's `port`");
                self.problem(problem.help("such as `port: 80`"));
            }
            for (field, present) in [
                ("gateways", !service.gateways.is_empty()),
                ("hosts", !service.hosts.is_empty()),
                ("base", service.base.is_some()),
            ] {
                if present {
                    let message = format!("`{field}` is for a VirtualService, the plan's routes are HTTPRoutes");
                    self.problem(Problem::at(place(field), message));
                }
            }
        }
    }

    fn authentication(&mut self, spec: &AuthenticationSpec) -> Authentication {
        let place = self.place("spec/authentication");
        let policy = &self.input.plan.value.spec.policy;
        if self.input.plan.value.spec.filter.gateways.is_none() {
            let problem = Problem::at(place, "`authentication` is for the gateways, and `filter.gateways` names none");
            self.problem(problem.help("give `filter.gateways`, such as {matchLabels: {istio: ingressgateway}}"));
        }
        if policy.format == TokenFormat::Payload {
            self.problem(Problem::at(place, "a gateway can't verify a bare payload (`policy.format: payload`)"));
        }
        if !(spec.jwks_uri.starts_with("https://") || spec.jwks_uri.starts_with("http://")) {
            let place = self.place("spec/authentication/jwksUri");
            self.problem(Problem::at(place, format!("found `{}`, a URL of http or https is needed", spec.jwks_uri)));
        }
        if spec.issuer.is_empty() {
            self.problem(Problem::at(self.place("spec/authentication/issuer"), "an issuer is needed"));
        }
        if !policy.from_cookies.is_empty()
            && IstioVersion::parse(&self.input.plan.value.spec.filter.istio_version) < Some(IstioVersion(1, 21))
        {
            let place = self.place("spec/policy/fromCookies");
            self.problem(Problem::at(place, "Istio before 1.21 does not verify tokens of cookies"));
        }
        Authentication { issuer: spec.issuer.clone(), jwks_uri: spec.jwks_uri.clone() }
    }

    /// The policy: as written, with the plan's services in closed mode.
    fn policy(&mut self) -> Option<Policy> {
        let spec = &self.input.plan.value.spec;
        if spec.policy.services.is_some() {
            let problem =
                Problem::at(self.place("spec/policy/services"), "the policy's services come from `spec.services`");
            self.problem(problem.help("remove it; `header` can be given with each of `spec.services`"));
            return None;
        }
        let open = spec.policy.header_prefix.is_some();
        let entry =
            |service: &ServiceSpec| ServiceConfig { name: service.name.clone(), header: service.header.clone() };
        let services = (!open).then(|| spec.services.iter().map(entry).collect());
        // In order of name, so that the same policy is written from plans in any order.
        let sorted = |mut config: PolicyConfig| {
            if let Some(services) = &mut config.services {
                services.sort_by_key(|service| (service.name.to_ascii_lowercase(), service.name.clone()));
            }
            config
        };
        let config = PolicyConfig { services, ..spec.policy.clone() };
        match Policy::new(config.clone()).and_then(|_| Policy::new(sorted(config))) {
            Ok(policy) => Some(policy),
            Err(invalid) => {
                for PolicyDiagnostic { path, expected, found, .. } in invalid.diagnostics() {
                    // A header that is not written comes from the name, whose diagnostic says enough.
                    if let [list, index, FieldSegment::Field(field)] = path.segments()
                        && field == "header"
                        && invalid.diagnostics().iter().any(|other| {
                            let name = FieldSegment::Field("name".into());
                            other.path.segments() == [list.clone(), index.clone(), name]
                        })
                    {
                        continue;
                    }
                    let under = match path.segments().first() {
                        Some(FieldSegment::Field(field)) if field == "services" => "spec",
                        _ => "spec/policy",
                    };
                    let place = path.segments().iter().fold(under.to_owned(), |place, segment| match segment {
                        FieldSegment::Field(field) => format!("{place}/{field}"),
                        FieldSegment::Index(index) => format!("{place}/{index}"),
                    });
                    let place = self.place(&place);
                    let path = path.to_string();
                    let field = path.rsplit('.').next().unwrap_or_default();
                    self.problem(Problem::at(place, format!("{field}: expected {expected}, found {found}")));
                }
                None
            }
        }
    }

    fn services(&mut self, policy: Option<&Policy>) -> Vec<Service> {
        let input = self.input;
        let specs = &input.plan.value.spec.services;
        let mut variants: Vec<Vec<Written<'_>>> =
            specs.iter().enumerate().map(|(index, spec)| inline_variants(input, index, spec)).collect();
        let by_name: HashMap<&str, usize> =
            specs.iter().enumerate().map(|(index, spec)| (&*spec.name, index)).collect();
        for fragment in &input.fragments {
            let (node, spec) = (&fragment.node, &fragment.value.spec);
            self.check(node.place_at("metadata/name"), &fragment.value.metadata.name, names::host);
            let Some(list) = by_name.get(&*spec.service).and_then(|index| variants.get_mut(*index)) else {
                let place = node.place_at("spec/service");
                let problem = Problem::at(place, format!("the plan has no service `{}`", spec.service))
                    .also(self.place("spec/services"), "the plan's services");
                self.problem(match nearest(&spec.service, by_name.keys().copied()) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem,
                });
                continue;
            };
            list.push(Written {
                name: &spec.variant,
                host: spec.host.as_deref(),
                expires_at: spec.expires_at.as_deref(),
                places: [node.place_at("spec/variant"), node.place_at("spec/host"), node.place_at("spec/expiresAt")],
            });
        }
        let mut services = Vec::new();
        for (index, (spec, variants)) in specs.iter().zip(variants).enumerate() {
            services.extend(self.service(index, spec, variants, policy));
        }
        self.unique_hosts(&services);
        services.sort_by(|a, b| a.claim.cmp(&b.claim));
        services
    }

    fn service(
        &mut self,
        index: usize,
        spec: &ServiceSpec,
        variants: Vec<Written<'i>>,
        policy: Option<&Policy>,
    ) -> Option<Service> {
        let node = &self.input.plan.node;
        let path = format!("spec/services/{index}");
        let place = |field: &str| node.place_at(&format!("{path}/{field}"));
        let namespace_ok = self.check(place("namespace"), &spec.namespace, names::label);
        let claim = spec.name.to_ascii_lowercase();
        let host = spec.host.clone().unwrap_or_else(|| format!("{claim}.{}.svc.cluster.local", spec.namespace));
        let host_ok = if spec.host.is_some() {
            self.check(place("host"), &host, names::host)
        } else if names::label(&claim).is_err() {
            let problem = Problem::at(place("name"), format!("`{}` is no name of a Kubernetes Service", spec.name));
            self.problem(problem.help("give the service's `host`"));
            false
        } else {
            namespace_ok
        };
        if host_ok && self.input.plan.value.spec.routes.resource == RouteResource::HttpRoute {
            self.kubernetes_host(spec.host.as_ref().map_or_else(|| place("name"), |_| place("host")), &host);
        }
        let header = match policy.map(Policy::config) {
            Some(PolicyConfig { header_prefix: Some(prefix), .. }) => {
                if spec.header.is_some() {
                    let message = format!("with `headerPrefix` the header is `{prefix}{claim}`");
                    self.problem(Problem::at(place("header"), message).help("remove it"));
                }
                format!("{prefix}{claim}")
            }
            _ => spec.header.clone().unwrap_or_else(|| claim.clone()),
        };
        for (item, gateway) in spec.gateways.iter().enumerate() {
            let place = place(&format!("gateways/{item}"));
            if gateway == "mesh" {
                self.problem(Problem::at(place, "the mesh is always bound").help("remove `mesh`"));
            } else {
                self.check(place, gateway, names::gateway);
            }
        }
        for (item, public) in spec.hosts.iter().enumerate() {
            self.check(place(&format!("hosts/{item}")), public, names::public_host);
        }
        if spec.gateways.is_empty() && !spec.hosts.is_empty() {
            let problem =
                Problem::at(place("hosts"), "`hosts` are reached through gateways, and `gateways` names none");
            self.problem(problem.help("such as `gateways: [istio-system/public]`"));
        }
        let base = spec.base.as_ref().map(|path| self.base(place("base"), path, spec, &host, &header));
        let variants = self.variants(spec, place("variantHost"), variants);
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list.dedup();
            list
        };
        Some(Service {
            claim: spec.name.clone(),
            header,
            namespace: spec.namespace.clone(),
            host,
            port: spec.port,
            gateways: sorted(&spec.gateways),
            public_hosts: sorted(&spec.hosts),
            base: match base {
                Some(base) => Some(base?),
                None => None,
            },
            variants,
            place: place("name").clone(),
        })
    }

    fn variants(&mut self, spec: &ServiceSpec, template_place: &Place, written: Vec<Written<'i>>) -> Vec<Variant> {
        let template = spec.variant_host.as_deref().unwrap_or("{variant}.{namespace}.svc.cluster.local");
        let http_route = self.input.plan.value.spec.routes.resource == RouteResource::HttpRoute;
        let probe = expand(template, spec, "v");
        if names::host(&probe).is_err() {
            let message = format!("found `{template}`, which makes hosts such as `{probe}`");
            self.problem(
                Problem::at(template_place, message).help("the placeholders are {variant}, {service} and {namespace}"),
            );
            return Vec::new();
        }
        let mut variants: BTreeMap<String, Variant> = BTreeMap::new();
        for Written { name, host, expires_at, places: [place, host_place, expires_place] } in written {
            if !self.check(place, name, names::version) {
                continue;
            }
            let expires_at = match expires_at.map(parse_time).transpose() {
                Ok(time) => time,
                Err(message) => {
                    self.problem(Problem::at(expires_place, message));
                    None
                }
            };
            let explicit = host.is_some();
            let host = host.map_or_else(|| expand(template, spec, name), str::to_owned);
            if explicit {
                self.check(host_place, &host, names::host);
            } else if names::host(&host).is_err() {
                let message = format!("`{name}` makes the host `{host}`, which is no DNS name");
                self.problem(Problem::at(place, message).help("give the variant's `host`"));
            }
            if http_route {
                self.kubernetes_host(if explicit { host_place } else { place }, &host);
            }
            let variant = Variant { name: name.to_owned(), host, expires_at, place: place.clone() };
            if let Some(first) = variants.get(name) {
                let message = format!("the service `{}` has two variants `{name}`", spec.name);
                self.problem(Problem::at(place, message).also(&first.place, "the other one"));
                continue;
            }
            match (self.expiry, expires_at) {
                (Expiry::Refuse(now), Some(time)) if time <= now => {
                    let message = format!("the variant `{name}` of `{}` has expired", spec.name);
                    let help = "remove it (`manifest-gen prune` removes such files), or leave it out with `--now TIME`";
                    self.problem(Problem::at(expires_place, message).help(help));
                }
                (Expiry::LeaveOut(now), Some(time)) if time <= now => {
                    self.expired.push(Expired { service: spec.name.clone(), variant });
                    continue;
                }
                _ => {}
            }
            variants.insert(name.to_owned(), variant);
        }
        variants.into_values().collect()
    }

    fn kubernetes_host(&mut self, place: &Place, host: &str) {
        if names::kubernetes_service(host).is_none() {
            let problem = Problem::at(place, format!("`{host}` is no Kubernetes Service, which an HTTPRoute needs"));
            self.problem(problem.help("such as `name.namespace.svc.cluster.local`"));
        }
    }

    fn base(&mut self, place: &Place, path: &str, spec: &ServiceSpec, host: &str, header: &str) -> Option<Base> {
        let bytes = self.file(place, path)?;
        let Ok(text) = String::from_utf8(bytes) else {
            self.problem(Problem::at(place, format!("{path} is no UTF-8")));
            return None;
        };
        let folder = Path::new(&self.input.plan.node.place.file.name).parent().unwrap_or(Path::new(""));
        let file = Arc::new(File { name: folder.join(path).display().to_string(), text });
        let mut documents = match yaml::read(&file) {
            Ok(documents) => documents,
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        let (Some(node), true) = (documents.pop(), documents.is_empty()) else {
            self.problem(Problem::at(place, format!("{path} must hold one VirtualService")));
            return None;
        };
        let value = node.to_json();
        if value["kind"] != "VirtualService" {
            let message = format!("a VirtualService is needed, found the kind {}", value["kind"]);
            self.problem(Problem::at(node.place_at("kind"), message));
            return None;
        }
        let before = self.problems.len();
        if !value["metadata"]["name"].is_string() {
            self.problem(Problem::at(node.place_at("metadata"), "`metadata.name` is missing"));
        }
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or(&spec.namespace);
        if namespace != spec.namespace {
            let message = format!("found `{namespace}`, the service's namespace is `{}`", spec.namespace);
            self.problem(Problem::at(node.place_at("metadata/namespace"), message));
        }
        let hosts = value["spec"]["hosts"].as_array();
        let own = |name: &Value| name.as_str().is_some_and(|name| names::same_host(name, namespace, host));
        if !hosts.is_some_and(|hosts| hosts.iter().any(own)) {
            let problem =
                Problem::at(node.place_at("spec/hosts"), format!("`hosts` lacks the service's host `{host}`"));
            self.problem(problem.also(place, "the service is here"));
        }
        let Some(http) = value["spec"]["http"].as_array() else {
            self.problem(Problem::at(node.place_at("spec"), "there are no `http` routes to weave variants into"));
            return None;
        };
        for (index, route) in http.iter().enumerate() {
            for (item, condition) in route["match"].as_array().into_iter().flatten().enumerate() {
                if condition["headers"].get(header).is_some() {
                    let at = node.place_at(&format!("spec/http/{index}/match/{item}/headers/{header}"));
                    let problem = Problem::at(at, format!("this matches on `{header}`, which the variants use"));
                    self.problem(problem.help("remove this match: the plan's variants make such routes"));
                }
            }
            if !route.is_object() {
                self.problem(Problem::at(node.place_at(&format!("spec/http/{index}")), "a route must have fields"));
            }
        }
        let goes_here =
            |route: &Value| route["route"].as_array().into_iter().flatten().any(|to| own(&to["destination"]["host"]));
        if !http.iter().any(goes_here) {
            let message = format!("no http route goes to `{host}`, so there is nothing to weave variants into");
            self.problem(Problem::at(node.place_at("spec/http"), message));
        }
        (self.problems.len() == before).then_some(Base { value, node })
    }

    /// One resource for each host: Istio ignores a second one.
    fn unique_hosts(&mut self, services: &[Service]) {
        let mut hosts: HashMap<&str, &Service> = HashMap::new();
        for service in services {
            for host in std::iter::once(&service.host).chain(&service.public_hosts) {
                let Some(first) = hosts.insert(host, service) else { continue };
                if first.claim == service.claim {
                    continue;
                }
                let problem = Problem::at(
                    &service.place,
                    format!("`{}` and `{}` have the host `{host}`", first.claim, service.claim),
                )
                .also(&first.place, "the other one")
                .help("Istio reads one VirtualService for a host, so a host can belong to one service only");
                self.problem(problem);
            }
        }
    }
}

/// A variant as it is written, with places of its name, host and time.
struct Written<'i> {
    name: &'i str,
    host: Option<&'i str>,
    expires_at: Option<&'i str>,
    places: [&'i Place; 3],
}

fn inline_variants<'i>(input: &'i Input, service: usize, spec: &'i ServiceSpec) -> Vec<Written<'i>> {
    let node = &input.plan.node;
    let nodes = node.get("spec").and_then(|spec| spec.get("services"));
    let nodes = nodes.and_then(|services| services.items().get(service)).and_then(|service| service.get("variants"));
    let places = nodes.map(Node::items).unwrap_or_default();
    spec.variants
        .iter()
        .zip(places)
        .map(|(variant, node)| Written {
            name: &variant.name,
            host: variant.host.as_deref(),
            expires_at: variant.expires_at.as_deref(),
            places: [node.place_at("name"), node.place_at("host"), node.place_at("expiresAt")],
        })
        .collect()
}

fn expand(template: &str, spec: &ServiceSpec, variant: &str) -> String {
    let fields = [("{variant}", variant), ("{service}", &spec.name), ("{namespace}", &spec.namespace)];
    fields.iter().fold(template.to_owned(), |text, (field, value)| text.replace(field, value)).to_ascii_lowercase()
}

fn order(problem: &Problem) -> Option<(&str, usize, usize)> {
    problem.place.as_ref().map(|place| (&*place.file.name, place.line, place.column))
}

/// Older ones lack what is written for every resource, and have had no fixes for years.
const OLDEST_ISTIO: IstioVersion = IstioVersion(1, 20);
