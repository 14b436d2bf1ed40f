//! From a token to the bytes of its payload (R4, R5). Nothing is verified.

use memchr::memchr;

use crate::{
    config::{LimitsConfig, PolicyConfig, TokenFormat},
    outcome::Outcome,
};

/// What was decoded, at the start of the buffer it was decoded into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) length: usize,
    /// Every byte is below 0x80, so the whole is UTF-8.
    pub(crate) ascii: bool,
}

/// Decodes the payload of an unverified token to the start of `into`, which must have room for `maxPayloadBytes` and
/// [`SLACK`].
pub(crate) fn decode_unverified(
    config: &PolicyConfig,
    digits: &Digits,
    token: &[u8],
    into: &mut [u8],
) -> Result<Decoded, Outcome> {
    let LimitsConfig { max_token_bytes, max_payload_bytes, .. } = config.limits;
    if exceeds(token.len(), max_token_bytes) {
        return Err(Outcome::TokenTooLarge);
    }
    let segment = match config.format {
        TokenFormat::Jwt => payload_segment(token),
        TokenFormat::Payload => Some(token),
    };
    let segment = segment.filter(|segment| !segment.is_empty()).ok_or(Outcome::MalformedToken)?;
    let encoded = Encoded::of(segment);
    if exceeds(encoded.decoded_length(), max_payload_bytes) {
        return Err(Outcome::TokenTooLarge);
    }
    encoded.decode(digits, into).ok_or(Outcome::MalformedToken)
}

fn exceeds(length: usize, limit: u32) -> bool {
    u32::try_from(length).map_or(true, |length| length > limit)
}

/// The second of exactly three segments, the first not empty (RFC 7515 section 7.1).
fn payload_segment(token: &[u8]) -> Option<&[u8]> {
    let (header, rest) = split_at_dot(token)?;
    let (payload, signature) = split_at_dot(rest)?;
    (!header.is_empty() && memchr(b'.', signature).is_none()).then_some(payload)
}

fn split_at_dot(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr(b'.', text)?)?;
    Some((before, after.get(1..)?))
}

/// base64url (RFC 4648 section 5), split from its padding.
struct Encoded<'t> {
    digits: &'t [u8],
    /// Zero to two `=`.
    padding: usize,
}

impl<'t> Encoded<'t> {
    fn of(segment: &'t [u8]) -> Self {
        let (digits, padding) = match segment {
            [digits @ .., b'=', b'='] => (digits, 2),
            [digits @ .., b'='] => (digits, 1),
            digits => (digits, 0),
        };
        Self { digits, padding }
    }

    /// Floor of three quarters of the digits.
    fn decoded_length(&self) -> usize {
        let (groups, rest) = self.digits.as_chunks::<4>();
        groups.len().saturating_mul(3).saturating_add(rest.len().saturating_sub(1))
    }

    /// Decodes to the start of a buffer, which must have room for three bytes more than are decoded.
    // Apart from the rest, it has the registers for itself.
    #[inline(never)]
    fn decode(&self, digits: &Digits, into: &mut [u8]) -> Option<Decoded> {
        let length = self.decoded_length();
        let mut rest_into = into.get_mut(..length.saturating_add(SLACK))?;
        let mut seen = 0;
        let (blocks, rest) = self.digits.as_chunks::<16>();
        for block in blocks {
            digits.decode(block, rest_into.first_chunk_mut()?, &mut seen);
            rest_into = rest_into.get_mut(12..)?;
        }
        // The last block is filled up with the digit for zero. The bits that no byte takes must be zero (RFC 4648 section
        // 3.5), and padding, if any, must fill a group of four.
        let (mut last, mut bytes) = ([b'A'; 16], [0; 13]);
        for (digit, place) in rest.iter().zip(&mut last) {
            *place = *digit;
        }
        digits.decode(&last, &mut bytes, &mut seen);
        let (bytes, cut) = bytes.split_at_checked(rest_into.len().checked_sub(SLACK)?)?;
        for (byte, place) in bytes.iter().zip(rest_into) {
            *place = *byte;
        }
        let whole = match self.digits.len() % 4 {
            0 => self.padding == 0,
            1 => false,
            over => self.padding == 0 || self.padding.saturating_add(over) == 4,
        };
        let valid = whole && seen & INVALID == 0 && cut.iter().all(|byte| *byte == 0);
        valid.then_some(Decoded { length, ascii: seen & NON_ASCII == 0 })
    }
}

/// What each digit adds to the three bytes that four digits make, by its place among the four; the bytes are the lower
/// ones of a little-endian word.
///
/// Half the instructions of looking sextets up and shifting them to their places. It is made at run time since the WASM
/// module, which goes around in base64, has no 4 KB for it.
pub(crate) struct Digits(Box<[[u32; 256]; 4]>);

impl Digits {
    /// RFC 4648 section 5, table 2: `A-Z`, `a-z`, `0-9`, `-`, `_` count from 0 to 63.
    pub(crate) fn new() -> Self {
        let mut places = Box::new([[0; 256]; 4]);
        places.as_flattened_mut().fill(INVALID);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for (digit, value) in alphabet.iter().zip(0_u32..) {
            for (table, shift) in places.iter_mut().zip([18, 12, 6, 0]) {
                let [_, bytes @ ..] = (value << shift).to_be_bytes();
                if let (Some(entry), [a, b, c]) = (table.get_mut(usize::from(*digit)), bytes) {
                    *entry = u32::from_le_bytes([a, b, c, 0]);
                }
            }
        }
        Self(places)
    }

    /// Writes the twelve bytes of sixteen digits, and one more that means nothing. `seen` takes the union of all bytes, in
    /// which [`INVALID`] and [`NON_ASCII`] show.
    #[inline]
    fn decode(&self, digits: &[u8; 16], into: &mut [u8; 13], seen: &mut u32) {
        let [first, second, third, fourth] = &*self.0;
        let bits = |table: &[u32; 256], digit: u8| table.get(usize::from(digit)).copied().unwrap_or(INVALID);
        let (groups, _) = digits.as_chunks();
        for (index, &[a, b, c, d]) in groups.iter().enumerate() {
            let bytes = bits(first, a) | bits(second, b) | bits(third, c) | bits(fourth, d);
            *seen |= bytes;
            // The fourth byte is overwritten by the next group's first: one store instead of two and a shift.
            if let Some(place) = into.get_mut(index.wrapping_mul(3)..).and_then(<[u8]>::first_chunk_mut) {
                *place = bytes.to_le_bytes();
            }
        }
    }
}

/// Set for a byte that is no base64url digit; the three bytes of four digits are below.
const INVALID: u32 = 0x0100_0000;
const NON_ASCII: u32 = 0x0080_8080;

/// How many bytes beyond what is decoded may be overwritten.
pub(crate) const SLACK: usize = 3;

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _, alphabet,
        engine::{GeneralPurpose, GeneralPurposeConfig},
        prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
    };
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn what_base64_encodes_is_decoded(bytes in vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decoded(BASE64_URL_SAFE.encode(&bytes).as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(decoded(BASE64_URL_SAFE_NO_PAD.encode(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn mutated_base64_is_judged_as_base64_judges_it(
            bytes in vec(any::<u8>(), 0..20),
            padded in any::<bool>(),
            mutations in vec((any::<Index>(), 0_usize..3, "[-_A-Za-z0-9+/=. \n]?"), 1..3),
        ) {
            let engine = if padded { BASE64_URL_SAFE } else { BASE64_URL_SAFE_NO_PAD };
            let mut text = engine.encode(bytes);
            for (place, cut, piece) in mutations {
                let start = place.index(text.len() + 1);
                text.replace_range(start..(start + cut).min(text.len()), &piece);
            }
            agrees(text.as_bytes())?;
        }

        #[test]
        fn any_bytes_are_judged_as_base64_judges_them(text in prop_oneof![vec(any::<u8>(), 0..9), "[-_A-Za-z0-9=]{0,9}".prop_map(String::into_bytes)]) {
            agrees(&text)?;
        }

        #[test]
        fn the_decoded_length_is_three_quarters_of_the_digits(text in "[A-Za-z0-9]{0,99}", padding in 0..3_usize) {
            prop_assert_eq!(Encoded::of(format!("{text}{}", "=".repeat(padding)).as_bytes()).decoded_length(), text.len() * 3 / 4);
        }

        #[test]
        fn a_token_is_three_segments_and_only_the_last_may_be_empty(segments in vec("[A-Za-z0-9]{0,2}", 0..6)) {
            let expected = match &*segments {
                [header, payload, _] if !header.is_empty() => Some(payload.as_bytes()),
                _ => None,
            };
            let token = segments.join(".");
            prop_assert_eq!(payload_segment(token.as_bytes()), expected);
        }
    }

    #[test]
    fn every_byte_in_every_place_of_a_group() {
        for byte in 0..=u8::MAX {
            for place in 0..4 {
                let mut group = *b"AAAA";
                group[place] = byte;
                agrees(&group).unwrap();
            }
        }
    }

    #[test]
    fn bytes_beyond_the_alphabet_do_not_cancel_each_other() {
        for bad in 1..16 {
            for byte in [b'!', b'+', b'=', 0xff] {
                let group = [0, 1, 2, 3].map(|place| if bad >> place & 1 == 1 { byte } else { b'Q' });
                assert_eq!(decoded(&[group, *b"QUFB"].concat()), None, "{}", group.escape_ascii());
            }
        }
    }

    #[test]
    fn every_last_two_digits_and_many_last_three() {
        for a in 0..=u8::MAX {
            for b in 0..=u8::MAX {
                agrees(&[b'Q', b'U', b'F', b'B', a, b]).unwrap();
            }
        }
        for first in [*b"AA", *b"_-", *b"Zw", *b"A=", *b"+A"] {
            for last in 0..=u8::MAX {
                for padding in ["", "=", "=="] {
                    agrees(&[&first[..], &[last], padding.as_bytes()].concat()).unwrap();
                }
            }
        }
    }

    /// Where the `base64` crate must be told to be as strict: by default it demands padding or its absence, and its
    /// indifferent mode takes a part of the padding too. Correct padding or none is what R5 asks for.
    #[test]
    fn padding_is_complete_or_absent() {
        let config =
            GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
        let indifferent = GeneralPurpose::new(&alphabet::URL_SAFE, config);
        assert_eq!(indifferent.decode("QQ=").as_deref(), Ok(&b"A"[..]));
        for (text, expected) in
            [("QQ", true), ("QQ=", false), ("QQ==", true), ("QUE", true), ("QUE=", true), ("QUE==", false)]
        {
            assert_eq!(decoded(text.as_bytes()).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn the_buffer_has_room_or_nothing_is_decoded() {
        for length in 0..50 {
            let text = BASE64_URL_SAFE_NO_PAD.encode(vec![b'a'; length]);
            let mut buffer = vec![b'?'; length + SLACK];
            let decoded = Encoded::of(text.as_bytes()).decode(&Digits::new(), &mut buffer);
            assert_eq!(decoded, Some(Decoded { length, ascii: true }));
            assert!(buffer.starts_with(&vec![b'a'; length]));
            assert_eq!(Encoded::of(text.as_bytes()).decode(&Digits::new(), &mut buffer[1..]), None);
        }
    }

    #[test]
    fn ascii_is_told_wherever_the_other_byte_stands() {
        for length in 1..20 {
            for place in 0..length {
                for byte in [0x00, 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let text = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
                    let decoded = Encoded::of(text.as_bytes()).decode(&Digits::new(), &mut [0; 20 + SLACK]);
                    assert_eq!(decoded, Some(Decoded { length, ascii: byte < 0x80 }), "{byte:#x} at {place}");
                }
            }
        }
    }

    fn agrees(text: &[u8]) -> Result<(), TestCaseError> {
        let expected = BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text));
        prop_assert_eq!(decoded(text), expected.ok(), "{}", text.escape_ascii());
        Ok(())
    }

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = vec![b'?'; text.len() + SLACK];
        let decoded = Encoded::of(text).decode(&Digits::new(), &mut bytes)?;
        assert_eq!(decoded.ascii, bytes[..decoded.length].is_ascii());
        bytes.truncate(decoded.length);
        Some(bytes)
    }
}
