//! Decisions that were made before (R16): whole tokens are compared, and memory is bounded by construction.

use crate::{decision::Verdict, limits};

/// Tokens with their decisions. It never grows: the newest entries overwrite the oldest.
pub(crate) struct Cache {
    /// The entry of a token stands at one place only, which its hash tells.
    slots: Box<[Option<Slot>]>,
    /// Token and lines of each entry, one after the other, written round and round.
    ring: Box<[u8]>,
    /// How many bytes were written in all; the remainder is the place in `ring`.
    written: u64,
}

/// Where an entry stands, and what was decided.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) verdict: Verdict,
    /// `written` before the entry was.
    start: u64,
    token_length: usize,
    lines_length: usize,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![None; limits::CACHE_ENTRIES].into_boxed_slice(),
            ring: vec![0; limits::CACHE_BYTES].into_boxed_slice(),
            written: 0,
        }
    }

    /// The entry of this token, if its decision holds at this time.
    pub(crate) fn find(&self, token: &[u8], now: i64) -> Option<Slot> {
        let slot = self.slots.get(place(token)).copied().flatten()?;
        let overwritten = self.written.saturating_sub(slot.start) > limits::CACHE_BYTES as u64;
        let cached = self.entry(&slot)?.get(..slot.token_length)?;
        (!overwritten && slot.verdict.validity.holds(now) && cached == token).then_some(slot)
    }

    /// The lines of an entry that [`Cache::find`] has just found.
    pub(crate) fn lines(&self, slot: &Slot) -> &[u8] {
        self.entry(slot).and_then(|entry| entry.get(slot.token_length..)).unwrap_or_default()
    }

    pub(crate) fn put(&mut self, token: &[u8], verdict: Verdict, lines: &[u8]) {
        let length = token.len().saturating_add(lines.len());
        let room = limits::CACHE_BYTES.saturating_sub(offset(self.written));
        if length > room {
            self.written = self.written.saturating_add(room as u64);
        }
        let slot = Slot { verdict, start: self.written, token_length: token.len(), lines_length: lines.len() };
        let Some(entry) = self.ring.get_mut(slot.range()) else { return };
        let (to_token, to_lines) = entry.split_at_mut(token.len());
        to_token.copy_from_slice(token);
        to_lines.copy_from_slice(lines);
        self.written = self.written.saturating_add(length as u64);
        if let Some(place) = self.slots.get_mut(place(token)) {
            *place = Some(slot);
        }
    }

    fn entry(&self, slot: &Slot) -> Option<&[u8]> {
        self.ring.get(slot.range())
    }
}

impl Slot {
    fn range(&self) -> std::ops::Range<usize> {
        let start = offset(self.start);
        start..start.saturating_add(self.token_length).saturating_add(self.lines_length)
    }
}

fn offset(written: u64) -> usize {
    usize::try_from(written & (limits::CACHE_BYTES as u64 - 1)).unwrap_or_default()
}

/// A token's place: a hash of its length and of eight words spread over it. Tokens that differ elsewhere only share
/// one place and overwrite each other there; nothing else depends on the hash.
fn place(token: &[u8]) -> usize {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let (words, tail) = token.as_chunks::<8>();
    let stride = words.len().div_ceil(8).max(1);
    let hash = words
        .iter()
        .step_by(stride)
        .fold(mix(0, token.len() as u64), |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let hash =
        tail.iter().chain(words.last().into_iter().flatten()).fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
    usize::try_from(hash >> 32).unwrap_or_default() & (limits::CACHE_ENTRIES - 1)
}
