//! What is looked up for each header line and each claim.

use super::Carrier;
use crate::{
    config::{PolicyConfig, ServiceConfig},
    names::{Names, length_bit},
};

/// The names of a policy, prepared for lookups.
pub(super) struct Index {
    /// Listed mode: the services, each with its header. Prefix mode: empty.
    services: Names<Box<str>>,
    /// The managed headers that are known by name.
    managed: Names<()>,
    /// Prefix mode: what every other managed header starts with.
    prefix: Option<Box<str>>,
    /// As [`length_bit`]s, the lengths of known managed headers and of those that may hold a token or the carrier.
    read_lengths: u64,
    /// `baggage` contains a source or the carrier.
    pub(super) reads_baggage: bool,
    /// The number of sources before those in `baggage`.
    pub(super) first_baggage: usize,
}

impl Index {
    /// Of a valid configuration with its defaults filled in, and its carrier.
    pub(super) fn new(config: &PolicyConfig, carrier: Option<&Carrier>) -> Self {
        #[expect(clippy::expect_used, reason = "a policy's configuration has its defaults filled in")]
        let header = |service: &ServiceConfig| Box::from(service.header.as_deref().expect("a header"));
        let services = || config.services.iter().flatten();
        let headers: Vec<Box<str>> = services().map(header).collect();
        let header = carrier.filter(|carrier| carrier.key.is_none() && carrier.source.is_none());
        let header = header.map(|carrier| &*carrier.header);
        let managed = headers.iter().map(|header| &**header).chain(config.report_header.as_deref()).chain(header);
        let managed = Names::new(managed.map(|header| (header, ())));
        let services = Names::new(services().map(|service| &*service.name).zip(headers.iter().cloned()));
        let cookie = (!config.from_cookies.is_empty()).then_some("cookie");
        let carries_in_baggage = carrier.is_some_and(|carrier| carrier.key.is_some());
        let reads_baggage = carries_in_baggage || !config.from_baggage.is_empty();
        let baggage = reads_baggage.then_some("baggage");
        let sources = config.from_headers.iter().map(|source| &*source.name).chain(cookie).chain(baggage);
        let read_lengths = sources.fold(managed.lengths(), |bits, name| bits | length_bit(name.len()));
        let prefix = config.header_prefix.as_deref().map(Box::from);
        let first_baggage = config.from_headers.len() + config.from_cookies.len();
        Self { services, managed, prefix, read_lengths, reads_baggage, first_baggage }
    }

    pub(super) fn is_managed(&self, header: &[u8]) -> bool {
        self.is_under_prefix(header) || self.managed.get(header).is_some()
    }

    #[inline]
    pub(super) fn may_read(&self, header: &[u8]) -> bool {
        self.read_lengths & length_bit(header.len()) != 0 || self.is_under_prefix(header)
    }

    pub(super) fn service_header(&self, key: &[u8]) -> Option<&[u8]> {
        self.services.get(key).map(|header| header.as_bytes())
    }

    #[inline]
    fn is_under_prefix(&self, header: &[u8]) -> bool {
        let Some(prefix) = &self.prefix else { return false };
        header.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }
}
