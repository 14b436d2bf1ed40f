//! Finds the one token in a request's headers (R3), and whether the client sent a managed header (R1) or something in the carrier
//! (R19).

use memchr::memchr;

use crate::{
    baggage::{self, Member},
    config::{HeaderSourceConfig, PolicyConfig},
    policy::Policy,
};

/// The result of one pass over the header lines.
#[derive(Clone, Copy)]
pub(crate) struct Found<'h> {
    pub(crate) token: Source<'h>,
    /// The rank of the source of the token: the number of sources before it in the policy.
    pub(crate) rank: usize,
    /// The request has a managed header.
    pub(crate) managed: bool,
    /// The request has the header of the carrier.
    pub(crate) carrier_header: bool,
    /// The client sent something in the carrier.
    pub(crate) carrier: bool,
}

/// The first source that is present.
#[derive(Clone, Copy)]
pub(crate) enum Source<'h> {
    None,
    One(&'h [u8]),
    Ambiguous,
}

/// Reads the header lines of a request. Names can be in any case. If the policy carries in `baggage`, the members of others are written
/// to `others`.
pub(crate) fn read<'h>(
    policy: &Policy,
    others: &mut baggage::Line,
    headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
) -> Found<'h> {
    let PolicyConfig { from_headers, from_cookies, .. } = policy.config();
    let mut best = Best { rank: usize::MAX, token: Source::None };
    let (mut managed, mut carrier_header, mut carrier) = (false, false, false);
    for (name, value) in headers {
        if !policy.may_read(name) {
            continue;
        }
        managed = managed || policy.is_managed(name);
        for (rank, HeaderSourceConfig { name: source, prefix }) in from_headers.iter().enumerate() {
            if same(name, source.as_bytes()) {
                tokens(value, prefix.as_bytes(), |token| best.offer(rank, token));
            }
        }
        if !from_cookies.is_empty() && same(name, b"cookie") {
            cookies(value, |name, token| {
                // Compares byte by byte. `==` calls `memcmp`, which doubles the cost of a hostile line of short names.
                let wanted = |cookie: &String| {
                    cookie.len() == name.len() && cookie.bytes().zip(name).all(|(one, other)| one == *other)
                };
                if let Some(index) = from_cookies.iter().position(wanted) {
                    best.offer(from_headers.len() + index, token);
                }
            });
        }
        if policy.reads_baggage() && same(name, b"baggage") {
            carrier |= read_baggage(policy, value, &mut best, others);
        }
        if policy.carrier().is_some_and(|carrier| same(name, carrier.header.as_bytes())) {
            carrier_header = true;
        }
    }
    if policy.carrier().is_some_and(|carrier| carrier.key.is_none()) {
        carrier = carrier_header;
    }
    Found { token: best.token, rank: best.rank, managed, carrier_header, carrier }
}

/// Reads a line of `baggage`. Returns whether it has a member that is the carrier.
#[inline(never)]
fn read_baggage<'h>(policy: &Policy, line: &'h [u8], best: &mut Best<'h>, others: &mut baggage::Line) -> bool {
    let PolicyConfig { from_headers, from_cookies, from_baggage, .. } = policy.config();
    let carried = policy.carrier().and_then(|carrier| carrier.key.as_deref()).map(str::as_bytes);
    let mut found = false;
    for Member { whole, key, value } in baggage::members(line) {
        if let Some(index) = from_baggage.iter().position(|source| equal(source.as_bytes(), key)) {
            best.offer(from_headers.len() + from_cookies.len() + index, value);
        }
        match carried {
            Some(carried) if equal(carried, key) => found = true,
            Some(_) => others.push(whole),
            None => {}
        }
    }
    found
}

/// The first source that is present so far, by its rank in the policy.
struct Best<'h> {
    rank: usize,
    token: Source<'h>,
}

impl<'h> Best<'h> {
    fn offer(&mut self, rank: usize, token: &'h [u8]) {
        if rank < self.rank {
            *self = Self { rank, token: Source::One(token) };
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

/// Whether two texts are equal. Compares byte by byte, as for cookies.
fn equal(text: &[u8], other: &[u8]) -> bool {
    text.len() == other.len() && text.iter().zip(other).all(|(one, other)| one == other)
}

/// Whether two texts are equal, compared case-insensitively. Most are equal byte for byte.
fn same(text: &[u8], other: &[u8]) -> bool {
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
