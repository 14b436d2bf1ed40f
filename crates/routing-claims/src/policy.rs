//! What was configured, validated: a [`Policy`] that exists can be followed on every request.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use crate::{
    config::{self, HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig},
    limits::{self, Bound},
    names::{Names, length_bit},
};

/// A validated policy. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct Policy(Arc<Inner>);

struct Inner {
    config: PolicyConfig,
    open: bool,
    /// Closed mode: the headers of the services, in order. Open mode: empty.
    headers: Vec<Box<str>>,
    /// Closed mode: the services, each with the index of its header.
    services: Names,
    /// The managed headers that are known by name.
    managed: Names,
    /// As [`length_bit`]s, the lengths of managed headers and of those that may hold a token.
    read_lengths: u64,
    /// The [`mark`] of each cookie's name.
    cookies: Vec<u64>,
    /// The [`end_bit`]s of none of these names, of the first, of the first two, and so on.
    cookie_ends: Vec<u64>,
}

/// Why a configuration is no policy: every problem, each with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPolicy {
    problems: Vec<PolicyProblem>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Path of the field, such as `services[1].header`.
    pub path: String,
    /// What was found and what is allowed.
    pub message: String,
}

impl Policy {
    /// Validates a configuration.
    ///
    /// # Errors
    ///
    /// Every problem found, in the order of the fields.
    pub fn new(config: PolicyConfig) -> Result<Self, InvalidPolicy> {
        let config = normalize(config);
        let problems = Check::of(&config);
        if problems.is_empty() { Ok(Self(Arc::new(Inner::new(config)))) } else { Err(InvalidPolicy { problems }) }
    }

    /// Reads a configuration as JSON and validates it.
    ///
    /// # Errors
    ///
    /// The place and reason at which the text is no JSON or does not fit [`PolicyConfig`]; else as [`Policy::new`].
    pub fn from_json(text: &[u8]) -> Result<Self, InvalidPolicy> {
        config::from_json(text).map_err(|problem| InvalidPolicy { problems: vec![problem] }).and_then(Self::new)
    }

    /// The configuration with its defaults filled in: each service has its `header`, names of header sources are in
    /// lower case.
    #[must_use]
    pub fn config(&self) -> &PolicyConfig {
        &self.0.config
    }

    /// Whether requests may carry this header only by decision of the policy. The name may be in any case.
    #[must_use]
    pub fn is_managed(&self, header: &[u8]) -> bool {
        self.is_under_prefix(header) || self.0.managed.get(header).is_some()
    }

    /// Whether this header may be managed or hold a token; most are told by their length.
    #[inline]
    pub(crate) fn may_read(&self, header: &[u8]) -> bool {
        self.0.read_lengths & length_bit(header.len()) != 0 || self.is_under_prefix(header)
    }

    /// Which of the first so many cookies of the policy has this name.
    #[inline]
    pub(crate) fn cookie(&self, name: &[u8], count: usize) -> Option<usize> {
        let Inner { cookies, cookie_ends, config, .. } = &*self.0;
        let count = count.min(cookies.len());
        // Most names are told by length and last byte, most others by their mark.
        if cookie_ends.get(count)? & end_bit(name) == 0 || !cookies.get(..count)?.contains(&mark(name)) {
            return None;
        }
        config.from_cookies.iter().take(count).position(|cookie| cookie.as_bytes() == name)
    }

    #[inline]
    fn is_under_prefix(&self, header: &[u8]) -> bool {
        let Some(prefix) = &self.0.config.header_prefix else { return false };
        header.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }

    /// Whether any service may be routed.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.0.open
    }

    /// Index of the service that a claim's key names, in order of header name (R10, closed mode).
    #[inline]
    pub(crate) fn service(&self, key: &[u8]) -> Option<u16> {
        self.0.services.get(key)
    }

    /// Header of the service at an index that [`Policy::service`] gave.
    pub(crate) fn service_header(&self, index: u16) -> &str {
        let header = self.0.headers.get(usize::from(index));
        header.map_or("", |header| header)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").field(&self.0.config).finish()
    }
}

impl InvalidPolicy {
    /// Every problem, in the order of the fields; at least one.
    #[must_use]
    pub fn problems(&self) -> &[PolicyProblem] {
        &self.problems
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidPolicy {}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl Inner {
    fn new(config: PolicyConfig) -> Self {
        let services = || config.services.iter().flatten();
        let mut headers: Vec<Box<str>> = Vec::new();
        for header in services().filter_map(|service| service.header.as_deref()) {
            let (Ok(at) | Err(at)) = headers.binary_search_by(|other| (**other).cmp(header));
            headers.insert(at, header.into());
        }
        let index = |header: &str| headers.binary_search_by(|other| (**other).cmp(header)).unwrap_or_default();
        let index = |header: &str| u16::try_from(index(header)).unwrap_or_default();
        let bytes = |text: &str| Box::from(text.as_bytes());
        let named =
            services().filter_map(|ServiceConfig { name, header }| Some((bytes(name), index(header.as_deref()?))));
        let services = Names::new(named.collect());
        let managed = headers.iter().map(|header| &**header).chain(config.report_header.as_deref());
        let managed = Names::new(managed.map(|header| (bytes(header), 0)).collect());
        let cookie = (!config.from_cookies.is_empty()).then_some("cookie");
        let sources = config.from_headers.iter().map(|source| &*source.name).chain(cookie);
        let read_lengths = sources.fold(managed.lengths(), |bits, name| bits | length_bit(name.len()));
        let cookies = config.from_cookies.iter().map(|name| mark(name.as_bytes())).collect();
        let mut cookie_ends = vec![0];
        for name in &config.from_cookies {
            cookie_ends.push(cookie_ends.last().copied().unwrap_or_default() | end_bit(name.as_bytes()));
        }
        Self { open: config.services.is_none(), config, headers, services, managed, read_lengths, cookies, cookie_ends }
    }
}

/// Length and last byte of a name as a bit, which it has in common with few others; none of an empty one.
#[inline]
fn end_bit(name: &[u8]) -> u64 {
    name.last().map_or(0, |last| 1 << (usize::from(*last).wrapping_add(name.len().wrapping_mul(29)) & 63))
}

/// The first and the last four bytes of a name, or all of a shorter one.
#[inline]
fn mark(name: &[u8]) -> u64 {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)),
        _ => name.iter().fold(1, |mark, byte| mark << 8 | u64::from(*byte)),
    }
}

fn normalize(mut config: PolicyConfig) -> PolicyConfig {
    for source in &mut config.from_headers {
        source.name.make_ascii_lowercase();
    }
    for service in config.services.iter_mut().flatten() {
        if service.header.is_none() {
            service.header = Some(service.name.to_ascii_lowercase());
        }
    }
    config
}

/// Adds a text to a sorted list and says whether it was new.
fn insert(list: &mut Vec<String>, text: String) -> bool {
    match list.binary_search(&text) {
        Ok(_) => false,
        Err(at) => {
            list.insert(at, text);
            true
        }
    }
}

/// Collects the problems of a configuration, in the order of its fields.
struct Check<'c> {
    config: &'c PolicyConfig,
    problems: Vec<PolicyProblem>,
}

impl<'c> Check<'c> {
    fn of(config: &'c PolicyConfig) -> Vec<PolicyProblem> {
        let mut check = Self { config, problems: Vec::new() };
        check.sources();
        check.claim_path();
        match (&config.services, &config.header_prefix) {
            (Some(services), None) => check.services(services),
            (None, Some(prefix)) => check.header_prefix(prefix),
            (None, None) => check.problem("services", "missing: give either `services` or `headerPrefix`"),
            (Some(_), Some(_)) => check.problem("headerPrefix", "given beside `services`: give only one of the two"),
        }
        check.report_header();
        check.number("clockSkewSeconds", config.clock_skew_seconds, limits::CLOCK_SKEW_SECONDS);
        let LimitsConfig { max_token_bytes, max_payload_bytes, max_routes, max_depth } = config.limits;
        check.number("limits.maxTokenBytes", max_token_bytes, limits::TOKEN_BYTES);
        check.number("limits.maxPayloadBytes", max_payload_bytes, limits::PAYLOAD_BYTES);
        check.number("limits.maxRoutes", max_routes, limits::ROUTES);
        check.number("limits.maxDepth", max_depth, limits::DEPTH);
        check.problems
    }

    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(PolicyProblem { path: path.into(), message: message.into() });
    }

    fn number(&mut self, path: &str, found: u32, bound: Bound) {
        if !bound.range().contains(&found) {
            self.problem(path, format!("found {found}, allowed is {}..={}", bound.min, bound.max));
        }
    }

    fn length(&mut self, path: &str, text: &str, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&text.len()) {
            let (min, max) = allowed.into_inner();
            self.problem(path, format!("found {} bytes, allowed are {min}..={max}", text.len()));
        }
    }

    fn count(&mut self, path: &str, found: usize, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&found) {
            let (min, max) = allowed.into_inner();
            self.problem(path, format!("found {found} entries, allowed are {min}..={max}"));
        }
    }

    fn sources(&mut self) {
        let PolicyConfig { from_headers, from_cookies, .. } = self.config;
        if from_headers.is_empty() && from_cookies.is_empty() {
            self.problem("fromHeaders", "empty, and `fromCookies` too: a token must be able to come from somewhere");
        }
        self.count("fromHeaders", from_headers.len(), 0..=limits::SOURCES);
        self.count("fromCookies", from_cookies.len(), 0..=limits::SOURCES);
        for (index, HeaderSourceConfig { name, prefix }) in from_headers.iter().enumerate() {
            let mut before = from_headers.iter().take(index);
            let path = format!("fromHeaders[{index}].name");
            if name == "cookie" {
                self.problem(path, "found `cookie`: name the cookie in `fromCookies`");
            } else if !is_token(name) {
                self.problem(
                    path,
                    format!("found {}, allowed is the name of a header (RFC 9110 section 5.1)", quoted(name)),
                );
            } else if before.any(|other| other.name == *name && other.prefix.eq_ignore_ascii_case(prefix)) {
                self.problem(path, format!("{} with this prefix stands twice", quoted(name)));
            }
            let path = format!("fromHeaders[{index}].prefix");
            self.length(&path, prefix, 0..=limits::SOURCE_PREFIX_BYTES);
            if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',') || prefix.starts_with(' ') {
                let allowed = "printable ASCII characters without `,`, the first no space";
                self.problem(path, format!("found {}, allowed are {allowed}", quoted(prefix)));
            }
        }
        for (index, name) in from_cookies.iter().enumerate() {
            let path = format!("fromCookies[{index}]");
            if !is_token(name) {
                self.problem(
                    path,
                    format!("found {}, allowed is the name of a cookie (RFC 6265 section 4.1.1)", quoted(name)),
                );
            } else if from_cookies.iter().take(index).any(|other| other == name) {
                self.problem(path, format!("{} stands twice", quoted(name)));
            }
        }
    }

    fn claim_path(&mut self) {
        let PolicyConfig { claim_path, limits: LimitsConfig { max_depth, .. }, .. } = self.config;
        for (index, segment) in claim_path.iter().enumerate() {
            self.length(&format!("claimPath[{index}]"), segment, 1..=limits::PATH_SEGMENT_BYTES);
        }
        if let Some(first) = claim_path.first()
            && is_time_claim(first)
        {
            self.problem("claimPath[0]", format!("found {}, which is a number (RFC 7519 section 4.1)", quoted(first)));
        }
        let depth = claim_path.len().saturating_add(1);
        if depth > usize::try_from(*max_depth).unwrap_or(usize::MAX) {
            self.problem("claimPath", format!("leads to depth {depth}, `limits.maxDepth` is {max_depth}"));
        }
    }

    fn services(&mut self, services: &[ServiceConfig]) {
        self.count("services", services.len(), 1..=limits::SERVICES);
        let (mut names, mut headers) = (Vec::new(), Vec::new());
        for (index, ServiceConfig { name, header }) in services.iter().enumerate() {
            let path = format!("services[{index}].name");
            self.length(&path, name, 1..=limits::NAME_BYTES);
            let folded = name.to_ascii_lowercase();
            if self.config.claim_path.is_empty() && is_time_claim(&folded) {
                self.problem(path, format!("found {}, which is the token's time; give a `claimPath`", quoted(name)));
            } else if !insert(&mut names, folded) {
                self.problem(
                    path,
                    format!("{} stands twice (names are compared without regard to case)", quoted(name)),
                );
            }
            let path = format!("services[{index}].header");
            let header = header.as_deref().unwrap_or_default();
            if self.managed_header(&path, header) && !insert(&mut headers, header.to_owned()) {
                self.problem(path, format!("{} stands twice", quoted(header)));
            }
        }
    }

    fn header_prefix(&mut self, prefix: &str) {
        let path = "headerPrefix";
        if self.config.claim_path.is_empty() {
            self.problem(path, "needs a `claimPath`: without one, `sub` and `email` would become headers");
        }
        self.length(path, prefix, limits::HEADER_PREFIX_BYTES);
        if !is_lower_token(prefix) || !prefix.ends_with('-') {
            self.problem(
                path,
                format!("found {}, allowed is the start of a lower-case header name, up to a `-`", quoted(prefix)),
            );
            return;
        }
        let sources = self.config.from_headers.iter().map(|source| &*source.name);
        let under =
            PROTECTED.iter().chain(PROTECTED_FAMILIES).copied().chain(sources).find(|name| name.starts_with(prefix));
        let over = PROTECTED_FAMILIES.iter().find(|family| prefix.starts_with(**family));
        if let Some(name) = under {
            self.problem(path, format!("found {}, under which {} falls", quoted(prefix), quoted(name)));
        } else if let Some(family) = over {
            self.problem(path, format!("found {}, which falls under the protected `{family}*`", quoted(prefix)));
        }
    }

    fn report_header(&mut self) {
        let PolicyConfig { report_header: Some(report), services, header_prefix, .. } = self.config else { return };
        let path = "reportHeader";
        if !self.managed_header(path, report) {
            return;
        }
        if services.iter().flatten().any(|service| service.header.as_ref() == Some(report)) {
            self.problem(path, format!("{} is the header of a service", quoted(report)));
        } else if header_prefix.as_ref().is_some_and(|prefix| report.starts_with(&**prefix)) {
            self.problem(path, format!("found {}, which falls under `headerPrefix`", quoted(report)));
        }
    }

    /// Whether the header may be managed; if not, says why.
    fn managed_header(&mut self, path: &str, header: &str) -> bool {
        let message = if header.len() > limits::HEADER_BYTES {
            format!("found {} bytes, allowed are 1..={}", header.len(), limits::HEADER_BYTES)
        } else if !is_lower_token(header) {
            format!("found {}, allowed is a lower-case header name (RFC 9110 section 5.1)", quoted(header))
        } else if PROTECTED.contains(&header) || PROTECTED_FAMILIES.iter().any(|family| header.starts_with(family)) {
            format!("found {}, which is protected: the mesh or HTTP itself needs it", quoted(header))
        } else if self.config.from_headers.iter().any(|source| source.name == header) {
            format!("found {}, which is a source of the token", quoted(header))
        } else {
            return true;
        };
        self.problem(path, message);
        false
    }
}

/// A text of the configuration in backticks, on one line.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", on_one_line(text))
}

/// A text of the configuration on one line, whatever it holds: messages go to logs.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// RFC 7519 section 4.1: the registered claims that the policy reads itself.
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

/// Starts of header names that no policy may manage. Pseudo-headers (`:path`) are no tokens to begin with.
const PROTECTED_FAMILIES: &[&str] = &["x-envoy-", "x-forwarded-", "x-istio-", "x-b3-"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_headers_are_told_in_any_case_and_nothing_else_is() {
        let long = "x-".repeat(40);
        let text = format!(
            r#"{{"services": [{{"name": "Shop"}}, {{"name": "b", "header": "x-route-b"}}, {{"name": "c", "header": "{long}a"}}],
                "reportHeader": "x-report"}}"#
        );
        let policy = Policy::from_json(text.as_bytes()).unwrap();
        let managed = ["shop", "SHOP", "sHoP", "x-route-b", "X-Route-B", "x-report", "X-REPORT", &format!("{long}A")];
        let others =
            ["", "b", "c", "sho", "shops", "shep", "x-route-c", "x-repor", "x-reporu", &long, &format!("{long}b")];
        assert!(managed.iter().all(|header| policy.is_managed(header.as_bytes())));
        assert_eq!(others.iter().find(|header| policy.is_managed(header.as_bytes())), None);
        assert!(!policy.is_managed(b"s\xc8op") && !policy.is_managed(b"\xff"));
    }

    #[test]
    fn headers_under_the_prefix_are_told_in_any_case() {
        let policy =
            Policy::from_json(br#"{"claimPath": ["r"], "headerPrefix": "x-route-", "reportHeader": "x-report"}"#)
                .unwrap();
        for header in ["x-route-a", "X-ROUTE-A", "x-Route-", "x-route-\u{e9}", "X-Report"] {
            assert!(policy.is_managed(header.as_bytes()), "{header}");
        }
        for header in ["", "x-route", "x-rout", "ax-route-a", "x-report-a"] {
            assert!(!policy.is_managed(header.as_bytes()), "{header}");
        }
    }

    #[test]
    fn all_problems_are_told_in_one_text() {
        let error = Policy::from_json(br#"{"fromHeaders": [], "clockSkewSeconds": 301}"#).unwrap_err();
        let paths: Vec<_> = error.problems().iter().map(|problem| &*problem.path).collect();
        assert_eq!(paths, ["fromHeaders", "services", "clockSkewSeconds"]);
        let texts: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
        assert_eq!(error.to_string(), texts.join("; "));
        assert_eq!(texts[2], "clockSkewSeconds: found 301, allowed is 0..=300");
    }
}
