//! A validated configuration: every [`Policy`] that exists can be followed on every request.

mod carrier;
mod index;
mod read;
mod validate;

use std::{fmt, sync::Arc};

pub(crate) use carrier::Carrier;
use index::Index;

use crate::{
    config::{PolicyConfig, ServiceConfig},
    diagnostic::PolicyError,
};

/// A validated policy. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct Policy(Arc<Inner>);

/// How a policy names the headers that it routes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode<'p> {
    /// By the services it lists (`services`), each with its header.
    Listed(&'p [ServiceConfig]),
    /// By this prefix (`headerPrefix`): any claim may set a header under it.
    Prefix(&'p str),
}

struct Inner {
    config: PolicyConfig,
    index: Index,
    carrier: Option<Carrier>,
}

impl Policy {
    /// Validates a configuration.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the fields.
    pub fn new(config: PolicyConfig) -> Result<Self, PolicyError> {
        let config = normalize(config);
        let diagnostics = validate::validate(&config);
        if !diagnostics.is_empty() {
            return Err(PolicyError::new(diagnostics));
        }
        let carrier = Carrier::new(&config);
        Ok(Self(Arc::new(Inner { index: Index::new(&config, carrier.as_ref()), carrier, config })))
    }

    /// Reads a configuration as JSON and validates it.
    ///
    /// # Errors
    ///
    /// The first field at which the text is not JSON or does not fit [`PolicyConfig`]; otherwise as [`Policy::new`].
    pub fn from_json(text: &[u8]) -> Result<Self, PolicyError> {
        read::read(text).map_err(|diagnostic| PolicyError::new(vec![diagnostic])).and_then(Self::new)
    }

    /// The configuration with its defaults filled in: each service has its `header`, names of header sources are in
    /// lower case.
    #[must_use]
    pub fn config(&self) -> &PolicyConfig {
        &self.0.config
    }

    /// How the policy names the headers that it routes by.
    #[must_use]
    pub fn mode(&self) -> Mode<'_> {
        match (&self.0.config.services, &self.0.config.header_prefix) {
            (Some(services), None) => Mode::Listed(services),
            (None, Some(prefix)) => Mode::Prefix(prefix),
            #[expect(clippy::unreachable, reason = "a policy is valid")]
            (None, None) | (Some(_), Some(_)) => unreachable!("a policy has one mode"),
        }
    }

    /// Whether requests may carry this header only by decision of the policy. The name may be in any case.
    #[must_use]
    pub fn is_managed(&self, header: &[u8]) -> bool {
        self.0.index.is_managed(header)
    }

    /// Where the choice travels to the next hop, if the policy carries it.
    pub(crate) fn carrier(&self) -> Option<&Carrier> {
        self.0.carrier.as_ref()
    }

    /// Whether a choice can come from another hop, or go to one.
    pub(crate) fn propagates(&self) -> bool {
        self.reads_baggage() || self.carrier().is_some()
    }

    /// Whether `baggage` contains a source or the carrier.
    pub(crate) fn reads_baggage(&self) -> bool {
        self.0.index.reads_baggage
    }

    /// The number of sources before those in `baggage`.
    pub(crate) fn first_baggage(&self) -> usize {
        self.0.index.first_baggage
    }

    /// Whether this header may be managed or hold a token. Most headers are ruled out by their length.
    pub(crate) fn may_read(&self, header: &[u8]) -> bool {
        self.0.index.may_read(header)
    }

    /// In prefix mode, what every routing header starts with.
    pub(crate) fn header_prefix(&self) -> Option<&[u8]> {
        self.0.config.header_prefix.as_deref().map(str::as_bytes)
    }

    /// In listed mode, the header of the service that a claim's key names (R10).
    pub(crate) fn service_header(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.index.service_header(key)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").field(&self.0.config).finish()
    }
}

/// Fills in defaults that depend on other fields.
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
    fn all_diagnostics_are_given_at_once() {
        let error = Policy::from_json(br#"{"fromHeaders": [], "clockSkewSeconds": 301}"#).unwrap_err();
        let paths: Vec<_> = error.diagnostics().iter().map(|diagnostic| diagnostic.path.to_string()).collect();
        assert_eq!(paths, ["fromHeaders", "services", "clockSkewSeconds"]);
        let texts: Vec<_> = error.diagnostics().iter().map(ToString::to_string).collect();
        assert_eq!(error.to_string(), texts.join("; "));
        assert_eq!(texts[2], "clockSkewSeconds: expected a whole number from 0 to 300, found 301");
    }
}
