//! From a request's headers to the one token (R3), and whether the client sent a managed header (R1).

use memchr::memchr;

use crate::{
    config::{HeaderSourceConfig, PolicyConfig},
    names::length_bit,
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
            for (rank, token) in cookies(value, from_cookies) {
                best.offer(from_headers.len().saturating_add(rank), token);
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
    parts(value, b',').filter_map(|part| {
        let (start, token) = trim(part).split_at_checked(prefix.len())?;
        same(start, prefix).then_some(token)
    })
}

/// The pairs of a `cookie` line (RFC 6265 section 4.2.1) that have one of these names; what has no `=` has no name and is
/// passed over. Gives the number of the name with the value.
fn cookies<'h>(line: &'h [u8], names: &[String]) -> impl Iterator<Item = (usize, &'h [u8])> {
    let lengths = names.iter().fold(0, |bits, name| bits | length_bit(name.len()));
    parts(line, b';').filter_map(move |pair| {
        let (name, value) = pair.split_at_checked(find(pair, b'=')?)?;
        let name = trim(name);
        if lengths & length_bit(name.len()) == 0 {
            return None;
        }
        // Comparing one byte keeps most pairs from a call for each name.
        let same = |wanted: &String| {
            wanted.len() == name.len() && wanted.as_bytes().first() == name.first() && wanted.as_bytes() == name
        };
        Some((names.iter().position(same)?, value.get(1..)?))
    })
}

/// What stands between separators.
fn parts(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match find(text, separator) {
            Some(at) => {
                let (part, behind) = text.split_at_checked(at)?;
                rest = behind.get(1..);
                Some(part)
            }
            None => rest.take(),
        }
    })
}

/// The first place of a byte. That of a near one is found before `memchr` has begun, which keeps lines of many short parts
/// from costing five times as much as others.
#[inline]
fn find(text: &[u8], byte: u8) -> Option<usize> {
    let each = |byte: u8| u64::from_le_bytes([byte; 8]);
    let Some(word) = text.first_chunk() else { return text.iter().position(|other| *other == byte) };
    let word = u64::from_le_bytes(*word) ^ each(byte);
    let hits = word.wrapping_sub(each(1)) & !word & each(0x80);
    if hits == 0 { memchr(byte, text) } else { usize::try_from(hits.trailing_zeros() >> 3).ok() }
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
