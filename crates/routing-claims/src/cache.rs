//! The cache of decisions (R16). It compares whole tokens, and its memory is bounded by construction.

use std::ops::Range;

use crate::{
    judgement::{Judgement, Reading},
    limits, swar,
};

/// Tokens with their decisions. The cache never grows: the newest entries overwrite the oldest.
pub(crate) struct Cache {
    /// A hash table with one entry per bucket.
    entries: Box<[Option<Entry>]>,
    /// A ring buffer with the token and lines of each entry.
    ring: Box<[u8]>,
    /// The total number of bytes written. Its remainder is the position in `ring`.
    written: u64,
}

/// The decision on a token, and the position of the token and its lines in the ring.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) judgement: Judgement,
    reading: Reading,
    /// The value of [`Cache::written`] before this entry was written.
    start: u64,
    token_length: usize,
    lines_length: usize,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![None; limits::CACHE_ENTRIES].into_boxed_slice(),
            ring: vec![0; limits::CACHE_BYTES].into_boxed_slice(),
            written: 0,
        }
    }

    /// The entry of this token, if it was read in this way and its decision is valid at this time.
    pub(crate) fn find(&self, bucket: Bucket, token: &[u8], reading: Reading, now: i64) -> Option<Entry> {
        let alike = |entry: &Entry| entry.token_length == token.len() && entry.reading == reading;
        let entry = self.entries.get(bucket.0)?.filter(alike)?;
        let overwritten = self.written - entry.start > limits::CACHE_BYTES as u64;
        let holds = !overwritten && entry.judgement.validity.holds(now);
        (holds && swar::equal(self.bytes(entry.token()), token)).then_some(entry)
    }

    /// The lines of an entry that [`Cache::find`] has just found.
    pub(crate) fn lines(&self, entry: &Entry) -> &[u8] {
        self.bytes(entry.lines())
    }

    #[expect(clippy::indexing_slicing, reason = "an entry begins where it fits before the end of the ring")]
    pub(crate) fn put(&mut self, bucket: Bucket, token: &[u8], reading: Reading, judgement: Judgement, lines: &[u8]) {
        let length = token.len() + lines.len();
        debug_assert!(length <= limits::CACHE_BYTES, "the limits bound tokens and lines to less");
        let room = limits::CACHE_BYTES - offset(self.written);
        if length > room {
            self.written += room as u64;
        }
        let (start, token_length, lines_length) = (self.written, token.len(), lines.len());
        let entry = Entry { judgement, reading, start, token_length, lines_length };
        self.ring[entry.token()].copy_from_slice(token);
        self.ring[entry.lines()].copy_from_slice(lines);
        self.written += length as u64;
        self.entries[bucket.0] = Some(entry);
    }

    #[expect(clippy::indexing_slicing, reason = "of an entry that was put")]
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.ring[range]
    }
}

impl Entry {
    fn token(&self) -> Range<usize> {
        let start = offset(self.start);
        start..start + self.token_length
    }

    fn lines(&self) -> Range<usize> {
        let start = self.token().end;
        start..start + self.lines_length
    }
}

/// The position in the ring.
#[expect(clippy::cast_possible_truncation, reason = "the remainder is below `CACHE_BYTES`, a `usize`")]
fn offset(written: u64) -> usize {
    (written % limits::CACHE_BYTES as u64) as usize
}

/// The bucket of a token: a hash of its length and of five words spread over it. Tokens that differ only elsewhere share a
/// bucket and overwrite each other. Nothing else depends on the hash.
///
/// The hash is `FxHash` (rotate, xor, multiply), which rustc and Firefox use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(usize);

impl Bucket {
    #[expect(clippy::cast_possible_truncation, reason = "the bits that are left number the entries")]
    pub(crate) fn of(token: &[u8]) -> Self {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        let mut hash = token.len() as u64;
        let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
        if let Some(last) = token.len().checked_sub(8) {
            for quarter in 0..=4 {
                let word = token.get(last * quarter / 4..).and_then(<[u8]>::first_chunk);
                mix(u64::from_le_bytes(*word.unwrap_or_else(|| unreachable!("a word fits from `last` on"))));
            }
        } else {
            for byte in token {
                mix((*byte).into());
            }
        }
        // The high bits of a product depend on all bits of the factors.
        Self((hash >> (u64::BITS - limits::CACHE_ENTRIES.trailing_zeros())) as usize)
    }

    /// The bucket of the same token for decisions of this reading, so that they do not overwrite each other.
    pub(crate) fn for_reading(self, reading: Reading) -> Self {
        Self(self.0 ^ (reading.carry as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        judgement::Carry,
        outcome::Outcome,
        time::{Times, Validity},
    };

    #[test]
    fn a_token_is_found_with_what_was_put() {
        let mut cache = Cache::new();
        assert!(cache.find(Bucket::of(b"token"), b"token", PLAIN, 0).is_none());
        cache.put(Bucket::of(b"token"), b"token", PLAIN, judgement(Outcome::Applied, Validity::ALWAYS), b"lines");
        let entry = cache.find(Bucket::of(b"token"), b"token", PLAIN, 0).unwrap();
        assert_eq!((entry.judgement.outcome, cache.lines(&entry)), (Outcome::Applied, &b"lines"[..]));
        cache.put(Bucket::of(b"token"), b"token", PLAIN, judgement(Outcome::Expired, Validity::ALWAYS), b"");
        let entry = cache.find(Bucket::of(b"token"), b"token", PLAIN, 0).unwrap();
        assert_eq!((entry.judgement.outcome, cache.lines(&entry)), (Outcome::Expired, &b""[..]));
    }

    #[test]
    fn a_decision_is_found_while_it_holds() {
        let times = Times { exp: Some(200), nbf: Some(100) };
        let mut cache = Cache::new();
        cache.put(Bucket::of(b"token"), b"token", PLAIN, judgement(Outcome::Applied, times.judge(150, 0).1), b"");
        let found = [99, 100, 199, 200].map(|now| cache.find(Bucket::of(b"token"), b"token", PLAIN, now).is_some());
        assert_eq!(found, [false, true, true, false]);
    }

    #[test]
    fn whole_tokens_are_compared() {
        for length in [1, 7, 8, 9, 63, 64, 65, 1000, 1003] {
            let token = vec![b'a'; length];
            let mut cache = Cache::new();
            cache.put(Bucket::of(&token), &token, PLAIN, judgement(Outcome::Applied, Validity::ALWAYS), b"aaaa");
            for at in 0..length {
                let mut other = token.clone();
                other[at] = b'b';
                // The entry is found, whatever the bucket of the other token.
                if let (Some(entry), place) = (cache.entries[Bucket::of(&token).0], Bucket::of(&other)) {
                    cache.entries[place.0] = Some(entry);
                }
                assert!(
                    cache.find(Bucket::of(&other), &other, PLAIN, 0).is_none(),
                    "{length} bytes, another one at {at}"
                );
            }
            for other in [&token[1..], &[&token[..], b"a"].concat()] {
                cache.entries[Bucket::of(other).0] = cache.entries[Bucket::of(&token).0];
                assert!(cache.find(Bucket::of(other), other, PLAIN, 0).is_none(), "{} bytes for {length}", other.len());
            }
        }
    }

    #[test]
    fn tokens_of_one_place_overwrite_each_other() {
        // The hash depends on the words at both ends and at each quarter.
        let (mut first, second) = (vec![b'a'; 512], vec![b'a'; 512]);
        first[8] = b'b';
        assert_eq!(Bucket::of(&first), Bucket::of(&second));
        let mut cache = Cache::new();
        cache.put(Bucket::of(&first), &first, PLAIN, judgement(Outcome::Applied, Validity::ALWAYS), b"first");
        cache.put(Bucket::of(&second), &second, PLAIN, judgement(Outcome::NoRoutes, Validity::ALWAYS), b"second");
        assert!(cache.find(Bucket::of(&first), &first, PLAIN, 0).is_none());
        let entry = cache.find(Bucket::of(&second), &second, PLAIN, 0).unwrap();
        assert_eq!((entry.judgement.outcome, cache.lines(&entry)), (Outcome::NoRoutes, &b"second"[..]));
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
        // The third overwrote the first, and the end of the fourth overwrote the start of the second.
        let found: Vec<_> = tokens.iter().map(|token| has_its_lines(&cache, token)).collect();
        assert_eq!(found, [false, false, true, true]);
    }

    #[test]
    fn what_overwrites_an_entry_is_never_taken_for_it() {
        let tokens = tokens_at_places_of_their_own(40);
        // The old token, and a token that starts with it, whose remainder would be read as the lines of the old one.
        let [old, filler, ..] = &tokens[..] else { panic!() };
        let mut longer = tokens[2..].iter().map(|token| format!("{old}{token}"));
        let new = longer.find(|new| Bucket::of(new.as_bytes()) != Bucket::of(old.as_bytes())).unwrap();
        let mut cache = Cache::new();
        put_with_lines(&mut cache, old, 100);
        put_with_lines(&mut cache, filler, limits::CACHE_BYTES - 100);
        assert!(has_its_lines(&cache, old));
        put_with_lines(&mut cache, &new, 100);
        assert!(cache.find(Bucket::of(old.as_bytes()), old.as_bytes(), PLAIN, 0).is_none());
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
        assert_eq!((cache.entries.len(), cache.ring.len()), (limits::CACHE_ENTRIES, limits::CACHE_BYTES));
    }

    /// Real tokens differ in a few characters of a long text; those of users differ in the signature at least.
    #[test]
    fn tokens_are_spread_over_all_places() {
        let spread = |tokens: &mut dyn Iterator<Item = String>| {
            tokens.map(|token| Bucket::of(token.as_bytes())).collect::<BTreeSet<_>>().len()
        };
        let long = "eyJhbGciOiJSUzI1NiJ9.".repeat(40);
        // 1024 balls in 256 urns leave fewer than 5 urns empty on average, and almost always fewer than 20.
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

    /// Decisions of several readings are kept beside each other, and none is taken for another.
    #[test]
    fn a_decision_is_found_by_its_reading() {
        let readings: Vec<_> = [Carry::No, Carry::Yes, Carry::NoRoom]
            .into_iter()
            .flat_map(|carry| [false, true].map(|tells_format| Reading { tells_format, carry }))
            .collect();
        for (first, second) in readings.iter().flat_map(|first| readings.iter().map(move |second| (first, second))) {
            let mut cache = Cache::new();
            for (reading, lines) in [(*first, b"first"), (*second, b"other")] {
                let bucket = Bucket::of(b"token").for_reading(reading);
                cache.put(bucket, b"token", reading, judgement(Outcome::Applied, Validity::ALWAYS), lines);
            }
            let found = |reading: Reading| {
                let entry = cache.find(Bucket::of(b"token").for_reading(reading), b"token", reading, 0);
                entry.map(|entry| cache.lines(&entry))
            };
            assert_eq!(found(*second), Some(&b"other"[..]));
            let kept = if first.carry == second.carry { None } else { Some(&b"first"[..]) };
            assert!(first == second || found(*first) == kept);
        }
    }

    const PLAIN: Reading = Reading::PLAIN;

    fn judgement(outcome: Outcome, validity: Validity) -> Judgement {
        Judgement::of(outcome, validity)
    }

    /// Adds an entry with this many bytes of lines, which are derived from the token.
    fn put_with_lines(cache: &mut Cache, token: &str, length: usize) {
        let lines: Vec<_> = token.bytes().cycle().skip(1).take(length - token.len()).collect();
        cache.put(
            Bucket::of(token.as_bytes()),
            token.as_bytes(),
            PLAIN,
            judgement(Outcome::Applied, Validity::ALWAYS),
            &lines,
        );
    }

    /// Whether the token is found. If so, checks that its lines are those of [`put_with_lines`].
    fn has_its_lines(cache: &Cache, token: &str) -> bool {
        let Some(entry) = cache.find(Bucket::of(token.as_bytes()), token.as_bytes(), PLAIN, 0) else { return false };
        let turn = [&token.as_bytes()[1..], &token.as_bytes()[..1]].concat();
        assert!(cache.lines(&entry).chunks(turn.len()).all(|chunk| turn.starts_with(chunk)), "{token}");
        true
    }

    fn tokens_at_places_of_their_own(count: usize) -> Vec<String> {
        let mut places = BTreeSet::new();
        let tokens = (0..10_000).map(|n| format!("token {n}"));
        let tokens: Vec<_> = tokens.filter(|token| places.insert(Bucket::of(token.as_bytes()))).take(count).collect();
        assert_eq!(tokens.len(), count);
        tokens
    }
}
