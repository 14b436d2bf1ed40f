//! What was configured, validated: a [`Policy`] that exists can be followed on every request.

use std::{cmp::Ordering, collections::BTreeSet, fmt, ops::RangeInclusive, sync::Arc};

use crate::{
    config::{HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig},
    limits::{self, Bound},
};

/// A validated policy. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct Policy(Arc<Inner>);

struct Inner {
    config: PolicyConfig,
    /// Closed mode: in order of header name. Open mode: empty.
    services: Vec<Service>,
    /// Indices into `services`, in the order of [`compare_names`].
    by_name: Vec<u16>,
    /// Bit n: some managed header that is known by name has n bytes (bit 63: or more).
    header_lengths: u64,
}

struct Service {
    name: Box<[u8]>,
    header: Box<str>,
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
    #[cfg(feature = "json")]
    pub fn from_json(text: &[u8]) -> Result<Self, InvalidPolicy> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let config = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| (error.path().to_string(), error.into_inner()))
            .and_then(|config| json.end().map(|()| config).map_err(|error| (".".into(), error)));
        config.map_err(|(path, error)| InvalidPolicy::of_json(path, &error)).and_then(Self::new)
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
        let config = &self.0.config;
        if let Some(prefix) = &config.header_prefix
            && header.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        {
            return true;
        }
        self.0.header_lengths & length_bit(header.len()) != 0
            && (config.report_header.as_ref().is_some_and(|report| header.eq_ignore_ascii_case(report.as_bytes()))
                || self
                    .0
                    .services
                    .binary_search_by(|service| compare_headers(service.header.as_bytes(), header))
                    .is_ok())
    }

    /// Index of the service that a claim's key names, in order of header name (R10, closed mode).
    pub(crate) fn service(&self, key: &[u8]) -> Option<u16> {
        let name = |index: &u16| self.0.services.get(usize::from(*index)).map_or(&[][..], |service| &service.name);
        let found = self.0.by_name.binary_search_by(|index| compare_names(name(index), key)).ok()?;
        self.0.by_name.get(found).copied()
    }

    /// Header of the service at an index that [`Policy::service`] gave.
    pub(crate) fn service_header(&self, index: u16) -> &str {
        self.0.services.get(usize::from(index)).map_or("", |service| &service.header)
    }

    pub(crate) fn service_count(&self) -> usize {
        self.0.services.len()
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

#[cfg(feature = "json")]
impl InvalidPolicy {
    fn of_json(path: String, error: &serde_json::Error) -> Self {
        let path = if path == "." { "policy".into() } else { path };
        Self { problems: vec![PolicyProblem { path, message: error.to_string() }] }
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
        let mut services: Vec<Service> = config
            .services
            .iter()
            .flatten()
            .map(|service| Service {
                name: service.name.as_bytes().into(),
                header: service.header.as_deref().unwrap_or_default().into(),
            })
            .collect();
        services.sort_unstable_by(|a, b| a.header.cmp(&b.header));
        let mut by_name: Vec<(u16, &[u8])> = (0..).zip(services.iter().map(|service| &*service.name)).collect();
        by_name.sort_unstable_by(|(_, a), (_, b)| compare_names(a, b));
        let by_name = by_name.into_iter().map(|(index, _)| index).collect();
        let header_lengths = services
            .iter()
            .map(|service| &*service.header)
            .chain(config.report_header.as_deref())
            .fold(0, |bits, header| bits | length_bit(header.len()));
        Self { config, services, by_name, header_lengths }
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

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Orders claim keys without regard to ASCII case, by length first, which is cheaper to compare.
fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| compare_headers(a, b))
}

fn compare_headers(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
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
            self.problem(path, format!("found {found}, allowed is {:?}", bound.range()));
        }
    }

    fn length(&mut self, path: &str, text: &str, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&text.len()) {
            self.problem(path, format!("found {} bytes, allowed are {allowed:?}", text.len()));
        }
    }

    fn count(&mut self, path: &str, found: usize, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&found) {
            self.problem(path, format!("found {found} entries, allowed are {allowed:?}"));
        }
    }

    fn sources(&mut self) {
        let PolicyConfig { from_headers, from_cookies, .. } = self.config;
        if from_headers.is_empty() && from_cookies.is_empty() {
            self.problem("fromHeaders", "empty, and `fromCookies` too: a token must be able to come from somewhere");
        }
        self.count("fromHeaders", from_headers.len(), 0..=limits::SOURCES);
        self.count("fromCookies", from_cookies.len(), 0..=limits::SOURCES);
        let mut seen = BTreeSet::new();
        for (index, HeaderSourceConfig { name, prefix }) in from_headers.iter().enumerate() {
            let path = format!("fromHeaders[{index}].name");
            if name == "cookie" {
                self.problem(path, "found `cookie`: name the cookie in `fromCookies`");
            } else if !is_token(name) {
                self.problem(path, format!("found {name:?}, allowed is the name of a header (RFC 9110 section 5.1)"));
            } else if !seen.insert((name, prefix.to_ascii_lowercase())) {
                self.problem(path, format!("{name:?} with this prefix stands twice"));
            }
            let path = format!("fromHeaders[{index}].prefix");
            self.length(&path, prefix, 0..=limits::SOURCE_PREFIX_BYTES);
            if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                self.problem(path, format!("found {prefix:?}, allowed are printable ASCII characters"));
            }
        }
        let mut seen = BTreeSet::new();
        for (index, name) in from_cookies.iter().enumerate() {
            let path = format!("fromCookies[{index}]");
            if !is_token(name) {
                self.problem(path, format!("found {name:?}, allowed is the name of a cookie (RFC 6265 section 4.1.1)"));
            } else if !seen.insert(name) {
                self.problem(path, format!("{name:?} stands twice"));
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
            self.problem("claimPath[0]", format!("found {first:?}, which is a number (RFC 7519 section 4.1)"));
        }
        let depth = claim_path.len().saturating_add(1);
        if depth > usize::try_from(*max_depth).unwrap_or(usize::MAX) {
            self.problem("claimPath", format!("leads to depth {depth}, `limits.maxDepth` is {max_depth}"));
        }
    }

    fn services(&mut self, services: &[ServiceConfig]) {
        self.count("services", services.len(), 1..=limits::SERVICES);
        let mut names = BTreeSet::new();
        let mut headers = BTreeSet::new();
        for (index, ServiceConfig { name, header }) in services.iter().enumerate() {
            let path = format!("services[{index}].name");
            self.length(&path, name, 1..=limits::NAME_BYTES);
            let folded = name.to_ascii_lowercase();
            if self.config.claim_path.is_empty() && is_time_claim(&folded) {
                self.problem(path, format!("found {name:?}, which is the token's time; give a `claimPath`"));
            } else if !names.insert(folded) {
                self.problem(path, format!("{name:?} stands twice (names are compared without regard to case)"));
            }
            let path = format!("services[{index}].header");
            let header = header.as_deref().unwrap_or_default();
            if self.managed_header(&path, header) && !headers.insert(header) {
                self.problem(path, format!("{header:?} stands twice"));
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
                format!("found {prefix:?}, allowed is the start of a lower-case header name, up to a `-`"),
            );
            return;
        }
        let sources = self.config.from_headers.iter().map(|source| &*source.name);
        let under =
            PROTECTED.iter().chain(PROTECTED_FAMILIES).copied().chain(sources).find(|name| name.starts_with(prefix));
        let over = PROTECTED_FAMILIES.iter().find(|family| prefix.starts_with(**family));
        if let Some(name) = under {
            self.problem(path, format!("found {prefix:?}, under which `{name}` falls"));
        } else if let Some(family) = over {
            self.problem(path, format!("found {prefix:?}, which falls under the protected `{family}*`"));
        }
    }

    fn report_header(&mut self) {
        let PolicyConfig { report_header: Some(report), services, header_prefix, .. } = self.config else { return };
        let path = "reportHeader";
        if !self.managed_header(path, report) {
            return;
        }
        if services.iter().flatten().any(|service| service.header.as_ref() == Some(report)) {
            self.problem(path, format!("{report:?} is the header of a service"));
        } else if header_prefix.as_ref().is_some_and(|prefix| report.starts_with(&**prefix)) {
            self.problem(path, format!("found {report:?}, which falls under `headerPrefix`"));
        }
    }

    /// Whether the header may be managed; if not, says why.
    fn managed_header(&mut self, path: &str, header: &str) -> bool {
        let message = if !(1..=limits::HEADER_BYTES).contains(&header.len()) {
            format!("found {} bytes, allowed are {:?}", header.len(), 1..=limits::HEADER_BYTES)
        } else if !is_lower_token(header) {
            format!("found {header:?}, allowed is a lower-case header name (RFC 9110 section 5.1)")
        } else if PROTECTED.contains(&header) || PROTECTED_FAMILIES.iter().any(|family| header.starts_with(family)) {
            format!("found {header:?}, which is protected: the mesh or HTTP itself needs it")
        } else if self.config.from_headers.iter().any(|source| source.name == header) {
            format!("found {header:?}, which is a source of the token")
        } else {
            return true;
        };
        self.problem(path, message);
        false
    }
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
