//! A case-insensitive (ASCII) map of the names in a policy.

use crate::limits;

/// A map from names to values.
pub(crate) struct Names<V> {
    /// The names in lower case, sorted, and their values.
    entries: Vec<(Box<[u8]>, V)>,
    /// The length of each name as a [`length_bit`].
    lengths: u64,
}

impl<V> Names<V> {
    pub(crate) fn new<'n>(names: impl Iterator<Item = (&'n str, V)>) -> Self {
        let mut entries: Vec<(Box<[u8]>, V)> = Vec::new();
        for (name, value) in names {
            let lower = name.to_ascii_lowercase().into_boxed_str().into_boxed_bytes();
            // Insertion sort, as there are 1001 names at most: `sort_unstable` would make the module 8 KB larger.
            entries.insert(entries.partition_point(|(known, _)| *known < lower), (lower, value));
        }
        debug_assert!(entries.iter().all(|(name, _)| name.len() <= LONGEST), "the policy's validation bounds names");
        let lengths = entries.iter().fold(0, |bits, (name, _)| bits | length_bit(name.len()));
        Self { entries, lengths }
    }

    /// The length of each name as a [`length_bit`].
    pub(crate) fn lengths(&self) -> u64 {
        self.lengths
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&V> {
        if self.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        let mut buffer = [0; LONGEST];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let found = self.entries.binary_search_by(|(known, _)| (**known).cmp(lower)).ok()?;
        self.entries.get(found).map(|(_, value)| value)
    }
}

/// A length as a bit; bit 63 is for all longer lengths. One `&` rules out a text whose length no name has, as most header
/// lines and claims.
pub(crate) fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Length in bytes of the longest name, which is that of a header.
const LONGEST: usize = limits::HEADER_BYTES;

const _: () = assert!(limits::NAME_BYTES <= LONGEST);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_in_any_case_and_nothing_else_is() {
        let names: Vec<_> =
            (0..500).flat_map(|n| [format!("{n}"), format!("Service-{n}-{}", "x".repeat(n % 60))]).collect();
        let known = Names::new(names.iter().map(|name| &**name).zip(0..));
        for (name, number) in names.iter().zip(&(0..1000).collect::<Vec<_>>()) {
            for name in [name.clone(), name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                assert_eq!(known.get(name.as_bytes()), Some(number), "{name}");
            }
            let changed =
                [format!("{name}-"), format!("-{name}"), name.replace('-', "\r"), name.replace('i', "\u{e9}")];
            for other in changed.iter().filter(|other| !names.contains(other)) {
                assert_eq!(known.get(other.as_bytes()), None, "{other}");
            }
        }
        assert_eq!(Names::<()>::new(std::iter::empty()).get(b"a"), None);
    }

    #[test]
    fn the_longest_name_is_found_and_longer_ones_are_not() {
        let longest = "n".repeat(LONGEST);
        let known = Names::new([(&*longest, 7)].into_iter());
        assert_eq!(known.get(longest.as_bytes()), Some(&7));
        assert_eq!(known.get(format!("{longest}n").as_bytes()), None);
    }
}
