//! Validates a configuration beyond its types.

use std::{collections::BTreeSet, ops::RangeInclusive};

use crate::{
    config::{CarryConfig, HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig},
    diagnostic::{FieldPath, PolicyDiagnostic, PolicyDiagnosticKind as Kind, quoted},
    limits::{self, Bound},
};

/// Every diagnostic, in the order of the fields. Empty for a valid configuration. Defaults must be filled in.
pub(super) fn validate(config: &PolicyConfig) -> Vec<PolicyDiagnostic> {
    let mut validator = Validator { config, diagnostics: Vec::new() };
    validator.sources();
    validator.carry();
    validator.claim_path();
    match (&config.services, &config.header_prefix) {
        (Some(services), None) => validator.services(services),
        (None, Some(prefix)) => validator.header_prefix(prefix),
        (None, None) => validator.add("services", Kind::MissingField, ONE_MODE, "neither"),
        (Some(_), Some(_)) => validator.add("headerPrefix", Kind::Conflict, ONE_MODE, "both"),
    }
    validator.report_header();
    validator.number("clockSkewSeconds", config.clock_skew_seconds, limits::CLOCK_SKEW_SECONDS);
    let LimitsConfig { max_token_bytes, max_payload_bytes, max_routes, max_depth } = config.limits;
    let limit = |name: &str| FieldPath::from("limits").field(name);
    validator.number(limit("maxTokenBytes"), max_token_bytes, limits::TOKEN_BYTES);
    validator.number(limit("maxPayloadBytes"), max_payload_bytes, limits::PAYLOAD_BYTES);
    validator.number(limit("maxRoutes"), max_routes, limits::ROUTES);
    validator.number(limit("maxDepth"), max_depth, limits::DEPTH);
    validator.diagnostics
}

struct Validator<'c> {
    config: &'c PolicyConfig,
    diagnostics: Vec<PolicyDiagnostic>,
}

impl Validator<'_> {
    fn sources(&mut self) {
        let PolicyConfig { from_headers, from_cookies, from_baggage, .. } = self.config;
        if from_headers.is_empty() && from_cookies.is_empty() && from_baggage.is_empty() {
            let expected = "at least one entry in `fromHeaders`, `fromCookies` or `fromBaggage`";
            self.add("fromHeaders", Kind::OutOfRange, expected, "none");
        }
        self.count("fromHeaders", from_headers.len(), 0..=limits::SOURCES);
        self.count("fromCookies", from_cookies.len(), 0..=limits::SOURCES);
        self.count("fromBaggage", from_baggage.len(), 0..=limits::SOURCES);
        for (index, HeaderSourceConfig { name, prefix }) in from_headers.iter().enumerate() {
            let source = || FieldPath::from("fromHeaders").index(index);
            let mut earlier = from_headers.iter().take(index);
            if name == "cookie" {
                let expected = "a header other than `cookie`, whose cookies are named in `fromCookies`";
                self.add(source().field("name"), Kind::InvalidText, expected, "`cookie`");
            } else if name == "baggage" {
                let expected = "a header other than `baggage`, whose keys are named in `fromBaggage`";
                self.add(source().field("name"), Kind::InvalidText, expected, "`baggage`");
            } else if !is_token(name) {
                let expected = "a header name (RFC 9110 section 5.1)";
                self.add(source().field("name"), Kind::InvalidText, expected, quoted(name));
            } else if earlier.any(|other| other.name == *name && other.prefix.eq_ignore_ascii_case(prefix)) {
                self.duplicate(source().field("name"), "each pair of name and prefix once", name);
            }
            self.length(source().field("prefix"), prefix, 0..=limits::SOURCE_PREFIX_BYTES);
            if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',') || prefix.starts_with(' ') {
                let expected = "printable ASCII without `,` that does not start with a space";
                self.add(source().field("prefix"), Kind::InvalidText, expected, quoted(prefix));
            }
        }
        for (index, name) in from_cookies.iter().enumerate() {
            let path = FieldPath::from("fromCookies").index(index);
            if !is_token(name) {
                self.add(path, Kind::InvalidText, "a cookie name (RFC 6265 section 4.1.1)", quoted(name));
            } else if from_cookies.iter().take(index).any(|other| other == name) {
                self.duplicate(path, "each cookie once", name);
            }
        }
        for (index, key) in from_baggage.iter().enumerate() {
            let path = || FieldPath::from("fromBaggage").index(index);
            self.baggage_key(path(), key);
            if from_baggage.iter().take(index).any(|other| other == key) {
                self.duplicate(path(), "each key once", key);
            }
        }
    }

    fn carry(&mut self) {
        let PolicyConfig { carry: Some(carry), from_headers, .. } = self.config else { return };
        let field = |name: &str| FieldPath::from("carry").field(name);
        let header = match carry {
            CarryConfig { baggage: Some(key), header: None } => return self.baggage_key(field("baggage"), key),
            CarryConfig { baggage: None, header: Some(header) } => header,
            CarryConfig { baggage: None, header: None } => {
                return self.add("carry", Kind::MissingField, ONE_CARRIER, "neither");
            }
            CarryConfig { .. } => return self.add("carry", Kind::Conflict, ONE_CARRIER, "both"),
        };
        // A source without a prefix can be the carrier: what one hop writes, the next one reads.
        let has_prefix = from_headers.iter().any(|source| source.name == *header && !source.prefix.is_empty());
        if self.header_name(field("header"), header) {
            let taken_by = has_prefix.then_some("a source with a `prefix`").or_else(|| self.routing_header(header));
            self.own_header(field("header"), header, taken_by);
        }
    }

    /// Checks the key of a `baggage` member.
    fn baggage_key(&mut self, path: FieldPath, key: &str) {
        if is_token(key) {
            self.length(path, key, 1..=limits::BAGGAGE_KEY_BYTES);
        } else {
            self.add(path, Kind::InvalidText, "a key of W3C Baggage (section 3.2.1.2)", quoted(key));
        }
    }

    fn claim_path(&mut self) {
        let PolicyConfig { claim_path, limits: LimitsConfig { max_depth, .. }, .. } = self.config;
        for (index, segment) in claim_path.iter().enumerate() {
            self.length(FieldPath::from("claimPath").index(index), segment, 1..=limits::PATH_SEGMENT_BYTES);
        }
        if let Some(first) = claim_path.first().filter(|first| is_time_claim(first)) {
            let found = format!("{}, which is a number (RFC 7519 section 4.1)", quoted(first));
            self.add(FieldPath::from("claimPath").index(0), Kind::InvalidText, "the name of an object", found);
        }
        // The payload itself is depth 1.
        let depth = claim_path.len() + 1;
        if u32::try_from(depth).is_ok_and(|depth| depth <= *max_depth) {
            return;
        }
        let expected = format!("a path to depth {max_depth} at most (`limits.maxDepth`)");
        self.add("claimPath", Kind::Conflict, expected, format!("a path to depth {depth}"));
    }

    fn services(&mut self, services: &[ServiceConfig]) {
        self.count("services", services.len(), 1..=limits::SERVICES);
        let (mut names, mut headers) = (BTreeSet::new(), BTreeSet::new());
        for (index, ServiceConfig { name, header }) in services.iter().enumerate() {
            let field = |field: &str| FieldPath::from("services").index(index).field(field);
            self.length(field("name"), name, 1..=limits::NAME_BYTES);
            let folded = name.to_ascii_lowercase();
            if self.config.claim_path.is_empty() && is_time_claim(&folded) {
                let found = format!("{}, a time of the token itself", quoted(name));
                self.add(field("name"), Kind::Conflict, "a `claimPath`, or a name other than `exp` and `nbf`", found);
            } else if !names.insert(folded) {
                self.duplicate(field("name"), "each name once (case-insensitive)", name);
            }
            let header = header.as_deref().unwrap_or_default();
            if self.managed_header(field("header"), header) && !headers.insert(header.to_owned()) {
                self.duplicate(field("header"), "each header once", header);
            }
        }
    }

    fn header_prefix(&mut self, prefix: &str) {
        let path = "headerPrefix";
        if self.config.claim_path.is_empty() {
            let expected = "a `claimPath` beside it, without which `sub` and `email` would become headers";
            self.add(path, Kind::MissingField, expected, "none");
        }
        self.length(path, prefix, limits::HEADER_PREFIX_BYTES);
        if !is_lower_token(prefix) || !prefix.ends_with('-') {
            let expected = "the start of a lower-case header name, up to and including a `-`";
            return self.add(path, Kind::InvalidText, expected, quoted(prefix));
        }
        let expected = "a prefix apart from protected headers and the token's sources";
        let sources = self.config.from_headers.iter().map(|source| &*source.name);
        let mut others = PROTECTED.iter().chain(PROTECTED_FAMILIES).copied().chain(sources);
        if let Some(name) = others.find(|name| name.starts_with(prefix)) {
            self.add(
                path,
                Kind::ReservedHeader,
                expected,
                format!("{}, which covers {}", quoted(prefix), quoted(name)),
            );
        } else if let Some(family) = PROTECTED_FAMILIES.iter().find(|family| prefix.starts_with(**family)) {
            let found = format!("{}, which is part of the protected `{family}*`", quoted(prefix));
            self.add(path, Kind::ReservedHeader, expected, found);
        }
    }

    fn report_header(&mut self) {
        let PolicyConfig { report_header: Some(report), carry, .. } = self.config else { return };
        if !self.managed_header("reportHeader", report) {
            return;
        }
        let is_carrier = carry.as_ref().is_some_and(|carry| carry.header.as_ref() == Some(report));
        let taken_by = is_carrier.then_some("the carrier").or_else(|| self.routing_header(report));
        self.own_header("reportHeader".into(), report, taken_by);
    }

    /// Adds a diagnostic if the header is something else already.
    fn own_header(&mut self, path: FieldPath, header: &str, taken_by: Option<&str>) {
        if let Some(taken_by) = taken_by {
            let found = format!("{}, {taken_by}", quoted(header));
            self.add(path, Kind::Conflict, "a header of its own", found);
        }
    }

    /// What the header is, if the policy routes by it.
    fn routing_header(&self, header: &str) -> Option<&'static str> {
        let PolicyConfig { services, header_prefix, .. } = self.config;
        if services.iter().flatten().any(|service| service.header.as_deref() == Some(header)) {
            Some("the header of a service")
        } else if header_prefix.as_ref().is_some_and(|prefix| header.starts_with(&**prefix)) {
            Some("a header under `headerPrefix`")
        } else {
            None
        }
    }

    /// Whether the policy may manage the header. If not, adds a diagnostic.
    fn managed_header(&mut self, path: impl Into<FieldPath>, header: &str) -> bool {
        let path = path.into();
        if !self.header_name(path.clone(), header) {
            return false;
        }
        let is_source = self.config.from_headers.iter().any(|source| source.name == header);
        if is_source {
            let found = format!("{}, which is a source of the token", quoted(header));
            self.add(path, Kind::ReservedHeader, "a header that a policy may manage", found);
        }
        !is_source
    }

    /// Whether the filter may set the header. If not, adds a diagnostic.
    fn header_name(&mut self, path: FieldPath, header: &str) -> bool {
        if header.len() > limits::HEADER_BYTES {
            self.length(path, header, 1..=limits::HEADER_BYTES);
        } else if !is_lower_token(header) {
            let expected = "a lower-case header name (RFC 9110 section 5.1)";
            self.add(path, Kind::InvalidText, expected, quoted(header));
        } else if PROTECTED.contains(&header) || PROTECTED_FAMILIES.iter().any(|family| header.starts_with(family)) {
            let found = format!("{}, which is protected: HTTP or the mesh needs it", quoted(header));
            self.add(path, Kind::ReservedHeader, "a header that a policy may manage", found);
        } else {
            return true;
        }
        false
    }

    fn number(&mut self, path: impl Into<FieldPath>, found: u32, bound: Bound) {
        if !bound.range().contains(&found) {
            self.add(path, Kind::OutOfRange, bound.to_string(), found.to_string());
        }
    }

    fn length(&mut self, path: impl Into<FieldPath>, text: &str, allowed: RangeInclusive<usize>) {
        self.size(path, text.len(), allowed, "bytes");
    }

    fn count(&mut self, path: impl Into<FieldPath>, found: usize, allowed: RangeInclusive<usize>) {
        self.size(path, found, allowed, "entries");
    }

    fn size(&mut self, path: impl Into<FieldPath>, found: usize, allowed: RangeInclusive<usize>, unit: &str) {
        if !allowed.contains(&found) {
            let (min, max) = allowed.into_inner();
            let expected = if min == 0 { format!("at most {max} {unit}") } else { format!("{min} to {max} {unit}") };
            self.add(path, Kind::OutOfRange, expected, found.to_string());
        }
    }

    fn duplicate(&mut self, path: impl Into<FieldPath>, expected: &str, text: &str) {
        self.add(path, Kind::DuplicateEntry, expected, format!("duplicate {}", quoted(text)));
    }

    fn add(&mut self, path: impl Into<FieldPath>, kind: Kind, expected: impl Into<String>, found: impl Into<String>) {
        let (path, expected, found) = (path.into(), expected.into(), found.into());
        self.diagnostics.push(PolicyDiagnostic { path, kind, expected, found });
    }
}

/// Whether a claim of the payload's top level is one that the filter reads as a time (RFC 7519 section 4.1).
fn is_time_claim(name: &str) -> bool {
    matches!(name, "exp" | "nbf")
}

fn is_lower_token(text: &str) -> bool {
    is_token(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `token = 1*tchar` (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The fields that select the carrier.
const ONE_CARRIER: &str = "either `baggage` or `header`";

/// The fields that select listed or prefix mode.
const ONE_MODE: &str = "either `services` or `headerPrefix`";

/// Headers that no policy may manage.
const PROTECTED: &[&str] = &[
    "host",
    "authorization",
    "cookie",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "forwarded",
    "via",
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
];

/// Prefixes of header names that no policy may manage. Pseudo-headers (`:path`) are not valid header names anyway.
const PROTECTED_FAMILIES: &[&str] = &["x-envoy-", "x-forwarded-", "x-istio-", "x-b3-"];
