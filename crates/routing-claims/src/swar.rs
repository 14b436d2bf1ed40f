//! SWAR ("SIMD within a register"): eight bytes of text at a time, in the lanes of a word, in safe Rust and on any target.
//!
//! Each function has its plain version beside it, which tests compare it with. The bit tricks are those of "Hacker's Delight"
//! (Warren, 2nd edition, section 6-1) and of <https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>.

/// How many bytes precede the first `"`, `\` or control character: the plain part of a JSON string (RFC 8259 section 7).
pub(crate) fn plain_length(text: &[u8]) -> usize {
    let (words, rest) = words(text);
    for (index, word) in words.enumerate() {
        // Subtracting borrows from a lane that is too small, which sets its high bit. A borrow can go on to the lanes above, never
        // to those below, so the lowest hit is a true one.
        let backslash = (word ^ each(b'\\')).wrapping_sub(each(1));
        // Changing the second bit puts `"` right behind the control characters, and moves nothing else there.
        let quote_or_control = (word ^ each(0x02)).wrapping_sub(each(b'"' - 1));
        // Lanes beyond ASCII are neither.
        let hits = (backslash | quote_or_control) & !word & each(0x80);
        if hits != 0 {
            return index * 8 + (hits.trailing_zeros() / 8) as usize;
        }
    }
    text.len() - rest.len() + plain_length_by_bytes(rest)
}

/// The same, byte by byte.
pub(crate) fn plain_length_by_bytes(text: &[u8]) -> usize {
    text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' ')).unwrap_or(text.len())
}

/// Whether two texts are equal.
///
/// In WebAssembly by words: `memcmp` compares byte by byte there, which made a cached token of 751 bytes 0.3 µs slower and one of
/// 8 KB 3 µs (`cargo xtask bench envoy`). Elsewhere `memcmp` takes a third of the instructions of words.
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    if cfg!(target_family = "wasm") { equal_by_words(one, other) } else { one == other }
}

fn equal_by_words(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (words(one), words(other));
    one.len() == other.len() && words.eq(other_words) && rest == other_rest
}

/// The words of a text and the bytes that are left over. (`as_chunks` would do it from Rust 1.88 on.)
fn words(text: &[u8]) -> (impl Iterator<Item = u64>, &[u8]) {
    let chunks = text.chunks_exact(8);
    let rest = chunks.remainder();
    #[expect(clippy::expect_used, reason = "each chunk is eight bytes long, so that no check is left in the code")]
    let word = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
    (chunks.map(word), rest)
}

/// A word with the byte in each of its lanes.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Neighbours of the bytes that end a plain part, and the same with the high bit.
        #[test]
        fn words_and_bytes_agree(text in vec(select(b"\x00\x1f !\"#[\\]\x7f\x80\x9f\xa0\xa2\xdc\xff".to_vec()), 0..20)) {
            prop_assert_eq!(plain_length(&text), plain_length_by_bytes(&text));
        }
    }

    #[test]
    fn words_are_equal_as_bytes_are() {
        for length in 0..20 {
            let text = vec![b'a'; length];
            assert!(equal_by_words(&text, &text));
            assert!(!equal_by_words(&text, &[&text[..], b"a"].concat()));
            for position in 0..length {
                let mut other = text.clone();
                other[position] = b'b';
                assert!(!equal_by_words(&text, &other), "{length} bytes, another one at {position}");
            }
        }
    }

    #[test]
    fn every_byte_in_every_lane() {
        for length in 1..20 {
            for position in 0..length {
                for byte in 0..=u8::MAX {
                    for filling in [b'a', b' ', 0x80, 0xff] {
                        let mut text = vec![filling; length];
                        text[position] = byte;
                        assert_eq!(plain_length(&text), plain_length_by_bytes(&text), "{}", text.escape_ascii());
                    }
                }
            }
        }
    }
}
