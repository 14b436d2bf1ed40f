//! What an API server checks besides types, in its language CEL, with the words of `routing_plan::resolve`.

use routing_plan::istio::{Capability, IstioVersion};
use serde_json::{Value, json};

use super::schema;

/// A rule about what is at a path.
pub(super) struct Rule {
    path: &'static str,
    /// A condition of CEL. `self` is what is at the path.
    holds: String,
    /// What is wrong if it does not hold.
    message: Message,
    /// The field that is to blame, if it is not what is at the path.
    field: Option<&'static str>,
}

enum Message {
    Text(String),
    /// An expression of CEL.
    Expression(String),
}

impl Rule {
    fn new(path: &'static str, holds: impl Into<String>, message: Message) -> Self {
        Self { path, holds: holds.into(), message, field: None }
    }

    /// The same about a field, such as `.engine`.
    fn of(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }
}

/// Adds patterns to the fields of inline variants. A plan may have so many of these that CEL rules would cost too much; the API
/// server's message then names the pattern.
pub(super) fn add_forms(plan: &mut Value) {
    for (field, form) in [("name", VERSION), ("host", &host()), ("expiresAt", TIMESTAMP)] {
        schema::at(plan, &format!("spec.services[].variants[].{field}"))["pattern"] = json!(form);
    }
}

/// Adds rules to the schema of an object.
pub(super) fn add(object: &mut Value, rules: &[Rule]) {
    for Rule { path, holds, message, field } in rules {
        let mut rule = match message {
            Message::Text(text) => json!({"rule": holds, "message": text}),
            Message::Expression(expression) => json!({"rule": holds, "messageExpression": expression}),
        };
        if let Some(field) = field {
            rule["fieldPath"] = json!(field);
        }
        let schema = schema::at(object, path);
        match schema["x-kubernetes-validations"].as_array_mut() {
            Some(rules) => rules.push(rule),
            None => schema["x-kubernetes-validations"] = json!([rule]),
        }
    }
}

/// The rules of a plan.
pub(super) fn plan() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new("", matches("self.metadata.name", LABEL), expected(EXPECTED_LABEL, "self.metadata.name"))
            .of(".metadata.name"),
        Rule::new("spec.policy", "!has(self.services)", text("the policy's services come from `spec.services`"))
            .of(".services"),
    ];
    rules.extend(filter());
    rules.extend(wasm());
    rules.extend(module());
    rules.extend(authentication());
    rules.extend(telemetry());
    rules.extend(services());
    rules.extend(http_routes());
    rules
}

/// The rules of a variant that is an object.
pub(super) fn variant() -> Vec<Rule> {
    vec![
        Rule::new("spec.variant", matches("self", VERSION), expected(EXPECTED_VERSION, "self")),
        Rule::new("spec.host", matches("self", &host()), expected(EXPECTED_HOST, "self")),
        Rule::new(
            "spec.expiresAt",
            matches("self", TIMESTAMP),
            expected("an RFC 3339 timestamp such as 2026-12-01T00:00:00Z", "self"),
        ),
    ]
}

fn filter() -> Vec<Rule> {
    let at = "spec.filter";
    let version = "spec.filter.istioVersion";
    let is = |resource: &str| format!("(has(self.resource) && self.resource == '{resource}')");
    let envoy_filter = format!("(!has(self.resource) || {})", is("EnvoyFilter"));
    let mut rules = vec![
        Rule::new(version, matches("self", ISTIO_VERSION), expected("a version such as \"1.27\"", "self")),
        Rule::new(
            version,
            format!("!{} || {}", matches("self", ISTIO_VERSION), is_at_least("self", IstioVersion::OLDEST)),
            expected(&format!("Istio {} or newer", IstioVersion::OLDEST), "self"),
        ),
        Rule::new(
            at,
            format!("!{} || {}", is("TrafficExtension"), has("self.istioVersion", Capability::TrafficExtension)),
            since("TrafficExtension exists since Istio", Capability::TrafficExtension, "self.istioVersion"),
        )
        .of(".resource"),
        Rule::new(
            at,
            format!("self.engine != 'module' || {}", has("self.istioVersion", Capability::NativeModule)),
            since("`engine: module` works since Istio", Capability::NativeModule, "self.istioVersion"),
        )
        .of(".engine"),
        Rule::new(
            at,
            format!("self.engine != 'lua' || !{}", is("WasmPlugin")),
            text("a WasmPlugin can't carry `engine: lua`"),
        )
        .of(".resource"),
        Rule::new(
            at,
            format!("self.engine != 'module' || {envoy_filter}"),
            expression(r#""a " + self.resource + " can't carry `engine: module`""#),
        )
        .of(".resource"),
        Rule::new(
            "spec.filter.gateways",
            "size(self.matchLabels) > 0",
            text("expected at least one label of the gateways, found none"),
        )
        .of(".matchLabels"),
    ];
    for (engine, field) in [("wasm", ".wasm"), ("module", ".module")] {
        rules.push(
            Rule::new(
                at,
                format!("self.engine != '{engine}' || has(self.{engine})"),
                text(&format!("`engine: {engine}` needs the field `{engine}`")),
            )
            .of(".engine"),
        );
        let message = expression(format!("\"`{engine}` has no effect with `engine: \" + self.engine + \"`\""));
        rules.push(Rule::new(at, format!("self.engine == '{engine}' || !has(self.{engine})"), message).of(field));
    }
    for field in ["pullSecret", "pullPolicy"] {
        rules.push(
            Rule::new(
                at,
                format!("!has(self.wasm) || !has(self.wasm.{field}) || !{envoy_filter}"),
                text(&format!("an EnvoyFilter can't carry `{field}`")),
            )
            .of(".wasm"),
        );
    }
    rules
}

fn wasm() -> Vec<Rule> {
    let at = "spec.filter.wasm";
    let sources = "[has(self.image), has(self.url), has(self.inline)].filter(given, given)";
    let mut rules = vec![
        Rule::new(at, format!("size({sources}) > 0"), text("expected `image`, `url` or `inline`, found none of them")),
        Rule::new(
            at,
            format!("size({sources}) < 2"),
            text("expected only one of `image`, `url` and `inline`, found more"),
        ),
        Rule::new(at, "!has(self.inline) || has(self.image) || has(self.url)", unreadable("self.inline")).of(".inline"),
        Rule::new(at, "!has(self.sha256) || has(self.url)", text("expected `sha256` beside a `url`, found no `url`"))
            .of(".sha256"),
        Rule::new(
            at,
            "!has(self.pullPolicy) || !has(self.digest) || !has(self.image)",
            text("`pullPolicy` has no effect with `digest`, which always names the same image"),
        )
        .of(".pullPolicy"),
        Rule::new("spec.filter.wasm.image", "!self.startsWith('oci://')", expected("`registry/name:tag`", "self")),
        Rule::new(
            "spec.filter.wasm.image",
            "!self.contains('@')",
            expression(r#""expected `registry/name:tag`, found a digest too: `" + self + "`""#),
        ),
        Rule::new(
            "spec.filter.wasm.digest",
            matches("self", "^sha256:[0-9A-Fa-f]{64}$"),
            expected("`sha256:` and 64 hex digits", "self"),
        ),
        Rule::new("spec.filter.wasm.pullSecret", matches("self", &host()), expected(EXPECTED_HOST, "self")),
        Rule::new(
            "spec.filter.wasm.url",
            matches("self", "^(https|http|file)://"),
            expected("a URL of `https://`, `http://` or `file://`", "self"),
        ),
        sha256("spec.filter.wasm.sha256"),
    ];
    for (name, field) in [("digest", ".digest"), ("pullSecret", ".pullSecret"), ("pullPolicy", ".pullPolicy")] {
        let message = text(&format!("expected `{name}` beside an `image`, found no `image`"));
        rules.push(Rule::new(at, format!("!has(self.{name}) || has(self.image)"), message).of(field));
    }
    rules
}

fn module() -> Vec<Rule> {
    let remote = "has(self.url) && has(self.cluster) && has(self.sha256)";
    let not_remote = "!has(self.url) && !has(self.cluster) && !has(self.sha256)";
    vec![
        Rule::new(
            "spec.filter.module",
            format!("has(self.path) ? {not_remote} : {remote}"),
            text("expected either `path`, or `url`, `cluster` and `sha256`"),
        ),
        Rule::new(
            "spec.filter.module.path",
            "self.startsWith('/')",
            expected("an absolute path in the proxy's container", "self"),
        ),
        Rule::new(
            "spec.filter.module.url",
            matches("self", "^(http|https)://"),
            expected("a URL of `http://` or `https://`", "self"),
        ),
        sha256("spec.filter.module.sha256"),
    ]
}

fn authentication() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new(
            "spec",
            "!has(self.authentication) || has(self.filter.gateways) || has(self.filter.verify)",
            text("`authentication` is for the gateways, and the filter has none"),
        )
        .of(".authentication"),
        Rule::new(
            "spec",
            "!has(self.filter.verify) || has(self.authentication)",
            text("`verify` needs the issuers in `authentication`"),
        )
        .of(".filter.verify"),
        Rule::new(
            "spec",
            "!has(self.authentication) || !has(self.policy) || !has(self.policy.format) || self.policy.format != 'payload'",
            text("a bare payload (`policy.format: payload`) has no signature that could be verified"),
        )
        .of(".authentication"),
        Rule::new(
            "spec",
            "!has(self.filter.verify) || !has(self.authentication) || \
             self.authentication.all(issuer, !has(issuer.jwksUri) || has(issuer.cluster))",
            text("with `filter.verify` the proxies fetch the keys, and `cluster` does not say from where"),
        )
        .of(".authentication"),
        Rule::new("spec.authentication", "size(self) > 0", text("expected at least one issuer, found none")),
        Rule::new("spec.authentication[].issuer", "self != ''", text("expected the token's `iss`, found nothing")),
        Rule::new(
            "spec.authentication[]",
            "has(self.jwksUri) != has(self.jwks)",
            text("expected exactly one of `jwksUri` and `jwks`"),
        ),
        Rule::new(
            "spec.authentication[]",
            "!has(self.cluster) || !has(self.jwks)",
            text("`cluster` has no effect with `jwks`"),
        )
        .of(".cluster"),
        Rule::new(
            "spec.authentication[].jwksUri",
            matches("self", "^(https|http)://"),
            expected("a URL of `https://` or `http://`", "self"),
        ),
    ];
    for (field, given) in [("fromBaggage", "size(self.policy.fromBaggage) > 0"), ("carry", "true")] {
        rules.push(
            Rule::new(
                "spec",
                format!("!has(self.filter.verify) || !has(self.policy) || !has(self.policy.{field}) || !({given})"),
                text(&format!("`{field}` can't be with `filter.verify`: a choice that travels is not signed")),
            )
            .of(".policy"),
        );
    }
    rules
}

fn telemetry() -> Vec<Rule> {
    vec![
        Rule::new(
            "spec",
            "!has(self.telemetry) || (has(self.policy) && has(self.policy.reportHeader))",
            text("the access log prints the report header, and the policy has none"),
        )
        .of(".telemetry"),
        Rule::new("spec.telemetry.accessLogProvider", "self != ''", text("expected a name, found nothing")),
        Rule::new("spec.telemetry.namespaces[]", matches("self", LABEL), expected(EXPECTED_LABEL, "self")),
    ]
}

fn services() -> Vec<Rule> {
    let at = "spec.services[]";
    vec![
        Rule::new(
            at,
            format!("has(self.host) || {}", matches("self.name.lowerAscii()", LABEL)),
            expression(r#""`" + self.name + "` is not a valid Kubernetes Service name""#),
        )
        .of(".name"),
        Rule::new("spec.services[].namespace", matches("self", LABEL), expected(EXPECTED_LABEL, "self")),
        Rule::new("spec.services[].host", matches("self", &host()), expected(EXPECTED_HOST, "self")),
        Rule::new("spec.services[].gateways[]", "self != 'mesh'", text("the mesh always routes the service")),
        Rule::new(
            "spec.services[].gateways[]",
            matches("self", "^([a-z0-9-]+/)?[a-z0-9.-]+$"),
            expected("`namespace/name` or `name` of a Gateway", "self"),
        ),
        Rule::new(
            "spec.services[].hosts[]",
            matches("self", "^([*][.])?[a-z0-9.-]+$"),
            expected("a DNS name in lower case, with or without `*.` before it", "self"),
        ),
        Rule::new(
            at,
            "!has(self.hosts) || size(self.hosts) == 0 || (has(self.gateways) && size(self.gateways) > 0)",
            text("`hosts` are reached through `gateways`, and there are none"),
        )
        .of(".hosts"),
        Rule::new(at, "!has(self.base) || has(self.baseRef)", unreadable("self.base")).of(".base"),
        Rule::new(
            at,
            "!has(self.base) || !has(self.baseRef)",
            text("expected only one of `base` and `baseRef`, found both"),
        )
        .of(".baseRef"),
        Rule::new("spec.services[].baseRef.name", matches("self", &host()), expected(EXPECTED_HOST, "self")),
        Rule::new(
            "spec.services[].allowedNamespaces[]",
            matches("self", "^([*]|[a-z0-9]([-a-z0-9]*([a-z0-9]|[*]))?)$"),
            expected("a namespace, or the start of its name and `*`", "self"),
        ),
    ]
}

/// What a plan whose routes are `HTTPRoute`s needs and can't have.
fn http_routes() -> Vec<Rule> {
    let is_other = "!has(self.routes) || !has(self.routes.resource) || self.routes.resource != 'HTTPRoute'";
    let mut rules = vec![
        Rule::new(
            "spec",
            format!("{is_other} || {}", has("self.filter.istioVersion", Capability::HttpRoutesInMesh)),
            since("Istio routes the mesh by HTTPRoute since", Capability::HttpRoutesInMesh, "self.filter.istioVersion"),
        )
        .of(".routes.resource"),
        Rule::new(
            "spec",
            format!("{is_other} || self.services.all(service, has(service.port))"),
            text("an HTTPRoute needs the service's `port`"),
        )
        .of(".services"),
    ];
    for (field, given) in [
        ("gateways", "size(service.gateways) > 0"),
        ("hosts", "size(service.hosts) > 0"),
        ("base", "true"),
        ("baseRef", "true"),
    ] {
        rules.push(
            Rule::new(
                "spec",
                format!("{is_other} || !self.services.exists(service, has(service.{field}) && {given})"),
                text(&format!("`{field}` has no effect on HTTPRoutes, it is for VirtualServices")),
            )
            .of(".services"),
        );
    }
    rules
}

fn sha256(path: &'static str) -> Rule {
    Rule::new(path, matches("self", "^[0-9A-Fa-f]{64}$"), expected("64 hex digits", "self"))
}

/// That a text has the form of a regular expression.
fn matches(text: &str, form: &str) -> String {
    format!("{text}.matches('{form}')")
}

/// That a version of Istio, if it is one, has a capability.
fn has(version: &str, capability: Capability) -> String {
    format!("!{} || {}", matches(version, ISTIO_VERSION), is_at_least(version, capability.since()))
}

fn is_at_least(version: &str, IstioVersion(major, minor): IstioVersion) -> String {
    let number = |index| format!("int({version}.split('.')[{index}])");
    format!("{} > {major} || ({} == {major} && {} >= {minor})", number(0), number(0), number(1))
}

/// That something is or works only since a version.
fn since(what: &str, capability: Capability, version: &str) -> Message {
    expression(format!("\"{what} {}, and `istioVersion` is \" + {version}", capability.since()))
}

fn text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

fn expression(expression: impl Into<String>) -> Message {
    Message::Expression(expression.into())
}

/// That something else was expected than what an expression of CEL gives.
fn expected(what: &str, found: &str) -> Message {
    // A text of Rust in quotes is one of CEL.
    expression(format!("{:?} + {found} + \"`\"", format!("expected {what}, found `")))
}

/// That a file can't be read, which no object carries.
fn unreadable(path: &str) -> Message {
    expression(format!("\"can't read \" + {path} + \": the file was not given\""))
}

/// A DNS name. How long its labels are stays with the controller.
fn host() -> String {
    let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    format!("^{label}([.]{label})*$")
}

const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
const EXPECTED_LABEL: &str = "a DNS label (1 to 63 of `a-z 0-9 -`, without `-` at its ends)";
const EXPECTED_HOST: &str =
    "a DNS name in lower case (labels of `a-z 0-9 -`, separated by dots, at most 253 characters)";
const VERSION: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
const EXPECTED_VERSION: &str = "a version (1 to 63 of `A-Z a-z 0-9 . _ -`, with a letter or digit at its ends)";
const TIMESTAMP: &str = "^[0-9-]{10}[Tt ][0-9:.]{8,}([Zz]|[+-][0-9:]{5})$";
const ISTIO_VERSION: &str = "^[0-9]{1,4}[.][0-9]{1,4}([.][0-9]{1,4})?$";
