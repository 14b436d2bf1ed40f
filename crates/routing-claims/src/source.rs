//! Finds the one token in a request's headers (R3), and whether the client sent a managed header (R1).

use memchr::memchr;

use crate::{
    config::{HeaderSourceConfig, PolicyConfig},
    policy::Policy,
    propagator::Propagator,
};

/// The result of one pass over the header lines.
#[derive(Clone, Copy)]
pub(crate) struct Found<'h> {
    pub(crate) token: Source<'h>,
    /// The rank of the source of the token: the number of sources before it in the policy.
    pub(crate) rank: usize,
    /// The request has a managed header.
    pub(crate) managed: bool,
}

/// The first source that is present.
#[derive(Clone, Copy)]
pub(crate) enum Source<'h> {
    None,
    One(&'h [u8]),
    Ambiguous,
}

/// Reads the header lines of a request. Names can be in any case. What comes from another hop, the propagator reads.
pub(crate) fn read<'h>(
    policy: &Policy,
    propagator: &mut Propagator,
    headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
) -> Found<'h> {
    let PolicyConfig { from_headers, from_cookies, .. } = policy.config();
    let mut found = Found { token: Source::None, rank: usize::MAX, managed: false };
    if policy.propagates() {
        propagator.clear();
    }
    for (name, value) in headers {
        if !policy.may_read(name) {
            continue;
        }
        found.managed = found.managed || policy.is_managed(name);
        for (rank, HeaderSourceConfig { name: source, prefix }) in from_headers.iter().enumerate() {
            if same(name, source.as_bytes()) {
                tokens(value, prefix.as_bytes(), |token| found.offer(rank, token));
            }
        }
        if !from_cookies.is_empty() && same(name, b"cookie") {
            found = found.with_cookies(policy, value);
        }
        if policy.propagates() {
            found = propagator.extract(policy, name, value, found);
        }
    }
    found
}

impl<'h> Found<'h> {
    /// Reads a `cookie` line.
    #[inline(never)]
    fn with_cookies(mut self, policy: &Policy, line: &'h [u8]) -> Self {
        let PolicyConfig { from_headers, from_cookies, .. } = policy.config();
        cookies(line, |name, token| {
            if let Some(index) = from_cookies.iter().position(|cookie| equal(cookie.as_bytes(), name)) {
                self.offer(from_headers.len() + index, token);
            }
        });
        self
    }

    /// Takes a token from the source of this rank, unless a token of an earlier one is there.
    pub(crate) fn offer(&mut self, rank: usize, token: &'h [u8]) {
        if rank < self.rank {
            (self.rank, self.token) = (rank, Source::One(token));
        } else if rank == self.rank {
            self.token = Source::Ambiguous;
        }
    }
}

/// Finds the text after the prefix in each part of a value. Lines can arrive joined by commas (RFC 9110 section 5.3), and
/// Envoy joins those of `authorization`. No token contains a comma.
fn tokens<'h>(value: &'h [u8], prefix: &[u8], mut found: impl FnMut(&'h [u8])) {
    let mut read = |part: &'h [u8]| match trim(part).split_at_checked(prefix.len()) {
        Some((start, token)) if same(start, prefix) => found(trim(token)),
        _ => {}
    };
    // Most values have one part. `memchr` searches for a comma with vector instructions.
    if memchr(b',', value).is_none() {
        read(value);
    } else {
        value.split(|byte| *byte == b',').for_each(read);
    }
}

/// Finds the name and value of each pair of a `cookie` line (RFC 6265 section 4.2.1). Skips pairs without a name.
fn cookies<'h>(line: &'h [u8], mut found: impl FnMut(&'h [u8], &'h [u8])) {
    for pair in line.split(|byte| *byte == b';') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        if let (name @ [_, ..], [_, value @ ..]) = pair.split_at(equals) {
            found(trim(name), trim(value));
        }
    }
}

/// Whether two texts are equal. Compares byte by byte: `==` calls `memcmp`, which doubles the cost of a hostile line of short names.
pub(crate) fn equal(text: &[u8], other: &[u8]) -> bool {
    text.len() == other.len() && text.iter().zip(other).all(|(one, other)| one == other)
}

/// Whether two texts are equal, compared case-insensitively. Most are equal byte for byte.
pub(crate) fn same(text: &[u8], other: &[u8]) -> bool {
    text == other || text.eq_ignore_ascii_case(other)
}

/// Removes spaces and tabs at both ends (`OWS`, RFC 9110 section 5.6.3).
#[inline]
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
