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
    #[inline]
    pub(crate) fn find(&self, place: Place, token: &[u8], now: i64) -> Option<Slot> {
        let slot = self.slots.get(place.0)?.as_ref()?;
        let overwritten = self.written.saturating_sub(slot.start) > limits::CACHE_BYTES as u64;
        let cached = self.entry(slot)?.get(..slot.token_length)?;
        (!overwritten && slot.verdict.validity.holds(now) && equal(cached, token)).then_some(*slot)
    }

    /// The lines of an entry that [`Cache::find`] has just found.
    #[inline]
    pub(crate) fn lines(&self, slot: &Slot) -> &[u8] {
        self.entry(slot).and_then(|entry| entry.get(slot.token_length..)).unwrap_or_default()
    }

    pub(crate) fn put(&mut self, place: Place, token: &[u8], verdict: Verdict, lines: &[u8]) {
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
        if let Some(place) = self.slots.get_mut(place.0) {
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

/// In WebAssembly by words: what the compiler gives it compares byte by byte, which made a cached 751-byte token 0.3 µs dearer,
/// one of 8 KB 3 µs. Elsewhere there is a `memcmp`, which takes a third of the instructions of words.
fn equal(one: &[u8], other: &[u8]) -> bool {
    if !cfg!(target_family = "wasm") {
        return one == other;
    }
    let ((words, tail), (other_words, other_tail)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    words.len() == other_words.len()
        && words.iter().zip(other_words).all(|(one, other)| u64::from_le_bytes(*one) == u64::from_le_bytes(*other))
        && tail == other_tail
}

fn offset(written: u64) -> usize {
    usize::try_from(written & RING_MASK).unwrap_or_default()
}

/// `CACHE_BYTES` is a power of two.
const RING_MASK: u64 = limits::CACHE_BYTES as u64 - 1;

/// Where a token's entry stands: a hash of its length and of five words spread over it. Tokens that differ elsewhere only
/// share one place and overwrite each other there; nothing else depends on the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(usize);

impl Place {
    pub(crate) fn of(token: &[u8]) -> Self {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        let mut hash = token.len() as u64;
        let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
        if let Some(room) = token.len().checked_sub(8) {
            for quarter in 0..=4 {
                let word = token.get(room.wrapping_mul(quarter) / 4..).and_then(<[u8]>::first_chunk);
                mix(u64::from_le_bytes(word.copied().unwrap_or_default()));
            }
        } else {
            for byte in token {
                mix((*byte).into());
            }
        }
        // The high bits of a product depend on all bits of its factors.
        Self(usize::try_from(hash >> PLACE_SHIFT).unwrap_or_default())
    }
}

/// Leaves as many bits as number the entries.
const PLACE_SHIFT: u32 = u64::BITS - limits::CACHE_ENTRIES.trailing_zeros();

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        outcome::Outcome,
        time::{Times, Validity},
    };

    #[test]
    fn a_token_is_found_with_what_was_put() {
        let mut cache = Cache::new();
        assert!(cache.find(Place::of(b"token"), b"token", 0).is_none());
        cache.put(Place::of(b"token"), b"token", verdict(Outcome::Applied, Validity::ALWAYS), b"lines");
        let slot = cache.find(Place::of(b"token"), b"token", 0).unwrap();
        assert_eq!((slot.verdict.outcome, cache.lines(&slot)), (Outcome::Applied, &b"lines"[..]));
        cache.put(Place::of(b"token"), b"token", verdict(Outcome::Expired, Validity::ALWAYS), b"");
        let slot = cache.find(Place::of(b"token"), b"token", 0).unwrap();
        assert_eq!((slot.verdict.outcome, cache.lines(&slot)), (Outcome::Expired, &b""[..]));
    }

    #[test]
    fn a_decision_is_found_while_it_holds() {
        let times = Times { exp: Some(200), nbf: Some(100) };
        let mut cache = Cache::new();
        cache.put(Place::of(b"token"), b"token", verdict(Outcome::Applied, times.judge(150, 0).1), b"");
        let found = [99, 100, 199, 200].map(|now| cache.find(Place::of(b"token"), b"token", now).is_some());
        assert_eq!(found, [false, true, true, false]);
    }

    #[test]
    fn whole_tokens_are_compared() {
        for length in [1, 7, 8, 9, 63, 64, 65, 1000, 1003] {
            let token = vec![b'a'; length];
            let mut cache = Cache::new();
            cache.put(Place::of(&token), &token, verdict(Outcome::Applied, Validity::ALWAYS), b"aaaa");
            for at in 0..length {
                let mut other = token.clone();
                other[at] = b'b';
                // Wherever the other token's place is, the entry is there.
                if let (Some(slot), place) = (cache.slots[Place::of(&token).0], Place::of(&other)) {
                    cache.slots[place.0] = Some(slot);
                }
                assert!(cache.find(Place::of(&other), &other, 0).is_none(), "{length} bytes, another one at {at}");
            }
            for other in [&token[1..], &[&token[..], b"a"].concat()] {
                cache.slots[Place::of(other).0] = cache.slots[Place::of(&token).0];
                assert!(cache.find(Place::of(other), other, 0).is_none(), "{} bytes for {length}", other.len());
            }
        }
    }

    #[test]
    fn tokens_of_one_place_overwrite_each_other() {
        // The hash looks at the words at both ends and at each quarter.
        let (mut first, second) = (vec![b'a'; 512], vec![b'a'; 512]);
        first[8] = b'b';
        assert_eq!(Place::of(&first), Place::of(&second));
        let mut cache = Cache::new();
        cache.put(Place::of(&first), &first, verdict(Outcome::Applied, Validity::ALWAYS), b"first");
        cache.put(Place::of(&second), &second, verdict(Outcome::NoRoutes, Validity::ALWAYS), b"second");
        assert!(cache.find(Place::of(&first), &first, 0).is_none());
        let slot = cache.find(Place::of(&second), &second, 0).unwrap();
        assert_eq!((slot.verdict.outcome, cache.lines(&slot)), (Outcome::NoRoutes, &b"second"[..]));
    }

    #[test]
    fn all_bytes_are_used_and_the_oldest_entry_goes_first() {
        let entries = limits::CACHE_BYTES / 4096;
        let tokens = tokens_at_places_of_their_own(entries + 1);
        let mut cache = Cache::new();
        for token in &tokens[..entries] {
            put_with_lines(&mut cache, token, 4096);
        }
        assert!(tokens[..entries].iter().all(|token| has_its_lines(&cache, token)));
        put_with_lines(&mut cache, &tokens[entries], 4096);
        assert!(!has_its_lines(&cache, &tokens[0]));
        assert!(tokens[1..].iter().all(|token| has_its_lines(&cache, token)));
    }

    #[test]
    fn an_entry_that_does_not_fit_before_the_end_starts_over() {
        let tokens = tokens_at_places_of_their_own(4);
        let mut cache = Cache::new();
        let lengths = [1000, limits::CACHE_BYTES - 1000 - 999, 1000, 1];
        for (token, length) in tokens.iter().zip(lengths) {
            put_with_lines(&mut cache, token, length.max(token.len() + 1));
        }
        // The third overwrote the first, and the fourth, at its end, the start of the second.
        let found: Vec<_> = tokens.iter().map(|token| has_its_lines(&cache, token)).collect();
        assert_eq!(found, [false, false, true, true]);
    }

    #[test]
    fn what_overwrites_an_entry_is_never_taken_for_it() {
        let tokens = tokens_at_places_of_their_own(40);
        // The old token, and one that begins with it: what follows would be read as the lines of the old one.
        let [old, filler, ..] = &tokens[..] else { panic!() };
        let mut longer = tokens[2..].iter().map(|token| format!("{old}{token}"));
        let new = longer.find(|new| Place::of(new.as_bytes()) != Place::of(old.as_bytes())).unwrap();
        let mut cache = Cache::new();
        put_with_lines(&mut cache, old, 100);
        put_with_lines(&mut cache, filler, limits::CACHE_BYTES - 100);
        assert!(has_its_lines(&cache, old));
        put_with_lines(&mut cache, &new, 100);
        assert!(cache.find(Place::of(old.as_bytes()), old.as_bytes(), 0).is_none());
    }

    #[test]
    fn an_entry_larger_than_the_cache_is_not_kept() {
        let mut cache = Cache::new();
        for length in [limits::CACHE_BYTES + 1, 2 * limits::CACHE_BYTES] {
            put_with_lines(&mut cache, "large", length);
            assert!(cache.find(Place::of(b"large"), b"large", 0).is_none());
            put_with_lines(&mut cache, "small", 100);
            assert!(has_its_lines(&cache, "small"));
        }
        put_with_lines(&mut cache, "large", limits::CACHE_BYTES);
        assert!(has_its_lines(&cache, "large"));
    }

    #[test]
    fn memory_stays_what_it_was_and_each_token_has_its_own_lines_or_none() {
        let mut cache = Cache::new();
        let tokens: Vec<_> = (0..500).map(|n| format!("token {n}")).collect();
        let lengths = (0..).map(|n: usize| 20 + n * n * 7919 % 4000);
        for (count, (token, length)) in (1..).zip(tokens.iter().zip(lengths)) {
            put_with_lines(&mut cache, token, length);
            assert!(has_its_lines(&cache, token), "{token}");
            if count % 20 == 0 {
                let found = tokens[..count].iter().filter(|token| has_its_lines(&cache, token)).count();
                assert!(found <= limits::CACHE_ENTRIES);
            }
        }
        assert!(cache.written > 3 * limits::CACHE_BYTES as u64);
        assert_eq!((cache.slots.len(), cache.ring.len()), (limits::CACHE_ENTRIES, limits::CACHE_BYTES));
    }

    /// Real tokens differ in a few characters of a long text; those of users differ in the signature at least.
    #[test]
    fn tokens_are_spread_over_all_places() {
        let spread = |tokens: &mut dyn Iterator<Item = String>| {
            tokens.map(|token| Place::of(token.as_bytes())).collect::<BTreeSet<_>>().len()
        };
        let long = "eyJhbGciOiJSUzI1NiJ9.".repeat(40);
        // 1024 balls in 256 urns leave fewer than 5 empty, on average; fewer than 20 nearly always.
        for count in [
            spread(&mut (0..1024).map(|n| format!("{n}"))),
            spread(&mut (0..1024).map(|n| format!("{n:04}{long}"))),
            spread(&mut (0..1024).map(|n| format!("{long}{n:04}"))),
            spread(&mut (0..1024).map(|n| format!("{long}{n:08}ab"))),
            spread(&mut (0..1024).map(|n| "a".repeat(n))),
        ] {
            assert!((limits::CACHE_ENTRIES - 20..=limits::CACHE_ENTRIES).contains(&count), "{count}");
        }
    }

    fn verdict(outcome: Outcome, validity: Validity) -> Verdict {
        Verdict { outcome, faults: Default::default(), validity }
    }

    /// Puts an entry of so many bytes, the lines made of the token.
    fn put_with_lines(cache: &mut Cache, token: &str, length: usize) {
        let lines: Vec<_> = token.bytes().cycle().skip(1).take(length - token.len()).collect();
        cache.put(Place::of(token.as_bytes()), token.as_bytes(), verdict(Outcome::Applied, Validity::ALWAYS), &lines);
    }

    /// Whether the token is found; if so, its lines must be those of [`put_with_lines`].
    fn has_its_lines(cache: &Cache, token: &str) -> bool {
        let Some(slot) = cache.find(Place::of(token.as_bytes()), token.as_bytes(), 0) else { return false };
        let turn = [&token.as_bytes()[1..], &token.as_bytes()[..1]].concat();
        assert!(cache.lines(&slot).chunks(turn.len()).all(|chunk| turn.starts_with(chunk)), "{token}");
        true
    }

    fn tokens_at_places_of_their_own(count: usize) -> Vec<String> {
        let mut places = BTreeSet::new();
        let tokens = (0..10_000).map(|n| format!("token {n}"));
        let tokens: Vec<_> = tokens.filter(|token| places.insert(Place::of(token.as_bytes()))).take(count).collect();
        assert_eq!(tokens.len(), count);
        tokens
    }
}
