//! Reads `baggage` (R3), and writes it (R19): `key=value;properties` members, separated by commas
//! (W3C Baggage section 3.2.1).

use crate::{limits, source::trim};

/// A member of `baggage`.
#[derive(Clone, Copy)]
pub(crate) struct Member<'h> {
    /// All of it, trimmed.
    pub(crate) whole: &'h [u8],
    /// Empty if the member has none.
    pub(crate) key: &'h [u8],
    pub(crate) value: &'h [u8],
}

/// The members of a line, without empty ones.
pub(crate) fn members(line: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let parts = line.split(|byte| *byte == b',').map(trim).filter(|part| !part.is_empty());
    parts.map(|whole| {
        let pair = until(b';', whole);
        let key = until(b'=', pair);
        match pair.get(key.len() + 1..) {
            Some(value) => Member { whole, key: trim(key), value: trim(value) },
            None => Member { whole, key: &[], value: &[] },
        }
    })
}

/// The text before the byte, or all of it.
fn until(byte: u8, text: &[u8]) -> &[u8] {
    text.split(|other| *other == byte).next().unwrap_or_default()
}

/// `baggage` as the filter writes it, in memory that is reused for every request.
pub(crate) struct Line {
    text: Vec<u8>,
    is_full: bool,
}

impl Line {
    /// An empty line. It allocates nothing if it is never written to.
    pub(crate) fn new(is_written: bool) -> Self {
        Self { text: Vec::with_capacity(if is_written { limits::BAGGAGE_BYTES } else { 0 }), is_full: false }
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.is_full = false;
    }

    /// Adds a member, unless it or one before it does not fit.
    pub(crate) fn push(&mut self, member: &[u8]) {
        self.is_full = !self.has_room(member.len());
        if !self.is_full {
            if !self.text.is_empty() {
                self.text.push(b',');
            }
            self.text.extend_from_slice(member);
        }
    }

    /// Whether a member of this length fits.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        let comma = usize::from(!self.text.is_empty());
        !self.is_full && self.text.len() + comma + length <= limits::BAGGAGE_BYTES
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}
