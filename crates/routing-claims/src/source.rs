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
                best.read_header(rank, prefix.as_bytes(), value);
            }
        }
        if !from_cookies.is_empty() && same(name, b"cookie") {
            best.read_cookies(policy, value);
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
    // Each apart, they have the registers for themselves.
    #[inline(never)]
    fn read_header(&mut self, rank: usize, prefix: &[u8], value: &'h [u8]) {
        for token in tokens(value, prefix) {
            self.offer(rank, token);
            // More of the same change nothing.
            if rank >= self.open() {
                return;
            }
        }
    }

    #[inline(never)]
    fn read_cookies(&mut self, policy: &Policy, line: &'h [u8]) {
        let headers = policy.config().from_headers.len();
        for (name, token) in cookies(line) {
            if let Some(number) = policy.cookie(name, self.open().saturating_sub(headers)) {
                self.offer(headers.saturating_add(number), token);
            }
        }
    }

    /// How many of the first sources could still change what was found.
    fn open(&self) -> usize {
        match self.token {
            Source::Ambiguous => self.rank,
            _ => self.rank.saturating_add(1),
        }
    }

    fn offer(&mut self, rank: usize, token: &'h [u8]) {
        if rank < self.rank {
            *self = Self { rank, token: Source::One(trim(token)) };
        } else if rank == self.rank {
            self.token = Source::Ambiguous;
        }
    }
}

/// The bit that tells a letter's case.
const CASE: u8 = 0x20;

/// What follows the prefix in the parts of a value. Lines may arrive joined by commas (RFC 9110 section 5.3), and Envoy
/// joins those of `authorization`; no token has a comma.
fn tokens<'h>(value: &'h [u8], prefix: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    parts(value).filter(|part| part.len() >= prefix.len()).filter_map(|part| {
        let (start, token) = trim(part).split_at_checked(prefix.len())?;
        // Most others are told by their last byte.
        let [last, other] = [start, prefix].map(|text| text.last().map(|byte| byte | CASE));
        (last == other && same(start, prefix)).then_some(token)
    })
}

/// Name and value of the pairs of a `cookie` line (RFC 6265 section 4.2.1); what has no name is passed over.
fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let mut text = rest?;
            while let [b';', behind @ ..] = text {
                text = behind;
            }
            // The ends of short pairs, which lines made to be dear are full of, are near.
            let near = text.first_chunk().and_then(|word| Some((first_lane(*word, b';')?, first_lane(*word, b'='))));
            let (end, name_end) = near.unwrap_or_else(|| {
                let end = memchr(b';', text).unwrap_or(text.len());
                (end, memchr(b'=', text.get(..end).unwrap_or_default()))
            });
            let pair = text.get(..end)?;
            rest = text.get(end.saturating_add(1)..);
            if let Some((name, value)) = pair.split_at_checked(name_end.unwrap_or_default())
                && !name.is_empty()
            {
                return Some((trim(name), value.get(1..)?));
            }
        }
    })
}

/// What stands between commas.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match comma(text) {
            Some(at) => {
                let (part, behind) = text.split_at_checked(at)?;
                rest = behind.get(1..);
                Some(part)
            }
            None => rest.take(),
        }
    })
}

/// The first comma. A near one is found before `memchr` has begun, which keeps lines of many short parts from costing five
/// times as much as others.
#[inline]
fn comma(text: &[u8]) -> Option<usize> {
    let Some(word) = text.first_chunk() else { return text.iter().position(|byte| *byte == b',') };
    first_lane(*word, b',').or_else(|| memchr(b',', text))
}

/// The first place of a byte among eight.
#[inline]
fn first_lane(word: [u8; 8], byte: u8) -> Option<usize> {
    let each = |byte: u8| u64::from_le_bytes([byte; 8]);
    let word = u64::from_le_bytes(word) ^ each(byte);
    let hits = word.wrapping_sub(each(1)) & !word & each(0x80);
    if hits == 0 { None } else { usize::try_from(hits.trailing_zeros() >> 3).ok() }
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
