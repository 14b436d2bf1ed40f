//! From a request's headers to the one token (R3), and whether the client sent a managed header (R1).

use memchr::memchr;

use crate::{
    config::{HeaderSourceConfig, PolicyConfig},
    policy::Policy,
};

/// What one pass over the headers finds.
#[derive(Clone, Copy)]
pub(crate) struct Request<'h> {
    pub(crate) token: Source<'h>,
    /// A managed header stands in the request.
    pub(crate) managed: bool,
}

/// The first source present.
#[derive(Clone, Copy)]
pub(crate) enum Source<'h> {
    None,
    One(&'h [u8]),
    Ambiguous,
}

/// Reads the header lines of a request, names in any case.
pub(crate) fn read<'h>(policy: &Policy, headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>) -> Request<'h> {
    let PolicyConfig { from_headers, from_cookies, .. } = policy.config();
    let mut best = Best { rank: usize::MAX, token: Source::None };
    let mut managed = false;
    for (name, value) in headers {
        if !policy.may_read(name) {
            continue;
        }
        managed = managed || policy.is_managed(name);
        for (rank, HeaderSourceConfig { name: source, prefix }) in from_headers.iter().enumerate() {
            if same(name, source.as_bytes()) {
                tokens(value, prefix.as_bytes()).for_each(|token| best.offer(rank, token));
            }
        }
        if !from_cookies.is_empty() && same(name, b"cookie") {
            for (cookie, token) in cookies(value) {
                if let Some(rank) = from_cookies.iter().position(|wanted| wanted.as_bytes() == cookie) {
                    best.offer(from_headers.len().saturating_add(rank), token);
                }
            }
        }
    }
    Request { token: best.token, managed }
}

/// The first source present so far, by its rank in the policy.
struct Best<'h> {
    rank: usize,
    token: Source<'h>,
}

impl<'h> Best<'h> {
    fn offer(&mut self, rank: usize, token: &'h [u8]) {
        if rank < self.rank {
            *self = Self { rank, token: Source::One(trim(token)) };
        } else if rank == self.rank {
            self.token = Source::Ambiguous;
        }
    }
}

/// What follows the prefix in the parts of a value. Lines may arrive joined by commas (RFC 9110 section 5.3), and Envoy
/// joins those of `authorization`; no token has a comma.
fn tokens<'h>(value: &'h [u8], prefix: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    let mut rest = Some(value);
    let parts = std::iter::from_fn(move || {
        let value = rest?;
        let comma = memchr(b',', value);
        rest = comma.and_then(|at| value.get(at.wrapping_add(1)..));
        value.get(..comma.unwrap_or(value.len()))
    });
    parts.filter_map(|part| {
        let (start, token) = trim(part).split_at_checked(prefix.len())?;
        same(start, prefix).then_some(token)
    })
}

/// The pairs of a `cookie` line (RFC 6265 section 4.2.1); what has no `=` has no name and is passed over.
fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        Some((trim(name), value.get(1..)?))
    })
}

/// Whether both are equal without regard to case; most come as they are written.
#[inline]
fn same(text: &[u8], other: &[u8]) -> bool {
    text == other || text.eq_ignore_ascii_case(other)
}

/// Without the spaces and tabs around it (`OWS`, RFC 9110 section 5.6.3).
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
