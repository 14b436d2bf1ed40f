//! Names that a policy knows, each found in any case by one look, however many there are.

/// Names without regard to ASCII case, each with a number.
///
/// A hash table that never changes: who sends a request can't choose what is in it, so it needs no secret.
pub(crate) struct Names {
    entries: Vec<(Box<[u8]>, u16)>,
    /// Bit n: some name has n bytes (bit 63: or more).
    lengths: u64,
    /// One more than an index into `entries`, or zero, at the name's place or soon after it; a power of two, and four times
    /// the names at least, so that few share a place.
    places: Box<[u16]>,
}

impl Names {
    // Twice inlined it would weigh a kilobyte more.
    #[inline(never)]
    pub(crate) fn new(entries: Vec<(Box<[u8]>, u16)>) -> Self {
        let lengths = entries.iter().fold(0, |bits, (name, _)| bits | length_bit(name.len()));
        let places = vec![0; entries.len().saturating_mul(4).next_power_of_two()].into_boxed_slice();
        let mut table = Self { entries, lengths, places };
        for (index, (name, _)) in (1..).zip(&table.entries) {
            let free = table.probe(name).find(|place| table.places.get(*place) == Some(&0));
            if let Some(place) = free.and_then(|place| table.places.get_mut(place)) {
                *place = index;
            }
        }
        table
    }

    /// The lengths that names have, as [`length_bit`]s.
    pub(crate) fn lengths(&self) -> u64 {
        self.lengths
    }

    /// The number of a name.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<u16> {
        // Most keys and headers go no further.
        if self.lengths & length_bit(name.len()) == 0 { None } else { self.find(name) }
    }

    fn find(&self, name: &[u8]) -> Option<u16> {
        for place in self.probe(name) {
            let index = usize::from(*self.places.get(place)?).checked_sub(1)?;
            let (known, number) = self.entries.get(index)?;
            // Most come as they are written.
            if **known == *name || known.eq_ignore_ascii_case(name) {
                return Some(*number);
            }
        }
        None
    }

    /// The places where a name may stand, the most likely first.
    fn probe(&self, name: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let count = self.places.len();
        // The high bits of a product depend on all bits of its factors.
        let first = usize::try_from(hash(name).wrapping_shr(u64::BITS.wrapping_sub(count.trailing_zeros())));
        let first = first.unwrap_or_default();
        (0..count).map(move |step| first.wrapping_add(step) & count.wrapping_sub(1))
    }
}

/// A length as a bit: 63 stands for all from there on.
#[inline]
pub(crate) fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Of all bytes, the same in upper and lower case.
fn hash(name: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
    // The bit in which an upper-case letter differs from its lower-case one.
    const CASE: u64 = 0x2020_2020_2020_2020;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ (word | CASE)).wrapping_mul(MULTIPLIER);
    let length = name.len() as u64;
    match name.last_chunk() {
        // The last word takes what the words before it leave.
        Some(last) => {
            let (words, _) = name.as_chunks();
            words.iter().chain([last]).fold(length, |hash, word| mix(hash, u64::from_le_bytes(*word)))
        }
        None => name.iter().fold(length, |hash, byte| mix(hash, u64::from(*byte))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_in_any_case_and_nothing_else_is() {
        let names: Vec<_> =
            (0..500).flat_map(|n| [format!("{n}"), format!("Service-{n}-{}", "x".repeat(n % 60))]).collect();
        let known = table(&names);
        for (name, number) in names.iter().zip(0..) {
            for name in [name.clone(), name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                assert_eq!(known.get(name.as_bytes()), Some(number), "{name}");
            }
            let changed =
                [format!("{name}-"), format!("-{name}"), name.replace('-', "\r"), name.replace('i', "\u{e9}")];
            for other in changed.iter().filter(|other| !names.contains(other)) {
                assert_eq!(known.get(other.as_bytes()), None, "{other}");
            }
        }
        assert_eq!(table(&[]).get(b"a"), None);
    }

    /// Also of names that differ in one byte, wherever it stands.
    #[test]
    fn few_names_share_a_place() {
        for place in 0..40 {
            let names: Vec<_> = (b'a'..=b'z')
                .chain(b'0'..=b'9')
                .map(|byte| {
                    let mut name = [b'-'; 40];
                    name[place] = byte;
                    String::from_utf8(name.to_vec()).unwrap()
                })
                .collect();
            let known = table(&names);
            let steps = |name: &String| {
                known
                    .probe(name.as_bytes())
                    .position(|place| known.entries[usize::from(known.places[place]) - 1].0[..] == *name.as_bytes())
            };
            let total: usize = names.iter().filter_map(steps).sum();
            assert!(total < names.len(), "{total} steps beyond the first place for a difference at {place}");
        }
    }

    fn table(names: &[String]) -> Names {
        Names::new(names.iter().map(|name| name.as_bytes().into()).zip(0..).collect())
    }
}
